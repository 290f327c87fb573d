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

/// State of one request.
#[derive(Debug)]
pub(super) struct Exchange {
    /// More of the request's body is to come from the local end.
    body_open: bool,
    /// The body is held back until it is whole, for an agent that takes no pieces.
    held: Option<Held>,
    /// The agent's answer has begun.
    answered: bool,
    /// `proxy_request` was framed: the agent knows the request.
    pub(super) asked: bool,
    /// The local end has had its `Finish` or `Failed`; only a cancel is left to send.
    pub(super) over: bool,
}

#[derive(Debug)]
struct Held {
    head: Box<RequestHead>,
    body: Vec<Bytes>,
    charged: usize,
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
                charged: 0,
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
            answered: false,
            asked: false,
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
        if state.over || !state.body_open {
            return Err(SendError::Closed(data));
        }
        if data.is_empty() {
            return Ok(());
        }
        let Some(held) = &mut state.held else {
            return self.streams.enqueue(id, data, &self.config.limits);
        };
        let charge = Limits::charge(data.len());
        if held.charged + charge > self.config.limits.buffered
            || self.buffered + charge > self.config.limits.buffered_total
        {
            self.give_up(id, Failure::RequestTooLarge);
            return Err(SendError::Closed(data));
        }
        held.charged += charge;
        held.body.push(data);
        self.buffered += charge;
        Ok(())
    }

    pub(super) fn body_ended(&mut self, id: StreamId, end: StreamEnd) {
        let Some(stream) = self.streams.get_mut(id) else {
            return self.stale();
        };
        let state = &mut stream.state;
        if state.over || !state.body_open {
            return self.stale();
        }
        if end != StreamEnd::Clean {
            return self.cancel(id);
        }
        state.body_open = false;
        let item = match state.held.take() {
            None => Item::End,
            Some(held) => {
                self.buffered -= held.charged;
                Item::Request {
                    head: held.head,
                    body_follows: false,
                    body: held.body,
                }
            }
        };
        self.streams.push(id, item);
    }

    // ------------------------------------------------------------ answer

    pub(super) fn answer_head(&mut self, id: StreamId, head: ResponseHead) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        if stream.state.over {
            self.stats.stale_frames += 1;
            return;
        }
        // 101 would promise an upgrade that this version cannot keep.
        if stream.state.answered || !(200..=599).contains(&head.status) {
            return self.break_off(id, PeerFault::Malformed);
        }
        stream.state.answered = true;
        self.actions.push_back(Action::Head(id, head));
    }

    pub(super) fn answer_data(&mut self, id: StreamId, data: Bytes) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        if stream.state.over {
            self.stats.stale_frames += 1;
            return;
        }
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
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        if stream.state.over {
            return self.forget(id);
        }
        if !stream.state.answered {
            let text = "the cluster's agent ended the request without an answer";
            return self.answer_failed(id, text.into());
        }
        self.actions.push_back(Action::Finish(id));
        self.agent_done(id);
    }

    /// The agent reports that the request failed.
    pub(super) fn answer_failed(&mut self, id: StreamId, text: alloc::string::String) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        if !stream.state.over {
            self.actions
                .push_back(Action::Failed(id, Failure::Agent(text)));
        }
        self.agent_done(id);
    }

    /// The agent's last message about a request: nothing of the body that is still to come has a
    /// use, and an agent that waits for it is told so.
    fn agent_done(&mut self, id: StreamId) {
        let body_owed = self
            .streams
            .get(id)
            .is_some_and(|s| s.state.asked && (s.state.body_open || s.owes_frames()));
        if body_owed {
            self.cancel_on_wire(id);
        } else {
            self.forget(id);
        }
    }

    // ------------------------------------------------------------ giving up

    /// The client has gone.
    pub(super) fn cancel(&mut self, id: StreamId) {
        match self.streams.get(id) {
            Some(stream) if !stream.state.over => self.cancel_on_wire(id),
            _ => self.stale(),
        }
    }

    /// The agent broke a rule of this stream.
    pub(super) fn break_off(&mut self, id: StreamId, fault: PeerFault) {
        self.tolerated(Some(id), fault);
        self.give_up(id, Failure::Fault(fault));
    }

    pub(super) fn give_up(&mut self, id: StreamId, failure: Failure) {
        if self.streams.get(id).is_none_or(|s| s.state.over) {
            return;
        }
        self.actions.push_back(Action::Failed(id, failure));
        self.cancel_on_wire(id);
    }

    pub(super) fn fail_all(&mut self, failure: &Failure) {
        for id in self.streams.ids() {
            self.give_up(id, failure.clone());
        }
    }

    /// Drops what is queued and tells the agent, if it knows of the request at all.
    fn cancel_on_wire(&mut self, id: StreamId) {
        self.streams.clear(id);
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let state = &mut stream.state;
        state.over = true;
        state.body_open = false;
        if let Some(held) = state.held.take() {
            self.buffered -= held.charged;
        }
        if state.asked {
            self.streams.push(id, Item::Cancel);
        } else {
            self.forget(id);
        }
        self.wake();
    }

    pub(super) fn forget(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(id)
            && let Some(held) = stream.state.held
        {
            self.buffered -= held.charged;
        }
        self.wake();
    }
}
