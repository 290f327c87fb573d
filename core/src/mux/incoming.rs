//! What the peer does on its streams.

use bytes::Bytes;

use super::{
    Heard, Mux,
    head::{Heading, Parsed},
};
use crate::{
    config::Periods,
    error::PeerFault,
    input::{Kind, StreamId},
    rules::MAX_DATAGRAM,
    stats::Ending,
    time::Time,
    yamux::{Event, Role},
};

impl Mux {
    /// What happened next, if anything. `periods` give the header of a stream its time.
    pub(crate) fn heard(&mut self, now: Time, periods: &Periods) -> Option<Heard> {
        loop {
            if let Some(heard) = self.out.pop_front() {
                return Some(heard);
            }
            let heard = match self.session.event()? {
                Event::Opened(wire) => self.opened(wire, now + periods.dial),
                Event::Data(wire, data) => self.data(now, wire, data),
                Event::Finished(wire) => self.finished(now, wire),
                Event::Over(wire) => self.forget(wire).map(Heard::Over),
                Event::Reset(wire, by) => self.forget(wire).map(|id| Heard::Reset(id, by)),
                Event::Writable(wire) => self.by_wire.get(&wire).copied().map(Heard::Writable),
                Event::GoAway => None,
                Event::Ended(error) => Some(Heard::Ended(error, self.clear())),
            };
            if heard.is_some() {
                return heard;
            }
        }
    }

    fn opened(&mut self, wire: u32, due: Time) -> Option<Heard> {
        // P-119: only the gateway and the controller open streams.
        if self.role == Role::Server {
            self.end_wire(wire, Ending::Refused);
            return Some(Heard::Fault(PeerFault::Unsupported(
                "a stream of the agent",
            )));
        }
        self.heads.insert(wire, (due, Heading::default()));
        self.due.insert((due, wire));
        None
    }

    fn data(&mut self, now: Time, wire: u32, data: Bytes) -> Option<Heard> {
        let Some((due, heading)) = self.heads.get_mut(&wire) else {
            return self.deliver(now, wire, data);
        };
        match heading.push(&data) {
            Parsed::More => {
                self.session.consumed(now, wire, data.len());
                None
            }
            Parsed::Whole(head, used) => {
                self.due.remove(&(*due, wire));
                self.heads.remove(&wire);
                self.session.consumed(now, wire, used);
                // It follows once the stream was let in.
                self.early = Some((wire, data.slice(used.min(data.len())..)));
                Some(Heard::Asked(wire, head))
            }
            Parsed::Fault(fault) => {
                self.end_wire(wire, Ending::Fault);
                self.forget(wire);
                Some(Heard::Fault(fault))
            }
        }
    }

    pub(super) fn deliver(&mut self, now: Time, wire: u32, data: Bytes) -> Option<Heard> {
        let id = *self.by_wire.get(&wire)?;
        let entry = self.by_id.get_mut(&id)?;
        entry.active = now;
        self.bytes_in += data.len() as u64;
        let Some(datagrams) = &mut entry.datagrams else {
            return Some(Heard::Deliver(id, Kind::Bytes, data));
        };
        datagrams.push(data);
        self.deliver_datagrams(now, id);
        self.out.pop_front()
    }

    /// Hands datagrams over as far as the local end keeps up.
    pub(super) fn deliver_datagrams(&mut self, now: Time, id: StreamId) {
        let Some(entry) = self.by_id.get_mut(&id) else {
            return;
        };
        let Some(datagrams) = &mut entry.datagrams else {
            return;
        };
        while let Some(datagram) = datagrams.next() {
            self.out.push_back(match datagram.len() > MAX_DATAGRAM {
                false => Heard::Deliver(id, Kind::Datagram, datagram),
                true => {
                    datagrams.taken(datagram.len());
                    Heard::Fault(PeerFault::MessageTooLong)
                }
            });
        }
        if datagrams.ends() {
            if datagrams.is_cut() {
                self.out.push_back(Heard::Fault(PeerFault::Malformed));
            }
            self.out.push_back(Heard::HalfClosed(id));
        }
        while let Some(piece) = datagrams.release() {
            self.session.consumed(now, entry.wire, piece);
        }
    }

    fn finished(&mut self, now: Time, wire: u32) -> Option<Heard> {
        if self.heads.contains_key(&wire) {
            self.end_wire(wire, Ending::Fault);
            self.forget(wire);
            return Some(Heard::Fault(PeerFault::Target));
        }
        let id = *self.by_wire.get(&wire)?;
        let Some(datagrams) = &mut self.by_id.get_mut(&id)?.datagrams else {
            return Some(Heard::HalfClosed(id));
        };
        // Some may wait until the local end has taken others.
        datagrams.finished = true;
        self.deliver_datagrams(now, id);
        self.out.pop_front()
    }
}
