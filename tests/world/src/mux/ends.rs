//! Two ends, the pipes between them, and the model of what their local ends know.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};
use controlplane_core::{
    Limits, SendError, Time,
    yamux::{Config, INITIAL_WINDOW, Role, Session},
};

use super::{Observer, ROLES, at};
use crate::rng::{Rng, mix};

/// The bytes of a stream in the direction that starts at `side`, from `from` on.
#[must_use]
pub fn content(id: u32, side: usize, from: usize, len: usize) -> Bytes {
    let salt = id.wrapping_mul(0x85EB_CA6B) ^ side as u32;
    let byte = |n: usize| ((n as u32 ^ salt).wrapping_mul(0x9E37_79B1) >> 23) as u8;
    (from..from + len).map(byte).collect()
}

/// Something that goes wrong on the way, for tests that it would be seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mistake {
    /// A byte of data is another.
    Flip,
    /// Grants are kept back.
    Grant,
    /// Ends of streams are kept back.
    Fin,
}

/// A stream as one local end knows it.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) sent: usize,
    pub(super) finished: bool,
    /// A piece that was refused, until the session says that there is room.
    pub(super) refused: Option<usize>,
    pub(super) received: usize,
    pub(super) consumed: usize,
    /// Pieces that were not consumed.
    pub(super) unread: VecDeque<usize>,
    pub(super) peer_finished: bool,
    pub(super) over: bool,
    /// Somebody reset it.
    pub(super) broken: bool,
    /// This end did.
    pub(super) reset: bool,
    pub(super) accepted: bool,
}

impl Flow {
    pub(super) fn is_open(&self) -> bool {
        !self.over && !self.broken
    }
}

/// One end with its local end, and the pipe that leads away from it.
#[derive(Debug)]
pub(super) struct End {
    pub(super) session: Session,
    pub(super) config: Config,
    pub(super) flows: BTreeMap<u32, Flow>,
    pub(super) pipe: BytesMut,
    pub(super) wrote: Observer,
    /// As far as the other end has read.
    pub(super) heard: Observer,
}

/// Two ends.
#[derive(Debug)]
pub struct Pair {
    pub(super) ends: [End; 2],
    pub(super) now: Time,
    digest: u64,
    /// What goes wrong.
    pub mistake: Option<Mistake>,
}

impl Pair {
    /// Two ends with nothing said.
    #[must_use]
    pub fn new(configs: [Config; 2]) -> Self {
        let end = |side: usize| End {
            session: Session::new(ROLES[side], configs[side], at(0)),
            config: configs[side],
            flows: BTreeMap::new(),
            pipe: BytesMut::new(),
            wrote: Observer::new(ROLES[side] == Role::Client),
            heard: Observer::new(ROLES[side] == Role::Client),
        };
        Self {
            ends: [end(0), end(1)],
            now: at(0),
            digest: 0,
            mistake: None,
        }
    }

    /// Of everything that was written.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// One step; which, the caller decides.
    pub fn step(&mut self, what: usize, rng: &mut Rng) {
        let side = rng.len(0, 1);
        let id = self.pick(side, rng);
        match (what, id) {
            (0, _) => self.open(side),
            (1, Some(id)) => self.accept(side, id),
            (2, Some(id)) => {
                let most = 1 << rng.len(0, 18);
                let len = rng.len(0, most);
                // As much as is taken, now and then.
                for _ in 0..rng.below(2) * rng.below(20) + 1 {
                    if !self.send(side, id, len) {
                        break;
                    }
                }
            }
            (3, Some(id)) if rng.chance(300) => self.finish(side, id),
            (4, Some(id)) if rng.chance(200) => self.reset(side, id),
            (5, Some(id)) => self.consume(side, id, rng.len(1, 8)),
            (6, _) => (0..rng.len(1, 40)).for_each(|_| _ = self.write(side)),
            (7, _) => {
                let most = 1 << rng.len(3, 20);
                self.deliver(side, rng.len(0, most));
            }
            (8, _) => {
                for _ in 0..rng.len(1, 30) {
                    self.listen(side);
                }
            }
            (9, _) => {
                self.now = self.now + rng.millis(0, 2000);
                self.ends[side].session.tick(self.now);
            }
            _ => {}
        }
    }

    fn pick(&self, side: usize, rng: &mut Rng) -> Option<u32> {
        let flows = &self.ends[side].flows;
        let open: Vec<u32> = flows
            .iter()
            .filter(|(_, f)| f.is_open())
            .map(|(id, _)| *id)
            .collect();
        // Often the same, so that much is said on it.
        let last = open.len().checked_sub(1)?;
        Some(match rng.chance(500) {
            true => open[0],
            false => open[rng.len(0, last)],
        })
    }

    pub(super) fn flow(&mut self, side: usize, id: u32) -> &mut Flow {
        self.ends[side]
            .flows
            .get_mut(&id)
            .expect("a stream nobody knows")
    }

    /// Opens a stream.
    pub fn open(&mut self, side: usize) {
        if let Ok(id) = self.ends[side].session.open(self.now) {
            let old = self.ends[side].flows.insert(id, Flow::default());
            assert!(old.is_none(), "{id} twice");
        }
    }

    pub(super) fn accept(&mut self, side: usize, id: u32) {
        self.flow(side, id).accepted = true;
        self.ends[side].session.accept(id);
    }

    /// Offers the next bytes of a stream.
    pub fn send(&mut self, side: usize, id: u32, len: usize) -> bool {
        let from = self.flow(side, id).sent;
        let data = content(id, side, from, len);
        let end = &mut self.ends[side];
        let before = end.session.held_out();
        let outcome = end.session.send(id, data.clone());
        let total = end.config.send_total.max(1);
        let flow = self.flow(side, id);
        match outcome {
            Ok(()) => {
                assert!(!flow.finished, "{id} took data after its end");
                assert!(len == 0 || before < total, "{id} above the total");
                flow.sent += len;
                true
            }
            Err(SendError::Blocked(back)) => {
                assert!(back == data && before > 0, "{id} refused at {before}");
                flow.refused = Some(len);
                false
            }
            Err(SendError::Closed(back)) => {
                assert!(back == data);
                // It may be gone already, which the local end was not told yet.
                let gone = flow.finished || self.may_be_gone(side, id);
                assert!(gone, "{id} closed");
                false
            }
        }
    }

    /// Whether somebody may have reset it.
    fn may_be_gone(&self, side: usize, id: u32) -> bool {
        let rst = |observer: &Observer| observer.streams.get(&id).is_some_and(|seen| seen.rst);
        let small = self.ends[side].config.recv_total < 64 << 20;
        rst(&self.ends[1 - side].heard) || rst(&self.ends[side].wrote) || small
    }

    /// Ends this direction.
    pub fn finish(&mut self, side: usize, id: u32) {
        self.flow(side, id).finished = true;
        self.flow(side, id).refused = None;
        self.ends[side].session.finish(id);
    }

    pub(super) fn reset(&mut self, side: usize, id: u32) {
        let flow = self.flow(side, id);
        (flow.broken, flow.reset) = (true, true);
        self.ends[side].session.reset(id);
    }

    pub(super) fn consume(&mut self, side: usize, id: u32, pieces: usize) {
        for _ in 0..pieces {
            let now = self.now;
            let flow = self.flow(side, id);
            let Some(len) = flow.unread.pop_front() else {
                return;
            };
            flow.consumed += len;
            self.ends[side].session.consumed(now, id, len);
        }
    }

    /// One end writes once; false where it has nothing.
    pub(super) fn write(&mut self, side: usize) -> bool {
        let end = &mut self.ends[side];
        let wanted = end.session.wants_transmit();
        let Some(mut bytes) = end.session.transmit(self.now) else {
            assert!(
                !wanted || !end.session.wants_transmit(),
                "nothing of what it has"
            );
            return false;
        };
        assert!(wanted && !bytes.is_empty());
        let frames = end.wrote.read(&bytes);
        assert!(end.wrote.is_between(), "half a frame");
        let chunk = end.config.chunk.max(1);
        assert!(
            bytes.len() <= chunk + 12 * 67,
            "{} bytes at once",
            bytes.len()
        );
        for frame in frames {
            let window = self.ends[1 - side].heard.window(frame.stream);
            let sent = self.ends[side].wrote.data(frame.stream);
            assert!(sent <= window, "{frame:?}: {sent} of {window} granted");
        }
        for byte in &bytes {
            self.digest = mix(self.digest ^ u64::from(*byte));
        }
        bytes = self.spoil(bytes);
        self.ends[side].pipe.extend_from_slice(&bytes);
        true
    }

    fn spoil(&mut self, bytes: Bytes) -> Bytes {
        let starts = |kind: u8, flags: u8| bytes[1] == kind && bytes[3] == flags;
        match self.mistake {
            Some(Mistake::Flip) if starts(0, 0) => {
                self.mistake = None;
                let mut bytes = bytes.to_vec();
                bytes[12] ^= 1;
                bytes.into()
            }
            Some(Mistake::Grant) if starts(1, 0) => bytes.slice(12..),
            Some(Mistake::Fin) if starts(0, 4) => bytes.slice(12..),
            _ => bytes,
        }
    }

    /// Some of what one end wrote reaches the other.
    pub(super) fn deliver(&mut self, side: usize, len: usize) {
        let len = len.min(self.ends[side].pipe.len());
        let bytes = self.ends[side].pipe.copy_to_bytes(len);
        self.ends[side].heard.read(&bytes);
        self.ends[1 - side].session.receive(self.now, &bytes);
    }

    /// What must hold after every step.
    pub fn check(&self) {
        for end in &self.ends {
            let Config {
                recv_total,
                send_total,
                streams,
                window,
                ..
            } = end.config;
            let (held_in, held_out) = (end.session.held_in(), end.session.held_out());
            assert!(held_in <= recv_total, "holds {held_in} of the peer");
            assert!(
                held_out < send_total.max(1) + (1 << 18) + Limits::MIN_CHARGE,
                "{held_out}"
            );
            assert!(end.session.streams() <= streams.max(1));
            let open = end.flows.iter().filter(|(_, flow)| flow.is_open());
            let mut sum = 0;
            for (id, flow) in open {
                let granted = end.wrote.window(*id) - flow.consumed as u64;
                assert!(
                    granted <= window.max(INITIAL_WINDOW) as u64,
                    "{id}: {granted} granted"
                );
                sum += granted;
            }
            let least = INITIAL_WINDOW * end.flows.len();
            assert!(sum <= (recv_total + least) as u64, "all windows: {sum}");
        }
    }
}
