//! What the machines make of one message, seen from outside, against the plainest reading of it.
//!
//! Compared, for any bytes, as text and as binary:
//!
//! * whether the message costs itself, and is answered where it names a request (P-025, P-159, P-190);
//! * method, path, query, headers, body and subprotocols of a request or start that is opened;
//! * bytes of a piece of a body and of a message of a stream (P-027, P-044, P-060);
//! * an answer's status, headers and body at the controller, or how it fails (P-037, P-042);
//! * pings, unknown types and errors.
//!
//! Left out, and why:
//!
//! * JSON that `serde_json::Value` does not hold (`Read::Beyond`): the machines skip what they do not
//!   look at, so that they may accept what it refuses. They have to live, no more;
//! * binary frames, whose first byte is below that of JSON (P-039, P-061): they are no JSON, and the
//!   target `roundtrip` has them;
//! * requests with a `deadline`, and the effect of `timeout`: times are no matter of reading a message;
//! * tunnels, and answers with `encoding` `gzip`: their rules are longer than their reading;
//! * which words a fault is told in; that there is one is compared.
//!
//! The rules of paths, headers and subprotocols are the core's: the model is one of reading.

mod agent;
mod controller;
mod reading;

use self::reading::Read;

/// Any bytes as one message to an agent and to a controller.
///
/// # Panics
///
/// If a machine takes it for something else than the plain reading does.
pub fn differential(data: &[u8]) {
    if data.first().is_none_or(|first| *first < b'\t') {
        return;
    }
    let read = reading::read(data);
    agent::compare(data, &read);
    controller::compare(data, &read);
}

/// A text of an error as the machines keep it.
fn clipped(text: &str) -> String {
    let mut end = text.len().min(256);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

fn sorted(mut headers: Vec<(String, String)>) -> Vec<(String, String)> {
    // Values of one name keep their order.
    headers.sort_by(|(a, _), (b, _)| a.cmp(b));
    headers
}
