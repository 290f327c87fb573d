//! Frames of yamux that their sender never sent. What they may cost is the stream that they are
//! about; what cannot be read, or breaks a rule of the session, costs the link, which comes back.

use super::World;
use crate::{
    link::{Side, Wire},
    world::fast::{
        ALIEN,
        tap::{ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, UPDATE, frame},
    },
};

/// Streams of the agent's peer that the controller will not come to.
const FAR: u32 = 0x7000_0000;
/// The header of a connection to the Kubernetes API (P-120).
const HTTP: [u8; 10] = [1, 16, 0, 0, 0, 0, 0, 0, 0, 0];

impl World {
    /// Puts frames into the link that nobody sent.
    pub(super) fn yamux_lies(&mut self, link: u64) {
        if self.tap.as_ref().is_none_or(|tap| tap.link != link) {
            return;
        }
        let from = match self.rng.chance(500) {
            true => Side::Controller,
            false => Side::Agent,
        };
        self.count("yamux lies");
        let storm = self.weather.is_storm();
        let (bytes, broken) = match self.rng.below(10) {
            0 | 1 => (self.of_no_stream(), false),
            2 | 3 => (self.new_streams(from), false),
            4..=7 => (self.about_a_victim(), false),
            _ if storm => {
                self.count("yamux lies that break the session");
                (self.breaks_session(from), true)
            }
            _ => (self.pings(8), false),
        };
        if let Some(tap) = &mut self.tap {
            tap.tainted = true;
            tap.broken |= broken;
        }
        if broken {
            self.taint_all_fasts();
        }
        if !bytes.is_empty() {
            self.slip_in(link, from, Wire::Binary(bytes));
        }
    }

    /// What is taken for the rest of a frame that is not there is of any stream.
    fn taint_all_fasts(&mut self) {
        let streams = self.tap.iter().flat_map(|tap| tap.streams.values());
        for n in streams {
            if let Some(fast) = self.fasts.get_mut(n) {
                fast.tainted = true;
            }
        }
    }

    fn pings(&mut self, most: usize) -> Vec<u8> {
        let many = self.rng.len(1, most) as u32;
        let ping = |value| frame(PING, SYN, 0, value, b"");
        (0..many).flat_map(ping).collect()
    }

    /// What concerns nothing that is there.
    fn of_no_stream(&mut self) -> Vec<u8> {
        let id = FAR + 2 * self.rng.below(1000) as u32 + self.rng.below(2) as u32;
        match self.rng.below(7) {
            0 => frame(DATA, 0, id, 16, &ALIEN),
            1 => frame(DATA, FIN, id, 0, b""),
            2 => frame(UPDATE, ACK, id, u32::MAX, b""),
            3 => frame(UPDATE, RST, id, 0, b""),
            4 => frame(PING, ACK, 7, 77, b""),
            // Flags that mean nothing.
            5 => frame(PING, 0xfff0, 1, 1, b""),
            _ => self.pings(8),
        }
    }

    /// Streams that their opener never opened.
    fn new_streams(&mut self, from: Side) -> Vec<u8> {
        let storm = self.weather.is_storm();
        let most = if storm && self.rng.chance(200) {
            300
        } else {
            4
        };
        let many = self.rng.len(1, most) as u32;
        let first = FAR + 0x10_0000 + 1000 * self.rng.below(1 << 16) as u32;
        let odd = u32::from(from == Side::Agent);
        let shape = self.rng.below(7);
        let mut bytes = Vec::new();
        for id in (0..many).map(|i| first + 2 * i + odd) {
            bytes.extend(frame(UPDATE, SYN, id, 0, b""));
            let said: &[&[u8]] = match shape {
                0 => &[&HTTP, &ALIEN],
                1 => &[&HTTP[..5]],
                2 => &[b"\x01\x02\x00\x50\x00\x04evil\x00\x02db\x00\x00"],
                3 => &[b"\x01\x63\x00\x00\x00\x00\x00\x00\x00\x00"],
                4 => &[b"\x01\x01\xff\xff\xff\xff\xff"],
                _ => &[],
            };
            let said = said.concat();
            if !said.is_empty() {
                bytes.extend(frame(DATA, 0, id, said.len() as u32, &said));
            }
            if shape == 6 {
                bytes.extend(frame(DATA, FIN, id, 0, b""));
            }
        }
        bytes
    }

    /// About a stream that is there.
    fn about_a_victim(&mut self) -> Vec<u8> {
        let open: Vec<(u32, u64)> =
            self.tap
                .iter()
                .flat_map(|tap| &tap.streams)
                .fold(Vec::new(), |mut open, (id, n)| {
                    if self.fasts.get(n).is_some_and(crate::fast::Fast::is_open) {
                        open.push((*id, *n));
                    }
                    open
                });
        if open.is_empty() {
            return Vec::new();
        }
        let (id, n) = open[self.rng.len(0, open.len() - 1)];
        if let Some(fast) = self.fasts.get_mut(&n) {
            fast.tainted = true;
        }
        self.count("yamux lies about a stream");
        match self.rng.below(8) {
            0 => frame(UPDATE, 0, id, u32::MAX, b""),
            1 => frame(DATA, 0, id, 16, &ALIEN),
            2 => frame(DATA, FIN, id, 0, b""),
            3 => frame(UPDATE, RST, id, 0, b""),
            4 => [
                frame(DATA, FIN, id, 16, &ALIEN),
                frame(DATA, FIN, id, 16, &ALIEN),
            ]
            .concat(),
            5 => frame(DATA, RST | FIN | ACK, id, 16, &ALIEN),
            6 => {
                // Many small ones, as much as a message may have.
                let one = frame(DATA, 0, id, 1, b"x");
                one.repeat(self.rng.len(1, 2000))
            }
            _ => frame(UPDATE, ACK | FIN, id, 1, b""),
        }
    }

    /// What ends the session, at once or when more has come.
    fn breaks_session(&mut self, from: Side) -> Vec<u8> {
        let odd = u32::from(from == Side::Agent);
        let salt = self.rng.below(200) as u8;
        match self.rng.below(9) {
            0 => [&[1 + salt][..], &[0; 11]].concat(),
            1 => [&[0, 4 + salt][..], &[0; 10]].concat(),
            2 => {
                let len = self.rng.len(1, 300);
                self.rng.bytes(len)
            }
            // Ids that only the other end may give, and none.
            3 => frame(UPDATE, SYN, FAR + 1 - odd, 0, b""),
            4 => frame(UPDATE, SYN, 0, 0, b""),
            5 => frame(GO_AWAY, 0, 0, 1 + u32::from(salt), b""),
            6 => self.pings(2000),
            // More than is there: what follows is taken for it.
            7 => frame(DATA, 0, FAR + odd, 100_000, b""),
            _ => {
                if let Some(tap) = &mut self.tap {
                    tap.left |= from == Side::Agent;
                }
                frame(GO_AWAY, 0, 0, 0, b"")
            }
        }
    }
}
