//! What the controller sends, one function per message. A message that breaks a rule costs
//! itself (P-159); a request that can be named is always answered (P-190).

use alloc::{
    borrow::Cow,
    format,
    string::{String, ToString},
};

use super::{
    Agent,
    asked::{Asked, Refused, answer_form},
    outgoing::{Form, Refusal, refusal_while},
};
use crate::{
    action::{Action, CloseCode, Notice, Registration},
    error::{PeerFault, Reason},
    input::{ConnId, Frame, StreamId},
    link::{Cause, Phase},
    notices::clip,
    rules,
    stats::CodeClass,
    timers::Timer,
    wire::{
        binary,
        decode::{self, Envelope, Fields, Part},
        frame,
    },
};

/// Longest request id; a peer that uses longer ones is not answered.
pub(super) const MAX_ID: usize = 256;
/// Names of unknown types that are remembered, and answered once each.
pub(super) const MAX_UNKNOWN: usize = 64;

impl Agent {
    pub(super) fn incoming(&mut self, frame: Frame<'_>) {
        let frame = match frame {
            Frame::Binary(bytes) if self.is_muxed() => return self.mux_bytes(bytes),
            Frame::Binary(bytes) if binary::is_binary(bytes) => return self.body_frame(bytes),
            Frame::Binary(bytes) => bytes,
            Frame::Text(text) => {
                if let Some(part) = decode::part(text, "proxy_request_chunk", &self.base64) {
                    return self.part(part);
                }
                text.as_bytes()
            }
        };
        let mut spare = Default::default();
        let mut envelope = match decode::decode(frame, &mut spare) {
            Ok(envelope) => envelope,
            Err(fault) => return self.tolerated(None, fault),
        };
        if envelope.id.as_ref().is_some_and(|id| id.len() > MAX_ID) {
            envelope.id = None;
            envelope.fault = Some(PeerFault::Malformed);
        }
        if let Some(fault) = envelope.fault {
            let id = name_of(&envelope);
            let running = id.and_then(|id| self.streams.find(id));
            let form = answer_form(envelope.payload.as_ref());
            return self.malformed(&envelope.kind, id, (running, form), fault);
        }
        self.dispatch(envelope);
    }

    /// A message that cannot be read costs itself (P-159), and the stream of which it was a part:
    /// that cannot go on with a hole in it (P-153).
    fn malformed(
        &mut self,
        kind: &str,
        id: Option<&str>,
        (running, form): (Option<StreamId>, Form),
        fault: PeerFault,
    ) {
        let part = matches!(
            kind,
            "proxy_request_chunk"
                | "proxy_stream_data"
                | "proxy_websocket_data"
                | "tcp_tunnel_data"
                | "ws_data"
        );
        if let Some(stream) = running.filter(|_| part) {
            return self.fail(stream, fault, &format!("{fault}"));
        }
        self.tolerated(running, fault);
        let form = match kind {
            "proxy_request" => form,
            "proxy_websocket_start" | "ws_start" => Form::Stream,
            "tcp_tunnel_start" => Form::Tunnel("connection_failed"),
            _ => return,
        };
        if let (Some(id), None) = (id, running) {
            self.refuse(Some(id), form, &fault.to_string());
        }
    }

    fn dispatch(&mut self, envelope: Envelope<'_>) {
        let Envelope {
            kind, id, payload, ..
        } = envelope;
        let id = id.as_deref();
        let fields = || payload.as_ref();
        match &*kind {
            "error" => self.peer_error(id, fields()),
            "gateway_hello" => self.greeted(&payload.unwrap_or_default()),
            "heartbeat_ack" => self.acknowledged(),
            "pong" => {}
            "ping" => self.pinged(id),
            "proxy_cancel" => self.with_stream(id, Self::cancel),
            "proxy_request" => self.request(id, payload),
            "proxy_request_chunk" => self.request_chunk(id, fields()),
            "proxy_request_stream_end" => self.with_stream(id, Self::body_end),
            "proxy_response_grant" => self.grant(id, fields()),
            "proxy_stream_data" => self.stream_data(id, fields()),
            "proxy_websocket_close" | "ws_close" => self.socket_close(id, fields()),
            "proxy_websocket_data" | "ws_data" => self.socket_data(id, fields()),
            "proxy_websocket_start" | "ws_start" => self.websocket_start(id, payload),
            "register_in_progress" => self.register_in_progress(),
            "register_success" => self.register_success(id, payload.unwrap_or_default()),
            "tcp_tunnel_close" => self.tcp_close(id, fields()),
            "tcp_tunnel_data" => self.tcp_data(id, &payload.unwrap_or_default()),
            "tcp_tunnel_start" => self.tcp_start(id, &payload.unwrap_or_default()),
            "udp_tunnel_data" => self.udp_data(&payload.unwrap_or_default()),
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
        let id_len = fields.cluster_id.as_ref().map_or(0, |id| id.len());
        let registration = registration(fields);
        if !(1..=MAX_ID).contains(&id_len) {
            let text = match id_len {
                0 => "register_success without a cluster_id".to_string(),
                _ => format!("register_success with a cluster_id of more than {MAX_ID} bytes"),
            };
            let reason = Reason::RegisterRefused(text);
            return self.lose(reason, Some(CloseCode::Normal), None);
        }
        self.control.registering = None;
        self.timers.stop(Timer::Register);
        self.enter(Cause::Registered, conn);
        self.set_cluster_id(Some(registration.cluster_id.clone()));
        self.stats.registrations += 1;
        self.ready();
        self.actions
            .push_back(Action::Registered(registration.clone()));
        self.named_gateway(&registration);
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
        let whole = fields.and_then(|f| f.error.as_deref()).unwrap_or_default();
        let text = clip(whole);
        if id.is_some() && id == self.control.registering.as_deref() {
            let reason = Reason::RegisterRefused(text);
            return self.lose(reason, Some(CloseCode::Normal), None);
        }
        let lower = whole.to_lowercase();
        let unknown = lower.contains("not registered") || lower.contains("cluster not found");
        if unknown && self.gateway.at && matches!(self.phase, Phase::Ready(_)) {
            return self.gateway_disowns(text);
        }
        if unknown && let Phase::Ready(conn) = self.phase {
            return self.reregister(conn, text);
        }
        self.notices.push(Notice::PeerError(text));
    }

    /// P-182: a real registration, of a cluster that the controller has to name anew. It is asked
    /// for on the same connection once, and then not again for a while: a controller that accepts
    /// every registration and knows none gets the next one after a backoff.
    fn reregister(&mut self, conn: ConnId, text: String) {
        self.set_cluster_id(None);
        let until = self.now + self.config.backoff.stable;
        let again = self.reregistered.replace(until);
        if again.is_some_and(|until| self.now < until) {
            let reason = Reason::RegisterRefused(text);
            return self.lose(reason, Some(CloseCode::Normal), None);
        }
        self.notices.push(Notice::PeerError(text));
        self.stay();
        self.enter(Cause::Reregister, conn);
        self.no_longer_ready();
        self.notices.push(Notice::Reregister);
        self.ask_to_register();
    }

    fn acknowledged(&mut self) {
        self.control.unanswered = Some(0);
        if let Some(sent) = self.control.heartbeat_sent.take() {
            self.stats.heartbeats.add(self.now - sent);
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

    fn with_stream(&mut self, id: Option<&str>, act: fn(&mut Self, StreamId)) {
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

    /// A message that was read without its envelope.
    fn part(&mut self, part: Part<'_>) {
        let data = part.data.into();
        let name = part.stream_id.filter(|_| part.is_message);
        match self.streams.find(name.unwrap_or(part.id)) {
            Some(stream) if !part.is_message => self.body_piece(stream, data),
            Some(stream) if self.takes_messages(stream) => {
                let limit = self.config.limits.message;
                self.socket_message(stream, frame::message(data, None, limit));
            }
            _ => self.stats.stale_frames += 1,
        }
    }

    fn request(&mut self, id: Option<&str>, payload: Option<Fields<'_>>) {
        let Some(name) = id else {
            return self.tolerated(None, PeerFault::Missing("request_id"));
        };
        if let Some(running) = self.streams.find(name) {
            return self.duplicate(running, name);
        }
        let Some(fields) = payload else {
            self.tolerated(None, PeerFault::Missing("payload"));
            return self.refuse(id, Form::Error, "missing field payload");
        };
        let form = answer_form(Some(&fields));
        let announced = fields.body_binary && !fields.use_streaming;
        self.begin(name, form, |agent| agent.asked(name, fields));
        let open = self.phase.open().is_some();
        if announced && open && self.streams.find(name).is_none() {
            self.control.announce(name);
        }
    }

    /// Opens what was asked for, or refuses it in this form.
    fn begin<'a>(
        &mut self,
        name: &'a str,
        form: Form,
        asked: impl FnOnce(&Self) -> Result<Asked<'a>, Refused>,
    ) {
        if let Some(text) = refusal_while(self.phase) {
            return self.refuse(Some(name), form, &text);
        }
        let outcome = asked(self).and_then(|asked| self.open(asked).map_err(Into::into));
        if let Err(Refused { fault, text }) = outcome {
            self.tolerated(None, fault);
            self.refuse(Some(name), form, &text);
        }
    }

    /// The running request has its own end to come, and goes on (P-171); an answer with its id
    /// would be taken for that end (P-162).
    pub(super) fn duplicate(&mut self, running: StreamId, name: &str) {
        self.tolerated(Some(running), PeerFault::DuplicateId);
        let name = clip(name);
        let text = format!("duplicate request id {name:?}: refused, and the first one goes on");
        self.refuse(None, Form::Error, &text);
    }

    /// P-064; errors name the stream (P-191).
    fn websocket_start(&mut self, id: Option<&str>, payload: Option<Fields<'_>>) {
        let mut fields = payload.unwrap_or_default();
        let Some(name) = fields.stream_id.take().filter(|name| !name.is_empty()) else {
            self.tolerated(None, PeerFault::Missing("stream_id"));
            // P-102: then they name what the envelope names, unless that is a running stream.
            let id = id.filter(|id| self.streams.find(id).is_none());
            return self.refuse(id, Form::Start, "missing stream_id");
        };
        if name.len() > MAX_ID {
            return self.tolerated(None, PeerFault::Malformed);
        }
        if let Some(running) = self.streams.find(&name) {
            return self.duplicate(running, &name);
        }
        self.begin(&name, Form::Stream, |agent| {
            agent.asked_socket(&name, fields, true)
        });
    }

    /// Queues the answer to what never became a stream; more than are permitted end the link.
    pub(super) fn refuse(&mut self, id: Option<&str>, form: Form, text: &str) {
        if self.control.refusals() >= self.config.limits.control {
            let reason = Reason::Peer(PeerFault::ControlFlood);
            return self.lose(reason, Some(CloseCode::Policy), None);
        }
        if id.is_some() {
            self.stats.refused();
            if !matches!(form, Form::Tunnel(_)) {
                CodeClass::None.count(&mut self.stats.answers);
            }
        }
        self.control.refuse(Refusal {
            id: id.map(String::from),
            form,
            text: clip(text),
        });
    }
}

/// The stream or request that a message names, as far as that was read (P-065).
fn name_of<'a>(envelope: &'a Envelope<'_>) -> Option<&'a str> {
    let of_stream = envelope.kind.starts_with("ws_") || envelope.kind.contains("_websocket_");
    let fields = envelope.payload.as_ref().filter(|_| of_stream);
    let mut names = fields
        .into_iter()
        .flat_map(|f| [&f.stream_id, &f.request_id])
        .filter_map(|name| name.as_deref());
    let named = names.find(|name| !name.is_empty() && name.len() <= MAX_ID);
    named.or(envelope.id.as_deref())
}

/// Peer texts are kept clipped: they live as long as the link.
fn registration(fields: Fields<'_>) -> Registration {
    let text = |field: Option<Cow<'_, str>>| clip(&field.unwrap_or_default());
    // It is dialled whole or not at all: one that is too long is kept too long, to be refused.
    let url = fields.gateway_ws_url.unwrap_or_default();
    Registration {
        cluster_id: text(fields.cluster_id),
        cluster_uuid: text(fields.cluster_uuid),
        name: text(fields.name),
        status: text(fields.status_text),
        workspace_id: fields.workspace_id.map(|n| n as i64),
        tunnel_url: text(fields.tunnel_url),
        api_server: text(fields.api_server),
        gateway_ws_url: url.chars().take(rules::MAX_URL + 1).collect(),
    }
}
