//! Connections: registration, fencing, patience and shutdown.

use super::*;
use crate::rules::IdentityPolicy;

#[test]
fn p053_a_registration_is_answered_and_reported() {
    let mut bench = Bench::new();
    bench.accept(A);
    assert!(bench.take().is_empty(), "the agent speaks first");
    bench.frame(
        A,
        json!({"type": "register", "request_id": "req_1_a", "payload": {
            "agent_id": "a", "name": "prod", "k8s_version": "v1.36.0", "cluster_id": "foreign",
            "features": {"supports_response_streaming": true, "identity": "impersonate"}}}),
    );
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["type"], "register_success");
    assert_eq!(sent[0]["request_id"], "req_1_a");
    assert_eq!(
        sent[0]["payload"],
        json!({"cluster_id": "c-1", "cluster_uuid": "c-1", "name": "prod",
            "status": "registered", "workspace_id": 7})
    );
    let joined = bench.controller.joined().unwrap().clone();
    assert_eq!(joined.info.agent_id, "a");
    assert_eq!(joined.policy, Some(IdentityPolicy::Impersonate));
    assert!(joined.streams_responses && !joined.streams_requests);
    assert!(bench.has(&Action::Joined(A, joined)));
}

#[test]
fn p055_a_heartbeat_is_acknowledged() {
    let mut bench = Bench::registered();
    bench.frame(A, json!({"type": "heartbeat", "payload": {}}));
    assert_eq!(bench.sent_types(), ["heartbeat_ack"]);
    assert!(bench.has(&Action::Notice(Notice::Heartbeat)));
}

#[test]
fn p057_a_heartbeat_before_registration_asks_for_one() {
    let mut bench = Bench::new();
    bench.accept(A);
    bench.frame(A, json!({"type": "heartbeat", "payload": {}}));
    bench.frame(A, json!({"type": "heartbeat", "payload": {}}));
    let sent = bench.sent();
    assert_eq!(sent.len(), 1, "an equal error that waits serves for both");
    assert_eq!(sent[0]["type"], "error");
    let text = sent[0]["payload"]["error"].as_str().unwrap();
    assert!(text.contains("not registered"), "{text}");
    bench.register(A, true);
    assert_eq!(bench.sent_types(), ["register_success"]);
}

#[test]
fn p036_a_ping_is_answered_with_its_id_on_its_connection() {
    let mut bench = Bench::registered();
    bench.accept(B);
    bench.frame(B, json!({"type": "ping", "request_id": "b"}));
    bench.frame(A, json!({"type": "ping", "request_id": "a1"}));
    bench.frame(A, json!({"type": "ping", "request_id": "a2"}));
    let sent = bench.sent();
    assert_eq!((sent.len(), &sent[0]["request_id"]), (1, &json!("a2")));
    let sent = bench.sent_to(B);
    assert_eq!((sent.len(), &sent[0]["request_id"]), (1, &json!("b")));
}

#[test]
fn p189_a_registration_without_its_ids_is_answered_with_an_error() {
    let mut bench = Bench::new();
    bench.accept(A);
    bench.frame(A, json!({"type": "register", "payload": {"agent_id": "a"}}));
    let long = "r".repeat(257);
    bench.frame(
        A,
        json!({"type": "register", "request_id": long, "payload": {"agent_id": "a"}}),
    );
    bench.frame(
        A,
        json!({"type": "register", "request_id": "r", "payload": {"agent_id": 5}}),
    );
    let sent = bench.sent();
    let ids: Vec<&Value> = sent.iter().map(|m| &m["request_id"]).collect();
    assert_eq!(ids, [&Value::Null, &json!("r")]);
    assert!(sent.iter().all(|m| m["type"] == "error"));
    assert!(bench.controller.joined().is_none());
    assert_eq!(bench.controller.stats().peer_faults, 3);
}

#[test]
fn p159_malformed_and_unknown_messages_cost_only_themselves() {
    let mut bench = Bench::registered();
    let (id, _) = bench.request(false);
    for raw in ["", "{", "[]", "null", "{\"type\":\"heartbeat\"}x"] {
        bench.raw(A, raw);
    }
    bench.input(Input::Frame(A, Frame::Binary(b"\xff\xfe")));
    for raw in ["{}", r#"{"type":"future","request_id":"r"}"#] {
        bench.raw(A, raw);
    }
    assert!(bench.events(id).is_empty());
    assert!(bench.sent().is_empty());
    assert_eq!(bench.streams_open(), 1);
    assert_eq!(bench.controller.stats().peer_faults, 6);
}

#[test]
fn p012_json_in_a_binary_message_is_read() {
    let mut bench = Bench::registered();
    let ping = br#"{"type":"ping","request_id":"p"}"#;
    bench.input(Input::Frame(A, Frame::Binary(ping)));
    assert_eq!(bench.sent_types(), ["pong"]);
}

#[test]
fn a_newer_connection_takes_over_when_it_registers_and_not_before() {
    let mut bench = Bench::registered();
    let (id, _) = bench.request(false);
    bench.accept(B);
    bench.frame(B, json!({"type": "heartbeat"}));
    assert_eq!(bench.sent_to(B).len(), 1);
    bench.take();
    assert!(bench.controller.joined().is_some());
    bench.register(B, false);
    let actions: Vec<Action> = bench
        .take()
        .into_iter()
        .filter(|a| !matches!(a, Action::Send(..)))
        .collect();
    let joined = bench.controller.joined().unwrap().clone();
    assert_eq!(
        actions,
        [
            Action::Close(
                A,
                CloseCode::Superseded,
                "superseded by a newer connection of this agent"
            ),
            Action::Failed(id, Failure::Disconnected),
            Action::Left(Reason::Superseded),
            Action::Joined(B, joined),
        ]
    );
    assert_eq!(CloseCode::Superseded as u16, 4001);
    bench.input(Input::Disconnected(
        A,
        Down::Closed {
            code: 1000,
            reason: String::new(),
        },
    ));
    assert!(
        bench.controller.joined().is_some(),
        "the old end is of no interest"
    );
    assert_eq!(bench.streams_open(), 0);
}

#[test]
fn registering_again_on_the_same_connection_keeps_its_streams() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(false);
    bench.register(A, true);
    assert_eq!(bench.sent_types(), ["register_success"]);
    bench.answer_head(&name);
    assert_eq!(bench.events(id), [Event::Head(200)]);
}

#[test]
fn three_takeovers_in_five_minutes_shut_the_newcomer_out() {
    let mut bench = Bench::registered();
    for swap in 0..3 {
        assert_eq!(bench.controller.admit(bench.now), Ok(()));
        bench.join(ConnId(10 + swap), true);
        bench.pass(secs(10), &[ConnId(10 + swap)]);
    }
    // The first takeover was 30 s ago.
    assert_eq!(bench.controller.admit(bench.now), Err(secs(270)));
    assert_eq!(bench.controller.admit(bench.now + secs(269)), Err(secs(1)));
    assert_eq!(bench.controller.admit(bench.now + secs(270)), Ok(()));
    bench.lose(ConnId(12));
    assert_eq!(
        bench.controller.admit(bench.now),
        Ok(()),
        "nobody is shut out while the agent is away"
    );
}

#[test]
fn a_return_after_a_loss_is_no_takeover() {
    let mut bench = Bench::new();
    for conn in 1..20 {
        bench.join(ConnId(conn), true);
        assert_eq!(bench.controller.admit(bench.now), Ok(()));
        bench.lose(ConnId(conn));
    }
}

#[test]
fn nine_connections_of_one_agent_are_one_too_many() {
    let mut bench = Bench::registered();
    for conn in 2..=9 {
        bench.accept(ConnId(conn));
    }
    let text = "too many connections of this agent";
    assert!(!bench.has(&Action::Close(ConnId(8), CloseCode::Policy, text)));
    assert!(bench.has(&Action::Close(ConnId(9), CloseCode::Policy, text)));
    assert!(bench.controller.joined().is_some());
}

#[test]
fn a_connection_that_never_registered_ends_quietly() {
    let mut bench = Bench::registered();
    let (id, _) = bench.request(false);
    bench.accept(B);
    bench.lose(B);
    assert!(bench.take().is_empty());
    assert!(bench.events(id).is_empty());
}

#[test]
fn p075_who_does_not_register_is_closed() {
    let mut bench = Bench::registered();
    bench.accept(B);
    bench.pass(secs(29), &[A, B]);
    let close = Action::Close(B, CloseCode::Normal, "");
    assert!(!bench.has(&close));
    bench.pass(secs(1), &[A, B]);
    assert!(bench.has(&close));
    assert!(bench.controller.joined().is_some());
}

#[test]
fn p017_silence_ends_the_connection() {
    let mut bench = Bench::registered();
    let (id, _) = bench.request(false);
    bench.pass(secs(600), &[A]);
    let actions = bench.take();
    let pings = actions
        .iter()
        .filter(|a| **a == Action::Send(A, OutFrame::Ping));
    assert_eq!(pings.count(), 60, "P-016");
    bench.pass(secs(29), &[]);
    assert!(bench.controller.joined().is_some());
    bench.pass(secs(1), &[]);
    assert!(bench.has(&Action::Close(A, CloseCode::Normal, "")));
    assert!(bench.has(&Action::Left(Reason::Idle)));
    assert_eq!(bench.events(id), [Event::Failed(Failure::Disconnected)]);
    assert_eq!(
        bench.controller.deadline(),
        None,
        "nothing is left to wait for"
    );
}

#[test]
fn p020_a_write_without_progress_ends_only_its_connection() {
    let mut bench = Bench::registered();
    bench.open.remove(&A);
    bench.frame(A, json!({"type": "ping"}));
    bench.pass(secs(20), &[A]);
    bench.input(Input::Wrote(A));
    bench.pass(secs(10), &[A]);
    bench.accept(B);
    bench.pass(secs(19), &[A, B]);
    assert!(bench.controller.joined().is_some());
    bench.frame(B, json!({"type": "register", "request_id": "r"}));
    bench.now = bench.now + secs(1);
    bench.input(Input::Alive(A));
    assert!(bench.has(&Action::Left(Reason::Stalled)));
    assert!(!bench.sent_to(B).is_empty(), "the other connection goes on");
}

#[test]
fn p148_an_oversize_message_closes_with_1009() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    bench.raw(A, &" ".repeat(SMALL.frame));
    assert!(bench.controller.joined().is_some(), "at the limit");
    bench.raw(A, &" ".repeat(SMALL.frame + 1));
    assert!(bench.has(&Action::Close(A, CloseCode::TooBig, "message too long")));
    let reason = Reason::Peer(PeerFault::FrameTooLong);
    assert!(bench.has(&Action::Left(reason)));
}

#[test]
fn a_flood_of_errors_closes_with_1008() {
    let mut bench = Bench::with(|c| c.limits = SMALL);
    bench.accept(A);
    for i in 0..SMALL.control {
        bench.frame(A, json!({"type": "register", "request_id": i.to_string()}));
    }
    bench.run_blocked();
    assert!(!bench.actions.iter().any(|a| matches!(a, Action::Close(..))));
    bench.frame(A, json!({"type": "register", "request_id": "one more"}));
    let text = "too many answers are waiting to be read";
    assert!(bench.has(&Action::Close(A, CloseCode::Policy, text)));
}

#[test]
fn p212_shutdown_refuses_the_new_and_lets_the_open_end() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(false);
    bench.input(Input::Shutdown(secs(10)));
    let refused = bench.controller.open(bench.now, ask(), false);
    assert_eq!(refused, Err(OpenError::Away));
    bench.accept(B);
    let text = "the controller is shutting down";
    assert!(bench.has(&Action::Close(B, CloseCode::GoingAway, text)));
    bench.answer_head(&name);
    bench.answer_data(&name, b"all of it");
    bench.answer_end(&name);
    assert_eq!(
        bench.events(id),
        [
            Event::Head(200),
            Event::Data(b"all of it".to_vec()),
            Event::Finish
        ]
    );
    assert_eq!(bench.controller.deadline(), None);
    bench.input(Input::Frame(A, Frame::Text("{}")));
    assert_eq!(bench.controller.stats().stale_inputs, 1);
}

#[test]
fn p177_shutdown_ends_within_its_bound_whatever_the_streams_do() {
    let mut bench = Bench::registered();
    let (id, _) = bench.request(true);
    bench.input(Input::Shutdown(secs(60)));
    bench.input(Input::Shutdown(secs(5)));
    bench.pass(secs(5), &[A]);
    assert_eq!(bench.sent_types(), ["proxy_cancel"]);
    assert!(bench.has(&Action::Failed(id, Failure::Shutdown)));
    assert!(bench.has(&Action::Close(A, CloseCode::GoingAway, "")));
    assert_eq!(
        bench.take().last(),
        Some(&Action::Stopped),
        "nothing follows"
    );
    // And with a socket that takes nothing.
    let mut bench = Bench::registered();
    bench.request(true);
    bench.input(Input::Shutdown(secs(5)));
    while let Some(at) = bench.controller.deadline() {
        bench.now = at;
        bench.input(Input::Tick);
        bench.run_blocked();
    }
    assert_eq!(bench.now - Time::ZERO, secs(7));
    assert_eq!(bench.actions.last(), Some(&Action::Stopped));
}

#[test]
fn shutdown_without_requests_stops_at_once() {
    let mut bench = Bench::registered();
    bench.accept(B);
    bench.input(Input::Shutdown(secs(60)));
    let actions = bench.take();
    let closed = actions.iter().filter(|a| matches!(a, Action::Close(..)));
    assert_eq!(closed.count(), 2);
    assert_eq!(actions.last(), Some(&Action::Stopped));
}

#[test]
fn p169_inputs_about_what_is_gone_have_no_effect() {
    let mut bench = Bench::registered();
    let (id, _) = bench.request(false);
    bench.lose(A);
    bench.take();
    for input in [
        Input::Alive(A),
        Input::Cancel(id),
        Input::Connected(A),
        Input::Consumed(id, 5),
        Input::Disconnected(A, Down::TooBig),
        Input::Ended(id, StreamEnd::Clean),
        Input::Frame(A, Frame::Text("{}")),
        Input::Head(id, ResponseHead::default()),
        Input::Wrote(A),
    ] {
        bench.input(input);
    }
    let late = bench.controller.send(id, Kind::Bytes, bytes(1));
    assert_eq!(late, Err(SendError::Closed(bytes(1))));
    assert!(bench.take().is_empty());
    assert_eq!(bench.controller.stats().stale_inputs, 9);
}
