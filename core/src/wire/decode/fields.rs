//! The union of all payloads: whichever fields a message has. Secrets that peers of the original
//! send (`token`, `k8s_service_token`, passwords, `worker_join`) are skipped and never kept.

use alloc::{borrow::Cow, collections::BTreeMap, string::String, vec::Vec};

use serde::de::{Error as _, IgnoredAny, MapAccess};
use serde_json::value::RawValue;

use super::{
    owned,
    shape::{Either, Headers, Numbers, Of, Present, Shape, next},
    unquote,
};
use crate::config::ServerSpecs;

/// Fields of a payload; absent where absent or of another type.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a> {
    pub(crate) agent_id: Option<Cow<'a, str>>,
    pub(crate) agent_version: Option<Cow<'a, str>>,
    pub(crate) api_server: Option<Cow<'a, str>>,
    pub(crate) body: Option<Body<'a>>,
    pub(crate) body_binary: bool,
    pub(crate) bytes: Option<f64>,
    pub(crate) body_encoding: Option<Cow<'a, str>>,
    pub(crate) chunk: Option<Cow<'a, str>>,
    pub(crate) client_addr: Option<Cow<'a, str>>,
    pub(crate) client_port: Option<f64>,
    pub(crate) cloud_provider: Option<Cow<'a, str>>,
    pub(crate) cluster_id: Option<Cow<'a, str>>,
    pub(crate) cluster_uuid: Option<Cow<'a, str>>,
    pub(crate) code: Option<f64>,
    pub(crate) data: Option<Cow<'a, str>>,
    pub(crate) deadline: Option<Cow<'a, str>>,
    pub(crate) encoding: Option<Cow<'a, str>>,
    pub(crate) error: Option<Cow<'a, str>>,
    pub(crate) features: Features,
    pub(crate) gateway_port: Option<f64>,
    pub(crate) gateway_ws_url: Option<Cow<'a, str>>,
    pub(crate) head_data: bool,
    pub(crate) headers: Option<Vec<(String, String)>>,
    /// More headers than are read.
    pub(super) too_many_headers: bool,
    pub(crate) hostname: Option<Cow<'a, str>>,
    pub(crate) is_websocket: bool,
    pub(crate) k8s_version: Option<Cow<'a, str>>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) message_type: Option<f64>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) method: Option<Cow<'a, str>>,
    pub(crate) name: Option<Cow<'a, str>>,
    pub(crate) path: Option<Cow<'a, str>>,
    pub(crate) protocol: Option<Cow<'a, str>>,
    pub(crate) query: Option<Cow<'a, str>>,
    pub(crate) reason: Option<Cow<'a, str>>,
    pub(crate) region: Option<Cow<'a, str>>,
    pub(crate) request_id: Option<Cow<'a, str>>,
    pub(crate) request_window: Option<f64>,
    pub(crate) response_window: Option<f64>,
    pub(crate) server_ip: Option<Cow<'a, str>>,
    pub(crate) server_specs: ServerSpecs,
    pub(crate) service_name: Option<Cow<'a, str>>,
    pub(crate) service_namespace: Option<Cow<'a, str>>,
    pub(crate) service_port: Option<f64>,
    pub(crate) status: Option<f64>,
    pub(crate) status_text: Option<Cow<'a, str>>,
    pub(crate) stream_id: Option<Cow<'a, str>>,
    pub(crate) supports_response_streaming: bool,
    pub(crate) timeout: Option<f64>,
    pub(crate) timeout_text: Option<Cow<'a, str>>,
    pub(crate) tunnel_id: Option<Cow<'a, str>>,
    pub(crate) tunnel_url: Option<Cow<'a, str>>,
    pub(crate) unknown_type: Option<Cow<'a, str>>,
    /// `use_streaming` or `streaming`.
    pub(crate) use_streaming: bool,
    pub(crate) stream_protocols: Vec<f64>,
    pub(crate) use_yamux: bool,
    pub(crate) workspace_id: Option<f64>,
    pub(crate) yamux_config: YamuxConfig,
}

/// `yamux_config` of a greeting (P-070): bytes and seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct YamuxConfig {
    pub(crate) window: Option<f64>,
    pub(crate) keepalive: Option<f64>,
    pub(crate) timeout: Option<f64>,
}

/// `body` of a request or answer.
#[derive(Debug)]
pub(crate) enum Body<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// An object or array, as JSON (T-015).
    Json(Vec<u8>),
}

/// `features` of a `register`.
#[derive(Debug, Default)]
pub(crate) struct Features {
    pub(crate) request_window: Option<f64>,
    pub(crate) response_window: bool,
    pub(crate) supports_response_streaming: bool,
    pub(crate) supports_streaming: bool,
    pub(crate) supports_websocket_proxy: Option<bool>,
    pub(crate) supports_yamux: bool,
    pub(crate) tunnels: bool,
    pub(crate) upgrade_answer: bool,
    pub(crate) identity: Option<String>,
}

impl<'de> Fields<'de> {
    pub(super) fn read<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut fields = Self::default();
        while let Some(Of(key)) = map.next_key::<Of<Option<Cow<'de, str>>>>()? {
            let key: Cow<'de, str> = key.unwrap_or_default();
            if let Some(text) = fields.text(&key) {
                *text = next(&mut map)?;
            } else {
                fields.other(&key, &mut map)?;
            }
        }
        Ok(fields)
    }

    /// The field of that name, where it is a text.
    fn text(&mut self, key: &str) -> Option<&mut Option<Cow<'de, str>>> {
        Some(match key {
            "agent_id" => &mut self.agent_id,
            "agent_version" => &mut self.agent_version,
            "api_server" => &mut self.api_server,
            "body_encoding" => &mut self.body_encoding,
            "chunk" => &mut self.chunk,
            "client_addr" => &mut self.client_addr,
            "cloud_provider" => &mut self.cloud_provider,
            "cluster_id" => &mut self.cluster_id,
            "cluster_uuid" => &mut self.cluster_uuid,
            "data" => &mut self.data,
            "deadline" => &mut self.deadline,
            "encoding" => &mut self.encoding,
            "error" => &mut self.error,
            "gateway_ws_url" => &mut self.gateway_ws_url,
            "hostname" => &mut self.hostname,
            "k8s_version" => &mut self.k8s_version,
            "method" => &mut self.method,
            "name" => &mut self.name,
            "path" => &mut self.path,
            "protocol" => &mut self.protocol,
            "query" => &mut self.query,
            "reason" => &mut self.reason,
            "region" => &mut self.region,
            "request_id" => &mut self.request_id,
            "server_ip" => &mut self.server_ip,
            "service_name" => &mut self.service_name,
            "service_namespace" => &mut self.service_namespace,
            "stream_id" => &mut self.stream_id,
            "tunnel_id" => &mut self.tunnel_id,
            "tunnel_url" => &mut self.tunnel_url,
            "unknown_type" => &mut self.unknown_type,
            _ => return None,
        })
    }

    fn other<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "body" => self.body = body(map.next_value()?).map_err(A::Error::custom)?,
            "body_binary" => self.body_binary = next(map)?,
            "bytes" => self.bytes = next(map)?,
            "client_port" => self.client_port = next(map)?,
            "code" => self.code = next(map)?,
            "features" => self.features = next(map)?,
            "gateway_port" => self.gateway_port = next(map)?,
            "head_data" | "headData" => self.head_data = next::<Present, A>(map)?.0,
            "headers" => {
                let headers: Headers = next(map)?;
                (self.headers, self.too_many_headers) = (headers.pairs, headers.too_many);
            }
            "is_websocket" | "isWebSocket" => self.is_websocket |= next::<bool, A>(map)?,
            "labels" => self.labels = next(map)?,
            "message_type" => self.message_type = next(map)?,
            "metadata" => self.metadata = next(map)?,
            "request_window" => self.request_window = next(map)?,
            "response_window" => self.response_window = next(map)?,
            "server_specs" => self.server_specs = next(map)?,
            "service_port" => self.service_port = next(map)?,
            "status" => {
                let status: Either<'de> = next(map)?;
                (self.status, self.status_text) = (status.number, status.text);
            }
            "streaming" | "use_streaming" => self.use_streaming |= next::<bool, A>(map)?,
            "stream_protocols" => self.stream_protocols = next::<Numbers, A>(map)?.0,
            "supports_response_streaming" => self.supports_response_streaming = next(map)?,
            "timeout" => {
                let timeout: Either<'de> = next(map)?;
                (self.timeout, self.timeout_text) = (timeout.number, timeout.text);
            }
            "use_yamux" => self.use_yamux = next(map)?,
            "workspace_id" => self.workspace_id = next(map)?,
            "yamux_config" => self.yamux_config = next(map)?,
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// A text that cannot be read is an error: the body must not pass for one that is absent.
fn body(raw: &RawValue) -> Result<Option<Body<'_>>, &'static str> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => {
            let text = unquote(text).ok_or("a body that is no Unicode")?;
            Ok(Some(Body::Text(text)))
        }
        Some(b'{' | b'[') => Ok(Some(Body::Json(text.as_bytes().to_vec()))),
        _ => Ok(None),
    }
}

impl<'de> Shape<'de> for Features {
    fn map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut features = Self::default();
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "identity" => {
                    let text: Option<Cow<'de, str>> = next(&mut map)?;
                    features.identity = text.map(Cow::into_owned);
                }
                "request_window" => features.request_window = next(&mut map)?,
                "response_window" => features.response_window = next(&mut map)?,
                "supports_response_streaming" => {
                    features.supports_response_streaming = next(&mut map)?;
                }
                "supports_streaming" => features.supports_streaming = next(&mut map)?,
                "supports_websocket_proxy" => {
                    features.supports_websocket_proxy = next(&mut map)?;
                }
                "supports_yamux" => features.supports_yamux = next(&mut map)?,
                "tunnels" => features.tunnels = next(&mut map)?,
                "upgrade_answer" => features.upgrade_answer = next(&mut map)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(features)
    }
}

impl<'de> Shape<'de> for YamuxConfig {
    fn map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut config = Self::default();
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "connection_timeout_seconds" => config.timeout = next(&mut map)?,
                "keep_alive_interval_seconds" => config.keepalive = next(&mut map)?,
                "max_stream_window_size" => config.window = next(&mut map)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(config)
    }
}

impl<'de> Shape<'de> for ServerSpecs {
    fn map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut specs = Self::default();
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "cpu_cores" => specs.cpu_cores = whole(next(&mut map)?),
                "disk_gb" => specs.disk_gb = whole(next(&mut map)?),
                "memory_gb" => specs.memory_gb = whole(next(&mut map)?),
                "os" => specs.os = owned(next(&mut map)?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(specs)
    }
}

/// Saturates; what is no number is 0.
fn whole(number: Option<f64>) -> u32 {
    number.unwrap_or_default() as u32
}
