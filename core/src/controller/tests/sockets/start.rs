//! How they start, and what their messages are.

use super::*;

#[test]
fn p192_an_agent_that_answers_upgrades_is_asked_by_a_request() {
    let mut bench = Bench::modern();
    let (id, name) = bench.socket(EXEC, &[V5, V4]);
    let sent = bench.sent();
    assert_eq!(sent[0]["type"], "proxy_request");
    let payload = &sent[0]["payload"];
    assert_eq!(payload["is_websocket"], true);
    assert_eq!(payload["supports_response_streaming"], true);
    assert_eq!(payload["protocol"], "v5.channel.k8s.io, v4.channel.k8s.io");
    assert_eq!(payload["request_window"], 4096);
    assert!(payload["response_window"].as_u64().is_some());
    assert!(
        bench.told(id).is_empty(),
        "101 before the API's answer is a lie"
    );
    bench.accepts(&name, V4);
    assert_eq!(bench.told(id), [Told::Head(101, Some(V4.into()))]);
    bench.message(&name, b"\x02\x01");
    assert_eq!(bench.told(id), [binary(b"\x01")]);
}

#[test]
fn p112_the_answer_to_an_upgrade_may_come_in_one_message() {
    let features = json!({"upgrade_answer": true});
    let mut bench = Bench::with_agent(features, |_| {});
    let (id, name) = bench.socket(EXEC, &[V5]);
    let headers = json!({"Sec-WebSocket-Protocol": [V5]});
    let payload = json!({"status": 101, "headers": headers});
    bench.says("proxy_response", &name, payload);
    bench.message(&name, b"\x02\x01");
    let head = Told::Head(101, Some(V5.into()));
    assert_eq!(bench.told(id), [head, binary(b"\x01")]);
    assert_eq!(bench.streams_open(), 1);
}

#[test]
fn p192_a_refusal_reaches_the_client_with_its_status_and_body() {
    let mut bench = Bench::modern();
    let (id, name) = bench.socket(EXEC, &[V5]);
    let payload = json!({"status": 403, "headers": {"Content-Type": ["application/json"]}});
    bench.says("proxy_response_header", &name, payload);
    bench.answer_data(&name, b"{}");
    bench.answer_end(&name);
    let events = bench.events(id);
    let body = Event::Data(b"{}".to_vec());
    assert_eq!(events, [Event::Head(403), body, Event::Finish]);
    assert_eq!(bench.streams_open(), 0);
}

#[test]
fn p073_another_agent_is_asked_by_a_start_with_one_subprotocol() {
    let mut bench = Bench::foreign();
    let (id, name) = bench.socket(EXEC, &[V5, V4]);
    let sent = bench.sent();
    assert_eq!(sent[0]["type"], "proxy_websocket_start");
    let payload = &sent[0]["payload"];
    assert_eq!(payload["stream_id"], name);
    assert_eq!(payload["protocol"], V5);
    assert_eq!(payload["query"], "command=sh");
    assert!(payload.get("request_window").is_none());
    assert!(bench.told(id).is_empty());
    bench.message(&name, b"\x02\x01");
    let head = Told::Head(101, Some(V5.into()));
    assert_eq!(bench.told(id), [head, binary(b"\x01")]);

    let (id, name) = bench.socket(EXEC, &[]);
    assert!(bench.sent()[0]["payload"].get("protocol").is_none());
    bench.message(&name, b"\x02\x01");
    assert_eq!(bench.told(id)[0], Told::Head(101, None));
}

#[test]
fn p102_the_status_of_a_refusal_is_taken_from_another_agents_text() {
    let mut bench = Bench::foreign();
    let (id, name) = bench.socket(EXEC, &[V5]);
    let text = "failed to connect to K8s API: websocket: bad handshake (status: 403)";
    bench.fails(&name, text);
    bench.closes(&name, None);
    let refused = Failure::Refused {
        status: 403,
        text: text.into(),
    };
    assert_eq!(bench.told(id), [Told::Failed(refused)]);
    let (id, name) = bench.socket(EXEC, &[V5]);
    bench.fails(&name, "no route");
    let failure = Failure::Agent("no route".into());
    assert_eq!(bench.told(id), [Told::Failed(failure)]);
    let (id, name) = bench.socket(EXEC, &[V5]);
    bench.closes(&name, None);
    let told = bench.told(id);
    assert!(
        matches!(&told[..], [Told::Failed(Failure::Agent(_))]),
        "{told:?}"
    );
    assert_eq!(bench.streams_open(), 0);
}

#[test]
fn p102_the_status_stands_at_the_end_however_long_the_text_is() {
    let mut bench = Bench::foreign();
    let (id, name) = bench.socket(EXEC, &[V5]);
    let text = format!("pods is forbidden: {} (status: 403)", "x".repeat(300));
    bench.fails(&name, &text);
    let told = bench.told(id);
    let [Told::Failed(Failure::Refused { status: 403, text })] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(text.len(), 256, "texts of a peer are kept clipped");
}

#[test]
fn an_agent_that_opens_no_streams_is_not_asked() {
    let features = json!({"supports_websocket_proxy": false});
    let mut bench = Bench::with_agent(features, |_| {});
    let head = RequestHead::default();
    let refused = bench.controller.open_websocket(bench.now, head, Vec::new());
    assert_eq!(refused, Err(OpenError::WebSocket));
    bench.lose(A);
    let head = RequestHead::default();
    let away = bench.controller.open_websocket(bench.now, head, Vec::new());
    assert_eq!(away, Err(OpenError::Away));
}

#[test]
fn what_was_refused_is_not_opened_any_more() {
    for (mut bench, modern) in [(Bench::modern(), true), (Bench::foreign(), false)] {
        let (id, name) = bench.socket(EXEC, &[V5]);
        bench.says("proxy_response_header", &name, json!({"status": 403}));
        bench.take();
        if modern {
            bench.accepts(&name, V5);
        } else {
            bench.message(&name, b"\x02\x01");
        }
        let fault = Failure::Fault(PeerFault::Malformed);
        assert_eq!(bench.told(id), [Told::Failed(fault)]);
    }
}

#[test]
fn what_is_no_answer_to_an_upgrade_ends_it() {
    let status = |status, chosen| {
        let headers = json!({"Sec-WebSocket-Protocol": chosen});
        (
            "proxy_response_header",
            json!({"status": status, "headers": headers}),
        )
    };
    for ((kind, payload), fault) in [
        (status(101, "v9"), PeerFault::Subprotocol),
        (status(102, ""), PeerFault::Malformed),
        (
            ("proxy_websocket_data", json!({"data": "Ag=="})),
            PeerFault::Malformed,
        ),
        (
            ("proxy_response_chunk", json!({"data": "Ag=="})),
            PeerFault::Malformed,
        ),
    ] {
        let mut bench = Bench::modern();
        let (id, name) = bench.socket(EXEC, &[V5]);
        bench.sent();
        bench.says(kind, &name, payload);
        assert_eq!(
            bench.told(id),
            [Told::Failed(Failure::Fault(fault))],
            "{kind}"
        );
        assert_eq!(bench.sent_types(), ["proxy_cancel"]);
    }
    for (kind, payload) in [
        status(101, V5),
        status(200, V5),
        ("proxy_response_chunk", json!({"data": "Ag=="})),
        ("proxy_response", json!({"status": 200})),
    ] {
        let mut bench = Bench::modern();
        let (id, name) = bench.open_socket(EXEC, V5);
        bench.says(kind, &name, payload);
        let told = bench.told(id);
        assert!(
            matches!(told.last(), Some(Told::Closed(1000, Some(_)))),
            "{told:?}"
        );
        assert_eq!(bench.sent_types(), ["proxy_websocket_close"], "{kind}");
    }
}

#[test]
fn p156_messages_pass_as_they_are_with_their_type() {
    let mut bench = Bench::modern();
    let (id, name) = bench.open_socket("/api/v1/x", "");
    for framed in [&b"\x01text"[..], b"\x02\xff", b"\x01", b"\x02"] {
        bench.message(&name, framed);
    }
    let text = |data: &[u8]| Told::Message(Kind::Text, data.to_vec());
    let expected = [text(b"text"), binary(b"\xff"), text(b""), binary(b"")];
    assert_eq!(bench.told(id), expected);
    let send = |bench: &mut Bench, kind, data| {
        bench
            .controller
            .send(id, kind, Bytes::from_static(data))
            .unwrap();
    };
    send(&mut bench, Kind::Text, b"text");
    send(&mut bench, Kind::Binary, b"");
    send(&mut bench, Kind::Binary, b"\x04");
    let sent = bench.sent();
    let data: Vec<_> = sent
        .iter()
        .map(|m| decoded(&m["payload"]["data"]))
        .collect();
    assert_eq!(data, [&b"\x01text"[..], b"\x02", b"\x02\x04"]);
    assert!(sent.iter().all(|m| m["payload"]["stream_id"] == name));
    assert!(sent.iter().all(|m| m["request_id"] == name));
}

#[test]
fn a_client_waits_for_what_the_agent_grants() {
    let mut bench = Bench::modern_with(|c| {
        (c.limits.chunk, c.limits.send_stream) = (100, 1000);
    });
    let (id, name) = bench.open_socket(EXEC, V5);
    let piece = Bytes::from(vec![2; 1000]);
    let mut taken = 0;
    for _ in 0..20 {
        taken += usize::from(
            bench
                .controller
                .send(id, Kind::Binary, piece.clone())
                .is_ok(),
        );
        bench.run();
    }
    // Five in the window, the last of them over its limit, and none that would wait for more.
    assert_eq!((taken, bench.controller.stats().held_out), (5, 0));
    bench.take();
    let grant = json!({"bytes": 2000});
    bench.says("proxy_request_grant", &name, grant);
    assert!(bench.has(&Action::Writable(id)));
    bench
        .controller
        .send(id, Kind::Binary, piece.clone())
        .unwrap();
    assert_eq!(bench.sent_types(), ["proxy_websocket_data"]);
    bench.says("proxy_request_grant", "nobody", json!({"bytes": 2000}));
    bench.says("proxy_request_grant", &name, json!({"bytes": -1}));
    assert_eq!(bench.controller.stats().stale_frames, 2);
}

#[test]
fn a_request_body_waits_for_what_the_agent_grants() {
    let mut bench = Bench::modern_with(|c| c.limits.send_stream = 1 << 20);
    let (id, name) = bench.request(true);
    let body = Bytes::from(vec![2; 10_000]);
    bench.controller.send(id, Kind::Bytes, body).unwrap();
    let sent: usize = bench
        .sent()
        .iter()
        .map(|m| decoded(&m["payload"]["data"]).len())
        .sum();
    assert_eq!(sent, 4096);
    bench.input(Input::Ended(id, StreamEnd::Clean));
    assert!(bench.sent().is_empty(), "the end stays behind the body");
    bench.says("proxy_request_grant", &name, json!({"bytes": 10_000}));
    let types = bench.sent_types();
    assert_eq!(types.last().unwrap(), "proxy_request_stream_end");
}

#[test]
fn p148_a_message_of_the_client_that_is_too_long_ends_the_stream() {
    let mut bench = Bench::modern_with(|c| c.limits.message = 1024);
    let (id, _) = bench.open_socket(EXEC, V5);
    let back = bench.controller.send(id, Kind::Binary, bytes(1025));
    assert!(matches!(back, Err(SendError::Closed(data)) if data.len() == 1025));
    let told = bench.told(id);
    assert_eq!(
        told[0],
        status("a message is longer than the permitted amount")
    );
    assert_eq!(told[1], Told::Closed(1000, Some(Failure::MessageTooLong)));
    assert_eq!(bench.sent_types(), ["proxy_websocket_close"]);
}

#[test]
fn p172_what_is_no_message_ends_the_stream() {
    for payload in [
        json!({"data": base64(&[3, 1])}),
        json!({"data": base64(b"\nhi"), "message_type": 1}),
        json!({"data": base64(&[1, 0xff])}),
        json!({"data": "!"}),
        json!({}),
        json!("x"),
    ] {
        let mut bench = Bench::modern();
        let (id, name) = bench.open_socket(EXEC, V5);
        let (other, fine) = bench.open_socket(EXEC, V5);
        bench.says("proxy_websocket_data", &name, payload.clone());
        let told = bench.told(id);
        let last = told.last();
        assert!(
            matches!(last, Some(Told::Closed(1000, Some(Failure::Fault(_))))),
            "{payload}: {told:?}"
        );
        assert_eq!(told.len(), 2, "a status, then the close");
        bench.message(&fine, b"\x02\x01hi");
        assert_eq!(bench.told(other), [binary(b"\x01hi")]);
        assert_eq!(bench.sent_types(), ["proxy_websocket_close"]);
    }
}

#[test]
fn a_client_that_does_not_read_loses_its_stream_and_no_other() {
    let mut bench = Bench::with_agent(json!({}), |c| c.limits = SMALL);
    let (id, name) = bench.socket("/api/v1/x", &[]);
    let (other, fine) = bench.socket("/api/v1/x", &[]);
    for _ in 0..4 {
        bench.message(&name, &[2; 301]);
    }
    let actions = bench.take();
    let overrun = |action: &Action| {
        matches!(action, Action::Closed(to, close, Some(Failure::Overrun))
            if *to == id && close.code == 1011)
    };
    assert!(actions.iter().any(overrun), "{actions:?}");
    bench.message(&fine, b"\x02hi");
    assert_eq!(bench.told(other).last(), Some(&binary(b"hi")));
}

#[test]
fn streams_without_credit_take_no_room_from_others() {
    let mut bench = Bench::modern_with(|c| {
        let limits = &mut c.limits;
        (limits.chunk, limits.send_stream, limits.send_total) = (100, 1000, 8000);
    });
    let (other, _) = bench.open_socket(EXEC, V5);
    for _ in 0..10 {
        let (id, _) = bench.open_socket(EXEC, V5);
        let piece = Bytes::from(vec![2; 4096]);
        while bench
            .controller
            .send(id, Kind::Binary, piece.clone())
            .is_ok()
        {
            bench.run();
        }
    }
    assert!(bench.client_says(other, b"key").is_ok());
}
