//! How they end.

use super::*;

#[test]
fn p161_every_end_is_told_once_with_its_cause_and_code() {
    let broken = "the Kubernetes API ended the connection";
    for (how, expected) in [
        (
            StreamEnd::Closed(StreamClose::new(1000, "")),
            &[end("proxy_websocket_close", "1000")][..],
        ),
        (StreamEnd::Clean, &[end("proxy_websocket_close", "1000")]),
        (
            StreamEnd::Closed(StreamClose::new(1001, "bye")),
            &[
                end(
                    "proxy_error",
                    "the Kubernetes API closed the stream with code 1001: bye",
                ),
                end("proxy_websocket_close", "1001"),
            ],
        ),
        (
            StreamEnd::Closed(StreamClose::new(1005, "")),
            &[
                end(
                    "proxy_error",
                    "the Kubernetes API closed the stream without a code",
                ),
                end("proxy_websocket_close", "null"),
            ],
        ),
        (
            StreamEnd::Broken(broken.into()),
            &[
                end("proxy_error", broken),
                end("proxy_websocket_close", "1011"),
            ],
        ),
    ] {
        for form in FORMS {
            let mut bench = Bench::registered();
            let id = bench.socket_with(form, "s", V5);
            bench.says(id, Kind::Binary, b"last").unwrap();
            bench.input(Input::Ended(id, how.clone()));
            bench.input(Input::Ended(id, how.clone()));
            let ends = bench.ends();
            assert_eq!(ends[0].0, "proxy_websocket_data", "P-152: data first");
            assert_eq!(ends[1..], *expected);
            assert_eq!(bench.agent.stats().streams_open, 0);
            bench.data("s", b"\x02late");
            bench.close("s");
            assert!(bench.sent().is_empty());
        }
    }
}

#[test]
fn p152_a_close_of_the_controller_takes_effect_after_the_data_before_it() {
    for (kind, payload, close) in [
        (
            "ws_close",
            json!({"stream_id": "s"}),
            StreamClose::new(1005, ""),
        ),
        (
            "proxy_websocket_close",
            json!({"stream_id": "s", "code": 1001, "reason": "gone"}),
            StreamClose::new(1001, "gone"),
        ),
        (
            "ws_data",
            json!({"stream_id": "s", "data": base64(&[8, 3, 0xe8])}),
            StreamClose::new(1000, ""),
        ),
    ] {
        let mut bench = Bench::registered();
        let id = bench.socket("s");
        bench.data("s", b"\x02last");
        bench.frame(json!({"type": kind, "request_id": "s", "payload": payload}));
        bench.data("s", b"\x02later");
        let actions = bench.take();
        let about: Vec<&Action> = actions
            .iter()
            .filter(|a| {
                matches!(
                    a,
                    Action::Deliver(..) | Action::Closed(..) | Action::Reset(_)
                )
            })
            .collect();
        let last = Action::Deliver(id, Kind::Binary, Bytes::from_static(b"last"));
        assert_eq!(about, [&last, &Action::Closed(id, close, None)]);
        assert!(bench.sent().is_empty(), "it is answered when it is done");
        // The upstream's last words have no reader any more.
        bench.says(id, Kind::Binary, b"x").unwrap();
        bench.input(Input::Ended(id, StreamEnd::Broken("reset".into())));
        assert_eq!(bench.sent_types(), ["proxy_websocket_close"]);
        assert_eq!(bench.agent.stats().streams_open, 0);
    }
}

#[test]
fn p170_a_close_during_the_dial_ends_the_dial() {
    for form in FORMS {
        let mut bench = Bench::registered();
        let id = bench.start(form, "s");
        bench.data("s", b"\x02early");
        bench.close("s");
        assert!(bench.has(&Action::Reset(id)));
        assert_eq!(bench.sent_types(), ["proxy_websocket_close"]);
        bench.accept(id, V5);
        assert!(matches!(
            bench.says(id, Kind::Binary, b"x"),
            Err(SendError::Closed(_))
        ));
        assert!(bench.sent().is_empty(), "W-27 sent its output on");
        assert_eq!(bench.agent.stats().streams_open, 0);
        assert_eq!(bench.agent.stats().held_in, 0);
    }
}

#[test]
fn p170_an_upstream_that_does_not_end_after_the_close_is_dropped() {
    let mut bench = Bench::registered();
    let id = bench.socket("s");
    bench.close("s");
    bench.pass_alive(secs(9));
    assert!(!bench.has(&Action::Reset(id)));
    bench.pass_alive(secs(2));
    assert!(bench.has(&Action::Reset(id)));
    let ends = bench.ends();
    assert!(
        ends.contains(&end("proxy_websocket_close", "1000")),
        "{ends:?}"
    );
    assert!(ends.iter().all(|(kind, _)| kind != "proxy_error"));
    assert_eq!(bench.agent.stats().streams_open, 0);
}

#[test]
fn p170_a_close_ends_a_stream_whose_own_end_waits_for_room() {
    for opcode in [false, true] {
        let mut bench = Bench::registered();
        let payload = json!({"path": EXEC, "response_window": 256, "protocol": V5});
        let id = bench.try_start(Form::Streamed, "s", payload).unwrap();
        bench.accept(id, V5);
        bench.sent();
        for message in [&b"x"[..], b""] {
            bench.says(id, Kind::Binary, message).unwrap();
        }
        bench.input(Input::Ended(id, StreamEnd::Clean));
        bench.sent();
        bench.data("s", b"\x02late");
        assert!(bench.sent().is_empty(), "the window is spent");
        if opcode {
            bench.data("s", &[8, 3, 0xe9]);
        } else {
            bench.close("s");
        }
        assert_eq!(bench.sent_types(), ["proxy_websocket_close"]);
        let stats = bench.agent.stats();
        assert_eq!((stats.streams_open, stats.held_out), (0, 0));
    }
}

#[test]
fn p186_a_cancel_ends_a_stream_that_was_asked_for_by_a_request() {
    for form in [Form::Whole, Form::Streamed] {
        for open in [true, false] {
            let mut bench = Bench::registered();
            let id = bench.start(form, "s");
            if open {
                bench.accept(id, V5);
                bench.sent();
            }
            bench.frame(json!({"type": "proxy_cancel", "request_id": "s", "payload": {}}));
            assert!(bench.has(&Action::Reset(id)));
            assert!(bench.sent().is_empty());
            assert_eq!(bench.agent.stats().streams_open, 0);
        }
    }
    // P-062: those of `proxy_websocket_start` have a close of their own.
    let mut bench = Bench::registered();
    let id = bench.socket("s");
    bench.frame(json!({"type": "proxy_cancel", "request_id": "s", "payload": {}}));
    assert!(!bench.has(&Action::Reset(id)));
}

#[test]
fn p174_streams_end_with_their_connection() {
    for form in FORMS {
        let mut bench = Bench::registered();
        let open = bench.socket_with(form, "s", V5);
        let dialing = bench.start(form, "t");
        bench.cut();
        assert!(bench.has(&Action::Reset(open)));
        assert!(bench.has(&Action::Reset(dialing)));
        let stats = bench.agent.stats();
        assert_eq!(
            (stats.streams_open, stats.held_in, stats.held_out),
            (0, 0, 0)
        );
    }
}

#[test]
fn p212_streams_that_outlive_the_grace_are_told_why_they_end() {
    let mut bench = Bench::registered();
    let id = bench.socket("s");
    bench.input(Input::Shutdown(secs(5)));
    assert_eq!(
        bench.try_start(Form::Bare, "t", json!({"path": EXEC})),
        None
    );
    let refused = bench.sent();
    assert_eq!(error(&refused[0]), "the agent is shutting down");
    bench.data("s", b"\x02hi");
    assert_eq!(bench.messages(id).len(), 1, "what runs may end");
    bench.pass(secs(6));
    let ends = bench.ends();
    let text = "the agent is shutting down";
    assert!(ends.contains(&end("proxy_error", text)), "{ends:?}");
    assert_eq!(ends.last().unwrap().0, "proxy_websocket_close");
    assert!(bench.has(&Action::Stopped));
}
