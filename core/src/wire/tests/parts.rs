//! The short way to read a message with data means the same as the long one, or is not taken.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use bytes::Bytes;

use crate::{
    Action, Agent, AgentConfig, ConnId, Controller, ControllerConfig, Frame, Input, Kind, Machine,
    RequestHead, ResponseHead, Socket, Start, Stats, Time,
    wire::{
        base64::Base64,
        decode::{part, read as decode},
        encode,
    },
};

const BODIES: [&str; 2] = ["proxy_request_chunk", "proxy_response_chunk"];

/// Whether the short way was taken; then it is compared with the long one.
fn taken(frame: &str, base64: &Base64) -> bool {
    let mut taken = false;
    for body in BODIES {
        let Some(part) = part(frame, body, base64) else {
            continue;
        };
        taken = true;
        let envelope = decode(frame.as_bytes()).unwrap();
        assert_eq!(envelope.fault, None, "{frame}");
        let kind = if part.is_message {
            "proxy_websocket_data"
        } else {
            body
        };
        assert_eq!(envelope.kind, kind, "{frame}");
        assert_eq!(envelope.id.as_deref(), Some(part.id), "{frame}");
        let fields = envelope.payload.unwrap();
        assert_eq!(fields.stream_id.as_deref(), part.stream_id, "{frame}");
        let data = base64.decode(fields.data.as_deref().unwrap()).unwrap();
        assert!(data == part.data, "{frame}");
        // Nothing else that anybody looks at.
        assert_eq!(fields.request_id, None, "{frame}");
        assert_eq!(fields.chunk, None, "{frame}");
        assert_eq!(fields.message_type, None, "{frame}");
    }
    taken
}

/// As this project and as the original write them.
fn samples(base64: &Base64) -> Vec<String> {
    let stamp = "2026-11-24T00:00:00.5Z";
    let mut samples = Vec::new();
    for len in [0, 1, 2, 3, 50, 200] {
        let data: Vec<u8> = (0..len).map(|i| (i * 37 + len) as u8).collect();
        let message = encode::websocket_data("s-1", Kind::Binary, &data, base64);
        samples.push(encode::request_chunk("r1", &data, base64));
        samples.push(encode::response_chunk("r1", &data, base64));
        let mut text = String::new();
        base64.encode_into(&data, &mut text);
        samples.push(message.trim_end().to_string());
        samples.push(format!(
            r#"{{"type":"proxy_websocket_data","request_id":"s1","payload":{{"data":"{text}","stream_id":"s1"}},"timestamp":"{stamp}"}}"#
        ));
    }
    samples
}

#[test]
fn p010_what_either_end_writes_is_read_the_short_way() {
    let base64 = Base64::new();
    for sample in samples(&base64) {
        assert!(taken(&sample, &base64), "{sample}");
    }
    let long = encode::response_chunk(&"r".repeat(256), &[7; 40_000], &base64);
    assert!(taken(&long, &base64));
    let longer = encode::response_chunk(&"r".repeat(257), &[7; 40_000], &base64);
    assert!(!taken(&longer, &base64), "the agent refuses such ids");
}

#[test]
fn p025_no_change_of_a_byte_makes_the_short_way_mean_something_else() {
    let base64 = Base64::new();
    let others = b"\"\\{}[]:,=/+-aA0 1\n\r\t\x00\x7f\xc3";
    let (mut tried, mut read) = (0, 0);
    for sample in samples(&base64) {
        let bytes = sample.as_bytes();
        for at in 0..=bytes.len() {
            let (before, rest) = bytes.split_at(at);
            let after = rest.get(1..).unwrap_or_default();
            let mut changed = Vec::from([[before, after].concat()]);
            for other in others {
                changed.push([before, &[*other], after].concat());
                changed.push([before, &[*other], rest].concat());
            }
            changed.push([before, "é".as_bytes(), after].concat());
            // Cut, and twice.
            changed.push(before.to_vec());
            changed.push([before, bytes].concat());
            for frame in changed {
                if let Ok(frame) = core::str::from_utf8(&frame) {
                    tried += 1;
                    read += usize::from(taken(frame, &base64));
                }
            }
        }
    }
    assert!(tried > 100_000 && read > 10_000, "{read} of {tried}");
}

#[test]
fn p025_fields_that_are_repeated_or_matter_are_read_the_long_way() {
    let base64 = Base64::new();
    for payload in [
        r#""stream_id":"a","data":"AWE=","stream_id":"b""#,
        r#""data":"AWE=","data":"AWI=""#,
        r#""data":"AWE=","chunk":"AWI=""#,
        r#""data":"AWE=","request_id":"b""#,
        r#""data":"AWE=","message_type":2"#,
        r#""data":"AWE=","size":01"#,
        r#""data":"AW\nE=""#,
        r#""data":"AWE=" "#,
        r#""stream_id":"","data":"AWE=""#,
    ] {
        for kind in ["proxy_websocket_data", BODIES[0], BODIES[1]] {
            let frame = format!(r#"{{"type":"{kind}","request_id":"a","payload":{{{payload}}}}}"#);
            assert!(!taken(&frame, &base64), "{frame}");
        }
    }
}

// ---------------------------------------------------------------- both machines

const START: Start = Start {
    now: Time::ZERO,
    unix: Duration::from_secs(1_795_412_045),
    nonce: [3; 16],
};

/// What a machine did for one message, and its counters then.
type Seen = (Vec<Action>, Stats);

/// What a machine does when it is told each of these, as texts or, which is always read the long
/// way, as binary messages.
fn told(mut machine: impl Machine, conn: ConnId, frames: &[String], binary: bool) -> Vec<Seen> {
    let mut seen = Vec::new();
    for frame in frames {
        let frame = match binary {
            true => Frame::Binary(frame.as_bytes()),
            false => Frame::Text(frame),
        };
        machine.handle(Time::ZERO, Input::Frame(conn, frame));
        let mut actions = Vec::new();
        while let Some(action) = machine.poll(Socket::Ready(conn)) {
            actions.push(action);
        }
        seen.push((actions, machine.stats()));
    }
    seen
}

/// Messages with data about each of these names: bodies alone, streams alone, and everything, the
/// bad ones last.
fn messages(names: &[&str], base64: &Base64) -> [Vec<String>; 3] {
    let (mut bodies, mut streams) = (Vec::new(), Vec::new());
    for name in names {
        for data in [&b""[..], b"x", &[7; 2000]] {
            bodies.push(encode::request_chunk(name, data, base64));
            bodies.push(encode::response_chunk(name, data, base64));
            for kind in [Kind::Text, Kind::Binary] {
                streams.push(encode::websocket_data(name, kind, data, base64));
            }
        }
        // Nothing, a ping, a text that is none, a close, an opcode that is none.
        for data in ["", "CQ==", "Af8=", "CAPo", "A2E="] {
            streams.push(format!(
                r#"{{"type":"proxy_websocket_data","request_id":"{name}","payload":{{"data":"{data}"}}}}"#
            ));
        }
    }
    let all = bodies.iter().chain(&streams).cloned().collect();
    [bodies, streams, all]
}

fn same(short: &[Seen], long: &[Seen]) {
    let actions = short.iter().flat_map(|(actions, _)| actions);
    let delivered = actions.filter(|action| matches!(action, Action::Deliver(..)));
    assert!(delivered.count() >= 2);
    assert_eq!(short, long);
}

#[test]
fn the_agent_does_the_same_either_way() {
    let start = |kind: &str, id: &str, more: &str| {
        format!(
            r#"{{"type":"{kind}","request_id":"{id}","payload":{{"method":"POST","path":"/api/v1/pods"{more}}}}}"#
        )
    };
    for frames in messages(&["body", "whole", "s", "unknown"], &Base64::new()) {
        let mut all = Vec::from([
            start("proxy_request", "body", r#","use_streaming":true"#),
            start("proxy_request", "whole", ""),
            start("proxy_websocket_start", "s", r#","stream_id":"s""#),
        ]);
        all.extend(frames);
        let run = |binary| {
            let mut agent = Agent::new(AgentConfig::new("a", "a"), START).unwrap();
            let Some(Action::Connect(conn, _)) = agent.poll(Socket::Blocked) else {
                panic!("it does not dial")
            };
            agent.handle(Time::ZERO, Input::Connected(conn));
            told(agent, conn, &all, binary)
        };
        same(&run(false), &run(true));
    }
}

/// A controller with two requests and two streams, and their names.
fn controller(conn: ConnId) -> (Controller, Vec<String>) {
    let mut controller = Controller::new(ControllerConfig::new("c", "c"), START).unwrap();
    controller.handle(Time::ZERO, Input::Accepted(conn));
    let register = r#"{"type":"register","request_id":"r","payload":{"agent_id":"a","features":{"supports_response_streaming":true,"upgrade_answer":true}}}"#;
    let frame = Input::Frame(conn, Frame::Text(register));
    controller.handle(Time::ZERO, frame);
    let get = || RequestHead {
        method: "GET".into(),
        path: "/api/v1/pods".into(),
        ..RequestHead::default()
    };
    for _ in 0..2 {
        controller.open(Time::ZERO, get(), false).unwrap();
        let stream = controller.open_websocket(Time::ZERO, get(), Vec::new());
        stream.unwrap();
    }
    while controller.poll(Socket::Ready(conn)).is_some() {}
    let nonce = u128::from_be_bytes(START.nonce);
    let names = (1..=5).map(|n| format!("{nonce:032x}-{n}"));
    (controller, names.collect())
}

#[test]
fn the_controller_does_the_same_either_way() {
    let base64 = Base64::new();
    let conn = ConnId(1);
    let head = |name: &str, status| {
        let headers = Vec::new();
        encode::response_head(name, &ResponseHead { status, headers })
    };
    let (_, names) = controller(conn);
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    for frames in messages(&names, &base64) {
        // Of each sort one is answered, and one is not.
        let mut all = Vec::from([head(names[0], 200), head(names[1], 101)]);
        all.extend(frames);
        let run = |binary| told(controller(conn).0, conn, &all, binary);
        same(&run(false), &run(true));
    }
}

/// A delivered message lies in the buffer into which it was decoded.
#[test]
fn p045_the_opcode_is_taken_off_in_place() {
    let data = Bytes::from(Vec::from([2, 7, 8, 9]));
    let at = data.as_ptr();
    let message = crate::wire::frame::message(data, None, 10);
    let Ok(crate::wire::frame::Message::Data(Kind::Binary, payload)) = message else {
        panic!("{message:?}")
    };
    assert_eq!(payload, &[7, 8, 9][..]);
    assert_eq!(payload.as_ptr(), at.wrapping_add(1));
}
