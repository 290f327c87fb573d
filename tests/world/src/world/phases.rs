//! From the storm to the end: what must hold once nothing goes wrong any more (design,
//! invariant 4).

use std::time::Duration;

use controlplane_core::{Input, Machine as _, Time};

use super::{Event, World, clients::STREAMS, oracle::is_empty};
use crate::{
    content::Way,
    exchange::{Check, Outcome},
    fast,
    link::{Side, Wire},
    message::message,
    plan::{Manners, Plan, Script, Weather},
    tunnel::{self, Ended},
};

impl World {
    pub(super) fn live(&mut self) -> Check {
        self.after(Duration::from_millis(100), Event::Request);
        if self.weather == Weather::Hostile || self.weather.is_storm() {
            self.after(Duration::from_secs(5), Event::Fault);
        }
        self.until(Time::ZERO + self.storm, |_| false)?;
        self.calm_down();
        self.recover()?;
        self.finish_the_old()?;
        if !self.agent.is_ready() || self.controller.machine.joined().is_none() {
            // More was refused at once than may wait: that cost the link.
            self.recover()?;
        }
        self.serve_the_new()?;
        self.stop()
    }

    /// Nothing goes wrong any more, and nobody is slow.
    fn calm_down(&mut self) {
        self.calm = true;
        self.calm_tunnels = self.next_tunnel;
        self.second_agents_leave();
        self.tunnels_calm_down();
        self.fasts_calm_down();
        self.broken_session_ends();
        for side in Side::BOTH {
            self.after(Duration::ZERO, Event::Start(side));
        }
        let links: Vec<u64> = self.links.keys().copied().collect();
        for id in links {
            for side in Side::BOTH {
                if let Some(link) = self.links.get_mut(&id) {
                    link.release(side, self.now);
                }
                self.after(Duration::ZERO, Event::Arrive(id, side));
            }
        }
        let all: Vec<(u64, bool, bool)> = self
            .exchanges
            .values()
            .map(|e| {
                let lied_about = e.tainted || e.is_strangers();
                (e.n, lied_about, e.answered || e.talk.is_some())
            })
            .collect();
        for (n, lied_about, answered) in all {
            if lied_about {
                self.clear_up(n);
            }
            if answered {
                // It may have hung in the middle.
                self.after(Duration::ZERO, Event::UpstreamAnswers(n));
                self.after(Duration::ZERO, Event::UpstreamReads(n));
            }
        }
    }

    /// What cannot be read, or leads to no new streams, is at the end of its link; so is one in which
    /// an end may wait for what the other takes to be over.
    fn broken_session_ends(&mut self) {
        // The other end may have yet to hear of it.
        let lied_about = |fast: &fast::Fast| {
            let heard = fast.ends.iter().all(|end| end.over.is_some());
            fast.tainted && fast.session == self.sessions && !heard
        };
        let lied_about = self.weather.is_storm() && self.fasts.values().any(lied_about);
        let tap = self.tap.as_ref();
        let tap = tap.filter(|tap| tap.broken || tap.left || lied_about);
        let Some(link) = tap.map(|tap| tap.link) else {
            return;
        };
        if let Some(link) = self.links.get_mut(&link) {
            link.cut();
        }
        for side in Side::BOTH {
            self.after(Duration::ZERO, Event::Told(link, side));
        }
    }

    /// After a lie one side may wait for ever for what the other takes to be over.
    fn clear_up(&mut self, n: u64) {
        self.after(Duration::ZERO, Event::Cancel(n));
        let name = self.names.get(&n).cloned();
        if let (Some(name), Some(link)) = (name, self.agent.link) {
            if let Some(exchange) = self.exchanges.get_mut(&n) {
                exchange.tainted = true;
            }
            let stream = format!(r#"{{"stream_id":"{name}"}}"#);
            for (kind, payload) in [("proxy_cancel", "{}"), ("proxy_websocket_close", &*stream)] {
                let text = message(kind, &name, payload);
                self.transmit(link, Side::Controller, Wire::Text(text));
            }
        }
    }

    /// The agent is registered again, in time.
    fn recover(&mut self) -> Check {
        let start = self.now;
        loop {
            // What is being stopped comes back: that is the world's doing.
            self.until(self.now + Duration::from_secs(1), |_| false)?;
            for (up, side) in [
                (self.agent.up, Side::Agent),
                (self.controller.up, Side::Controller),
            ] {
                if !up {
                    self.after(Duration::ZERO, Event::Start(side));
                }
            }
            let known = self.controller.up && self.controller.machine.joined().is_some();
            let stopping = self.agent.stopping || self.controller.stopping;
            let links = self.links.len() == 1 && self.links.values().all(|link| !link.is_cut());
            // A gateway that is named is reached sooner or later, and what runs then is lost.
            let links = links && (!self.gateway || self.links.values().all(|l| l.is_registered));
            if self.agent.is_ready() && known && !stopping && links {
                self.count("recovered");
                return Ok(());
            }
            // Found out, waited and dialled: after a stop of either end once more.
            let found = start + Self::patience() + Duration::from_secs(20);
            let limit = found.max(self.excused_until) + Duration::from_secs(60 + 10);
            // The controller first, and then a dial that hangs and a pause of its own.
            let gateway = Duration::from_secs(if self.gateway { 60 + 30 + 60 } else { 0 });
            let limit = limit + gateway;
            if self.now > limit {
                let phase = self.agent.machine.phase();
                return Err(format!(
                    "not registered again: the agent is at {phase:?}, the controller knows it: {known}"
                ));
            }
        }
    }

    /// What was asked before ends, one way or the other.
    fn finish_the_old(&mut self) -> Check {
        let mut end = self.now + Duration::from_secs(150);
        // A slow link has much to carry: as long as it does, nobody waits for ever.
        let longest = self.now + Duration::from_secs(3600);
        loop {
            self.until(end, |world| world.is_quiet())?;
            let open = self.fasts.values().filter(|fast| fast.is_open());
            let moved = open.map(|fast| fast.active).max();
            let moving = moved.is_some_and(|at| at + Duration::from_secs(30) > self.now);
            if !moving || self.now >= longest {
                break;
            }
            end = self.now + Duration::from_secs(30);
        }
        if let Some(open) = self.exchanges.values().find(|e| e.is_open()) {
            return Err(format!("request {} never ended: {open:?}", open.n));
        }
        if !self.tunnels_are_quiet() {
            let open = self
                .tunnels
                .values()
                .find(|t| t.is_open() || t.service.is_some());
            return Err(format!("a tunnel never ended: {open:?}"));
        }
        if let Some(open) = self.fasts.values().find(|fast| fast.is_open()) {
            return Err(format!("stream {} never ended: {open:?}", open.n));
        }
        if let Some(served) = self.exchanges.values().find(|e| e.is_served()) {
            return Err(format!("request {} is worked on for nobody", served.n));
        }
        self.empty()
    }

    fn is_quiet(&self) -> bool {
        let tables = [self.agent.machine.stats(), self.controller.machine.stats()];
        tables.iter().all(|stats| stats.streams_open == 0)
            && self.tunnels_are_quiet()
            && self.fasts_are_quiet()
            && self
                .exchanges
                .values()
                .all(|e| !e.is_open() && !e.is_served())
    }

    fn empty(&self) -> Check {
        for (who, stats) in [
            ("agent", self.agent.machine.stats()),
            ("controller", self.controller.machine.stats()),
        ] {
            if !is_empty(&stats) {
                return Err(format!("the {who}'s tables are not empty: {stats:?}"));
            }
        }
        Ok(())
    }

    /// As if nothing had been.
    fn serve_the_new(&mut self) -> Check {
        let first = self.next_request;
        for _ in 0..5 {
            let plan = self.calm_plan();
            self.request(plan)?;
        }
        self.until(self.now + Duration::from_secs(60), |world| world.is_quiet())?;
        self.serve_new_tunnels()?;
        self.serve_new_fasts()?;
        for (n, exchange) in self.exchanges.range(first..) {
            let outcome = &exchange.outcome;
            let heard = exchange.talk.as_ref().is_none_or(|talk| talk.up.is_whole());
            if !matches!(outcome, Some(Outcome::Finished | Outcome::Left)) || !heard {
                return Err(format!("request {n} in the calm: {outcome:?}"));
            }
        }
        if self.next_request != first + 5 {
            return Err("requests were not taken in the calm".into());
        }
        self.empty()
    }

    fn serve_new_tunnels(&mut self) -> Check {
        if self.manners != Manners::Ours {
            return Ok(());
        }
        let first = self.next_tunnel;
        for _ in 0..2 {
            let plan = tunnel::Plan::sound(&mut self.rng);
            self.tunnel(plan)?;
        }
        self.until(self.now + Duration::from_secs(60), |world| world.is_quiet())?;
        for (n, tunnel) in self.tunnels.range(first..) {
            let ended = matches!(tunnel.ended, Some(Ended::Finished | Ended::Client));
            if !ended || !tunnel.is_whole(Way::Request) || !tunnel.is_whole(Way::Answer) {
                return Err(format!("tunnel {n} in the calm: {tunnel:?}"));
            }
        }
        if self.next_tunnel != first + 2 {
            return Err("tunnels were not taken in the calm".into());
        }
        Ok(())
    }

    fn serve_new_fasts(&mut self) -> Check {
        if !self.is_fast() {
            return Ok(());
        }
        let (first, opened) = (self.next_fast, self.fasts.len());
        for _ in 0..3 {
            let plan = fast::Plan::sound(&mut self.rng, 2000);
            self.fast(plan)?;
        }
        self.until(self.now + Duration::from_secs(60), |world| world.is_quiet())?;
        if self.fasts.len() != opened + 3 {
            return Err("streams were not taken in the calm".into());
        }
        self.fasts_went_well(first)
    }

    /// What nothing can make fail.
    fn calm_plan(&mut self) -> Plan {
        let streams = match self.manners {
            Manners::Deaf => 0,
            _ => STREAMS,
        };
        let n = self.next_request;
        Plan::new(&mut self.rng, n, Weather::Fair, streams).calm(&mut self.rng)
    }

    /// Both stop in time, whatever is still open.
    fn stop(&mut self) -> Check {
        for _ in 0..2 {
            let n = self.next_request;
            let mut plan = self.calm_plan();
            match plan.script {
                Some(script) => plan.script = Some(Script::idle(script)),
                None => plan.body = Some(5000),
            }
            self.request(plan)?;
            if let Some(exchange) = self.exchanges.get_mut(&n) {
                // Its client never sends: nothing ends it but the shutdown.
                exchange.client_blocked = true;
            }
        }
        if self.is_fast() {
            self.idle_fast = Some(self.next_fast);
            let plan = fast::Plan::idle(&mut self.rng);
            self.fast(plan)?;
        }
        self.until(self.now + Duration::from_secs(5), |_| false)?;
        self.ending = true;
        let grace = Duration::from_secs(5);
        let end = Duration::from_secs(5 + 2);
        if self.rng.chance(500) {
            self.agent.stopping = true;
            self.tell_agent(Input::Shutdown(grace))?;
            self.until(self.now + end, |_| false)?;
        }
        self.controller.stopping = true;
        self.tell_controller(Input::Shutdown(grace))?;
        self.until(self.now + end, |_| false)?;
        self.agent.stopping = true;
        self.tell_agent(Input::Shutdown(grace))?;
        self.until(self.now + end, |_| false)?;
        if self.agent.up || self.controller.up {
            let left = (self.agent.machine.phase(), self.controller.machine.stats());
            return Err(format!("a shutdown took too long: {left:?}"));
        }
        let deadlines = (
            self.agent.machine.deadline(),
            self.controller.machine.deadline(),
        );
        if deadlines != (None, None) {
            return Err("a machine that has stopped wants to be woken".into());
        }
        if let Some(open) = self
            .exchanges
            .values()
            .find(|e| e.is_open() || e.is_served())
        {
            return Err(format!("request {} outlived the machines", open.n));
        }
        if let Some(open) = self.fasts.values().find(|fast| fast.is_open()) {
            return Err(format!("stream {} outlived the machines", open.n));
        }
        self.empty()
    }
}
