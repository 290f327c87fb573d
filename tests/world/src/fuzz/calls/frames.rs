//! Messages that are almost right.

use arbitrary::{Result, Unstructured};

use crate::message::base64;

/// Types, and what is one type in two forms. Only ever added to: the corpus counts on the places.
const KINDS: [&str; 38] = [
    "error",
    "heartbeat",
    "ping",
    "proxy_cancel",
    "proxy_error",
    "proxy_request",
    "proxy_request",
    "proxy_request_chunk",
    "proxy_request_stream_end",
    "proxy_response",
    "proxy_response_chunk",
    "proxy_response_end",
    "proxy_response_header",
    "register",
    "register_in_progress",
    "ws_start",
    "proxy_websocket_start",
    "proxy_websocket_data",
    "proxy_websocket_data",
    "proxy_websocket_close",
    "ws_data",
    "ws_close",
    "proxy_request_grant",
    "proxy_response_grant",
    UPGRADE,
    SWITCH,
    "tcp_tunnel_start",
    "tcp_tunnel_data",
    "tcp_tunnel_close",
    "udp_tunnel_data",
    "gateway_hello",
    "gateway_hello_ack",
    "backpressure",
    "proxy_response_abort",
    "proxy_stream_data",
    FRAMED,
    PACKED,
    "protocol_fallback",
];

/// A request for a WebSocket.
const UPGRADE: &str = "upgrade";
/// The answer that opens one.
const SWITCH: &str = "switch";

/// A request whose body comes in a binary frame.
const FRAMED: &str = "framed";
/// A whole answer that is compressed.
const PACKED: &str = "packed";

/// `hello hello hello` and a newline, by `gzip -9`, as base64.
const GZIP: &str = "H4sICAAAAAACA2EAy0jNyclXyECQXAA7fIrfEgAAAA==";

/// A binary frame for either machine: a request's body, or a whole answer.
pub(super) fn binary(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let name = input.int_in_range(1..=9u8)?;
    let id = format!("00000000000000000000000000000000-{name}");
    let mut frame = Vec::from(u16::try_from(id.len()).unwrap_or_default().to_be_bytes());
    frame.extend_from_slice(id.as_bytes());
    let headers = *input.choose(&[r#"{"Content-Type":["text/plain"]}"#, "null", "[]"])?;
    let shape = input.int_in_range(0..=3u8)?;
    if shape > 0 {
        let status: u16 = input.int_in_range(90..=610)?;
        frame.extend_from_slice(&u32::from(status).to_be_bytes());
        frame.extend_from_slice(&(headers.len() as u32).to_be_bytes());
        frame.extend_from_slice(headers.as_bytes());
    }
    if shape == 2 {
        frame.extend_from_slice(b"\x1f\x8b\x08\x08");
    }
    let len = input.int_in_range(0..=5000)?;
    frame.resize(frame.len() + len, b'x');
    if shape == 3 {
        let cut = input.int_in_range(0..=frame.len())?;
        frame.truncate(cut);
    }
    Ok(frame)
}

/// The answer to the `register` of that id, perhaps with a gateway.
pub(super) fn success(id: &str, input: &mut Unstructured<'_>) -> Result<String> {
    let gateway = input.choose(&["", "wss://a.gw.test/ws", "wss://evil.example/", "ws:"])?;
    Ok(format!(
        r#"{{"type":"register_success","request_id":"{id}","payload":{{"cluster_id":"c",
        "gateway_ws_url":"{gateway}"}}}}"#
    ))
}

/// A message for either machine.
pub(super) fn frame(input: &mut Unstructured<'_>) -> Result<String> {
    let kind = *input.choose(&KINDS)?;
    let name = input.int_in_range(1..=9u8)?;
    let flags: [bool; 3] = input.arbitrary()?;
    let text = "QUJD".repeat(input.int_in_range(0..=1500)?);
    // Names as this controller gives them; the agent takes any.
    let id = format!("00000000000000000000000000000000-{name}");
    let more = more(kind, &id, flags, input)?;
    let data = match kind {
        "proxy_websocket_data" | "ws_data" => {
            let opcode = input.int_in_range(0..=11u8)?;
            // A code where it closes, otherwise a channel.
            let start = match opcode {
                8 => [8, 3, 0xe8],
                _ => [opcode, 1 + 2 * u8::from(flags[0]), b'x'],
            };
            format!("{}{text}", base64(&start))
        }
        _ => text.clone(),
    };
    let (packed, framed) = (kind == PACKED, kind == FRAMED);
    let (kind, status) = match kind {
        UPGRADE => ("proxy_request", 200),
        SWITCH => ("proxy_response_header", 101),
        FRAMED => ("proxy_request", 200),
        PACKED => ("proxy_response", 200),
        kind => (kind, 200),
    };
    let path = if more.contains("protocol") {
        "/api/exec"
    } else {
        "/api"
    };
    let (body, encoding) = match packed {
        true => (GZIP, "gzip"),
        false => (&*text, "base64"),
    };
    let windows = if flags[1] {
        r#","upgrade_answer":true,"response_window":true,"request_window":2000"#
    } else {
        ""
    };
    Ok(format!(
        r#"{{"type":"{kind}","request_id":"{id}","payload":{{"agent_id":"a","path":"{path}",
        "status":{status},"data":"{data}","body":"{body}","body_encoding":"base64",
        "encoding":"{encoding}","use_streaming":{},"supports_response_streaming":{},
        "error":"cluster not registered","timeout":{}{more},"features":{{
        "supports_streaming":{},"supports_response_streaming":{},"tunnels":true{windows}}}}}}}"#,
        flags[0] && !framed,
        flags[1],
        u32::from(name) * 500,
        flags[0],
        flags[2],
    ))
}

/// What messages of this type have beside what all have.
fn more(kind: &str, id: &str, flags: [bool; 3], input: &mut Unstructured<'_>) -> Result<String> {
    Ok(match kind {
        "ws_start" => String::new(),
        UPGRADE => {
            let windows = [1000, 0][usize::from(flags[2])];
            format!(
                r#","is_websocket":true,"protocol":"v5.channel.k8s.io, x",
                "response_window":{windows},"request_window":{windows}"#
            )
        }
        SWITCH => {
            let offered = ["v5.channel.k8s.io", "x"][usize::from(flags[0])];
            format!(r#","headers":{{"Sec-WebSocket-Protocol":["{offered}"]}}"#)
        }
        FRAMED => r#","body_binary":true"#.into(),
        "gateway_hello" => r#","use_yamux":true"#.into(),
        _ if kind.contains("_tunnel_") => {
            let port = [80, 8080, 0][usize::from(input.int_in_range(0..=2u8)?)];
            format!(
                r#","tunnel_id":"t","client_addr":"192.0.2.1","client_port":{port},
                "service_name":"web","service_namespace":"default","service_port":{port},
                "gateway_port":8080,"reason":"write_error""#
            )
        }
        _ if kind.contains("_grant") => {
            let bytes: i32 = input.arbitrary()?;
            format!(r#","bytes":{bytes}"#)
        }
        _ if kind.contains("websocket_") || kind.starts_with("ws_") => {
            let code: u16 = input.arbitrary()?;
            format!(r#","stream_id":"{id}","code":{code},"protocol":"v5.channel.k8s.io""#)
        }
        _ => String::new(),
    })
}

/// What brings either machine into the fast mode, or does not.
pub(super) fn fast_mode(input: &mut Unstructured<'_>) -> Result<Vec<String>> {
    let protocols = *input.choose(&["[1,2,16,17]", "[1,2]", "[]", "7"])?;
    let agreed = input.ratio(7u8, 8u8)?;
    let payload = format!(
        r#"{{"use_yamux":{agreed},"stream_protocols":{protocols},"agent_id":"a",
        "features":{{"supports_yamux":true,"request_window":2000,"tunnels":true}}}}"#
    );
    let kinds = ["gateway_hello", "register", "gateway_hello_ack"];
    let all = kinds.map(|kind| format!(r#"{{"type":"{kind}","payload":{payload}}}"#));
    Ok(all.into())
}

/// Frames of yamux, most of them almost right.
pub(super) fn yamux(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for _ in 0..input.int_in_range(1..=4u8)? {
        let id = input.int_in_range(0..=9u32)?;
        let kind = input.int_in_range(0..=9u8)?;
        let flags = *input.choose(&[0u16, 0, 0, 1, 2, 3, 4, 8, 15, 0xffff])?;
        let length = input.int_in_range(0..=9u8)?;
        let payload = match (kind, length) {
            (0..=5, 0) => Vec::new(),
            // The headers of streams, with something behind.
            (0..=5, 1) => b"\x01\x10\0\0\0\0\0\0\0\0GET".to_vec(),
            (0..=5, 2) => b"\x01\x01\0\x50\0\x03web\0\x07default\0\x01thi".to_vec(),
            (0..=5, 3) => b"\x01\x11\0\x50\0\x03web\0\x07default\0\x01t\0\x02hi\0".to_vec(),
            (0..=5, 4..=8) => vec![b'x'; input.int_in_range(0..=5000)?],
            (0..=5, _) => vec![0; input.int_in_range(0..=300)?],
            _ => Vec::new(),
        };
        let kind = [0, 0, 0, 0, 0, 0, 1, 1, 2, 3][usize::from(kind)];
        let told = match kind {
            0 if length == 9 => u32::from(input.arbitrary::<u16>()?),
            0 => payload.len() as u32,
            _ if length == 9 => input.arbitrary()?,
            _ => u32::from(length),
        };
        bytes.extend([0, kind]);
        bytes.extend(flags.to_be_bytes());
        bytes.extend(id.to_be_bytes());
        bytes.extend(told.to_be_bytes());
        bytes.extend(payload);
    }
    Ok(bytes)
}
