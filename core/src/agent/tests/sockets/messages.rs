//! Their messages, windows and translation.

use super::*;

#[test]
fn p156_messages_pass_as_they_are_with_their_type() {
    for form in FORMS {
        let mut bench = Bench::registered();
        let id = bench.socket_with(form, "s", V4);
        let messages: [(Kind, &'static [u8]); 6] = [
            (Kind::Binary, b"\x01out"),
            (Kind::Binary, b"\x02err"),
            (Kind::Binary, b"\x03{}"),
            (Kind::Text, b"\x01text"),
            (Kind::Binary, b""),
            (Kind::Text, b""),
        ];
        for (kind, data) in messages {
            bench.says(id, kind, data).unwrap();
        }
        for (sent, (kind, data)) in bench.sent().iter().zip(messages) {
            let payload = &sent["payload"];
            assert_eq!(payload["stream_id"], "s");
            let opcode = if kind == Kind::Text { 1 } else { 2 };
            assert_eq!(decoded(&payload["data"]), [&[opcode], data].concat());
        }
        for (kind, data) in messages {
            let opcode = if kind == Kind::Text { 1 } else { 2 };
            bench.data("s", &[&[opcode], data].concat());
        }
        let expected = messages.map(|(kind, data)| (kind, data.to_vec()));
        assert_eq!(bench.messages(id), expected);
    }
}

#[test]
fn p105_p151_order_is_kept_and_a_message_is_never_cut() {
    let mut bench = Bench::registered_with(|c| c.limits.chunk = 100);
    let id = bench.socket("s");
    for n in 0..100_u8 {
        let data = Bytes::from(vec![n; 200]);
        bench.agent.send(id, Kind::Binary, data).unwrap();
        bench.data("s", &[2, n]);
    }
    let got = bench.messages(id);
    assert!(
        got.iter()
            .enumerate()
            .all(|(n, (_, data))| data == &[n as u8])
    );
    let sent = bench.sent();
    assert_eq!(sent.len(), 100);
    for (n, message) in sent.iter().enumerate() {
        let data = decoded(&message["payload"]["data"]);
        assert_eq!(data[1..], vec![n as u8; 200]);
    }
}

#[test]
fn p154_messages_that_come_before_the_upstream_is_open_wait_for_it() {
    for form in FORMS {
        let mut bench = Bench::registered();
        let id = bench.start(form, "s");
        for n in 0..150_u8 {
            bench.data("s", &[2, n]);
        }
        assert_eq!(bench.messages(id).len(), 150, "P-103 lost 50 of them");
        bench.accept(id, V5);
        bench.data("s", b"\x02last");
        assert_eq!(bench.messages(id), [(Kind::Binary, b"last".to_vec())]);
    }
}

#[test]
fn p153_a_stream_that_holds_too_much_ends_with_an_error_and_no_hole() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    let id = bench.socket("s");
    let other = bench.socket("t");
    for _ in 0..3 {
        bench.data("s", &[2; 301]);
    }
    assert_eq!(bench.messages(id).len(), 3);
    bench.data("s", &[2; 301]);
    assert!(bench.messages(id).is_empty());
    assert!(bench.has(&Action::Reset(id)));
    let ends = bench.ends();
    let text = "more data arrives than the Kubernetes API takes in time";
    assert_eq!(
        ends,
        [
            end("proxy_error", text),
            end("proxy_websocket_close", "1011")
        ]
    );
    bench.data("t", b"\x02hi");
    assert_eq!(bench.messages(other).len(), 1);
    assert_eq!(bench.agent.stats().streams_open, 1);
}

#[test]
fn p172_what_is_no_message_ends_the_stream_and_is_told() {
    for (payload, text) in [
        (json!({"data": base64(&[3, 1])}), "invalid opcode"),
        (
            json!({"data": base64(b"\nhello"), "message_type": 1}),
            "invalid opcode",
        ),
        (json!({"data": base64(&[1, 0xff])}), "text is not UTF-8"),
        (json!({"data": "!"}), "payload is not base64"),
        (json!({}), "missing field data"),
        (
            json!({"data": base64(&[2; 1026])}),
            "message of a stream too long",
        ),
    ] {
        let mut bench = Bench::registered_with(|c| c.limits.message = 1024);
        let id = bench.socket("s");
        let other = bench.socket("t");
        let mut payload = payload;
        payload["stream_id"] = json!("s");
        bench.frame(json!({"type": "ws_data", "request_id": "s", "payload": payload}));
        assert!(bench.messages(id).is_empty());
        assert!(bench.has(&Action::Reset(id)), "{text}");
        let ends = bench.ends();
        assert_eq!(
            ends,
            [
                end("proxy_error", text),
                end("proxy_websocket_close", "1011")
            ]
        );
        bench.data("t", b"\x02hi");
        assert_eq!(bench.messages(other).len(), 1);
    }
}

#[test]
fn p153_a_message_that_cannot_be_read_is_no_hole_in_a_stream() {
    for (kind, upload) in [
        ("ws_data", false),
        ("proxy_websocket_data", false),
        ("proxy_request_chunk", true),
    ] {
        let mut bench = Bench::registered();
        let id = if upload {
            bench.upload("s")
        } else {
            bench.socket("s")
        };
        bench.frame(json!({"type": kind, "request_id": "s", "payload": ["x"]}));
        assert!(bench.has(&Action::Reset(id)), "{kind}");
        assert_eq!(bench.agent.stats().peer_faults, 1);
    }
}

#[test]
fn p066_messages_without_effect_have_none() {
    let mut bench = Bench::registered();
    let id = bench.socket("s");
    for framed in [&b""[..], b"\x09ping", b"\x0apong"] {
        bench.data("s", framed);
    }
    assert!(bench.messages(id).is_empty());
    assert_eq!(bench.agent.stats().peer_faults, 0);
    assert!(bench.sent().is_empty());
}

#[test]
fn p065_a_stream_is_found_by_any_of_its_names() {
    let mut bench = Bench::registered();
    let id = bench.socket("s");
    let data = base64(b"\x02hi");
    for (envelope, payload) in [
        (Some("x"), json!({"stream_id": "s", "data": data})),
        (
            None,
            json!({"stream_id": "s", "request_id": "x", "data": data}),
        ),
        (Some("x"), json!({"request_id": "s", "data": data})),
        (Some("s"), json!({"data": data})),
    ] {
        bench.frame(json!({"type": "ws_data", "request_id": envelope, "payload": payload}));
        assert_eq!(bench.messages(id).len(), 1);
    }
    bench.data("nobody", b"\x02hi");
    bench.close("nobody");
    // A request is no stream.
    bench.upload("r");
    bench.data("r", b"\x02hi");
    assert_eq!(bench.agent.stats().stale_frames, 3);
    assert!(bench.sent().is_empty(), "P-068: no answer");
}

#[test]
fn p148_a_message_of_the_upstream_that_is_too_long_ends_the_stream() {
    let mut bench = Bench::registered_with(|c| c.limits.message = 1024);
    let id = bench.socket("s");
    bench.agent.send(id, Kind::Binary, bytes(1024)).unwrap();
    let back = bench.agent.send(id, Kind::Binary, bytes(1025));
    assert!(matches!(back, Err(SendError::Closed(data)) if data.len() == 1025));
    let sent = bench.sent();
    assert_eq!(sent[0]["type"], "proxy_websocket_data");
    assert!(error(&sent[1]).contains("more than 1024 bytes"));
    assert_eq!(sent[2]["payload"]["code"], 1011);
    assert!(bench.has(&Action::Reset(id)));
}

#[test]
fn a_local_end_waits_for_room() {
    let mut bench = Bench::registered_with(|c| {
        (c.limits.chunk, c.limits.send_stream) = (100, 1000);
    });
    let id = bench.start(Form::Bare, "s");
    bench.accept(id, V5);
    let mut taken = 0;
    while bench.agent.send(id, Kind::Binary, bytes(300)).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 3);
    bench.run();
    assert!(bench.has(&Action::Writable(id)));
}

#[test]
fn p106_channels_become_text_only_where_that_is_wanted_and_nothing_was_named() {
    let run = |wanted: bool, named: bool, chosen: &str| {
        let mut bench = Bench::registered_with(|c| c.terminal_translation = wanted);
        let payload = match named {
            true => json!({"path": EXEC, "protocol": V4}),
            false => json!({"path": EXEC}),
        };
        let id = bench.try_start(Form::Bare, "s", payload).unwrap();
        bench.accept(id, chosen);
        for data in [&b"\x01out"[..], b"\x03{}", b"\x04size", b""] {
            let data = Bytes::copy_from_slice(data);
            bench.agent.send(id, Kind::Binary, data).unwrap();
        }
        bench.says(id, Kind::Text, b"\x01t").unwrap();
        bench.data("s", b"\x01ls\n");
        bench.data("s", b"\x02\x04size");
        let delivered = bench.messages(id);
        let sent = bench.sent();
        let sent: Vec<Vec<u8>> = sent
            .iter()
            .map(|m| decoded(&m["payload"]["data"]))
            .collect();
        (sent, delivered)
    };
    let (sent, delivered) = run(true, false, V4);
    let expected: [&[u8]; 5] = [
        b"\x01out",
        b"\x01{}",
        b"\x02\x04size",
        b"\x02",
        b"\x01\x01t",
    ];
    assert_eq!(sent, expected);
    assert_eq!(delivered[0], (Kind::Binary, b"\0ls\n".to_vec()));
    assert_eq!(delivered[1], (Kind::Binary, b"\x04size".to_vec()));
    for (wanted, named, chosen) in [
        (false, false, V4),
        (true, true, V4),
        (true, false, "binary.k8s.io"),
    ] {
        let (sent, delivered) = run(wanted, named, chosen);
        assert_eq!(sent[0], b"\x02\x01out");
        assert_eq!(delivered[0], (Kind::Text, b"ls\n".to_vec()));
    }
}

#[test]
fn p106_a_message_that_is_refused_comes_back_as_it_was() {
    let mut bench = Bench::registered_with(|c| {
        c.terminal_translation = true;
        (c.limits.chunk, c.limits.send_stream) = (100, 1000);
    });
    let payload = json!({"path": EXEC});
    let id = bench.try_start(Form::Bare, "s", payload).unwrap();
    bench.accept(id, V4);
    bench.agent.send(id, Kind::Binary, bytes(900)).unwrap();
    let back = bench.says(id, Kind::Binary, &[1; 200]);
    let whole = Bytes::from_static(&[1; 200]);
    assert!(back == Err(SendError::Blocked(whole)), "with its channel");
}

#[test]
fn p153_a_message_with_a_bad_envelope_ends_the_stream_that_it_names_and_no_other() {
    for envelope in [json!(7), json!("i".repeat(300)), json!("other")] {
        let mut bench = Bench::registered();
        let named = bench.socket("s");
        let other = bench.socket("other");
        let payload = json!({"stream_id": "s", "data": base64(b"\x02hi")});
        let message = json!({"type": "ws_data", "request_id": envelope, "payload": payload});
        // What follows the object makes it no message at all.
        bench.raw(&format!("{message} {{}}"));
        assert!(bench.has(&Action::Reset(named)), "{envelope}");
        assert!(!bench.has(&Action::Reset(other)), "{envelope}");
        bench.data("other", b"\x02hi");
        assert_eq!(bench.messages(other).len(), 1);
    }
    let mut bench = Bench::registered();
    let payload = json!({"stream_id": "s", "path": EXEC});
    bench.frame(json!({"type": "ws_start", "request_id": 7, "payload": payload}));
    let sent = bench.sent();
    assert_eq!(sent[0]["request_id"], "s", "P-191");
}

#[test]
fn p164_proxy_stream_data_is_data_of_a_stream_and_harms_no_request() {
    let says = |id: &str| {
        json!({"type": "proxy_stream_data", "request_id": id,
            "payload": {"data": base64(b"\x02hello")}})
    };
    // W-21: the original ends here, for a stream that a request became.
    for form in FORMS {
        let mut bench = Bench::registered();
        let id = bench.socket_with(form, "s", V5);
        bench.frame(says("s"));
        assert_eq!(bench.messages(id), [(Kind::Binary, b"hello".to_vec())]);
    }
    let mut bench = Bench::registered();
    let request = bench.request("r");
    bench.input(Input::Head(request, head(200)));
    bench.sent();
    bench.frame(says("r"));
    bench.frame(says("unknown"));
    assert!(bench.sent().is_empty());
    let stats = bench.agent.stats();
    assert_eq!((stats.peer_faults, stats.stale_frames), (1, 1));
    bench.offer(request, "on".into());
    bench.input(Input::Ended(request, StreamEnd::Clean));
    let expected = ["proxy_response_chunk", "proxy_response_end"];
    assert_eq!(bench.sent_types(), expected);
}
