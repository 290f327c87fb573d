//! What the agent sends next: control frames first, then refusals and streams in turn.

use alloc::{
    boxed::Box,
    collections::VecDeque,
    format,
    string::{String, ToString},
};
use core::time::Duration;

use bytes::Bytes;

use super::Agent;
use crate::{
    action::{Action, OutFrame},
    config::AgentInfo,
    input::{ConnId, ResponseHead, Socket, StreamClose, StreamId},
    link::Phase,
    mux::Protocols,
    stats::Ending,
    streams::{Item, Turn},
    time::Time,
    timers::Timer,
    wire::{
        binary,
        encode::{self, TunnelEnd},
        rfc3339,
    },
};

/// From this many bytes of body on an answer may go as a binary frame (P-039).
const BINARY_FROM: usize = 10_240;

/// Frames that may still come of requests that are over, as many as are remembered (P-179).
const MAX_ANNOUNCED: usize = 64;

/// Control frames and refusals that wait for the socket: slots and bounded queues, so that no
/// peer can make them grow. Frames are built from them when the socket can take one.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// `register` is to be sent.
    pub(super) register: bool,
    /// Id of the registration that waits for its answer.
    pub(super) registering: Option<String>,
    pub(super) ping: bool,
    /// When the first ping left that was not answered.
    pub(super) ping_sent: Option<Time>,
    /// When the first heartbeat left that was not acknowledged.
    pub(super) heartbeat_sent: Option<Time>,
    pub(super) heartbeat: bool,
    /// Heartbeats since the last that was acknowledged; `None` while the peer never does it.
    pub(super) unanswered: Option<u32>,
    /// A peer that greets is to be answered, and with what.
    pub(super) hello: Option<bool>,
    /// The next heartbeat tells the monitoring services: they are new to this registration.
    pub(super) monitoring: bool,
    /// A JSON ping waits for its pong, which carries this id. The newest ping wins.
    pub(super) pong: Option<Option<String>>,
    /// Names of unknown types to answer, with the id of the message.
    pub(super) fallbacks: VecDeque<(Box<str>, Option<String>)>,
    refusals: VecDeque<Refusal>,
    /// Requests that were over before the binary frame with their body came, the latest of them:
    /// it is still to come, and no fault.
    announced: VecDeque<Box<str>>,
    /// The streams had their turn, the refusals are next.
    refusals_next: bool,
    /// The fast mode had its turn, JSON is next.
    json_next: bool,
}

/// The one message that answers a request which never became a stream.
#[derive(Debug)]
pub(super) struct Refusal {
    /// `None` where any answer would be taken for that of a running stream (P-162).
    pub(super) id: Option<String>,
    pub(super) form: Form,
    pub(super) text: String,
}

/// What answers a request or start that is refused.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// `proxy_response_abort`: it asked for a streamed answer.
    Abort,
    /// `proxy_websocket_close`, the second half of [`Self::Stream`].
    Close,
    /// `proxy_error`.
    Error,
    /// What a stream gets whose dial fails (P-102): an error, then a close.
    Stream,
    /// The error of a start that names no stream, which therefore has no close (P-102).
    Start,
    /// `tcp_tunnel_close`, with this reason (P-051).
    Tunnel(&'static str),
}

impl Control {
    pub(super) fn ask_to_register(&mut self, unix: Duration, info: &AgentInfo) {
        self.register = true;
        // One that has not left yet would name no cluster.
        self.heartbeat = false;
        self.registering = Some(format!("req_{}_{}", unix.as_nanos(), info.agent_id));
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.refusals.push_back(refusal);
    }

    pub(super) fn refusals(&self) -> usize {
        self.refusals.len()
    }

    pub(super) fn has_refusals(&self) -> bool {
        !self.refusals.is_empty()
    }

    /// The frame with the body of a request that is over is still to come.
    pub(super) fn announce(&mut self, name: &str) {
        if self.announced.len() >= MAX_ANNOUNCED {
            self.announced.pop_front();
        }
        self.announced.push_back(name.into());
    }

    /// Whether this is such a frame; it comes once.
    pub(super) fn was_announced(&mut self, name: &str) -> bool {
        let at = self.announced.iter().position(|other| **other == *name);
        at.and_then(|at| self.announced.remove(at)).is_some()
    }

    fn any(&self) -> bool {
        self.register
            || self.ping
            || self.heartbeat
            || self.hello.is_some()
            || self.pong.is_some()
            || !self.fallbacks.is_empty()
            || !self.refusals.is_empty()
    }
}

impl Agent {
    pub(super) fn next_action(&mut self, socket: Socket) -> Option<Action> {
        self.settle(false);
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if let Some(notice) = self.notices.pop() {
            return Some(Action::Notice(notice));
        }
        let conn = self.phase.open()?;
        if socket == Socket::Ready(conn) {
            // Whatever waited for it may be gone by now: then nothing else would stop it.
            self.timers.stop(Timer::Stall);
        }
        if !self.control.any() && !self.streams.wants_send() && !self.mux_wants() {
            return None;
        }
        if socket != Socket::Ready(conn) {
            let until = self.now + self.config.periods.write;
            self.timers.start(Timer::Stall, until);
            return None;
        }
        let frame = self
            .control_frame()
            .or_else(|| self.mux_or_json_frame(conn))?;
        Some(Action::Send(conn, frame))
    }

    pub(super) fn mux_wants(&self) -> bool {
        self.mux.as_ref().is_some_and(|mux| mux.wants_transmit())
    }

    /// Both modes in turn, where there is something of both.
    fn mux_or_json_frame(&mut self, conn: ConnId) -> Option<OutFrame> {
        self.control.json_next ^= true;
        if self.control.json_next {
            let frame = self.refusal_or_stream_frame(conn);
            frame.or_else(|| self.mux_frame())
        } else {
            let frame = self.mux_frame();
            frame.or_else(|| self.refusal_or_stream_frame(conn))
        }
    }

    fn mux_frame(&mut self) -> Option<OutFrame> {
        let now = self.now;
        let mux = self.mux.as_mut()?;
        let frame = mux.transmit(now)?;
        if mux.is_over() && !mux.wants_transmit() {
            // Its last word.
            self.drop_session(Ending::Lost);
        } else {
            self.pump();
        }
        Some(OutFrame::Binary(frame))
    }

    fn control_frame(&mut self) -> Option<OutFrame> {
        let text = if core::mem::take(&mut self.control.register) {
            self.register_frame()
        } else if let Some(id) = self.control.pong.take() {
            encode::pong(id.as_deref(), &self.timestamp())
        } else if core::mem::take(&mut self.control.ping) {
            self.control.ping_sent.get_or_insert(self.now);
            return Some(OutFrame::Ping);
        } else if core::mem::take(&mut self.control.heartbeat) {
            self.heartbeat_frame()
        } else if let Some(yamux) = self.control.hello.take() {
            encode::gateway_hello_ack(yamux, &Protocols::OURS)
        } else if let Some((name, id)) = self.control.fallbacks.pop_front() {
            encode::protocol_fallback(&name, id.as_deref(), &self.timestamp())
        } else {
            return None;
        };
        Some(OutFrame::Text(text))
    }

    fn refusal_or_stream_frame(&mut self, conn: ConnId) -> Option<OutFrame> {
        self.control.refusals_next ^= true;
        let frame = if self.control.refusals_next || !self.streams.wants_send() {
            self.refusal_frame().or_else(|| self.stream_frame())
        } else {
            self.stream_frame().or_else(|| self.refusal_frame())
        }?;
        debug_assert_eq!(self.phase.open(), Some(conn));
        Some(frame)
    }

    fn refusal_frame(&mut self) -> Option<OutFrame> {
        let Refusal { id, form, text } = self.control.refusals.pop_front()?;
        let Some(id) = id else {
            let text = encode::stream_error(None, &text);
            return Some(OutFrame::Text(text));
        };
        Some(OutFrame::Text(match form {
            Form::Abort => encode::response_abort(&id, &text),
            Form::Close => {
                let close = StreamClose::new(StreamClose::BROKEN, &text);
                encode::websocket_close(&id, &close)
            }
            Form::Error => encode::proxy_error(&id, &text),
            Form::Start => encode::stream_error(Some(&id), &text),
            Form::Tunnel(reason) => {
                let end = TunnelEnd {
                    reason,
                    error: Some(text),
                    counts: None,
                };
                encode::tcp_close(&id, &end)
            }
            Form::Stream => {
                let error = encode::stream_error(Some(&id), &text);
                self.control.refusals.push_front(Refusal {
                    id: Some(id),
                    form: Form::Close,
                    text,
                });
                error
            }
        }))
    }

    /// Frames one item of the stream whose turn it is; its last item ends the stream.
    fn stream_frame(&mut self) -> Option<OutFrame> {
        loop {
            let Turn { id, item } = self.streams.framed(&self.config.limits)?;
            let last = self.is_last(id, &item);
            if let Item::Data(data) | Item::Message(_, data) = &item {
                self.stats.bytes_out += data.len() as u64;
            }
            let frame = self.framed(id, item);
            if last {
                self.streams.ends(id, Ending::Complete);
                self.forget(id);
            }
            self.wake();
            // Otherwise a flow that ended in order, of which there is nothing to say.
            if frame.is_some() {
                return frame;
            }
        }
    }

    /// Whether nothing follows on the stream.
    fn is_last(&self, id: StreamId, item: &Item) -> bool {
        // What follows the answer to an upgrade are its messages.
        let upgraded = self.streams.get(id).is_some_and(|s| s.state.is_upgraded());
        match item {
            Item::Abort(_) | Item::Close(_) | Item::Error(_) => true,
            Item::FlowOver(_) | Item::TunnelClose(_) => true,
            Item::End | Item::Whole(..) => !upgraded,
            _ => false,
        }
    }

    fn framed(&mut self, id: StreamId, item: Item) -> Option<OutFrame> {
        let stream = self.streams.get_mut(id)?;
        let name = &stream.name;
        let text = match item {
            Item::Abort(text) => encode::response_abort(name, &text),
            Item::Broke(text) => encode::stream_error(Some(name), &text),
            Item::Close(close) => encode::websocket_close(name, &close),
            Item::Data(data) => match &mut stream.state.tunnel {
                None => encode::response_chunk(name, &data, &self.base64),
                Some(tunnel) => {
                    tunnel.sent += data.len() as u64;
                    encode::tcp_data(name, &data, false, &self.base64)
                }
            },
            Item::End => encode::response_end(name),
            Item::Error(text) => encode::proxy_error(name, &text),
            Item::FlowOver(text) => encode::stream_error(None, &text?),
            Item::Grant(bytes) => encode::grant(name, false, bytes),
            Item::Head(head) => encode::response_head(name, &head),
            Item::Message(kind, data) => {
                let tunnel = stream.state.tunnel.as_ref();
                match tunnel.and_then(|tunnel| tunnel.flow.as_ref()) {
                    None => encode::websocket_data(name, kind, &data, &self.base64),
                    Some(flow) => {
                        let client = (&*flow.client_addr, flow.client_port);
                        encode::udp_answer(&flow.tunnel_id, client, &data, &self.base64)
                    }
                }
            }
            Item::TunnelClose(mut end) => {
                if let (Some(counts), Some(tunnel)) = (&mut end.counts, &stream.state.tunnel) {
                    counts.sent = tunnel.sent;
                }
                encode::tcp_close(name, &end)
            }
            Item::Whole(head, body) => return Some(self.whole_frame(id, &head, &body)),
            // The controller's; never queued here.
            Item::Cancel | Item::Request { .. } | Item::Tunnel(_) | Item::Upgrade(..) => {
                return None;
            }
        };
        Some(OutFrame::Text(text))
    }

    /// A whole answer: as a binary frame where the configuration says so and it is long (P-039).
    fn whole_frame(&mut self, id: StreamId, head: &ResponseHead, body: &[Bytes]) -> OutFrame {
        let name = self.streams.get(id).map_or("", |s| &*s.name);
        let len: usize = body.iter().map(Bytes::len).sum();
        self.stats.bytes_out += len as u64;
        // P-013: not while binary messages are yamux.
        let as_binary = self.config.binary_answers && !self.is_muxed() && len >= BINARY_FROM;
        let binary = as_binary
            .then(|| binary::answer(name, head, body))
            .flatten();
        match binary {
            Some(frame) => OutFrame::Binary(frame),
            None => OutFrame::Text(encode::proxy_response(name, head, body, &self.base64)),
        }
    }

    /// Tells streams that were refused and have room now.
    pub(super) fn wake(&mut self) {
        // No more than there is room for: each of the others would be refused again.
        let limits = self.config.limits;
        let room = limits.send_total.saturating_sub(self.streams.held_out());
        for _ in 0..room.div_ceil(limits.chunk) {
            let Some(id) = self.streams.unblock(&limits) else {
                break;
            };
            self.actions.push_back(Action::Writable(id));
        }
    }

    fn register_frame(&self) -> String {
        let id = self.control.registering.as_deref().unwrap_or_default();
        encode::register(id, &self.timestamp(), &self.config)
    }

    fn heartbeat_frame(&mut self) -> String {
        if let Some(unanswered) = &mut self.control.unanswered {
            *unanswered = unanswered.saturating_add(1);
        }
        self.control.heartbeat_sent.get_or_insert(self.now);
        let fresh = core::mem::take(&mut self.control.monitoring);
        encode::heartbeat(
            &self.timestamp(),
            self.cluster_id().unwrap_or_default(),
            &self.config.info,
            &self.status,
            fresh && self.config.encrypted,
        )
    }

    fn timestamp(&self) -> String {
        rfc3339::format(self.unix())
    }
}

/// Text of a refusal while the agent drains.
pub(super) fn refusal_while(phase: Phase) -> Option<String> {
    matches!(phase, Phase::Draining(_)).then(|| "the agent is shutting down".to_string())
}
