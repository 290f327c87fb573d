//! What the subject says, compared with what it has to say.

use controlplane_core::OutFrame;
use controlplane_world::vectors::{
    data::{self, to_hex},
    matching, step,
};
use serde_json::{Value, json};

use super::player::{Player, Subject};

/// Messages that may come at any time.
const BACKGROUND: [&str; 4] = [
    "heartbeat",
    "heartbeat_ack",
    "proxy_request_grant",
    "proxy_response_grant",
];

impl Player {
    /// The next message, those of the background left out unless one is wanted.
    fn next(&mut self, wanted: &str) -> Result<OutFrame, String> {
        loop {
            let frame = self.sent.pop_front().ok_or("nothing was said")?;
            let kind = match &frame {
                OutFrame::Text(text) => kind(&parsed(text, &self.subject)?),
                _ => return Ok(frame),
            };
            if kind == wanted || !BACKGROUND.contains(&&*kind) {
                return Ok(frame);
            }
        }
    }

    pub(super) fn expect(&mut self, pattern: &Value) -> Result<(), String> {
        self.expected(pattern).map(|_| ())
    }

    /// The next message, which has to be this.
    fn expected(&mut self, pattern: &Value) -> Result<Value, String> {
        let frame = self
            .next(&kind(pattern))
            .map_err(|e| format!("expected {pattern}: {e}"))?;
        match frame {
            OutFrame::Text(text) => {
                let seen = parsed(&text, &self.subject)?;
                let outcome = matching::message(pattern, &seen, &mut self.saved);
                outcome.map_err(|e| format!("{e}\n    in {seen}"))?;
                Ok(seen)
            }
            other => Err(format!("expected {pattern}, saw {other:?}")),
        }
    }

    /// The next message, those of the background left out.
    pub(super) fn message(&mut self) -> Result<Value, String> {
        match self.next("")? {
            OutFrame::Text(text) => parsed(&text, &self.subject),
            other => Err(format!("saw {other:?}")),
        }
    }

    pub(super) fn expect_pieces(&mut self, pieces: &step::ExpectPieces) -> Result<(), String> {
        let wanted = &pieces.bytes.0;
        let mut seen = Vec::new();
        while seen.len() < wanted.len() {
            let message = self.expected(&pieces.message)?;
            let payload = &message["payload"];
            let data = payload["data"].as_str().and_then(data::base64);
            let data = data.ok_or_else(|| format!("no base64 in {message}"))?;
            let sized = payload.get("size").is_none_or(|size| *size == data.len());
            if data.is_empty() || data.len() > pieces.longest || !sized {
                return Err(format!("a piece of {} bytes in {message}", data.len()));
            }
            seen.extend(data);
        }
        match seen == *wanted {
            true => Ok(()),
            false => Err(format!("other bytes, {} in all", seen.len())),
        }
    }

    pub(super) fn expect_binary(&mut self, wanted: &[u8]) -> Result<(), String> {
        match self.next("")? {
            OutFrame::Binary(frame) if frame == wanted => Ok(()),
            OutFrame::Binary(frame) => Err(format!("saw {}", to_hex(&frame))),
            other => Err(format!("expected a binary message, saw {}", shown(&other))),
        }
    }

    pub(super) fn expect_frame(&mut self, pattern: &step::ExpectFrame) -> Result<(), String> {
        let frame = match self.next("")? {
            OutFrame::Binary(frame) => frame,
            other => {
                let seen = shown(&other);
                return Err(format!("expected a binary message, saw {seen}"));
            }
        };
        let seen = read(&frame).ok_or_else(|| format!("no answer: {}", to_hex(&frame)))?;
        let (id, status, headers, body) = seen;
        let wanted = json!({"request_id": pattern.request_id, "status": pattern.status,
            "headers": pattern.headers});
        let seen = json!({"request_id": id, "status": status, "headers": headers});
        matching::matches("", &wanted, &seen, &mut self.saved)?;
        match body == pattern.body.0 {
            true => Ok(()),
            false => Err(format!("another body, of {} bytes", body.len())),
        }
    }

    pub(super) fn quiet(&mut self) -> Result<(), String> {
        self.open_conn()?;
        self.quiets += 1;
        let id = format!("quiet-{}", self.quiets);
        let ping = json!({"type": "ping", "request_id": id, "payload": {}});
        self.nothing_left()?;
        self.text(&ping.to_string())?;
        let pong =
            json!({"type": "pong", "request_id": id, "payload": {"timestamp": "$timestamp"}});
        self.expect(&pong)
    }

    /// Nothing happened that nobody looked at.
    pub(super) fn nothing_left(&mut self) -> Result<(), String> {
        if let Ok(frame) = self.next("") {
            return Err(format!("saw {}", shown(&frame)));
        }
        if let Some(code) = self.closes.front() {
            return Err(format!("the connection was closed with {code}"));
        }
        if let Some((_, target)) = self.opens.front() {
            return Err(format!("the upstream was asked: {target:?}"));
        }
        let left = self
            .locals
            .values()
            .find(|local| !local.inbox.is_empty() || local.head.is_some() || local.end.is_some());
        match left {
            Some(local) => Err(format!("saw {local:?}")),
            None => Ok(()),
        }
    }
}

/// JSON of a text message; the agent's end with a newline (P-010).
fn parsed(text: &str, subject: &Subject) -> Result<Value, String> {
    if matches!(subject, Subject::Agent(_)) && !text.ends_with('\n') {
        return Err(format!("no newline after {text}"));
    }
    serde_json::from_str(text).map_err(|e| format!("no JSON: {text}: {e}"))
}

fn kind(message: &Value) -> String {
    message["type"].as_str().unwrap_or_default().into()
}

/// Writes an answer as a binary frame (P-039).
pub(super) fn written(frame: &step::Frame, id: &str) -> Vec<u8> {
    let headers = frame.headers.get().as_bytes();
    let mut out = Vec::new();
    out.extend((id.len() as u16).to_be_bytes());
    out.extend(id.as_bytes());
    out.extend(frame.status.to_be_bytes());
    out.extend((headers.len() as u32).to_be_bytes());
    out.extend(headers);
    out.extend(&frame.body.0);
    out
}

/// Reads one: id, status, headers, body.
fn read(frame: &[u8]) -> Option<(String, u32, Value, Vec<u8>)> {
    let (len, rest) = frame.split_first_chunk()?;
    let (id, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
    let (status, rest) = rest.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (headers, body) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    let headers = serde_json::from_slice(headers).ok()?;
    let id = String::from_utf8(id.to_vec()).ok()?;
    Some((id, u32::from_be_bytes(*status), headers, body.to_vec()))
}

/// A message as a failure shows it, whose `Debug` would not.
fn shown(frame: &OutFrame) -> String {
    match frame {
        OutFrame::Text(text) => text.trim_end().into(),
        other => format!("{other:?}"),
    }
}
