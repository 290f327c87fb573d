//! The requests that the agent answers: their life, their limits and their one end (P-094). Those
//! that ask for a WebSocket go on in `sockets`.
//!
//! ```text
//!            Open ┌────────────── body: Deliver* Finish ──────────────┐
//! proxy_request ──┤                                                   ├──▶ forgotten when its
//!                 └── answer: Head, data*, Ended ▶ queued ▶ framed ───┘    last frame was built
//! ```

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use bytes::Bytes;

use super::{
    Agent,
    asked::Asked,
    sockets::{Asking, Socket},
};
use crate::{
    action::{Action, Target},
    error::{PeerFault, SendError},
    input::{Kind, ResponseHead, StreamEnd, StreamId},
    rules,
    streams::Item,
    time::Time,
};

/// State of one request.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The controller takes the answer in pieces (P-042).
    pub(super) streamed: bool,
    /// More of the request's body is to come.
    body_open: bool,
    /// The local end answered; kept here until the end where the answer is not streamed.
    head: Option<ResponseHead>,
    answered: bool,
    /// The whole answer of a request that is not streamed.
    whole: Vec<Bytes>,
    whole_len: usize,
    /// The local end is over, only frames are left.
    pub(super) ended: bool,
    due: Option<Time>,
    /// What was taken of the body or of messages since the controller was last told; `None`
    /// toward one that keeps no window.
    taken: Option<usize>,
    /// It asked for a WebSocket.
    pub(super) socket: Option<Socket>,
}

impl Exchange {
    /// It has messages, or nothing yet but the errors of such a stream.
    pub(super) fn is_socket(&self) -> bool {
        self.socket.as_ref().is_some_and(Socket::has_messages)
    }

    /// It began with `proxy_websocket_start`.
    pub(super) fn is_bare(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.bare)
    }

    /// The upstream accepted the upgrade, so that what follows are messages.
    pub(super) fn is_upgraded(&self) -> bool {
        self.socket.as_ref().is_some_and(Socket::is_open)
    }

    /// Keeps the head of what has no answer of its own.
    pub(super) fn answered_with(&mut self, head: ResponseHead) {
        self.head = Some(head);
        self.answered = true;
    }

    pub(super) const fn answered_head(&self) -> Option<&ResponseHead> {
        self.head.as_ref()
    }
}

impl Agent {
    /// Opens the local end of a request.
    pub(super) fn open(&mut self, asked: Asked<'_>) -> Result<(), PeerFault> {
        let limits = self.config.limits;
        if asked.body.len() > limits.recv_stream {
            return Err(PeerFault::Overrun);
        }
        let bare = asked.upgrade.as_ref().is_some_and(|asking| asking.bare);
        let whole = !asked.streamed && !bare;
        let whole_due = whole.then(|| self.now + self.config.periods.buffered);
        let due = [asked.due, whole_due].into_iter().flatten().min();
        let exchange = Exchange {
            streamed: asked.streamed,
            body_open: asked.body_follows,
            head: None,
            answered: false,
            whole: Vec::new(),
            whole_len: 0,
            ended: false,
            due,
            taken: asked.keeps_window.then_some(0),
            socket: asked
                .upgrade
                .as_ref()
                .map(|asking| Socket::new(asking, asked.due)),
        };
        let id = self.streams.open(asked.id, exchange, &limits)?;
        if let Some(window) = asked.window {
            self.streams.limit(id, window);
        }
        self.limits_due.extend(due.map(|at| (at, id)));
        let credentials = self.config.policy.credentials();
        let head = asked.head;
        let target = match asked.upgrade {
            None => Target::Http { head, credentials },
            Some(Asking { protocols, .. }) => {
                let target = Target::WebSocket {
                    head,
                    protocols,
                    credentials,
                };
                self.actions.push_back(Action::Open(id, target));
                return Ok(());
            }
        };
        self.actions.push_back(Action::Open(id, target));
        if !asked.body.is_empty() {
            self.deliver(id, Kind::Bytes, asked.body);
        }
        let ended = self.streams.get(id).is_none_or(|s| s.state.ended);
        if !asked.body_follows && !ended {
            self.actions.push_back(Action::Finish(id));
        }
        Ok(())
    }

    // ------------------------------------------------------------ request body

    /// A piece of a request body (P-060).
    pub(super) fn body(&mut self, id: StreamId, base64: Option<&str>) {
        if !self.takes_body(id) {
            self.stats.stale_frames += 1;
            return;
        }
        let Some(base64) = base64 else {
            let text = "a piece of the request body has no data";
            return self.fail(id, PeerFault::Missing("data"), text);
        };
        match self.base64.decode(base64) {
            Ok(data) if data.is_empty() => {}
            Ok(data) => self.deliver(id, Kind::Bytes, data.into()),
            Err(fault) => self.fail(id, fault, "the request body is not valid base64"),
        }
    }

    pub(super) fn body_end(&mut self, id: StreamId) {
        if !self.takes_body(id) {
            self.stats.stale_frames += 1;
            return;
        }
        if let Some(stream) = self.streams.get_mut(id) {
            stream.state.body_open = false;
        }
        self.actions.push_back(Action::Finish(id));
    }

    fn takes_body(&self, id: StreamId) -> bool {
        let stream = self.streams.get(id);
        stream.is_some_and(|s| s.state.body_open && !s.state.ended)
    }

    pub(super) fn deliver(&mut self, id: StreamId, kind: Kind, data: Bytes) {
        let len = data.len();
        let outcome = self.streams.received(id, len, &self.config.limits);
        if let Err(over) = outcome {
            let text = "more data arrives than the Kubernetes API takes in time";
            self.fail(over, PeerFault::Overrun, text);
            if over == id {
                return;
            }
        }
        self.stats.bytes_in += len as u64;
        self.actions.push_back(Action::Deliver(id, kind, data));
    }

    /// The local end took a delivery; a controller that keeps a window learns of it, a quarter of
    /// the window at a time.
    pub(super) fn consumed(&mut self, id: StreamId, len: usize) {
        if !self.streams.consumed(id, len) {
            return self.stale();
        }
        let window = self.config.limits.request_window();
        let Some(stream) = self.streams.get_mut(id).filter(|s| !s.state.ended) else {
            return;
        };
        let Some(taken) = &mut stream.state.taken else {
            return;
        };
        *taken += crate::Limits::charge(len);
        if *taken >= window / 4 {
            let taken = core::mem::take(taken);
            self.streams.push(id, Item::Grant(taken));
        }
    }

    /// The controller gave the request up (P-062, P-186): nothing more is sent for it.
    pub(super) fn cancel(&mut self, id: StreamId) {
        if self.is_bare(id) {
            // It has a close of its own.
            self.stats.stale_frames += 1;
            return;
        }
        let ended = self.streams.get(id).is_none_or(|s| s.state.ended);
        self.forget(id);
        if !ended {
            self.actions.push_back(Action::Reset(id));
        }
        self.wake();
    }

    // ------------------------------------------------------------ answer

    pub(super) fn head(&mut self, id: StreamId, head: ResponseHead) {
        let Some(stream) = self.streams.get_mut(id) else {
            return self.stale();
        };
        let state = &mut stream.state;
        if state.answered || state.ended {
            return self.stale();
        }
        if head.status == 101 || state.is_bare() {
            return self.upgraded(id, head);
        }
        state.answered = true;
        let status = if head.status == 0 { 200 } else { head.status };
        let head = ResponseHead {
            status,
            headers: rules::response_headers(status, head.headers),
        };
        if state.streamed {
            self.streams.push(id, Item::Head(head));
        } else {
            state.head = Some(head);
        }
    }

    pub(super) fn answer(
        &mut self,
        id: StreamId,
        kind: Kind,
        data: Bytes,
    ) -> Result<(), SendError> {
        let Some(stream) = self.streams.get(id) else {
            return Err(SendError::Closed(data));
        };
        if stream.state.ended {
            return Err(SendError::Closed(data));
        }
        if stream.state.is_socket() {
            return self.message(id, kind, data);
        }
        if data.is_empty() {
            return Ok(());
        }
        if !stream.state.answered {
            self.head(id, ResponseHead::default());
        }
        let streamed = self.streams.get(id).is_some_and(|s| s.state.streamed);
        if streamed {
            return self
                .streams
                .enqueue(id, Kind::Bytes, data, &self.config.limits);
        }
        self.hold(id, data)
    }

    /// Keeps a piece of an answer that has to be sent whole (P-149).
    fn hold(&mut self, id: StreamId, data: Bytes) -> Result<(), SendError> {
        let limits = self.config.limits;
        let Some(stream) = self.streams.get_mut(id) else {
            return Err(SendError::Closed(data));
        };
        let state = &mut stream.state;
        let charge = crate::Limits::charge(data.len());
        let text = if state.whole_len + charge > limits.buffered {
            Some(format!(
                "the answer is longer than {} bytes and the request did not ask for a streamed one",
                limits.buffered
            ))
        } else if self.buffered + charge > limits.buffered_total {
            Some("too many answers that have to be sent whole are held at once".into())
        } else {
            None
        };
        if let Some(text) = text {
            self.actions.push_back(Action::Reset(id));
            self.finish_with(id, Err(text));
            return Err(SendError::Closed(data));
        }
        state.whole_len += charge;
        self.buffered += charge;
        state.whole.push(data);
        Ok(())
    }

    pub(super) fn ended(&mut self, id: StreamId, end: StreamEnd) {
        let Some(stream) = self.streams.get(id) else {
            return self.stale();
        };
        if stream.state.ended {
            return self.stale();
        }
        if stream.state.is_socket() {
            return self.socket_ended(id, end);
        }
        let outcome = match end {
            StreamEnd::Clean | StreamEnd::Closed(_) if stream.state.answered => Ok(()),
            StreamEnd::Clean | StreamEnd::Closed(_) => {
                Err("the request was not answered".to_string())
            }
            StreamEnd::Broken(text) => Err(text),
        };
        self.finish_with(id, outcome);
    }

    /// Queues the one message that ends the request, behind all that it has sent.
    fn finish_with(&mut self, id: StreamId, outcome: Result<(), String>) {
        self.local_over(id);
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let state = &mut stream.state;
        let whole = core::mem::take(&mut state.whole);
        if outcome.is_err() {
            self.buffered -= core::mem::take(&mut state.whole_len);
        }
        let item = match (outcome, state.streamed) {
            (Ok(()), true) => Item::End,
            // Charged to `buffered` until it is framed.
            (Ok(()), false) => Item::Whole(state.head.take().unwrap_or_default(), whole),
            (Err(text), true) => Item::Abort(text),
            (Err(text), false) => Item::Error(text),
        };
        self.streams.push(id, item);
    }

    /// The local end is gone: nothing more is taken from it, and no time limit counts any more.
    pub(super) fn local_over(&mut self, id: StreamId) {
        self.set_due(id, None);
        self.streams.local_over(id);
        if let Some(stream) = self.streams.get_mut(id) {
            stream.state.ended = true;
        }
    }

    /// Replaces the time limit of a request.
    pub(super) fn set_due(&mut self, id: StreamId, due: Option<Time>) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        if let Some(at) = core::mem::replace(&mut stream.state.due, due) {
            self.limits_due.remove(&(at, id));
        }
        self.limits_due.extend(due.map(|at| (at, id)));
    }

    /// Ends a request for a fault of the peer.
    pub(super) fn fail(&mut self, id: StreamId, fault: PeerFault, text: &str) {
        self.tolerated(Some(id), fault);
        self.break_off(id, text);
    }

    /// Ends a request although its local end has not.
    pub(super) fn break_off(&mut self, id: StreamId, text: &str) {
        let Some(stream) = self.streams.get(id).filter(|s| !s.state.ended) else {
            return;
        };
        self.actions.push_back(Action::Reset(id));
        if stream.state.is_socket() {
            return self.end_socket(id, Some(text.into()), None);
        }
        self.finish_with(id, Err(text.into()));
    }

    pub(super) fn fail_all(&mut self, text: &str) {
        for id in self.streams.ids() {
            self.break_off(id, text);
        }
    }

    pub(super) fn expire_requests(&mut self) {
        while let Some((at, id)) = self.limits_due.first().copied()
            && at <= self.now
        {
            self.limits_due.pop_first();
            self.break_off(id, "the request took longer than its time limit");
        }
    }

    /// Takes a request out of every table.
    pub(super) fn forget(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(id) else {
            return;
        };
        self.buffered -= stream.state.whole_len;
        if let Some(at) = stream.state.due {
            self.limits_due.remove(&(at, id));
        }
    }
}
