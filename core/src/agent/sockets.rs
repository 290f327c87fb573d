//! The WebSocket streams of the agent (P-044 to P-047, P-064 to P-069, P-101 to P-110, P-192).
//!
//! ```text
//!            ┌── refused, broken ──▶ the answer, or proxy_error and close
//! start ──▶ Dialing ──101──▶ Open ──── upstream ends ────▶ proxy_error unless 1000, close
//!            │                │
//!            │ close          └─ close ─▶ Closing ── upstream ends, or time is up ──▶ close
//!            └───────▶ local end dropped, close
//! ```
//!
//! A stream exists from the moment its start is read: messages that come before the upstream is
//! open wait for it (P-154). Its close is the last that is sent of it, and sent once (P-161).

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use bytes::{BufMut, Bytes, BytesMut};

use super::Agent;
use crate::{
    action::Action,
    error::{PeerFault, SendError},
    input::{Kind, ResponseHead, StreamClose, StreamEnd, StreamId},
    rules,
    stats::{CodeClass, Ending},
    streams::Item,
    time::Time,
    wire::{
        decode::Fields,
        frame::{self, Message},
    },
};

/// What is kept of the text with which the Kubernetes API refuses a stream that has no answer.
const MAX_REFUSAL: usize = 4096;

/// What a start asks for beside its head.
pub(super) struct Asking {
    /// Subprotocols to offer.
    pub(super) protocols: Vec<String>,
    /// It is a `proxy_websocket_start`: there is no answer but data and errors (P-101).
    pub(super) bare: bool,
    /// Channels are translated to text if the upstream speaks them (P-106).
    pub(super) translate: bool,
}

/// What a stream is beside a request.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) bare: bool,
    stage: Stage,
    translate: bool,
    /// Time limit that the start asked for.
    due: Option<Time>,
    /// Beginning of the body with which a bare stream was refused.
    refusal: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Dialing,
    Open,
    /// The controller closed it.
    Closing,
}

impl Socket {
    pub(super) const fn new(asking: &Asking, due: Option<Time>) -> Self {
        Self {
            bare: asking.bare,
            stage: Stage::Dialing,
            translate: asking.translate,
            due,
            refusal: Vec::new(),
        }
    }

    /// What is sent of it are messages, errors and a close, and no answer.
    pub(super) fn has_messages(&self) -> bool {
        self.bare || self.is_open()
    }

    /// The upstream accepted it.
    pub(super) fn is_open(&self) -> bool {
        self.stage != Stage::Dialing
    }
}

impl Agent {
    fn socket(&mut self, id: StreamId) -> Option<&mut Socket> {
        let stream = self.streams.get_mut(id)?;
        stream.state.socket.as_mut()
    }

    // ------------------------------------------------------------ toward the controller

    /// The upstream answered the upgrade with 101, or a bare stream in any way.
    pub(super) fn upgraded(&mut self, id: StreamId, head: ResponseHead) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let streamed = stream.state.streamed;
        let Some(socket) = &mut stream.state.socket else {
            let text = "the Kubernetes API switched protocols unasked";
            return self.break_off(id, Ending::Failed, text);
        };
        let bare = socket.bare;
        if head.status == 101 {
            socket.stage = Stage::Open;
            let chosen = rules::chosen_protocol(&head.headers);
            socket.translate &= rules::is_channel_protocol(chosen);
            let due = socket.due;
            self.set_due(id, due);
        }
        let head = ResponseHead {
            headers: rules::response_headers(head.status, head.headers),
            ..head
        };
        if let Some(stream) = self.streams.get_mut(id) {
            stream.state.answered_with(&head);
            CodeClass::of_status(head.status).count(&mut self.stats.answers);
        }
        if bare {
            return;
        }
        if streamed {
            self.streams.push(id, Item::Head(head));
            // As the original does (P-112); the messages follow.
            self.streams.push(id, Item::End);
        } else {
            self.streams.push(id, Item::Whole(head, Vec::new()));
        }
    }

    /// A message of the upstream, or a piece of the body with which it refused.
    pub(super) fn message(
        &mut self,
        id: StreamId,
        kind: Kind,
        data: Bytes,
    ) -> Result<(), SendError> {
        let limits = self.config.limits;
        let Some(socket) = self.socket(id) else {
            return Err(SendError::Closed(data));
        };
        match socket.stage {
            // Nobody reads it any more.
            Stage::Closing => return Ok(()),
            Stage::Dialing => {
                let room = MAX_REFUSAL - socket.refusal.len();
                let kept = data.get(..room.min(data.len())).unwrap_or_default();
                socket.refusal.extend_from_slice(kept);
                return Ok(());
            }
            Stage::Open => {}
        }
        let translate = socket.translate;
        if data.len() > limits.message {
            let limit = limits.message;
            let text = format!("the Kubernetes API sent a message of more than {limit} bytes");
            self.break_off(id, Ending::Limit, &text);
            return Err(SendError::Closed(data));
        }
        let kind = kind.of_message();
        if translate {
            let (as_text, rest) = to_text(kind, data.clone());
            return match self.streams.enqueue(id, as_text, rest, &limits) {
                Err(SendError::Blocked(_)) => Err(SendError::Blocked(data)),
                Err(SendError::Closed(_)) => Err(SendError::Closed(data)),
                Ok(()) => Ok(()),
            };
        }
        self.streams.enqueue(id, kind, data, &limits)
    }

    /// The local end is over.
    pub(super) fn socket_ended(&mut self, id: StreamId, end: StreamEnd) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        let Some(socket) = &stream.state.socket else {
            return;
        };
        let (failure, close) = match end {
            _ if socket.stage == Stage::Dialing => {
                let why = match end {
                    StreamEnd::Broken(text) => text,
                    _ => "websocket: bad handshake".to_string(),
                };
                let text = refusal(stream.state.answered_head(), &socket.refusal, &why);
                (Some(text), None)
            }
            StreamEnd::Broken(text) => (Some(text), None),
            StreamEnd::Clean => (None, None),
            StreamEnd::Closed(close) if close.code == StreamClose::NORMAL => (None, Some(close)),
            StreamEnd::Closed(close) => (Some(closed_with(&close)), Some(close)),
        };
        self.end_socket(id, failure, close);
    }

    /// Queues the end of a stream behind all that it has sent: why, unless it ended in order or
    /// the controller wanted it to, and its close.
    pub(super) fn end_socket(
        &mut self,
        id: StreamId,
        failure: Option<String>,
        close: Option<StreamClose>,
    ) {
        let closing = self.socket(id).map(|socket| socket.stage) == Some(Stage::Closing);
        let failure = failure.filter(|_| !closing);
        let close = close.unwrap_or_else(|| match &failure {
            Some(text) => StreamClose::new(StreamClose::BROKEN, text),
            None => StreamClose::new(StreamClose::NORMAL, ""),
        });
        self.local_over(id);
        if let Some(text) = failure {
            self.streams.ends(id, Ending::Failed);
            self.streams.push(id, Item::Broke(text));
        }
        self.streams.push(id, Item::Close(close));
    }

    // ------------------------------------------------------------ from the controller

    /// Finds the stream that a message is about (P-065).
    fn named(&self, id: Option<&str>, fields: Option<&Fields<'_>>) -> Option<StreamId> {
        let named = fields
            .into_iter()
            .flat_map(|f| [&f.stream_id, &f.request_id]);
        let mut named = named.filter_map(|name| name.as_deref());
        let name = named.find(|name| !name.is_empty()).or(id)?;
        let stream = self.streams.find(name)?;
        self.takes_messages(stream).then_some(stream)
    }

    /// It is a WebSocket that the controller has not closed.
    pub(super) fn takes_messages(&self, id: StreamId) -> bool {
        let socket = self.streams.get(id).and_then(|s| s.state.socket.as_ref());
        socket.is_some_and(|socket| socket.stage != Stage::Closing)
    }

    /// Only what it has to send is left of it.
    fn has_ended(&self, id: StreamId) -> bool {
        self.streams.get(id).is_none_or(|s| s.state.ended)
    }

    pub(super) fn socket_data(&mut self, id: Option<&str>, fields: Option<&Fields<'_>>) {
        let Some(stream) = self.named(id, fields) else {
            self.stats.stale_frames += 1;
            return;
        };
        let limit = self.config.limits.message;
        let message = frame::read(fields, limit, &self.base64);
        self.socket_message(stream, message);
    }

    /// A message for a stream that takes them.
    pub(super) fn socket_message(&mut self, stream: StreamId, message: Result<Message, PeerFault>) {
        match message {
            Ok(Message::Close(close)) => self.close_socket(stream, close),
            _ if self.has_ended(stream) => self.stats.stale_frames += 1,
            Ok(Message::Data(kind, data)) => {
                let translates = self.socket(stream).is_some_and(|socket| socket.translate);
                let (kind, data) = match translates {
                    true => from_text(kind, data),
                    false => (kind, data),
                };
                self.deliver(stream, kind, data);
            }
            // Each hop keeps itself alive.
            Ok(Message::Empty | Message::Ping) => {}
            Err(fault) => self.fail(stream, fault, &format!("{fault}")),
        }
    }

    /// `proxy_stream_data` (P-063): data for the stream that a request became. The original ends
    /// the process for it (W-21).
    pub(super) fn stream_data(&mut self, id: Option<&str>, fields: Option<&Fields<'_>>) {
        let running = id.and_then(|id| self.streams.find(id));
        let socket = running.and_then(|id| self.streams.get(id)?.state.socket.as_ref());
        match running {
            Some(stream) if socket.is_none() => {
                self.tolerated(
                    Some(stream),
                    PeerFault::Unsupported("data for a plain request"),
                );
            }
            _ => self.socket_data(id, fields),
        }
    }

    pub(super) fn socket_close(&mut self, id: Option<&str>, fields: Option<&Fields<'_>>) {
        let Some(stream) = self.named(id, fields) else {
            self.stats.stale_frames += 1;
            return;
        };
        self.close_socket(stream, frame::close(fields));
    }

    /// The controller closed the stream (P-069): what it sent before is delivered first (P-152),
    /// and nothing survives it for long (P-170).
    fn close_socket(&mut self, id: StreamId, close: StreamClose) {
        let until = self.now + self.config.periods.closing;
        let ended = self.has_ended(id);
        let Some(socket) = self.socket(id) else {
            return;
        };
        let open = socket.is_open();
        socket.stage = Stage::Closing;
        if close.code != StreamClose::NORMAL {
            self.streams.ends(id, Ending::Cancelled);
        }
        if self.streams.clear(id) {
            // Who waits for room learns that nobody wants more.
            self.actions.push_back(Action::Writable(id));
        }
        if ended {
            // Its own end waited behind what nobody takes any more.
            self.streams.push(id, Item::Close(close));
        } else if open {
            self.set_due(id, Some(until));
            self.actions.push_back(Action::Closed(id, close, None));
        } else {
            self.actions.push_back(Action::Reset(id));
            self.end_socket(id, None, Some(close));
        }
        self.wake();
    }
}

/// Text of an upstream that refused the upgrade, or could not be reached (P-102).
fn refusal(head: Option<&ResponseHead>, body: &[u8], why: &str) -> String {
    let message = crate::wire::decode::message(body);
    let why = message.as_deref().unwrap_or(why);
    match head {
        Some(head) => {
            let status = head.status;
            format!("failed to connect to K8s API: {why} (status: {status})")
        }
        None => format!("failed to connect to K8s API: {why}"),
    }
}

fn closed_with(close: &StreamClose) -> String {
    let StreamClose { code, reason } = close;
    match (*code, &**reason) {
        (StreamClose::NO_CODE, _) => "the Kubernetes API closed the stream without a code".into(),
        (code, "") => format!("the Kubernetes API closed the stream with code {code}"),
        (code, reason) => {
            format!("the Kubernetes API closed the stream with code {code}: {reason}")
        }
    }
}

/// P-106, toward the controller: output, errors and status become text without their channel.
fn to_text(kind: Kind, mut data: Bytes) -> (Kind, Bytes) {
    if kind == Kind::Binary && data.first().is_some_and(|channel| *channel <= 3) {
        return (Kind::Text, data.split_off(1));
    }
    (kind, data)
}

/// P-106, toward the upstream: text becomes input.
fn from_text(kind: Kind, data: Bytes) -> (Kind, Bytes) {
    if kind != Kind::Text {
        return (kind, data);
    }
    let mut input = BytesMut::with_capacity(1 + data.len());
    input.put_u8(0);
    input.extend_from_slice(&data);
    (Kind::Binary, input.freeze())
}
