//! What goes wrong.

use std::time::Duration;

use controlplane_core::{Down, HeartbeatStatus, Input};

use super::{Event, World};
use crate::{
    exchange::Check,
    link::Side,
    plan::{Most, Weather},
};

impl World {
    pub(super) fn fault(&mut self) -> Check {
        if self.calm {
            return Ok(());
        }
        let flaps = self.weather == Weather::Storm(Most::Flaps);
        let longest = if flaps { 4000 } else { 15_000 };
        let next = self.rng.millis(100, longest);
        self.after(next, Event::Fault);
        if self.weather == Weather::Hostile {
            return self.inject();
        }
        if flaps && self.rng.chance(500) {
            return self.flap();
        }
        match self.rng.below(28) {
            0 | 1 => self.cut(),
            2..=4 => self.hold(),
            5 => self.middlebox_closes(),
            6 => self.stop_agent(),
            7 => self.stop_controller(),
            8 if self.rng.chance(300) => {
                self.count("agent crashed");
                self.crash_agent();
                let delay = self.rng.millis(100, 20_000);
                self.after(delay, Event::Start(Side::Agent));
                Ok(())
            }
            9 if self.rng.chance(300) => {
                self.count("controller crashed");
                self.crash_controller();
                let delay = self.rng.millis(100, 20_000);
                self.after(delay, Event::Start(Side::Controller));
                Ok(())
            }
            10 => {
                let status = HeartbeatStatus {
                    k8s_nodes: Some(self.rng.below(100) as u32),
                    ..HeartbeatStatus::default()
                };
                self.tell_agent(Input::Status(status))
            }
            11 => self.second_agent(),
            12 | 13 => self.clock_jumps(),
            _ => self.inject(),
        }
    }

    /// The wall clock of a host is set. Only what is written in messages follows it.
    fn clock_jumps(&mut self) -> Check {
        self.count("clock jumps");
        let to = Duration::from_secs(self.rng.below(1 << 33));
        match self.rng.chance(500) {
            true => self.tell_agent(Input::Clock(to)),
            false => self.tell_controller(Input::Clock(to)),
        }
    }

    // ------------------------------------------------------------ the link

    /// The connection breaks; each side hears of it soon, late or never.
    fn cut(&mut self) -> Check {
        let Some(id) = self.agent.link else {
            return Ok(());
        };
        self.count("cut");
        if let Some(link) = self.links.get_mut(&id) {
            link.cut();
        }
        for side in Side::BOTH {
            let delay = match self.rng.below(4) {
                0 | 1 => self.rng.millis(0, 500),
                2 => self.rng.millis(0, 60_000),
                _ => continue,
            };
            self.after(delay, Event::Told(id, side));
        }
        Ok(())
    }

    /// The connection breaks, and only the agent hears of it.
    fn flap(&mut self) -> Check {
        let Some(id) = self.agent.link else {
            return Ok(());
        };
        self.count("cut");
        if let Some(link) = self.links.get_mut(&id) {
            link.cut();
        }
        self.told(id, Side::Agent)
    }

    /// Nothing passes for a while, in one direction or both.
    fn hold(&mut self) -> Check {
        let Some(id) = self.agent.link else {
            return Ok(());
        };
        self.count("held");
        let which = self.rng.below(3);
        for (i, side) in Side::BOTH.into_iter().enumerate() {
            if which != i as u64 {
                self.hold_side(id, side);
            }
        }
        Ok(())
    }

    pub(super) fn hold_side(&mut self, id: u64, to: Side) {
        let until = self.now + self.rng.millis(500, 90_000);
        if let Some(link) = self.links.get_mut(&id) {
            link.hold(to, until);
        }
        self.at(until, Event::Arrive(id, to));
    }

    /// A proxy in between closes toward both.
    fn middlebox_closes(&mut self) -> Check {
        let Some(id) = self.agent.link else {
            return Ok(());
        };
        self.count("closed in between");
        let code = [1000, 1001, 1006, 1008, 1012, 4001][self.rng.below(6) as usize];
        for side in Side::BOTH {
            let conn = self.links.get(&id).and_then(|link| link.conn(side));
            self.hang_up(id, side);
            if let Some(conn) = conn {
                let reason = "idle".into();
                let down = Down::Closed { code, reason };
                self.tell(side, Input::Disconnected(conn, down))?;
            }
        }
        Ok(())
    }

    /// The process of `side` is gone: its peer hears of it, or has to find out.
    pub(super) fn abandon(&mut self, id: u64, side: Side) {
        self.hang_up(id, side);
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.cut();
        if self.rng.chance(600) {
            let delay = self.rng.millis(0, 3000);
            self.after(delay, Event::Told(id, side.other()));
        }
    }

    // ------------------------------------------------------------ the hosts

    pub(super) fn stop_agent(&mut self) -> Check {
        self.count("agent told to stop");
        self.agent.stopping |= self.agent.up;
        let grace = self.rng.millis(0, 15_000);
        self.tell_agent(Input::Shutdown(grace))
    }

    pub(super) fn stop_controller(&mut self) -> Check {
        self.count("controller told to stop");
        self.controller.stopping |= self.controller.up;
        let grace = self.rng.millis(0, 15_000);
        self.tell_controller(Input::Shutdown(grace))
    }

    /// How long a machine may take to find out that its peer is gone.
    pub(super) const fn patience() -> Duration {
        Duration::from_secs(45)
    }
}
