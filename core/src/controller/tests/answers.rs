//! Answers on their way back.

use super::*;

fn data(data: &[u8]) -> Event {
    Event::Data(data.to_vec())
}

#[test]
fn p042_a_streamed_answer_comes_in_order_and_finishes_once() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(false);
    bench.answer_head(&name);
    assert_eq!(bench.events(id), [Event::Head(200)], "at once");
    for piece in [&b"one"[..], b"", b"two"] {
        bench.answer_data(&name, piece);
    }
    bench.answer_end(&name);
    bench.answer_end(&name);
    assert_eq!(bench.events(id), [data(b"onetwo"), Event::Finish]);
    assert_eq!(bench.streams_open(), 0);
    assert!(bench.sent().is_empty());
    assert_eq!(bench.controller.stats().stale_frames, 1);
}

#[test]
fn p037_a_whole_answer_of_every_legal_form() {
    for (payload, events) in [
        (
            json!({"status": 200, "headers": {"A": ["b"]}, "body": "aGk=", "encoding": "base64"}),
            Vec::from([Event::Head(200), data(b"hi"), Event::Finish]),
        ),
        (
            json!({"status": 204, "headers": null}),
            Vec::from([Event::Head(204), Event::Finish]),
        ),
        (
            json!({"status": 304}),
            Vec::from([Event::Head(304), Event::Finish]),
        ),
    ] {
        let mut bench = Bench::registered();
        let (id, name) = bench.request(false);
        bench.says("proxy_response", &name, payload);
        assert_eq!(bench.events(id), events);
        assert_eq!(bench.streams_open(), 0);
    }
}

#[test]
fn p201_connection_headers_do_not_pass() {
    let mut bench = Bench::registered();
    let (_, name) = bench.request(false);
    let headers = json!({"Connection": "X-Hop", "x-hop": "1", "Keep-Alive": ["5"],
        "Warning": ["a", "b"], "bad name": "c"});
    let payload = json!({"status": 200, "headers": headers});
    bench.says("proxy_response_header", &name, payload);
    let head = bench.take().into_iter().find_map(|action| match action {
        Action::Head(_, head) => Some(head),
        _ => None,
    });
    let pair = |v: &str| ("Warning".to_string(), v.to_string());
    assert_eq!(head.unwrap().headers, [pair("a"), pair("b")]);
}

#[test]
fn p041_p042_a_failure_reaches_the_client_with_its_text() {
    for (kind, payload, text) in [
        ("proxy_error", json!({"error": "no route"}), "no route"),
        (
            "proxy_response_abort",
            json!({"error": "unexpected EOF"}),
            "unexpected EOF",
        ),
        ("proxy_error", json!({"error": 5}), "no reason given"),
        (
            "proxy_response_end",
            json!({}),
            "the cluster's agent ended the request without an answer",
        ),
    ] {
        let mut bench = Bench::registered();
        let (id, name) = bench.request(false);
        bench.says(kind, &name, payload.clone());
        bench.says(kind, &name, payload);
        let failed = Event::Failed(Failure::Agent(text.into()));
        assert_eq!(bench.events(id), [failed]);
        assert_eq!(bench.streams_open(), 0);
        assert!(bench.sent().is_empty(), "the agent is done with it");
    }
}

#[test]
fn p041_an_error_may_name_its_request_in_the_payload() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(false);
    let payload = json!({"request_id": name, "error": "no"});
    bench.frame(A, json!({"type": "proxy_error", "payload": payload}));
    assert_eq!(
        bench.events(id),
        [Event::Failed(Failure::Agent("no".into()))]
    );
}

#[test]
fn an_abort_in_the_middle_comes_after_the_data_before_it() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(false);
    bench.answer_head(&name);
    bench.answer_data(&name, b"half");
    let long = "x".repeat(1000);
    bench.says("proxy_response_abort", &name, json!({"error": long}));
    let events = bench.events(id);
    assert_eq!(events[..2], [Event::Head(200), data(b"half")]);
    let failed = Event::Failed(Failure::Agent("x".repeat(256)));
    assert_eq!(events[2..], [failed], "the text is clipped");
}

type Break = (&'static str, Value, PeerFault, bool);

const fn bad(kind: &'static str, payload: Value, fault: PeerFault) -> Break {
    (kind, payload, fault, false)
}

fn broken_heads() -> Vec<Break> {
    Vec::from([
        bad(
            "proxy_response_header",
            json!({}),
            PeerFault::Missing("status"),
        ),
        bad(
            "proxy_response_header",
            json!({"status": "200"}),
            PeerFault::Missing("status"),
        ),
        bad(
            "proxy_response_header",
            json!({"status": 700}),
            PeerFault::Missing("status"),
        ),
        bad(
            "proxy_response_header",
            json!({"status": -1}),
            PeerFault::Missing("status"),
        ),
        bad(
            "proxy_response_header",
            json!({"status": 101, "headers": {"Upgrade": "websocket"}}),
            PeerFault::Malformed,
        ),
        bad(
            "proxy_response",
            json!({"status": 101}),
            PeerFault::Malformed,
        ),
        bad(
            "proxy_response",
            json!({"status": 200, "body": "%", "encoding": "base64"}),
            PeerFault::Base64,
        ),
        bad(
            "proxy_response",
            json!({"status": 200, "body": "aGk="}),
            PeerFault::Missing("encoding"),
        ),
    ])
}

fn broken_bodies() -> Vec<Break> {
    Vec::from([
        bad(
            "proxy_response",
            json!({"status": 200, "body": "aGk=", "encoding": "gzip"}),
            PeerFault::Gzip,
        ),
        bad("proxy_response_header", json!([]), PeerFault::Malformed),
        // Data before the head.
        bad(
            "proxy_response_chunk",
            json!({"data": "aGk="}),
            PeerFault::Malformed,
        ),
        // After the head.
        (
            "proxy_response_chunk",
            json!({"data": "aGk"}),
            PeerFault::Base64,
            true,
        ),
        (
            "proxy_response_chunk",
            json!({}),
            PeerFault::Missing("data"),
            true,
        ),
        (
            "proxy_response_header",
            json!({"status": 200}),
            PeerFault::Malformed,
            true,
        ),
        (
            "proxy_response",
            json!({"status": 200}),
            PeerFault::Malformed,
            true,
        ),
    ])
}

#[test]
fn p159_a_broken_rule_costs_its_stream_and_the_agent_is_told() {
    let ways = broken_heads().into_iter().chain(broken_bodies());
    for (kind, payload, fault, answered) in ways {
        let mut bench = Bench::registered();
        let (other, other_name) = bench.request(false);
        let (id, name) = bench.request(false);
        if answered {
            bench.answer_head(&name);
            bench.events(id);
        }
        bench.says(kind, &name, payload.clone());
        let failed = Event::Failed(Failure::Fault(fault));
        assert_eq!(bench.events(id), [failed], "{kind} {payload}");
        let sent = bench.sent();
        assert_eq!(sent.len(), 1, "{kind} {payload}");
        assert_eq!(sent[0]["type"], "proxy_cancel");
        assert_eq!(sent[0]["request_id"], *name);
        assert_eq!(bench.controller.stats().peer_faults, 1);
        bench.answer_head(&other_name);
        assert_eq!(bench.events(other), [Event::Head(200)]);
    }
}

#[test]
fn p091_late_answers_are_ignored() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(false);
    bench.input(Input::Cancel(id));
    // Before and after the cancel was sent.
    bench.answer_head(&name);
    bench.sent();
    bench.answer_data(&name, b"late");
    bench.answer_end(&name);
    assert!(bench.events(id).is_empty());
    let (_, old) = bench.request(false);
    bench.lose(A);
    bench.join(A, true);
    let (new, _) = bench.request(false);
    bench.take();
    bench.says("proxy_response", &old, json!({"status": 200}));
    assert!(bench.events(new).is_empty());
    let stats = bench.controller.stats();
    assert_eq!((stats.stale_frames, stats.peer_faults), (4, 0));
}

#[test]
fn p186_an_agent_that_goes_on_with_what_is_over_is_told_once() {
    let mut bench = Bench::registered();
    bench.sent();
    // Of an earlier start of this controller, perhaps.
    bench.answer_head("stranger");
    bench.answer_data("stranger", b"data");
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (&sent[0]["type"], &sent[0]["request_id"]),
        (&json!("proxy_cancel"), &json!("stranger"))
    );
    bench.answer_data("stranger", b"data");
    bench.answer_end("stranger");
    bench.answer_end("another");
    // One that was cancelled has been told already.
    let (id, name) = bench.request(false);
    bench.input(Input::Cancel(id));
    assert_eq!(bench.sent_types(), ["proxy_cancel"]);
    bench.answer_data(&name, b"data");
    assert!(bench.sent().is_empty());
    // However many there are, little is kept of them.
    for i in 0..1000 {
        bench.answer_data(&alloc::format!("s{i}"), b"data");
    }
    assert!(bench.sent().len() <= 64);
}

#[test]
fn p091_only_the_registered_connection_answers() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(false);
    bench.accept(B);
    let payload = json!({"status": 200});
    bench.frame(
        B,
        json!({"type": "proxy_response", "request_id": name, "payload": payload}),
    );
    bench.frame(
        B,
        json!({"type": "proxy_response", "request_id": name, "payload": []}),
    );
    assert!(bench.events(id).is_empty());
    assert_eq!(bench.streams_open(), 1);
}

#[test]
fn p098_an_early_answer_ends_the_body() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(true);
    let taken = bench.controller.send(id, Kind::Bytes, bytes(200_000));
    assert!(taken.is_ok());
    bench.answer_head(&name);
    bench.answer_end(&name);
    let late = bench.controller.send(id, Kind::Bytes, bytes(1));
    assert_eq!(late, Err(SendError::Closed(bytes(1))));
    assert_eq!(bench.events(id), [Event::Head(200), Event::Finish]);
    assert_eq!(
        bench.sent_types(),
        ["proxy_cancel"],
        "an agent that waits for the body is told"
    );
    assert_eq!(bench.streams_open(), 0);
    assert_eq!(bench.controller.stats().held_out, 0);
}

#[test]
fn p174_a_lost_agent_fails_every_request_before_it_is_gone() {
    let mut bench = Bench::registered();
    let (first, name) = bench.request(false);
    let (second, _) = bench.request(true);
    let (cancelled, _) = bench.request(false);
    bench.answer_head(&name);
    bench.take();
    bench.input(Input::Cancel(cancelled));
    bench.lose(A);
    assert_eq!(
        bench.take(),
        [
            Action::Failed(first, Failure::Disconnected),
            Action::Failed(second, Failure::Disconnected),
            Action::Left(Reason::Lost("cut".into())),
        ]
    );
    let stats = bench.controller.stats();
    assert_eq!(
        (stats.streams_open, stats.held_in, stats.held_out),
        (0, 0, 0)
    );
}
