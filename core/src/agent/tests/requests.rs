//! Requests on their way in: what is opened, what is refused and how a request ends early.

use super::*;
use crate::rules::{Credentials, IdentityPolicy};

#[test]
fn p058_a_request_reaches_the_local_end_as_it_came() {
    let mut bench = Bench::registered();
    let (id, head) = bench
        .ask(
            "r1",
            json!({"method": "get", "path": "/api/v1/a%2Fb", "query": "b&a=1;c",
                "headers": {"Accept": ["application/json", "text/plain"], "Host": "evil"}}),
        )
        .unwrap();
    assert_eq!((&*head.method, &*head.path), ("GET", "/api/v1/a%2Fb"));
    assert_eq!(head.query.as_deref(), Some("b&a=1;c"));
    let accept = |v: &str| ("Accept".to_string(), v.to_string());
    assert_eq!(
        head.headers,
        [accept("application/json"), accept("text/plain")]
    );
    assert_eq!(bench.finishes(id), 1, "there is no body");
    assert!(bench.delivered(id).is_empty());
}

#[test]
fn p196_the_policy_decides_the_credentials() {
    for (policy, expected) in [
        (IdentityPolicy::ServiceAccount, Credentials::ServiceAccount),
        (IdentityPolicy::Impersonate, Credentials::ServiceAccount),
        (IdentityPolicy::Caller, Credentials::Caller),
    ] {
        let mut bench = Bench::registered_with(|c| c.policy = policy);
        bench.frame(
            json!({"type": "proxy_request", "request_id": "r", "payload": {"path": "/api",
            "headers": {"Authorization": "Bearer user", "Impersonate-User": "eve"}}}),
        );
        let target = bench.take().into_iter().find_map(|action| match action {
            Action::Open(_, target) => Some(target),
            _ => None,
        });
        let Some(Target::Http {
            head, credentials, ..
        }) = target
        else {
            panic!("not opened")
        };
        assert_eq!(credentials, expected);
        let kept = |name: &str| head.headers.iter().any(|(n, _)| n == name);
        assert_eq!(kept("Authorization"), policy == IdentityPolicy::Caller);
        assert_eq!(
            kept("Impersonate-User"),
            policy != IdentityPolicy::ServiceAccount
        );
    }
}

#[test]
fn p207_an_inline_body_comes_whole_with_its_length() {
    for (payload, body, length) in [
        (
            json!({"method": "POST", "path": "/api", "body": "aGVsbG8=", "body_encoding": "BASE64"}),
            &b"hello"[..],
            Some("5"),
        ),
        (
            json!({"method": "PUT", "path": "/api", "body": {"a": [1, null]},
            "headers": {"Content-Length": "999"}}),
            br#"{"a":[1,null]}"#,
            Some("14"),
        ),
        (
            json!({"method": "PATCH", "path": "/api", "body": "grün"}),
            "grün".as_bytes(),
            Some("5"),
        ),
        (
            json!({"method": "DELETE", "path": "/api", "body": "x"}),
            b"x",
            Some("1"),
        ),
        (
            json!({"method": "POST", "path": "/api", "body": 7}),
            b"",
            Some("0"),
        ),
        (
            json!({"path": "/api", "headers": {"Content-Length": "4"}}),
            b"",
            None,
        ),
    ] {
        let mut bench = Bench::registered();
        let (id, head) = bench.ask("r", payload.clone()).unwrap();
        let lengths: Vec<&str> = head
            .headers
            .iter()
            .filter(|(n, _)| n == "Content-Length")
            .map(|(_, v)| v.as_str())
            .collect();
        assert_eq!(lengths, Vec::from_iter(length), "{payload}");
        assert_eq!(bench.delivered(id), body, "{payload}");
        assert_eq!(bench.finishes(id), 1);
    }
}

#[test]
fn p060_a_streamed_body_comes_in_order_and_ends_once() {
    for flag in ["use_streaming", "streaming"] {
        let mut bench = Bench::registered();
        let payload = json!({"method": "POST", "path": "/api", flag: true, "body": "ignored"});
        let (id, head) = bench.ask("r", payload).unwrap();
        assert!(head.headers.iter().all(|(n, _)| n != "Content-Length"));
        assert_eq!(bench.finishes(id), 0);
        for payload in [
            json!({"data": base64(b"one")}),
            json!({"chunk": base64(b"two")}),
            json!({"data": ""}),
            json!({"chunk": base64(b"lost"), "data": base64(b"three")}),
        ] {
            bench.frame(json!({"type": "proxy_request_chunk", "request_id": "r",
                "payload": payload}));
        }
        assert_eq!(bench.delivered(id), b"onetwothree");
        let end = json!({"type": "proxy_request_stream_end", "request_id": "r"});
        bench.frame(end.clone());
        bench.frame(end);
        bench.chunk("r", b"late");
        assert_eq!(bench.finishes(id), 1);
        assert!(bench.delivered(id).is_empty());
        assert_eq!(bench.agent.stats().stale_frames, 2);
    }
}

#[test]
fn p060_a_chunk_without_a_body_to_belong_to_costs_only_itself() {
    let mut bench = Bench::registered();
    let id = bench.request("r");
    bench.chunk("r", b"x");
    bench.frame(json!({"type": "proxy_request_chunk", "request_id": "r", "payload": {}}));
    bench.chunk("nobody", b"x");
    assert!(bench.delivered(id).is_empty());
    assert!(bench.sent().is_empty());
    assert_eq!(bench.agent.stats().stale_frames, 3);
}

#[test]
fn p190_a_bad_piece_of_a_body_ends_its_request_with_the_cause() {
    for (payload, cause) in [
        (json!({"data": "%"}), "base64"),
        (json!({"data": 7}), "no data"),
        (json!(null), "no data"),
    ] {
        let mut bench = Bench::registered();
        let id = bench.upload("r");
        bench.frame(json!({"type": "proxy_request_chunk", "request_id": "r", "payload": payload}));
        assert!(bench.has(&Action::Reset(id)));
        let sent = bench.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0]["type"], "proxy_response_abort");
        let error = sent[0]["payload"]["error"].as_str().unwrap();
        assert!(error.contains(cause), "{error}");
        assert_eq!(bench.agent.stats().streams_open, 0);
    }
}

#[test]
fn p098_after_an_early_answer_the_rest_of_the_body_is_dropped() {
    let mut bench = Bench::registered();
    let id = bench.upload("r");
    bench.chunk("r", b"first");
    bench.input(Input::Head(id, head(413)));
    bench.input(Input::Ended(id, StreamEnd::Clean));
    bench.chunk("r", b"before the end was framed");
    assert_eq!(bench.delivered(id), b"first");
    assert_eq!(
        bench.sent_types(),
        ["proxy_response_header", "proxy_response_end"]
    );
    bench.chunk("r", b"after it");
    bench.frame(json!({"type": "proxy_request_stream_end", "request_id": "r"}));
    assert!(bench.delivered(id).is_empty());
    assert_eq!(bench.finishes(id), 0);
    let stats = bench.agent.stats();
    assert_eq!((stats.stale_frames, stats.peer_faults), (3, 0));
}

#[test]
fn p144_p153_a_slow_reader_ends_only_its_own_stream() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    let slow = bench.upload("slow");
    let other = bench.request("other");
    bench.chunk("slow", &[1; 512]);
    bench.chunk("slow", &[2; 512]);
    assert_eq!(bench.delivered(slow).len(), 1024, "at the limit");
    assert!(bench.sent().is_empty());
    bench.input(Input::Consumed(slow, 512));
    bench.chunk("slow", &[3; 512]);
    assert_eq!(bench.delivered(slow).len(), 512, "room was made");
    bench.chunk("slow", &[4; 1]);
    assert!(bench.has(&Action::Reset(slow)));
    assert!(
        bench.delivered(slow).is_empty(),
        "a piece without its predecessors is never delivered"
    );
    let sent = bench.sent();
    assert_eq!(sent[0]["type"], "proxy_response_abort");
    assert_eq!(sent[0]["request_id"], "slow");
    bench.frame(json!({"type": "ping", "request_id": "p"}));
    bench.input(Input::Head(other, head(200)));
    assert_eq!(bench.sent_types(), ["pong", "proxy_response_header"]);
}

#[test]
fn p153_above_the_total_the_stream_that_holds_most_ends() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    let large = bench.upload("large");
    let small = bench.upload("small");
    bench.chunk("large", &[1; 1000]);
    bench.chunk("small", &[2; 536]);
    assert!(bench.sent().is_empty(), "at the limit");
    bench.chunk("small", &[3; 1]);
    assert!(bench.has(&Action::Reset(large)) && !bench.has(&Action::Reset(small)));
    assert_eq!(bench.sent()[0]["request_id"], "large");
    assert_eq!(bench.delivered(small).len(), 537);
}

#[test]
fn p153_a_stream_that_is_over_holds_nothing() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    let over = bench.upload("over");
    bench.chunk("over", &[1; 1000]);
    // Its last frame waits for a socket that takes nothing.
    bench.input(Input::Ended(over, StreamEnd::Broken("no".into())));
    assert_eq!(bench.agent.stats().held_in, 0);
    bench.frame(
        json!({"type": "proxy_request", "request_id": "next", "payload": {
        "method": "POST", "path": "/api", "use_streaming": true}}),
    );
    bench.chunk("next", &[2; 1000]);
    assert_eq!(bench.agent.stats().held_in, 1000);
    assert_eq!(bench.agent.stats().peer_faults, 0);
}

#[test]
fn p171_a_duplicate_id_leaves_the_running_request_alone() {
    let mut bench = Bench::registered();
    let id = bench.request("r");
    for payload in [
        json!({"path": "/api", "supports_response_streaming": true}),
        json!({"path": "nowhere"}),
        json!({}),
        json!([]),
        json!(null),
    ] {
        assert!(bench.ask("r", payload).is_none());
    }
    bench.frame(json!({"type": "ws_start", "request_id": "x", "payload": {"stream_id": "r"}}));
    for refusal in bench.sent() {
        // P-162: an answer with its id would end the running request.
        assert_eq!(refusal["type"], "proxy_error");
        assert!(refusal.get("request_id").is_none(), "{refusal}");
        assert_eq!(refusal["payload"]["request_id"], "");
        assert!(error(&refusal).contains("duplicate"), "{refusal}");
    }
    assert!(!bench.has(&Action::Reset(id)));
    assert_eq!(bench.agent.stats().peer_faults, 6);
    bench.input(Input::Head(id, head(200)));
    bench.input(Input::Ended(id, StreamEnd::Clean));
    assert_eq!(
        bench.sent_types(),
        ["proxy_response_header", "proxy_response_end"]
    );
}

#[test]
fn p186_cancel_frees_everything_and_nothing_follows() {
    for streamed in [true, false] {
        let mut bench = Bench::registered();
        let payload = json!({"method": "POST", "path": "/api", "use_streaming": true,
            "supports_response_streaming": streamed, "timeout": 60_000});
        let (id, _) = bench.ask("r", payload).unwrap();
        bench.chunk("r", b"body");
        bench.input(Input::Head(id, head(200)));
        assert_eq!(bench.offer(id, bytes(5000)), Offer::Taken);
        bench.frame(json!({"type": "proxy_cancel", "request_id": "r"}));
        assert!(bench.has(&Action::Reset(id)));
        assert!(bench.sent().is_empty());
        let stats = bench.agent.stats();
        assert_eq!(
            (stats.streams_open, stats.held_in, stats.held_out),
            (0, 0, 0)
        );
        let late = bench.offer(id, bytes(1));
        assert_eq!(late, Offer::Closed);
        bench.input(Input::Ended(id, StreamEnd::Broken("cancelled".into())));
        bench.frame(json!({"type": "proxy_cancel", "request_id": "r"}));
        bench.pass_alive(secs(200));
        assert!(!bench.sent_types().iter().any(|t| t.contains("proxy")));
        assert!(bench.agent.limits_due.is_empty());
        assert!(
            bench.ask("r", json!({"path": "/api"})).is_some(),
            "the id is free again"
        );
    }
}

#[test]
fn p186_cancel_after_the_answer_is_complete_drops_what_was_not_sent() {
    let mut bench = Bench::registered();
    let id = bench.request("r");
    assert_eq!(bench.offer(id, bytes(5000)), Offer::Taken);
    bench.input(Input::Ended(id, StreamEnd::Clean));
    bench.frame(json!({"type": "proxy_cancel", "request_id": "r"}));
    assert!(bench.sent().is_empty());
    assert!(!bench.has(&Action::Reset(id)), "the local end had ended");
}

#[test]
fn p212_while_draining_new_requests_are_refused_and_open_ones_go_on() {
    let mut bench = Bench::registered();
    let id = bench.upload("r1");
    bench.input(Input::Shutdown(secs(5)));
    for (id, streamed) in [("r2", true), ("r3", false)] {
        let payload = json!({"path": "/api", "supports_response_streaming": streamed});
        assert!(bench.ask(id, payload).is_none());
    }
    let sent = bench.sent();
    assert_eq!(sent[0]["type"], "proxy_response_abort");
    assert_eq!(sent[1]["type"], "proxy_error");
    assert_eq!(sent[1]["payload"]["error"], "the agent is shutting down");
    bench.chunk("r1", b"more");
    bench.frame(json!({"type": "proxy_request_stream_end", "request_id": "r1"}));
    assert_eq!(bench.delivered(id), b"more");
    assert_eq!(bench.finishes(id), 1);
    bench.input(Input::Head(id, head(201)));
    bench.input(Input::Ended(id, StreamEnd::Clean));
    assert_eq!(
        bench.sent_types(),
        ["proxy_response_header", "proxy_response_end"]
    );
    assert!(bench.has(&Action::Stopped));
}

#[test]
fn p174_p178_requests_end_with_their_connection() {
    let mut bench = Bench::registered();
    let upload = bench.upload("r1");
    bench.chunk("r1", b"half");
    let whole = bench.whole("r2");
    assert_eq!(bench.offer(whole, bytes(3000)), Offer::Taken);
    let ended = bench.request("r3");
    bench.input(Input::Ended(ended, StreamEnd::Broken("no".into())));
    bench.cut();
    assert!(bench.has(&Action::Reset(upload)) && bench.has(&Action::Reset(whole)));
    assert!(!bench.has(&Action::Reset(ended)), "its local end was over");
    let (delay, ..) = bench.reconnect().unwrap();
    bench.pass(delay);
    bench.connect();
    bench.register();
    bench.sent();
    // Nothing of the old connection is known on the new one.
    bench.chunk("r1", b"other half");
    bench.input(Input::Head(upload, head(200)));
    bench.input(Input::Consumed(upload, 4));
    bench.input(Input::Ended(whole, StreamEnd::Clean));
    bench.pass_alive(secs(10));
    assert!(bench.sent().is_empty());
    assert!(bench.delivered(upload).is_empty());
    let stats = bench.agent.stats();
    assert_eq!(
        (stats.stale_inputs, stats.held_in, stats.held_out),
        (3, 0, 0)
    );
}
