//! The agent's machine: dials, registers, keeps the link alive, answers requests, comes back.
//!
//! This file is the public face; `life` is the life of the link ([`crate::Phase`] shows its states)
//! and `gateway` its move to a gateway; `incoming` reads what the controller sends, `asked` checks
//! it, `exchange`, `requests`, `bodies`, `sockets` and `tunnels` keep the streams, `mux` those of the fast
//! mode, `outgoing` decides what is framed next.

mod asked;
mod bodies;
mod exchange;
mod gateway;
mod incoming;
mod life;
mod mux;
mod outgoing;
mod requests;
mod sockets;
#[cfg(test)]
mod tests;
mod tunnels;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::String,
};
use core::{fmt, time::Duration};

use bytes::Bytes;

use self::{exchange::Exchange, gateway::Gateway, outgoing::Control, tunnels::Flow};
use crate::{
    action::{Action, CloseCode, Notice},
    config::{AgentConfig, HeartbeatStatus},
    error::{ConfigError, PeerFault, Reason, SendError},
    input::{ConnId, Frame, Input, Kind, Socket, StreamId},
    link::Phase,
    machine::Machine,
    mux::Mux,
    notices::Notices,
    rng::Rng,
    stats::Stats,
    streams::Streams,
    time::{Start, Time},
    timers::{Timer, Timers},
    wire::base64::Base64,
};

/// The agent's side of the protocol: a pure state machine. See [`Machine`] for how it is driven.
///
/// It wants to connect at once, and for ever: [`Action::Stopped`] comes only after
/// [`Input::Shutdown`].
pub struct Agent {
    config: AgentConfig,
    start: Start,
    now: Time,
    phase: Phase,
    conns: u64,
    /// Failures in a row.
    failures: u32,
    /// Since when the link has been registered.
    ready_since: Option<Time>,
    /// Until when a controller that does not know the agent is not asked again at once.
    reregistered: Option<Time>,
    /// When the registration under way has to be answered at the very latest.
    register_until: Time,
    rng: Rng,
    timers: Timers,
    /// Time limits of single requests.
    limits_due: BTreeSet<(Time, StreamId)>,
    streams: Streams<Exchange>,
    /// The clients of UDP tunnels.
    flows: BTreeMap<Flow, StreamId>,
    gateway: Gateway,
    /// The streams of the fast mode, while that is on.
    mux: Option<Box<Mux>>,
    /// Bytes of whole answers held for a controller that takes no others.
    buffered: usize,
    status: HeartbeatStatus,
    base64: Base64,
    actions: VecDeque<Action>,
    notices: Notices,
    control: Control,
    unknown_types: BTreeSet<Box<str>>,
    /// UDP tunnels that were refused, as far as they were told.
    refused_tunnels: BTreeSet<Box<str>>,
    stats: Stats,
}

/// What it holds stays out: bodies, messages and heads may hold secrets.
impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("phase", &self.phase)
            .field("now", &self.now)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// An agent that wants to connect at once.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: the configuration contradicts itself, or names nobody; nothing else can fail.
    pub fn new(config: AgentConfig, start: Start) -> Result<Self, ConfigError> {
        config.check()?;
        let [a, b, c, d, e, f, g, h, ..] = start.nonce;
        let mut agent = Self {
            config,
            start,
            now: Time::ZERO.advance(start.now),
            phase: Phase::Waiting,
            conns: 0,
            failures: 0,
            ready_since: None,
            reregistered: None,
            register_until: Time::ZERO,
            rng: Rng::new(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            timers: Timers::default(),
            limits_due: BTreeSet::new(),
            streams: Streams::new(),
            flows: BTreeMap::new(),
            gateway: Gateway::default(),
            mux: None,
            buffered: 0,
            status: HeartbeatStatus::default(),
            base64: Base64::new(),
            actions: VecDeque::new(),
            notices: Notices::default(),
            control: Control::default(),
            unknown_types: BTreeSet::new(),
            refused_tunnels: BTreeSet::new(),
            stats: Stats::default(),
        };
        agent.dial();
        Ok(agent)
    }

    /// Where the link stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    fn frame(&mut self, conn: ConnId, frame: Frame<'_>) {
        if self.phase.open() != Some(conn) {
            return self.stale();
        }
        self.alive();
        let len = match frame {
            Frame::Text(text) => text.len(),
            Frame::Binary(bytes) => bytes.len(),
        };
        if len > self.config.limits.frame {
            let reason = Reason::Peer(PeerFault::FrameTooLong);
            return self.lose(reason, Some(CloseCode::TooBig), None);
        }
        self.incoming(frame);
    }

    fn alive(&mut self) {
        if self.phase.open().is_some() {
            self.timers
                .set(Timer::Idle, self.now + self.config.periods.idle);
        }
    }

    fn ponged(&mut self) {
        self.alive();
        if let Some(sent) = self.control.ping_sent.take() {
            self.stats.pings.add(self.now - sent);
        }
    }

    fn set_status(&mut self, status: HeartbeatStatus) {
        self.control.monitoring |= self.status.monitoring != status.monitoring;
        self.status = status;
    }

    fn stale(&mut self) {
        self.stats.stale_inputs += 1;
    }

    fn tolerated(&mut self, stream: Option<StreamId>, fault: PeerFault) {
        self.stats.peer_faults += 1;
        self.notices.push(Notice::Tolerated(stream, fault));
    }

    /// The present moment since the UNIX epoch.
    fn unix(&self) -> Duration {
        self.start.unix.saturating_add(self.now - self.start.now)
    }

    fn cluster_id(&self) -> Option<&str> {
        self.config.info.cluster_id.as_deref()
    }

    fn set_cluster_id(&mut self, id: Option<String>) {
        self.config.info.cluster_id = id;
    }
}

impl Machine for Agent {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        self.now = self.now.advance(now);
        match input {
            Input::Alive(conn) if self.phase.open() == Some(conn) => self.alive(),
            Input::Pong(conn) if self.phase.open() == Some(conn) => self.ponged(),
            Input::Connected(conn) => self.connected(conn),
            Input::Cancel(id)
            | Input::Consumed(id, _)
            | Input::Ended(id, _)
            | Input::Head(id, _)
                if self.owns(id) =>
            {
                self.local(id, &input);
            }
            Input::Consumed(id, len) => self.consumed(id, len),
            Input::Disconnected(conn, down) => self.disconnected(conn, down),
            Input::Ended(id, end) => self.ended(id, end),
            Input::Frame(conn, frame) => self.frame(conn, frame),
            Input::Head(id, head) => self.head(id, head),
            Input::Shutdown(grace) => self.shutdown(grace),
            Input::Status(status) => self.set_status(status),
            Input::Clock(unix) => {
                (self.start.now, self.start.unix) = (self.now, unix);
            }
            Input::Tick => {}
            Input::Wrote(conn) if self.phase.open() == Some(conn) => {
                self.timers.stop(Timer::Stall);
            }
            Input::Accepted(_)
            | Input::Alive(_)
            | Input::Cancel(_)
            | Input::Pong(_)
            | Input::Wrote(_) => self.stale(),
        }
        while let Some(timer) = self.timers.expire(self.now) {
            self.expired(timer);
        }
        self.expire_requests();
        self.expire_streams();
        self.settle(false);
    }

    fn send(&mut self, stream: StreamId, kind: Kind, data: Bytes) -> Result<(), SendError> {
        if self.owns(stream) {
            return self.stream_takes(stream, data);
        }
        self.answer(stream, kind, data)
    }

    fn poll(&mut self, socket: Socket) -> Option<Action> {
        self.next_action(socket)
    }

    fn deadline(&self) -> Option<Time> {
        let request = self.limits_due.first().map(|(at, _)| *at);
        let mux = self.mux.as_ref().and_then(|mux| mux.deadline());
        let all = [self.timers.next(), request, mux];
        all.into_iter().flatten().min()
    }

    fn stats(&self) -> Stats {
        let mut json = self.streams.add_to(self.stats);
        json.held_out += self.buffered;
        self.mux.as_ref().map_or(json, |mux| mux.add_to(json))
    }
}
