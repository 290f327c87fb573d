//! Messages that their sender never sent: what they may cost is themselves, and the request that
//! they are about.

mod hostile;
mod streams;
mod yamux;

use std::time::Duration;

use super::{Event, World};
use crate::{
    exchange::Check,
    link::{Side, Wire},
    message::message,
};

/// Between two such lies.
const DISOWNED: Duration = Duration::from_secs(90);

/// A request that is known to both sides, and what it is called between them.
type Victim = Option<(u64, String)>;

impl World {
    /// Puts a message into the link that its sender never sent.
    pub(super) fn inject(&mut self) -> Check {
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
        if self.is_fast() && self.rng.chance(300) {
            self.yamux_lies(id);
            return Ok(());
        }
        if self.rng.chance(250) {
            let (from, wire) = self.hostile(victim);
            self.slip_in(id, from, wire);
            return Ok(());
        }
        let (from, texts) = if self.rng.chance(600) {
            (Side::Controller, self.lies_to_agent(victim))
        } else {
            (Side::Agent, self.lies_to_controller(victim))
        };
        self.pretend(id, from, texts);
        Ok(())
    }

    /// Puts messages into the link as if `from` had sent them.
    fn pretend(&mut self, id: u64, from: Side, texts: Vec<String>) {
        for text in texts {
            // In the fast mode binary messages are no JSON.
            let binary = !self.is_fast() && self.rng.chance(100);
            let wire = if binary {
                Wire::Binary(text.into_bytes())
            } else {
                Wire::Text(text)
            };
            self.slip_in(id, from, wire);
        }
    }

    fn slip_in(&mut self, id: u64, from: Side, wire: Wire) {
        if let Some(link) = self.links.get_mut(&id) {
            let at = link.send(self.now, from.other(), wire);
            self.at(at, Event::Arrive(id, from.other()));
        }
    }

    fn taint(&mut self, n: u64) {
        if let Some(exchange) = self.exchanges.get_mut(&n) {
            exchange.tainted = true;
        }
    }

    /// Whether the agent may be told that it is not known: twice within a short time cost it the
    /// link, which elsewhere than in a storm nothing else does.
    fn disowns(&mut self) -> bool {
        let soon = self.disowned.is_some_and(|at| self.now < at + DISOWNED);
        if soon && !self.weather.is_storm() {
            return false;
        }
        self.disowned = Some(self.now);
        true
    }

    fn lies_to_agent(&mut self, victim: Victim) -> Vec<String> {
        let storm = self.weather.is_storm();
        let salt = self.rng.below(1 << 40);
        let one = |text: String| Vec::from([text]);
        match (self.rng.below(26), victim) {
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
            (3..=5, Some((n, name))) => self.duplicates(n, &name),
            (6, _) if self.disowns() => one(message(
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
            (10, _) if storm && self.rng.chance(250) => one(" ".repeat(300 << 10)),
            (11, _) => {
                let id = format!("alien{salt}");
                Vec::from([
                    message("proxy_request", &id, r#"{"path":"/api/alien/x"}"#),
                    message("proxy_request_chunk", &id, r#"{"data":"aGk="}"#),
                    message("proxy_cancel", &id, "{}"),
                ])
            }
            (12 | 13, _) => one(message("ping", &format!("p{salt}"), "{}")),
            (14..=21, victim) => self.stream_lies_to_agent(victim),
            (22 | 23, _) => self.stranger(),
            _ => one(garbage(salt)),
        }
    }

    fn lies_to_controller(&mut self, victim: Victim) -> Vec<String> {
        let storm = self.weather.is_storm();
        let salt = self.rng.below(1 << 40);
        let one = |text: String| Vec::from([text]);
        match (self.rng.below(22), victim) {
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
                let features = &self.features;
                let payload = format!(r#"{{"agent_id":"agent-1","features":{features}}}"#);
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
            (8, _) if storm && self.rng.chance(250) => one(" ".repeat(300 << 10)),
            (9, _) => one(message("ping", &format!("p{salt}"), "{}")),
            (10, _) => self.late_answers(),
            (11..=18, victim) => self.stream_lies_to_controller(victim),
            _ => one(garbage(salt)),
        }
    }
}

impl World {
    /// An original agent goes on with what an earlier connection, or an earlier controller, asked
    /// for (P-091): nobody waits for it here, and nobody else is harmed.
    fn late_answers(&mut self) -> Vec<String> {
        let over = |n: &u64| {
            let exchange = self.exchanges.get(n);
            exchange.is_some_and(|e| !e.is_open() && !e.is_served() && !e.is_strangers())
        };
        let old: Vec<(u64, String)> = self
            .names
            .iter()
            .filter(|(n, _)| over(n))
            .map(|(n, name)| (*n, name.clone()))
            .collect();
        if old.is_empty() {
            return Vec::new();
        }
        let (n, name) = &old[self.rng.len(0, old.len() - 1)];
        self.taint(*n);
        self.count("late answers");
        let (head, data) = (r#"{"status":200}"#, r#"{"data":"bGF0ZQ=="}"#);
        Vec::from([
            message("proxy_response_header", name, head),
            message("proxy_response_chunk", name, data),
            message("proxy_response_end", name, "{}"),
            message("proxy_response", name, head),
            message("proxy_websocket_data", name, data),
            message("proxy_websocket_close", name, "{}"),
            message("proxy_error", name, r#"{"error":"late"}"#),
        ])
    }
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
