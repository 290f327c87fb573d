//! What an agent owes, whatever its network does: kept beside the machine and compared with it.

use std::time::Duration;

use controlplane_core::{
    Action, Backoff, ConnId, Down, Endpoint, Input, Notice, Periods, Phase, Reason, Time,
};
use serde_json::Value;

use super::{
    delays::{ceiling, is_within, told_right},
    network::TRIP,
};

pub(super) type Check = Result<(), String>;

/// A dial under way.
#[derive(Clone, Copy, Debug)]
struct Dialling {
    conn: ConnId,
    gateway: bool,
    since: Time,
}

/// The connection that there is.
#[derive(Clone, Copy, Debug)]
struct Link {
    conn: ConnId,
    gateway: bool,
    /// Since when its registration is asked for.
    asking: Option<Time>,
    /// Since when it is registered.
    ready: Option<Time>,
}

/// What has to follow at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Owed {
    /// [`Action::ReconnectAfter`]
    Reconnect,
    /// [`Notice::GatewayAway`]
    GatewayAway,
    /// The close of the connection that the gateway's took over from.
    Close(ConnId),
}

pub(super) struct Model {
    backoff: Backoff,
    periods: Periods,
    pub(super) now: Time,
    pub(super) is_allowed_to_stop: bool,
    /// What the last registration named.
    pub(super) cluster: Option<String>,
    dialling: Option<Dialling>,
    link: Option<Link>,
    last: ConnId,
    owed: Option<Owed>,
    /// When a connection was lost last.
    lost_at: Option<Time>,
    /// How the network ended what was lost; `None` where the agent gave it up.
    down: Option<Down>,
    /// What was lost was the gateway's.
    at_gateway: bool,
    /// A gateway that is lost is dialled again once, then comes the controller's turn.
    next_is_gateway: bool,
    /// The last link to it did not last.
    short: bool,
    failures: u32,
    gateway_failures: u32,
    /// When the next dial is due.
    due: Option<Time>,
    /// Not before this is the gateway dialled again, beside the link.
    gateway_due: Time,
    /// Until when the gateway asked not to be dialled.
    gateway_until: Time,
    gateway_url: Option<String>,
    /// From when on the network is good, and until when the agent has to be registered.
    registered_by: Option<Time>,
    was_good: bool,
}

impl Model {
    pub(super) const fn new(backoff: Backoff, periods: Periods) -> Self {
        Self {
            backoff,
            periods,
            now: Time::ZERO,
            is_allowed_to_stop: false,
            cluster: None,
            dialling: None,
            link: None,
            last: ConnId(0),
            owed: None,
            lost_at: None,
            down: None,
            at_gateway: false,
            next_is_gateway: false,
            short: false,
            failures: 0,
            gateway_failures: 0,
            due: Some(Time::ZERO),
            gateway_due: Time::ZERO,
            gateway_until: Time::ZERO,
            gateway_url: None,
            registered_by: None,
            was_good: false,
        }
    }

    /// Whether a connection is there or being dialled.
    pub(super) fn knows(&self, conn: ConnId) -> bool {
        self.is_link(conn) || self.is_dialled(conn)
    }

    fn is_link(&self, conn: ConnId) -> bool {
        self.link.is_some_and(|link| link.conn == conn)
    }

    fn is_dialled(&self, conn: ConnId) -> bool {
        self.dialling.is_some_and(|dial| dial.conn == conn)
    }

    // ------------------------------------------------------------ what the agent is told

    pub(super) fn input(&mut self, input: &Input<'_>) {
        self.down = None;
        match input {
            Input::Connected(conn) if self.is_dialled(*conn) => self.connected(*conn),
            Input::Disconnected(conn, down) if self.knows(*conn) => {
                self.down = Some(down.clone());
                if self.is_link(*conn) {
                    self.lost();
                } else {
                    let beside = self.link.is_some();
                    self.dial_over();
                    self.owed = Some(match beside {
                        true => Owed::GatewayAway,
                        false => Owed::Reconnect,
                    });
                }
            }
            _ => {}
        }
    }

    fn connected(&mut self, conn: ConnId) {
        let gateway = self.dialling.take().is_some_and(|dial| dial.gateway);
        if let Some(old) = self.link {
            self.not_ready();
            self.owed = Some(Owed::Close(old.conn));
        }
        self.link = Some(Link {
            conn,
            gateway,
            asking: (!gateway).then_some(self.now),
            ready: gateway.then_some(self.now),
        });
    }

    /// The controller, or the gateway, does not know the agent any more, and says so.
    pub(super) fn forgotten(&mut self, conn: ConnId) {
        let ready = self.link.is_some_and(|link| link.ready.is_some());
        if !self.is_link(conn) || !ready {
            return;
        }
        self.cluster = None;
        self.not_ready();
        match &mut self.link {
            Some(link) if link.gateway => {
                self.gateway_failures = self.gateway_failures.saturating_add(1);
            }
            Some(link) => link.asking = Some(self.now),
            None => {}
        }
    }

    /// A success with a cluster's name would make the connection registered.
    pub(super) fn would_register(&self, conn: ConnId) -> bool {
        self.is_link(conn) && self.link.is_some_and(|link| link.asking.is_some())
    }

    /// From the loss on that was told last.
    pub(super) fn network_is_good(&mut self) {
        if std::mem::replace(&mut self.was_good, true) {
            return;
        }
        // The longest of delays, or a second dial where the gateway's fails.
        let longest = self.backoff.retry_after_max * 3 / 2;
        let gateway = match self.next_is_gateway {
            true => self.periods.dial + longest,
            false => Duration::ZERO,
        };
        let due = self.due.unwrap_or(self.now);
        self.registered_by = Some(due + gateway + 4 * TRIP);
    }

    // ------------------------------------------------------------ what the agent does

    pub(super) fn action(&mut self, action: &Action) -> Check {
        match action {
            Action::Connect(conn, endpoint) => self.dials(*conn, endpoint),
            Action::Close(conn, ..) => self.closes(*conn),
            Action::ReconnectAfter {
                delay,
                attempt,
                reason,
            } => self.waits(*delay, *attempt, reason),
            Action::Notice(Notice::GatewayAway { delay, reason }) => {
                self.gateway_away(*delay, reason)
            }
            Action::Registered(registration) => self.registered(&registration.gateway_ws_url),
            Action::Stopped if !self.is_allowed_to_stop => Err("stopped by itself".into()),
            Action::Send(conn, _) if !self.is_link(*conn) => Err(format!("sends on {conn:?}")),
            _ => Ok(()),
        }
    }

    fn dials(&mut self, conn: ConnId, endpoint: &Endpoint) -> Check {
        if let Some(dial) = self.dialling {
            return Err(format!("{conn:?} is dialled beside {dial:?}"));
        }
        if conn <= self.last {
            return Err(format!("{conn:?} was used before"));
        }
        let gateway = matches!(endpoint, Endpoint::Gateway(_));
        if let Endpoint::Gateway(url) = endpoint
            && self.gateway_url.get_or_insert_with(|| url.clone()) != url
        {
            return Err(format!("another identity at the gateway: {url}"));
        }
        match self.link {
            Some(link) if !gateway || link.gateway || link.ready.is_none() => {
                return Err(format!("{conn:?} is dialled beside {link:?}"));
            }
            Some(_) if self.now < self.gateway_due => return Err("a gateway too early".into()),
            Some(_) => {}
            None => {
                let due = self.due.take().ok_or("dialled without a delay")?;
                if due != self.now {
                    return Err(format!("dialled at {:?}, due at {due:?}", self.now));
                }
                if gateway != self.next_is_gateway {
                    return Err(format!("dials {endpoint:?}"));
                }
            }
        }
        self.last = conn;
        self.dialling = Some(Dialling {
            conn,
            gateway,
            since: self.now,
        });
        Ok(())
    }

    fn closes(&mut self, conn: ConnId) -> Check {
        if self.owed == Some(Owed::Close(conn)) {
            self.owed = None;
        } else if self.is_link(conn) {
            self.lost();
        } else if self.is_dialled(conn) {
            let beside = self.link.is_some();
            self.dial_over();
            if !beside && self.owed.is_none() && !self.is_allowed_to_stop {
                self.owed = Some(Owed::Reconnect);
            }
        } else {
            return Err(format!("{conn:?} is closed, which is not there"));
        }
        Ok(())
    }

    fn lost(&mut self) {
        let stable = self.not_ready();
        self.lost_at = Some(self.now);
        let at_gateway = self.link.take().is_some_and(|link| link.gateway);
        // After it disowned the agent, the controller is next.
        self.at_gateway = at_gateway && self.cluster.is_some();
        self.next_is_gateway = self.at_gateway;
        if self.at_gateway {
            // And after it kept the agent for a short time only, twice in a row.
            let again = std::mem::replace(&mut self.short, !stable);
            if again && !stable {
                self.gateway_failures = self.gateway_failures.saturating_add(1);
                (self.short, self.next_is_gateway) = (false, false);
            }
        } else {
            self.short = false;
        }
        if !self.is_allowed_to_stop {
            self.owed = Some(Owed::Reconnect);
        }
    }

    /// A dial failed or was given up.
    fn dial_over(&mut self) {
        let gateway = self.dialling.take().is_some_and(|dial| dial.gateway);
        if self.link.is_none() && self.owed.is_none() {
            self.gateway_failures = self.gateway_failures.saturating_add(gateway.into());
            (self.at_gateway, self.next_is_gateway) = (gateway, false);
            self.short &= !gateway;
        }
    }

    /// Only a registration that was good for long lets earlier failures be forgotten.
    fn not_ready(&mut self) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        let up = link.ready.take().map(|since| self.now - since);
        let stable = up.is_some_and(|up| up >= self.backoff.stable);
        if stable {
            self.failures = 0;
            if link.gateway {
                self.gateway_failures = 0;
            }
        }
        stable
    }

    fn waits(&mut self, delay: Duration, attempt: u32, reason: &Reason) -> Check {
        if self.owed.take() != Some(Owed::Reconnect) {
            return Err(format!("reconnects, and nothing was lost: {reason}"));
        }
        if let Some(dial) = self.dialling {
            return Err(format!("waits beside {dial:?}"));
        }
        told_right(self.down.as_ref(), reason)?;
        self.failures = self.failures.saturating_add(1);
        if attempt != self.failures {
            return Err(format!("attempt {attempt}, not {}", self.failures));
        }
        let longest = match reason {
            Reason::Superseded => true,
            Reason::Unauthorized(_) => !self.at_gateway,
            _ => false,
        };
        let failures = if longest { u32::MAX } else { self.failures };
        // What a gateway asks for is no matter of the controller's.
        let asked = self.down.as_ref().filter(|_| !self.at_gateway);
        is_within(self.backoff, asked, delay, failures)?;
        if self.at_gateway {
            self.gateway_asks();
        }
        self.due = Some(self.now + delay);
        Ok(())
    }

    fn gateway_away(&mut self, delay: Duration, reason: &Reason) -> Check {
        // P-180. Only its own end, in the same moment, is told before.
        let there = self.link.is_some_and(|link| !link.gateway);
        if !there && self.lost_at != Some(self.now) {
            return Err("a gateway fails, and the controller's link is gone".into());
        }
        if self.owed == Some(Owed::GatewayAway) {
            self.owed = None;
        }
        told_right(self.down.as_ref(), reason)?;
        self.gateway_failures = match reason {
            Reason::Unauthorized(_) => u32::MAX,
            _ => self.gateway_failures.saturating_add(1),
        };
        let down = self.down.as_ref();
        is_within(self.backoff, down, delay, self.gateway_failures)?;
        self.gateway_asks();
        self.gateway_due = self.now + delay;
        Ok(())
    }

    /// The gateway is not dialled again before it wants to be.
    fn gateway_asks(&mut self) {
        let asked = match &self.down {
            Some(Down::Refused { retry_after, .. }) => *retry_after,
            _ => None,
        };
        let asked = asked.unwrap_or_default().min(self.backoff.retry_after_max);
        self.gateway_until = self.now + asked;
    }

    fn registered(&mut self, gateway_url: &str) -> Check {
        let Some(link) = &mut self.link else {
            return Err("registered without a connection".into());
        };
        link.asking = None;
        link.ready.get_or_insert(self.now);
        if !link.gateway {
            self.gateway_url = None;
            self.gateway_due = self.now;
            if !gateway_url.is_empty() && self.gateway_failures > 0 {
                let ceiling = ceiling(self.backoff, self.gateway_failures);
                self.gateway_due = self.gateway_until.max(self.now + ceiling / 2);
            }
        }
        match self.registered_by.take() {
            Some(by) if self.now > by => {
                Err(format!("registered at {:?}, not by {by:?}", self.now))
            }
            _ => Ok(()),
        }
    }

    /// A `register` was sent: P-181, P-184.
    pub(super) fn registers(&self, conn: ConnId, cluster: &Value) -> Check {
        if !self.would_register(conn) {
            return Err(format!("registers on {conn:?}"));
        }
        if cluster.as_str() != self.cluster.as_deref() {
            return Err(format!("registers {cluster}, and is {:?}", self.cluster));
        }
        Ok(())
    }

    // ------------------------------------------------------------ after each step

    pub(super) fn settled(&self, phase: Phase) -> Check {
        let dialled = self.dialling.map(|dial| dial.conn);
        let same = match (phase, self.link) {
            (Phase::Dialing(conn), None) => dialled == Some(conn),
            (Phase::Registering(conn), Some(link)) => link.conn == conn && link.asking.is_some(),
            (Phase::Ready(conn), Some(link)) => link.conn == conn && link.ready.is_some(),
            // P-176: there always is a next one.
            (Phase::Waiting, None) => dialled.is_none() && self.due.is_some_and(|at| at > self.now),
            _ => false,
        };
        if !same {
            return Err(format!(
                "{phase:?}, and there is {:?}, {dialled:?}",
                self.link
            ));
        }
        if let Some(owed) = self.owed {
            return Err(format!("{owed:?} did not come"));
        }
        let dials = self.dialling.map(|dial| dial.since + self.periods.dial);
        let asks = self.link.and_then(|link| link.asking);
        let asks = asks.map(|since| since + self.periods.register_total);
        let late = [dials, asks, self.registered_by];
        match late.into_iter().flatten().find(|until| *until < self.now) {
            Some(until) => Err(format!("it was to be over by {until:?}")),
            None => Ok(()),
        }
    }
}
