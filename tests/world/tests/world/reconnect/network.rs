//! What the network and the servers behind it do with an agent's dials, as a script says.

use std::{collections::VecDeque, time::Duration};

use controlplane_core::Down;

/// How long each way of a good network takes.
pub(super) const TRIP: Duration = Duration::from_millis(50);

/// What becomes of one dial.
#[derive(Clone, Debug)]
pub(super) enum Dial {
    /// It fails after this long.
    Fails(Duration, Down),
    /// It is never answered.
    Silent,
    /// It succeeds after this long.
    Connects(Duration, Session),
}

/// What becomes of a connection. A gateway's needs no registration.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// So often the controller asks for patience, every 20 s.
    pub(super) in_progress: u32,
    pub(super) answer: Answer,
    /// How long it lives from then on.
    pub(super) up: Duration,
    /// The controller forgets the agent so long after it registered it.
    pub(super) forgotten: Option<Duration>,
    pub(super) end: End,
}

/// What `register` is answered with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Nothing,
    Refusal,
    /// A success that names no cluster.
    NoCluster,
    /// A success that names this one.
    Cluster(u8),
}

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Closed(u16),
    Lost,
    /// Nothing is heard any more.
    Silent,
    /// Nothing is taken any more.
    Stuck,
    /// A message that is too long.
    TooBig,
    /// It does not.
    Never,
}

/// What happens beside that, and is to change nothing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Noise {
    /// The wall clock is set.
    Clock(u64),
    /// Time runs backwards.
    Backwards,
    /// Something about a connection that is gone, or was never dialled.
    Late(bool, u8),
    Tick,
}

/// All that happens to one agent.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) controller: VecDeque<Dial>,
    pub(super) gateway: VecDeque<Dial>,
    /// Whether registrations name a gateway.
    pub(super) names_gateway: bool,
    pub(super) noise: Vec<Noise>,
}

impl Dial {
    /// What happens when the script is at its end.
    pub(super) const fn good() -> Self {
        Self::Connects(
            TRIP,
            Session {
                in_progress: 0,
                answer: Answer::Cluster(0),
                up: Duration::ZERO,
                forgotten: None,
                end: End::Never,
            },
        )
    }
}
