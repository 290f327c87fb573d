//! One stream of the fast mode as its two ends saw it: bytes arrive as they were sent, datagrams
//! whole and each once, each direction ends on its own, and who is told that both have ended was
//! given everything.

mod plan;
#[cfg(test)]
mod tests;
mod windows;

use bytes::Bytes;
use controlplane_core::{Kind, StreamId, Time, Transport, Tunnel as Named};

pub use self::plan::{Carries, Finish, Plan, Voice};
use crate::{
    content::{Said, Way, message, piece},
    exchange::{Check, Reader},
    link::Side,
    rng::Rng,
};

/// The first port of the service that these streams may lead to.
pub const FAST_PORT: u16 = 2000;
/// So many of them may be dialled.
pub const FAST_PORTS: u16 = 200;
/// Their contents differ from those of requests.
const SALT: u64 = 1 << 40;

/// How a stream was over for one of its ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Over {
    /// The machine dropped it.
    Dropped,
    /// The host of this end is gone, or was never told of a stream that is.
    Gone,
    /// Both directions ended in order.
    Order,
    /// This end broke it off.
    Reset,
}

/// What the tap on the wire saw of one direction, by its sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct Framed {
    /// Bytes in frames of data, the header of the stream included.
    pub sent: usize,
    /// What the receiver granted beyond the first window.
    pub granted: usize,
    /// It ended.
    pub fin: bool,
}

/// One of the two ends.
#[derive(Debug, Default)]
pub struct End {
    /// The stream at its machine.
    pub id: Option<StreamId>,
    /// How it is over here.
    pub over: Option<Over>,
    /// Bytes that the machine took from it.
    pub said: usize,
    /// Lengths of the datagrams that the machine took.
    pub datagrams: Vec<usize>,
    /// It waits for room.
    pub blocked: bool,
    /// It said that it has no more to say.
    pub finished: bool,
    /// It goes on already.
    pub busy: bool,
    /// What it was given.
    pub reader: Reader,
    /// Datagrams that it was given.
    pub heard: usize,
    /// Bytes that it took of what it was given.
    pub taken: usize,
    /// It was told that the other has no more to say.
    pub heard_end: bool,
}

impl End {
    /// Whether it has the stream.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.id.is_some() && self.over.is_none()
    }

    /// It is over for this end.
    pub fn ends(&mut self, how: Over) {
        self.over.get_or_insert(how);
        self.reader.clear();
    }
}

/// One stream.
#[derive(Debug)]
pub struct Fast {
    /// Its number.
    pub n: u64,
    /// What its ends intend.
    pub plan: Plan,
    /// The service at the agent, and the client at the controller.
    pub ends: [End; 2],
    /// By sender.
    pub framed: [Framed; 2],
    /// It began on this connection of the controller.
    pub session: u64,
    /// The service accepted.
    pub accepted: bool,
    /// When the agent opened it.
    pub dialed: Time,
    /// When something passed last at the agent.
    pub active: Time,
    /// Somebody put frames of it into the link.
    pub tainted: bool,
    /// What its content is made of.
    content: u64,
}

impl Fast {
    /// Stream `n` before it is opened.
    #[must_use]
    pub fn new(n: u64, plan: Plan, session: u64) -> Self {
        Self {
            n,
            plan,
            ends: [End::default(), End::default()],
            framed: [Framed::default(); 2],
            session,
            accepted: false,
            dialed: Time::ZERO,
            active: Time::ZERO,
            tainted: false,
            content: n | SALT,
        }
    }

    /// Has its client begin with another byte than these, by which it is known at the agent, however
    /// little of it comes at first.
    pub fn begin_apart(&mut self, taken: &[u8]) {
        let contents = (0..1000).map(|turn| self.n | SALT | turn << 48);
        let mut apart = contents.filter(|content| !taken.contains(&first_byte(*content)));
        self.content = apart.next().unwrap_or(self.content);
    }

    /// What its client begins with.
    #[must_use]
    pub fn first_byte(&self) -> u8 {
        first_byte(self.content)
    }

    /// What it is called at the controller.
    #[must_use]
    pub fn named(&self) -> Named {
        Named {
            transport: match self.plan.carries {
                Carries::Udp => Transport::Udp,
                Carries::Http | Carries::Tcp => Transport::Tcp,
            },
            tunnel_id: format!("fast-{}", self.n % 3),
            service_name: "pg".into(),
            service_namespace: if self.plan.forbidden { "secret" } else { "db" }.into(),
            service_port: self.port(),
            ..Named::default()
        }
    }

    /// The port of its service.
    #[must_use]
    pub const fn port(&self) -> u16 {
        FAST_PORT + (self.n % FAST_PORTS as u64) as u16
    }

    /// Length of the header in front of what the client says (P-120).
    #[must_use]
    pub fn header(&self) -> usize {
        let named = self.named();
        let names = [
            &named.service_name,
            &named.service_namespace,
            &named.tunnel_id,
        ];
        let names: usize = names.iter().map(|name| name.len()).sum();
        10 + if self.plan.carries == Carries::Http {
            0
        } else {
            names
        }
    }

    /// The end at this side.
    pub const fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    /// Whether the agent has not opened it yet, as far as anybody knows.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.ends[Side::Agent as usize].id.is_none()
    }

    /// Whether an end has it still.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.ends.iter().any(End::is_open)
    }

    fn wrong(&self, what: &str) -> String {
        format!("stream {}: {what}: {self:?}", self.n)
    }

    // ------------------------------------------------------------ content

    /// What this side says next.
    pub fn next(&self, side: Side, rng: &mut Rng) -> Bytes {
        let (end, voice) = (&self.ends[side as usize], &self.plan.voices[side as usize]);
        if self.plan.carries == Carries::Udp {
            let len = rng.len(16, voice.piece.max(16));
            return datagram(self.n, way(side), end.datagrams.len(), len);
        }
        let len = rng.len(1, voice.piece).min(voice.amount - end.said);
        piece(self.content, way(side), end.said, len)
    }

    /// Whether this side has said all that it intends to say.
    #[must_use]
    pub fn is_said(&self, side: Side) -> bool {
        let end = &self.ends[side as usize];
        let said = match self.plan.carries {
            Carries::Udp => end.datagrams.len(),
            Carries::Http | Carries::Tcp => end.said,
        };
        said >= self.plan.voices[side as usize].amount
    }

    /// The machine of this side took that much.
    pub fn said(&mut self, side: Side, len: usize) {
        let udp = self.plan.carries == Carries::Udp;
        let end = self.end(side);
        end.said += len;
        if udp {
            end.datagrams.push(len);
        }
    }

    /// Whether the client's words may begin so.
    #[must_use]
    pub fn begins_with(&self, data: &[u8]) -> bool {
        let said = self.ends[Side::Controller as usize].said;
        data.len() <= said && piece(self.content, way(Side::Controller), 0, data.len()) == data
    }

    /// This side is given something.
    ///
    /// # Errors
    ///
    /// It is not what the other said next.
    pub fn hears(&mut self, side: Side, kind: Kind, data: &[u8]) -> Check {
        let (n, content, from) = (self.n, self.content, side.other());
        let (said, udp) = (
            self.ends[from as usize].said,
            self.plan.carries == Carries::Udp,
        );
        if self.ends[side as usize].heard_end && !self.tainted {
            return Err(self.wrong("data behind the end"));
        }
        let expected = if udp { Kind::Datagram } else { Kind::Bytes };
        if kind != expected {
            return Err(self.wrong("data of another kind"));
        }
        if !udp {
            let tainted = self.tainted;
            let heard = self
                .end(side)
                .reader
                .deliver(content, way(from), data, said);
            return if tainted { Ok(()) } else { heard };
        }
        let at = self.ends[side as usize].heard;
        let len = self.ends[from as usize].datagrams.get(at).copied();
        let right = len.is_some_and(|len| datagram(n, way(from), at, len) == data);
        let end = self.end(side);
        end.reader.keep(data.len());
        end.heard += 1;
        match right || self.tainted {
            true => Ok(()),
            false => Err(self.wrong("a datagram that was not sent next")),
        }
    }

    /// Whether this side was given all that the other's machine took.
    #[must_use]
    pub fn is_whole(&self, side: Side) -> bool {
        let (from, to) = (&self.ends[side.other() as usize], &self.ends[side as usize]);
        match self.plan.carries {
            Carries::Udp => to.heard == from.datagrams.len(),
            Carries::Http | Carries::Tcp => to.reader.got == from.said,
        }
    }

    /// This side is told that the other has no more to say.
    ///
    /// # Errors
    ///
    /// It has, or was told before.
    pub fn hears_end(&mut self, side: Side) -> Check {
        let fine = self.ends[side.other() as usize].finished && self.is_whole(side);
        let again = std::mem::replace(&mut self.end(side).heard_end, true);
        match (fine && !again) || self.tainted {
            true => Ok(()),
            false => Err(self.wrong("an end that is none, or came before what was said")),
        }
    }

    /// This side is told that both directions have ended.
    ///
    /// # Errors
    ///
    /// They have not, or not everything was taken.
    pub fn is_over(&mut self, side: Side) -> Check {
        // Datagrams are consumed as they are cut out of the stream.
        let udp = self.plan.carries == Carries::Udp;
        let end = self.end(side);
        let taken = end.reader.charge == 0 || udp;
        let fine = end.finished && end.heard_end && taken;
        end.ends(Over::Order);
        match fine || self.tainted {
            true => Ok(()),
            false => Err(self.wrong("over, and not in order")),
        }
    }
}

/// Which way what this side says goes.
const fn way(side: Side) -> Way {
    match side {
        Side::Controller => Way::Request,
        Side::Agent => Way::Answer,
    }
}

fn first_byte(content: u64) -> u8 {
    piece(content, way(Side::Controller), 0, 1)[0]
}

fn datagram(n: u64, way: Way, place: usize, len: usize) -> Bytes {
    let said = Said {
        kind: Kind::Binary,
        lead: None,
        len,
    };
    message(n | SALT, way, place, said)
}
