//! What goes wrong.

use std::time::Duration;

use controlplane_core::{Down, HeartbeatStatus, Input};

use super::{Event, World};
use crate::{
    exchange::Check,
    link::{Side, Wire},
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
        match self.rng.below(24) {
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
            _ => self.inject(),
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

    // ------------------------------------------------------------ lies

    /// Puts a message into the link that its sender never sent.
    fn inject(&mut self) -> Check {
        let Some(id) = self.agent.link else {
            return Ok(());
        };
        self.count("injected");
        // A request that is known to both, if there is one.
        let live: Vec<(u64, String)> = self
            .names
            .iter()
            .filter(|(n, _)| self.exchanges.get(n).is_some_and(|e| e.is_open()))
            .map(|(n, name)| (*n, name.clone()))
            .collect();
        let victim = match live.len() as u64 {
            0 => None,
            len => live.get(self.rng.below(len) as usize).cloned(),
        };
        let (from, texts) = if self.rng.chance(600) {
            (Side::Controller, self.lies_to_agent(victim))
        } else {
            (Side::Agent, self.lies_to_controller(victim))
        };
        for text in texts {
            let binary = self.rng.chance(100);
            let wire = if binary {
                Wire::Binary(text.into_bytes())
            } else {
                Wire::Text(text)
            };
            if let Some(link) = self.links.get_mut(&id) {
                let at = link.send(self.now, from.other(), wire);
                self.at(at, Event::Arrive(id, from.other()));
            }
        }
        Ok(())
    }

    fn taint(&mut self, n: u64) {
        if let Some(exchange) = self.exchanges.get_mut(&n) {
            exchange.tainted = true;
        }
    }

    fn lies_to_agent(&mut self, victim: Option<(u64, String)>) -> Vec<String> {
        let storm = self.weather.is_storm();
        let salt = self.rng.below(1 << 40);
        let one = |text: String| Vec::from([text]);
        match (self.rng.below(16), victim) {
            (0, Some((n, name))) => {
                self.taint(n);
                one(message("proxy_request_chunk", &name, r#"{"data":"%"}"#))
            }
            (1, Some((n, name))) => {
                self.taint(n);
                one(message("proxy_cancel", &name, "{}"))
            }
            (2, Some((n, name))) => {
                self.taint(n);
                one(message("proxy_request_stream_end", &name, "{}"))
            }
            // A duplicate harms nobody: no taint.
            (3..=5, Some((n, name))) => {
                let payload = format!(
                    r#"{{"path":"/api/alien/{n}","supports_response_streaming":{}}}"#,
                    !self.foreign
                );
                Vec::from([
                    message("proxy_request", &name, &payload),
                    message("proxy_request", &name, "[]"),
                    message("ws_start", &name, "{}"),
                ])
            }
            (6, _) => one(message(
                "error",
                "",
                r#"{"error":"cluster not registered"}"#,
            )),
            (7, _) => Vec::from([
                message("register_success", "other", r#"{"cluster_id":"x"}"#),
                message("register_in_progress", "", "{}"),
            ]),
            (8, _) => one(message(&format!("future{salt}"), "x", "{}")),
            (9, _) if storm => {
                let bad = |i| message("proxy_request", &format!("flood{salt}.{i}"), "{}");
                (0..self.rng.below(30)).map(bad).collect()
            }
            (10, _) if storm && self.rng.chance(100) => one(" ".repeat(300 << 10)),
            (11, _) => {
                let id = format!("alien{salt}");
                Vec::from([
                    message("proxy_request", &id, r#"{"path":"/api/alien/x"}"#),
                    message("proxy_request_chunk", &id, r#"{"data":"aGk="}"#),
                    message("proxy_cancel", &id, "{}"),
                ])
            }
            (12 | 13, _) => one(message("ping", &format!("p{salt}"), "{}")),
            _ => one(garbage(salt)),
        }
    }

    fn lies_to_controller(&mut self, victim: Option<(u64, String)>) -> Vec<String> {
        let storm = self.weather.is_storm();
        let salt = self.rng.below(1 << 40);
        let one = |text: String| Vec::from([text]);
        match (self.rng.below(14), victim) {
            (0, Some((n, name))) => {
                self.taint(n);
                one(message("proxy_response_chunk", &name, r#"{"data":"%"}"#))
            }
            (1, Some((n, name))) => {
                self.taint(n);
                one(message("proxy_error", &name, r#"{"error":"a lie"}"#))
            }
            (2, Some((n, name))) => {
                self.taint(n);
                one(message("proxy_response_header", &name, r#"{"status":101}"#))
            }
            (3, Some((n, name))) => {
                self.taint(n);
                one(message("proxy_response", &name, "7"))
            }
            (4, _) => {
                let streams = !self.foreign;
                let payload = format!(
                    r#"{{"agent_id":"agent-1","features":{{"supports_streaming":{streams},
                    "supports_response_streaming":{streams},"response_window":{streams}}}}}"#
                );
                one(message("register", &format!("lie{salt}"), &payload))
            }
            (5, _) => one(message("register", "", r#"{"agent_id":"agent-1"}"#)),
            (6, _) => Vec::from([
                message("heartbeat", "", "{}"),
                message("backpressure", "", "{}"),
                message("protocol_fallback", "", r#"{"unknown_type":"x"}"#),
            ]),
            (7, _) => Vec::from(
                ["proxy_response", "proxy_response_end", "proxy_error"]
                    .map(|kind| message(kind, &format!("nobody{salt}"), r#"{"status":200}"#)),
            ),
            (8, _) if storm && self.rng.chance(100) => one(" ".repeat(300 << 10)),
            (9 | 10, _) => one(message("ping", &format!("p{salt}"), "{}")),
            _ => one(garbage(salt)),
        }
    }

    /// How long a machine may take to find out that its peer is gone.
    pub(super) const fn patience() -> Duration {
        Duration::from_secs(45)
    }
}

pub(super) fn message(kind: &str, id: &str, payload: &str) -> String {
    format!(r#"{{"type":"{kind}","request_id":"{id}","payload":{payload}}}"#)
}

fn garbage(salt: u64) -> String {
    let all = [
        "",
        "{",
        "[]",
        "null",
        "\u{0}",
        "7",
        "\"text\"",
        "{}",
        r#"{"type":5}"#,
        r#"{"type":"proxy_request"}"#,
        r#"{"type":"proxy_request","request_id":5,"payload":{}}"#,
        r#"{"type":"proxy_request","payload":{}} {}"#,
        r#"{"type":"register","request_id":null,"payload":7}"#,
        r#"{"type":"heartbeat","payload":[[[[[[[[]]]]]]]]}"#,
        r#"{"type":"ping","timestamp":"yesterday"}"#,
    ];
    match salt % 17 {
        15 => "[".repeat(5000),
        16 => r#"{"a":"#.repeat(300),
        i => all[i as usize].into(),
    }
}
