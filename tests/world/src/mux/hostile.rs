//! One end whose peer says anything.

use bytes::Bytes;
use controlplane_core::yamux::{Event, Role, Session};

use super::{Observer, ROLES, at, config, encode};
use crate::rng::Rng;

/// One end; what it is told of streams decides nothing but which are called.
struct Victim {
    session: Session,
    wrote: Observer,
    known: Vec<u32>,
    /// Given up by the local end, perhaps too late.
    left: Vec<u32>,
    unread: Vec<(u32, usize)>,
    bounds: [usize; 3],
}

impl Victim {
    fn new(role: Role, rng: &mut Rng) -> Self {
        let config = config(rng);
        let mut wrote = Observer::new(role == Role::Client);
        wrote.refuses = true;
        Self {
            session: Session::new(role, config, at(0)),
            wrote,
            known: Vec::new(),
            left: Vec::new(),
            unread: Vec::new(),
            bounds: [
                config.recv_total,
                config.send_total.max(1) + 200_000,
                config.streams.max(1),
            ],
        }
    }

    fn check(&self) {
        let [held_in, held_out, streams] = self.bounds;
        let session = &self.session;
        assert!(session.held_in() <= held_in, "{} held", session.held_in());
        assert!(
            session.held_out() <= held_out,
            "{} held",
            session.held_out()
        );
        assert!(
            session.streams() <= streams,
            "{} streams",
            session.streams()
        );
        assert!(!session.is_over() || session.deadline().is_none());
    }

    /// Takes an event; false where there is none.
    fn listen(&mut self) -> bool {
        let gone = |known: &mut Vec<u32>, unread: &mut Vec<(u32, usize)>, id: u32| {
            let at = known.iter().position(|other| *other == id);
            known.swap_remove(at.expect("nobody knows the stream"));
            unread.retain(|(other, _)| *other != id);
        };
        match self.session.event() {
            None => return false,
            Some(Event::Opened(id)) => {
                assert!(!self.known.contains(&id));
                self.known.push(id);
            }
            Some(Event::Data(id, data)) => {
                assert!(self.known.contains(&id) && !data.is_empty());
                self.unread.push((id, data.len()));
            }
            Some(Event::Finished(id) | Event::Writable(id)) => assert!(self.known.contains(&id)),
            Some(Event::Over(id) | Event::Reset(id, _)) if self.left.contains(&id) => {
                self.left.retain(|other| *other != id);
            }
            Some(Event::Over(id) | Event::Reset(id, _)) => {
                gone(&mut self.known, &mut self.unread, id);
            }
            Some(Event::GoAway) => {}
            Some(Event::Ended(_)) => {
                assert!(self.session.is_over());
                self.known.clear();
                self.unread.clear();
            }
        }
        true
    }

    fn call(&mut self, now: u64, rng: &mut Rng) {
        let id = match self.known.len() {
            0 => rng.below(9) as u32,
            n => self.known[rng.len(0, n - 1)],
        };
        match rng.below(12) {
            0 => self.known.extend(self.session.open(at(now))),
            1 => self.session.accept(id),
            2 | 3 => {
                _ = self
                    .session
                    .send(id, Bytes::from(vec![7; rng.len(0, 100_000)]))
            }
            4 => self.session.finish(id),
            5 => {
                self.session.reset(id);
                self.left.push(id);
                self.known.retain(|other| *other != id);
                self.unread.retain(|(other, _)| *other != id);
            }
            6 if !self.unread.is_empty() => {
                let at_random = rng.len(0, self.unread.len() - 1);
                let (id, len) = self.unread.swap_remove(at_random);
                self.session.consumed(at(now), id, len);
            }
            7 => (0..rng.len(1, 20)).for_each(|_| _ = self.listen()),
            8 => self.session.tick(at(now)),
            9 if rng.chance(50) => self.session.go_away(),
            // Nonsense, which may cost its stream, and nothing else.
            10 => self.session.consumed(at(now), id, rng.len(0, 1 << 20)),
            _ => self.write(now),
        }
    }

    fn write(&mut self, now: u64) {
        if let Some(bytes) = self.session.transmit(at(now)) {
            self.wrote.read(&bytes);
        }
    }

    fn end(mut self) {
        for _ in 0..100_000 {
            let Some(bytes) = self.session.transmit(at(0)) else {
                break;
            };
            self.wrote.read(&bytes);
        }
        assert!(!self.session.wants_transmit(), "no end");
        while self.listen() {}
        for id in std::mem::take(&mut self.known) {
            self.session.reset(id);
        }
        let session = &self.session;
        assert_eq!(
            (session.streams(), session.held_in(), session.held_out()),
            (0, 0, 0)
        );
    }
}

/// A frame that may be anything, and is mostly near something sensible.
fn frame(rng: &mut Rng) -> Vec<u8> {
    let kind = match rng.below(20) {
        0..8 => 0,
        8..16 => 1,
        16..18 => 2,
        18 => 3,
        _ => rng.below(256) as u8,
    };
    let flags = match rng.below(8) {
        0..3 => 0,
        3 | 4 => 1,
        5 => 4,
        6 => 8,
        _ => rng.below(1 << 16) as u16,
    };
    let id = match rng.below(30) {
        0 => rng.word() as u32,
        1 => u32::MAX - rng.below(4) as u32,
        _ => rng.below(40) as u32,
    };
    if kind == 0 {
        let len = match rng.below(4) {
            0 => 0,
            1 => rng.len(0, 20),
            _ => rng.len(0, 80_000),
        };
        return encode(0, flags, id, len as u32, &vec![9; len]);
    }
    let length = match rng.below(4) {
        0 => 0,
        1 => rng.word() as u32,
        2 => rng.below(3) as u32,
        _ => rng.below(300_000) as u32,
    };
    encode(kind, flags, id, length, b"")
}

/// One end, called in any order, whose peer says anything.
///
/// # Panics
///
/// If a promise of the session is broken.
pub fn hostile(rng: &mut Rng) {
    let role = ROLES[rng.len(0, 1)];
    let mut victim = Victim::new(role, rng);
    let damage = rng.below(30);
    let mut now = 0;
    for _ in 0..rng.len(5, 400) {
        now += rng.below(3) * rng.below(20_000);
        if rng.chance(500) {
            let mut bytes = frame(rng);
            if rng.chance(damage) {
                let at = rng.len(0, bytes.len() - 1);
                bytes[at] ^= 1 << rng.below(8);
            }
            let cut = rng.len(0, bytes.len());
            let (one, other) = bytes.split_at(cut);
            victim.session.receive(at(now), one);
            victim.session.receive(at(now), other);
        } else {
            victim.call(now, rng);
        }
        victim.check();
    }
    victim.end();
}

/// Raw bytes of a peer, to both roles.
///
/// # Panics
///
/// If a promise of the session is broken.
pub fn garbage(data: &[u8]) {
    for role in ROLES {
        for piece in [1, 13, usize::MAX] {
            let mut victim = Victim::new(role, &mut Rng::new(0));
            for id in 0..3 {
                victim.known.extend(victim.session.open(at(id)));
            }
            for bytes in data.chunks(piece.min(data.len().max(1))) {
                victim.session.receive(at(0), bytes);
                victim.check();
                while piece != 13 && victim.listen() {}
                while let Some((id, len)) = victim.unread.pop() {
                    victim.session.consumed(at(0), id, len);
                }
                victim.check();
            }
            victim.end();
        }
    }
}
