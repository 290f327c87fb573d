//! Gateway mode (P-007 to P-009, P-082 to P-085): a second server that the controller names, and
//! that the agent then works for.
//!
//! ```text
//!                    register_success names one that is permitted
//! at the controller ───────────────────────────────────────────▶ at the controller, dialling it
//!         ▲    ▲                                                    │            │
//!         │    └──── lost, and not reached again ──┐                │ connected  │ fails: again
//!         │          or it does not know us        │                ▼            ▼ after a backoff
//!      Dialing ◀──────────────────────────── at the gateway       the old link   at the controller
//!                                                                 is closed
//! ```
//!
//! The link to the controller serves until the gateway's stands (P-180). What is lost at the
//! gateway is looked for there once more, and then at the controller, which is asked for a real
//! registration (P-182): where that dial fails, or the second link does not last either.

use core::time::Duration;

use alloc::string::String;

use super::Agent;
use crate::{
    action::{Action, CloseCode, Endpoint, Notice, Registration},
    error::Reason,
    input::ConnId,
    link::{Cause, Phase},
    rules,
    stats::Ending,
    time::Time,
    timers::Timer,
};

/// Which of the two servers is meant.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    /// What the last registration named, if it is permitted: the URL to dial. It stays the same on
    /// every dial, and with it the identity (P-184).
    url: Option<String>,
    /// The link, or the dial of the next one, is to it.
    pub(super) at: bool,
    /// A dial beside the link to the controller.
    pub(super) moving: Option<ConnId>,
    /// The last link to it was lost before it was stable.
    short: bool,
    /// Failures in a row.
    failures: u32,
    /// Until when it asked, at a dial that failed, not to be dialled again.
    until: Option<Time>,
    /// What is told again when a dial of it makes the agent registered.
    registration: Registration,
}

impl Gateway {
    /// Whom the next dial is to.
    pub(super) fn endpoint(&self) -> Endpoint {
        match &self.url {
            Some(url) if self.at => Endpoint::Gateway(url.clone()),
            _ => Endpoint::Controller,
        }
    }

    /// The link is lost, or the dial of it failed. The controller is next after a dial that failed,
    /// and after two links in a row that did not last: a gateway that accepts everybody and keeps
    /// nobody is as good as none.
    pub(super) const fn lost(&mut self, dialed: bool, stable: bool) {
        if !self.at {
            return;
        }
        let again = core::mem::replace(&mut self.short, !stable && !dialed);
        if dialed || (again && !stable) {
            self.at = false;
            self.short = false;
            self.failures = self.failures.saturating_add(1);
        }
    }
}

impl Agent {
    /// A registration names a gateway, or none.
    pub(super) fn named_gateway(&mut self, registration: &Registration) {
        self.gateway.url = None;
        let named = &*registration.gateway_ws_url;
        if named.is_empty() {
            return;
        }
        let uuid = match &*registration.cluster_uuid {
            "" => &registration.cluster_id,
            uuid => uuid,
        };
        let config = &self.config;
        let version = &config.info.agent_version;
        let hosts = &config.gateways;
        match rules::gateway_url(named, hosts, config.encrypted, uuid, version, config.yamux) {
            Ok(url) => {
                self.gateway.url = Some(url);
                self.gateway.registration = registration.clone();
                if self.gateway.failures == 0 {
                    return self.dial_gateway();
                }
                let asked = self.gateway.until.map(|until| until - self.now);
                let delay = self.gateway_delay(asked);
                self.timers.set(Timer::Gateway, self.now + delay);
            }
            Err(fault) => self.notices.push(Notice::GatewayRefused(fault)),
        }
    }

    /// Dials the gateway beside the link to the controller.
    pub(super) fn dial_gateway(&mut self) {
        let Some(url) = self.gateway.url.clone() else {
            return;
        };
        if matches!(self.phase, Phase::Ready(_)) && !self.gateway.at {
            let conn = self.connect(Endpoint::Gateway(url));
            self.gateway.moving = Some(conn);
        }
    }

    /// The gateway's link stands: the other one has had its time.
    pub(super) fn moved(&mut self, conn: ConnId) {
        self.gateway.moving = None;
        let Some(old) = self.phase.conn() else {
            return;
        };
        let text = "the agent works for the gateway";
        self.actions
            .push_back(Action::Close(old, CloseCode::Normal, text));
        self.drop_link(Ending::Lost);
        self.enter(Cause::Moved, conn);
        self.no_longer_ready();
        self.gateway.at = true;
        self.watch();
        self.ready();
        self.notices.push(Notice::Gateway);
    }

    /// A dial of the gateway succeeded: it knows who comes from the URL (P-009).
    pub(super) fn resumed(&mut self, conn: ConnId) {
        self.enter(Cause::Resumed, conn);
        self.ready();
        let registration = self.gateway.registration.clone();
        self.actions.push_back(Action::Registered(registration));
    }

    /// Gives up a dial beside the link, if there is one.
    pub(super) fn stay(&mut self) {
        self.timers.stop(Timer::Gateway);
        if let Some(conn) = self.gateway.moving.take() {
            self.timers.stop(Timer::Dial);
            self.actions
                .push_back(Action::Close(conn, CloseCode::Normal, ""));
        }
    }

    /// The gateway could not be reached; the link to the controller serves on.
    pub(super) fn gateway_away(&mut self, reason: Reason, retry_after: Option<Duration>) {
        self.timers.stop(Timer::Dial);
        self.gateway_asks(retry_after);
        self.gateway.failures = match reason {
            Reason::Unauthorized(_) => u32::MAX,
            _ => self.gateway.failures.saturating_add(1),
        };
        let delay = self.gateway_delay(retry_after);
        self.timers.set(Timer::Gateway, self.now + delay);
        self.notices.push(Notice::GatewayAway { delay, reason });
    }

    /// What a gateway asks for is for its own dials, whichever server is next.
    pub(super) fn gateway_asks(&mut self, retry_after: Option<Duration>) {
        let most = self.config.backoff.retry_after_max;
        self.gateway.until = retry_after.map(|asked| self.now + asked.min(most));
    }

    fn gateway_delay(&mut self, retry_after: Option<Duration>) -> Duration {
        let entropy = self.rng.next();
        let backoff = &self.config.backoff;
        backoff.delay(self.gateway.failures, retry_after, entropy)
    }

    /// The gateway does not know this cluster: the controller is to register it anew (P-182).
    pub(super) fn gateway_disowns(&mut self, text: String) {
        self.no_longer_ready();
        self.gateway.at = false;
        self.gateway.short = false;
        self.gateway.failures = self.gateway.failures.saturating_add(1);
        self.set_cluster_id(None);
        let reason = Reason::RegisterRefused(text);
        self.lose(reason, Some(CloseCode::Normal), None);
    }

    /// The link to the gateway was good for long enough.
    pub(super) const fn gateway_was_stable(&mut self) {
        if self.gateway.at {
            self.gateway.failures = 0;
        }
    }
}
