//! Life of the connections: accepted, registered, superseded, lost, and the end of all.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Controller, Life, outgoing::Control};
use crate::{
    action::{Action, CloseCode, Joined},
    error::{Failure, PeerFault, Reason},
    input::{ConnId, Down, Frame},
    stats::{Disconnect, Ending},
    timers::{Timer, Timers},
};

/// Connections of one agent at once; an agent has one, and another for a moment when it
/// reconnects before the loss of the first was noticed.
const MAX_SESSIONS: usize = 8;
/// So many takeovers within [`SWAP_WINDOW`] are no accident: two agents share one credential.
pub(super) const MAX_SWAPS: usize = 3;
pub(super) const SWAP_WINDOW: Duration = Duration::from_secs(300);

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) timers: Timers,
    pub(super) control: Control,
    /// It was greeted, for the fast mode.
    pub(super) greeted: bool,
}

impl Controller {
    pub(super) fn accepted(&mut self, conn: ConnId) {
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

    pub(super) fn close(&mut self, conn: ConnId, code: CloseCode, text: &'static str) {
        self.actions.push_back(Action::Close(conn, code, text));
    }

    /// Makes `conn` the agent's connection; an older one is fenced off.
    pub(super) fn join(&mut self, conn: ConnId, joined: Joined, offers: bool) {
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
        self.stats.registrations += 1;
        self.greet(conn, joined, offers);
    }

    pub(super) fn disconnected(&mut self, conn: ConnId, down: Down) {
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
    pub(super) fn end_session(&mut self, conn: ConnId, close: Option<CloseCode>, reason: Reason) {
        if self.sessions.remove(&conn).is_none() {
            return;
        }
        Disconnect::of_reason(&reason).count(&mut self.stats.disconnects);
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
        let told = self.joined.take().is_some();
        self.disconnect_all();
        self.drop_session(match reason {
            Reason::Shutdown => Ending::Shutdown,
            _ => Ending::Lost,
        });
        if told {
            self.actions.push_back(Action::Left(reason));
        }
    }

    pub(super) fn frame(&mut self, conn: ConnId, frame: Frame<'_>) {
        if !self.sessions.contains_key(&conn) {
            return self.stale();
        }
        self.alive(conn);
        let len = match frame {
            Frame::Text(text) => text.len(),
            Frame::Binary(bytes) => bytes.len(),
        };
        if len > self.config.limits.frame {
            let reason = Reason::Peer(PeerFault::FrameTooLong);
            return self.end_session(conn, Some(CloseCode::TooBig), reason);
        }
        self.incoming(conn, frame);
    }

    pub(super) fn alive(&mut self, conn: ConnId) {
        let until = self.now + self.config.periods.idle;
        match self.sessions.get_mut(&conn) {
            Some(session) => session.timers.set(Timer::Idle, until),
            None => self.stale(),
        }
    }

    pub(super) fn ponged(&mut self, conn: ConnId) {
        self.alive(conn);
        let session = self.sessions.get_mut(&conn);
        if let Some(sent) = session.and_then(|s| s.control.ping_sent.take()) {
            self.stats.pings.add(self.now - sent);
        }
    }

    pub(super) fn wrote(&mut self, conn: ConnId) {
        match self.sessions.get_mut(&conn) {
            Some(session) => session.timers.stop(Timer::Stall),
            None => self.stale(),
        }
    }

    pub(super) fn expired(&mut self, conn: ConnId, timer: Timer) {
        let normal = Some(CloseCode::Normal);
        match timer {
            Timer::Hello => self.unanswered(conn),
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
            Timer::Dial
            | Timer::Drain
            | Timer::Gateway
            | Timer::Heartbeat
            | Timer::Linger
            | Timer::Reconnect => {}
        }
    }

    pub(super) fn expire(&mut self) {
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
        self.expire_closing();
        while let Some(timer) = self.drain.expire(self.now) {
            if timer == Timer::Drain {
                self.fail_all(&Failure::Shutdown);
                self.reset_all(&Failure::Shutdown);
                let until = self.now + self.config.periods.linger;
                self.drain.set(Timer::Linger, until);
            } else {
                self.settle(true);
            }
        }
    }

    // ------------------------------------------------------------ shutdown

    pub(super) fn shutdown(&mut self, grace: Duration) {
        match self.life {
            Life::Stopped => self.stale(),
            Life::Running => {
                self.life = Life::Draining;
                self.drain.set(Timer::Drain, self.now + grace);
                self.leave_session();
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
    pub(super) fn settle(&mut self, force: bool) {
        let left = !self.streams.is_empty() || self.has_session();
        if self.life != Life::Draining || (left && !force) {
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
}
