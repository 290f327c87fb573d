//! How connections end, how the next one comes about, and how there is none any more.

use super::*;

#[test]
fn p019_every_close_code_leads_to_another_attempt() {
    for code in [1000, 1001, 1006, 1008, 4000] {
        let mut bench = Bench::registered();
        let conn = bench.agent.phase().open().unwrap();
        let down = Down::Closed {
            code,
            reason: String::new(),
        };
        bench.input(Input::Disconnected(conn, down));
        let (delay, attempt, _) = bench.reconnect().unwrap();
        assert_eq!(attempt, 1);
        bench.pass(delay);
        assert!(
            matches!(bench.agent.phase(), Phase::Dialing(_)),
            "code {code}"
        );
    }
}

#[test]
fn p181_a_refused_token_waits_long_keeps_the_identity_and_tries_again() {
    let mut bench = Bench::registered();
    for status in [401, 403] {
        let conn = bench.agent.phase().conn().unwrap();
        let refused = Down::Refused {
            status,
            retry_after: None,
        };
        bench.input(Input::Disconnected(conn, refused));
        let (delay, _, reason) = bench.reconnect().unwrap();
        assert_eq!(reason, Reason::Unauthorized(status));
        assert!(delay >= secs(30) && delay <= secs(60));
        bench.pass(delay);
    }
    bench.connect();
    assert_eq!(bench.sent()[0]["payload"]["cluster_id"], "6f1c");
}

#[test]
fn superseded_waits_the_ceiling_and_reports() {
    let mut bench = Bench::registered();
    let conn = bench.agent.phase().conn().unwrap();
    let reason = "superseded".to_string();
    bench.input(Input::Disconnected(
        conn,
        Down::Closed { code: 4001, reason },
    ));
    let (delay, _, reason) = bench.reconnect().unwrap();
    assert_eq!(reason, Reason::Superseded);
    assert!(delay >= secs(30));
}

#[test]
fn retry_after_is_obeyed() {
    let mut bench = Bench::new();
    bench.run();
    let conn = bench.agent.phase().conn().unwrap();
    let refused = Down::Refused {
        status: 503,
        retry_after: Some(secs(20)),
    };
    bench.input(Input::Disconnected(conn, refused));
    let (delay, _, reason) = bench.reconnect().unwrap();
    assert!(delay >= secs(20) && delay <= secs(30));
    assert_eq!(reason, Reason::Refused(503));
}

#[test]
fn p087_only_a_stable_link_resets_the_backoff() {
    let mut bench = Bench::new();
    let mut attempts = Vec::new();
    for up in [1, 1, 59, 61, 1] {
        bench.connect();
        bench.register();
        bench.pass_alive(secs(up));
        let conn = bench.agent.phase().conn().unwrap();
        bench.input(Input::Disconnected(conn, Down::Lost("cut".into())));
        let (delay, attempt, _) = bench.reconnect().unwrap();
        attempts.push(attempt);
        bench.pass(delay);
    }
    assert_eq!(attempts, [1, 2, 3, 1, 2]);
}

#[test]
fn p087_time_that_a_controller_does_not_know_the_agent_does_not_count() {
    let mut bench = Bench::new();
    let mut attempts = Vec::new();
    for _ in 0..2 {
        bench.connect();
        bench.register();
        bench.pass_alive(secs(30));
        let error = json!({"type": "error", "payload": {"error": "cluster not registered"}});
        bench.frame(error);
        bench.pass_alive(secs(25));
        bench.register();
        bench.pass_alive(secs(50));
        let conn = bench.agent.phase().conn().unwrap();
        bench.input(Input::Disconnected(conn, Down::Lost("cut".into())));
        let (delay, attempt, _) = bench.reconnect().unwrap();
        attempts.push(attempt);
        bench.pass(delay);
    }
    assert_eq!(attempts, [1, 2]);
}

#[test]
fn p183_the_first_dial_is_retried_like_every_other() {
    let mut bench = Bench::new();
    for attempt in 1..20 {
        bench.run();
        let conn = bench.agent.phase().conn().unwrap();
        bench.input(Input::Disconnected(conn, Down::Lost("refused".into())));
        let (delay, n, _) = bench.reconnect().unwrap();
        assert_eq!(n, attempt);
        bench.pass(delay);
    }
    assert!(matches!(bench.agent.phase(), Phase::Dialing(_)));
}

#[test]
fn p158_everything_of_a_lost_connection_ends_with_it() {
    let mut bench = Bench::registered();
    let first = bench.request("r1");
    let second = bench.request("r2");
    bench.agent.send(second, Kind::Bytes, bytes(1000)).unwrap();
    let conn = bench.agent.phase().open().unwrap();
    bench.input(Input::Disconnected(conn, Down::Lost("cut".into())));
    assert!(bench.has(&Action::Reset(first)) && bench.has(&Action::Reset(second)));
    let stats = bench.agent.stats();
    assert_eq!(
        (stats.streams_open, stats.held_in, stats.held_out),
        (0, 0, 0)
    );
    let late = bench.agent.send(second, Kind::Bytes, bytes(1));
    assert!(matches!(late, Err(SendError::Closed(_))));
}

#[test]
fn p169_inputs_about_an_old_connection_have_no_effect() {
    let mut bench = Bench::registered();
    let old = bench.agent.phase().open().unwrap();
    bench.input(Input::Disconnected(old, Down::Lost("cut".into())));
    let (delay, ..) = bench.reconnect().unwrap();
    bench.pass(delay);
    let new = bench.connect();
    assert_ne!(old, new);
    bench.input(Input::Disconnected(old, Down::Lost("again".into())));
    bench.input(Input::Frame(old, Frame::Text(r#"{"type":"ping"}"#)));
    bench.input(Input::Connected(old));
    assert_eq!(bench.agent.phase(), Phase::Registering(new));
    assert_eq!(bench.sent_types(), ["register"]);
    assert_eq!(bench.agent.stats().stale_inputs, 3);
}

#[test]
fn p212_shutdown_lets_streams_end_refuses_new_ones_and_closes_with_1001() {
    let mut bench = Bench::registered();
    let conn = bench.agent.phase().open().unwrap();
    let stream = bench.request("r1");
    bench.input(Input::Shutdown(secs(5)));
    bench.frame(json!({"type":"proxy_request","request_id":"r2","payload":{"path":"/api"}}));
    assert_eq!(bench.sent()[0]["type"], "proxy_error");
    bench.input(Input::Head(stream, head(200)));
    bench.input(Input::Ended(stream, StreamEnd::Clean));
    let types = bench.sent_types();
    assert_eq!(types, ["proxy_response_header", "proxy_response_end"]);
    let text = "the agent is shutting down";
    assert!(bench.has(&Action::Close(conn, CloseCode::GoingAway, text)));
    assert!(bench.has(&Action::Stopped));
}

#[test]
fn p177_shutdown_ends_within_its_bound_whatever_the_streams_do() {
    let mut bench = Bench::registered();
    let stream = bench.request("watch");
    bench.input(Input::Head(stream, head(200)));
    bench.input(Input::Shutdown(secs(5)));
    bench.pass_alive(secs(5));
    let last = bench.sent().pop().unwrap();
    assert_eq!(last["type"], "proxy_response_abort");
    assert!(bench.has(&Action::Stopped));
    // And with a socket that takes nothing.
    let mut bench = Bench::registered();
    bench.request("watch");
    bench.input(Input::Shutdown(secs(5)));
    while bench.agent.phase() != Phase::Stopped {
        bench.now = bench.agent.deadline().unwrap();
        bench.input(Input::Tick);
        while bench.agent.poll(Socket::Blocked).is_some() {}
    }
    assert!(bench.now - Time::ZERO <= secs(7));
}

#[test]
fn shutdown_while_waiting_or_dialing_stops_at_once() {
    let mut bench = Bench::new();
    bench.run();
    bench.input(Input::Shutdown(secs(5)));
    assert!(bench.has(&Action::Stopped));
    let mut bench = Bench::new();
    let conn = bench.agent.phase().conn().unwrap();
    bench.input(Input::Disconnected(conn, Down::Lost("no".into())));
    bench.input(Input::Shutdown(secs(5)));
    assert!(bench.has(&Action::Stopped));
    assert_eq!(bench.agent.deadline(), None);
}

#[test]
fn p175_a_connection_that_is_given_up_is_closed_before_the_next_is_dialled() {
    let mut bench = Bench::registered();
    for _ in 0..6 {
        let old = bench.agent.phase().open().unwrap();
        bench.actions.clear();
        // Nothing is heard: the agent gives the connection up itself, and dials again.
        while !matches!(bench.agent.phase(), Phase::Dialing(_)) {
            bench.now = bench.agent.deadline().unwrap();
            bench.input(Input::Tick);
            bench.run();
        }
        let at = |wanted: fn(&Action) -> bool| bench.actions.iter().position(wanted);
        let close = at(|a| matches!(a, Action::Close(..)));
        let dial = at(|a| matches!(a, Action::Connect(..)));
        assert!(close.is_some() && close < dial, "{:?}", bench.actions);
        let Phase::Dialing(new) = bench.agent.phase() else {
            unreachable!()
        };
        assert!(new > old);
        bench.actions.clear();
        bench.input(Input::Connected(new));
        bench.register();
    }
    // One pinger, not one for each connection that there was.
    bench.actions.clear();
    bench.pass_alive(secs(60));
    let pings = bench.actions.iter();
    let pings = pings.filter(|a| matches!(a, Action::Send(_, OutFrame::Ping)));
    assert_eq!(pings.count(), 6);
}
