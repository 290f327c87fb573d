//! What the controller sends, one function per message. A message that breaks a rule costs
//! itself (P-159); a request that can be named is always answered (P-190).

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use bytes::Bytes;

use super::{
    Agent,
    outgoing::{Refusal, refusal_while},
    requests::Asked,
};
use crate::{
    action::{Action, CloseCode, Notice, Registration},
    error::{PeerFault, Reason},
    input::RequestHead,
    link::{Cause, Phase},
    notices::clip,
    rules,
    time::Time,
    timers::Timer,
    wire::{
        decode::{self, Body, Envelope, Fields},
        duration, rfc3339,
    },
};

/// Longest request id; a peer that uses longer ones is not answered.
const MAX_ID: usize = 256;
/// Names of unknown types that are remembered, and answered once each.
const MAX_UNKNOWN: usize = 64;

impl Agent {
    pub(super) fn incoming(&mut self, frame: &[u8]) {
        let envelope = match decode::decode(frame) {
            Ok(envelope) => envelope,
            Err(fault) => return self.tolerated(None, fault),
        };
        if envelope.id.as_ref().is_some_and(|id| id.len() > MAX_ID) {
            return self.tolerated(None, PeerFault::Malformed);
        }
        if let Some(fault) = envelope.fault {
            let id = envelope.id.as_deref();
            let running = id.and_then(|id| self.streams.find(id));
            self.tolerated(running, fault);
            if envelope.kind == "proxy_request" && running.is_none() {
                self.refuse(id, false, &fault.to_string());
            }
            return;
        }
        self.dispatch(envelope);
    }

    fn dispatch(&mut self, envelope: Envelope<'_>) {
        let Envelope {
            kind, id, payload, ..
        } = envelope;
        let id = id.as_deref();
        let fields = || payload.as_ref();
        match &*kind {
            "error" => self.peer_error(id, fields()),
            "heartbeat_ack" | "pong" => {}
            "ping" => self.pinged(id),
            "proxy_cancel" => self.with_stream(id, Self::cancel),
            "proxy_request" => self.request(id, payload),
            "proxy_request_chunk" => self.request_chunk(id, fields()),
            "proxy_request_stream_end" => self.with_stream(id, Self::body_end),
            "proxy_response_grant" => self.grant(id, fields()),
            "proxy_websocket_start" | "ws_start" => self.websocket_start(id, fields()),
            "proxy_websocket_data" | "proxy_websocket_close" | "ws_data" | "ws_close" => {
                self.stats.stale_frames += 1;
            }
            "register_in_progress" => self.register_in_progress(),
            "register_success" => self.register_success(id, payload.unwrap_or_default()),
            _ => self.unknown(&kind, id),
        }
    }

    // ------------------------------------------------------------ link

    fn register_success(&mut self, id: Option<&str>, fields: Fields<'_>) {
        let Phase::Registering(conn) = self.phase else {
            self.stats.stale_frames += 1;
            return;
        };
        if id.is_none() || id != self.control.registering.as_deref() {
            self.stats.stale_frames += 1;
            return;
        }
        let registration = registration(fields);
        if registration.cluster_id.is_empty() {
            let text = "register_success without a cluster_id".to_string();
            let reason = Reason::RegisterRefused(text);
            return self.lose(reason, Some(CloseCode::Normal), None);
        }
        self.control.registering = None;
        self.timers.stop(Timer::Register);
        self.enter(Cause::Registered, conn);
        self.set_cluster_id(Some(registration.cluster_id.clone()));
        self.ready_since.get_or_insert(self.now);
        self.stats.registrations += 1;
        self.control.heartbeat = true;
        self.control.monitoring = true;
        let next = self.now + self.config.periods.heartbeat;
        self.timers.set(Timer::Heartbeat, next);
        self.actions.push_back(Action::Registered(registration));
    }

    fn register_in_progress(&mut self) {
        if !matches!(self.phase, Phase::Registering(_)) {
            self.stats.stale_frames += 1;
            return;
        }
        let until = (self.now + self.config.periods.register).min(self.register_until);
        self.timers.set(Timer::Register, until);
        self.notices.push(Notice::RegisterInProgress);
    }

    /// An `error` names the registration, or asks for one, or is only told (P-057, P-189).
    fn peer_error(&mut self, id: Option<&str>, fields: Option<&Fields<'_>>) {
        let text = clip(fields.and_then(|f| f.error.as_deref()).unwrap_or_default());
        if id.is_some() && id == self.control.registering.as_deref() {
            let reason = Reason::RegisterRefused(text);
            return self.lose(reason, Some(CloseCode::Normal), None);
        }
        let lower = text.to_lowercase();
        let unknown = lower.contains("not registered") || lower.contains("cluster not found");
        self.notices.push(Notice::PeerError(text));
        if let Phase::Ready(conn) = self.phase
            && unknown
        {
            // P-182: a real registration, of a cluster that the controller has to name anew.
            self.enter(Cause::Reregister, conn);
            self.set_cluster_id(None);
            self.notices.push(Notice::Reregister);
            self.ask_to_register();
        }
    }

    fn pinged(&mut self, id: Option<&str>) {
        let pong = id.map(String::from);
        if self.control.pong.replace(pong).is_some() {
            self.stats.coalesced += 1;
        }
    }

    /// P-026, with a bounded table (P-179).
    fn unknown(&mut self, kind: &str, id: Option<&str>) {
        let name = clip(kind);
        let known = self.unknown_types.contains(&*name);
        if known || self.unknown_types.len() >= MAX_UNKNOWN {
            self.stats.coalesced += 1;
            return;
        }
        self.unknown_types.insert(name.as_str().into());
        let answer = (name.as_str().into(), id.map(String::from));
        self.control.fallbacks.push_back(answer);
        self.notices.push(Notice::UnknownType(name));
    }

    // ------------------------------------------------------------ requests

    fn with_stream(&mut self, id: Option<&str>, act: fn(&mut Self, crate::StreamId)) {
        match id.and_then(|id| self.streams.find(id)) {
            Some(stream) => act(self, stream),
            None => self.stats.stale_frames += 1,
        }
    }

    /// The controller's reader made room for more of an answer.
    fn grant(&mut self, id: Option<&str>, fields: Option<&Fields<'_>>) {
        let stream = id.and_then(|id| self.streams.find(id));
        let bytes = fields.and_then(|f| f.bytes).filter(|b| *b > 0.0);
        match (stream, bytes) {
            (Some(stream), Some(bytes)) => {
                self.streams.grant(stream, bytes as usize);
                self.wake();
            }
            _ => self.stats.stale_frames += 1,
        }
    }

    fn request_chunk(&mut self, id: Option<&str>, fields: Option<&Fields<'_>>) {
        let Some(stream) = id.and_then(|id| self.streams.find(id)) else {
            self.stats.stale_frames += 1;
            return;
        };
        let data = fields.and_then(|f| f.data.as_deref().or(f.chunk.as_deref()));
        self.body(stream, data);
    }

    fn request(&mut self, id: Option<&str>, payload: Option<Fields<'_>>) {
        let Some(name) = id else {
            return self.tolerated(None, PeerFault::Missing("request_id"));
        };
        if let Some(running) = self.streams.find(name) {
            // The running request has its own end to come; an answer here would be taken for it.
            return self.tolerated(Some(running), PeerFault::DuplicateId);
        }
        let Some(fields) = payload else {
            self.tolerated(None, PeerFault::Missing("payload"));
            return self.refuse(id, false, "missing field payload");
        };
        let streamed = fields.supports_response_streaming;
        if let Some(text) = refusal_while(self.phase) {
            return self.refuse(id, streamed, &text);
        }
        let outcome = self
            .asked(name, fields)
            .and_then(|asked| self.open(asked).map_err(Into::into));
        if let Err(Refused { fault, text }) = outcome {
            self.tolerated(None, fault);
            self.refuse(id, streamed, &text);
        }
    }

    /// Checks a request; everything that is not relayed as it came is refused.
    fn asked<'a>(&self, id: &'a str, fields: Fields<'_>) -> Result<Asked<'a>, Refused> {
        let mut head = self.request_head(&fields)?;
        let due = self.due(&fields)?;
        let body_follows = fields.use_streaming;
        let body = if body_follows {
            Bytes::new()
        } else {
            let body = self.inline_body(fields.body, fields.body_encoding.as_deref())?;
            // P-207: the length is known, whatever the headers say.
            let bodied = !body.is_empty() || matches!(&*head.method, "POST" | "PUT" | "PATCH");
            let length = bodied.then_some(body.len() as u64);
            rules::set_content_length(&mut head.headers, length);
            body
        };
        Ok(Asked {
            id,
            head,
            streamed: fields.supports_response_streaming,
            window: fields
                .response_window
                .filter(|w| *w > 0.0)
                .map(|w| w as usize),
            body_follows,
            body,
            due,
        })
    }

    fn request_head(&self, fields: &Fields<'_>) -> Result<RequestHead, Refused> {
        let set = |field: &Option<alloc::borrow::Cow<'_, str>>| {
            field.as_deref().is_some_and(|text| !text.trim().is_empty())
        };
        let headers = fields.headers.clone().unwrap_or_default();
        if set(&fields.service_name) {
            return Err(Refused::unsupported("service routing"));
        }
        if fields.is_websocket || set(&fields.protocol) || asks_websocket(&headers) {
            return Err(Refused::unsupported("a WebSocket stream"));
        }
        if fields.body_binary {
            return Err(Refused::unsupported("a binary request body"));
        }
        if fields.head_data {
            return Err(Refused::unsupported("head_data"));
        }
        let head = rules::request_head(
            fields.method.as_deref().unwrap_or_default(),
            fields.path.as_deref().unwrap_or_default(),
            fields.query.as_deref(),
            headers,
            self.config.policy,
            self.config.limits.head,
        )?;
        Ok(head)
    }

    fn inline_body(
        &self,
        body: Option<Body<'_>>,
        encoding: Option<&str>,
    ) -> Result<Bytes, Refused> {
        Ok(match body {
            None => Bytes::new(),
            Some(Body::Json(json)) => json.into(),
            Some(Body::Text(text))
                if encoding.is_some_and(|e| e.eq_ignore_ascii_case("base64")) =>
            {
                self.base64.decode(&text)?.into()
            }
            Some(Body::Text(text)) => Vec::from(text.as_bytes()).into(),
        })
    }

    /// `deadline`, else `timeout`; what cannot be read is ignored (P-058, P-095).
    fn due(&self, fields: &Fields<'_>) -> Result<Option<Time>, Refused> {
        let deadline = fields.deadline.as_deref().and_then(rfc3339::parse);
        if let Some(deadline) = deadline {
            let left = deadline.saturating_sub(self.unix());
            if left.is_zero() {
                return Err(Refused::late());
            }
            return Ok(Some(self.now + left));
        }
        let millis = fields.timeout.filter(|ms| *ms > 0.0);
        let span = millis
            .and_then(|ms| core::time::Duration::try_from_secs_f64(ms / 1000.0).ok())
            .or_else(|| fields.timeout_text.as_deref().and_then(duration::parse));
        Ok(span.filter(|s| !s.is_zero()).map(|span| self.now + span))
    }

    /// Streams are not part of this version: refused, never left without an answer (P-191).
    fn websocket_start(&mut self, id: Option<&str>, fields: Option<&Fields<'_>>) {
        let stream = fields.and_then(|f| f.stream_id.as_deref());
        let Some(name) = stream.filter(|s| !s.is_empty()).or(id) else {
            return self.tolerated(None, PeerFault::Missing("stream_id"));
        };
        if name.len() > MAX_ID {
            return self.tolerated(None, PeerFault::Malformed);
        }
        if let Some(running) = self.streams.find(name) {
            return self.tolerated(Some(running), PeerFault::DuplicateId);
        }
        let fault = PeerFault::Unsupported("a WebSocket stream");
        self.tolerated(None, fault);
        self.refuse(Some(name), false, &fault.to_string());
    }

    /// Queues the answer to what never became a stream; more than are permitted end the link.
    fn refuse(&mut self, id: Option<&str>, streamed: bool, text: &str) {
        let Some(id) = id else { return };
        if self.control.refusals() >= self.config.limits.control {
            let reason = Reason::Peer(PeerFault::ControlFlood);
            return self.lose(reason, Some(CloseCode::Policy), None);
        }
        self.control.refuse(Refusal {
            id: id.into(),
            streamed,
            text: clip(text),
        });
    }
}

/// Why a request was not opened.
struct Refused {
    fault: PeerFault,
    text: String,
}

impl Refused {
    fn unsupported(what: &'static str) -> Self {
        PeerFault::Unsupported(what).into()
    }

    fn late() -> Self {
        Self {
            fault: PeerFault::Malformed,
            text: "the deadline of the request has passed".into(),
        }
    }
}

impl From<PeerFault> for Refused {
    fn from(fault: PeerFault) -> Self {
        let text = match fault {
            PeerFault::Path => "invalid path: only Kubernetes API paths are relayed".into(),
            PeerFault::Overrun => "the request body is too large to be sent in one message".into(),
            PeerFault::Base64 => "invalid body: not base64".into(),
            fault => format!("{fault}"),
        };
        Self { fault, text }
    }
}

/// P-059.
fn asks_websocket(headers: &[(String, String)]) -> bool {
    headers.iter().any(|(name, value)| {
        let upgrade = name.eq_ignore_ascii_case("upgrade");
        let websocket = ["key", "version", "protocol"].iter().any(|part| {
            let rest = name.get(.."sec-websocket-".len());
            rest.is_some_and(|r| r.eq_ignore_ascii_case("sec-websocket-"))
                && name["sec-websocket-".len()..].eq_ignore_ascii_case(part)
        });
        (upgrade && value.trim().eq_ignore_ascii_case("websocket"))
            || (websocket && !value.trim().is_empty())
    })
}

/// Peer texts are kept clipped: they live as long as the link.
fn registration(fields: Fields<'_>) -> Registration {
    let text = |field: Option<alloc::borrow::Cow<'_, str>>| clip(&field.unwrap_or_default());
    Registration {
        cluster_id: text(fields.cluster_id),
        cluster_uuid: text(fields.cluster_uuid),
        name: text(fields.name),
        status: text(fields.status_text),
        workspace_id: fields.workspace_id.map(|n| n as i64),
        tunnel_url: text(fields.tunnel_url),
        api_server: text(fields.api_server),
        gateway_ws_url: text(fields.gateway_ws_url),
    }
}
