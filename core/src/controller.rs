//! The controller's machine: one per agent identity, so that it can fence a newer connection of
//! the same agent from an older one.
//!
//! ```text
//! Accepted ──▶ New ──register──▶ Registered (the current one) ──▶ gone
//!               │ time-out            │ a newer one registers: closed with 4001
//!               └─────────────────────┴──▶ its streams fail, none outlives it
//! ```
//!
//! This file is the public face and the life of the connections; `incoming` reads what the
//! agent sends, `exchange` keeps the requests, `outgoing` decides what is framed next.

mod exchange;
mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
    vec::Vec,
};
use core::time::Duration;

use bytes::Bytes;

use self::{exchange::Exchange, outgoing::Control};
use crate::{
    action::{Action, CloseCode, Joined, Notice},
    config::ControllerConfig,
    error::{ConfigError, Failure, OpenError, PeerFault, Reason, SendError},
    input::{ConnId, Down, Frame, Input, Kind, RequestHead, Socket, StreamId},
    machine::Machine,
    notices::Notices,
    stats::Stats,
    streams::Streams,
    time::{Start, Time},
    timers::{Timer, Timers},
    wire::base64::Base64,
};

/// Connections of one agent at once; an agent has one, and another for a moment when it
/// reconnects before the loss of the first was noticed.
const MAX_SESSIONS: usize = 8;
/// So many takeovers within [`SWAP_WINDOW`] are no accident: two agents share one credential.
const MAX_SWAPS: usize = 3;
const SWAP_WINDOW: Duration = Duration::from_secs(300);

/// The controller's side of the protocol toward one agent. See [`Machine`] for how it is driven.
#[derive(Debug)]
pub struct Controller {
    config: ControllerConfig,
    start: Start,
    now: Time,
    sessions: BTreeMap<ConnId, Session>,
    /// The registered one.
    current: Option<ConnId>,
    joined: Option<Joined>,
    /// When newer connections took over, at most [`MAX_SWAPS`].
    swaps: VecDeque<Time>,
    streams: Streams<Exchange>,
    /// Requests named so far.
    names: u64,
    /// Bytes of bodies held for an agent that takes no others.
    buffered: usize,
    /// Since [`Input::Shutdown`]: until when streams may go on, and then until when their last
    /// frames may leave.
    drain: Timers,
    life: Life,
    base64: Base64,
    actions: VecDeque<Action>,
    notices: Notices,
    stats: Stats,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Life {
    Running,
    Draining,
    Stopped,
}

/// One connection.
#[derive(Debug, Default)]
struct Session {
    timers: Timers,
    control: Control,
}

impl Controller {
    /// A controller that waits for its agent.
    ///
    /// # Errors
    ///
    /// The configuration contradicts itself.
    pub fn new(config: ControllerConfig, start: Start) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            config,
            start,
            now: start.now,
            sessions: BTreeMap::new(),
            current: None,
            joined: None,
            swaps: VecDeque::new(),
            streams: Streams::new(),
            names: 0,
            buffered: 0,
            drain: Timers::default(),
            life: Life::Running,
            base64: Base64::new(),
            actions: VecDeque::new(),
            notices: Notices::default(),
            stats: Stats::default(),
        })
    }

    /// Sends a request to the agent. Where `has_body`, data follows by [`Machine::send`] up to
    /// [`Input::Ended`]; the answer comes as [`Action::Head`], [`Action::Deliver`] and
    /// [`Action::Finish`], or [`Action::Failed`].
    ///
    /// The head is relayed as it is: apply [`crate::rules::client_headers`] first.
    ///
    /// # Errors
    ///
    /// No agent is registered, or a limit is reached.
    pub fn open(
        &mut self,
        now: Time,
        head: RequestHead,
        has_body: bool,
    ) -> Result<StreamId, OpenError> {
        self.now = self.now.max(now);
        self.open_exchange(head, has_body)
    }

    /// What the registered agent told, or `None` while it is away.
    #[must_use]
    pub const fn joined(&self) -> Option<&Joined> {
        self.joined.as_ref()
    }

    /// Whether another connection of this agent may be accepted at `now`.
    ///
    /// # Errors
    ///
    /// For how long not: two agents that share one credential have taken over from each other
    /// three times within five minutes. Answer the upgrade with 409 and this `Retry-After`.
    pub fn admit(&self, now: Time) -> Result<(), Duration> {
        let oldest = match self.swaps.front() {
            Some(oldest) if self.swaps.len() >= MAX_SWAPS && self.current.is_some() => *oldest,
            _ => return Ok(()),
        };
        let left = SWAP_WINDOW.saturating_sub(now.max(self.now) - oldest);
        if left.is_zero() { Ok(()) } else { Err(left) }
    }

    // ------------------------------------------------------------ life of a connection

    fn accepted(&mut self, conn: ConnId) {
        if self.sessions.contains_key(&conn) {
            return self.stale();
        }
        if self.life != Life::Running {
            return self.close(
                conn,
                CloseCode::GoingAway,
                "the controller is shutting down",
            );
        }
        if self.sessions.len() >= MAX_SESSIONS {
            return self.close(
                conn,
                CloseCode::Policy,
                "too many connections of this agent",
            );
        }
        let periods = self.config.periods;
        let mut session = Session::default();
        session.timers.set(Timer::Ping, self.now + periods.ping);
        session.timers.set(Timer::Idle, self.now + periods.idle);
        session
            .timers
            .set(Timer::Register, self.now + periods.register);
        self.sessions.insert(conn, session);
    }

    fn close(&mut self, conn: ConnId, code: CloseCode, text: &'static str) {
        self.actions.push_back(Action::Close(conn, code, text));
    }

    /// Makes `conn` the agent's connection; an older one is fenced off.
    fn join(&mut self, conn: ConnId, joined: Joined) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        session.timers.stop(Timer::Register);
        if let Some(old) = self.current.filter(|old| *old != conn) {
            self.swaps.push_back(self.now);
            while self.swaps.len() > MAX_SWAPS {
                self.swaps.pop_front();
            }
            self.end_session(old, Some(CloseCode::Superseded), Reason::Superseded);
        }
        self.current = Some(conn);
        self.joined = Some(joined.clone());
        self.stats.registrations += 1;
        self.actions.push_back(Action::Joined(conn, joined));
    }

    fn disconnected(&mut self, conn: ConnId, down: Down) {
        if !self.sessions.contains_key(&conn) {
            return self.stale();
        }
        let reason = match down {
            Down::Closed { code, reason } => Reason::Closed { code, reason },
            Down::Lost(text) => Reason::Lost(text),
            Down::Refused { status, .. } => Reason::Refused(status),
            Down::TooBig => Reason::Peer(PeerFault::FrameTooLong),
        };
        self.end_session(conn, None, reason);
    }

    /// Ends a connection and, where it is the agent's, every stream of it (P-158, P-174).
    fn end_session(&mut self, conn: ConnId, close: Option<CloseCode>, reason: Reason) {
        if self.sessions.remove(&conn).is_none() {
            return;
        }
        if let Some(code) = close {
            let text = match code {
                CloseCode::Superseded => "superseded by a newer connection of this agent",
                CloseCode::TooBig => "message too long",
                CloseCode::Policy => "too many answers are waiting to be read",
                _ => "",
            };
            self.close(conn, code, text);
        }
        if self.current != Some(conn) {
            return;
        }
        self.current = None;
        self.joined = None;
        self.buffered = 0;
        while let Some((id, stream)) = self.streams.pop() {
            if !stream.state.over {
                self.actions
                    .push_back(Action::Failed(id, Failure::Disconnected));
            }
        }
        self.actions.push_back(Action::Left(reason));
    }

    fn frame(&mut self, conn: ConnId, frame: Frame<'_>) {
        if !self.sessions.contains_key(&conn) {
            return self.stale();
        }
        self.alive(conn);
        let bytes = match frame {
            Frame::Text(text) => text.as_bytes(),
            Frame::Binary(bytes) => bytes,
        };
        if bytes.len() > self.config.limits.frame {
            let reason = Reason::Peer(PeerFault::FrameTooLong);
            return self.end_session(conn, Some(CloseCode::TooBig), reason);
        }
        self.incoming(conn, bytes);
    }

    fn alive(&mut self, conn: ConnId) {
        let until = self.now + self.config.periods.idle;
        match self.sessions.get_mut(&conn) {
            Some(session) => session.timers.set(Timer::Idle, until),
            None => self.stale(),
        }
    }

    fn wrote(&mut self, conn: ConnId) {
        match self.sessions.get_mut(&conn) {
            Some(session) => session.timers.stop(Timer::Stall),
            None => self.stale(),
        }
    }

    fn expired(&mut self, conn: ConnId, timer: Timer) {
        let normal = Some(CloseCode::Normal);
        match timer {
            Timer::Idle => self.end_session(conn, normal, Reason::Idle),
            Timer::Ping => {
                let next = self.now + self.config.periods.ping;
                if let Some(session) = self.sessions.get_mut(&conn) {
                    session.control.ping = true;
                    session.timers.set(Timer::Ping, next);
                }
            }
            Timer::Register => self.end_session(conn, normal, Reason::RegisterTimeout),
            Timer::Stall => self.end_session(conn, normal, Reason::Stalled),
            // The agent's; never set here.
            Timer::Dial | Timer::Drain | Timer::Heartbeat | Timer::Linger | Timer::Reconnect => {}
        }
    }

    fn expire(&mut self) {
        let conns: Vec<ConnId> = self
            .sessions
            .iter()
            .filter(|(_, s)| s.timers.next().is_some_and(|at| at <= self.now))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in conns {
            while let Some(timer) = self
                .sessions
                .get_mut(&conn)
                .and_then(|s| s.timers.expire(self.now))
            {
                self.expired(conn, timer);
            }
        }
        while let Some(timer) = self.drain.expire(self.now) {
            if timer == Timer::Drain {
                self.fail_all(&Failure::Shutdown);
                let until = self.now + self.config.periods.linger;
                self.drain.set(Timer::Linger, until);
            } else {
                self.settle(true);
            }
        }
    }

    // ------------------------------------------------------------ shutdown

    fn shutdown(&mut self, grace: Duration) {
        match self.life {
            Life::Stopped => self.stale(),
            Life::Running => {
                self.life = Life::Draining;
                self.drain.set(Timer::Drain, self.now + grace);
            }
            Life::Draining => {
                let until = self.now + grace;
                if self.drain.get(Timer::Drain).is_some_and(|at| until < at) {
                    self.drain.set(Timer::Drain, until);
                }
            }
        }
    }

    /// Ends a shutdown once nothing is left to send.
    fn settle(&mut self, force: bool) {
        if self.life != Life::Draining || !(force || self.streams.is_empty()) {
            return;
        }
        self.life = Life::Stopped;
        self.drain = Timers::default();
        let conns: Vec<ConnId> = self.sessions.keys().copied().collect();
        for conn in conns {
            self.end_session(conn, Some(CloseCode::GoingAway), Reason::Shutdown);
        }
        self.actions.push_back(Action::Stopped);
    }

    fn stale(&mut self) {
        self.stats.stale_inputs += 1;
    }

    fn tolerated(&mut self, stream: Option<StreamId>, fault: PeerFault) {
        self.stats.peer_faults += 1;
        self.notices.push(Notice::Tolerated(stream, fault));
    }

    /// The name of a request on the wire: never reused across connections or restarts (P-091).
    fn name(&mut self) -> String {
        self.names += 1;
        let nonce = u128::from_be_bytes(self.start.nonce);
        alloc::format!("{nonce:032x}-{}", self.names)
    }

    fn unix(&self) -> Duration {
        self.start.unix.saturating_add(self.now - self.start.now)
    }
}

impl Machine for Controller {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        self.now = self.now.max(now);
        match input {
            Input::Accepted(conn) => self.accepted(conn),
            Input::Alive(conn) => self.alive(conn),
            Input::Cancel(id) => self.cancel(id),
            Input::Consumed(id, len) => {
                if !self.streams.consumed(id, len) {
                    self.stale();
                }
            }
            Input::Disconnected(conn, down) => self.disconnected(conn, down),
            Input::Ended(id, end) => self.body_ended(id, end),
            Input::Frame(conn, frame) => self.frame(conn, frame),
            Input::Shutdown(grace) => self.shutdown(grace),
            Input::Tick => {}
            Input::Wrote(conn) => self.wrote(conn),
            Input::Connected(_) | Input::Head(..) | Input::Status(_) => self.stale(),
        }
        self.expire();
        self.settle(false);
    }

    fn send(&mut self, stream: StreamId, kind: Kind, data: Bytes) -> Result<(), SendError> {
        self.body(stream, kind, data)
    }

    fn poll(&mut self, socket: Socket) -> Option<Action> {
        self.next_action(socket)
    }

    fn deadline(&self) -> Option<Time> {
        let sessions = self.sessions.values().filter_map(|s| s.timers.next());
        sessions.chain(self.drain.next()).min()
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
