//! Messages that are almost right.

use arbitrary::{Result, Unstructured};

use crate::message::base64;

/// Types, and what is one type in two forms. Only ever added to: the corpus counts on the places.
const KINDS: [&str; 26] = [
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
];

/// A request for a WebSocket.
const UPGRADE: &str = "upgrade";
/// The answer that opens one.
const SWITCH: &str = "switch";

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
    let (kind, status) = match kind {
        UPGRADE => ("proxy_request", 200),
        SWITCH => ("proxy_response_header", 101),
        kind => (kind, 200),
    };
    let path = if more.contains("protocol") {
        "/api/exec"
    } else {
        "/api"
    };
    let windows = if flags[1] {
        r#","upgrade_answer":true,"response_window":true,"request_window":2000"#
    } else {
        ""
    };
    Ok(format!(
        r#"{{"type":"{kind}","request_id":"{id}","payload":{{"agent_id":"a","path":"{path}",
        "status":{status},"data":"{data}","body":"{text}","body_encoding":"base64",
        "encoding":"base64","use_streaming":{},"supports_response_streaming":{},
        "error":"cluster not registered","timeout":{}{more},"features":{{
        "supports_streaming":{},"supports_response_streaming":{}{windows}}}}}}}"#,
        flags[0],
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
