//! A peer that means harm: valid JSON with hostile content, damaged messages, and raw bytes.

use super::{Victim, World};
use crate::{
    link::{Side, Wire},
    message::field,
};

/// What the agent is told; those that change how both sides talk have lies of their own.
const TO_AGENT: [&str; 21] = [
    "error",
    "gateway_hello",
    "heartbeat_ack",
    "ping",
    "pong",
    "proxy_cancel",
    "proxy_request",
    "proxy_request_chunk",
    "proxy_request_stream_end",
    "proxy_response_grant",
    "proxy_stream_data",
    "proxy_websocket_close",
    "proxy_websocket_data",
    "proxy_websocket_start",
    "register_in_progress",
    "register_success",
    "tcp_tunnel_close",
    "tcp_tunnel_data",
    "tcp_tunnel_start",
    "udp_tunnel_data",
    "ws_close",
];

/// What the controller is told.
const TO_CONTROLLER: [&str; 18] = [
    "backpressure",
    "gateway_hello_ack",
    "heartbeat",
    "ping",
    "pong",
    "protocol_fallback",
    "proxy_error",
    "proxy_request_grant",
    "proxy_response",
    "proxy_response_abort",
    "proxy_response_chunk",
    "proxy_response_end",
    "proxy_response_header",
    "proxy_websocket_close",
    "proxy_websocket_data",
    "tcp_tunnel_close",
    "tcp_tunnel_data",
    "udp_tunnel_data",
];

/// Names of fields that mean something to somebody.
const FIELDS: [&str; 24] = [
    "body",
    "body_binary",
    "body_encoding",
    "bytes",
    "client_port",
    "code",
    "data",
    "deadline",
    "encoding",
    "error",
    "gateway_port",
    "headers",
    "is_websocket",
    "message_type",
    "method",
    "path",
    "protocol",
    "query",
    "reason",
    "request_id",
    "service_name",
    "status",
    "stream_id",
    "timeout",
];

/// Values, most of them of a type that somebody does not expect.
const VALUES: [&str; 28] = [
    "null",
    "true",
    "-1",
    "0",
    "1e308",
    "18446744073709551616",
    "0.5",
    "101",
    "200",
    r#""""#,
    r#""\u0000\ud83d\ude00\r\n""#,
    r#""%""#,
    r#""AWhpCg==""#,
    r#""H4sIAAAAAAAA/wMAAAAAAAAAAAA=""#,
    r#""/api/v1/../../etc""#,
    r#""/api/alien/hostile""#,
    r#""GET / HTTP/1.1""#,
    r#""base64""#,
    r#""gzip""#,
    r#""v4.channel.k8s.io, \"x\"""#,
    r#""9999-12-31T23:59:60Z""#,
    r#""1970-01-01T00:00:00Z""#,
    "[]",
    "[[[[{}]]]]",
    "{}",
    r#"{"Content-Length":["5","7"],"Transfer-Encoding":"chunked"}"#,
    r#"{"Connection":"upgrade, x-world-0","x":[1,null,"a\r\nb"]}"#,
    r#"{"a":{"b":{"c":[0]}}}"#,
];

impl World {
    /// Something that nobody of good will would send, and to whom.
    pub(super) fn hostile(&mut self, victim: Victim) -> (Side, Wire) {
        let from = if self.rng.chance(500) {
            Side::Controller
        } else {
            Side::Agent
        };
        self.count("hostile messages");
        let wire = match self.rng.below(4) {
            0 => self.raw(),
            1 => {
                let text = self.content(from, victim);
                let wire = self.damaged(text);
                self.taint_named(&wire);
                wire
            }
            _ => Wire::Text(self.content(from, victim)),
        };
        (from, wire)
    }

    /// Bytes.
    fn raw(&mut self) -> Wire {
        let len = self.rng.len(0, 300);
        let mut bytes = self.rng.bytes(len);
        if self.rng.chance(300) {
            // The beginning of a binary frame.
            bytes.splice(..0, [0, (len % 250) as u8]);
        }
        // In the fast mode that is no message, but the end of the link: see `yamux`.
        match !self.is_fast() && self.rng.chance(500) {
            true => Wire::Binary(bytes),
            false => Wire::Text(String::from_utf8_lossy(&bytes).into()),
        }
    }

    /// A message with a few bytes changed, lost or doubled.
    fn damaged(&mut self, text: String) -> Wire {
        let mut bytes = text.into_bytes();
        for _ in 0..self.rng.len(1, 4) {
            let at = self.rng.len(0, bytes.len().saturating_sub(1));
            match self.rng.below(3) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.rng.below(7),
                1 => bytes.truncate(at),
                _ => bytes.insert(at, self.rng.below(128) as u8),
            }
        }
        match String::from_utf8(bytes) {
            Ok(text) => Wire::Text(text),
            Err(error) if self.is_fast() => {
                Wire::Text(String::from_utf8_lossy(error.as_bytes()).into())
            }
            Err(error) => Wire::Binary(error.into_bytes()),
        }
    }

    /// What was damaged may be the name, so that it is that of another request now.
    fn taint_named(&mut self, wire: &Wire) {
        let text = match wire {
            Wire::Text(text) => text.clone(),
            Wire::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => return,
        };
        for key in ["request_id", "stream_id"] {
            let name = field(&text, key).unwrap_or_default();
            if let Some(n) = self.numbers.get(name).copied() {
                self.taint_wholly(n);
            }
        }
    }

    fn taint_wholly(&mut self, n: u64) {
        if let Some(exchange) = self.exchanges.get_mut(&n) {
            exchange.tainted = true;
            (exchange.granted, exchange.doubled) = (true, true);
        }
    }

    /// Valid JSON about a request that is known to both, or about nothing.
    fn content(&mut self, from: Side, victim: Victim) -> String {
        let kinds: &[&str] = match from {
            Side::Controller => &TO_AGENT,
            Side::Agent => &TO_CONTROLLER,
        };
        let kind = kinds[self.rng.below(kinds.len() as u64) as usize];
        let salt = self.rng.below(1 << 40);
        let name = match victim {
            Some((n, name)) if self.rng.chance(700) => {
                self.taint_wholly(n);
                name
            }
            _ => format!("hostile{salt}"),
        };
        let mut payload = Vec::new();
        for _ in 0..self.rng.below(6) {
            let field = FIELDS[self.rng.below(FIELDS.len() as u64) as usize];
            let value = VALUES[self.rng.below(VALUES.len() as u64) as usize];
            payload.push(format!(r#""{field}":{value}"#));
        }
        if self.rng.chance(500) {
            payload.push(format!(r#""stream_id":"{name}""#));
        }
        let payload = payload.join(",");
        format!(r#"{{"type":"{kind}","request_id":"{name}","payload":{{{payload}}}}}"#)
    }
}
