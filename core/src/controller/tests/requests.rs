//! Requests on their way to the agent.

use super::*;

#[test]
fn opening_needs_an_agent_and_room() {
    let mut bench = Bench::with(|c| c.limits = SMALL);
    let away = bench.controller.open(bench.now, ask(), false);
    assert_eq!(away, Err(OpenError::Away));
    bench.accept(A);
    let unregistered = bench.controller.open(bench.now, ask(), false);
    assert_eq!(unregistered, Err(OpenError::Away));
    bench.register(A, true);
    let (first, _) = bench.request(false);
    bench.request(false);
    let full = bench.controller.open(bench.now, ask(), false);
    assert_eq!(full, Err(OpenError::TooManyStreams));
    bench.input(Input::Cancel(first));
    bench.sent();
    assert!(bench.controller.open(bench.now, ask(), false).is_ok());
    bench.lose(A);
    let away = bench.controller.open(bench.now, ask(), false);
    assert_eq!(away, Err(OpenError::Away));
}

#[test]
fn a_head_may_be_as_long_as_the_limit() {
    let mut head = ask();
    let rest = SMALL.head - crate::streams::head_len(&head);
    head.path.push_str(&"x".repeat(rest));
    let mut bench = Bench::registered();
    assert!(
        bench
            .controller
            .open(bench.now, head.clone(), false)
            .is_ok()
    );
    head.path.push('x');
    let longer = bench.controller.open(bench.now, head, false);
    assert_eq!(longer, Err(OpenError::HeadTooLong));
}

#[test]
fn p058_a_request_without_a_body_is_one_message() {
    let mut bench = Bench::registered();
    bench.controller.open(bench.now, ask(), false).unwrap();
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["type"], "proxy_request");
    assert_eq!(
        sent[0]["payload"],
        json!({"method": "POST", "path": "/api/v1/pods", "query": "a=b",
            "headers": {"Accept": ["text/plain"]}, "supports_response_streaming": true})
    );
}

#[test]
fn p060_a_body_follows_in_pieces_and_ends_once() {
    let mut bench = Bench::registered();
    let id = bench.controller.open(bench.now, ask(), true).unwrap();
    let body = bytes(100_000);
    assert!(bench.controller.send(id, Kind::Bytes, body.clone()).is_ok());
    assert!(bench.controller.send(id, Kind::Bytes, Bytes::new()).is_ok());
    bench.input(Input::Ended(id, StreamEnd::Clean));
    let late = bench.controller.send(id, Kind::Bytes, bytes(1));
    assert_eq!(late, Err(SendError::Closed(bytes(1))));
    bench.input(Input::Ended(id, StreamEnd::Clean));
    let sent = bench.sent();
    assert_eq!(sent[0]["payload"]["use_streaming"], true);
    assert!(sent[0]["payload"].get("body").is_none());
    let (last, chunks) = sent[1..].split_last().unwrap();
    assert_eq!(last["type"], "proxy_request_stream_end");
    let mut got = Vec::new();
    for chunk in chunks {
        assert_eq!(chunk["type"], "proxy_request_chunk");
        assert_eq!(chunk["request_id"], sent[0]["request_id"]);
        let piece = decoded(&chunk["payload"]["data"]);
        assert!(!piece.is_empty() && piece.len() <= 32_768);
        got.extend(piece);
    }
    assert!(got == body, "the body differs");
    assert_eq!(bench.controller.stats().bytes_out, 100_000);
}

#[test]
fn a_body_is_held_until_it_is_whole_for_an_agent_that_takes_no_pieces() {
    let mut bench = Bench::new();
    bench.join(A, false);
    bench.sent();
    let id = bench.controller.open(bench.now, ask(), true).unwrap();
    for piece in [&b"one"[..], b"two"] {
        let piece = Bytes::from_static(piece);
        assert!(bench.controller.send(id, Kind::Bytes, piece).is_ok());
    }
    assert!(bench.sent().is_empty());
    bench.input(Input::Ended(id, StreamEnd::Clean));
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    let payload = &sent[0]["payload"];
    assert_eq!(payload["body"], base64(b"onetwo"));
    assert_eq!(payload["body_encoding"], "base64");
    assert!(payload.get("use_streaming").is_none());
    assert!(payload.get("supports_response_streaming").is_none());
    assert_eq!(bench.controller.stats().held_out, 0);
}

#[test]
fn p149_a_body_too_large_to_be_held_fails_its_request() {
    let mut bench = Bench::with(|c| c.limits = SMALL);
    bench.join(A, false);
    bench.sent();
    let id = bench.controller.open(bench.now, ask(), true).unwrap();
    let send = |bench: &mut Bench, id, len| bench.controller.send(id, Kind::Bytes, bytes(len));
    assert!(send(&mut bench, id, 1024).is_ok(), "at the limit");
    let over = send(&mut bench, id, 1);
    assert_eq!(over, Err(SendError::Closed(bytes(1))));
    assert_eq!(bench.events(id), [Event::Failed(Failure::RequestTooLarge)]);
    assert!(bench.sent().is_empty(), "the agent never heard of it");
    assert_eq!(bench.streams_open(), 0);
    // In all: what is complete counts until it is framed.
    let first = bench.controller.open(bench.now, ask(), true).unwrap();
    assert!(send(&mut bench, first, 1000).is_ok());
    bench.input(Input::Ended(first, StreamEnd::Clean));
    assert!(bench.controller.stats().held_out >= 1000);
    let second = bench.controller.open(bench.now, ask(), true).unwrap();
    assert!(send(&mut bench, second, 500).is_ok());
    assert!(send(&mut bench, second, 1).is_err());
    assert_eq!(
        bench.events(second),
        [Event::Failed(Failure::RequestTooLarge)]
    );
    assert_eq!(bench.sent_types(), ["proxy_request"]);
    assert_eq!(bench.controller.stats().held_out, 0);
}

#[test]
fn a_held_body_is_forgotten_with_its_request() {
    for cancelled in [true, false] {
        let mut bench = Bench::with(|c| c.limits = SMALL);
        bench.join(A, false);
        bench.sent();
        let id = bench.controller.open(bench.now, ask(), true).unwrap();
        let taken = bench.controller.send(id, Kind::Bytes, bytes(1000));
        assert!(taken.is_ok());
        if cancelled {
            bench.input(Input::Cancel(id));
        } else {
            bench.lose(A);
        }
        assert_eq!(bench.controller.stats().held_out, 0);
        assert_eq!(bench.streams_open(), 0);
        bench.join(B, false);
        assert_eq!(bench.sent_to(B).len(), 1, "nothing but the registration");
    }
}

#[test]
fn p153_a_full_queue_gives_data_back_and_tells_when_there_is_room() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    let (id, _) = bench.request(true);
    assert!(bench.controller.send(id, Kind::Bytes, bytes(1000)).is_ok());
    let refused = bench.controller.send(id, Kind::Bytes, bytes(1));
    assert_eq!(refused, Err(SendError::Blocked(bytes(1))));
    bench.run_blocked();
    assert!(!bench.actions.contains(&Action::Writable(id)));
    assert!(bench.has(&Action::Writable(id)));
    assert!(bench.controller.send(id, Kind::Bytes, bytes(1)).is_ok());
}

#[test]
fn p147_a_small_request_waits_for_one_chunk_of_each_other() {
    let mut bench = Bench::registered();
    let (first, _) = bench.request(true);
    let (second, _) = bench.request(true);
    for id in [first, second] {
        let taken = bench.controller.send(id, Kind::Bytes, bytes(200_000));
        assert!(taken.is_ok());
    }
    bench.controller.open(bench.now, ask(), false).unwrap();
    bench.frame(A, json!({"type": "ping"}));
    let types = bench.sent_types();
    assert_eq!(types[0], "pong");
    assert_eq!(types[3], "proxy_request");
}

#[test]
fn p186_a_cancelled_request_is_told_only_to_an_agent_that_knows_of_it() {
    let mut bench = Bench::registered();
    let unsent = bench.controller.open(bench.now, ask(), true).unwrap();
    bench.input(Input::Cancel(unsent));
    assert!(bench.sent().is_empty());
    let (id, name) = bench.request(true);
    let taken = bench.controller.send(id, Kind::Bytes, bytes(90_000));
    assert!(taken.is_ok());
    bench.input(Input::Cancel(id));
    bench.input(Input::Cancel(id));
    let sent = bench.sent();
    assert_eq!(sent.len(), 1, "what was queued has no use any more");
    assert_eq!(
        (&sent[0]["type"], &sent[0]["request_id"]),
        (&json!("proxy_cancel"), &json!(name))
    );
    assert!(bench.events(id).is_empty(), "who gave up is told nothing");
    assert_eq!(bench.streams_open(), 0);
    assert_eq!(bench.controller.stats().held_out, 0);
}

#[test]
fn p186_a_client_that_breaks_off_its_body_cancels() {
    let mut bench = Bench::registered();
    let (id, _) = bench.request(true);
    bench.input(Input::Ended(id, StreamEnd::Broken("reset".into())));
    assert_eq!(bench.sent_types(), ["proxy_cancel"]);
    // It has one end for its reader, too.
    let events = bench.events(id);
    assert!(
        matches!(&events[..], [Event::Failed(Failure::Cancelled)]),
        "{events:?}"
    );
}

#[test]
fn p091_names_are_never_reused_over_connections_or_restarts() {
    let mut names = BTreeSet::new();
    for nonce in 1..=3 {
        let mut bench = Bench::start(nonce, |_| {});
        for conn in [A, B] {
            bench.join(conn, true);
            for _ in 0..3 {
                bench.controller.open(bench.now, ask(), false).unwrap();
            }
            for message in bench.sent_to(conn) {
                if message["type"] == "proxy_request" {
                    let name = message["request_id"].as_str().unwrap().to_string();
                    assert!(names.insert(name), "reused");
                }
            }
            bench.lose(conn);
        }
    }
    assert_eq!(names.len(), 18);
}
