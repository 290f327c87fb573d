//! Lies about WebSocket streams, and streams that somebody else asks for.

use controlplane_core::{Kind, StreamClose};

use super::{Victim, World};
use crate::{
    content::{Said, Way, message as content},
    exchange::{Exchange, Outcome, Talk},
    message::{base64, message},
    plan::{Plan, Script},
};

impl World {
    /// What changes a stream's course.
    fn taint_stream(&mut self, n: u64) {
        if let Some(exchange) = self.exchanges.get_mut(&n).filter(|e| e.talk.is_some()) {
            exchange.tainted = true;
        }
    }

    /// Requests and starts with a name that is taken.
    pub(super) fn duplicates(&mut self, n: u64, name: &str) -> Vec<String> {
        if let Some(exchange) = self.exchanges.get_mut(&n) {
            exchange.doubled = true;
        }
        let streamed = !self.manners.are_whole();
        let request =
            format!(r#"{{"path":"/api/alien/{n}","supports_response_streaming":{streamed}}}"#);
        let start = format!(r#"{{"stream_id":"{name}","path":"/api/alien/{n}"}}"#);
        Vec::from([
            message("proxy_request", name, &request),
            message("proxy_request", name, "[]"),
            message("ws_start", name, "{}"),
            message("proxy_websocket_start", name, &start),
        ])
    }

    pub(super) fn stream_lies_to_agent(&mut self, victim: Victim) -> Vec<String> {
        let salt = self.rng.below(1 << 40);
        let nobody = format!("nobody{salt}");
        let short = self.rng.chance(500);
        let (data, close) = if short {
            ("ws_data", "ws_close")
        } else {
            ("proxy_websocket_data", "proxy_websocket_close")
        };
        match (self.rng.below(10), victim) {
            // Neither is a message.
            (0 | 1, Some((_, name))) => self.keep_alive(data, &name),
            (2, Some((n, name))) => {
                self.taint_stream(n);
                Vec::from([
                    framed(data, &name, b"\x02lie"),
                    framed(data, &name, b"\x01lie"),
                ])
            }
            (3, Some((n, name))) => {
                self.taint_stream(n);
                self.unreadable(data, &name)
            }
            (4, Some((n, name))) => {
                self.taint_stream(n);
                self.closes(close, data, &name)
            }
            (5, Some((n, name))) => {
                self.taint(n);
                Vec::from([message(data, &name, "[]")])
            }
            (6, Some((n, name))) => {
                self.taint(n);
                self.grants("proxy_response_grant", n, &name)
            }
            (7, Some((_, name))) => no_grants("proxy_response_grant", &name, &nobody),
            _ => Vec::from([
                framed(data, &nobody, b"\x02lie"),
                framed(data, &nobody, b""),
                message(data, &nobody, "[]"),
                message(close, &nobody, &about(&nobody, "")),
                message(close, "", "{}"),
            ]),
        }
    }

    pub(super) fn stream_lies_to_controller(&mut self, victim: Victim) -> Vec<String> {
        let salt = self.rng.below(1 << 40);
        let nobody = format!("nobody{salt}");
        let (data, close) = ("proxy_websocket_data", "proxy_websocket_close");
        match (self.rng.below(12), victim) {
            (0 | 1, Some((n, name))) => {
                let talk = self.exchanges.get(&n).and_then(|e| e.talk.as_ref());
                if talk.is_none_or(|talk| !talk.is_open()) {
                    // Only an open stream has anything but an answer.
                    self.taint(n);
                }
                self.keep_alive(data, &name)
            }
            (2, Some((n, name))) => {
                self.taint(n);
                let result = self.rng.chance(300);
                let lie: &[u8] = if result { b"\x02\x03lie" } else { b"\x02lie" };
                Vec::from([framed(data, &name, lie)])
            }
            (3, Some((n, name))) => {
                self.taint(n);
                self.unreadable(data, &name)
            }
            (4, Some((n, name))) => {
                self.taint(n);
                self.closes(close, data, &name)
            }
            (5, Some((n, name))) => {
                self.taint(n);
                let upgrade = r#"{"status":101,"headers":{"Upgrade":["websocket"]}}"#;
                Vec::from([message("proxy_response_header", &name, upgrade)])
            }
            (6, Some((n, name))) => {
                self.taint(n);
                self.grants("proxy_request_grant", n, &name)
            }
            (7, Some((_, name))) => no_grants("proxy_request_grant", &name, &nobody),
            // Controllers alone have these names.
            (8, Some((_, name))) => Vec::from([
                framed("ws_data", &name, b"\x02lie"),
                message("ws_close", &name, &about(&name, "")),
            ]),
            _ => Vec::from([
                framed(data, &nobody, b"\x02lie"),
                message(data, &nobody, "[]"),
                message(close, &nobody, &about(&nobody, "")),
            ]),
        }
    }

    /// What has no effect on a stream.
    fn keep_alive(&mut self, kind: &str, name: &str) -> Vec<String> {
        Vec::from([
            framed(kind, name, b""),
            framed(kind, name, b"\x09ping"),
            framed(kind, name, b"\x0apong"),
        ])
    }

    /// A message that none is.
    fn unreadable(&mut self, kind: &str, name: &str) -> Vec<String> {
        let text = match self.rng.below(6) {
            0 => framed(kind, name, b"\x03lie"),
            1 => framed(kind, name, b"\x01\xff"),
            2 => message(kind, name, &about(name, r#","data":"%""#)),
            3 => message(kind, name, &about(name, "")),
            4 => {
                let typed = format!(r#","data":"{}","message_type":1"#, base64(b"\nhello"));
                message(kind, name, &about(name, &typed))
            }
            _ => {
                let longest = self
                    .agent
                    .limits()
                    .message
                    .max(self.controller.limits().message);
                framed(kind, name, &vec![2; longest + 2])
            }
        };
        Vec::from([text])
    }

    /// A close, as a message of its own or as that of a WebSocket.
    fn closes(&mut self, close: &str, data: &str, name: &str) -> Vec<String> {
        Vec::from([match self.rng.below(4) {
            0 => framed(data, name, &[8, 3, 0xe8]),
            1 => framed(data, name, &[8]),
            2 => message(close, name, &about(name, r#","code":1000"#)),
            _ => message(close, name, &about(name, "")),
        }])
    }

    /// More room than there is.
    fn grants(&mut self, kind: &str, n: u64, name: &str) -> Vec<String> {
        if let Some(exchange) = self.exchanges.get_mut(&n) {
            exchange.granted = true;
        }
        let bytes = ["20000", "1e300"][self.rng.below(2) as usize];
        Vec::from([message(kind, name, &format!(r#"{{"bytes":{bytes}}}"#))])
    }

    /// A controller that is not in this world starts a stream, speaks before it is open, and may
    /// close it: as the original's do.
    pub(super) fn stranger(&mut self) -> Vec<String> {
        let n = self.next_request;
        self.next_request += 1;
        let mut plan = Plan::new(&mut self.rng, n, self.weather, 1000);
        plan.head.query = None;
        plan.head.headers.clear();
        plan.cancel = None;
        let Some(script) = plan.script.take() else {
            return Vec::new();
        };
        let name = format!("stranger-{n}");
        let protocols = script.offered.join(", ");
        let path = &plan.head.path;
        let start = format!(r#","path":"{path}","protocol":"{protocols}""#);
        let mut texts = Vec::from([message("ws_start", &name, &about(&name, &start))]);
        let mut talk = Talk {
            bare: true,
            stranger: true,
            ..Talk::default()
        };
        for place in 0..self.rng.len(0, 8) {
            let text = self.rng.chance(500);
            let said = Said {
                kind: if text { Kind::Text } else { Kind::Binary },
                lead: None,
                len: self.rng.len(0, 400),
            };
            talk.up.said.push(said);
            let opcode = if text { 1 } else { 2 };
            let data = content(n, Way::Request, place, said);
            texts.push(framed("ws_data", &name, &[&[opcode], &*data].concat()));
        }
        if self.rng.chance(400) {
            talk.left = Some((self.now, StreamClose::new(1000, "")));
            texts.push(message("ws_close", &name, &about(&name, r#","code":1000"#)));
        }
        plan.script = Some(Script {
            patient: false,
            ..script
        });
        let mut exchange = Exchange::new(n, plan, true);
        exchange.outcome = Some(Outcome::Nobodys);
        exchange.talk = Some(talk);
        self.exchanges.insert(n, exchange);
        self.names.insert(n, name.clone());
        self.numbers.insert(name, n);
        self.count("strangers");
        texts
    }
}

/// Grants that let nobody send more.
fn no_grants(kind: &str, name: &str, nobody: &str) -> Vec<String> {
    Vec::from([
        message(kind, name, r#"{"bytes":0}"#),
        message(kind, name, r#"{"bytes":-5000}"#),
        message(kind, name, r#"{"bytes":"many"}"#),
        message(kind, name, "{}"),
        message(kind, nobody, r#"{"bytes":5000}"#),
    ])
}

/// A payload about a stream.
fn about(name: &str, more: &str) -> String {
    format!(r#"{{"stream_id":"{name}"{more}}}"#)
}

/// A message of a stream.
fn framed(kind: &str, name: &str, data: &[u8]) -> String {
    let data = format!(r#","data":"{}""#, base64(data));
    message(kind, name, &about(name, &data))
}
