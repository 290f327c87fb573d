//! The WebSocket streams of the controller (P-044 to P-047, P-064 to P-069, P-192).
//!
//! ```text
//! open_websocket ──▶ Asked ──101, or the first message of an agent that does not answer──▶ Open
//!                      │ any other answer: as to any request           agent closes, breaks │ client
//!                      ▼                                                 a result, Closed ◀─┴─▶ its
//!                   Failed, or Head and Finish                                            messages,
//!                                                                                         a close
//! ```
//!
//! A client is never told of a success that the Kubernetes API did not tell (`rules::Channels`).

use alloc::{boxed::Box, format, string::String, vec::Vec};

use bytes::Bytes;

use super::{Controller, exchange::Exchange, tunnels};
use crate::{
    action::Action,
    error::{Failure, OpenError, PeerFault, SendError},
    input::{Kind, RequestHead, ResponseHead, StreamClose, StreamEnd, StreamId},
    notices::clip,
    rules::{self, Channels},
    stats::{CodeClass, Ending},
    streams::Item,
    wire::{
        decode::Fields,
        frame::{self, Message},
    },
};

/// What a stream is beside a request.
#[derive(Debug)]
pub(super) struct Socket {
    path: String,
    offered: Vec<String>,
    /// The agent says how the upgrade was answered.
    answers: bool,
    open: bool,
    channels: Channels,
    /// A message told how the command ended.
    result: bool,
    /// How the agent closed it.
    closed: Option<StreamClose>,
}

impl Socket {
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    /// The agent answers it, and was told which windows count.
    pub(super) const fn is_answered(&self) -> bool {
        self.answers
    }

    /// It is open with this subprotocol; nobody needs what it began with any more.
    fn opened(&mut self, chosen: &str) {
        self.open = true;
        self.channels = Channels::of(&self.path, chosen);
        (self.path, self.offered) = (String::new(), Vec::new());
    }

    /// How the client's end is closed, once it has taken everything.
    pub(super) const fn closed(&mut self) -> Option<StreamClose> {
        self.closed.take()
    }
}

impl Exchange {
    /// What tells the agent that nobody wants more.
    pub(super) fn last_word(&self) -> Item {
        match &self.socket {
            Some(socket) if socket.open || !socket.answers => {
                let code = StreamClose::GOING_AWAY;
                Item::Close(StreamClose::new(code, "the client is gone"))
            }
            _ if self.tunnel.is_some() => tunnels::cut_off(),
            _ => Item::Cancel,
        }
    }
}

impl Controller {
    pub(super) fn open_socket(
        &mut self,
        head: RequestHead,
        protocols: Vec<String>,
    ) -> Result<StreamId, OpenError> {
        let joined = self.agent_for(&head)?;
        if !joined.opens_websockets {
            return Err(OpenError::WebSocket);
        }
        let socket = Socket {
            path: head.path.clone(),
            offered: protocols.clone(),
            answers: joined.answers_upgrades,
            open: false,
            channels: Channels::None,
            result: false,
            closed: None,
        };
        let first = Item::Upgrade(Box::new(head), protocols);
        self.begin(Exchange::new(false, None, Some(socket)), Some(first))
    }

    fn socket(&mut self, id: StreamId) -> Option<&mut Socket> {
        let stream = self.streams.get_mut(id)?;
        stream.state.socket.as_mut()
    }

    // ------------------------------------------------------------ from the agent

    /// The agent says that the Kubernetes API switched protocols.
    pub(super) fn upgraded(&mut self, id: StreamId, head: ResponseHead) {
        let chosen = rules::chosen_protocol(&head.headers);
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let answered = stream.state.answered;
        let Some(socket) = &mut stream.state.socket else {
            return;
        };
        let offered = chosen.is_empty() || socket.offered.iter().any(|name| name == chosen);
        if answered || !offered {
            let fault = match offered {
                true => PeerFault::Malformed,
                false => PeerFault::Subprotocol,
            };
            return self.break_off(id, fault);
        }
        socket.opened(chosen);
        stream.state.answered = true;
        CodeClass::of_status(head.status).count(&mut self.stats.answers);
        self.actions.push_back(Action::Head(id, head));
    }

    /// The first message of an agent that does not answer upgrades says that it is open.
    fn inferred(&mut self, id: StreamId) {
        let Some(socket) = self.socket(id) else {
            return;
        };
        let chosen = socket.offered.first();
        let header = chosen.map(|name| ("Sec-WebSocket-Protocol".into(), name.clone()));
        let head = ResponseHead {
            status: 101,
            headers: header.into_iter().collect(),
        };
        self.upgraded(id, head);
    }

    pub(super) fn socket_data(&mut self, id: StreamId, fields: &Fields<'_>) {
        let limit = self.config.limits.message;
        let message = frame::read(Some(fields), limit, &self.base64);
        self.socket_message(id, message);
    }

    pub(super) fn socket_message(&mut self, id: StreamId, message: Result<Message, PeerFault>) {
        let Some(socket) = self.socket(id) else {
            return self.break_off(id, PeerFault::Malformed);
        };
        match (socket.open, socket.answers) {
            (true, _) => {}
            (false, true) => return self.break_off(id, PeerFault::Malformed),
            (false, false) => self.inferred(id),
        }
        if !self.is_live(id) {
            return;
        }
        match message {
            Ok(Message::Data(kind, data)) => {
                let channels = self.socket(id).map(|socket| socket.channels);
                let result = channels.is_some_and(|channels| channels.is_result(&data));
                self.deliver(id, kind, data);
                // Unless there was no room for it.
                if let Some(socket) = self.socket(id) {
                    socket.result |= result;
                }
            }
            Ok(Message::Close(close)) => self.close_socket(id, close),
            Ok(Message::Empty | Message::Ping) => {}
            Err(fault) => self.break_off(id, fault),
        }
    }

    pub(super) fn socket_closed(&mut self, id: StreamId, fields: &Fields<'_>) {
        self.close_socket(id, frame::close(Some(fields)));
    }

    /// The agent closed the stream without having reported a failure.
    fn close_socket(&mut self, id: StreamId, close: StreamClose) {
        let Some(socket) = self.socket(id) else {
            return self.break_off(id, PeerFault::Malformed);
        };
        if !socket.open {
            let text = "the cluster's agent closed the stream before it was open";
            return self.answer_failed(id, text);
        }
        if !socket.result && socket.channels.tells_success() {
            let text = "the stream ended before the command's result was known";
            return self.answer_failed(id, text);
        }
        // An original agent never says how a stream was closed (P-047); here the result did.
        let told = socket.result && socket.channels.tells_success();
        socket.closed = Some(match close.code {
            StreamClose::NO_CODE if told => StreamClose::new(StreamClose::NORMAL, ""),
            _ => close,
        });
        self.complete(id);
    }

    /// What the agent's text about a failure amounts to; the status stands at its end, be it long.
    pub(super) fn failure(&mut self, id: StreamId, text: &str) -> Failure {
        let refused = self.socket(id).is_some_and(|s| !s.open && !s.answers);
        let status = status_of(text).filter(|_| refused);
        let text = clip(text);
        match status {
            Some(status) => Failure::Refused { status, text },
            None => Failure::Agent(text),
        }
    }

    /// Ends the client's WebSocket for a failure: where its subprotocol has a place for the
    /// command's result and there was none, with a result that says what went wrong.
    pub(super) fn end_broken(&mut self, id: StreamId, failure: Failure) {
        let text = format!("{failure}");
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        let Some(socket) = &stream.state.socket else {
            return;
        };
        let result = match socket.result {
            true => None,
            false => socket.channels.failure(&text, &self.base64),
        };
        let code = match (result.is_some(), socket.channels) {
            (true, Channels::Status { .. }) => StreamClose::NORMAL,
            _ => StreamClose::BROKEN,
        };
        let reason = if code == StreamClose::BROKEN {
            &*text
        } else {
            ""
        };
        if let Some((kind, data)) = result {
            self.actions.push_back(Action::Deliver(id, kind, data));
        }
        let close = StreamClose::new(code, reason);
        self.actions
            .push_back(Action::Closed(id, close, Some(failure)));
    }

    // ------------------------------------------------------------ from the client

    pub(super) fn message(
        &mut self,
        id: StreamId,
        kind: Kind,
        data: Bytes,
    ) -> Result<(), SendError> {
        let limits = self.config.limits;
        let live = self
            .streams
            .get(id)
            .is_some_and(|s| s.state.is_socket() && s.state.is_live() && s.state.until.is_none());
        if !live {
            return Err(SendError::Closed(data));
        }
        if data.len() > limits.message {
            self.give_up(id, Failure::MessageTooLong);
            return Err(SendError::Closed(data));
        }
        self.streams.enqueue(id, kind.of_message(), data, &limits)
    }

    /// The client closed its WebSocket, or is gone: the agent is told behind what the client sent
    /// before (P-152), which gets limited time for it.
    pub(super) fn socket_ended(&mut self, id: StreamId, end: StreamEnd) {
        let Some(stream) = self.streams.get_mut(id).filter(|s| !s.state.over) else {
            return self.stale();
        };
        let live = stream.state.is_live();
        let asked = stream.state.asked;
        let Some(socket) = &stream.state.socket else {
            return;
        };
        let close = match end {
            StreamEnd::Closed(close) => close,
            StreamEnd::Clean => StreamClose::new(StreamClose::NORMAL, ""),
            StreamEnd::Broken(text) => StreamClose::new(StreamClose::GOING_AWAY, &text),
        };
        let in_order = socket.open && close.code == StreamClose::NORMAL;
        let ending = match in_order {
            true => Ending::Complete,
            false => Ending::Cancelled,
        };
        let open = socket.open;
        self.streams.ends(id, ending);
        if !open {
            self.local_over(id);
            // Of an answer that is complete the agent has nothing to learn.
            if live {
                self.stop_sending(id, true);
            }
        } else if live && asked {
            self.close_behind(id, Item::Close(close));
        } else {
            self.local_over(id);
        }
        self.tidy(id);
    }
}

/// `n` of a text that ends with `(status: n)` (P-102).
fn status_of(text: &str) -> Option<u16> {
    let (_, rest) = text.rsplit_once("(status: ")?;
    let status: u16 = rest.trim_end().strip_suffix(')')?.parse().ok()?;
    (400..=599).contains(&status).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p102_the_status_stands_at_the_end_of_the_text() {
        let text = "failed to connect to K8s API: websocket: bad handshake (status: 403)";
        assert_eq!(status_of(text), Some(403));
        for text in [
            "",
            "status: 403",
            "(status: 200)",
            "(status: 4030)",
            "(status: x)",
        ] {
            assert_eq!(status_of(text), None, "{text}");
        }
    }
}
