//! How they end.

use super::*;

#[test]
fn p161_an_end_in_order_is_relayed_with_its_code_when_all_was_taken() {
    let mut bench = Bench::modern();
    let (id, name) = bench.open_socket(EXEC, V5);
    bench.message(&name, b"\x02\x01out");
    bench.message(&name, &[b"\x02", SUCCESS].concat());
    bench.closes(&name, Some(1000));
    bench.run();
    let closed = |a: &Action| matches!(a, Action::Closed(..));
    assert!(
        !bench.actions.iter().any(closed),
        "the client has not taken it all"
    );
    assert_eq!(
        bench.told(id),
        [
            binary(b"\x01out"),
            binary(SUCCESS),
            Told::Closed(1000, None)
        ]
    );
    assert_eq!(bench.streams_open(), 0);
    assert!(bench.sent().is_empty(), "the agent knows");
    // Late words are nobody's.
    bench.closes(&name, Some(1000));
    bench.fails(&name, "late");
    assert!(bench.told(id).is_empty());
}

#[test]
fn no_end_without_a_result_passes_for_a_success() {
    let text = "the stream ended before the command's result was known";
    for (protocol, expected) in [
        (
            V5,
            vec![
                status(text),
                Told::Closed(1000, Some(Failure::Agent(text.into()))),
            ],
        ),
        (
            V4,
            vec![
                status(text),
                Told::Closed(1000, Some(Failure::Agent(text.into()))),
            ],
        ),
        // These say nothing of a success.
        ("channel.k8s.io", vec![Told::Closed(1000, None)]),
        ("", vec![Told::Closed(1000, None)]),
    ] {
        let mut bench = Bench::modern();
        let (id, name) = bench.open_socket(EXEC, protocol);
        // The first message of a stream may be an empty one of the error channel.
        bench.message(&name, b"\x02\x03");
        bench.closes(&name, Some(1000));
        let told = bench.told(id);
        assert_eq!(told[0], binary(b"\x03"));
        assert_eq!(told[1..], expected, "{protocol}");
    }
}

#[test]
fn a_stream_that_breaks_tells_the_client_why_as_its_subprotocol_can() {
    let failure = || Failure::Agent("no route".into());
    for (path, protocol, expected) in [
        (
            EXEC,
            V5,
            vec![status("no route"), Told::Closed(1000, Some(failure()))],
        ),
        (
            EXEC,
            "channel.k8s.io",
            vec![binary(b"\x03no route"), Told::Closed(1011, Some(failure()))],
        ),
        (
            EXEC,
            "base64.channel.k8s.io",
            vec![
                Told::Message(Kind::Text, b"3bm8gcm91dGU=".to_vec()),
                Told::Closed(1011, Some(failure())),
            ],
        ),
        (
            "/api/v1/namespaces/n/pods/p/portforward",
            V4,
            vec![Told::Closed(1011, Some(failure()))],
        ),
        (
            "/api/v1/namespaces/n/pods/p/log",
            "binary.k8s.io",
            vec![Told::Closed(1011, Some(failure()))],
        ),
    ] {
        let mut bench = Bench::modern();
        let (id, name) = bench.open_socket(path, protocol);
        bench.fails(&name, "no route");
        bench.closes(&name, Some(1011));
        assert_eq!(bench.told(id), expected, "{path} {protocol}");
        assert!(bench.sent().is_empty());
        assert_eq!(bench.streams_open(), 0);
    }
    // A result that was told stays the result.
    let mut bench = Bench::modern();
    let (id, name) = bench.open_socket(EXEC, V5);
    bench.message(&name, &[b"\x02", SUCCESS].concat());
    bench.fails(&name, "no route");
    assert_eq!(
        bench.told(id),
        [binary(SUCCESS), Told::Closed(1011, Some(failure()))]
    );
}

#[test]
fn a_result_for_which_there_is_no_room_was_not_told() {
    let mut bench = Bench::with_agent(json!({}), |c| c.limits = SMALL);
    let (id, name) = bench.socket(EXEC, &[V5]);
    for _ in 0..3 {
        bench.message(&name, &[2; 301]);
    }
    bench.take();
    bench.message(&name, &[&[2, 3][..], &[b' '; 300]].concat());
    let told = bench.told(id);
    assert_eq!(told[0], status(&format!("{}", Failure::Overrun)));
    assert_eq!(told[1], Told::Closed(1000, Some(Failure::Overrun)));
}

#[test]
fn p174_streams_end_with_their_connection_and_say_so() {
    let mut bench = Bench::modern();
    let (open, _) = bench.open_socket(EXEC, V5);
    let (asked, _) = bench.socket(EXEC, &[V5]);
    bench.lose(A);
    let lost = "the connection to the cluster's agent was lost";
    let told = bench.told(open);
    assert_eq!(
        told,
        [
            status(lost),
            Told::Closed(1000, Some(Failure::Disconnected))
        ]
    );
    assert_eq!(bench.told(asked), [Told::Failed(Failure::Disconnected)]);
    let stats = bench.controller.stats();
    assert_eq!(
        (stats.streams_open, stats.held_in, stats.held_out),
        (0, 0, 0)
    );
}

#[test]
fn p212_a_shutdown_lets_streams_end_and_then_tells_both_sides() {
    let mut bench = Bench::modern();
    let (id, name) = bench.open_socket(EXEC, V5);
    bench.input(Input::Shutdown(secs(5)));
    bench.message(&name, b"\x02\x01out");
    assert_eq!(bench.told(id), [binary(b"\x01out")]);
    bench.pass(secs(6), &[A]);
    let told = bench.told(id);
    let text = "the controller is shutting down";
    assert_eq!(
        told,
        [status(text), Told::Closed(1000, Some(Failure::Shutdown))]
    );
    assert!(
        bench
            .sent_types()
            .contains(&"proxy_websocket_close".to_string())
    );
}

#[test]
fn p152_the_clients_close_goes_behind_what_it_sent() {
    for (how, code) in [
        (StreamEnd::Closed(StreamClose::new(1000, "")), json!(1000)),
        (StreamEnd::Clean, json!(1000)),
        (StreamEnd::Broken("gone".into()), json!(1001)),
    ] {
        let mut bench = Bench::modern();
        let (id, name) = bench.open_socket(EXEC, V5);
        bench.client_says(id, b"last").unwrap();
        bench.input(Input::Ended(id, how));
        assert!(bench.client_says(id, b"later").is_err());
        let sent = bench.sent();
        assert_eq!(decoded(&sent[0]["payload"]["data"]), b"\x02last");
        assert_eq!(sent[1]["type"], "proxy_websocket_close");
        assert_eq!(sent[1]["payload"]["code"], code);
        assert_eq!(bench.streams_open(), 0);
        bench.message(&name, b"\x02\x01late");
        bench.closes(&name, Some(1000));
        assert!(bench.told(id).is_empty(), "nobody listens");
        assert!(bench.sent().is_empty(), "it was told before");
    }
}

#[test]
fn p170_a_close_does_not_wait_for_ever_for_what_nobody_takes() {
    let mut bench = Bench::modern();
    let (id, _) = bench.open_socket(EXEC, V5);
    bench.open.remove(&A);
    for _ in 0..4 {
        bench
            .controller
            .send(id, Kind::Binary, bytes(1000))
            .unwrap();
    }
    bench.input(Input::Ended(id, StreamEnd::Broken("gone".into())));
    bench.pass(secs(9), &[A]);
    assert!(bench.controller.stats().held_out > 4000, "it still may go");
    bench.pass(secs(2), &[A]);
    bench.open.insert(A);
    assert_eq!(bench.sent_types(), ["proxy_websocket_close"]);
    let stats = bench.controller.stats();
    assert_eq!((stats.streams_open, stats.held_out), (0, 0));
}

#[test]
fn p186_a_client_that_leaves_before_the_answer_is_told_to_the_agent() {
    for (mut bench, expected) in [
        (Bench::modern(), "proxy_cancel"),
        (Bench::foreign(), "proxy_websocket_close"),
    ] {
        let (id, name) = bench.socket(EXEC, &[V5]);
        bench.sent();
        bench.input(Input::Cancel(id));
        assert_eq!(bench.sent_types(), [expected]);
        assert_eq!(bench.streams_open(), 0);
        bench.accepts(&name, V5);
        bench.message(&name, b"\x02\x01late");
        assert!(bench.told(id).is_empty());
    }
    // An agent that knows nothing of it is told nothing.
    let mut bench = Bench::modern();
    let head = RequestHead::default();
    let opened = bench.controller.open_websocket(bench.now, head, Vec::new());
    bench.input(Input::Cancel(opened.unwrap()));
    assert!(bench.sent().is_empty());
    assert_eq!(bench.streams_open(), 0);
}

#[test]
fn p174_a_client_that_leaves_a_complete_refusal_leaves_nothing_behind() {
    let mut bench = Bench::modern();
    let (id, name) = bench.socket(EXEC, &[V5]);
    bench.says("proxy_response_header", &name, json!({"status": 403}));
    bench.answer_data(&name, b"{}");
    bench.answer_end(&name);
    bench.take();
    bench.lose(A);
    assert_eq!(bench.streams_open(), 1, "the client still reads");
    bench.input(Input::Ended(id, StreamEnd::Clean));
    assert_eq!(bench.streams_open(), 0);
}

#[test]
fn p170_an_agent_that_goes_on_with_a_dead_stream_is_told_once() {
    let mut bench = Bench::modern();
    for _ in 0..3 {
        bench.message("nobody", b"\x02\x01");
    }
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["type"], "proxy_websocket_close");
    assert_eq!(sent[0]["payload"]["stream_id"], "nobody");
}

#[test]
fn p162_an_error_about_no_stream_is_only_noticed() {
    let mut bench = Bench::modern();
    let (id, _) = bench.open_socket(EXEC, V5);
    let payload = json!({"request_id": "", "error": "duplicate request id"});
    bench.frame(A, json!({"type": "proxy_error", "payload": payload}));
    assert!(bench.told(id).is_empty());
    let notice = Notice::PeerError("duplicate request id".into());
    assert!(bench.has(&Action::Notice(notice)));
}

#[test]
fn p047_a_close_without_a_code_after_the_result_is_a_normal_one() {
    for (protocol, framed, code) in [
        (V5, [b"\x02", SUCCESS].concat(), 1000),
        ("binary.k8s.io", b"\x02x".to_vec(), 1005),
    ] {
        let mut bench = Bench::foreign();
        let (id, name) = bench.socket(EXEC, &[protocol]);
        bench.message(&name, &framed);
        bench.closes(&name, None);
        assert_eq!(bench.told(id).last(), Some(&Told::Closed(code, None)));
    }
}

#[test]
fn what_there_is_no_room_for_is_taken_back_before_the_stream_fails() {
    let mut bench = Bench::with_agent(json!({}), |c| c.limits = SMALL);
    let (id, name) = bench.socket(EXEC, &[V5]);
    for _ in 0..4 {
        bench.message(&name, &[2; 301]);
    }
    let about = |action: &&Action| {
        matches!(action, Action::Discard(to) | Action::Deliver(to, ..) | Action::Closed(to, ..)
            if *to == id)
    };
    let actions = bench.take();
    let last: Vec<&Action> = actions.iter().filter(about).skip(3).collect();
    let [discard, status, closed] = last[..] else {
        panic!("{last:?}")
    };
    assert_eq!(discard, &Action::Discard(id));
    assert!(matches!(status, Action::Deliver(..)), "{status:?}");
    assert!(matches!(closed, Action::Closed(..)), "{closed:?}");
    assert_eq!(bench.controller.stats().held_in, 0);
}
