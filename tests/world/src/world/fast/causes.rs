//! Why streams of the fast mode end before their time, and what the machines may hold for them.

use std::time::Duration;

use controlplane_core::{Failure, Limits, Machine as _, Stats, Time};

use super::{Tap, World};
use crate::{
    exchange::Check,
    fast::{Carries, Fast, Over},
    link::Side,
};

/// Silence after which a stream to a service is over, and for how long that may be dialled. What an
/// end says counts from the last time that its machine was told the time.
const IDLE: Duration = Duration::from_secs(300 - 10);
const DIAL: Duration = Duration::from_secs(30);
/// A message more than what waits already.
const MESSAGE: usize = 8 << 10;

impl World {
    /// Every reset has a cause.
    pub(super) fn explain_fast_reset(&self, n: u64) -> Check {
        let Some(fast) = self.fasts.get(&n) else {
            return Ok(());
        };
        let now = self.now;
        let gone = self.agent.machine.phase().open().is_none()
            || self.agent.stopping
            || self.agent.moved == Some(now);
        let service = fast.plan.carries != Carries::Http;
        let due = |since: Time, limit: Duration| service && now >= since + limit;
        let by_peer = matches!(
            fast.ends[Side::Controller as usize].over,
            Some(Over::Reset | Over::Dropped | Over::Gone)
        );
        let explained = gone
            || by_peer
            || fast.tainted
            || (!fast.accepted && due(fast.dialed, DIAL))
            || due(fast.active, IDLE)
            || self.is_full(Side::Agent, fast);
        match explained {
            true => Ok(()),
            false => Err(format!("stream {n} was dropped without a cause: {fast:?}")),
        }
    }

    pub(super) fn explain_fast_failure(&self, n: u64, failure: &Failure) -> Check {
        let Some(fast) = self.fasts.get(&n) else {
            return Ok(());
        };
        let service = &fast.ends[Side::Agent as usize];
        let never = service.id.is_none();
        let refused = fast.plan.forbidden || self.weather.is_storm() || self.agent.stopping;
        let by_peer = matches!(service.over, Some(Over::Reset | Over::Dropped | Over::Gone));
        let explained = match failure {
            _ if fast.tainted => true,
            // That the agent is lost is told right behind: see `poll_controller`.
            Failure::Disconnected => true,
            Failure::Overrun => self.is_full(Side::Controller, fast),
            Failure::Reset => by_peer || (never && refused),
            Failure::Shutdown => self.controller.stopping,
            _ => false,
        };
        match explained {
            true => Ok(()),
            false => Err(format!(
                "stream {n} failed without a cause: {failure} {fast:?}"
            )),
        }
    }

    /// Whether so much waited that something had to go.
    fn is_full(&self, side: Side, fast: &Fast) -> bool {
        let (limits, stats) = match side {
            Side::Agent => (self.agent.limits(), self.agent.machine.stats()),
            Side::Controller => (self.controller.limits(), self.controller.machine.stats()),
        };
        stats.held_in + fast.charge_at_most(side) + MESSAGE > limits.recv_total
    }

    /// What the machine of a side counts for streams of the fast mode, beside `charged` for all
    /// others: no less than their ends hold, and no more than was sent and not taken.
    pub(in super::super) fn look_at_fasts(
        &self,
        side: Side,
        stats: &Stats,
        charged: usize,
    ) -> Check {
        let (streams, limits) = match side {
            Side::Agent => (self.agent.fast_numbers(), self.agent.limits()),
            Side::Controller => (self.controller.fast_numbers(), self.controller.limits()),
        };
        let (mut least, mut most, mut tainted) = (0, 0, false);
        for n in streams {
            let Some(fast) = n.and_then(|n| self.fasts.get(&n)) else {
                continue;
            };
            tainted |= fast.tainted;
            // Datagrams that are cut out of the stream count no more.
            if fast.plan.carries != Carries::Udp {
                // The header shared a piece with what came behind it.
                let own = fast.ends[side as usize].reader.charge;
                least += own.saturating_sub(Limits::MIN_CHARGE);
            }
            most += fast.charge_at_most(side);
        }
        let held = stats.held_in;
        if held < charged + least {
            return Err(format!(
                "{side:?} counts {held} bytes, its ends hold {charged} and {least}"
            ));
        }
        let alien = self.tap.as_ref().is_some_and(Tap::is_tainted);
        if held > charged + most && !tainted && !alien {
            return Err(format!(
                "{side:?} counts {held} bytes, {charged} and at most {most} were sent"
            ));
        }
        if held - charged > limits.recv_total {
            return Err(format!("{side:?} holds {held} bytes of streams"));
        }
        Ok(())
    }
}
