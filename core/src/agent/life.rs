//! The life of the agent's link: dialled, registered, lost, dialled again, and shut down.

use core::time::Duration;

use super::{Agent, outgoing::Control};
use crate::{
    action::{Action, CloseCode, Endpoint, Notice},
    error::{PeerFault, Reason},
    input::{ConnId, Down},
    link::{Cause, Phase},
    stats::{Disconnect, Ending},
    timers::{Timer, Timers},
};

/// So many heartbeats without the answer that there used to be are told.
const MAX_UNANSWERED: u32 = 3;

impl Agent {
    pub(super) fn dial(&mut self) {
        let conn = self.connect(self.gateway.endpoint());
        self.enter(Cause::Due, conn);
    }

    /// Begins a dial; there is never more than one.
    pub(super) fn connect(&mut self, endpoint: Endpoint) -> ConnId {
        self.conns += 1;
        let conn = ConnId(self.conns);
        let until = self.now + self.config.periods.dial;
        self.timers.set(Timer::Dial, until);
        self.actions.push_back(Action::Connect(conn, endpoint));
        conn
    }

    /// The only place that changes the phase; where the table has no row, nothing changes.
    pub(super) fn enter(&mut self, cause: Cause, conn: ConnId) -> bool {
        let next = self.phase.after(cause, conn);
        if let Some(next) = next {
            self.phase = next;
        }
        next.is_some()
    }

    pub(super) fn connected(&mut self, conn: ConnId) {
        if self.gateway.moving == Some(conn) {
            return self.moved(conn);
        }
        if self.phase != Phase::Dialing(conn) {
            return self.stale();
        }
        self.watch();
        if self.gateway.at {
            self.resumed(conn);
        } else {
            self.enter(Cause::Connected, conn);
            self.ask_to_register();
        }
    }

    /// Watches over a connection that is new.
    pub(super) fn watch(&mut self) {
        let periods = self.config.periods;
        self.timers.stop(Timer::Dial);
        self.timers.set(Timer::Ping, self.now + periods.ping);
        self.timers.set(Timer::Idle, self.now + periods.idle);
    }

    /// Registered, be it that the gateway knows it: heartbeats begin at once (P-078, P-085).
    pub(super) fn ready(&mut self) {
        self.ready_since.get_or_insert(self.now);
        self.control.heartbeat = true;
        self.control.monitoring = true;
        let next = self.now + self.config.periods.heartbeat;
        self.timers.set(Timer::Heartbeat, next);
    }

    /// A registration is over, be it that another follows on the same connection: if it was good
    /// for long, which is returned, earlier failures do not count any more.
    pub(super) fn no_longer_ready(&mut self) -> bool {
        let up = self.ready_since.take().map(|since| self.now - since);
        let stable = up.is_some_and(|up| up >= self.config.backoff.stable);
        if stable {
            self.failures = 0;
            self.gateway_was_stable();
        }
        stable
    }

    pub(super) fn ask_to_register(&mut self) {
        let periods = self.config.periods;
        self.register_until = self.now + periods.register_total;
        let until = (self.now + periods.register).min(self.register_until);
        self.timers.set(Timer::Register, until);
        self.timers.stop(Timer::Heartbeat);
        self.control.ask_to_register(self.unix(), &self.config.info);
    }

    pub(super) fn disconnected(&mut self, conn: ConnId, down: Down) {
        let moving = self.gateway.moving == Some(conn);
        if self.phase.conn() != Some(conn) && !moving {
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
        if moving {
            self.gateway.moving = None;
            return self.gateway_away(reason, retry_after);
        }
        self.lose(reason, None, retry_after);
    }

    /// Ends the connection and arranges for the next.
    pub(super) fn lose(
        &mut self,
        reason: Reason,
        close: Option<CloseCode>,
        retry_after: Option<Duration>,
    ) {
        let Some(conn) = self.phase.conn() else {
            return;
        };
        if let Some(code) = close {
            self.actions.push_back(Action::Close(conn, code, ""));
        }
        let dialed = self.phase == Phase::Dialing(conn);
        self.stay();
        self.drop_link(Ending::Lost);
        self.enter(Cause::Lost, conn);
        if self.phase == Phase::Stopped {
            return self.actions.push_back(Action::Stopped);
        }
        let at_gateway = self.gateway.at;
        let stable = self.no_longer_ready();
        self.gateway.lost(dialed, stable);
        self.failures = self.failures.saturating_add(1);
        Disconnect::of_reason(&reason).count(&mut self.stats.disconnects);
        // What only a person or a long time can change is not asked for often; that a gateway does
        // not want us, or not now, tells nothing about the controller.
        let mut retry_after = retry_after;
        if at_gateway {
            self.gateway_asks(retry_after.take());
        }
        let failures = match reason {
            Reason::Unauthorized(_) if at_gateway => self.failures,
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

    /// Ends everything that belongs to the connection (P-158, P-174), its streams in this way.
    pub(super) fn drop_link(&mut self, ending: Ending) {
        self.timers = Timers::default();
        self.limits_due.clear();
        while let Some(id) = self.streams.first() {
            self.streams.ends(id, ending);
            if let Some(state) = self.forget(id) {
                self.reset_local(id, &state);
            }
        }
        self.control = Control::default();
        self.buffered = 0;
        self.refused_tunnels.clear();
        self.drop_session(ending);
    }

    pub(super) fn shutdown(&mut self, grace: Duration) {
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
        self.stay();
        self.enter(Cause::Shutdown, conn);
        match self.phase {
            Phase::Draining(_) => {
                self.timers.stop(Timer::Register);
                self.timers.stop(Timer::Heartbeat);
                self.control.register = false;
                self.control.registering = None;
                self.control.heartbeat = false;
                self.timers.set(Timer::Drain, self.now + grace);
                self.leave_session();
            }
            _ => {
                self.drop_link(Ending::Shutdown);
                let code = CloseCode::GoingAway;
                self.actions.push_back(Action::Close(conn, code, ""));
                self.actions.push_back(Action::Stopped);
            }
        }
    }

    /// Ends a shutdown once nothing is left to send.
    pub(super) fn settle(&mut self, force: bool) {
        let Phase::Draining(conn) = self.phase else {
            return;
        };
        let left = !self.streams.is_empty() || self.control.has_refusals() || self.has_session();
        if left && !force {
            return;
        }
        self.drop_link(Ending::Shutdown);
        let text = "the agent is shutting down";
        self.actions
            .push_back(Action::Close(conn, CloseCode::GoingAway, text));
        self.enter(Cause::Drained, conn);
        self.actions.push_back(Action::Stopped);
    }

    pub(super) fn expired(&mut self, timer: Timer) {
        let periods = self.config.periods;
        let normal = Some(CloseCode::Normal);
        match timer {
            Timer::Dial if self.gateway.moving.is_some() => {
                self.stay();
                self.gateway_away(Reason::DialTimeout, None);
            }
            Timer::Dial => self.lose(Reason::DialTimeout, normal, None),
            Timer::Drain => {
                self.fail_all(Ending::Shutdown, "the agent is shutting down");
                self.reset_all();
                self.timers.set(Timer::Linger, self.now + periods.linger);
            }
            Timer::Heartbeat => {
                if self.control.unanswered == Some(MAX_UNANSWERED) {
                    self.notices.push(Notice::HeartbeatsUnanswered);
                }
                self.control.heartbeat = true;
                self.timers
                    .set(Timer::Heartbeat, self.now + periods.heartbeat);
            }
            Timer::Gateway => self.dial_gateway(),
            Timer::Idle => self.lose(Reason::Idle, normal, None),
            Timer::Linger => self.settle(true),
            // The controller's; never set here.
            Timer::Hello => {}
            Timer::Ping => {
                self.control.ping = true;
                self.timers.set(Timer::Ping, self.now + periods.ping);
            }
            Timer::Reconnect => self.dial(),
            Timer::Register => self.lose(Reason::RegisterTimeout, normal, None),
            Timer::Stall => self.lose(Reason::Stalled, normal, None),
        }
    }
}
