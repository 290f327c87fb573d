//! The bodies of requests: in messages of their own (P-060), in a binary frame (P-061), or in the
//! request; and how much of them the local end has taken.

use alloc::boxed::Box;

use bytes::Bytes;

use super::{Agent, exchange::Unopened};
use crate::{
    action::Action,
    error::PeerFault,
    input::{Kind, RequestHead, StreamId},
    rules,
    stats::Ending,
    streams::Item,
    wire::binary,
};

impl Agent {
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
            Ok(data) => self.body_piece(id, data.into()),
            Err(fault) => self.fail(id, fault, "the request body is not valid base64"),
        }
    }

    /// The same, decoded.
    pub(super) fn body_piece(&mut self, id: StreamId, data: Bytes) {
        if !self.takes_body(id) {
            self.stats.stale_frames += 1;
        } else if !data.is_empty() {
            self.deliver(id, Kind::Bytes, data);
        }
    }

    pub(super) fn body_end(&mut self, id: StreamId) {
        if !self.takes_body(id) {
            self.stats.stale_frames += 1;
            return;
        }
        self.body_complete(id);
    }

    /// Tells the local end that it has all of the body, unless it is over.
    pub(super) fn body_complete(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(id).filter(|s| !s.state.ended) {
            stream.state.body_open = false;
            self.actions.push_back(Action::Finish(id));
        }
    }

    fn takes_body(&self, id: StreamId) -> bool {
        let stream = self.streams.get(id).map(|s| &s.state);
        stream.is_some_and(|s| s.body_open && !s.ended && s.unopened.is_none())
    }

    // ------------------------------------------------------------ in a binary frame

    /// Keeps a request whose body comes in a frame of its own until that is there, so that its
    /// length can be told (P-207).
    pub(super) fn await_frame(&mut self, id: StreamId, head: RequestHead) {
        let until = self.now + self.config.periods.write;
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let due = stream.state.due;
        stream.state.unopened = Some(Box::new(Unopened { head, due }));
        let until = due.map_or(until, |due| due.min(until));
        self.set_due(id, Some(until));
    }

    /// A binary frame is the body of the request that it names, whatever came between (P-145).
    pub(super) fn body_frame(&mut self, frame: &[u8]) {
        let (name, body) = match binary::read(frame) {
            Ok(parts) => parts,
            Err(fault) => return self.tolerated(None, fault),
        };
        let id = self.streams.find(name);
        let waits = id
            .and_then(|id| self.streams.get_mut(id))
            .filter(|s| !s.state.ended)
            .and_then(|s| s.state.unopened.take());
        let (Some(id), Some(unopened)) = (id, waits) else {
            return self.other_frame(id);
        };
        let Unopened { mut head, due } = *unopened;
        rules::set_content_length(&mut head.headers, Some(body.len() as u64));
        self.set_due(id, due);
        self.open_http(id, head, false);
        if !body.is_empty() {
            self.deliver(id, Kind::Bytes, Bytes::copy_from_slice(body));
        }
        self.body_complete(id);
    }

    /// A frame that no request waits for: that of one which was refused, or it came instead of the
    /// one that a request waits for, which therefore is not going to come. One that names what runs
    /// without waiting is that one's fault, and no other's.
    fn other_frame(&mut self, named: Option<StreamId>) {
        self.tolerated(named, PeerFault::UnknownId);
        if named.is_some() {
            return;
        }
        let waiting = |id: &StreamId| {
            let stream = self.streams.get(*id).map(|s| &s.state);
            stream.is_some_and(|s| s.unopened.is_some() && !s.ended)
        };
        let oldest = self.streams.ids().into_iter().find(waiting);
        if let Some(id) = oldest {
            let text = "a binary frame with another id came instead of the request's body";
            self.break_off(id, Ending::Fault, text);
        }
    }

    /// The frame of a request did not come.
    pub(super) fn frame_missing(&mut self, id: StreamId) {
        self.tolerated(Some(id), PeerFault::Missing("body"));
        let text = "the binary frame with the request's body did not come";
        self.break_off(id, Ending::Fault, text);
    }

    pub(super) fn deliver(&mut self, id: StreamId, kind: Kind, data: Bytes) {
        let len = data.len();
        let outcome = self.streams.received(id, len, &self.config.limits);
        if let Err(over) = outcome {
            let tunnel = self
                .streams
                .get(over)
                .is_some_and(|s| s.state.tunnel.is_some());
            let text = match tunnel {
                true => "more data arrives than the service takes in time",
                false => "more data arrives than the Kubernetes API takes in time",
            };
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
        let Some(charge) = self.streams.consumed(id, len) else {
            return self.stale();
        };
        let window = self.config.limits.request_window();
        let Some(stream) = self.streams.get_mut(id).filter(|s| !s.state.ended) else {
            return;
        };
        let Some(taken) = &mut stream.state.taken else {
            return;
        };
        *taken += charge;
        if *taken >= window / 4 {
            let taken = core::mem::take(taken);
            self.streams.push(id, Item::Grant(taken));
        }
    }
}
