//! One TCP or UDP tunnel as its two ends saw it: bytes arrive as they were sent, datagrams whole and
//! each once, and who is told that it ended in order was given everything.

use bytes::Bytes;
use controlplane_core::{Kind, StreamEnd, StreamId, Time, Transport, Tunnel as Named};

use crate::{
    content::{Said, Way, message, piece},
    exchange::{Check, Reader},
    rng::Rng,
};

/// The first port of the service that tunnels may lead to.
pub const FIRST_PORT: u16 = 1000;
/// So many of them may be dialled.
pub const PORTS: u16 = 300;

/// What a service does when it is dialled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dial {
    /// It accepts.
    Accepts,
    /// It refuses.
    Refuses,
    /// It does not answer before the calm.
    Silent,
}

/// What the two ends of a tunnel intend.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Datagrams, and not a stream of bytes.
    pub udp: bool,
    /// It leads where no tunnel may lead.
    pub forbidden: bool,
    /// What the service does.
    pub dial: Dial,
    /// So many bytes or datagrams from the client.
    pub up: usize,
    /// So many from the service.
    pub down: usize,
    /// The client ends it, after what it has to say.
    pub client_ends: bool,
    /// How the service ends it, after what it has to say.
    pub service_end: Option<StreamEnd>,
    /// The service does not end it when it is told to.
    pub deaf: bool,
    /// Some datagrams are empty: such cannot be told from each other.
    pub empties: bool,
    /// The longest piece, or datagram.
    pub piece: usize,
    /// Between two steps of the client.
    pub client_pace: (u64, u64),
    /// Between two steps of the service.
    pub service_pace: (u64, u64),
}

impl Plan {
    /// Any.
    pub fn new(rng: &mut Rng, storm: bool) -> Self {
        let udp = rng.chance(400);
        let amount = |rng: &mut Rng| match (udp, rng.below(4)) {
            (_, 0) => 0,
            (true, _) => rng.len(1, 30),
            (false, 3) => rng.len(3000, 60_000),
            (false, _) => rng.len(1, 3000),
        };
        let pace = |rng: &mut Rng| match rng.below(10) {
            0 if storm => (2000, 40_000),
            1..=4 => (1, 400),
            _ => (0, 10),
        };
        Self {
            udp,
            forbidden: rng.chance(50),
            dial: match rng.below(20) {
                0 => Dial::Refuses,
                1 => Dial::Silent,
                _ => Dial::Accepts,
            },
            up: amount(rng),
            down: amount(rng),
            client_ends: rng.chance(500),
            service_end: match rng.below(4) {
                0 => None,
                1 => Some(StreamEnd::Broken("connection reset".into())),
                _ => Some(StreamEnd::Clean),
            },
            deaf: rng.chance(50),
            empties: storm,
            piece: rng.len(100, 3000),
            client_pace: pace(rng),
            service_pace: pace(rng),
        }
    }

    /// One that nothing can make fail.
    pub fn sound(rng: &mut Rng) -> Self {
        let udp = rng.chance(500);
        Self {
            udp,
            forbidden: false,
            dial: Dial::Accepts,
            up: if udp { 5 } else { 2000 },
            down: if udp { 5 } else { 2000 },
            client_ends: udp,
            service_end: Some(StreamEnd::Clean),
            deaf: false,
            empties: false,
            piece: 500,
            client_pace: (0, 10),
            service_pace: (0, 10),
        }
    }
}

/// How a tunnel ended for its client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// The client ended it, or its host is gone.
    Client,
    /// It failed.
    Failed,
    /// The service ended it in order.
    Finished,
}

/// One direction.
#[derive(Debug, Default)]
pub struct Lane {
    /// Bytes that the sender's machine took.
    pub bytes: usize,
    /// Lengths of the datagrams that it took.
    pub datagrams: Vec<usize>,
    /// How many of them the receiver was given, or will not be given any more.
    pub heard: usize,
    /// What the receiver was given.
    pub reader: Reader,
}

/// One tunnel.
#[derive(Debug)]
pub struct Tunnel {
    /// Its number.
    pub n: u64,
    /// What its ends intend.
    pub plan: Plan,
    /// The stream at the controller.
    pub client: Option<StreamId>,
    /// How it ended there.
    pub ended: Option<Ended>,
    /// When the client ended it.
    pub left: Option<Time>,
    /// The client broke off, and did not end it in order.
    pub broken: bool,
    /// What was dropped of what the client had not taken, as the limits count it.
    pub discarded: Option<usize>,
    /// The client waits for room.
    pub client_blocked: bool,
    /// The stream at the agent, while there is one.
    pub service: Option<StreamId>,
    /// Nothing came for the service since the agent opened it.
    pub fresh: bool,
    /// When the agent opened it.
    pub dialed: Time,
    /// The service accepted.
    pub accepted: bool,
    /// The service waits for room.
    pub service_blocked: bool,
    /// When the service was told that no more comes.
    pub told: Option<Time>,
    /// How the service ended it.
    pub service_ended: Option<StreamEnd>,
    /// The agent dropped it while so much was waiting that it had to.
    pub overrun: bool,
    /// When something passed last.
    pub active: Time,
    /// From the client.
    pub up: Lane,
    /// To the client.
    pub down: Lane,
}

impl Tunnel {
    /// Tunnel `n` before it is opened.
    #[must_use]
    pub fn new(n: u64, plan: Plan) -> Self {
        Self {
            n,
            plan,
            client: None,
            ended: None,
            left: None,
            broken: false,
            discarded: None,
            client_blocked: false,
            service: None,
            fresh: false,
            dialed: Time::ZERO,
            accepted: false,
            service_blocked: false,
            told: None,
            service_ended: None,
            overrun: false,
            active: Time::ZERO,
            up: Lane::default(),
            down: Lane::default(),
        }
    }

    /// What it is called at the controller. Several clients share one UDP tunnel.
    #[must_use]
    pub fn named(&self) -> Named {
        let port = FIRST_PORT + (self.n % u64::from(PORTS)) as u16;
        Named {
            transport: match self.plan.udp {
                true => Transport::Udp,
                false => Transport::Tcp,
            },
            tunnel_id: format!("tunnel-{}", self.n % 3),
            service_name: "pg".into(),
            service_namespace: if self.plan.forbidden { "secret" } else { "db" }.into(),
            service_port: port,
            client_addr: "203.0.113.9".into(),
            client_port: port,
            ..Named::default()
        }
    }

    fn wrong(&self, what: &str) -> String {
        format!("tunnel {}: {what}", self.n)
    }

    /// Whether its client has it.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.client.is_some() && self.ended.is_none()
    }

    /// Its piece, or datagram, after what was sent.
    pub fn next(&self, way: Way, rng: &mut Rng) -> Bytes {
        let (lane, most) = match way {
            Way::Request => (&self.up, self.plan.up),
            Way::Answer => (&self.down, self.plan.down),
        };
        if self.plan.udp {
            // Long enough to differ from every other, or empty.
            let len = match self.plan.empties && rng.chance(50) {
                true => 0,
                false => rng.len(16, self.plan.piece.max(16)),
            };
            return datagram(self.n, way, lane.datagrams.len(), len);
        }
        let len = rng.len(1, self.plan.piece).min(most - lane.bytes);
        piece(self.n, way, lane.bytes, len)
    }

    /// Whether an end has said all that it intends to say.
    #[must_use]
    pub fn is_said(&self, way: Way) -> bool {
        let (lane, most) = match way {
            Way::Request => (&self.up, self.plan.up),
            Way::Answer => (&self.down, self.plan.down),
        };
        let said = if self.plan.udp {
            lane.datagrams.len()
        } else {
            lane.bytes
        };
        said >= most
    }

    /// The sender's machine took this.
    pub fn said(&mut self, way: Way, len: usize) {
        let lane = match way {
            Way::Request => &mut self.up,
            Way::Answer => &mut self.down,
        };
        lane.bytes += len;
        if self.plan.udp {
            lane.datagrams.push(len);
        }
    }

    /// The receiver is given this. Of datagrams some may be missing where `holes`, none comes twice
    /// or out of order.
    pub fn heard(&mut self, way: Way, kind: Kind, data: &[u8], holes: bool) -> Check {
        let (n, udp) = (self.n, self.plan.udp);
        let lane = match way {
            Way::Request => &mut self.up,
            Way::Answer => &mut self.down,
        };
        if !udp {
            if kind != Kind::Bytes {
                return Err(self.wrong("a datagram in a stream of bytes"));
            }
            return lane.reader.deliver(n, way, data, lane.bytes);
        }
        if kind != Kind::Datagram {
            return Err(self.wrong("bytes among datagrams"));
        }
        lane.reader.keep(data.len());
        let next = (lane.heard..lane.datagrams.len())
            .find(|at| datagram(n, way, *at, lane.datagrams[*at]) == data);
        match next {
            Some(at) if at == lane.heard || holes => {
                lane.heard = at + 1;
                Ok(())
            }
            Some(_) => Err(self.wrong("a datagram is missing")),
            None => Err(self.wrong("a datagram that nobody sent, or twice")),
        }
    }

    /// Whether the receiver was given all.
    #[must_use]
    pub fn is_whole(&self, way: Way) -> bool {
        let lane = match way {
            Way::Request => &self.up,
            Way::Answer => &self.down,
        };
        match self.plan.udp {
            true => lane.heard == lane.datagrams.len(),
            false => lane.reader.got == lane.bytes,
        }
    }

    /// It is over for its client.
    pub fn client_over(&mut self, how: Ended) {
        self.ended.get_or_insert(how);
        self.down.reader.clear();
    }

    /// It is over for the service. Another flow may follow.
    pub fn service_over(&mut self) {
        self.service = None;
        self.up.reader.clear();
    }
}

fn datagram(n: u64, way: Way, place: usize, len: usize) -> Bytes {
    let said = Said {
        kind: Kind::Binary,
        lead: None,
        len,
    };
    message(n, way, place, said)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three datagrams, or bytes in three pieces, were sent to the service.
    fn sent(udp: bool) -> (Tunnel, [Bytes; 3]) {
        let mut rng = Rng::new(1);
        let mut plan = Plan::sound(&mut rng);
        plan.udp = udp;
        let mut tunnel = Tunnel::new(7, plan);
        let pieces = [(); 3].map(|()| {
            let data = tunnel.next(Way::Request, &mut rng);
            tunnel.said(Way::Request, data.len());
            data
        });
        (tunnel, pieces)
    }

    #[test]
    fn datagrams_come_whole_once_and_in_order() {
        let hear = |tunnel: &mut Tunnel, data: &[u8], holes| {
            tunnel.heard(Way::Request, Kind::Datagram, data, holes)
        };
        let (mut tunnel, [one, two, three]) = sent(true);
        assert_eq!(hear(&mut tunnel, &one, false), Ok(()));
        assert!(hear(&mut tunnel, &one, true).is_err(), "twice");
        assert!(hear(&mut tunnel, &three, false).is_err(), "one is missing");
        assert!(hear(&mut tunnel, &two[1..], true).is_err(), "cut");
        let joined = [&*two, &*three].concat();
        assert!(hear(&mut tunnel, &joined, true).is_err(), "joined");
        assert!(!tunnel.is_whole(Way::Request));
        assert_eq!(hear(&mut tunnel, &three, true), Ok(()), "one may be lost");
        assert!(hear(&mut tunnel, &two, true).is_err(), "out of order");
        let bytes = tunnel.heard(Way::Request, Kind::Bytes, &two, true);
        assert!(bytes.is_err(), "of another kind");
    }

    #[test]
    fn bytes_come_as_they_were_sent() {
        let hear =
            |tunnel: &mut Tunnel, data: &[u8]| tunnel.heard(Way::Request, Kind::Bytes, data, true);
        let (mut tunnel, [one, two, three]) = sent(false);
        let joined = [&*one, &*two].concat();
        assert_eq!(
            hear(&mut tunnel, &joined),
            Ok(()),
            "boundaries mean nothing"
        );
        assert!(!tunnel.is_whole(Way::Request));
        assert_eq!(hear(&mut tunnel, &three), Ok(()));
        assert!(tunnel.is_whole(Way::Request));
        assert!(hear(&mut tunnel, &three).is_err(), "twice");
        let (mut tunnel, [_, two, _]) = sent(false);
        assert!(hear(&mut tunnel, &two).is_err(), "a hole");
    }
}
