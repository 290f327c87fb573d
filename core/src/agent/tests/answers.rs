//! Answers on their way out: order, ends, limits and turns.

use super::*;

#[test]
fn p042_a_streamed_answer_is_head_chunks_and_end_in_order() {
    let mut bench = Bench::registered();
    let id = bench.request("r");
    let body = bytes(100_000);
    bench.input(Input::Head(id, head(200)));
    assert_eq!(bench.offer(id, body.slice(..70_000)), Offer::Taken);
    assert_eq!(bench.offer(id, Bytes::new()), Offer::Taken);
    assert_eq!(bench.offer(id, body.slice(70_000..)), Offer::Taken);
    bench.input(Input::Ended(id, StreamEnd::Clean));
    let sent = bench.sent();
    assert!(sent.iter().all(|m| m["request_id"] == "r"));
    assert_eq!(sent[0]["type"], "proxy_response_header");
    assert_eq!(sent[0]["payload"]["status"], 200);
    assert_eq!(
        sent[0]["payload"]["headers"],
        json!({"Content-Type": ["text/plain"]})
    );
    let (last, chunks) = sent[1..].split_last().unwrap();
    assert_eq!(last["type"], "proxy_response_end");
    let mut got = Vec::new();
    for chunk in chunks {
        assert_eq!(chunk["type"], "proxy_response_chunk");
        assert_eq!(chunk["payload"]["encoding"], "base64");
        let piece = decoded(&chunk["payload"]["data"]);
        assert_eq!(chunk["payload"]["size"], piece.len());
        assert!(!piece.is_empty() && piece.len() <= 32_768);
        got.extend(piece);
    }
    assert!(got == body, "the body differs");
    assert_eq!(bench.agent.stats().bytes_out, 100_000);
}

#[test]
fn p042_a_chunk_leaves_before_the_answer_is_complete() {
    let mut bench = Bench::registered();
    let id = bench.request("watch");
    bench.input(Input::Head(id, head(200)));
    assert_eq!(bench.sent_types(), ["proxy_response_header"]);
    assert_eq!(bench.offer(id, bytes(1)), Offer::Taken);
    assert_eq!(bench.sent_types(), ["proxy_response_chunk"]);
}

#[test]
fn p037_a_whole_answer_is_one_message() {
    let mut bench = Bench::registered();
    let id = bench.whole("r");
    bench.input(Input::Head(id, head(200)));
    for piece in [&b"one"[..], b"two"] {
        assert_eq!(bench.offer(id, Bytes::from_static(piece)), Offer::Taken);
    }
    assert!(bench.sent().is_empty());
    bench.input(Input::Ended(id, StreamEnd::Clean));
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (&sent[0]["type"], &sent[0]["request_id"]),
        (&json!("proxy_response"), &json!("r"))
    );
    assert_eq!(
        sent[0]["payload"],
        json!({"status": 200, "headers": {"Content-Type": ["text/plain"]},
            "body": base64(b"onetwo"), "encoding": "base64"})
    );
    let id = bench.whole("r");
    let none = ResponseHead {
        status: 204,
        headers: Vec::new(),
    };
    bench.input(Input::Head(id, none));
    bench.input(Input::Ended(id, StreamEnd::Clean));
    let empty = json!({"status": 204, "headers": null});
    assert_eq!(bench.sent()[0]["payload"], empty);
}

#[test]
fn p037_data_without_a_head_is_a_200() {
    for streamed in [true, false] {
        let mut bench = Bench::registered();
        let payload = json!({"path": "/api", "supports_response_streaming": streamed});
        let (id, _) = bench.ask("r", payload).unwrap();
        assert_eq!(bench.offer(id, bytes(1)), Offer::Taken);
        bench.input(Input::Ended(id, StreamEnd::Clean));
        let sent = bench.sent();
        assert_eq!(sent[0]["payload"]["status"], 200);
        assert_eq!(sent.len(), if streamed { 3 } else { 1 });
    }
}

#[test]
fn p201_connection_headers_do_not_pass() {
    let mut bench = Bench::registered();
    let id = bench.request("r");
    let pair = |n: &str, v: &str| (n.to_string(), v.to_string());
    let headers = Vec::from([
        pair("Connection", "X-Hop"),
        pair("x-hop", "1"),
        pair("Transfer-Encoding", "chunked"),
        pair("Warning", "a"),
        pair("warning", "b"),
    ]);
    bench.input(Input::Head(
        id,
        ResponseHead {
            status: 200,
            headers,
        },
    ));
    let sent = bench.sent();
    assert_eq!(
        sent[0]["payload"]["headers"],
        json!({"Warning": ["a", "b"]})
    );
}

/// What comes late changes nothing.
fn say_late(bench: &mut Bench, id: StreamId) {
    bench.input(Input::Head(id, head(500)));
    assert_eq!(bench.offer(id, bytes(1)), Offer::Closed);
    bench.input(Input::Ended(id, StreamEnd::Broken("late".into())));
    bench.input(Input::Consumed(id, 7));
    bench.chunk("r", b"late");
}

/// Every way in which an accepted request can end, and the messages that end it.
#[test]
fn p094_one_terminal_message_whatever_ends_the_request() {
    type End = fn(&mut Bench, StreamId);
    let ways: [(&str, &str, bool, End); 9] = [
        ("end", "proxy_response", true, |b, id| {
            b.input(Input::Head(id, head(200)));
            b.input(Input::Ended(id, StreamEnd::Clean));
        }),
        ("abort", "proxy_error", true, |b, id| {
            b.input(Input::Head(id, head(200)));
            assert_eq!(b.offer(id, bytes(10)), Offer::Taken);
            b.input(Input::Ended(id, StreamEnd::Broken("cut".into())));
        }),
        ("abort", "proxy_error", true, |b, id| {
            b.input(Input::Ended(id, StreamEnd::Broken("before a head".into())));
        }),
        ("abort", "proxy_error", true, |b, id| {
            b.input(Input::Ended(id, StreamEnd::Clean));
        }),
        ("abort", "proxy_error", false, |b, _| {
            b.pass_alive(secs(61));
        }),
        ("abort", "proxy_error", false, |b, _| {
            b.frame(json!({"type": "proxy_request_chunk", "request_id": "r",
                "payload": {"data": "!"}}));
        }),
        ("abort", "proxy_error", false, |b, _| {
            b.chunk("r", &[0; 2000]);
        }),
        ("abort", "proxy_error", false, |b, _| {
            b.input(Input::Shutdown(secs(1)));
            b.pass(secs(1));
        }),
        // The last message counts after the data that was queued before it.
        ("end", "proxy_response", true, |b, id| {
            assert_eq!(b.offer(id, bytes(900)), Offer::Taken);
            b.input(Input::Ended(id, StreamEnd::Clean));
        }),
    ];
    for (way, (streamed_end, whole_end, by_local_end, end)) in ways.into_iter().enumerate() {
        for streamed in [true, false] {
            let mut bench = Bench::registered_with(|c| c.limits = SMALL);
            let payload = json!({"method": "POST", "path": "/api", "use_streaming": true,
                "timeout": "1m", "supports_response_streaming": streamed});
            let (id, _) = bench.ask("r", payload).unwrap();
            end(&mut bench, id);
            say_late(&mut bench, id);
            let types = bench.sent_types();
            let ours = types.iter().filter(|t| t.starts_with("proxy"));
            let terminal: Vec<&String> = ours
                .filter(|t| !t.ends_with("header") && !t.ends_with("chunk"))
                .collect();
            let expected = if streamed {
                alloc::format!("proxy_response_{streamed_end}")
            } else {
                whole_end.to_string()
            };
            assert_eq!(terminal, [&expected], "way {way}, streamed {streamed}");
            assert_eq!(types.last(), Some(&expected), "way {way}");
            assert_eq!(bench.has(&Action::Reset(id)), !by_local_end, "way {way}");
            assert_eq!(bench.agent.stats().streams_open, 0);
        }
    }
}

#[test]
fn p149_a_whole_answer_has_a_cap() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    let id = bench.whole("r");
    bench.input(Input::Head(id, head(200)));
    assert_eq!(bench.offer(id, bytes(1024)), Offer::Taken);
    bench.input(Input::Ended(id, StreamEnd::Clean));
    assert_eq!(bench.sent_types(), ["proxy_response"], "at the cap");
    let id = bench.whole("r");
    bench.input(Input::Head(id, head(200)));
    assert_eq!(bench.offer(id, bytes(1024)), Offer::Taken);
    let over = bench.offer(id, bytes(1));
    assert_eq!(over, Offer::Closed);
    assert!(bench.has(&Action::Reset(id)));
    let sent = bench.sent();
    assert_eq!((sent.len(), &sent[0]["type"]), (1, &json!("proxy_error")));
    let error = sent[0]["payload"]["error"].as_str().unwrap();
    assert!(error.contains("longer than 1024 bytes"), "{error}");
    assert_eq!(bench.agent.stats().held_out, 0);
}

#[test]
fn p149_whole_answers_have_a_cap_in_all_until_they_are_framed() {
    let mut bench = Bench::registered_with(|c| {
        c.limits = SMALL;
        c.limits.buffered_total = 1500;
    });
    let first = bench.whole("first");
    assert_eq!(bench.offer(first, bytes(1000)), Offer::Taken);
    bench.input(Input::Ended(first, StreamEnd::Clean));
    // Complete, but the socket takes nothing.
    bench.frame(json!({"type": "proxy_request", "request_id": "second",
        "payload": {"path": "/api"}}));
    let second = StreamId(1);
    assert!(bench.agent.stats().held_out >= 1000);
    assert_eq!(bench.offer(second, bytes(500)), Offer::Taken);
    let over = bench.offer(second, bytes(1));
    assert_eq!(over, Offer::Closed);
    assert_eq!(bench.sent_types(), ["proxy_response", "proxy_error"]);
    assert_eq!(bench.agent.stats().held_out, 0);
}

#[test]
fn p149_a_whole_answer_that_never_ends_is_given_two_minutes() {
    let mut bench = Bench::registered();
    let id = bench.whole("watch");
    bench.input(Input::Head(id, head(200)));
    assert_eq!(bench.offer(id, bytes(10)), Offer::Taken);
    bench.pass_alive(secs(119));
    assert!(!bench.has(&Action::Reset(id)));
    bench.pass_alive(secs(1));
    assert!(bench.has(&Action::Reset(id)));
    let sent = bench.sent();
    let last = sent.last().unwrap();
    assert_eq!(last["type"], "proxy_error");
    let error = last["payload"]["error"].as_str().unwrap();
    assert!(error.contains("time limit"), "{error}");
}

#[test]
fn p187_a_streamed_answer_has_no_hidden_time_limit() {
    let mut bench = Bench::registered();
    let id = bench.request("watch");
    bench.input(Input::Head(id, head(200)));
    bench.pass_alive(secs(24 * 3600));
    assert!(!bench.has(&Action::Reset(id)));
    assert_eq!(bench.offer(id, bytes(10)), Offer::Taken);
}

#[test]
fn p153_a_full_queue_gives_data_back_and_tells_when_there_is_room() {
    let mut bench = Bench::registered();
    let limits = Limits::agent();
    let id = bench.request("r");
    bench.run();
    let mut taken = 0;
    let piece = bytes(10_000);
    while bench.offer(id, piece.clone()) == Offer::Taken {
        taken += piece.len();
    }
    assert!(taken <= limits.send_stream && taken > limits.send_stream - 2 * piece.len());
    assert_eq!(bench.offer(id, piece), Offer::Blocked);
    let conn = bench.agent.phase().open().unwrap();
    assert_eq!(bench.agent.poll(Socket::Blocked), None);
    let mut framed = 0;
    loop {
        match bench.agent.poll(Socket::Ready(conn)) {
            Some(Action::Writable(to)) => {
                assert_eq!(to, id);
                break;
            }
            Some(Action::Send(..)) => framed += limits.chunk,
            other => panic!("{other:?}"),
        }
    }
    let left = taken.saturating_sub(framed);
    assert!(left <= limits.send_stream / 2, "{left} bytes are left");
    assert_eq!(bench.offer(id, bytes(1)), Offer::Taken);
    bench.run();
    assert!(
        !bench.has(&Action::Writable(id)),
        "only who was refused is called"
    );
}

#[test]
fn p153_a_stream_that_is_over_is_not_called_upon_to_send() {
    for cancelled in [true, false] {
        let mut bench = Bench::registered();
        let id = bench.request("r");
        bench.run();
        while bench.offer(id, bytes(10_000)) == Offer::Taken {}
        if cancelled {
            bench.frame(json!({"type": "proxy_cancel", "request_id": "r"}));
        } else {
            bench.input(Input::Ended(id, StreamEnd::Broken("cut".into())));
        }
        bench.run();
        assert!(!bench.has(&Action::Writable(id)));
    }
}

#[test]
fn p153_no_size_of_piece_waits_for_ever() {
    let mut bench = Bench::registered();
    let id = bench.request("r");
    bench.input(Input::Head(id, head(200)));
    bench.run();
    let large = bytes(Limits::agent().send_stream * 2);
    assert_eq!(bench.offer(id, large.clone()), Offer::Taken);
    assert_eq!(bench.offer(id, large.clone()), Offer::Blocked);
    bench.run();
    assert!(bench.has(&Action::Writable(id)));
    assert_eq!(bench.offer(id, large), Offer::Taken);
}

#[test]
fn p153_above_the_total_every_stream_waits_and_is_called_again() {
    let mut bench = Bench::registered_with(|c| c.limits.send_total = 300_000);
    let first = bench.request("first");
    let second = bench.request("second");
    bench.input(Input::Head(first, head(200)));
    bench.run();
    assert_eq!(bench.offer(first, bytes(300_000)), Offer::Taken);
    assert_eq!(bench.offer(second, bytes(1)), Offer::Blocked);
    bench.run();
    assert!(bench.has(&Action::Writable(second)));
    assert_eq!(bench.offer(second, bytes(1)), Offer::Taken);
}

#[test]
fn p147_a_small_answer_waits_for_one_chunk_of_each_other() {
    let mut bench = Bench::registered();
    let bulk: Vec<StreamId> = ["a", "b", "c"].map(|id| bench.request(id)).into();
    for id in &bulk {
        bench.input(Input::Head(*id, head(200)));
        bench.agent.send(*id, Kind::Bytes, bytes(200_000)).unwrap();
    }
    let small = bench.request_without_polling("small");
    bench.input(Input::Head(small, head(200)));
    assert_eq!(bench.offer(small, bytes(1)), Offer::Taken);
    let sent = bench.sent();
    let places: Vec<usize> = (0..sent.len())
        .filter(|i| sent[*i]["request_id"] == "small")
        .collect();
    assert_eq!(places, [3, 7], "one frame of each other comes between");
}

#[test]
fn p147_control_overtakes_bulk() {
    let mut bench = Bench::registered();
    let id = bench.request("bulk");
    assert_eq!(bench.offer(id, bytes(200_000)), Offer::Taken);
    bench.frame(json!({"type": "ping", "request_id": "p"}));
    assert_eq!(bench.sent_types()[0], "pong");
}
