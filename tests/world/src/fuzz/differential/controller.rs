//! The controller's side: two requests without a body, of which the second has its head.

use controlplane_core::{
    Action, Controller, ControllerConfig, Failure, Frame, Input, Machine as _, Notice, RequestHead,
    Socket, StreamId, Time, rules,
};
use serde_json::Value;

use super::{
    Read, clipped,
    reading::{Payload, Reading, decoded},
    sorted,
};
use crate::{
    fuzz::{CONN, START},
    message::message,
};

const NONCE: &str = "00000000000000000000000000000000";

#[derive(Debug, Default, Eq, PartialEq)]
struct Seen {
    head: Option<(u16, Vec<(String, String)>)>,
    body: Vec<u8>,
    finished: bool,
    /// What the agent says why it failed; without a text the agent is at fault.
    failed: Option<Option<String>>,
    stream: Option<StreamId>,
    told: Option<String>,
    unknown: Option<String>,
    fault: bool,
}

pub(super) fn compare(data: &[u8], read: &Read) {
    let binary = seen(Frame::Binary(data));
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(seen(Frame::Text(text)), binary, "text is not binary");
    }
    let expected = match read {
        Read::Beyond => return,
        Read::Nothing => Some(dropped()),
        Read::Message(reading) => expected(reading),
    };
    if let Some(expected) = expected {
        assert_eq!(binary, expected, "of {:?}", String::from_utf8_lossy(data));
    }
}

fn seen(frame: Frame<'_>) -> Seen {
    let config = ControllerConfig::new("cluster-1", "fuzz");
    let Ok(mut controller) = Controller::new(config, START) else {
        panic!("the configuration is refused")
    };
    controller.handle(Time::ZERO, Input::Accepted(CONN));
    let register = message("register", "r", r#"{"agent_id":"a"}"#);
    controller.handle(Time::ZERO, Input::Frame(CONN, Frame::Text(&register)));
    for _ in 0..2 {
        let head = RequestHead {
            method: "GET".into(),
            path: "/api".into(),
            ..RequestHead::default()
        };
        assert!(controller.open(Time::ZERO, head, false).is_ok());
    }
    while controller.poll(Socket::Ready(CONN)).is_some() {}
    let begun = message(
        "proxy_response_header",
        &format!("{NONCE}-2"),
        r#"{"status":200}"#,
    );
    controller.handle(Time::ZERO, Input::Frame(CONN, Frame::Text(&begun)));
    while controller.poll(Socket::Ready(CONN)).is_some() {}

    controller.handle(Time::ZERO, Input::Frame(CONN, frame));
    let mut seen = Seen::default();
    while let Some(action) = controller.poll(Socket::Ready(CONN)) {
        match action {
            Action::Head(id, head) => {
                seen.stream = Some(id);
                seen.head = Some((head.status, sorted(head.headers)));
            }
            Action::Deliver(id, _, data) => {
                controller.handle(Time::ZERO, Input::Consumed(id, data.len()));
                seen.stream = Some(id);
                seen.body.extend_from_slice(&data);
            }
            Action::Finish(id) => (seen.stream, seen.finished) = (Some(id), true),
            Action::Failed(id, failure) => {
                seen.stream = Some(id);
                seen.failed = Some(match failure {
                    Failure::Agent(text) => Some(text),
                    _ => None,
                });
            }
            Action::Notice(Notice::PeerError(text)) => seen.told = Some(text),
            Action::Notice(Notice::UnknownType(text)) => seen.unknown = Some(text),
            Action::Notice(Notice::Tolerated(..)) => seen.fault = true,
            _ => {}
        }
    }
    seen
}

fn dropped() -> Seen {
    Seen {
        fault: true,
        ..Seen::default()
    }
}

/// The agent broke a rule of this stream.
fn broken(stream: StreamId) -> Seen {
    Seen {
        stream: Some(stream),
        failed: Some(None),
        ..dropped()
    }
}

fn failed(stream: StreamId, text: &str) -> Seen {
    Seen {
        stream: Some(stream),
        failed: Some(Some(clipped(text))),
        ..Seen::default()
    }
}

fn stream(id: Option<&str>) -> Option<StreamId> {
    let number = id?.strip_prefix(NONCE)?.strip_prefix('-')?;
    match number {
        "1" => Some(StreamId(0)),
        "2" => Some(StreamId(1)),
        _ => None,
    }
}

/// `None` where it is not compared.
fn expected(reading: &Reading) -> Option<Seen> {
    let empty = Payload::default();
    let payload = reading.payload.as_ref().unwrap_or(&empty);
    let id = reading.id.as_deref();
    if reading.too_long {
        // What it names is not known here, and nothing else is told.
        return None;
    }
    if reading.fault {
        let named = id.or(payload.text("stream_id"));
        return Some(stream(named).map_or_else(dropped, broken));
    }
    let kind = &*reading.kind;
    let named = id
        .or(payload.text("request_id"))
        .or(payload.text("stream_id"));
    let text = payload.text("error").unwrap_or_default();
    match kind {
        "pong" | "ping" | "heartbeat" | "gateway_hello_ack" | "udp_tunnel_data" => {
            return Some(Seen::default());
        }
        "protocol_fallback" => {
            let name = clipped(payload.text("unknown_type").unwrap_or_default());
            return Some(unknown(name));
        }
        // Another registration, which is another matter.
        "register" => return None,
        "proxy_error" if named.is_none_or(str::is_empty) => {
            return Some(Seen {
                told: Some(clipped(text)),
                ..Seen::default()
            });
        }
        "backpressure"
        | "proxy_error"
        | "proxy_response"
        | "proxy_response_abort"
        | "proxy_response_chunk"
        | "proxy_response_end"
        | "proxy_response_header" => {}
        "proxy_request_grant" => return Some(Seen::default()),
        "proxy_websocket_close"
        | "proxy_websocket_data"
        | "tcp_tunnel_close"
        | "tcp_tunnel_data" => {
            return Some(stream(named).map_or_else(Seen::default, broken));
        }
        kind => return Some(unknown(clipped(kind))),
    }
    let Some(stream) = stream(named) else {
        return Some(Seen::default());
    };
    answer(kind, stream, payload)
}

fn unknown(name: String) -> Seen {
    Seen {
        unknown: Some(name),
        ..Seen::default()
    }
}

fn answer(kind: &str, stream: StreamId, payload: &Payload) -> Option<Seen> {
    let begun = stream == StreamId(1);
    Some(match kind {
        "backpressure" => {
            let reason = clipped(payload.text("reason").unwrap_or("no reason given"));
            failed(
                stream,
                &format!("the cluster's agent dropped a message: {reason}"),
            )
        }
        "proxy_error" | "proxy_response_abort" => {
            failed(stream, payload.text("error").unwrap_or("no reason given"))
        }
        "proxy_response_end" if begun => Seen {
            stream: Some(stream),
            finished: true,
            ..Seen::default()
        },
        "proxy_response_end" => failed(
            stream,
            "the cluster's agent ended the request without an answer",
        ),
        "proxy_response_chunk" => match payload.text("data").map(decoded) {
            Some(Some(data)) if begun => Seen {
                stream: Some(stream).filter(|_| !data.is_empty()),
                body: data,
                ..Seen::default()
            },
            _ => broken(stream),
        },
        "proxy_response_header" => match head(payload).filter(|_| !begun) {
            Some(head) => Seen {
                stream: Some(stream),
                head: Some(head),
                ..Seen::default()
            },
            None => broken(stream),
        },
        _ => return whole(stream, payload),
    })
}

/// P-037.
fn whole(stream: StreamId, payload: &Payload) -> Option<Seen> {
    let body = match (payload.get("body"), payload.text("encoding")) {
        (Value::String(text), Some("base64")) => decoded(text),
        (Value::String(_), Some("gzip")) => return None,
        (Value::String(_) | Value::Object(_) | Value::Array(_), _) => None,
        _ => Some(Vec::new()),
    };
    let head = head(payload).filter(|_| stream == StreamId(0));
    Some(match (head, body) {
        (Some(head), Some(body)) => Seen {
            stream: Some(stream),
            head: Some(head),
            body,
            finished: true,
            ..Seen::default()
        },
        _ => broken(stream),
    })
}

/// A status that ends a request, and headers.
fn head(payload: &Payload) -> Option<(u16, Vec<(String, String)>)> {
    let status = payload.get("status").as_f64();
    let status = status.filter(|s| (200.0..=599.0).contains(s))? as u16;
    let headers = rules::response_headers(status, payload.headers());
    Some((status, sorted(headers)))
}
