//! The messages that carry data, in the one shape in which nearly all of them are written: read
//! without a JSON parser, so that base64 is the only pass over the data. Whatever deviates from
//! that shape, in a single byte even, is left to [`super::decode`], which means the same by it.

use alloc::vec::Vec;

use crate::wire::base64::Base64;

/// A piece of a body, or a message of a WebSocket stream.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Part<'a> {
    /// It is `proxy_websocket_data`.
    pub(crate) is_message: bool,
    pub(crate) id: &'a str,
    pub(crate) stream_id: Option<&'a str>,
    /// Decoded.
    pub(crate) data: Vec<u8>,
}

/// Longest id, and longest time stamp.
const MAX_TEXT: usize = 256;
/// What follows the data is not longer, except for extremely long ids.
const MAX_TAIL: usize = 128;

/// Reads a message of type `body` or `proxy_websocket_data`.
///
/// `None` says nothing about the message, but that it has to be read in another way.
pub(crate) fn part<'a>(frame: &'a str, body: &str, base64: &Base64) -> Option<Part<'a>> {
    let (kind, rest) = text(frame.strip_prefix("{\"type\":\"")?)?;
    let is_message = kind == "proxy_websocket_data";
    if !is_message && kind != body {
        return None;
    }
    let (id, rest) = text(rest.strip_prefix(",\"request_id\":\"")?)?;
    let rest = rest.strip_prefix(",\"payload\":{")?;
    let (first, rest) = match rest.strip_prefix("\"stream_id\":\"") {
        None => (None, rest),
        Some(rest) => {
            let (stream_id, rest) = text(rest)?;
            (Some(stream_id), rest.strip_prefix(',')?)
        }
    };
    let rest = rest.strip_prefix("\"data\":\"")?;
    // Not looked for from the front: that would be another pass over the data.
    let near = rest.len().saturating_sub(MAX_TAIL);
    let quote = rest.bytes().skip(near).position(|b| b == b'"')?;
    let (data, rest) = rest.split_at_checked(near + quote)?;
    let last = tail(rest.strip_prefix('"')?)?;
    if first.is_some() && last.is_some() {
        return None;
    }
    Some(Part {
        is_message,
        id,
        stream_id: first.or(last),
        // That it decodes proves that no quote and no escape is in it.
        data: base64.decode_strict(data)?,
    })
}

/// A text without escapes and its closing quote, and what follows.
fn text(rest: &str) -> Option<(&str, &str)> {
    let end = rest.bytes().take(MAX_TEXT + 1).position(|b| b == b'"')?;
    let (text, rest) = rest.split_at_checked(end)?;
    let plain = text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'\\');
    (plain && !text.is_empty()).then_some((text, rest.get(1..)?))
}

/// What may follow the data: fields that mean nothing, and a `stream_id`, which comes back.
fn tail(rest: &str) -> Option<Option<&str>> {
    let rest = after(rest, ",\"encoding\":\"base64\"");
    let rest = match rest.strip_prefix(",\"size\":") {
        None => rest,
        Some(rest) => number(rest)?,
    };
    let (stream_id, rest) = match rest.strip_prefix(",\"stream_id\":\"") {
        None => (None, rest),
        Some(rest) => text(rest).map(|(text, rest)| (Some(text), rest))?,
    };
    let rest = rest.strip_prefix('}')?;
    let rest = match rest.strip_prefix(",\"timestamp\":\"") {
        None => rest,
        Some(rest) => text(rest)?.1,
    };
    let rest = rest.strip_prefix('}')?;
    matches!(rest, "" | "\n").then_some(stream_id)
}

fn after<'a>(rest: &'a str, optional: &str) -> &'a str {
    rest.strip_prefix(optional).unwrap_or(rest)
}

/// What follows a whole number.
fn number(rest: &str) -> Option<&str> {
    let digits = rest.bytes().take(10).take_while(u8::is_ascii_digit).count();
    let (number, rest) = rest.split_at_checked(digits)?;
    let plain = number == "0" || !number.is_empty() && !number.starts_with('0');
    plain.then_some(rest)
}
