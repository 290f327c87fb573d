//! Somebody who taps the wire while it carries yamux: windows are kept, and ends come last.

use std::collections::BTreeMap;

use controlplane_core::{ConnId, yamux::INITIAL_WINDOW};

use super::World;
use crate::{exchange::Check, link::Side};

pub(in super::super) const HEADER: usize = 12;
pub(in super::super) const DATA: u8 = 0;
pub(in super::super) const UPDATE: u8 = 1;
pub(in super::super) const PING: u8 = 2;
pub(in super::super) const GO_AWAY: u8 = 3;
pub(in super::super) const SYN: u16 = 1;
pub(in super::super) const ACK: u16 = 2;
pub(in super::super) const FIN: u16 = 4;
pub(in super::super) const RST: u16 = 8;

/// One session as the controller has it.
#[derive(Debug)]
pub(in super::super) struct Tap {
    number: u64,
    /// The controller's connection, and the link of it.
    pub(in super::super) conn: ConnId,
    pub(in super::super) link: u64,
    /// The id of the next stream of the controller (P-119).
    next: u32,
    pub(in super::super) streams: BTreeMap<u32, u64>,
    /// The agent takes no more streams, or so the controller was told.
    pub(in super::super) left: bool,
    /// The agent said so itself.
    leaving: bool,
    /// Somebody else put streams into it.
    pub(in super::super) tainted: bool,
    /// Somebody put into it what cannot be read, so that sooner or later it ends.
    pub(in super::super) broken: bool,
}

/// A frame.
#[derive(Clone, Copy, Debug)]
struct Seen {
    kind: u8,
    flags: u16,
    stream: u32,
    length: u32,
}

impl Tap {
    pub(in super::super) const fn new(number: u64, conn: ConnId, link: u64) -> Self {
        Self {
            number,
            conn,
            link,
            next: 2,
            streams: BTreeMap::new(),
            left: false,
            leaving: false,
            tainted: false,
            broken: false,
        }
    }

    pub(in super::super) const fn number(&self) -> u64 {
        self.number
    }

    pub(in super::super) const fn is_tainted(&self) -> bool {
        self.tainted
    }

    /// Whether the controller may open no more streams.
    pub(in super::super) const fn is_left(&self) -> bool {
        self.left || self.leaving
    }

    /// The controller opened its next stream.
    pub(in super::super) fn opened(&mut self, n: u64) {
        self.streams.insert(self.next, n);
        self.next += 2;
    }
}

/// A frame as bytes.
pub(in super::super) fn frame(
    kind: u8,
    flags: u16,
    stream: u32,
    length: u32,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::from([0, kind]);
    bytes.extend(flags.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Whether a binary message of a machine is yamux: the name in front of an answer (P-039) is longer.
pub(in super::super) fn is_yamux(message: &[u8]) -> bool {
    matches!(message, [0, 0..=3, ..])
}

/// The frames of a message, which begins and ends with one.
fn frames(message: &[u8]) -> Option<Vec<Seen>> {
    let mut all = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let (head, after) = rest.split_first_chunk::<HEADER>()?;
        let [version, kind, f1, f0, s3, s2, s1, s0, l3, l2, l1, l0] = *head;
        let seen = Seen {
            kind,
            flags: u16::from_be_bytes([f1, f0]),
            stream: u32::from_be_bytes([s3, s2, s1, s0]),
            length: u32::from_be_bytes([l3, l2, l1, l0]),
        };
        let payload = if kind == DATA {
            seen.length as usize
        } else {
            0
        };
        let (_, after) = after.split_at_checked(payload)?;
        if version != 0 || kind > GO_AWAY {
            return None;
        }
        all.push(seen);
        rest = after;
    }
    Some(all)
}

impl World {
    /// A message of yamux that a machine sends.
    pub(in super::super) fn overhear_yamux(
        &mut self,
        link: u64,
        from: Side,
        message: &[u8],
    ) -> Check {
        self.count("yamux messages");
        let Some(all) = frames(message) else {
            return Err(format!("{from:?} sends what is not whole frames of yamux"));
        };
        let Some(tap) = self.tap.as_mut().filter(|tap| tap.link == link) else {
            return Ok(());
        };
        let limits = match from {
            Side::Agent => self.agent.limits(),
            Side::Controller => self.controller.limits(),
        };
        let mut windows = 0;
        for seen in all {
            tap.leaving |= seen.kind == GO_AWAY && from == Side::Agent;
            if seen.kind == GO_AWAY && seen.length != 0 && !tap.tainted {
                return Err(format!("{from:?} gives a sound session up: {seen:?}"));
            }
            let known = tap.streams.get(&seen.stream);
            let Some(fast) = known.and_then(|n| self.fasts.get_mut(n)) else {
                let ours = matches!(seen.kind, DATA | UPDATE) && !tap.tainted;
                if ours && seen.flags & RST == 0 {
                    return Err(format!("{from:?} speaks of no stream: {seen:?}"));
                }
                continue;
            };
            let fin = seen.flags & FIN != 0;
            let spent = fast.is_spent(from, INITIAL_WINDOW);
            match seen.kind {
                DATA => fast.frames(from, seen.length as usize, fin, INITIAL_WINDOW)?,
                UPDATE => {
                    let grant = seen.length as usize;
                    fast.grants(from, grant, INITIAL_WINDOW, limits.window)?;
                }
                _ => {}
            }
            windows += u64::from(!spent && fast.is_spent(from, INITIAL_WINDOW));
        }
        for _ in 0..windows {
            self.count("fast: windows spent");
        }
        Ok(())
    }
}
