//! What the local ends of streams do, and what falls due.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use bytes::Bytes;

use super::{Heard, Mux, datagrams::prefixed};
use crate::{
    error::SendError,
    input::{Input, StreamEnd, StreamId},
    rules::MAX_DATAGRAM,
    stats::Ending,
    time::Time,
    yamux::Role,
};

impl Mux {
    pub(crate) fn owns(&self, id: StreamId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(crate) fn send(&mut self, now: Time, id: StreamId, data: Bytes) -> Result<(), SendError> {
        let Some(entry) = self.by_id.get_mut(&id) else {
            return Err(SendError::Closed(data));
        };
        entry.active = now;
        let len = data.len() as u64;
        let sent = match &entry.datagrams {
            Some(datagrams) if datagrams.prefixed => {
                if data.len() > MAX_DATAGRAM {
                    self.reset(id, Ending::Limit);
                    self.out.push_back(Heard::TooLong(id));
                    return Err(SendError::Closed(data));
                }
                let sent = self.session.send(entry.wire, prefixed(&data));
                sent.map_err(|error| match error {
                    SendError::Blocked(_) => SendError::Blocked(data),
                    SendError::Closed(_) => SendError::Closed(data),
                })
            }
            _ => self.session.send(entry.wire, data),
        };
        if sent.is_ok() {
            self.bytes_out += len;
        }
        sent
    }

    /// The local end of a stream did something.
    pub(crate) fn local(&mut self, now: Time, id: StreamId, input: &Input<'_>) {
        match input {
            Input::Consumed(_, len) => self.consumed(now, id, *len),
            Input::Ended(_, end) => self.ended(id, end),
            Input::Head(..) => self.dialed(now, id),
            _ => self.reset(id, self.given_up()),
        }
    }

    /// The local end took a delivery.
    fn consumed(&mut self, now: Time, id: StreamId, len: usize) {
        let Some(entry) = self.by_id.get_mut(&id) else {
            return;
        };
        entry.active = now;
        match &mut entry.datagrams {
            None => self.session.consumed(now, entry.wire, len),
            Some(datagrams) => {
                datagrams.taken(len);
                self.deliver_datagrams(now, id);
            }
        }
    }

    /// The dial of a tunnel succeeded.
    fn dialed(&mut self, now: Time, id: StreamId) {
        if let Some(entry) = self.by_id.get_mut(&id)
            && let Some(idle) = entry.idle
        {
            (entry.active, entry.is_open) = (now, true);
            let wire = entry.wire;
            let before = entry.until.replace(now + idle);
            before.map(|at| self.due.remove(&(at, wire)));
            self.due.insert((now + idle, wire));
        }
    }

    fn ended(&mut self, id: StreamId, end: &StreamEnd) {
        match end {
            StreamEnd::Broken(_) => self.reset(id, self.given_up()),
            StreamEnd::Clean | StreamEnd::Closed(_) => {
                if let Some(entry) = self.by_id.get(&id) {
                    self.session.finish(entry.wire);
                }
            }
        }
    }

    /// What it means that the local end broke: the agent's is the Kubernetes API or a service, the
    /// controller's its client.
    const fn given_up(&self) -> Ending {
        match self.role {
            Role::Client => Ending::Failed,
            Role::Server => Ending::Cancelled,
        }
    }

    /// Ends a stream at once.
    fn reset(&mut self, id: StreamId, ending: Ending) {
        if let Some(wire) = self.by_id.get(&id).map(|entry| entry.wire) {
            self.end_wire(wire, ending);
            self.forget(wire);
        }
    }

    pub(super) fn forget(&mut self, wire: u32) -> Option<StreamId> {
        if let Some((due, _)) = self.heads.remove(&wire) {
            // Otherwise a peer that opens and resets would fill the list faster than time empties it.
            self.due.remove(&(due, wire));
        }
        let id = self.by_wire.remove(&wire)?;
        if let Some(entry) = self.by_id.remove(&id)
            && let Some(at) = entry.until
        {
            self.due.remove(&(at, wire));
        }
        Some(id)
    }

    /// Ends every stream at once, because this end shuts down, and returns them.
    pub(crate) fn reset_all(&mut self) -> Vec<StreamId> {
        for wire in self.by_wire.keys().chain(self.heads.keys()) {
            if self.session.reset(*wire) {
                Ending::Shutdown.count(&mut self.closed);
            }
        }
        self.clear()
    }

    /// Forgets every stream, and returns them.
    pub(crate) fn clear(&mut self) -> Vec<StreamId> {
        let ids = self.by_id.keys().copied().collect();
        (self.by_wire, self.by_id) = (BTreeMap::new(), BTreeMap::new());
        (self.heads, self.due) = (BTreeMap::new(), BTreeSet::new());
        ids
    }

    // ------------------------------------------------------------ time

    /// Does what fell due until `now`, and returns the streams that are over with it.
    pub(crate) fn tick(&mut self, now: Time) -> Vec<StreamId> {
        self.session.tick(now);
        let mut over = Vec::new();
        while let Some((at, wire)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            if let Some(until) = self.still_alive(now, wire) {
                self.due.insert((until, wire));
            } else {
                self.end_wire(wire, Ending::Timeout);
                over.extend(self.forget(wire));
            }
        }
        over
    }

    /// Until when a stream that is silent now may live on.
    fn still_alive(&mut self, now: Time, wire: u32) -> Option<Time> {
        let id = self.by_wire.get(&wire)?;
        let entry = self.by_id.get_mut(id)?;
        // While it is dialled it is not active.
        let until = entry.active + entry.idle?;
        entry.until = (until > now && entry.is_open).then_some(until);
        entry.until
    }
}
