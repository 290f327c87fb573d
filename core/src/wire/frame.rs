//! Messages of WebSocket streams inside `proxy_websocket_data` and `proxy_websocket_close`: an
//! opcode byte and a payload, always (P-045). Nothing is ever guessed from the content (P-155).

use alloc::string::String;

use bytes::{Buf as _, Bytes};

use super::{base64::Base64, decode::Fields};
use crate::{
    error::PeerFault,
    input::{Kind, StreamClose},
};

/// One message of a stream.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Message {
    Close(StreamClose),
    Data(Kind, Bytes),
    /// Not even an opcode (P-066).
    Empty,
    /// A ping or pong.
    Ping,
}

/// Reads the message that `fields` carry.
///
/// # Errors
///
/// No data, not base64, or what [`message`] refuses.
pub(crate) fn read(
    fields: Option<&Fields<'_>>,
    limit: usize,
    base64: &Base64,
) -> Result<Message, PeerFault> {
    let data = fields.and_then(|f| f.data.as_deref());
    let data = base64.decode(data.ok_or(PeerFault::Missing("data"))?)?;
    message(data.into(), fields.and_then(|f| f.message_type), limit)
}

/// The message that is an opcode and what follows it.
///
/// # Errors
///
/// No known opcode or not the one `declared`, too long, or no UTF-8 in a text.
pub(crate) fn message(
    mut data: Bytes,
    declared: Option<f64>,
    limit: usize,
) -> Result<Message, PeerFault> {
    let Some(opcode) = data.first().copied() else {
        return Ok(Message::Empty);
    };
    if declared.is_some_and(|declared| declared != f64::from(opcode)) {
        return Err(PeerFault::Opcode);
    }
    // In place: the buffer that was decoded into is the one that is delivered.
    data.advance(1);
    let payload = data;
    if payload.len() > limit {
        return Err(PeerFault::MessageTooLong);
    }
    match opcode {
        1 if core::str::from_utf8(&payload).is_err() => Err(PeerFault::Utf8),
        1 => Ok(Message::Data(Kind::Text, payload)),
        2 => Ok(Message::Data(Kind::Binary, payload)),
        8 => Ok(Message::Close(close_payload(&payload))),
        9 | 10 => Ok(Message::Ping),
        _ => Err(PeerFault::Opcode),
    }
}

/// What a `proxy_websocket_close` says; the original says nothing.
pub(crate) fn close(fields: Option<&Fields<'_>>) -> StreamClose {
    let code = fields.and_then(|f| f.code).unwrap_or_default();
    let reason = fields.and_then(|f| f.reason.as_deref());
    StreamClose::new(code as u16, reason.unwrap_or_default())
}

/// Payload of a close frame: a code and a reason, or nothing.
fn close_payload(payload: &[u8]) -> StreamClose {
    match payload.split_at_checked(2) {
        Some((&[high, low], reason)) => {
            let reason = String::from_utf8_lossy(reason);
            StreamClose::new(u16::from_be_bytes([high, low]), &reason)
        }
        _ => StreamClose::new(StreamClose::NO_CODE, ""),
    }
}
