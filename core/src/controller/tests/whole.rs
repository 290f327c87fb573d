//! Whole answers: compressed ones (P-037, P-038), binary frames (P-039, P-040), and messages that
//! the agent says it dropped (P-048).

use super::*;
use crate::wire::{binary, gzip};

impl Bench {
    fn binary(&mut self, conn: ConnId, data: &[u8]) {
        self.input(Input::Frame(conn, Frame::Binary(data)));
    }

    fn binary_answer(&mut self, name: &str, headers: &[(&str, &str)], body: &[u8]) {
        let head = ResponseHead {
            status: 200,
            headers: headers
                .iter()
                .map(|(n, v)| (n.to_string(), v.to_string()))
                .collect(),
        };
        let frame = binary::answer(name, &head, &[Bytes::copy_from_slice(body)]).unwrap();
        self.binary(A, &frame);
    }
}

const TEXT: (&str, &str) = ("Content-Type", "text/plain");

#[test]
fn p038_p213_a_gzip_answer_is_inflated_and_its_headers_stay() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(false);
    let plain = b"plain text ".repeat(1000);
    let headers = json!({"Content-Length": [plain.len().to_string()]});
    let body = base64(&gzip::deflate(&plain));
    let payload = json!({"status": 200, "headers": headers, "body": body, "encoding": "gzip"});
    bench.says("proxy_response", &name, payload);
    assert_eq!(
        bench.events(id),
        [Event::Head(200), Event::Data(plain), Event::Finish]
    );
}

#[test]
fn p148_a_gzip_answer_is_bounded_after_inflation() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    let (id, name) = bench.request(false);
    let bomb = base64(&gzip::deflate(&[0; 100_000]));
    let payload = json!({"status": 200, "body": bomb, "encoding": "gzip"});
    bench.says("proxy_response", &name, payload);
    let overrun = Failure::Fault(PeerFault::Overrun);
    assert_eq!(bench.events(id), [Event::Failed(overrun)]);
    // The other form has the same bound.
    let (id, name) = bench.request(false);
    bench.binary_answer(&name, &[TEXT], &gzip::deflate(&[0; 100_000]));
    let overrun = Failure::Fault(PeerFault::Overrun);
    assert_eq!(bench.events(id), [Event::Failed(overrun)]);
}

#[test]
fn p039_a_binary_answer_is_read() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(false);
    bench.binary_answer(&name, &[TEXT], b"BODY");
    let expected = [
        Event::Head(200),
        Event::Data(b"BODY".to_vec()),
        Event::Finish,
    ];
    assert_eq!(bench.events(id), expected);
    assert_eq!(bench.streams_open(), 0);
}

#[test]
fn p157_an_undeclared_gzip_body_is_found_where_nothing_else_explains_it() {
    let plain = b"plain text ".repeat(2000);
    let packed = gzip::deflate(&plain);
    let length = packed.len().to_string();
    let image = ("Content-Type", "image/png");
    let encoded = ("Content-Encoding", "gzip");
    let cases = [
        (Vec::from([TEXT]), &plain),
        (Vec::from([image]), &packed),
        (Vec::from([TEXT, encoded]), &packed),
        (Vec::from([TEXT, ("Content-Length", &length)]), &packed),
    ];
    for (headers, expected) in cases {
        let mut bench = Bench::registered();
        let (id, name) = bench.request(false);
        bench.binary_answer(&name, &headers, &packed);
        let data = Event::Data(expected.clone());
        let events = bench.events(id);
        assert_eq!(
            events,
            [Event::Head(200), data, Event::Finish],
            "{headers:?}"
        );
    }
}

#[test]
fn p040_what_only_begins_like_gzip_is_passed_on() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(false);
    let body = b"\x1f\x8bbut text";
    bench.binary_answer(&name, &[TEXT], body);
    let expected = [Event::Head(200), Event::Data(body.to_vec()), Event::Finish];
    assert_eq!(bench.events(id), expected);
}

#[test]
fn p159_a_broken_binary_answer_costs_its_request() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(false);
    let mut frame = Vec::from((name.len() as u16).to_be_bytes());
    frame.extend(name.as_bytes());
    frame.extend(b"\0\0\0\xc8\0\0\0\xff{}");
    bench.binary(A, &frame);
    let failed = Failure::Fault(PeerFault::Malformed);
    assert_eq!(bench.events(id), [Event::Failed(failed)]);
    let (id, name) = bench.request(false);
    let head = ResponseHead {
        status: 99,
        headers: Vec::new(),
    };
    let frame = binary::answer(&name, &head, &[]).unwrap();
    bench.binary(A, &frame);
    let failed = Failure::Fault(PeerFault::Missing("status"));
    assert_eq!(bench.events(id), [Event::Failed(failed)]);
    // One that names nothing, and one that cannot be read at all.
    bench.binary(A, b"\0\x01r\0\0\0\xc8\0\0\0\x04null");
    bench.binary(A, b"\0\xffr");
    let stats = bench.controller.stats();
    assert_eq!((stats.peer_faults, stats.stale_frames), (3, 1));
}

#[test]
fn p091_a_binary_answer_of_an_older_connection_means_nothing() {
    let mut bench = Bench::registered();
    bench.accept(B);
    let (id, name) = bench.request(false);
    let head = ResponseHead {
        status: 200,
        headers: Vec::new(),
    };
    let frame = binary::answer(&name, &head, &[]).unwrap();
    bench.binary(B, &frame);
    assert_eq!(bench.events(id), []);
    assert_eq!(bench.controller.stats().stale_frames, 1);
}

#[test]
fn p048_p153_a_message_that_the_agent_dropped_ends_its_stream() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(false);
    bench.answer_head(&name);
    let payload = json!({"request_id": name, "reason": "channel_full"});
    bench.says("backpressure", &name, payload);
    let text = "the cluster's agent dropped a message: channel_full".to_string();
    assert_eq!(
        bench.events(id),
        [Event::Head(200), Event::Failed(Failure::Agent(text))]
    );
    assert_eq!(bench.sent_types(), ["proxy_cancel"]);
    bench.says("backpressure", "unknown", json!({}));
    bench.says("gateway_hello_ack", "", json!({"use_yamux": true}));
    assert!(bench.sent().is_empty());
}

#[test]
fn p037_an_empty_body_needs_no_encoding() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(false);
    bench.says("proxy_response", &name, json!({"status": 200, "body": ""}));
    assert_eq!(bench.events(id), [Event::Head(200), Event::Finish]);
}

/// P-157: a declared encoding is undone, or the answer fails.
#[test]
fn p157_a_piece_in_another_encoding_is_not_passed_on() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(false);
    bench.answer_head(&name);
    let data = base64(&gzip::deflate(b"x"));
    let payload = json!({"data": data, "encoding": "gzip"});
    bench.says("proxy_response_chunk", &name, payload);
    let failed = Failure::Fault(PeerFault::Unsupported("an encoding but base64"));
    assert_eq!(bench.events(id), [Event::Head(200), Event::Failed(failed)]);
}

#[test]
fn p148_p153_an_answer_that_cannot_be_read_fails_its_request() {
    let many: Vec<_> = (0..5000).map(|i| alloc::format!("\"{i}\":[]")).collect();
    let many = alloc::format!("{{{}}}", many.join(","));
    for (kind, payload, fault) in [
        (
            "proxy_response_header",
            alloc::format!("{{\"status\":200,\"headers\":{many}}}"),
            PeerFault::HeadTooLong,
        ),
        (
            "proxy_response_chunk",
            "{\"data\":\"\\ud800\"}".into(),
            PeerFault::Base64,
        ),
        (
            "proxy_response_chunk",
            "{\"data\":\"YQ==\",\"status\":1e999}".into(),
            PeerFault::Malformed,
        ),
    ] {
        let mut bench = Bench::registered();
        let (id, name) = bench.request(false);
        let text = alloc::format!(
            "{{\"payload\":{payload},\"request_id\":\"{name}\",\"type\":\"{kind}\"}}"
        );
        bench.input(Input::Frame(A, Frame::Text(&text)));
        let failed = Failure::Fault(fault);
        assert_eq!(bench.events(id), [Event::Failed(failed)], "{kind}");
    }
}
