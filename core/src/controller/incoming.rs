//! What the agent sends, one function per message. A message that breaks a rule costs itself, or
//! the stream that it names.

use alloc::{string::String, vec::Vec};

use bytes::Bytes;

use super::{Controller, outgoing::What};
use crate::{
    action::{CloseCode, Joined, Notice},
    config::{AgentInfo, ServerSpecs},
    error::{Failure, PeerFault, Reason},
    input::{ConnId, Frame, ResponseHead, StreamId},
    notices::clip,
    rules,
    wire::{
        binary,
        decode::{self, Envelope, Fields, Part},
        frame, gzip,
    },
};

/// Longest id of a `register`; longer ones are not answered.
const MAX_ID: usize = 256;
/// Labels and further facts of an agent that are kept.
const MAX_FACTS: usize = 64;

impl Controller {
    pub(super) fn incoming(&mut self, conn: ConnId, frame: Frame<'_>) {
        let muxed = self.mux.is_some() && self.current == Some(conn);
        let frame = match frame {
            Frame::Binary(bytes) if muxed => return self.mux_bytes(bytes),
            Frame::Binary(bytes) if binary::is_binary(bytes) => {
                return self.binary_answer(conn, bytes);
            }
            Frame::Binary(bytes) => bytes,
            Frame::Text(text) => {
                if let Some(part) = decode::part(text, "proxy_response_chunk", &self.base64) {
                    return self.part(conn, part);
                }
                text.as_bytes()
            }
        };
        let mut spare = Vec::new();
        let envelope = match decode::decode(frame, &mut spare) {
            Ok(envelope) => envelope,
            Err(fault) => return self.tolerated(None, fault),
        };
        if let Some(fault) = envelope.fault {
            let fields = envelope.payload.as_ref();
            let named = envelope
                .id
                .as_deref()
                .or(fields.and_then(|f| f.stream_id.as_deref()));
            let stream = named.and_then(|id| self.streams.find(id));
            return match stream.filter(|_| self.current == Some(conn)) {
                Some(stream) => self.break_off(stream, fault),
                None => self.tolerated(None, fault),
            };
        }
        let Envelope {
            kind, id, payload, ..
        } = envelope;
        let id = id.as_deref();
        let fields = payload.unwrap_or_default();
        match &*kind {
            "gateway_hello_ack" => self.acknowledged(conn, &fields),
            "pong" => {}
            "heartbeat" => self.heartbeat(conn),
            "ping" => self.pinged(conn, id),
            "protocol_fallback" => {
                let name = fields.unknown_type.as_deref().unwrap_or_default();
                self.notices.push(Notice::UnknownType(clip(name)));
            }
            "register" => self.register(conn, id, fields),
            "udp_tunnel_data" => self.datagram(conn, &fields),
            _ => self.about_stream(conn, &kind, id, fields),
        }
    }

    // ------------------------------------------------------------ link

    fn register(&mut self, conn: ConnId, id: Option<&str>, fields: Fields<'_>) {
        let id = id.unwrap_or_default();
        if id.is_empty() || id.len() > MAX_ID {
            self.tolerated(None, PeerFault::Missing("request_id"));
            return self.report(conn, None, "register without a usable request_id");
        }
        if fields.agent_id.as_deref().unwrap_or_default().is_empty() {
            self.tolerated(None, PeerFault::Missing("agent_id"));
            return self.report(conn, Some(id), "register without an agent_id");
        }
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.control.success = Some(id.into());
        }
        let offers = fields.features.supports_yamux;
        self.join(conn, joined(fields), offers);
    }

    /// A heartbeat of a connection that never registered tells of an agent that takes its old
    /// registration to be known (P-085): it is asked to register.
    fn heartbeat(&mut self, conn: ConnId) {
        if self.current != Some(conn) {
            return self.report(conn, None, "cluster not registered: send register");
        }
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.control.ack = true;
        }
        self.notices.push(Notice::Heartbeat);
    }

    fn pinged(&mut self, conn: ConnId, id: Option<&str>) {
        let id = id.filter(|id| id.len() <= MAX_ID).map(String::from);
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if session.control.pong.replace(id).is_some() {
            self.stats.coalesced += 1;
        }
    }

    /// Queues an `error`; an equal one that waits already serves for both.
    fn report(&mut self, conn: ConnId, id: Option<&str>, text: &'static str) {
        let limit = self.config.limits.control;
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let errors = &mut session.control.errors;
        let error = (id.map(String::from), text);
        if errors.contains(&error) {
            self.stats.coalesced += 1;
        } else if errors.len() >= limit {
            let reason = Reason::Peer(PeerFault::ControlFlood);
            self.end_session(conn, Some(CloseCode::Policy), reason);
        } else {
            errors.push_back(error);
        }
    }

    // ------------------------------------------------------------ streams

    fn about_stream(&mut self, conn: ConnId, kind: &str, id: Option<&str>, fields: Fields<'_>) {
        let known = matches!(
            kind,
            "backpressure"
                | "proxy_error"
                | "proxy_response"
                | "proxy_response_abort"
                | "proxy_response_chunk"
                | "proxy_response_end"
                | "proxy_request_grant"
                | "proxy_response_header"
                | "proxy_websocket_close"
                | "proxy_websocket_data"
                | "tcp_tunnel_close"
                | "tcp_tunnel_data"
        );
        if !known {
            return self.notices.push(Notice::UnknownType(clip(kind)));
        }
        // A late answer, of this connection or of an earlier one (P-091).
        let named = id.or(fields.request_id.as_deref());
        let named = named.or(fields.stream_id.as_deref());
        if kind == "proxy_error" && named.is_none_or(str::is_empty) {
            // It is about no running stream (P-162).
            let text = clip(fields.error.as_deref().unwrap_or_default());
            return self.notices.push(Notice::PeerError(text));
        }
        if kind == "proxy_request_grant" {
            return self.granted(conn, named, &fields);
        }
        let Some(stream) = self.live(conn, kind, named) else {
            return;
        };
        match kind {
            "backpressure" => self.dropped(stream, &fields),
            "proxy_error" | "proxy_response_abort" => {
                let text = fields.error.as_deref().unwrap_or("no reason given");
                self.answer_failed(stream, text);
            }
            "proxy_response" => self.whole(stream, fields),
            "proxy_response_chunk" => self.chunk(stream, &fields),
            "proxy_response_end" => self.answer_end(stream),
            "proxy_response_header" => {
                if let Some(head) = self.response_head(stream, fields) {
                    self.answer_head(stream, head);
                }
            }
            "proxy_websocket_close" => self.socket_closed(stream, &fields),
            "tcp_tunnel_close" => self.tunnel_closed(stream, &fields),
            "tcp_tunnel_data" => self.tunnel_data(stream, &fields),
            _ => self.socket_data(stream, &fields),
        }
    }

    /// The running request that a message of this connection names; one that names none is noted.
    fn live(&mut self, conn: ConnId, kind: &str, named: Option<&str>) -> Option<StreamId> {
        let stream = named
            .filter(|_| self.current == Some(conn))
            .and_then(|id| self.streams.find(id))
            .filter(|stream| self.is_live(*stream));
        if stream.is_none() {
            self.stats.stale_frames += 1;
            self.stray(conn, kind, named);
        }
        stream
    }

    /// A message that was read without its envelope.
    fn part(&mut self, conn: ConnId, part: Part<'_>) {
        let kind = match part.is_message {
            true => "proxy_websocket_data",
            false => "proxy_response_chunk",
        };
        let Some(stream) = self.live(conn, kind, Some(part.id)) else {
            return;
        };
        match part.is_message {
            true => {
                let limit = self.config.limits.message;
                let message = frame::message(part.data.into(), None, limit);
                self.socket_message(stream, message);
            }
            false => self.answer_data(stream, part.data.into()),
        }
    }

    /// The Kubernetes API took more of what the client sends. It may do so although the client
    /// has closed and only what was sent before is still to go.
    fn granted(&mut self, conn: ConnId, named: Option<&str>, fields: &Fields<'_>) {
        let stream = named.filter(|_| self.current == Some(conn));
        let stream = stream.and_then(|id| self.streams.find(id));
        match (stream, fields.bytes.filter(|bytes| *bytes > 0.0)) {
            (Some(stream), Some(bytes)) => {
                self.streams.grant(stream, bytes as usize);
                self.wake();
            }
            _ => self.stats.stale_frames += 1,
        }
    }

    /// An agent that goes on with a request that is over here is told to give it up: nobody reads
    /// the rest, and the room for it would never be granted.
    fn stray(&mut self, conn: ConnId, kind: &str, named: Option<&str>) {
        let what = match kind {
            "proxy_response_chunk" | "proxy_response_header" => What::Request,
            "proxy_websocket_data" => What::Socket,
            "tcp_tunnel_data" => What::Tunnel,
            _ => return,
        };
        let named = named.filter(|id| id.len() <= MAX_ID);
        let unknown = named.filter(|id| self.streams.find(id).is_none());
        if let (Some(id), Some(session)) = (unknown, self.sessions.get_mut(&conn)) {
            session.control.stray(id, what);
        }
    }

    fn response_head(&mut self, stream: StreamId, fields: Fields<'_>) -> Option<ResponseHead> {
        let status = fields.status.filter(|s| (100.0..=599.0).contains(s));
        let Some(status) = status.map(|s| s as u16) else {
            self.break_off(stream, PeerFault::Missing("status"));
            return None;
        };
        let headers = fields.headers.unwrap_or_default();
        let headers = rules::response_headers(status, headers);
        Some(ResponseHead { status, headers })
    }

    fn chunk(&mut self, stream: StreamId, fields: &Fields<'_>) {
        let data = match (fields.encoding.as_deref(), fields.data.as_deref()) {
            (None | Some("base64"), Some(data)) => self.base64.decode(data),
            (None | Some("base64"), None) => Err(PeerFault::Missing("data")),
            _ => Err(PeerFault::Unsupported("an encoding but base64")),
        };
        match data {
            Ok(data) => self.answer_data(stream, data.into()),
            Err(fault) => self.break_off(stream, fault),
        }
    }

    /// A whole answer in one message (P-037).
    fn whole(&mut self, stream: StreamId, mut fields: Fields<'_>) {
        let encoding = fields.encoding.take();
        let body = fields.body.take();
        let body = match (body, encoding.as_deref()) {
            (None, _) => Ok(Vec::new()),
            (Some(decode::Body::Text(text)), None) if text.is_empty() => Ok(Vec::new()),
            (Some(decode::Body::Text(text)), Some("base64")) => self.base64.decode(&text),
            (Some(decode::Body::Text(text)), Some("gzip")) => self.inflated(&text),
            (Some(_), _) => Err(PeerFault::Missing("encoding")),
        };
        let body = match body {
            Ok(body) => body,
            Err(fault) => return self.break_off(stream, fault),
        };
        if let Some(head) = self.response_head(stream, fields) {
            self.whole_answer(stream, head, body.into());
        }
    }

    fn inflated(&self, text: &str) -> Result<Vec<u8>, PeerFault> {
        let data = self.base64.decode(text)?;
        gzip::inflate(&data, self.config.limits.recv_stream)
    }

    fn whole_answer(&mut self, stream: StreamId, head: ResponseHead, body: Bytes) {
        self.answer_head(stream, head);
        // An upgrade has none (P-112).
        if !body.is_empty() {
            self.answer_data(stream, body);
        }
        self.answer_end(stream);
    }

    /// The same as a binary frame (P-039).
    fn binary_answer(&mut self, conn: ConnId, frame: &[u8]) {
        let (id, rest) = match binary::read(frame) {
            Ok(parts) => parts,
            Err(fault) => return self.tolerated(None, fault),
        };
        let stream = self.streams.find(id);
        let stream = stream.filter(|id| self.current == Some(conn) && self.is_live(*id));
        let Some(stream) = stream else {
            self.stats.stale_frames += 1;
            return;
        };
        let (head, body) = match binary::read_answer(rest) {
            Ok(parts) => parts,
            Err(fault) => return self.break_off(stream, fault),
        };
        let ResponseHead { status, headers } = head;
        if !(100..=599).contains(&status) {
            return self.break_off(stream, PeerFault::Missing("status"));
        }
        let headers = rules::response_headers(status, headers);
        let limit = self.config.limits.recv_stream;
        let body = match rules::is_compressed_unsaid(&headers, body) {
            true => match gzip::inflate(body, limit) {
                Ok(inflated) => inflated.into(),
                Err(PeerFault::Overrun) => return self.break_off(stream, PeerFault::Overrun),
                // It only began like one.
                Err(_) => Bytes::copy_from_slice(body),
            },
            false => Bytes::copy_from_slice(body),
        };
        self.whole_answer(stream, ResponseHead { status, headers }, body);
    }

    /// The agent dropped a message of a stream (P-048), which cannot go on with a hole in it
    /// (P-153).
    fn dropped(&mut self, stream: StreamId, fields: &Fields<'_>) {
        let reason = clip(fields.reason.as_deref().unwrap_or("no reason given"));
        let text = alloc::format!("the cluster's agent dropped a message: {reason}");
        self.give_up(stream, Failure::Agent(text));
    }
}

/// What is kept of a `register`: it lives as long as the connection, so every text is clipped.
fn joined(fields: Fields<'_>) -> Joined {
    let text = |field: Option<alloc::borrow::Cow<'_, str>>| clip(&field.unwrap_or_default());
    let facts = |map: alloc::collections::BTreeMap<String, String>| {
        let pairs = map.into_iter().take(MAX_FACTS);
        pairs.map(|(k, v)| (clip(&k), clip(&v))).collect()
    };
    let specs = fields.server_specs;
    Joined {
        policy: fields.features.identity.and_then(|p| p.parse().ok()),
        keeps_window: fields.features.response_window,
        streams_responses: fields.features.supports_response_streaming,
        streams_requests: fields.features.supports_streaming,
        request_window: fields
            .features
            .request_window
            .filter(|window| *window >= 1.0)
            .map(|window| window as usize),
        opens_websockets: fields.features.supports_websocket_proxy != Some(false),
        answers_upgrades: fields.features.upgrade_answer,
        opens_tunnels: fields.features.tunnels,
        yamux: false,
        http_streams: false,
        info: AgentInfo {
            agent_id: text(fields.agent_id),
            name: text(fields.name),
            k8s_version: text(fields.k8s_version),
            region: text(fields.region),
            hostname: text(fields.hostname),
            agent_version: text(fields.agent_version),
            server_ip: text(fields.server_ip),
            cloud_provider: text(fields.cloud_provider),
            labels: facts(fields.labels),
            server_specs: ServerSpecs {
                os: clip(&specs.os),
                ..specs
            },
            metadata: facts(fields.metadata),
            cluster_id: fields.cluster_id.map(|id| clip(&id)),
        },
    }
}
