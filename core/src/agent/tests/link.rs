use super::*;

#[test]
fn p032_register_comes_first_and_once() {
    let mut bench = Bench::new();
    bench.connect();
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    let register = &sent[0];
    assert_eq!(register["type"], "register");
    assert_eq!(register["request_id"], "req_1795412045000000000_agent-1f2e");
    assert_eq!(register["payload"]["agent_id"], "agent-1f2e");
    assert_eq!(
        register["payload"]["features"]["identity"],
        "service-account"
    );
    assert!(register["payload"].get("k8s_service_token").is_none());
}

#[test]
fn p053_success_needs_the_right_id_and_a_cluster() {
    let mut bench = Bench::new();
    bench.connect();
    let id = bench.sent()[0]["request_id"].clone();
    let other = json!({"type":"register_success","request_id":"x","payload":{"cluster_id":"c"}});
    bench.frame(other);
    assert!(matches!(bench.agent.phase(), Phase::Registering(_)));
    let empty = json!({"type":"register_success","request_id":id,"payload":{"cluster_id":7}});
    bench.frame(empty);
    let (_, _, reason) = bench.reconnect().unwrap();
    assert!(matches!(reason, Reason::RegisterRefused(_)));
}

#[test]
fn p053_the_whole_result_is_reported() {
    let mut bench = Bench::new();
    bench.connect();
    bench.register();
    let registration = bench.take().into_iter().find_map(|action| match action {
        Action::Registered(registration) => Some(registration),
        _ => None,
    });
    let registration = registration.unwrap();
    assert_eq!(registration.cluster_id, "6f1c");
    assert_eq!(registration.workspace_id, Some(123));
}

#[test]
fn p078_a_heartbeat_right_after_registration_and_then_every_period() {
    let mut bench = Bench::new();
    bench.connect();
    bench.register();
    assert_eq!(bench.sent_types(), ["heartbeat"]);
    bench.pass_alive(secs(29));
    assert!(bench.sent_types().is_empty());
    bench.pass_alive(secs(1));
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["payload"]["cluster_id"], "6f1c");
    assert_eq!(sent[0]["payload"]["tunnel_status"], "connected");
}

#[test]
fn p209_acknowledgements_that_stop_are_told_once_and_none_is_needed() {
    let told = |bench: &mut Bench| {
        let unanswered = Action::Notice(Notice::HeartbeatsUnanswered);
        let told = bench.take();
        told.into_iter().filter(|a| *a == unanswered).count()
    };
    // P-055: a controller that never acknowledges is none that stopped.
    let mut bench = Bench::registered();
    bench.pass_alive(secs(300));
    assert_eq!(told(&mut bench), 0);
    let ack = json!({"type": "heartbeat_ack", "payload": {}});
    bench.frame(ack.clone());
    bench.pass_alive(secs(119));
    assert_eq!(told(&mut bench), 0, "three went without an answer");
    bench.pass_alive(secs(300));
    assert_eq!(told(&mut bench), 1);
    assert!(matches!(bench.agent.phase(), Phase::Ready(_)));
    bench.frame(ack);
    bench.pass_alive(secs(300));
    assert_eq!(told(&mut bench), 1);
}

#[test]
fn p034_heartbeats_say_what_they_were_told() {
    let mut bench = Bench::registered();
    let status = HeartbeatStatus {
        k8s_nodes: Some(3),
        ..HeartbeatStatus::default()
    };
    bench.input(Input::Status(status));
    bench.pass_alive(secs(30));
    let sent = bench.sent();
    assert_eq!(sent[0]["payload"]["metadata"]["k8s_nodes"], 3);
}

#[test]
fn p016_pings_every_ten_seconds_ahead_of_data() {
    let mut bench = Bench::registered();
    bench.pass_alive(secs(60));
    let pings = bench
        .take()
        .iter()
        .filter(|a| matches!(a, Action::Send(_, OutFrame::Ping)))
        .count();
    assert_eq!(pings, 6);
}

#[test]
fn p017_silence_ends_the_link_and_any_byte_is_life() {
    let mut bench = Bench::registered();
    bench.pass_alive(secs(600));
    assert!(matches!(bench.agent.phase(), Phase::Ready(_)));
    bench.pass(secs(29));
    assert!(matches!(bench.agent.phase(), Phase::Ready(_)));
    bench.pass(secs(2));
    assert_eq!(bench.reconnect().unwrap().2, Reason::Idle);
}

#[test]
fn p020_a_write_that_makes_no_progress_ends_the_link() {
    let mut bench = Bench::registered();
    let conn = bench.agent.phase().open().unwrap();
    bench.frame(json!({"type":"ping","request_id":"p"}));
    for _ in 0..5 {
        // The peer is heard, the socket takes nothing.
        assert!(bench.agent.poll(Socket::Blocked).is_none());
        bench.now = bench.now + secs(5);
        bench.input(Input::Alive(conn));
    }
    bench.input(Input::Wrote(conn));
    assert!(bench.agent.poll(Socket::Blocked).is_none());
    for _ in 0..6 {
        bench.now = bench.now + secs(5);
        bench.input(Input::Alive(conn));
        let _ = bench.agent.poll(Socket::Blocked);
    }
    assert!(matches!(bench.agent.phase(), Phase::Waiting));
}

#[test]
fn p036_a_ping_is_answered_with_its_id_and_pings_do_not_pile_up() {
    let mut bench = Bench::registered();
    for id in ["p1", "p2", "p3"] {
        bench.frame(json!({"type":"ping","request_id":id}));
    }
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["request_id"], "p3");
    assert_eq!(bench.agent.stats().coalesced, 2);
}

#[test]
fn p189_a_refused_registration_ends_the_wait_at_once_and_progress_extends_it() {
    let mut bench = Bench::new();
    bench.connect();
    let id = bench.sent()[0]["request_id"].clone();
    for _ in 0..7 {
        bench.pass_alive(secs(15));
        bench.frame(json!({"type":"register_in_progress","request_id":id}));
    }
    assert!(
        matches!(bench.agent.phase(), Phase::Registering(_)),
        "105 s and still waiting"
    );
    bench.frame(json!({"type":"error","request_id":id,"payload":{"error":"workspace is full"}}));
    let (_, _, reason) = bench.reconnect().unwrap();
    assert_eq!(reason, Reason::RegisterRefused("workspace is full".into()));
}

#[test]
fn p075_the_wait_for_the_registration_has_an_end() {
    let mut bench = Bench::new();
    bench.connect();
    bench.pass_alive(secs(31));
    assert!(matches!(
        bench.agent.phase(),
        Phase::Waiting | Phase::Dialing(_)
    ));
    let mut bench = Bench::new();
    bench.connect();
    for _ in 0..13 {
        bench.pass_alive(secs(10));
        bench.frame(json!({"type":"register_in_progress"}));
    }
    assert!(
        !matches!(bench.agent.phase(), Phase::Registering(_)),
        "130 s are too long"
    );
}

#[test]
fn p182_cluster_not_found_leads_to_a_real_registration() {
    let mut bench = Bench::registered();
    bench.frame(json!({"type":"error","payload":{"error":"Cluster not registered"}}));
    let sent = bench.sent();
    assert_eq!(sent[0]["type"], "register");
    assert!(sent[0]["payload"].get("cluster_id").is_none());
    let id = sent[0]["request_id"].clone();
    bench.frame(json!({"type":"register_success","request_id":id,"payload":{"cluster_id":"new"}}));
    assert_eq!(bench.agent.cluster_id(), Some("new"));
    assert!(matches!(bench.agent.phase(), Phase::Ready(_)));
}

#[test]
fn p182_a_controller_that_knows_no_registration_gets_the_next_after_a_backoff() {
    let mut bench = Bench::registered();
    let error = json!({"type": "error", "payload": {"error": "cluster not found"}});
    bench.frame(error.clone());
    bench.register();
    bench.frame(error.clone());
    assert!(bench.sent().is_empty(), "no second registration at once");
    let (delay, attempt, reason) = bench.reconnect().unwrap();
    assert_eq!(
        (attempt, reason),
        (1, Reason::RegisterRefused("cluster not found".into()))
    );
    bench.pass(delay);
    bench.connect();
    assert_eq!(bench.agent.cluster_id(), None);
    bench.register();
    // And once it was good for long, the demand is taken at its word again.
    bench.pass_alive(secs(70));
    bench.sent();
    bench.frame(error);
    assert_eq!(bench.sent_types(), ["register"]);
}

#[test]
fn p057_the_demand_may_stand_anywhere_in_a_long_text() {
    let mut bench = Bench::registered();
    let text = alloc::format!("{} cluster not found", "x".repeat(1000));
    bench.frame(json!({"type": "error", "payload": {"error": text}}));
    assert_eq!(bench.sent_types(), ["register"]);
}

#[test]
fn p053_a_cluster_id_that_is_too_long_is_refused_and_not_cut() {
    let mut bench = Bench::new();
    bench.connect();
    bench.register_with(json!({"cluster_id": "c".repeat(257)}));
    let (_, _, reason) = bench.reconnect().unwrap();
    let text = "register_success with a cluster_id of more than 256 bytes";
    assert_eq!(reason, Reason::RegisterRefused(text.into()));
    assert_eq!(bench.agent.cluster_id(), None);
}

#[test]
fn p212_a_registration_that_was_not_sent_is_not_sent_while_draining() {
    let mut bench = Bench::registered();
    bench.request("r1");
    bench.frame(json!({"type": "error", "payload": {"error": "not registered"}}));
    bench.input(Input::Shutdown(secs(5)));
    assert!(!bench.sent_types().iter().any(|kind| kind == "register"));
}

#[test]
fn p159_malformed_messages_cost_only_themselves() {
    let mut bench = Bench::registered();
    let stream = bench.request("r1");
    for raw in [
        "",
        "{",
        "[]",
        "null",
        "\u{0}",
        "{\"type\":1}",
        "{\"type\":\"proxy_request\"}x",
    ] {
        bench.raw(raw);
    }
    assert!(matches!(bench.agent.phase(), Phase::Ready(_)));
    bench.input(Input::Head(stream, head(200)));
    // P-026: a type of another type counts as absent, and an absent one as the unknown type "".
    let types = bench.sent_types();
    assert_eq!(types, ["protocol_fallback", "proxy_response_header"]);
    assert_eq!(bench.agent.stats().peer_faults, 6);
}

#[test]
fn p026_an_unknown_type_is_answered_once_and_the_table_is_bounded() {
    let mut bench = Bench::registered();
    for i in 0..1000 {
        bench.frame(json!({"type": alloc::format!("t{}", i / 2), "request_id": "u"}));
    }
    let sent = bench.sent();
    assert_eq!(sent.len(), 64, "P-179");
    assert_eq!(sent[0]["type"], "protocol_fallback");
    assert_eq!(sent[0]["payload"]["unknown_type"], "t0");
}

#[test]
fn p148_an_oversize_message_closes_with_1009() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    let conn = bench.agent.phase().open().unwrap();
    bench.raw(&" ".repeat(SMALL.frame));
    assert!(
        matches!(bench.agent.phase(), Phase::Ready(_)),
        "at the limit"
    );
    bench.raw(&" ".repeat(SMALL.frame + 1));
    assert!(bench.has(&Action::Close(conn, CloseCode::TooBig, "")));
    assert_eq!(
        bench.reconnect().unwrap().2,
        Reason::Peer(PeerFault::FrameTooLong)
    );
}

#[test]
fn a_flood_of_refusals_closes_with_1008() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    let conn = bench.agent.phase().open().unwrap();
    for i in 0..=SMALL.control {
        bench.frame(json!({"type":"proxy_request","request_id":i.to_string(),"payload":{}}));
    }
    assert!(bench.has(&Action::Close(conn, CloseCode::Policy, "")));
}
