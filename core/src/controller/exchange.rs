//! The requests of the controller: their bodies out, their answers in, one end each.

use alloc::{boxed::Box, vec::Vec};

use bytes::Bytes;

use super::{Controller, Life};
use crate::{
    action::Action,
    config::Limits,
    error::{Failure, OpenError, PeerFault, SendError},
    input::{Kind, RequestHead, ResponseHead, StreamEnd, StreamId},
    streams::{Item, head_len},
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
    body_open: bool,
    /// The body is held back until it is whole, for an agent that takes no pieces.
    held: Option<Held>,
    /// Charged to `Controller::buffered` for such a body, until it is framed.
    pub(super) charged: usize,
    /// The agent's answer has begun.
    answered: bool,
    /// `proxy_request` was framed: the agent knows the request.
    pub(super) asked: bool,
    /// What the agent was told about how much of the answer may be under way.
    pub(super) window: Option<usize>,
    /// Charged for what the local end took since the agent was last told.
    taken: usize,
    /// The answer is complete; `Finish` waits until the local end has taken all of it, so that
    /// what a slow client holds stays within the limits.
    complete: bool,
    /// The local end has had its `Finish` or `Failed`, or gave up.
    over: bool,
}

impl Exchange {
    /// Whether the agent may still say something about it.
    const fn is_live(&self) -> bool {
        !self.over && !self.complete
    }
}

#[derive(Debug)]
struct Held {
    head: Box<RequestHead>,
    body: Vec<Bytes>,
}

impl Controller {
    pub(super) fn open_exchange(
        &mut self,
        head: RequestHead,
        has_body: bool,
    ) -> Result<StreamId, OpenError> {
        let limits = self.config.limits;
        let Some(joined) = self.joined.as_ref().filter(|_| self.life == Life::Running) else {
            return Err(OpenError::Away);
        };
        if head_len(&head) > limits.head {
            return Err(OpenError::HeadTooLong);
        }
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
        let exchange = Exchange {
            body_open: has_body,
            held,
            charged: 0,
            answered: false,
            asked: false,
            window: None,
            taken: 0,
            complete: false,
            over: false,
        };
        let name = self.name();
        let id = self
            .streams
            .open(&name, exchange, &limits)
            .map_err(|_| OpenError::TooManyStreams)?;
        if let Some(request) = request {
            self.streams.push(id, request);
        }
        Ok(id)
    }

    // ------------------------------------------------------------ request body

    pub(super) fn body(&mut self, id: StreamId, _: Kind, data: Bytes) -> Result<(), SendError> {
        let Some(stream) = self.streams.get_mut(id) else {
            return Err(SendError::Closed(data));
        };
        let state = &mut stream.state;
        if !state.body_open {
            return Err(SendError::Closed(data));
        }
        if data.is_empty() {
            return Ok(());
        }
        let Some(held) = &mut state.held else {
            return self.streams.enqueue(id, data, &self.config.limits);
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

    pub(super) fn body_ended(&mut self, id: StreamId, end: StreamEnd) {
        let Some(stream) = self.streams.get_mut(id) else {
            return self.stale();
        };
        let state = &mut stream.state;
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
    fn release_body(&mut self, id: StreamId) {
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
        // 101 would promise an upgrade that this version cannot keep.
        if stream.state.answered || !(200..=599).contains(&head.status) {
            return self.break_off(id, PeerFault::Malformed);
        }
        stream.state.answered = true;
        self.actions.push_back(Action::Head(id, head));
    }

    pub(super) fn answer_data(&mut self, id: StreamId, data: Bytes) {
        let Some(stream) = self.streams.get(id).filter(|s| s.state.is_live()) else {
            return;
        };
        if !stream.state.answered {
            return self.break_off(id, PeerFault::Malformed);
        }
        if data.is_empty() {
            return;
        }
        let len = data.len();
        if let Err(most) = self.streams.received(id, len, &self.config.limits) {
            self.give_up(most, Failure::Overrun);
            if most == id {
                return;
            }
        }
        self.stats.bytes_in += len as u64;
        self.actions
            .push_back(Action::Deliver(id, Kind::Bytes, data));
    }

    /// The answer is complete.
    pub(super) fn answer_end(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(id).filter(|s| s.state.is_live()) else {
            return;
        };
        if !stream.state.answered {
            let text = "the cluster's agent ended the request without an answer";
            return self.answer_failed(id, text.into());
        }
        stream.state.complete = true;
        self.agent_done(id);
        self.tidy(id);
    }

    /// The agent reports that the request failed.
    pub(super) fn answer_failed(&mut self, id: StreamId, text: alloc::string::String) {
        if !self.is_live(id) {
            return;
        }
        self.actions
            .push_back(Action::Failed(id, Failure::Agent(text)));
        self.local_over(id);
        self.agent_done(id);
        self.tidy(id);
    }

    /// The agent's last message about a request: nothing of the body that is still to come has a
    /// use, and an agent that waits for it is told so.
    fn agent_done(&mut self, id: StreamId) {
        let stream = self.streams.get(id);
        let body_owed = stream.is_some_and(|s| s.state.body_open || s.owes_frames());
        self.stop_sending(id, body_owed);
    }

    pub(super) fn consumed(&mut self, id: StreamId, len: usize) {
        if !self.streams.consumed(id, len) {
            return self.stale();
        }
        self.grant(id, Limits::charge(len));
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

    // ------------------------------------------------------------ giving up

    /// The client has gone.
    pub(super) fn cancel(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(id).filter(|s| !s.state.over) else {
            return self.stale();
        };
        let complete = stream.state.complete;
        self.local_over(id);
        if !complete {
            self.stop_sending(id, true);
        }
        self.tidy(id);
    }

    /// The agent broke a rule of this stream.
    pub(super) fn break_off(&mut self, id: StreamId, fault: PeerFault) {
        self.tolerated(Some(id), fault);
        if self.is_live(id) {
            self.give_up(id, Failure::Fault(fault));
        }
    }

    /// Fails a request, whatever the agent may still say.
    fn give_up(&mut self, id: StreamId, failure: Failure) {
        let Some(stream) = self.streams.get(id).filter(|s| !s.state.over) else {
            return;
        };
        let complete = stream.state.complete;
        self.actions.push_back(Action::Failed(id, failure));
        self.local_over(id);
        if !complete {
            self.stop_sending(id, true);
        }
        self.tidy(id);
    }

    pub(super) fn fail_all(&mut self, failure: &Failure) {
        for id in self.streams.ids() {
            if self.is_live(id) {
                self.give_up(id, failure.clone());
            } else {
                self.finish(id);
                self.tidy(id);
            }
        }
    }

    /// Ends every request of a connection that is over; an answer that is complete stays until
    /// it is taken.
    pub(super) fn disconnect_all(&mut self) {
        for id in self.streams.ids() {
            if self.is_live(id) {
                let failed = Action::Failed(id, Failure::Disconnected);
                self.actions.push_back(failed);
                self.local_over(id);
            }
            self.stop_sending(id, false);
            self.tidy(id);
        }
    }

    // ------------------------------------------------------------ ends

    /// Finishes a complete answer once the local end has taken it, and forgets a request that
    /// both sides are done with.
    pub(super) fn tidy(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        if stream.state.complete && stream.is_consumed() {
            self.finish(id);
        }
        let done = |s: &crate::streams::Stream<Exchange>| s.state.over && !s.owes_frames();
        if self.streams.get(id).is_some_and(done) {
            self.forget(id);
        }
    }

    /// The end of a complete answer.
    fn finish(&mut self, id: StreamId) {
        if self.streams.get(id).is_some_and(|s| !s.state.over) {
            self.actions.push_back(Action::Finish(id));
            self.local_over(id);
        }
    }

    fn local_over(&mut self, id: StreamId) {
        self.streams.local_over(id);
        if let Some(stream) = self.streams.get_mut(id) {
            stream.state.over = true;
        }
    }

    /// Drops what is queued; `tell` an agent that knows of the request that no more will come.
    fn stop_sending(&mut self, id: StreamId, tell: bool) {
        let over = self.streams.get(id).is_none_or(|s| s.state.over);
        if self.streams.clear(id) && !over {
            // Who waits for room learns that nobody wants more.
            self.actions.push_back(Action::Writable(id));
        }
        self.release_body(id);
        if let Some(stream) = self.streams.get_mut(id) {
            stream.state.body_open = false;
            stream.state.held = None;
            if stream.state.asked && tell {
                self.streams.push(id, Item::Cancel);
            }
        }
        self.wake();
    }

    fn forget(&mut self, id: StreamId) {
        self.release_body(id);
        self.streams.remove(id);
        self.wake();
    }
}
