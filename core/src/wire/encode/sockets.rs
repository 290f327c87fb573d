//! The messages of WebSocket streams, and the grants that both kinds of streams have.

use alloc::string::String;

use super::{FRAME, Message, Terms, headers, request};
use crate::{
    input::{Kind, RequestHead, StreamClose},
    wire::base64::{Base64, encoded_len},
};

/// P-058, of a WebSocket stream that the agent answers (P-192).
pub(crate) fn upgrade_request(
    id: &str,
    head: &RequestHead,
    protocols: &[String],
    terms: Terms,
) -> String {
    let mut m = request(id, head, terms, 1024);
    m.flag("is_websocket", true);
    if !protocols.is_empty() {
        m.text("protocol", &protocols.join(", "));
    }
    m.finish(None)
}

/// P-064, with at most one subprotocol: the agent does not tell which one was chosen.
pub(crate) fn websocket_start(id: &str, head: &RequestHead, protocol: Option<&str>) -> String {
    let mut m = Message::new("proxy_websocket_start", Some(id), 1024);
    m.text("stream_id", id);
    m.text("method", &head.method);
    m.text("path", &head.path);
    if let Some(query) = &head.query {
        m.text("query", query);
    }
    headers(&mut m, &head.headers);
    if let Some(protocol) = protocol {
        m.text("protocol", protocol);
    }
    m.finish(None)
}

/// P-044 and P-045: an opcode, then the message.
pub(crate) fn websocket_data(id: &str, kind: Kind, data: &[u8], base64: &Base64) -> String {
    let opcode = if kind == Kind::Text { 1 } else { 2 };
    let capacity = FRAME + 2 * id.len() + encoded_len(data.len() + 1);
    let mut m = Message::new("proxy_websocket_data", Some(id), capacity);
    m.text("stream_id", id);
    m.base64_after("data", opcode, data, base64);
    m.finish(None)
}

/// P-047; `code` and `reason` are ours, and no original looks at them.
pub(crate) fn websocket_close(id: &str, close: &StreamClose) -> String {
    let capacity = FRAME + 2 * id.len() + close.reason.len();
    let mut m = Message::new("proxy_websocket_close", Some(id), capacity);
    m.text("stream_id", id);
    if close.code != StreamClose::NO_CODE {
        m.number("code", close.code.into());
    }
    if !close.reason.is_empty() {
        m.text("reason", &close.reason);
    }
    m.finish(None)
}

/// The reader has taken so much, each piece counted as at least [`crate::Limits::MIN_CHARGE`].
/// Only to a peer that said it keeps a window: of an answer or of a stream toward the client where
/// `response`, otherwise of a request's body or of a stream toward the Kubernetes API.
pub(crate) fn grant(id: &str, response: bool, bytes: usize) -> String {
    let kind = match response {
        true => "proxy_response_grant",
        false => "proxy_request_grant",
    };
    let mut m = Message::new(kind, Some(id), FRAME);
    m.number("bytes", bytes as i64);
    m.finish(None)
}

/// P-041, of a WebSocket stream; without an id, an error that is about no running stream (P-162).
pub(crate) fn stream_error(id: Option<&str>, text: &str) -> String {
    let mut m = Message::new("proxy_error", id, FRAME + text.len());
    m.text("request_id", id.unwrap_or_default());
    m.text("error", text);
    m.finish(None)
}
