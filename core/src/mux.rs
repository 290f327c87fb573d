//! The fast mode: the streams of a yamux session as streams of a machine (P-118 to P-121).
//!
//! ```text
//! agent:       peer's SYN ──▶ Head ── header read, permitted ──▶ Open ── both ends finish ──▶ over
//!                              │ refused, cut short or late        │ reset, by either end
//!                              └──────────▶ reset ◀────────────────┘
//! controller:  opens ─────────────────────────────────────────▶ Open
//! ```
//!
//! [`Mux`] keeps one session; which streams are opened, and what a fault costs beyond its stream,
//! the machines decide.

mod datagrams;
mod head;
mod incoming;
mod local;
#[cfg(test)]
mod tests;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};
use core::{fmt, time::Duration};

use bytes::Bytes;

pub(crate) use self::head::{Head, Protocol};
use self::{datagrams::Datagrams, head::Heading};
use crate::{
    action::Action,
    config::{Limits, Periods},
    error::PeerFault,
    input::{Kind, StreamId},
    stats::{self, Ending, Stats},
    time::Time,
    wire::decode::YamuxConfig,
    yamux::{Config, OpenError, ResetBy, Role, Session, SessionError},
};

/// A session, and the streams of it that the machine knows.
pub(crate) struct Mux {
    role: Role,
    session: Session,
    /// What the peer said it speaks; without a word TCP and UDP.
    pub(crate) protocols: Protocols,
    by_wire: BTreeMap<u32, StreamId>,
    by_id: BTreeMap<StreamId, Entry>,
    /// Streams of the peer whose header is still to come, and until when: in `due` too.
    heads: BTreeMap<u32, (Time, Heading)>,
    /// Limits of time: of headers, dials and silence.
    due: BTreeSet<(Time, u32)>,
    /// What came behind the header of the stream that was asked for last.
    early: Option<(u32, Bytes)>,
    /// What was found out and not told yet.
    out: VecDeque<Heard>,
    bytes_in: u64,
    bytes_out: u64,
    /// Streams that this end reset.
    closed: [u64; Ending::COUNT],
}

/// What it holds stays out: it may hold secrets.
impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mux")
            .field("session", &self.session)
            .field("protocols", &self.protocols)
            .finish_non_exhaustive()
    }
}

/// The protocols that a peer speaks on its streams.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Protocols {
    /// Number 16.
    pub(crate) http: bool,
    /// Number 17.
    pub(crate) datagrams: bool,
}

impl Protocols {
    /// What this version speaks, TCP and UDP included.
    pub(crate) const OURS: [i64; 4] = [1, 2, 16, 17];

    /// What a greeting lists.
    pub(crate) fn of(listed: &[f64]) -> Self {
        Self {
            http: listed.contains(&16.0),
            datagrams: listed.contains(&17.0),
        }
    }
}

/// State of one stream.
struct Entry {
    wire: u32,
    /// It carries datagrams.
    datagrams: Option<Box<Datagrams>>,
    /// How long nothing may pass; not for HTTP, whose idle connections are the client's business.
    idle: Option<Duration>,
    /// The dial succeeded.
    is_open: bool,
    /// When something passed last.
    active: Time,
    /// The limit that is running, in `due`.
    until: Option<Time>,
}

/// What comes out of a session.
pub(crate) enum Heard {
    /// The peer opened a stream with this header: [`Mux::admit`] or [`Mux::refuse`] it.
    Asked(u32, Head),
    Deliver(StreamId, Kind, Bytes),
    HalfClosed(StreamId),
    Over(StreamId),
    Reset(StreamId, ResetBy),
    Writable(StreamId),
    /// The local end offered a datagram that is longer than UDP can carry, and lost its stream.
    TooLong(StreamId),
    /// The peer did what it may not; it cost that alone.
    Fault(PeerFault),
    /// The session is over, and with it these streams.
    Ended(SessionError, Vec<StreamId>),
}

impl Heard {
    /// What the local end is told; what the machine has to decide about comes back.
    pub(crate) fn action(
        self,
        reset: impl FnOnce(StreamId, ResetBy) -> Action,
    ) -> Result<Action, Self> {
        Ok(match self {
            Self::Deliver(id, kind, data) => Action::Deliver(id, kind, data),
            Self::HalfClosed(id) => Action::HalfClosed(id),
            Self::Over(id) => Action::Over(id),
            Self::Reset(id, by) => reset(id, by),
            Self::Writable(id) => Action::Writable(id),
            other => return Err(other),
        })
    }
}

impl Mux {
    pub(crate) fn new(
        role: Role,
        limits: &Limits,
        asked: YamuxConfig,
        protocols: Protocols,
        now: Time,
    ) -> Self {
        let base = Config::default();
        let seconds = |asked: Option<f64>, base| match asked {
            Some(seconds) if seconds >= 1.0 => Duration::from_secs(seconds as u64),
            _ => base,
        };
        let window = asked.window.filter(|window| *window >= 1.0);
        let config = Config {
            window: window.map_or(limits.window, |window| limits.window.min(window as usize)),
            streams: limits.streams,
            recv_total: limits.recv_total,
            // Streams whose peers do not read must not take the room of the others.
            send_stream: limits
                .send_stream
                .min(limits.send_total / limits.streams.max(1)),
            send_total: limits.send_total,
            control: limits.control,
            chunk: limits.chunk,
            keepalive: seconds(asked.keepalive, base.keepalive),
            timeout: seconds(asked.timeout, base.timeout),
            ..base
        };
        Self {
            role,
            session: Session::new(role, config, now),
            protocols,
            by_wire: BTreeMap::new(),
            by_id: BTreeMap::new(),
            heads: BTreeMap::new(),
            due: BTreeSet::new(),
            early: None,
            out: VecDeque::new(),
            bytes_in: 0,
            bytes_out: 0,
            closed: [0; Ending::COUNT],
        }
    }

    // ------------------------------------------------------------ the connection

    pub(crate) fn receive(&mut self, now: Time, bytes: &[u8]) {
        self.session.receive(now, bytes);
    }

    pub(crate) fn transmit(&mut self, now: Time) -> Option<Bytes> {
        self.session.transmit(now)
    }

    pub(crate) fn wants_transmit(&self) -> bool {
        self.session.wants_transmit()
    }

    /// Whether streams, or frames of them, are left that a shutdown waits for.
    pub(crate) fn is_busy(&self) -> bool {
        self.session.streams() > 0 || self.wants_transmit()
    }

    pub(crate) fn go_away(&mut self) {
        self.session.go_away();
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.session.is_over()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        let due = self.due.first().map(|(at, _)| *at);
        [self.session.deadline(), due].into_iter().flatten().min()
    }

    /// Adds what the session has counted; with it goes what is still open, in this way.
    pub(crate) fn add_last_to(&self, stats: Stats, left: Ending) -> Stats {
        let mut stats = self.add_counts(stats);
        let open = self.session.streams() as u64;
        left.add(&mut stats.streams_closed, open);
        stats
    }

    /// Adds what the session has counted.
    fn add_counts(&self, stats: Stats) -> Stats {
        let session = self.session.stats();
        let mut streams_closed = stats.streams_closed;
        stats::add_all(&mut streams_closed, &self.closed);
        // The agent can only break, and the controller is told by its clients.
        let by_peer = match self.role {
            Role::Client => Ending::Cancelled,
            Role::Server => Ending::Failed,
        };
        for (ending, more) in [
            (Ending::Complete, session.finished),
            (by_peer, session.resets_by_peer),
            (Ending::Fault, session.resets_for_faults),
            (Ending::Limit, session.resets_for_memory),
            (Ending::Refused, session.refused),
            (Ending::Lost, session.lost),
        ] {
            ending.add(&mut streams_closed, more);
        }
        Stats {
            streams_opened: stats.streams_opened + session.opened + session.refused,
            streams_closed,
            bytes_in: stats.bytes_in + self.bytes_in,
            bytes_out: stats.bytes_out + self.bytes_out,
            stale_frames: stats.stale_frames + session.stale,
            stalls: stats.stalls + session.stalls,
            resets: stats.resets + session.resets,
            ..stats
        }
    }

    /// Adds what the session has counted and what it holds now.
    pub(crate) fn add_to(&self, stats: Stats) -> Stats {
        Stats {
            streams_open: stats.streams_open + self.session.streams(),
            held_in: stats.held_in + self.session.held_in(),
            held_out: stats.held_out + self.session.held_out(),
            ..self.add_counts(stats)
        }
    }

    // ------------------------------------------------------------ streams begin

    /// Opens a stream to the peer with this header.
    pub(crate) fn open(&mut self, now: Time, id: StreamId, head: &Head) -> Result<(), OpenError> {
        if !self.session.takes_data() {
            // Its header would not be taken.
            return Err(OpenError::TooMany);
        }
        let wire = self.session.open(now)?;
        // The queue of a new stream is empty, and takes any one piece.
        let _ = self.session.send(wire, head.encode());
        self.enter(now, wire, id, head.protocol, None);
        Ok(())
    }

    /// Takes a stream in that the peer opened. `periods` are those of a tunnel.
    pub(crate) fn admit(
        &mut self,
        now: Time,
        wire: u32,
        id: StreamId,
        protocol: Protocol,
        periods: &Periods,
    ) {
        self.session.accept(wire);
        let tunnel = protocol != Protocol::Http;
        self.enter(now, wire, id, protocol, tunnel.then_some(periods));
        if let Some((_, data)) = self
            .early
            .take_if(|(early, data)| *early == wire && !data.is_empty())
            && let Some(heard) = self.deliver(now, wire, data)
        {
            self.out.push_front(heard);
        }
    }

    fn enter(
        &mut self,
        now: Time,
        wire: u32,
        id: StreamId,
        protocol: Protocol,
        limits: Option<&Periods>,
    ) {
        let datagrams = match protocol {
            Protocol::Http | Protocol::Tcp => None,
            Protocol::Udp => Some(Box::new(Datagrams::new(false))),
            Protocol::Datagrams => Some(Box::new(Datagrams::new(true))),
        };
        let until = limits.map(|periods| now + periods.dial);
        self.due.extend(until.map(|at| (at, wire)));
        self.by_wire.insert(wire, id);
        let idle = limits.map(|periods| periods.tunnel_idle);
        self.by_id.insert(
            id,
            Entry {
                wire,
                datagrams,
                idle,
                is_open: false,
                active: now,
                until,
            },
        );
    }

    pub(crate) fn refuse(&mut self, wire: u32) {
        self.early = None;
        self.end_wire(wire, Ending::Refused);
    }

    /// Resets a stream, for this cause.
    fn end_wire(&mut self, wire: u32, ending: Ending) {
        if self.session.reset(wire) {
            ending.count(&mut self.closed);
        }
    }
}
