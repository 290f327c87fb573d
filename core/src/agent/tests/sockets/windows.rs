//! How much may be sent ahead of who takes it.

use super::*;

#[test]
fn what_the_upstream_took_is_granted_to_a_controller_that_keeps_a_window() {
    for upload in [true, false] {
        let mut bench = Bench::registered_with(|c| c.limits.recv_stream = 4096);
        let payload = json!({"path": EXEC, "request_window": 2048, "method": "POST",
            "use_streaming": upload, "is_websocket": !upload});
        bench.frame(json!({"type": "proxy_request", "request_id": "s", "payload": payload}));
        let (id, _) = bench.opened().unwrap();
        if !upload {
            bench.accept(id, V5);
        }
        for len in [400, 1] {
            match upload {
                true => bench.chunk("s", &bytes(len)),
                false => bench.data("s", &vec![2; 1 + len]),
            }
        }
        bench.sent();
        bench.input(Input::Consumed(id, 400));
        assert!(bench.sent().is_empty());
        // Each counts for no less than 256.
        bench.input(Input::Consumed(id, 1));
        let sent = bench.sent();
        assert_eq!(sent[0]["type"], "proxy_request_grant");
        assert_eq!(sent[0]["payload"]["bytes"], 656);
        // What is taken once is granted once.
        bench.input(Input::Consumed(id, 4000));
        assert!(bench.sent().is_empty());
    }
    let mut bench = Bench::registered_with(|c| c.limits.recv_stream = 4096);
    let id = bench.socket("s");
    bench.data("s", &vec![2; 1 + 2000]);
    bench.input(Input::Consumed(id, 2000));
    assert!(
        bench.sent().is_empty(),
        "another would not know the message"
    );
}

#[test]
fn the_upstreams_messages_keep_to_the_controllers_window() {
    let mut bench = Bench::registered();
    let payload = json!({"path": EXEC, "response_window": 1000, "protocol": V5});
    let id = bench.try_start(Form::Streamed, "s", payload).unwrap();
    bench.accept(id, V5);
    bench.sent();
    let offer = |bench: &mut Bench| {
        let taken = bench.agent.send(id, Kind::Binary, bytes(400)).is_ok();
        bench.run();
        taken
    };
    let taken = [0; 4].map(|_| offer(&mut bench));
    let last = "the last one may pass the limit";
    assert_eq!(taken, [true, true, true, false], "{last}");
    assert_eq!(bench.sent_types().len(), 3);
    let grant = json!({"bytes": 400});
    bench.frame(json!({"type": "proxy_response_grant", "request_id": "s", "payload": grant}));
    assert!(offer(&mut bench));
    assert_eq!(bench.sent_types().len(), 1);
}

/// Messages of 300 bytes that leave of five, for an answer that is asked for with this window.
fn sent_within(window: Value) -> usize {
    let mut bench = Bench::registered();
    let payload = json!({"path": EXEC, "response_window": window, "protocol": V5});
    let id = bench.try_start(Form::Streamed, "s", payload).unwrap();
    bench.accept(id, V5);
    bench.sent();
    for _ in 0..5 {
        drop(bench.agent.send(id, Kind::Binary, bytes(300)));
        bench.run();
    }
    bench.sent().len()
}

#[test]
fn a_window_of_no_byte_is_none() {
    for none in [json!(null), json!(0), json!(-1), json!(0.5)] {
        assert_eq!(sent_within(none.clone()), 5, "{none}");
    }
    assert_eq!(sent_within(json!(1)), 1);
    assert_eq!(sent_within(json!(301)), 2);
}

#[test]
fn a_grant_of_nothing_or_for_nobody_is_counted_and_nothing_else() {
    let mut bench = Bench::registered();
    let payload = json!({"path": EXEC, "response_window": 300, "protocol": V5});
    let id = bench.try_start(Form::Streamed, "s", payload).unwrap();
    bench.accept(id, V5);
    bench.sent();
    bench.agent.send(id, Kind::Binary, bytes(300)).unwrap();
    assert_eq!(bench.sent_types(), ["proxy_websocket_data"]);
    let mut grant = |name: &str, payload| {
        let kind = "proxy_response_grant";
        bench.frame(json!({"type": kind, "request_id": name, "payload": payload}));
        drop(bench.agent.send(id, Kind::Binary, bytes(300)));
        (bench.sent().len(), bench.agent.stats().stale_frames)
    };
    assert_eq!(grant("s", json!({"bytes": 0})), (0, 1));
    assert_eq!(grant("s", json!({"bytes": -300})), (0, 2));
    assert_eq!(grant("s", json!({})), (0, 3));
    assert_eq!(grant("t", json!({"bytes": 300})), (0, 4));
    assert_eq!(grant("s", json!({"bytes": 300})), (1, 4));
}
