//! How the requests of the controller end: complete, failed, or given up by either side; each once.

use super::{Controller, exchange::Exchange, sockets::Socket, tunnels::Flow};
use crate::{
    action::Action,
    error::{Failure, PeerFault},
    input::{StreamEnd, StreamId, Transport},
    stats::{CodeClass, Ending},
    streams::Item,
};

impl Controller {
    // ------------------------------------------------------------ giving up

    /// The client has gone.
    pub(super) fn cancel(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(id).filter(|s| !s.state.over) else {
            return self.stale();
        };
        if stream.state.is_socket() {
            return self.socket_ended(id, StreamEnd::Broken("the client is gone".into()));
        }
        if stream.state.tunnel.is_some() {
            return self.tunnel_ended(id, &StreamEnd::Broken("the client is gone".into()));
        }
        let complete = stream.state.complete;
        self.streams.ends(id, Ending::Cancelled);
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
    pub(super) fn give_up(&mut self, id: StreamId, failure: Failure) {
        let Some(stream) = self.streams.get(id).filter(|s| !s.state.over) else {
            return;
        };
        let complete = stream.state.complete;
        self.fail(id, failure);
        if !complete {
            self.stop_sending(id, true);
        }
        self.tidy(id);
    }

    /// Tells the local end that it failed: its last word.
    pub(super) fn fail(&mut self, id: StreamId, failure: Failure) {
        let socket = self.streams.get(id).is_some_and(|s| s.state.is_socket());
        self.streams.ends(id, Ending::of_failure(&failure));
        if failure == Failure::Overrun {
            self.actions.push_back(Action::Discard(id));
        }
        if socket {
            self.end_broken(id, failure);
        } else {
            self.actions.push_back(Action::Failed(id, failure));
        }
        self.local_over(id);
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
                self.fail(id, Failure::Disconnected);
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
        let complete = stream.state.complete && stream.is_consumed();
        if !complete && !stream.state.over {
            return;
        }
        if complete {
            self.finish(id);
        }
        let done = |s: &crate::streams::Stream<Exchange>| s.state.over && !s.owes_frames();
        if self.streams.get(id).is_some_and(done) {
            self.forget(id);
        }
    }

    /// The end of a complete answer.
    fn finish(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(id).filter(|s| !s.state.over) else {
            return;
        };
        let close = stream.state.socket.as_mut().and_then(Socket::closed);
        self.streams.ends(id, Ending::Complete);
        self.actions.push_back(match close {
            Some(close) => Action::Closed(id, close, None),
            None => Action::Finish(id),
        });
        self.local_over(id);
    }

    pub(super) fn local_over(&mut self, id: StreamId) {
        self.streams.local_over(id);
        if let Some(stream) = self.streams.get_mut(id) {
            stream.state.over = true;
        }
    }

    /// Drops what is queued; `tell` an agent that knows of the request that no more will come.
    pub(super) fn stop_sending(&mut self, id: StreamId, tell: bool) {
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
                let last = stream.state.last_word();
                self.streams.push(id, last);
            }
        }
        self.wake();
    }

    // ------------------------------------------------------------ after the client's end

    /// The client ended a stream that has a close of its own: that goes behind what it sent before
    /// (P-152), for which there is limited time.
    pub(super) fn close_behind(&mut self, id: StreamId, close: Item) {
        let until = self.now + self.config.periods.closing;
        if let Some(stream) = self.streams.get_mut(id) {
            stream.state.until = Some(until);
        }
        self.closing.insert((until, id));
        self.local_over(id);
        self.streams.push(id, close);
    }

    /// What a client sent before its end had its time: the close goes without it.
    pub(super) fn expire_closing(&mut self) {
        while let Some((at, id)) = self.closing.first().copied()
            && at <= self.now
        {
            self.closing.pop_first();
            if let Some(stream) = self.streams.get_mut(id) {
                stream.state.until = None;
            }
            self.stop_sending(id, true);
            self.tidy(id);
        }
    }

    fn forget(&mut self, id: StreamId) {
        self.release_body(id);
        if let Some(stream) = self.streams.remove(id) {
            if !stream.state.answered {
                CodeClass::None.count(&mut self.stats.answers);
            }
            if let Some(at) = stream.state.until {
                self.closing.remove(&(at, id));
            }
            let tunnel = stream.state.tunnel.as_deref();
            if let Some(tunnel) = tunnel.filter(|t| t.transport == Transport::Udp) {
                self.flows.remove(&Flow::of(tunnel));
            }
        }
        self.wake();
    }
}
