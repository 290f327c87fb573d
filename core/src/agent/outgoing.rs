//! What the agent sends next: control frames first, then refusals and streams in turn.

use alloc::{
    boxed::Box,
    collections::VecDeque,
    format,
    string::{String, ToString},
};
use core::time::Duration;

use super::Agent;
use crate::{
    action::{Action, OutFrame},
    config::AgentInfo,
    input::{ConnId, Socket, StreamClose},
    link::Phase,
    streams::{Item, Turn},
    timers::Timer,
    wire::{encode, rfc3339},
};

/// Control frames and refusals that wait for the socket: slots and bounded queues, so that no
/// peer can make them grow. Frames are built from them when the socket can take one.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// `register` is to be sent.
    pub(super) register: bool,
    /// Id of the registration that waits for its answer.
    pub(super) registering: Option<String>,
    pub(super) ping: bool,
    pub(super) heartbeat: bool,
    /// The next heartbeat tells the monitoring services: they are new to this registration.
    pub(super) monitoring: bool,
    /// A JSON ping waits for its pong, which carries this id. The newest ping wins.
    pub(super) pong: Option<Option<String>>,
    /// Names of unknown types to answer, with the id of the message.
    pub(super) fallbacks: VecDeque<(Box<str>, Option<String>)>,
    refusals: VecDeque<Refusal>,
    /// The streams had their turn, the refusals are next.
    refusals_next: bool,
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
}

impl Control {
    pub(super) fn ask_to_register(&mut self, unix: Duration, info: &AgentInfo) {
        self.register = true;
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

    fn any(&self) -> bool {
        self.register
            || self.ping
            || self.heartbeat
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
        if !self.control.any() && !self.streams.wants_send() {
            return None;
        }
        if socket != Socket::Ready(conn) {
            let until = self.now + self.config.periods.write;
            self.timers.start(Timer::Stall, until);
            return None;
        }
        self.timers.stop(Timer::Stall);
        let frame = self
            .control_frame()
            .or_else(|| self.refusal_or_stream_frame(conn))?;
        Some(Action::Send(conn, frame))
    }

    fn control_frame(&mut self) -> Option<OutFrame> {
        let text = if core::mem::take(&mut self.control.register) {
            self.register_frame()
        } else if let Some(id) = self.control.pong.take() {
            encode::pong(id.as_deref(), &self.timestamp())
        } else if core::mem::take(&mut self.control.ping) {
            return Some(OutFrame::Ping);
        } else if core::mem::take(&mut self.control.heartbeat) {
            self.heartbeat_frame()
        } else if let Some((name, id)) = self.control.fallbacks.pop_front() {
            encode::protocol_fallback(&name, id.as_deref(), &self.timestamp())
        } else {
            return None;
        };
        Some(OutFrame::Text(text))
    }

    fn refusal_or_stream_frame(&mut self, conn: ConnId) -> Option<OutFrame> {
        self.control.refusals_next ^= true;
        let text = if self.control.refusals_next || !self.streams.wants_send() {
            self.refusal_frame().or_else(|| self.stream_frame())
        } else {
            self.stream_frame().or_else(|| self.refusal_frame())
        }?;
        debug_assert_eq!(self.phase.open(), Some(conn));
        Some(OutFrame::Text(text))
    }

    fn refusal_frame(&mut self) -> Option<String> {
        let Refusal { id, form, text } = self.control.refusals.pop_front()?;
        let Some(id) = id else {
            return Some(encode::stream_error(None, &text));
        };
        Some(match form {
            Form::Abort => encode::response_abort(&id, &text),
            Form::Close => {
                let close = StreamClose::new(StreamClose::BROKEN, &text);
                encode::websocket_close(&id, &close)
            }
            Form::Error => encode::proxy_error(&id, &text),
            Form::Stream => {
                let error = encode::stream_error(Some(&id), &text);
                self.control.refusals.push_front(Refusal {
                    id: Some(id),
                    form: Form::Close,
                    text,
                });
                error
            }
        })
    }

    /// Frames one item of the stream whose turn it is; its last item ends the stream.
    fn stream_frame(&mut self) -> Option<String> {
        let Turn { id, item } = self.streams.framed(&self.config.limits)?;
        let stream = self.streams.get(id)?;
        let name = &stream.name;
        // What follows the answer to an upgrade are its messages.
        let whole = !stream.state.is_upgraded();
        let (text, last) = match item {
            Item::Abort(text) => (encode::response_abort(name, &text), true),
            Item::Broke(text) => (encode::stream_error(Some(name), &text), false),
            Item::Close(close) => (encode::websocket_close(name, &close), true),
            Item::Data(data) => {
                self.stats.bytes_out += data.len() as u64;
                (encode::response_chunk(name, &data, &self.base64), false)
            }
            Item::End => (encode::response_end(name), whole),
            Item::Error(text) => (encode::proxy_error(name, &text), true),
            Item::Grant(bytes) => (encode::grant(name, false, bytes), false),
            Item::Head(head) => (encode::response_head(name, &head), false),
            Item::Message(kind, data) => {
                self.stats.bytes_out += data.len() as u64;
                let text = encode::websocket_data(name, kind, &data, &self.base64);
                (text, false)
            }
            Item::Whole(head, body) => {
                let len: usize = body.iter().map(bytes::Bytes::len).sum();
                self.stats.bytes_out += len as u64;
                let text = encode::proxy_response(name, &head, &body, &self.base64);
                (text, whole)
            }
            // The controller's; never queued here.
            Item::Cancel | Item::Request { .. } | Item::Upgrade(..) => return None,
        };
        if last {
            self.forget(id);
        }
        self.wake();
        Some(text)
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
        encode::register(
            id,
            &self.timestamp(),
            &self.config.info,
            self.config.policy,
            self.cluster_id(),
            self.config.limits.request_window(),
        )
    }

    fn heartbeat_frame(&mut self) -> String {
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
