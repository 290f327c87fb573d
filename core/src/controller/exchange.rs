//! The requests of the controller: their bodies out, their answers in, one end each. Those for a
//! WebSocket go on in `sockets`.

use alloc::{boxed::Box, vec::Vec};

use bytes::Bytes;

use super::{Controller, Life, sockets::Socket};
use crate::{
    action::{Action, Joined},
    config::Limits,
    error::{Failure, OpenError, PeerFault, SendError},
    input::{Kind, RequestHead, ResponseHead, StreamEnd, StreamId, Tunnel},
    stats::CodeClass,
    streams::{Item, head_len, headers_len},
    time::Time,
    wire::encode::Terms,
};

/// At most so much of one answer is under way to a reader. At a round trip of 100 ms it lets 40 MB
/// pass in a second.
const WINDOW: usize = 4 << 20;

/// State of one request.
///
/// It is kept until both sides are done with it: the local end had its one `Finish` or `Failed`,
/// and no frame of it is left to send.
#[derive(Debug)]
pub(super) struct Exchange {
    /// More of the request's body is to come from the local end.
    pub(super) body_open: bool,
    /// The body is held back until it is whole, for an agent that takes no pieces.
    pub(super) held: Option<Held>,
    /// Charged to `Controller::buffered` for such a body, until it is framed.
    pub(super) charged: usize,
    /// The agent's answer has begun.
    pub(super) answered: bool,
    /// `proxy_request` was framed: the agent knows the request.
    pub(super) asked: bool,
    /// On which terms it was opened, and is asked for.
    pub(super) terms: Terms,
    /// What the agent was told about how much of the answer may be under way.
    pub(super) window: Option<usize>,
    /// Charged for what the local end took since the agent was last told.
    pub(super) taken: usize,
    /// The answer is complete; `Finish` waits until the local end has taken all of it, so that
    /// what a slow client holds stays within the limits.
    pub(super) complete: bool,
    /// The local end has had its `Finish`, `Closed` or `Failed`, or gave up.
    pub(super) over: bool,
    /// When what is left to send after the client's end has to be gone.
    pub(super) until: Option<Time>,
    /// It asked for a WebSocket.
    pub(super) socket: Option<Socket>,
    /// It is a TCP or UDP tunnel.
    pub(super) tunnel: Option<Box<Tunnel>>,
}

impl Exchange {
    pub(super) fn new(body_open: bool, held: Option<Held>, socket: Option<Socket>) -> Self {
        Self {
            body_open,
            held,
            charged: 0,
            answered: false,
            asked: false,
            terms: Terms::default(),
            window: None,
            taken: 0,
            complete: false,
            over: false,
            until: None,
            socket,
            tunnel: None,
        }
    }

    /// Whether the agent may still say something about it.
    pub(super) const fn is_live(&self) -> bool {
        !self.over && !self.complete
    }

    /// It asked for a WebSocket, and the agent says how that was answered.
    pub(super) fn is_answered(&self) -> bool {
        self.socket.as_ref().is_some_and(Socket::is_answered)
    }

    /// It has messages, and ends with a close.
    pub(super) fn is_socket(&self) -> bool {
        self.socket.as_ref().is_some_and(Socket::is_open)
    }
}

#[derive(Debug)]
pub(super) struct Held {
    head: Box<RequestHead>,
    body: Vec<Bytes>,
}

impl Controller {
    pub(super) fn open_exchange(
        &mut self,
        head: RequestHead,
        has_body: bool,
    ) -> Result<StreamId, OpenError> {
        let joined = self.agent_for(&head)?;
        let head = Box::new(head);
        let in_pieces = joined.streams_requests;
        let (held, request) = if has_body && !in_pieces {
            let held = Held {
                head,
                body: Vec::new(),
            };
            (Some(held), None)
        } else {
            let request = Item::Request {
                head,
                body_follows: has_body,
                body: Vec::new(),
            };
            (None, Some(request))
        };
        self.begin(Exchange::new(has_body, held, None), request)
    }

    /// What is known of the agent that a request may go to.
    pub(super) fn agent_for(&self, head: &RequestHead) -> Result<&Joined, OpenError> {
        let joined = self.joined.as_ref().filter(|_| self.life == Life::Running);
        let joined = joined.ok_or(OpenError::Away)?;
        if head_len(head) > self.config.limits.head {
            return Err(OpenError::HeadTooLong);
        }
        Ok(joined)
    }

    /// Opens a stream with what is sent of it first.
    pub(super) fn begin(
        &mut self,
        mut exchange: Exchange,
        first: Option<Item>,
    ) -> Result<StreamId, OpenError> {
        let name = self.name();
        let told = exchange.socket.as_ref().is_none_or(Socket::is_answered);
        let told = told && exchange.tunnel.is_none();
        exchange.terms = self.terms();
        let window = exchange.terms.request_window;
        let id = self
            .streams
            .open(&name, exchange, &self.config.limits)
            .map_err(|_| OpenError::TooManyStreams)?;
        if let Some(window) = window.filter(|_| told) {
            self.streams.limit(id, window);
        }
        if let Some(first) = first {
            self.streams.push(id, first);
        }
        Ok(id)
    }

    // ------------------------------------------------------------ request body

    pub(super) fn body(&mut self, id: StreamId, kind: Kind, data: Bytes) -> Result<(), SendError> {
        let Some(stream) = self.streams.get_mut(id) else {
            return Err(SendError::Closed(data));
        };
        let state = &mut stream.state;
        if state.socket.is_some() {
            return self.message(id, kind, data);
        }
        if state.tunnel.is_some() {
            return self.tunnel_takes(id, data);
        }
        if !state.body_open {
            return Err(SendError::Closed(data));
        }
        if data.is_empty() {
            return Ok(());
        }
        let Some(held) = &mut state.held else {
            return self
                .streams
                .enqueue(id, Kind::Bytes, data, &self.config.limits);
        };
        let charge = Limits::charge(data.len());
        if state.charged + charge > self.config.limits.buffered
            || self.buffered + charge > self.config.limits.buffered_total
        {
            self.give_up(id, Failure::RequestTooLarge);
            return Err(SendError::Closed(data));
        }
        state.charged += charge;
        held.body.push(data);
        self.buffered += charge;
        Ok(())
    }

    pub(super) fn ended(&mut self, id: StreamId, end: StreamEnd) {
        let Some(stream) = self.streams.get_mut(id) else {
            return self.stale();
        };
        let state = &mut stream.state;
        if state.socket.is_some() {
            return self.socket_ended(id, end);
        }
        if state.tunnel.is_some() {
            return self.tunnel_ended(id, &end);
        }
        if !state.body_open {
            return self.stale();
        }
        if end != StreamEnd::Clean {
            return self.give_up(id, Failure::Cancelled);
        }
        state.body_open = false;
        let item = match state.held.take() {
            None => Item::End,
            Some(Held { head, body }) => Item::Request {
                head,
                body_follows: false,
                body,
            },
        };
        self.streams.push(id, item);
    }

    /// Returns the charge of a body that was held back.
    pub(super) fn release_body(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(id) {
            self.buffered -= core::mem::take(&mut stream.state.charged);
        }
    }

    // ------------------------------------------------------------ answer

    /// Whether a message of the agent about this request means anything.
    pub(super) fn is_live(&self, id: StreamId) -> bool {
        self.streams.get(id).is_some_and(|s| s.state.is_live())
    }

    pub(super) fn answer_head(&mut self, id: StreamId, head: ResponseHead) {
        let Some(stream) = self.streams.get_mut(id).filter(|s| s.state.is_live()) else {
            return;
        };
        if headers_len(&head.headers) > self.config.limits.head {
            return self.break_off(id, PeerFault::HeadTooLong);
        }
        if head.status == 101 && stream.state.socket.is_some() {
            return self.upgraded(id, head);
        }
        if stream.state.answered || !(200..=599).contains(&head.status) {
            return self.break_off(id, PeerFault::Malformed);
        }
        stream.state.answered = true;
        CodeClass::of_status(head.status).count(&mut self.stats.answers);
        self.actions.push_back(Action::Head(id, head));
    }

    pub(super) fn answer_data(&mut self, id: StreamId, data: Bytes) {
        let Some(stream) = self.streams.get(id).filter(|s| s.state.is_live()) else {
            return;
        };
        let state = &stream.state;
        if !state.answered || state.is_socket() || state.tunnel.is_some() {
            return self.break_off(id, PeerFault::Malformed);
        }
        if !data.is_empty() {
            self.deliver(id, Kind::Bytes, data);
        }
    }

    /// Hands data to the client, as far as there is room for it.
    pub(super) fn deliver(&mut self, id: StreamId, kind: Kind, data: Bytes) {
        let len = data.len();
        if let Err(most) = self.streams.received(id, len, &self.config.limits) {
            self.give_up(most, Failure::Overrun);
            if most == id {
                return;
            }
        }
        self.stats.bytes_in += len as u64;
        self.actions.push_back(Action::Deliver(id, kind, data));
    }

    /// The answer is complete.
    pub(super) fn answer_end(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(id).filter(|s| s.state.is_live()) else {
            return;
        };
        if stream.state.is_socket() {
            // The answer to the upgrade is over, the stream goes on (P-112).
            return;
        }
        if stream.state.tunnel.is_some() {
            return self.break_off(id, PeerFault::Malformed);
        }
        if !stream.state.answered {
            let text = "the cluster's agent ended the request without an answer";
            return self.answer_failed(id, text);
        }
        self.complete(id);
    }

    /// The agent said all that there is, in order.
    pub(super) fn complete(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(id) {
            stream.state.complete = true;
        }
        self.agent_done(id);
        self.tidy(id);
    }

    /// The agent reports that the request failed.
    pub(super) fn answer_failed(&mut self, id: StreamId, text: &str) {
        if !self.is_live(id) {
            return;
        }
        let failure = self.failure(id, text);
        self.fail(id, failure);
        self.agent_done(id);
        self.tidy(id);
    }

    /// The agent's last message about a request: nothing of the body that is still to come has a
    /// use, and an agent that waits for it is told so.
    pub(super) fn agent_done(&mut self, id: StreamId) {
        let stream = self.streams.get(id);
        let body_owed = stream.is_some_and(|s| s.state.body_open || s.owes_frames());
        let closes = stream.is_some_and(|s| s.state.is_socket() || s.state.tunnel.is_some());
        self.stop_sending(id, body_owed && !closes);
    }

    pub(super) fn consumed(&mut self, id: StreamId, len: usize) {
        let Some(charge) = self.streams.consumed(id, len) else {
            return self.stale();
        };
        self.grant(id, charge);
        self.tidy(id);
    }

    /// How much of each answer may be under way to its reader; `None` for an agent that does not
    /// keep to it.
    pub(super) fn window(&self) -> Option<usize> {
        let joined = self.joined.as_ref()?;
        let keeps = joined.keeps_window && joined.streams_responses;
        keeps.then(|| WINDOW.min(self.config.limits.recv_stream / 2))
    }

    /// Lets the agent send as much more as was taken, a quarter of the window at a time.
    fn grant(&mut self, id: StreamId, taken: usize) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let state = &mut stream.state;
        let Some(window) = state.window else {
            return;
        };
        state.taken += taken;
        if state.taken >= window / 4 && !state.complete && !state.over {
            let taken = core::mem::take(&mut state.taken);
            self.streams.push(id, Item::Grant(taken));
        }
    }
}
