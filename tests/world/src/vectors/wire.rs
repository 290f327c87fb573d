//! What goes over the link, as a player reads, writes and compares it.

use serde_json::{Value, json};

use super::{
    data,
    matching::{self, Saved},
    step,
};

/// Messages that may come at any time.
const BACKGROUND: [&str; 4] = [
    "heartbeat",
    "heartbeat_ack",
    "proxy_request_grant",
    "proxy_response_grant",
];

/// Whether a message of this type is skipped where one of type `wanted` is next.
#[must_use]
pub fn is_background(kind: &str, wanted: &str) -> bool {
    kind != wanted && BACKGROUND.contains(&kind)
}

/// The type of a message, or of a pattern for one; empty where it has none.
#[must_use]
pub fn kind(message: &Value) -> &str {
    message["type"].as_str().unwrap_or_default()
}

/// JSON of a text message; an agent's ends with a newline (P-010).
///
/// # Errors
///
/// It is none, or the newline is not there.
pub fn parsed(text: &str, of_agent: bool) -> Result<Value, String> {
    if of_agent && !text.ends_with('\n') {
        return Err(format!("no newline after {text}"));
    }
    serde_json::from_str(text).map_err(|e| format!("no JSON: {text}: {e}"))
}

/// The bytes of a message that is one of `pieces`.
///
/// # Errors
///
/// It has none, too many, or says another length.
pub fn piece(message: &Value, pieces: &step::ExpectPieces) -> Result<Vec<u8>, String> {
    let payload = &message["payload"];
    let data = payload["data"].as_str().and_then(data::base64);
    let data = data.ok_or_else(|| format!("no base64 in {message}"))?;
    let sized = payload.get("size").is_none_or(|size| *size == data.len());
    if data.is_empty() || data.len() > pieces.longest || !sized {
        return Err(format!("a piece of {} bytes in {message}", data.len()));
    }
    Ok(data)
}

/// The message with which the tester learns whether the subject has said all, and its answer.
#[must_use]
pub fn ping(count: u32) -> (Value, Value) {
    let id = format!("quiet-{count}");
    let pong = json!({"timestamp": "$timestamp"});
    (
        json!({"type": "ping", "request_id": id, "payload": {}}),
        json!({"type": "pong", "request_id": id, "payload": pong}),
    )
}

/// Writes an answer as a binary frame (P-039).
#[must_use]
pub fn frame(frame: &step::Frame, id: &str) -> Vec<u8> {
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

/// Compares a binary message with the answer that it has to be.
///
/// # Errors
///
/// Where they differ.
pub fn compare(pattern: &step::ExpectFrame, frame: &[u8], saved: &mut Saved) -> Result<(), String> {
    let seen = read(frame).ok_or_else(|| format!("no answer: {}", data::to_hex(frame)))?;
    let (id, status, headers, body) = seen;
    let wanted = json!({"request_id": pattern.request_id, "status": pattern.status,
        "headers": pattern.headers});
    let seen = json!({"request_id": id, "status": status, "headers": headers});
    matching::matches("", &wanted, &seen, saved)?;
    match body == pattern.body.0 {
        true => Ok(()),
        false => Err(format!("another body, of {} bytes", body.len())),
    }
}

/// Reads a binary frame: id, status, headers, body.
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
