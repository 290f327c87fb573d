//! What the two ends of a stream of the fast mode intend to do.

use std::time::Duration;

use crate::{link::Side, plan::MAX_PIECE, rng::Rng, tunnel::Dial};

/// What a stream is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Carries {
    /// An HTTP/1.1 connection, whose client speaks first.
    Http,
    /// Bytes to a service.
    Tcp,
    /// Datagrams to a service.
    Udp,
}

/// How an end ends what it has to say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finish {
    /// In order.
    Clean,
    /// Not before the calm.
    Never,
    /// By breaking the stream off.
    Reset,
}

/// What one end does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Voice {
    /// So many bytes or datagrams.
    pub amount: usize,
    /// The longest piece, or datagram.
    pub piece: usize,
    /// What comes behind.
    pub finish: Finish,
    /// It ends only once the other has.
    pub last: bool,
    /// So many bytes after which it takes no more before the calm.
    pub sated: Option<usize>,
    /// Between two steps.
    pub pace: (u64, u64),
    /// Before it takes a delivery.
    pub reads: (u64, u64),
}

/// What both do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it carries.
    pub carries: Carries,
    /// It leads where no tunnel may lead.
    pub forbidden: bool,
    /// What the service does when it is dialled.
    pub dial: Dial,
    /// Of the service and of the client.
    pub voices: [Voice; 2],
    /// Who breaks it off, and when.
    pub breaks: Option<(Side, Duration)>,
}

impl Plan {
    /// Any.
    pub fn new(rng: &mut Rng, storm: bool) -> Self {
        let carries = match rng.below(5) {
            0..=2 => Carries::Http,
            3 => Carries::Tcp,
            _ => Carries::Udp,
        };
        let side = match rng.chance(500) {
            true => Side::Agent,
            false => Side::Controller,
        };
        let breaks = rng.chance(100);
        Self {
            carries,
            forbidden: carries != Carries::Http && rng.chance(50),
            dial: match rng.below(20) {
                0 if carries != Carries::Http => Dial::Refuses,
                1 if carries != Carries::Http => Dial::Silent,
                _ => Dial::Accepts,
            },
            voices: Side::BOTH.map(|side| Voice::new(rng, carries, side, storm)),
            breaks: breaks.then(|| (side, rng.millis(0, 20_000))),
        }
    }

    /// One that nothing can make fail, as long as there is room for so many bytes.
    pub fn sound(rng: &mut Rng, amount: usize) -> Self {
        let carries = match rng.below(3) {
            0 => Carries::Http,
            1 => Carries::Tcp,
            _ => Carries::Udp,
        };
        let voice = Voice {
            amount: if carries == Carries::Udp { 5 } else { amount },
            piece: (amount / 5).max(16),
            finish: Finish::Clean,
            last: false,
            sated: None,
            pace: (0, 10),
            reads: (0, 10),
        };
        Self {
            carries,
            forbidden: false,
            dial: Dial::Accepts,
            voices: [voice; 2],
            breaks: None,
        }
    }

    /// The same, that only a shutdown ends.
    pub fn idle(rng: &mut Rng) -> Self {
        let mut plan = Self::sound(rng, 100);
        plan.voices[Side::Controller as usize].finish = Finish::Never;
        plan
    }
}

impl Voice {
    fn new(rng: &mut Rng, carries: Carries, side: Side, storm: bool) -> Self {
        let pace = |rng: &mut Rng| match rng.below(12) {
            0 if storm => (2000, 40_000),
            1..=4 => (1, 400),
            _ => (0, 10),
        };
        let (amount, piece) = match (carries, rng.below(12)) {
            (_, 0) => (0, 100),
            (Carries::Udp, 1) => (rng.len(200, 600), 100),
            (Carries::Udp, _) => (rng.len(1, 30), rng.len(16, 3000)),
            // More than the first window, so that it is spent.
            (_, 1) => (rng.len(200_000, 500_000), MAX_PIECE),
            (_, 2..=4) => (rng.len(3000, 60_000), rng.len(200, MAX_PIECE)),
            (_, 5) => (rng.len(1, 300), rng.len(1, 10)),
            _ => (rng.len(1, 3000), rng.len(100, 3000)),
        };
        // By what its client says a connection is known.
        let least = usize::from(carries == Carries::Http && side == Side::Controller);
        Self {
            amount: amount.max(least),
            piece,
            finish: match rng.below(12) {
                0 => Finish::Never,
                1 => Finish::Reset,
                _ => Finish::Clean,
            },
            last: rng.chance(300),
            sated: rng.chance(120).then(|| rng.len(0, amount)),
            pace: pace(rng),
            reads: pace(rng),
        }
    }
}
