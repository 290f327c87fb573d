//! A connection between the two: in order and lossless per direction while it lives, as TCP is,
//! and slow, silent or cut whenever the weather wants it.

use std::{collections::VecDeque, time::Duration};

use controlplane_core::{ConnId, Time};

/// One of the two ends.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Side {
    /// The agent.
    Agent,
    /// The controller.
    Controller,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Agent, Self::Controller];

    /// The one it talks to.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Agent => Self::Controller,
            Self::Controller => Self::Agent,
        }
    }
}

/// What travels.
#[derive(Clone, Debug)]
pub enum Wire {
    /// A binary message.
    Binary(Vec<u8>),
    /// A close frame with its code.
    Close(u16),
    /// A WebSocket ping.
    Ping,
    /// Its answer, given below the machine.
    Pong,
    /// A text message.
    Text(String),
}

impl Wire {
    fn len(&self) -> usize {
        match self {
            Self::Binary(data) => data.len(),
            Self::Text(text) => text.len(),
            Self::Close(_) | Self::Ping | Self::Pong => 8,
        }
    }
}

/// After every end of a simulation.
pub const NEVER: Time = Time::since_origin(Duration::from_secs(1 << 40));

/// One direction.
#[derive(Debug)]
struct Pipe {
    queue: VecDeque<(Time, Wire)>,
    /// Bytes under way.
    waiting: usize,
    /// When the last message arrives: none overtakes it.
    last: Time,
    /// Nothing arrives before.
    held_until: Time,
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    /// What each side calls it, while that side has the socket.
    ends: [Option<ConnId>; 2],
    /// By receiver.
    pipes: [Pipe; 2],
    latency: Duration,
    per_byte: Duration,
    /// Bytes that a socket takes before its peer has read any.
    window: usize,
    /// Somebody else registered on it than an agent's machine.
    pub is_registered: bool,
}

impl Link {
    /// A fresh connection, which its dialler calls `agent`.
    #[must_use]
    pub fn new(agent: ConnId, latency: Duration, per_byte: Duration, window: usize) -> Self {
        let pipe = || Pipe {
            queue: VecDeque::new(),
            waiting: 0,
            last: Time::ZERO,
            held_until: Time::ZERO,
        };
        Self {
            ends: [Some(agent), None],
            pipes: [pipe(), pipe()],
            latency,
            per_byte,
            window,
            is_registered: false,
        }
    }

    /// What `side` calls it, while it has the socket.
    #[must_use]
    pub const fn conn(&self, side: Side) -> Option<ConnId> {
        self.ends[side as usize]
    }

    /// `side` has the socket from now on, or no longer.
    pub const fn set_conn(&mut self, side: Side, conn: Option<ConnId>) {
        self.ends[side as usize] = conn;
    }

    /// Whether the socket of the sender to `to` takes a message.
    #[must_use]
    pub const fn has_room(&self, to: Side) -> bool {
        self.pipes[to as usize].waiting < self.window
    }

    /// Puts a message under way; tells when it arrives.
    pub fn send(&mut self, now: Time, to: Side, wire: Wire) -> Time {
        let pipe = &mut self.pipes[to as usize];
        let transfer = self.per_byte.saturating_mul(wire.len() as u32);
        pipe.last = pipe.last.max(now + self.latency) + transfer;
        pipe.waiting += wire.len();
        pipe.queue.push_back((pipe.last, wire));
        pipe.last
    }

    /// What has arrived for `to`, or, where that is held back, until when.
    pub fn arrive(&mut self, now: Time, to: Side) -> Result<Wire, Option<Time>> {
        let pipe = &mut self.pipes[to as usize];
        let Some(at) = pipe.queue.front().map(|(at, _)| *at) else {
            return Err(None);
        };
        if at > now {
            // Its own event is still to come.
            return Err(None);
        }
        if pipe.held_until > now {
            return Err(Some(pipe.held_until).filter(|at| *at < NEVER));
        }
        let Some((_, wire)) = pipe.queue.pop_front() else {
            return Err(None);
        };
        pipe.waiting -= wire.len();
        Ok(wire)
    }

    /// Whether something is on its way to `to`, so that some bytes of it may be there.
    #[must_use]
    pub fn is_busy(&self, to: Side) -> bool {
        !self.pipes[to as usize].queue.is_empty()
    }

    /// Nothing arrives at `to` before `until`; nothing is lost.
    pub fn hold(&mut self, to: Side, until: Time) {
        let pipe = &mut self.pipes[to as usize];
        pipe.held_until = pipe.held_until.max(until);
    }

    /// Ends a hold, except that of a cut.
    pub fn release(&mut self, to: Side, now: Time) {
        let pipe = &mut self.pipes[to as usize];
        if pipe.held_until < NEVER {
            pipe.held_until = pipe.held_until.min(now);
        }
    }

    /// Nothing arrives any more; the sockets do not know yet.
    pub fn cut(&mut self) {
        for side in Side::BOTH {
            self.hold(side, NEVER);
        }
    }

    /// Whether it was cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.pipes.iter().any(|pipe| pipe.held_until >= NEVER)
    }
}
