//! The agent's side: one request whose body is to come in pieces, `q1`, and one WebSocket, `w1`.

use controlplane_core::{
    Action, Frame, Input, Kind, Machine as _, Notice, OutFrame, ResponseHead, Socket, StreamId,
    Target, Time,
    rules::{self, IdentityPolicy},
};
use serde_json::Value;

use super::{
    Read, clipped,
    reading::{Payload, Reading, decoded},
    sorted,
};
use crate::{
    fuzz::{CONN, registered_agent},
    message::message,
};

const BODY: StreamId = StreamId(0);
const SOCKET: StreamId = StreamId(1);
/// Bounds of the agent that is asked.
const HEAD: usize = 2 << 10;
const WHOLE: usize = 4 << 10;
const MESSAGE: usize = 3 << 10;

/// What is seen of it.
#[derive(Debug, Eq, PartialEq)]
enum Seen {
    /// Something is opened, with this of its body, which is all or not.
    Http(Request, Vec<u8>, bool),
    WebSocket(Request, Vec<String>),
    /// This is delivered on one of the two streams.
    Data(StreamId, Kind, Vec<u8>),
    /// One of the two streams is ended for a fault.
    Broken(StreamId),
    /// The body of `q1` is complete.
    Finished,
    /// The other one is closed, or `q1` is given up.
    Closed(StreamId),
    /// A fault is told, and no more happens.
    Dropped,
    /// A fault is told, and the request of this id is answered with an error.
    Refused(Option<String>),
    Pong(Option<String>),
    Fallback(String),
    Told(String),
    Hello,
    Nothing,
}

type Request = (String, String, Option<String>, Vec<(String, String)>);

pub(super) fn compare(data: &[u8], read: &Read) {
    let binary = seen(Frame::Binary(data));
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(seen(Frame::Text(text)), binary, "text is not binary");
    }
    let expected = match read {
        Read::Beyond => return,
        Read::Nothing => Some(Seen::Dropped),
        Read::Message(reading) => expected(reading),
    };
    if let Some(expected) = expected {
        assert_eq!(binary, expected, "of {:?}", String::from_utf8_lossy(data));
    }
}

// ---------------------------------------------------------------- what the machine does

fn seen(frame: Frame<'_>) -> Seen {
    let mut agent = registered_agent();
    let asks = r#"{"path":"/api","method":"POST","use_streaming":true}"#;
    let upgrade = r#"{"path":"/api","is_websocket":true,"protocol":"x"}"#;
    for (id, payload) in [("q1", asks), ("w1", upgrade)] {
        let asked = message("proxy_request", id, payload);
        agent.handle(Time::ZERO, Input::Frame(CONN, Frame::Text(&asked)));
    }
    let switched = ResponseHead {
        status: 101,
        headers: Vec::new(),
    };
    agent.handle(Time::ZERO, Input::Head(SOCKET, switched));
    while agent.poll(Socket::Ready(CONN)).is_some() {}

    agent.handle(Time::ZERO, Input::Frame(CONN, frame));
    let actions: Vec<_> = std::iter::from_fn(|| agent.poll(Socket::Ready(CONN))).collect();
    what(&actions)
}

fn what(actions: &[Action]) -> Seen {
    let mut fault = false;
    let mut seen = Seen::Nothing;
    for action in actions {
        match action {
            Action::Notice(Notice::Tolerated(..)) => fault = true,
            Action::Notice(Notice::PeerError(text)) => seen = Seen::Told(text.clone()),
            Action::Open(_, Target::Http { head, .. }) => {
                seen = Seen::Http(parts(head), Vec::new(), false);
            }
            Action::Open(
                _,
                Target::WebSocket {
                    head, protocols, ..
                },
            ) => {
                seen = Seen::WebSocket(parts(head), protocols.clone());
            }
            Action::Deliver(id, kind, data) => match &mut seen {
                Seen::Http(_, body, _) => body.extend_from_slice(data),
                _ => seen = Seen::Data(*id, *kind, data.to_vec()),
            },
            Action::Finish(_) => match &mut seen {
                Seen::Http(_, _, all) => *all = true,
                _ => seen = Seen::Finished,
            },
            Action::Reset(id) => seen = Seen::Closed(*id),
            Action::Closed(id, ..) => seen = Seen::Closed(*id),
            Action::Send(_, OutFrame::Text(text)) => {
                if let Some(sent) = sent(text, fault) {
                    seen = match (seen, sent) {
                        (Seen::Closed(id) | Seen::Broken(id), Seen::Refused(_)) => Seen::Broken(id),
                        // A stream that is refused gets a close behind its error.
                        (Seen::Refused(id), _) => Seen::Refused(id),
                        (_, sent) => sent,
                    };
                }
            }
            _ => {}
        }
    }
    match seen {
        Seen::Nothing if fault => Seen::Dropped,
        seen => seen,
    }
}

fn parts(head: &controlplane_core::RequestHead) -> Request {
    let headers = sorted(head.headers.clone());
    (
        head.method.clone(),
        head.path.clone(),
        head.query.clone(),
        headers,
    )
}

fn sent(text: &str, fault: bool) -> Option<Seen> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let id = value["request_id"].as_str().map(String::from);
    Some(match value["type"].as_str().unwrap_or_default() {
        "pong" => Seen::Pong(id),
        "protocol_fallback" => {
            let name = value["payload"]["unknown_type"].as_str();
            Seen::Fallback(name.unwrap_or_default().into())
        }
        "proxy_error" | "proxy_response_abort" | "proxy_websocket_close" if fault => {
            Seen::Refused(id)
        }
        "gateway_hello_ack" => Seen::Hello,
        _ => return None,
    })
}

// ---------------------------------------------------------------- what the plain reading says

/// `None` where it is not compared.
fn expected(reading: &Reading) -> Option<Seen> {
    let empty = Payload::default();
    let payload = reading.payload.as_ref().unwrap_or(&empty);
    let id = reading.id.as_deref();
    if reading.fault {
        return of_fault(reading, payload);
    }
    Some(match &*reading.kind {
        "heartbeat_ack" | "pong" | "register_success" | "register_in_progress" => Seen::Nothing,
        "ping" => Seen::Pong(reading.id.clone()),
        "error" => {
            let text = clipped(payload.text("error").unwrap_or_default());
            let lower = text.to_lowercase();
            if lower.contains("not registered") || lower.contains("cluster not found") {
                // It registers anew, which is another matter.
                return None;
            }
            Seen::Told(text)
        }
        "gateway_hello" if payload.flag("use_yamux") => Seen::Hello,
        "gateway_hello" => Seen::Nothing,
        "proxy_cancel" => match id {
            Some("q1") => Seen::Closed(BODY),
            Some("w1") => Seen::Closed(SOCKET),
            _ => Seen::Nothing,
        },
        "proxy_request" => return request(reading),
        "proxy_request_chunk" if id == Some("q1") => {
            let data = payload.text("data").or(payload.text("chunk"));
            match data.map(decoded) {
                Some(Some(data)) if data.is_empty() => Seen::Nothing,
                Some(Some(data)) if data.len() <= WHOLE => Seen::Data(BODY, Kind::Bytes, data),
                _ => Seen::Broken(BODY),
            }
        }
        "proxy_request_stream_end" if id == Some("q1") => Seen::Finished,
        "proxy_request_chunk" | "proxy_request_stream_end" | "proxy_response_grant" => {
            Seen::Nothing
        }
        "proxy_websocket_data" | "ws_data" => data(id, payload)?,
        "proxy_stream_data" if id == Some("q1") => Seen::Dropped,
        "proxy_stream_data" => data(id, payload)?,
        "proxy_websocket_close" | "ws_close" => match names(id, payload) {
            Some("w1") => Seen::Closed(SOCKET),
            _ => Seen::Nothing,
        },
        "proxy_websocket_start" | "ws_start" => return start(id, payload),
        "tcp_tunnel_start" | "tcp_tunnel_data" | "tcp_tunnel_close" | "udp_tunnel_data" => {
            return None;
        }
        kind => Seen::Fallback(clipped(kind)),
    })
}

/// The message costs itself; where it would have begun something it is answered, and the stream of
/// which it was a part is ended.
fn of_fault(reading: &Reading, payload: &Payload) -> Option<Seen> {
    let kind = &*reading.kind;
    if kind.starts_with("tcp_") || kind.starts_with("udp_") {
        return None;
    }
    let of_stream = kind.starts_with("ws_") || kind.contains("_websocket_");
    let id = match of_stream {
        true => short(names(reading.id.as_deref(), payload), reading),
        false => reading.id.as_deref(),
    };
    let part = matches!(
        kind,
        "proxy_request_chunk" | "proxy_stream_data" | "proxy_websocket_data" | "ws_data"
    );
    let begins = matches!(kind, "proxy_request" | "proxy_websocket_start" | "ws_start");
    Some(match id {
        Some("q1") if part => Seen::Broken(BODY),
        Some("w1") if part => Seen::Broken(SOCKET),
        Some("q1" | "w1") | None => Seen::Dropped,
        Some(id) if begins => Seen::Refused(Some(id.into())),
        Some(_) => Seen::Dropped,
    })
}

/// An id in the payload that is too long names nothing.
fn short<'a>(named: Option<&'a str>, reading: &'a Reading) -> Option<&'a str> {
    named.filter(|id| id.len() <= 256).or(reading.id.as_deref())
}

/// The stream that a message is about (P-065).
fn names<'a>(id: Option<&'a str>, payload: &'a Payload) -> Option<&'a str> {
    let named = ["stream_id", "request_id"].map(|name| payload.text(name));
    let mut named = named.into_iter().flatten().filter(|name| !name.is_empty());
    named.next().or(id)
}

/// P-044, P-045: an opcode and a message.
fn data(id: Option<&str>, payload: &Payload) -> Option<Seen> {
    if names(id, payload) != Some("w1") {
        return Some(Seen::Nothing);
    }
    let Some(Some(data)) = payload.text("data").map(decoded) else {
        return Some(Seen::Broken(SOCKET));
    };
    let Some((opcode, rest)) = data.split_first() else {
        return Some(Seen::Nothing);
    };
    let told = payload.get("message_type").as_f64();
    if told.is_some_and(|told| told != f64::from(*opcode)) || rest.len() > MESSAGE {
        return Some(Seen::Broken(SOCKET));
    }
    Some(match opcode {
        1 if std::str::from_utf8(rest).is_ok() => Seen::Data(SOCKET, Kind::Text, rest.to_vec()),
        2 => Seen::Data(SOCKET, Kind::Binary, rest.to_vec()),
        8 => Seen::Closed(SOCKET),
        9 | 10 => Seen::Nothing,
        _ => Seen::Broken(SOCKET),
    })
}

fn request(reading: &Reading) -> Option<Seen> {
    let Some(id) = &reading.id else {
        return Some(Seen::Dropped);
    };
    if id == "q1" || id == "w1" {
        // Without an id, or it would be taken for the end of the first one (P-162).
        return Some(Seen::Refused(None));
    }
    let refused = Seen::Refused(Some(id.clone()));
    let Some(payload) = &reading.payload else {
        return Some(refused);
    };
    if payload.get("deadline").is_string() {
        return None;
    }
    let headers = payload.headers();
    let upgrade = payload.any_flag(["is_websocket", "isWebSocket"]) || payload.is_set("protocol");
    let opened = match upgrade || asks_websocket(&headers) {
        true => upgraded(payload, headers, false),
        false => plain(payload, headers),
    };
    Some(opened.unwrap_or(refused))
}

/// P-059.
fn asks_websocket(headers: &[(String, String)]) -> bool {
    headers.iter().any(|(name, value)| {
        let value = value.trim().to_ascii_lowercase();
        match &*name.to_ascii_lowercase() {
            "upgrade" => value == "websocket",
            "sec-websocket-key" | "sec-websocket-version" | "sec-websocket-protocol" => {
                !value.is_empty()
            }
            _ => false,
        }
    })
}

/// `None` where it is refused.
fn plain(payload: &Payload, headers: Vec<(String, String)>) -> Option<Seen> {
    unsupported(payload)?;
    let text = |name| payload.text(name).unwrap_or_default();
    let mut head = rules::request_head(
        text("method"),
        text("path"),
        payload.text("query"),
        headers,
        IdentityPolicy::default(),
        HEAD,
    )
    .ok()?;
    if payload.any_flag(["use_streaming", "streaming"]) {
        return Some(Seen::Http(parts(&head), Vec::new(), false));
    }
    if payload.flag("body_binary") {
        // It waits for its body.
        return Some(Seen::Nothing);
    }
    let encoded = text("body_encoding").eq_ignore_ascii_case("base64");
    let body = match payload.get("body") {
        Value::String(text) if encoded => decoded(text)?,
        Value::String(text) => text.clone().into_bytes(),
        // It is relayed as it is written, blanks included.
        Value::Object(_) | Value::Array(_) => payload.written("body").into(),
        _ => Vec::new(),
    };
    if body.len() > WHOLE {
        return None;
    }
    let bodied = !body.is_empty() || matches!(&*head.method, "POST" | "PUT" | "PATCH");
    let length = |(name, _): &(String, String)| !name.eq_ignore_ascii_case("content-length");
    head.headers.retain(length);
    if bodied {
        let length = body.len().to_string();
        head.headers.push(("Content-Length".into(), length));
    }
    Some(Seen::Http(parts(&head), body, true))
}

fn unsupported(payload: &Payload) -> Option<()> {
    let head_data = match payload.last_of(["head_data", "headData"]) {
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    (!payload.is_set("service_name") && !head_data).then_some(())
}

fn start(id: Option<&str>, payload: &Payload) -> Option<Seen> {
    if payload.get("deadline").is_string() {
        return None;
    }
    let named = payload.text("stream_id").filter(|name| !name.is_empty());
    let Some(name) = named else {
        let id = id.filter(|id| !matches!(*id, "q1" | "w1"));
        return Some(Seen::Refused(id.map(String::from)));
    };
    if name.len() > 256 {
        return Some(Seen::Dropped);
    }
    if matches!(name, "q1" | "w1") {
        return Some(Seen::Refused(None));
    }
    let opened = upgraded(payload, payload.headers(), true);
    Some(opened.unwrap_or(Seen::Refused(Some(name.into()))))
}

/// P-059, P-064, P-138.
fn upgraded(payload: &Payload, headers: Vec<(String, String)>, bare: bool) -> Option<Seen> {
    unsupported(payload)?;
    let path = payload.text("path").unwrap_or_default();
    let of_headers = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"));
    // P-058: in a request the header goes before it.
    let named = of_headers
        .clone()
        .any(|(_, value)| !value.trim().is_empty());
    let lists = payload.text("protocol").filter(|_| bare || !named);
    let lists = lists
        .into_iter()
        .chain(of_headers.map(|(_, value)| &**value));
    let mut protocols = rules::subprotocols(lists).ok()?;
    protocols.retain(|name| !name.starts_with(rules::BEARER_PROTOCOL));
    let terminal = path
        .split('/')
        .any(|part| matches!(part, "exec" | "attach" | "portforward"));
    if protocols.is_empty() && terminal && bare {
        let versions = ["v4.", "v3.", "v2.", ""];
        protocols = versions.map(|v| format!("{v}channel.k8s.io")).to_vec();
    }
    let mut headers = rules::without_handshake(headers);
    headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
    let query = payload.text("query");
    let policy = IdentityPolicy::default();
    let head = rules::request_head("GET", path, query, headers, policy, HEAD).ok()?;
    Some(Seen::WebSocket(parts(&head), protocols))
}
