//! How they start, and how the start is answered.

use super::*;

#[test]
fn p064_p138_a_start_is_a_get_with_the_subprotocols_it_names() {
    let mut bench = Bench::registered();
    let payload = json!({"stream_id": "s", "method": "POST", "path": EXEC, "query": "a=%2F",
        "protocol": " v5.channel.k8s.io, v4.channel.k8s.io ",
        "headers": {"sec-websocket-protocol": ["v4.channel.k8s.io", "x"],
            "Sec-WebSocket-Key": "k", "Sec-WebSocket-Version": "13", "Upgrade": "websocket",
            "Connection": "Upgrade", "Content-Length": "0", "Authorization": "Bearer S3CRET",
            "Origin": "https://o.example", "X-A": "b"}});
    bench.frame(json!({"type": "ws_start", "request_id": "s", "payload": payload}));
    let Some(Target::WebSocket {
        head,
        protocols,
        credentials,
    }) = bench.target()
    else {
        panic!("no WebSocket")
    };
    assert_eq!((&*head.method, &*head.path), ("GET", EXEC));
    assert_eq!(head.query.as_deref(), Some("a=%2F"));
    assert_eq!(protocols, [V5, V4, "x"]);
    assert_eq!(credentials, crate::rules::Credentials::ServiceAccount);
    let headers: Vec<&str> = head.headers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(headers, ["Origin", "X-A"]);
}

#[test]
fn p138_a_terminal_that_names_no_subprotocol_offers_the_usual_ones() {
    for (form, path, count) in [
        (Form::Bare, EXEC, 4),
        (Form::Bare, "/api/v1/namespaces/n/pods/p/attach", 4),
        (Form::Bare, "/api/v1/namespaces/n/pods/p/log", 0),
        // Here the controller tells what its client offers.
        (Form::Streamed, EXEC, 0),
    ] {
        let mut bench = Bench::registered();
        let mut payload = json!({"path": path, "is_websocket": true});
        let mut kind = "proxy_request";
        if form == Form::Bare {
            payload = json!({"path": path, "stream_id": "s"});
            kind = "ws_start";
        }
        bench.frame(json!({"type": kind, "request_id": "s", "payload": payload}));
        let Some(Target::WebSocket { protocols, .. }) = bench.target() else {
            panic!("no WebSocket")
        };
        assert_eq!(protocols.len(), count, "{path}");
        assert!(protocols.first().is_none_or(|first| first == V4));
    }
}

#[test]
fn p059_whatever_asks_for_a_websocket_gets_one() {
    for (field, value) in [
        ("is_websocket", json!(true)),
        ("isWebSocket", json!(true)),
        ("protocol", json!("v4.channel.k8s.io")),
        ("headers", json!({"upgrade": "WebSocket"})),
        ("headers", json!({"Sec-WebSocket-Key": "x"})),
    ] {
        let mut bench = Bench::registered();
        let payload = json!({"path": EXEC, field: value});
        bench.frame(json!({"type": "proxy_request", "request_id": "r", "payload": payload}));
        let target = bench.target();
        assert!(
            matches!(target, Some(Target::WebSocket { .. })),
            "{field}: {target:?}"
        );
    }
}

#[test]
fn p194_a_subprotocol_that_is_a_credential_is_not_offered_unless_the_caller_counts() {
    use crate::rules::IdentityPolicy;
    for (policy, passes) in [
        (IdentityPolicy::ServiceAccount, false),
        (IdentityPolicy::Impersonate, false),
        (IdentityPolicy::Caller, true),
    ] {
        let mut bench = Bench::registered_with(|c| c.policy = policy);
        let offered = format!("base64url.bearer.authorization.k8s.io.UzNDUkVU, {V5}");
        let payload = json!({"path": EXEC, "stream_id": "s", "protocol": offered});
        bench.frame(json!({"type": "ws_start", "request_id": "s", "payload": payload}));
        let Some(Target::WebSocket { protocols, .. }) = bench.target() else {
            panic!("no WebSocket")
        };
        let expected = if passes { 2 } else { 1 };
        assert_eq!(protocols.len(), expected, "{policy:?}");
        assert!(protocols.contains(&V5.to_string()));
    }
}

#[test]
fn p191_a_stream_that_cannot_start_is_answered_under_its_own_id() {
    for kind in ["proxy_websocket_start", "ws_start"] {
        let mut bench = Bench::registered();
        bench.frame(json!({"type": kind, "request_id": "envelope", "payload": {
            "stream_id": "s1", "path": "/nowhere"}}));
        let sent = bench.sent();
        assert_eq!(sent[0]["type"], "proxy_error");
        assert_eq!(sent[0]["request_id"], "s1");
        assert_eq!(sent[0]["payload"]["request_id"], "s1");
        assert!(error(&sent[0]).starts_with("invalid path"), "{}", sent[0]);
        assert_eq!(sent[1]["type"], "proxy_websocket_close");
        assert_eq!(sent[1]["payload"]["stream_id"], "s1");
        assert_eq!(sent.len(), 2);
        // P-102: without a stream id the error names the envelope.
        bench.frame(json!({"type": kind, "request_id": "envelope", "payload": {}}));
        bench.frame(json!({"type": kind, "payload": {"stream_id": ""}}));
        let sent = bench.sent();
        assert_eq!(sent[0]["request_id"], "envelope");
        assert_eq!(sent[0]["payload"]["request_id"], "envelope");
        assert!(sent[1].get("request_id").is_none());
        assert_eq!(sent[1]["payload"]["request_id"], "");
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(|m| error(m) == "missing stream_id"));
        let stats = bench.agent.stats();
        assert_eq!(crate::Ending::Refused.of(&stats.streams_closed), 2);
        assert_eq!((stats.streams_opened, stats.streams_open), (2, 0));
    }
}

#[test]
fn p171_a_duplicate_start_is_refused_and_the_running_stream_goes_on() {
    for form in FORMS {
        let mut bench = Bench::registered();
        let id = bench.socket_with(form, "s", V5);
        for again in FORMS {
            let payload = json!({"path": EXEC});
            assert_eq!(bench.try_start(again, "s", payload), None);
        }
        let sent = bench.sent();
        assert_eq!(sent.len(), 3, "each is told");
        for refusal in sent {
            assert_eq!(refusal["type"], "proxy_error");
            assert!(refusal.get("request_id").is_none(), "P-162: {refusal}");
        }
        bench.data("s", b"\x02hi");
        assert_eq!(bench.messages(id), [(Kind::Binary, b"hi".to_vec())]);
        bench.says(id, Kind::Binary, b"ho").unwrap();
        assert_eq!(bench.sent_types(), ["proxy_websocket_data"]);
    }
}

#[test]
fn p190_what_a_websocket_cannot_have_is_refused_in_the_form_that_was_asked_for() {
    for (form, kinds) in [
        (Form::Bare, &["proxy_error", "proxy_websocket_close"][..]),
        (Form::Whole, &["proxy_error"]),
        (Form::Streamed, &["proxy_response_abort"]),
    ] {
        for payload in [
            json!({"path": "/api/../x"}),
            json!({"path": "/apifoo"}),
            json!({"path": EXEC, "service_name": "web"}),
            json!({"path": EXEC, "head_data": "AAAA"}),
            json!({"path": EXEC, "protocol": "a b"}),
            json!({"path": EXEC, "headers": {"A": "b\r\nC: d"}}),
        ] {
            let mut bench = Bench::registered();
            assert_eq!(bench.try_start(form, "s", payload.clone()), None);
            assert_eq!(bench.sent_types(), kinds, "{payload}");
        }
    }
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    bench.socket("1");
    bench.socket("2");
    assert_eq!(
        bench.try_start(Form::Bare, "3", json!({"path": EXEC})),
        None
    );
    let sent = bench.ends();
    assert_eq!(sent[0], end("proxy_error", "too many requests at once"));
    assert_eq!(sent[1].0, "proxy_websocket_close");
}

#[test]
fn p153_a_start_that_cannot_be_read_is_answered_too() {
    let mut bench = Bench::registered();
    bench.frame(json!({"type": "ws_start", "request_id": "s", "payload": "x"}));
    assert_eq!(bench.sent_types(), ["proxy_error", "proxy_websocket_close"]);
}

#[test]
fn p159_a_start_whose_name_is_too_long_to_be_answered_costs_itself() {
    let mut bench = Bench::registered();
    for (len, opens) in [(257, false), (256, true)] {
        let payload = json!({"stream_id": "s".repeat(len), "path": EXEC});
        bench.frame(json!({"type": "ws_start", "payload": payload}));
        assert_eq!(bench.opened().is_some(), opens, "{len} bytes");
        assert!(bench.sent().is_empty());
    }
    assert_eq!(bench.agent.stats().peer_faults, 1);
}

#[test]
fn p192_one_answer_tells_that_the_upstream_accepted() {
    let mut bench = Bench::registered();
    let id = bench.start(Form::Streamed, "s");
    assert!(bench.sent().is_empty(), "nothing is known yet");
    bench.accept(id, V5);
    let sent = bench.sent();
    assert_eq!(sent[0]["type"], "proxy_response_header");
    assert_eq!(sent[0]["payload"]["status"], 101);
    let protocol = &sent[0]["payload"]["headers"]["Sec-WebSocket-Protocol"];
    assert_eq!(protocol, &json!([V5]));
    assert_eq!(sent[1]["type"], "proxy_response_end");
    assert_eq!(sent.len(), 2);

    let id = bench.start(Form::Whole, "w");
    bench.accept(id, V5);
    let sent = bench.sent();
    assert_eq!(sent[0]["type"], "proxy_response");
    assert_eq!(sent[0]["payload"]["status"], 101);
    assert_eq!(sent.len(), 1);

    let id = bench.start(Form::Bare, "b");
    bench.accept(id, V5);
    assert!(
        bench.sent().is_empty(),
        "P-101: there is no acknowledgement"
    );
    bench.says(id, Kind::Text, b"").unwrap();
    assert_eq!(bench.sent_types(), ["proxy_websocket_data"]);
}

#[test]
fn p192_a_refusal_is_the_upstreams_own() {
    let refuse = |form| {
        let mut bench = Bench::registered();
        let id = bench.start(form, "s");
        bench.input(Input::Head(id, head(403)));
        let body = br#"{"kind":"Status","message":"pods \"p\" is forbidden"}"#;
        bench.says(id, Kind::Bytes, body).unwrap();
        bench.input(Input::Ended(id, StreamEnd::Clean));
        let sent = bench.sent();
        assert_eq!(bench.agent.stats().streams_open, 0);
        sent
    };
    let streamed = refuse(Form::Streamed);
    assert_eq!(streamed[0]["payload"]["status"], 403);
    assert_eq!(streamed[1]["type"], "proxy_response_chunk");
    assert_eq!(streamed[2]["type"], "proxy_response_end");
    let whole = refuse(Form::Whole);
    assert_eq!(whole[0]["payload"]["status"], 403);
    assert!(decoded(&whole[0]["payload"]["body"]).starts_with(b"{\"kind\""));
    let bare = refuse(Form::Bare);
    assert_eq!(bare[0]["type"], "proxy_error");
    assert_eq!(
        error(&bare[0]),
        "failed to connect to K8s API: pods \"p\" is forbidden (status: 403)"
    );
    assert_eq!(bare[1]["type"], "proxy_websocket_close");
    assert_eq!(bare.len(), 2);
}

#[test]
fn p102_a_dial_that_fails_is_an_error_and_the_end() {
    for (form, kinds, text) in [
        (
            Form::Bare,
            &["proxy_error", "proxy_websocket_close"][..],
            "failed to connect to K8s API: no route",
        ),
        (Form::Whole, &["proxy_error"], "no route"),
        (Form::Streamed, &["proxy_response_abort"], "no route"),
    ] {
        let mut bench = Bench::registered();
        let id = bench.start(form, "s");
        bench.input(Input::Ended(id, StreamEnd::Broken("no route".into())));
        let sent = bench.sent();
        let types: Vec<&str> = sent.iter().map(|m| m["type"].as_str().unwrap()).collect();
        assert_eq!(types, kinds);
        assert_eq!(error(&sent[0]), text);
        assert_eq!(bench.agent.stats().streams_open, 0);
    }
    let mut bench = Bench::registered();
    let id = bench.start(Form::Bare, "s");
    bench.input(Input::Head(id, head(403)));
    bench.says(id, Kind::Bytes, b"no JSON").unwrap();
    bench.input(Input::Ended(id, StreamEnd::Clean));
    let text = "failed to connect to K8s API: websocket: bad handshake (status: 403)";
    assert_eq!(bench.ends()[0], end("proxy_error", text));
}

#[test]
fn p101_a_request_that_asks_for_no_upgrade_gets_none() {
    let mut bench = Bench::registered();
    let id = bench.request("r");
    bench.accept(id, V5);
    assert_eq!(bench.sent_types(), ["proxy_response_abort"]);
    assert!(bench.has(&Action::Reset(id)));
}

#[test]
fn p095_the_time_for_a_whole_answer_does_not_count_for_what_follows_101() {
    let mut bench = Bench::registered();
    let id = bench.socket_with(Form::Whole, "s", V5);
    bench.pass_alive(secs(600));
    assert_eq!(bench.agent.stats().streams_open, 1);
    bench.input(Input::Ended(
        id,
        StreamEnd::Closed(StreamClose::new(1000, "")),
    ));
    // A limit that the controller asked for counts.
    let payload = json!({"path": EXEC, "timeout": 5000});
    let id = bench.try_start(Form::Whole, "t", payload).unwrap();
    bench.accept(id, V5);
    bench.sent();
    bench.pass_alive(secs(10));
    let ends = bench.ends();
    let limit = "the request took longer than its time limit";
    assert!(ends.contains(&end("proxy_error", limit)), "{ends:?}");
    assert!(bench.has(&Action::Reset(id)));
}
