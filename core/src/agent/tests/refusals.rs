//! What is refused, and how it is said.

use super::*;

/// The one answer to a request that is refused.
fn refusal(bench: &mut Bench, payload: Value) -> Value {
    assert!(bench.ask("r", payload.clone()).is_none(), "{payload}");
    let sent = bench.sent();
    assert_eq!(sent.len(), 1, "{payload}");
    assert_eq!(sent[0]["request_id"], "r");
    assert_eq!(bench.agent.stats().streams_open, 0);
    sent[0].clone()
}

#[test]
fn p190_every_bad_request_gets_one_answer_that_names_the_cause() {
    for (payload, cause) in [
        (json!({}), "invalid path"),
        (json!({"path": "/etc/passwd"}), "invalid path"),
        (json!({"path": "/api/../x"}), "invalid path"),
        (json!({"path": "/api", "query": "a b"}), "invalid query"),
        (
            json!({"path": "/api", "method": "BAD METHOD"}),
            "invalid method",
        ),
        (
            json!({"path": "/api", "method": "CONNECT"}),
            "invalid method",
        ),
        (
            json!({"path": "/api", "headers": {"A b": "c"}}),
            "invalid header",
        ),
        (
            json!({"path": "/api", "headers": {"A": "b\r\nC: d"}}),
            "invalid header",
        ),
        (
            json!({"path": "/api", "headers": {"Content-Length": ["1", "2"]}}),
            "invalid header",
        ),
        (
            json!({"path": "/api", "headers": {"A": "x".repeat(300_000)}}),
            "head too long",
        ),
        (
            json!({"path": "/api", "body": "%%", "body_encoding": "base64"}),
            "not base64",
        ),
        (
            json!({"path": "/api", "body": "x".repeat(5 << 20)}),
            "too large",
        ),
        (
            json!({"path": "/api", "deadline": "2026-11-23T05:34:04Z"}),
            "deadline",
        ),
    ] {
        for streamed in [true, false] {
            let mut bench = Bench::registered();
            let mut payload = payload.clone();
            payload["supports_response_streaming"] = json!(streamed);
            let answer = refusal(&mut bench, payload);
            let expected = ["proxy_error", "proxy_response_abort"][usize::from(streamed)];
            assert_eq!(answer["type"], expected);
            assert!(error(&answer).contains(cause), "{answer}");
            assert_eq!(bench.agent.stats().peer_faults, 1);
        }
    }
}

#[test]
fn p190_a_payload_of_another_shape_is_answered_where_an_id_can_be_read() {
    for payload in [json!([]), json!("x"), json!(7), json!(true)] {
        let mut bench = Bench::registered();
        let answer = refusal(&mut bench, payload);
        assert_eq!(answer["type"], "proxy_error");
        assert!(error(&answer).contains("malformed"), "{answer}");
    }
    let mut bench = Bench::registered();
    let answer = refusal(&mut bench, json!(null));
    assert!(error(&answer).contains("missing field payload"), "{answer}");
    for raw in [
        r#"{"type":"proxy_request","payload":{"path":"/api"}}"#,
        r#"{"type":"proxy_request","request_id":"","payload":{"path":"/api"}}"#,
        r#"{"type":"proxy_request","request_id":7,"payload":{"path":"/api"}}"#,
    ] {
        bench.raw(raw);
    }
    assert!(bench.opened().is_none());
    assert!(bench.sent().is_empty(), "there is no id to answer to");
    assert_eq!(bench.agent.stats().peer_faults, 4);
}

#[test]
fn an_id_may_be_256_bytes_long() {
    let mut bench = Bench::registered();
    bench.ask(&"i".repeat(256), json!({"path": "/api"}));
    assert_eq!(bench.agent.stats().streams_open, 1);
    bench.ask(&"i".repeat(257), json!({"path": "/api"}));
    assert_eq!(bench.agent.stats().streams_open, 1);
    assert!(bench.sent().is_empty());
}

#[test]
fn p166_what_is_not_built_is_refused_with_an_error() {
    for (field, value, what) in [
        ("service_name", json!("web"), "service routing"),
        ("head_data", json!("AAAA"), "head_data"),
        ("headData", json!([1, 2]), "head_data"),
    ] {
        let mut bench = Bench::registered();
        let answer = refusal(&mut bench, json!({"path": "/api", field: value}));
        assert_eq!(answer["type"], "proxy_error");
        let error = error(&answer);
        assert!(
            error.contains(what) && error.ends_with("is not supported"),
            "{error}"
        );
    }
}

#[test]
fn p059_what_only_looks_like_an_upgrade_is_relayed() {
    for (field, value) in [
        ("service_name", json!("  ")),
        ("is_websocket", json!("true")),
        ("protocol", json!("")),
        ("headers", json!({"Connection": "Upgrade"})),
        ("headers", json!({"Upgrade": "h2c"})),
        ("headers", json!({"Sec-WebSocket-Key": " "})),
        ("head_data", json!("")),
        ("headData", json!([])),
    ] {
        let mut bench = Bench::registered();
        let payload = json!({"path": "/api", field: value});
        assert!(bench.ask("r", payload.clone()).is_some(), "{payload}");
    }
}

#[test]
fn p206_one_request_too_many_is_refused_and_not_queued() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    let first = bench.request("1");
    bench.request("2");
    assert!(bench.ask("3", json!({"path": "/api"})).is_none());
    let sent = bench.sent();
    assert_eq!(sent[0]["request_id"], "3");
    assert!(error(&sent[0]).contains("too many requests"));
    bench.input(Input::Ended(first, StreamEnd::Broken("done".into())));
    bench.sent();
    assert!(bench.ask("3", json!({"path": "/api"})).is_some());
}

#[test]
fn refusals_up_to_the_limit_are_all_answered() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    for round in 0..3 {
        for i in 0..SMALL.control {
            let id = alloc::format!("{round}.{i}");
            bench.frame(json!({"type": "proxy_request", "request_id": id, "payload": {}}));
        }
        assert_eq!(bench.sent_types().len(), SMALL.control);
    }
}

#[test]
fn p147_refusals_and_streams_take_turns() {
    let mut bench = Bench::registered();
    let id = bench.request("bulk");
    bench.run();
    bench.agent.send(id, Kind::Bytes, bytes(200_000)).unwrap();
    for i in 0..3 {
        let id = i.to_string();
        bench.frame(json!({"type": "proxy_request", "request_id": id, "payload": {}}));
    }
    let types = bench.sent_types();
    let errors: Vec<usize> = (0..types.len())
        .filter(|i| types[*i] == "proxy_error")
        .collect();
    let gaps = errors.windows(2).map(|w| w[1] - w[0]);
    assert!(errors[0] <= 1, "{types:?}");
    assert!(gaps.eq([2, 2]), "{types:?}");
}

#[test]
fn p095_the_time_limit_of_a_request() {
    // The bench starts at 2026-11-23T05:34:05Z.
    for (payload, limit) in [
        (json!({"timeout": 15_000}), Some(15_000)),
        (json!({"timeout": 0.5}), Some(1)),
        (json!({"timeout": "1m30s"}), Some(90_000)),
        (
            json!({"deadline": "2026-11-23T05:34:06.5Z", "timeout": 9}),
            Some(1500),
        ),
        (
            json!({"deadline": "2026-11-23T07:35:05+02:00"}),
            Some(60_000),
        ),
        (json!({"deadline": "soon", "timeout": "20s"}), Some(20_000)),
        (json!({"timeout": -5}), None),
        (json!({"timeout": 0}), None),
        (json!({"timeout": "0"}), None),
        (json!({"timeout": 1e300}), None),
        (json!({"timeout": true, "deadline": 5}), None),
    ] {
        let mut bench = Bench::registered();
        let mut asked = payload.clone();
        asked["path"] = json!("/api");
        asked["supports_response_streaming"] = json!(true);
        let (id, _) = bench.ask("r", asked).unwrap();
        let Some(millis) = limit else {
            bench.pass_alive(secs(3600));
            assert!(!bench.has(&Action::Reset(id)), "{payload}");
            continue;
        };
        bench.pass_alive(Duration::from_millis(millis - 1));
        assert!(!bench.has(&Action::Reset(id)), "{payload}");
        bench.pass_alive(Duration::from_millis(1));
        assert!(bench.has(&Action::Reset(id)), "{payload}");
        let sent = bench.sent();
        let last = sent.iter().find(|m| m["request_id"] == "r").unwrap();
        assert_eq!(last["type"], "proxy_response_abort");
        assert!(error(last).contains("time limit"));
    }
}

#[test]
fn p058_a_deadline_follows_a_clock_that_was_set_after_the_start() {
    let mut bench = Bench::registered();
    // The clock was an hour ahead: 2026-11-23T05:34:05Z is really 04:34:05.
    let soon = json!({"path": "/api", "deadline": "2026-11-23T04:34:35Z"});
    assert!(bench.ask("early", soon.clone()).is_none());
    bench.sent();
    bench.input(Input::Clock(secs(1_795_412_045 - 3600)));
    let due = bench.now + secs(30);
    assert!(bench.ask("now", soon).is_some());
    assert_eq!(bench.agent.limits_due.first().map(|(at, _)| *at), Some(due));
}

#[test]
fn p095_a_time_limit_ends_with_its_request() {
    let mut bench = Bench::registered();
    let payload = json!({"path": "/api", "timeout": 5000});
    for end in [StreamEnd::Clean, StreamEnd::Broken("no".into())] {
        let (id, _) = bench.ask("r", payload.clone()).unwrap();
        bench.input(Input::Head(id, head(200)));
        bench.input(Input::Ended(id, end));
        bench.run();
        assert!(bench.agent.limits_due.is_empty());
    }
    bench.ask("r", payload).unwrap();
    bench.cut();
    assert!(bench.agent.limits_due.is_empty());
}

#[test]
fn p043_a_request_for_a_streamed_answer_is_refused_by_an_abort() {
    let mut bench = Bench::registered();
    bench.raw(
        r#"{"type":"proxy_request","request_id":"r","payload":
            {"path":"/api","supports_response_streaming":true}} {}"#,
    );
    bench.raw(r#"{"type":"proxy_request","request_id":"s","payload":{"path":"/api"}} {}"#);
    assert_eq!(bench.sent_types(), ["proxy_response_abort", "proxy_error"]);
}

/// JSON that is well-formed, and that this parser or nobody can read whole.
#[test]
fn p190_what_cannot_be_read_whole_is_answered_where_its_id_can() {
    for raw in [
        r#"{"type":"proxy_request","request_id":"r","payload":{"path":"/api","timeout":1e400}}"#,
        r#"{"payload":{"path":"/api","timeout":-1e400},"request_id":"r","type":"proxy_request"}"#,
        r#"{"type":"proxy_request","request_id":"r","payload":{"path":"/api""#,
    ] {
        let mut bench = Bench::registered();
        bench.raw(raw);
        assert!(bench.opened().is_none(), "{raw}");
        let sent = bench.sent();
        assert_eq!(sent.len(), 1, "{raw}");
        assert_eq!(sent[0]["request_id"], "r");
        assert!(error(&sent[0]).contains("malformed"), "{raw}");
    }
}

#[test]
fn p148_more_headers_than_are_counted_are_refused() {
    let mut headers = serde_json::Map::new();
    for i in 0..5000 {
        headers.insert(i.to_string(), json!(""));
    }
    let mut bench = Bench::registered();
    let answer = refusal(&mut bench, json!({"path": "/api", "headers": headers}));
    assert!(error(&answer).contains("head too long"), "{answer}");
}
