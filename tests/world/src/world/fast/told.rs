//! What the machines tell the ends of streams.

use bytes::Bytes;
use controlplane_core::{Failure, Input, Kind, StreamEnd, StreamId};

use super::{Act, World};
use crate::{
    exchange::Check,
    fast::{Carries, FAST_PORT, FAST_PORTS, Fast, Over},
    link::Side,
};

/// What the client of a stream of somebody else says: nobody in this world.
pub(in super::super) const ALIEN: [u8; 16] = [0xEE; 16];

impl World {
    /// Which stream this is at a side; nothing in it where that is not known yet.
    pub(in super::super) fn fast_of(&self, side: Side, id: StreamId) -> Option<Option<u64>> {
        match side {
            Side::Agent => self.agent.fast.get(&id).copied(),
            Side::Controller => self.controller.fast.get(&id).map(|n| Some(*n)),
        }
    }

    /// A connection to the Kubernetes API: whose it is shows when its client speaks.
    pub(in super::super) fn fast_connected(&mut self, id: StreamId) -> Check {
        self.agent.fast.insert(id, None);
        self.count("fast: connected");
        Ok(())
    }

    pub(in super::super) fn fast_dialed(
        &mut self,
        id: StreamId,
        udp: bool,
        host: &str,
        port: u16,
    ) -> Check {
        let carries = if udp { Carries::Udp } else { Carries::Tcp };
        let known = (FAST_PORT..FAST_PORT + FAST_PORTS).contains(&port) && host == "pg.db.svc";
        let mut all = self.fasts.values_mut().rev();
        let fast = all.find(|fast| fast.port() == port && fast.plan.carries == carries);
        let Some(fast) = fast.filter(|_| known) else {
            return Err(format!("a stream to {host}:{port}, which nobody asked for"));
        };
        if fast.plan.forbidden || fast.ends[Side::Agent as usize].id.is_some() {
            return Err(format!("stream {} is dialled twice, or at all", fast.n));
        }
        let n = fast.n;
        self.agent.fast.insert(id, Some(n));
        self.count("fast: dialled");
        self.fast_begins(n, id);
        Ok(())
    }

    /// The service has the stream.
    fn fast_begins(&mut self, n: u64, id: StreamId) {
        let now = self.now;
        if let Some(fast) = self.fasts.get_mut(&n) {
            fast.end(Side::Agent).id = Some(id);
            (fast.dialed, fast.active) = (now, now);
        }
        self.fast_on(n, Side::Agent, Act::Says);
    }

    /// Whose a connection is, by what its client says: no two that are waited for begin alike.
    fn fast_whose(&mut self, id: StreamId, is: impl Fn(&Fast) -> bool) -> Option<u64> {
        let session = self.tap.as_ref().map(super::Tap::number);
        let fits = |fast: &&Fast| {
            let here = fast.plan.carries == Carries::Http && Some(fast.session) == session;
            fast.is_unknown() && here && is(fast)
        };
        let n = self.fasts.values().find(fits).map(|fast| fast.n)?;
        self.agent.fast.insert(id, Some(n));
        self.fast_begins(n, id);
        Some(n)
    }

    /// Nobody will speak on these any more.
    pub(super) fn fasts_without_client_end(&mut self) {
        let silent = self.agent.fast.extract_if(.., |_, n| n.is_none());
        self.aliens.extend(silent.map(|(id, _)| id));
    }

    /// A connection that nobody in this world opened.
    fn fast_alien(&mut self, id: StreamId) -> Check {
        if self.weather.is_storm() || self.weather == crate::plan::Weather::Hostile {
            if !self.aliens.contains(&id) {
                self.aliens.push(id);
                self.count("fast: aliens");
            }
            return Ok(());
        }
        Err(format!("{id:?}: a connection whose client nobody is"))
    }

    pub(in super::super) fn fast_data(
        &mut self,
        side: Side,
        id: StreamId,
        n: Option<u64>,
        (kind, data): (Kind, &Bytes),
    ) -> Check {
        let n = match n {
            Some(n) => n,
            None if self.aliens.contains(&id) => return Ok(()),
            None => match self.fast_whose(id, |fast| fast.begins_with(data)) {
                Some(n) => n,
                None => return self.fast_alien(id),
            },
        };
        let now = self.now;
        let Some(fast) = self.fasts.get_mut(&n) else {
            return Ok(());
        };
        fast.hears(side, kind, data)?;
        if side == Side::Agent {
            fast.active = now;
        }
        self.fast_on(n, side, Act::Reads);
        Ok(())
    }

    pub(in super::super) fn fast_half_closed(
        &mut self,
        side: Side,
        id: StreamId,
        n: Option<u64>,
    ) -> Check {
        // Every client of this world speaks first.
        let Some(n) = n else {
            return self.fast_alien(id);
        };
        if let Some(fast) = self.fasts.get_mut(&n) {
            fast.hears_end(side)?;
        }
        // It may have waited for this.
        self.fast_on(n, side, Act::Says);
        Ok(())
    }

    pub(in super::super) fn fast_over(
        &mut self,
        side: Side,
        id: StreamId,
        n: Option<u64>,
    ) -> Check {
        let Some(n) = n else {
            return Err(format!("{id:?} is over, and never began"));
        };
        self.forget_fast(side, id);
        self.count("fast: over");
        if self.rng.chance(100) {
            // An adapter that crosses it: without effect.
            self.tell(side, Input::Ended(id, StreamEnd::Clean))?;
            self.tell(side, Input::Cancel(id))?;
        }
        match self.fasts.get_mut(&n) {
            Some(fast) => fast.is_over(side),
            None => Ok(()),
        }
    }

    /// The agent drops the service.
    pub(in super::super) fn fast_reset(&mut self, id: StreamId, n: Option<u64>) -> Check {
        self.agent.fast.remove(&id);
        self.count("fast: dropped");
        let Some(n) = n else {
            return Ok(());
        };
        self.explain_fast_reset(n)?;
        if let Some(fast) = self.fasts.get_mut(&n) {
            fast.end(Side::Agent).ends(Over::Dropped);
        }
        Ok(())
    }

    pub(in super::super) fn fast_failed(
        &mut self,
        id: StreamId,
        n: Option<u64>,
        failure: &Failure,
    ) -> Check {
        self.controller.fast.remove(&id);
        self.count(match failure {
            Failure::Disconnected => "fast: disconnected",
            Failure::Overrun => "fast: failed, no memory",
            Failure::Shutdown => "fast: failed, controller stops",
            _ => "fast: failed",
        });
        let Some(n) = n else {
            return Ok(());
        };
        self.explain_fast_failure(n, failure)?;
        if let Some(fast) = self.fasts.get_mut(&n) {
            fast.end(Side::Controller).ends(Over::Dropped);
        }
        Ok(())
    }

    pub(in super::super) fn fast_writable(&mut self, side: Side, n: Option<u64>) -> Check {
        let fast = n.and_then(|n| self.fasts.get_mut(&n));
        let Some(fast) = fast else {
            return Err("a stream is called that never spoke".into());
        };
        let n = fast.n;
        if !std::mem::take(&mut fast.end(side).blocked) {
            return Err(format!("stream {n}: who was not refused is called"));
        }
        self.fast_on(n, side, Act::Says);
        Ok(())
    }
}
