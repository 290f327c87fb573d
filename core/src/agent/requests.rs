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
};

use bytes::Bytes;

use super::{
    Agent,
    asked::{Asked, Coming},
    exchange::Exchange,
    sockets::{Asking, Socket},
};
use crate::{
    action::{Action, Target},
    error::{PeerFault, SendError},
    input::{Kind, RequestHead, ResponseHead, StreamEnd, StreamId},
    rules,
    stats::{CodeClass, Ending},
    streams::{Item, Stream},
    time::Time,
};

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
        let follows = asked.coming != Coming::Nothing;
        let mut exchange = Exchange::new(due);
        exchange.streamed = asked.streamed;
        exchange.body_open = follows;
        exchange.taken = asked.keeps_window.then_some(0);
        exchange.socket = asked
            .upgrade
            .as_ref()
            .map(|asking| Socket::new(asking, asked.due));
        let id = self.streams.open(asked.id, exchange, &limits)?;
        if let Some(window) = asked.window {
            self.streams.limit(id, window);
        }
        self.limits_due.extend(due.map(|at| (at, id)));
        let head = asked.head;
        if let Some(Asking { protocols, .. }) = asked.upgrade {
            let target = Target::WebSocket {
                head,
                protocols,
                credentials: self.config.policy.credentials(),
            };
            self.actions.push_back(Action::Open(id, target));
            return Ok(());
        }
        if asked.coming == Coming::Frame {
            self.await_frame(id, head);
            return Ok(());
        }
        self.open_http(id, head, follows);
        if !asked.body.is_empty() {
            self.deliver(id, Kind::Bytes, asked.body);
        }
        if !follows {
            self.body_complete(id);
        }
        Ok(())
    }

    pub(super) fn open_http(&mut self, id: StreamId, head: RequestHead, streams: bool) {
        let credentials = self.config.policy.credentials();
        let target = Target::Http {
            head,
            credentials,
            streams,
        };
        self.actions.push_back(Action::Open(id, target));
    }

    /// The controller gave the request up (P-062, P-186): nothing more is sent for it.
    pub(super) fn cancel(&mut self, id: StreamId) {
        let own_close = |s: &Exchange| s.is_bare() || s.tunnel.is_some();
        if self.streams.get(id).is_some_and(|s| own_close(&s.state)) {
            // It has a close of its own.
            self.stats.stale_frames += 1;
            return;
        }
        self.drop_stream(id, Ending::Cancelled);
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
        if state.tunnel.is_some() {
            return self.tunnel_open(id);
        }
        if head.status == 101 || state.is_bare() {
            return self.upgraded(id, head);
        }
        state.answered = true;
        CodeClass::of_status(head.status).count(&mut self.stats.answers);
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
        if stream.state.tunnel.is_some() {
            return self.tunnel_answers(id, kind, data);
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
            self.streams.ends(id, Ending::Limit);
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
        if stream.state.tunnel.is_some() {
            return self.tunnel_ended(id, end);
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
        let failed = outcome.is_err();
        let item = match (outcome, state.streamed) {
            (Ok(()), true) => Item::End,
            // Charged to `buffered` until it is framed.
            (Ok(()), false) => Item::Whole(state.head.take().unwrap_or_default(), whole),
            (Err(text), true) => Item::Abort(text),
            (Err(text), false) => Item::Error(text),
        };
        if failed {
            self.streams.ends(id, Ending::Failed);
        }
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
        self.break_off(id, Ending::of_fault(fault), text);
    }

    /// Ends a request although its local end has not.
    pub(super) fn break_off(&mut self, id: StreamId, ending: Ending, text: &str) {
        self.streams.ends(id, ending);
        let Some(stream) = self.streams.get(id).filter(|s| !s.state.ended) else {
            return;
        };
        let (socket, tunnel) = (stream.state.is_socket(), stream.state.tunnel.is_some());
        if stream.state.unopened.is_none() {
            self.actions.push_back(Action::Reset(id));
        }
        if socket {
            return self.end_socket(id, Some(text.into()), None);
        }
        if tunnel {
            return self.end_tunnel(id, Some(text.into()));
        }
        self.finish_with(id, Err(text.into()));
    }

    /// Drops the local end of a stream that is out of the table, if it was opened.
    pub(super) fn reset_local(&mut self, id: StreamId, state: &Exchange) {
        if !state.ended && state.unopened.is_none() {
            self.actions.push_back(Action::Reset(id));
        }
    }

    /// Forgets a stream of which nothing more is sent, and drops its local end; others may have
    /// waited for the room that it took.
    pub(super) fn drop_stream(&mut self, id: StreamId, ending: Ending) {
        self.streams.ends(id, ending);
        if let Some(state) = self.forget(id) {
            self.reset_local(id, &state);
            self.wake();
        }
    }

    pub(super) fn fail_all(&mut self, ending: Ending, text: &str) {
        for id in self.streams.ids() {
            self.break_off(id, ending, text);
        }
    }

    pub(super) fn expire_requests(&mut self) {
        while let Some((at, id)) = self.limits_due.first().copied()
            && at <= self.now
        {
            self.limits_due.pop_first();
            let stream = self.streams.get(id).map(|s| &s.state);
            if stream.is_some_and(|s| s.tunnel.is_some()) {
                self.tunnel_due(id);
            } else if stream.is_some_and(|s| s.unopened.is_some()) {
                self.frame_missing(id);
            } else {
                let text = "the request took longer than its time limit";
                self.break_off(id, Ending::Timeout, text);
            }
        }
    }

    /// Takes a request out of every table.
    pub(super) fn forget(&mut self, id: StreamId) -> Option<Exchange> {
        let Stream { name, state, .. } = self.streams.remove(id)?;
        if state.unopened.is_some() {
            self.control.announce(&name);
        }
        if !state.answered && state.tunnel.is_none() {
            CodeClass::None.count(&mut self.stats.answers);
        }
        self.buffered -= state.whole_len;
        if let Some(at) = state.due {
            self.limits_due.remove(&(at, id));
        }
        if let Some(flow) = state.tunnel.as_ref().and_then(|t| t.flow.as_ref()) {
            self.flows.remove(flow);
        }
        Some(state)
    }
}
