//! What comes in an unusual order, twice, or more often than there is room for.

use super::*;

fn register(features: Value) -> Value {
    json!({"type": "register", "request_id": "reg",
        "payload": {"agent_id": "agent-1f2e", "features": features}})
}

#[test]
fn p090_an_agent_that_registers_anew_stays_joined() {
    let offers = json!({"supports_yamux": true});
    for (first, then) in [(json!({}), &offers), (offers.clone(), &offers)] {
        let mut bench = Bench::new();
        bench.accept(A);
        bench.frame(A, register(first));
        let declines = json!({"type": "gateway_hello_ack", "payload": {"use_yamux": false}});
        bench.frame(A, declines);
        bench.take();
        let (id, name) = bench.request(false);
        bench.frame(A, register(then.clone()));
        assert!(
            bench.controller.joined().is_some(),
            "also while it is greeted"
        );
        assert!(bench.controller.open(bench.now, ask(), false).is_ok());
        bench.says("proxy_response", &name, json!({"status": 200}));
        assert_eq!(bench.events(id), [Event::Head(200), Event::Finish]);
        bench.take();
        // Whoever was told that it is there is told that it is not.
        bench.lose(A);
        let left = |action: &Action| matches!(action, Action::Left(Reason::Lost(_)));
        assert!(bench.take().iter().any(left));
        assert!(bench.controller.joined().is_none());
    }
}

#[test]
fn p084_an_agent_is_greeted_once_on_a_connection() {
    let mut bench = Bench::new();
    bench.accept(A);
    let mut greetings = 0;
    for _ in 0..3 {
        bench.frame(A, register(json!({"supports_yamux": true})));
        let sent = bench.sent_types();
        greetings += sent.iter().filter(|kind| *kind == "gateway_hello").count();
    }
    assert_eq!(greetings, 1);
}

#[test]
fn a_request_is_asked_on_the_terms_on_which_it_was_opened() {
    let features = json!({"supports_streaming": true, "supports_response_streaming": true,
        "upgrade_answer": true, "response_window": true, "request_window": 4096});
    let mut bench = Bench::new();
    bench.accept(A);
    bench.frame(A, register(features));
    bench.take();
    bench.controller.open(bench.now, ask(), true).unwrap();
    let socket =
        bench
            .controller
            .open_websocket(bench.now, ask(), Vec::from(["v5.channel.k8s.io".into()]));
    socket.unwrap();
    bench.frame(A, register(json!({})));
    let sent = bench.sent();
    let asked: Vec<_> = sent
        .iter()
        .filter(|m| m["type"] == "proxy_request")
        .collect();
    assert_eq!(asked.len(), 2);
    for request in asked {
        let payload = &request["payload"];
        assert_eq!(payload["request_window"], 4096);
        assert_eq!(payload["supports_response_streaming"], true);
        assert!(payload["response_window"].is_number());
    }
}

/// An answer of an agent that keeps a window, of which 1000 bytes wait for their reader.
fn windowed() -> (Bench, StreamId, String) {
    let mut bench = Bench::with(|c| c.limits.recv_stream = 2048);
    bench.accept(A);
    let features = json!({"supports_response_streaming": true, "response_window": true});
    bench.frame(A, register(features));
    let (id, name) = bench.request(false);
    bench.answer_head(&name);
    bench.answer_data(&name, &[7; 1000]);
    bench.take();
    (bench, id, name)
}

/// All that the agent was granted.
fn granted(bench: &mut Bench) -> (usize, u64) {
    let sent = bench.sent();
    let grants = sent.iter().map(|m| m["payload"]["bytes"].as_u64().unwrap());
    (sent.len(), grants.sum())
}

#[test]
fn what_is_taken_twice_is_granted_once() {
    let (mut bench, id, name) = windowed();
    for _ in 0..3 {
        bench.input(Input::Consumed(id, 1000));
    }
    bench.input(Input::Consumed(id, usize::MAX));
    assert_eq!(granted(&mut bench), (1, 1000));
    // Nor does it count later.
    bench.answer_data(&name, &[7; 300]);
    bench.input(Input::Consumed(id, 300));
    assert_eq!(granted(&mut bench), (1, 300));
    bench.answer_data(&name, &[7; 300]);
    bench.answer_end(&name);
    for _ in 0..3 {
        bench.input(Input::Consumed(id, usize::MAX));
    }
    assert_eq!(bench.streams_open(), 0);
}

#[test]
fn p179_grants_that_an_agent_does_not_read_are_one() {
    // It ignores its window, sends on, and reads nothing.
    let (mut bench, id, name) = windowed();
    bench.input(Input::Consumed(id, 1000));
    bench.run_blocked();
    let held = bench.controller.stats().held_out;
    for _ in 0..1000 {
        bench.answer_data(&name, &[7; 1000]);
        bench.input(Input::Consumed(id, 1000));
        bench.run_blocked();
    }
    assert_eq!(bench.controller.stats().held_out, held);
    assert_eq!(granted(&mut bench), (1, 1_001_000));
    assert_eq!(bench.controller.stats().held_out, 0);
}

#[test]
fn p148_the_headers_of_an_answer_are_bounded() {
    // Each counts for eight more than its bytes.
    for (len, passes) in [(1000 - 9, true), (1000 - 8, false)] {
        let headers = json!({"A": ["x".repeat(len)]});
        let binary = |name: &str| {
            let headers = headers.to_string();
            let parts: [&[u8]; 6] = [
                &(name.len() as u16).to_be_bytes(),
                name.as_bytes(),
                &200u32.to_be_bytes(),
                &(headers.len() as u32).to_be_bytes(),
                headers.as_bytes(),
                b"body",
            ];
            parts.concat()
        };
        for kind in ["proxy_response_header", "proxy_response", "binary"] {
            let mut bench = Bench::registered_with(|c| c.limits.head = 1000);
            let (id, name) = bench.request(false);
            match kind {
                "binary" => bench.input(Input::Frame(A, Frame::Binary(&binary(&name)))),
                _ => bench.says(kind, &name, json!({"status": 200, "headers": headers})),
            }
            let events = bench.events(id);
            let fault = Failure::Fault(PeerFault::HeadTooLong);
            match passes {
                true => assert_eq!(events.first(), Some(&Event::Head(200)), "{kind}"),
                false => assert_eq!(events, [Event::Failed(fault)], "{kind}"),
            }
        }
    }
}

#[test]
fn p169_what_an_old_connection_says_reaches_nothing_of_the_new_one() {
    let mut bench = Bench::registered();
    bench.join(B, true);
    let id = bench.controller.open(bench.now, ask(), false).unwrap();
    let sent = bench.sent_to(B);
    let name = sent.last().unwrap()["request_id"]
        .as_str()
        .unwrap()
        .to_string();
    let before = bench.controller.stats();
    for kind in ["proxy_response", "proxy_error", "proxy_response_chunk"] {
        bench.says(kind, &name, json!({"status": 200, "data": 7}));
    }
    bench.says("heartbeat", "", json!({}));
    bench.register(A, false);
    for input in [
        Input::Disconnected(A, Down::Lost("late".into())),
        Input::Pong(A),
        Input::Wrote(A),
    ] {
        bench.input(input);
    }
    let stats = bench.controller.stats();
    assert_eq!(stats.stale_inputs - before.stale_inputs, 8);
    assert_eq!(stats.registrations, before.registrations);
    assert!(bench.sent_to(A).is_empty() && bench.sent_to(B).is_empty());
    assert!(bench.events(id).is_empty());
    // Nor does its life keep the new one alive.
    bench.pass(secs(29), &[A]);
    assert!(bench.controller.joined().is_some());
    bench.pass(secs(1), &[A]);
    assert!(bench.has(&Action::Left(Reason::Idle)));
}
