//! What each end of a [`Pair`] is told, against what the other one said.

use bytes::Bytes;
use controlplane_core::yamux::{Event, ResetBy};

use super::{Pair, content, ends::Flow};

impl Pair {
    /// One event; false where there is none.
    pub(super) fn listen(&mut self, side: usize) -> bool {
        let Some(event) = self.ends[side].session.event() else {
            return false;
        };
        if let Event::Over(id) | Event::Reset(id, _) = event
            && std::mem::take(&mut self.flow(side, id).reset)
        {
            // It was gone before this end gave it up.
            return true;
        }
        match event {
            Event::Opened(id) => {
                let known = self.ends[1 - side].flows.contains_key(&id);
                let old = self.ends[side].flows.insert(id, Flow::default());
                assert!(known && old.is_none(), "{id} opened");
            }
            Event::Data(id, data) => self.data(side, id, &data),
            Event::Finished(id) => {
                let (sent, finished) = self.said(1 - side, id);
                let flow = self.live(side, id);
                assert!(finished && flow.received == sent, "{id} cut off");
                assert!(!flow.peer_finished, "{id} finished twice");
                flow.peer_finished = true;
            }
            Event::Over(id) => {
                let flow = self.live(side, id);
                let done = flow.finished && flow.peer_finished && flow.unread.is_empty();
                assert!(done, "{id} over: {flow:?}");
                flow.over = true;
            }
            Event::Reset(id, by) => self.broken(side, id, by),
            Event::Writable(id) => {
                let flow = self.live(side, id);
                let len = flow.refused.take().expect("writable, and was not refused");
                // Whoever is told that there is room finds it.
                assert!(self.send(side, id, len), "{id} writable, and is not");
            }
            other => panic!("{other:?}"),
        }
        true
    }

    fn said(&self, side: usize, id: u32) -> (usize, bool) {
        let flow = &self.ends[side].flows[&id];
        (flow.sent, flow.finished)
    }

    /// A stream that something may still be told of.
    fn live(&mut self, side: usize, id: u32) -> &mut Flow {
        let flow = self.flow(side, id);
        assert!(flow.is_open(), "{id} is gone: {flow:?}");
        flow
    }

    fn data(&mut self, side: usize, id: u32, data: &Bytes) {
        let (sent, _) = self.said(1 - side, id);
        let flow = self.live(side, id);
        let from = flow.received;
        assert!(
            !data.is_empty() && !flow.peer_finished,
            "{id}: data after its end"
        );
        flow.received += data.len();
        flow.unread.push_back(data.len());
        assert!(flow.received <= sent, "{id}: more than was sent");
        assert!(
            *data == content(id, 1 - side, from, data.len()),
            "{id}: other bytes at {from}"
        );
    }

    fn broken(&mut self, side: usize, id: u32, by: ResetBy) {
        let peer = &self.ends[1 - side];
        let excused = match by {
            ResetBy::Peer => peer.wrote.streams.get(&id).is_some_and(|seen| seen.rst),
            ResetBy::Memory => self.ends[side].config.recv_total < 64 << 20,
            ResetBy::Window | ResetBy::Fault => false,
        };
        assert!(excused, "{id} reset by {by:?}");
        self.live(side, id).broken = true;
    }
}
