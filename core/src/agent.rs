//! The agent's machine: dials, registers, keeps the link alive, answers requests, comes back.
//!
//! This file is the public face and the life of the link ([`crate::Phase`] shows its states);
//! `incoming` reads what the controller sends, `asked` checks it, `requests` and `sockets` keep the streams,
//! `outgoing` decides what is framed next.

mod asked;
mod incoming;
mod outgoing;
mod requests;
mod sockets;
#[cfg(test)]
mod tests;

use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
    string::String,
};
use core::time::Duration;

use bytes::Bytes;

use self::{outgoing::Control, requests::Exchange};
use crate::{
    action::{Action, CloseCode, Notice},
    config::{AgentConfig, HeartbeatStatus},
    error::{ConfigError, PeerFault, Reason, SendError},
    input::{ConnId, Down, Frame, Input, Kind, Socket, StreamId},
    link::{Cause, Phase},
    machine::Machine,
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
#[derive(Debug)]
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
    /// When the registration under way has to be answered at the very latest.
    register_until: Time,
    rng: Rng,
    timers: Timers,
    /// Time limits of single requests.
    limits_due: BTreeSet<(Time, StreamId)>,
    streams: Streams<Exchange>,
    /// Bytes of whole answers held for a controller that takes no others.
    buffered: usize,
    status: HeartbeatStatus,
    base64: Base64,
    actions: VecDeque<Action>,
    notices: Notices,
    control: Control,
    unknown_types: BTreeSet<Box<str>>,
    stats: Stats,
}

impl Agent {
    /// An agent that wants to connect at once.
    ///
    /// # Errors
    ///
    /// The configuration contradicts itself.
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
            register_until: Time::ZERO,
            rng: Rng::new(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            timers: Timers::default(),
            limits_due: BTreeSet::new(),
            streams: Streams::new(),
            buffered: 0,
            status: HeartbeatStatus::default(),
            base64: Base64::new(),
            actions: VecDeque::new(),
            notices: Notices::default(),
            control: Control::default(),
            unknown_types: BTreeSet::new(),
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

    // ------------------------------------------------------------ life of the link

    fn dial(&mut self) {
        self.conns += 1;
        let conn = ConnId(self.conns);
        self.enter(Cause::Due, conn);
        self.timers
            .set(Timer::Dial, self.now + self.config.periods.dial);
        self.actions.push_back(Action::Connect(conn));
    }

    /// The only place that changes the phase; where the table has no row, nothing changes.
    fn enter(&mut self, cause: Cause, conn: ConnId) -> bool {
        let next = self.phase.after(cause, conn);
        if let Some(next) = next {
            self.phase = next;
        }
        next.is_some()
    }

    fn connected(&mut self, conn: ConnId) {
        if self.phase != Phase::Dialing(conn) || !self.enter(Cause::Connected, conn) {
            return self.stale();
        }
        let periods = self.config.periods;
        self.timers.stop(Timer::Dial);
        self.timers.set(Timer::Ping, self.now + periods.ping);
        self.timers.set(Timer::Idle, self.now + periods.idle);
        self.ask_to_register();
    }

    fn ask_to_register(&mut self) {
        let periods = self.config.periods;
        self.register_until = self.now + periods.register_total;
        let until = (self.now + periods.register).min(self.register_until);
        self.timers.set(Timer::Register, until);
        self.timers.stop(Timer::Heartbeat);
        self.control.ask_to_register(self.unix(), &self.config.info);
    }

    fn disconnected(&mut self, conn: ConnId, down: Down) {
        if self.phase.conn() != Some(conn) {
            return self.stale();
        }
        let mut retry_after = None;
        let reason = match down {
            Down::Closed { code, .. } if code == CloseCode::Superseded as u16 => Reason::Superseded,
            Down::Closed { code, reason } => Reason::Closed { code, reason },
            Down::Lost(text) => Reason::Lost(text),
            Down::Refused {
                status,
                retry_after: asked,
            } => {
                retry_after = asked;
                match status {
                    401 | 403 => Reason::Unauthorized(status),
                    _ => Reason::Refused(status),
                }
            }
            Down::TooBig => Reason::Peer(PeerFault::FrameTooLong),
        };
        self.lose(reason, None, retry_after);
    }

    /// Ends the connection and arranges for the next.
    fn lose(&mut self, reason: Reason, close: Option<CloseCode>, retry_after: Option<Duration>) {
        let Some(conn) = self.phase.conn() else {
            return;
        };
        if let Some(code) = close {
            self.actions.push_back(Action::Close(conn, code, ""));
        }
        self.drop_link();
        self.enter(Cause::Lost, conn);
        if self.phase == Phase::Stopped {
            return self.actions.push_back(Action::Stopped);
        }
        let stable = self.ready_since.take().map(|since| self.now - since);
        if stable.is_some_and(|up| up >= self.config.backoff.stable) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        // What only a person or a long time can change is not asked for often.
        let failures = match reason {
            Reason::Unauthorized(_) | Reason::Superseded => u32::MAX,
            _ => self.failures,
        };
        let entropy = self.rng.next();
        let delay = self.config.backoff.delay(failures, retry_after, entropy);
        self.timers.set(Timer::Reconnect, self.now + delay);
        self.actions.push_back(Action::ReconnectAfter {
            delay,
            attempt: self.failures,
            reason,
        });
    }

    /// Ends everything that belongs to the connection (P-158, P-174).
    fn drop_link(&mut self) {
        self.timers = Timers::default();
        self.limits_due.clear();
        self.control = Control::default();
        self.buffered = 0;
        while let Some((id, stream)) = self.streams.pop() {
            if !stream.state.ended {
                self.actions.push_back(Action::Reset(id));
            }
        }
    }

    fn shutdown(&mut self, grace: Duration) {
        let Some(conn) = self.phase.conn() else {
            self.timers = Timers::default();
            if self.enter(Cause::Shutdown, ConnId(0)) {
                self.actions.push_back(Action::Stopped);
            }
            return;
        };
        if let Phase::Draining(_) = self.phase {
            // A second, shorter patience counts.
            let until = self.now + grace;
            if self.timers.get(Timer::Drain).is_some_and(|at| until < at) {
                self.timers.set(Timer::Drain, until);
            }
            return;
        }
        self.enter(Cause::Shutdown, conn);
        match self.phase {
            Phase::Draining(_) => {
                self.timers.stop(Timer::Register);
                self.timers.stop(Timer::Heartbeat);
                self.control.registering = None;
                self.control.heartbeat = false;
                self.timers.set(Timer::Drain, self.now + grace);
            }
            _ => {
                self.drop_link();
                let code = CloseCode::GoingAway;
                self.actions.push_back(Action::Close(conn, code, ""));
                self.actions.push_back(Action::Stopped);
            }
        }
    }

    /// Ends a shutdown once nothing is left to send.
    fn settle(&mut self, force: bool) {
        let Phase::Draining(conn) = self.phase else {
            return;
        };
        let left = !self.streams.is_empty() || self.control.has_refusals();
        if left && !force {
            return;
        }
        self.drop_link();
        let text = "the agent is shutting down";
        self.actions
            .push_back(Action::Close(conn, CloseCode::GoingAway, text));
        self.enter(Cause::Drained, conn);
        self.actions.push_back(Action::Stopped);
    }

    fn expired(&mut self, timer: Timer) {
        let periods = self.config.periods;
        let normal = Some(CloseCode::Normal);
        match timer {
            Timer::Dial => self.lose(Reason::DialTimeout, normal, None),
            Timer::Drain => {
                self.fail_all("the agent is shutting down");
                self.timers.set(Timer::Linger, self.now + periods.linger);
            }
            Timer::Heartbeat => {
                self.control.heartbeat = true;
                self.timers
                    .set(Timer::Heartbeat, self.now + periods.heartbeat);
            }
            Timer::Idle => self.lose(Reason::Idle, normal, None),
            Timer::Linger => self.settle(true),
            Timer::Ping => {
                self.control.ping = true;
                self.timers.set(Timer::Ping, self.now + periods.ping);
            }
            Timer::Reconnect => self.dial(),
            Timer::Register => self.lose(Reason::RegisterTimeout, normal, None),
            Timer::Stall => self.lose(Reason::Stalled, normal, None),
        }
    }

    fn frame(&mut self, conn: ConnId, frame: Frame<'_>) {
        if self.phase.open() != Some(conn) {
            return self.stale();
        }
        self.alive();
        let bytes = match frame {
            Frame::Text(text) => text.as_bytes(),
            Frame::Binary(bytes) => bytes,
        };
        if bytes.len() > self.config.limits.frame {
            let reason = Reason::Peer(PeerFault::FrameTooLong);
            return self.lose(reason, Some(CloseCode::TooBig), None);
        }
        self.incoming(bytes);
    }

    fn alive(&mut self) {
        if self.phase.open().is_some() {
            self.timers
                .set(Timer::Idle, self.now + self.config.periods.idle);
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
            Input::Connected(conn) => self.connected(conn),
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
            Input::Accepted(_) | Input::Alive(_) | Input::Cancel(_) | Input::Wrote(_) => {
                self.stale();
            }
        }
        while let Some(timer) = self.timers.expire(self.now) {
            self.expired(timer);
        }
        self.expire_requests();
        self.settle(false);
    }

    fn send(&mut self, stream: StreamId, kind: Kind, data: Bytes) -> Result<(), SendError> {
        self.answer(stream, kind, data)
    }

    fn poll(&mut self, socket: Socket) -> Option<Action> {
        self.next_action(socket)
    }

    fn deadline(&self) -> Option<Time> {
        let request = self.limits_due.first().map(|(at, _)| *at);
        [self.timers.next(), request].into_iter().flatten().min()
    }

    fn stats(&self) -> Stats {
        Stats {
            streams_opened: self.streams.opened(),
            streams_open: self.streams.len(),
            held_in: self.streams.held_in(),
            held_out: self.streams.held_out() + self.buffered,
            ..self.stats
        }
    }
}
