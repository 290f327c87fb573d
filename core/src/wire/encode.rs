//! Writes messages: one JSON object and a newline (P-010), built straight into the text that is
//! sent.

mod json;
mod sockets;
mod tunnels;

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use bytes::Bytes;

use self::json::Message;
pub(crate) use self::sockets::{
    grant, stream_error, upgrade_request, websocket_close, websocket_data, websocket_start,
};
pub(crate) use self::tunnels::{
    Counts, TunnelEnd, gateway_hello, gateway_hello_ack, tcp_close, tcp_data, tcp_start,
    udp_answer, udp_data,
};
use crate::{
    config::{AgentConfig, AgentInfo, HeartbeatStatus, Monitoring, MonitoringService},
    input::{RequestHead, ResponseHead},
    wire::base64::{Base64, encoded_len},
};

/// What an envelope takes beside its payload's variable parts.
const FRAME: usize = 160;

/// Types that the agent understands, as `protocol_fallback` lists them (P-049).
pub(crate) const SUPPORTED_TYPES: [&str; 22] = [
    "register_success",
    "register_in_progress",
    "heartbeat_ack",
    "pong",
    "ping",
    "proxy_request",
    "proxy_request_chunk",
    "proxy_request_stream_end",
    "proxy_cancel",
    "proxy_stream_data",
    "proxy_websocket_start",
    "proxy_websocket_data",
    "proxy_websocket_close",
    "ws_start",
    "ws_data",
    "ws_close",
    "error",
    "gateway_hello",
    "tcp_tunnel_start",
    "tcp_tunnel_data",
    "tcp_tunnel_close",
    "udp_tunnel_data",
];

// ---------------------------------------------------------------- agent to controller, link

/// P-032. No `k8s_service_token`: the cluster's credentials stay in the cluster.
pub(crate) fn register(id: &str, timestamp: &str, config: &AgentConfig) -> String {
    let info = &config.info;
    let mut m = Message::new("register", Some(id), 1024);
    m.text("agent_id", &info.agent_id);
    m.text("name", &info.name);
    m.text("k8s_version", &info.k8s_version);
    m.text("region", &info.region);
    m.text("hostname", &info.hostname);
    m.text("agent_version", &info.agent_version);
    m.text("server_ip", &info.server_ip);
    m.text("cloud_provider", &info.cloud_provider);
    m.object("tunnel_port_config", |m| {
        m.number("kubernetes_api", 6443);
        m.number("kubelet", 10_250);
        m.number("agent_http", 8080);
    });
    m.object("labels", |m| m.texts(&info.labels));
    m.object("server_specs", |m| {
        let specs = &info.server_specs;
        let sizes = [
            ("cpu_cores", specs.cpu_cores),
            ("memory_gb", specs.memory_gb),
            ("disk_gb", specs.disk_gb),
        ];
        for (name, size) in sizes.into_iter().filter(|(_, size)| *size > 0) {
            m.number(name, size.into());
        }
        if !specs.os.is_empty() {
            m.text("os", &specs.os);
        }
    });
    m.object("features", |m| {
        m.flag("supports_streaming", true);
        m.flag("supports_binary_protocol", true);
        m.flag("supports_compression", false);
        m.flag("supports_websocket_proxy", true);
        m.flag("supports_gateway", !config.gateways.is_empty());
        m.flag("supports_response_streaming", true);
        m.number("request_window", config.limits.request_window() as i64);
        m.flag("response_window", true);
        m.flag("supports_yamux", config.yamux);
        m.flag("tunnels", !config.tunnels.is_empty());
        m.flag("upgrade_answer", true);
        m.text("identity", config.policy.as_str());
    });
    if let Some(cluster_id) = &info.cluster_id {
        m.text("cluster_id", cluster_id);
    }
    if !info.metadata.is_empty() {
        m.object("metadata", |m| m.texts(&info.metadata));
    }
    m.finish(Some(timestamp))
}

/// P-034. `secrets` says whether the monitoring services and their passwords go along.
pub(crate) fn heartbeat(
    timestamp: &str,
    cluster_id: &str,
    info: &AgentInfo,
    status: &HeartbeatStatus,
    secrets: bool,
) -> String {
    let mut m = Message::new("heartbeat", None, 512);
    m.text("cluster_id", cluster_id);
    m.text("agent_id", &info.agent_id);
    m.text("status", "healthy");
    m.text("tunnel_status", "connected");
    m.object("metadata", |m| {
        m.text("agent_version", &info.agent_version);
        m.text("k8s_version", &info.k8s_version);
        if let Some(nodes) = status.k8s_nodes {
            m.number("k8s_nodes", nodes.into());
        }
        if let Some(pods) = status.k8s_pods {
            m.number("k8s_pods", pods.into());
        }
        let own = ["agent_version", "k8s_version", "k8s_nodes", "k8s_pods"];
        for (name, value) in &status.metadata {
            if !own.contains(&name.as_str()) {
                m.text(name, value);
            }
        }
    });
    if secrets {
        let with_url = status.monitoring.iter().filter(|s| !s.url.is_empty());
        let by_service: BTreeMap<_, _> = with_url.map(|s| (s.service.prefix(), s)).collect();
        for service in by_service.into_values() {
            monitoring(&mut m, service);
        }
    }
    m.finish(Some(timestamp))
}

fn monitoring(m: &mut Message, service: &Monitoring) {
    let prefix = service.service.prefix();
    let open_cost = service.service == MonitoringService::OpenCost;
    let url = if open_cost { "base_url" } else { "url" };
    let name = |field: &str| alloc::format!("{prefix}_{field}");
    m.text(&name(url), &service.url);
    m.text(&name("username"), &service.username);
    m.text(&name("password"), &service.password);
    if !open_cost {
        m.flag(&name("ssl"), service.ssl);
    }
}

impl MonitoringService {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Grafana => "grafana",
            Self::Loki => "loki",
            Self::OpenCost => "opencost",
            Self::Prometheus => "prometheus",
        }
    }
}

/// P-036.
pub(crate) fn pong(id: Option<&str>, timestamp: &str) -> String {
    let mut m = Message::new("pong", id, FRAME);
    m.text("timestamp", timestamp);
    m.finish(Some(timestamp))
}

/// P-049.
pub(crate) fn protocol_fallback(name: &str, id: Option<&str>, timestamp: &str) -> String {
    let mut m = Message::new("protocol_fallback", None, 640);
    m.text("agent_version", "pipeops-k8-agent");
    m.text("unknown_type", name);
    m.array("supported_types", &SUPPORTED_TYPES);
    m.text("fallback_mode", "legacy_proxy");
    m.text("protocol_version", "1.0");
    m.text("timestamp", timestamp);
    if let Some(id) = id {
        let id: String = id.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        m.text("original_request_id", &id);
    }
    m.finish(Some(timestamp))
}

// ---------------------------------------------------------------- agent to controller, answers

/// P-041.
pub(crate) fn proxy_error(id: &str, text: &str) -> String {
    let mut m = Message::new("proxy_error", Some(id), FRAME + text.len());
    m.text("error", text);
    m.finish(None)
}

/// P-042.
pub(crate) fn response_head(id: &str, head: &ResponseHead) -> String {
    let mut m = Message::new("proxy_response_header", Some(id), 1024);
    m.number("status", head.status.into());
    headers(&mut m, &head.headers);
    m.finish(None)
}

/// P-042.
pub(crate) fn response_chunk(id: &str, data: &[u8], base64: &Base64) -> String {
    let capacity = FRAME + id.len() + encoded_len(data.len());
    let mut m = Message::new("proxy_response_chunk", Some(id), capacity);
    m.base64("data", &[data], base64);
    m.text("encoding", "base64");
    m.number("size", data.len() as i64);
    m.finish(None)
}

/// P-042.
pub(crate) fn response_end(id: &str) -> String {
    Message::new("proxy_response_end", Some(id), FRAME).finish(None)
}

/// P-042.
pub(crate) fn response_abort(id: &str, text: &str) -> String {
    let mut m = Message::new("proxy_response_abort", Some(id), FRAME + text.len());
    m.text("error", text);
    m.finish(None)
}

/// P-037.
pub(crate) fn proxy_response(
    id: &str,
    head: &ResponseHead,
    body: &[Bytes],
    base64: &Base64,
) -> String {
    let len: usize = body.iter().map(Bytes::len).sum();
    let mut m = Message::new("proxy_response", Some(id), 1024 + encoded_len(len));
    m.number("status", head.status.into());
    headers(&mut m, &head.headers);
    if len > 0 {
        m.base64("body", &slices(body), base64);
        m.text("encoding", "base64");
    }
    m.finish(None)
}

// ---------------------------------------------------------------- controller to agent

/// P-053.
pub(crate) fn register_success(
    id: &str,
    cluster_id: &str,
    name: &str,
    workspace_id: Option<i64>,
    timestamp: &str,
) -> String {
    let mut m = Message::new("register_success", Some(id), 512);
    m.text("cluster_id", cluster_id);
    m.text("cluster_uuid", cluster_id);
    m.text("name", name);
    m.text("status", "registered");
    if let Some(workspace_id) = workspace_id {
        m.number("workspace_id", workspace_id);
    }
    m.finish(Some(timestamp))
}

/// P-055.
pub(crate) fn heartbeat_ack(timestamp: &str) -> String {
    Message::new("heartbeat_ack", None, FRAME).finish(Some(timestamp))
}

/// P-057.
pub(crate) fn error(id: Option<&str>, text: &str) -> String {
    let mut m = Message::new("error", id, FRAME + text.len());
    m.text("error", text);
    m.finish(None)
}

/// What a request says of the forms and windows that its two ends keep to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    /// The answer may come in pieces (P-042).
    pub(crate) stream_response: bool,
    /// So much of the answer, or of a stream toward the client, before more is granted.
    pub(crate) response_window: Option<usize>,
    /// So much of the body, or of a stream toward the Kubernetes API, before more is granted.
    pub(crate) request_window: Option<usize>,
}

fn request(id: &str, head: &RequestHead, terms: Terms, capacity: usize) -> Message {
    let mut m = Message::new("proxy_request", Some(id), capacity);
    m.text("method", &head.method);
    m.text("path", &head.path);
    if let Some(query) = &head.query {
        m.text("query", query);
    }
    headers(&mut m, &head.headers);
    if terms.stream_response {
        m.flag("supports_response_streaming", true);
    }
    if let Some(window) = terms.response_window {
        m.number("response_window", window as i64);
    }
    if let Some(window) = terms.request_window {
        m.number("request_window", window as i64);
    }
    m
}

/// P-058.
pub(crate) fn proxy_request(
    id: &str,
    head: &RequestHead,
    body_follows: bool,
    body: &[Bytes],
    terms: Terms,
    base64: &Base64,
) -> String {
    let len: usize = body.iter().map(Bytes::len).sum();
    let mut m = request(id, head, terms, 1024 + encoded_len(len));
    if body_follows {
        m.flag("use_streaming", true);
    } else if len > 0 {
        m.base64("body", &slices(body), base64);
        m.text("body_encoding", "base64");
    }
    m.finish(None)
}

/// P-060.
pub(crate) fn request_chunk(id: &str, data: &[u8], base64: &Base64) -> String {
    let capacity = FRAME + id.len() + encoded_len(data.len());
    let mut m = Message::new("proxy_request_chunk", Some(id), capacity);
    m.base64("data", &[data], base64);
    m.finish(None)
}

/// P-060.
pub(crate) fn request_end(id: &str) -> String {
    Message::new("proxy_request_stream_end", Some(id), FRAME).finish(None)
}

/// P-062.
pub(crate) fn cancel(id: &str) -> String {
    Message::new("proxy_cancel", Some(id), FRAME).finish(None)
}

/// [`headers`] as a value of its own (P-039).
pub(crate) fn headers_alone(pairs: &[(String, String)]) -> String {
    Message::value(|m| headers(m, pairs))
}

/// Name to array of values, or `null` where there are none (P-037).
fn headers(m: &mut Message, headers: &[(String, String)]) {
    let mut by_name: BTreeMap<String, (&str, Vec<&str>)> = BTreeMap::new();
    for (name, value) in headers {
        // Grouped without regard to case, written as it first came.
        let group = by_name.entry(name.to_ascii_lowercase());
        group.or_insert((name, Vec::new())).1.push(value);
    }
    if by_name.is_empty() {
        return m.null("headers");
    }
    m.object("headers", |m| {
        for (name, values) in by_name.values() {
            m.array(name, values);
        }
    });
}

fn slices(body: &[Bytes]) -> Vec<&[u8]> {
    body.iter().map(|piece| &**piece).collect()
}
