//! What comes twice, late or in an unusual order.

use super::*;

#[test]
fn a_socket_that_is_ready_again_is_not_stalled_even_where_nothing_is_left_to_send() {
    // Less than from one ping to the next, each of which would find out.
    let mut bench = Bench::registered_with(|config| config.periods.write = secs(5));
    let conn = bench.agent.phase().open().unwrap();
    let id = bench.request("r");
    bench.take();
    bench.input(Input::Head(id, head(200)));
    // P-020: from here on the write has its time.
    assert!(bench.agent.poll(Socket::Blocked).is_none());
    bench.frame(json!({"type": "proxy_cancel", "request_id": "r"}));
    while bench.agent.poll(Socket::Blocked).is_some() {}
    assert!(bench.agent.poll(Socket::Ready(conn)).is_none());
    for _ in 0..8 {
        bench.now = bench.now + secs(4);
        bench.input(Input::Alive(conn));
        bench.run();
    }
    assert_eq!(bench.agent.phase(), Phase::Ready(conn));
}

#[test]
fn p182_p199_no_heartbeat_is_sent_while_a_new_registration_is_asked_for() {
    let mut bench = Bench::registered_with(|config| config.encrypted = true);
    let conn = bench.agent.phase().open().unwrap();
    // The socket takes nothing when the heartbeat is due, and then the cluster is disowned.
    for _ in 0..3 {
        bench.now = bench.now + secs(10);
        bench.input(Input::Alive(conn));
    }
    bench.frame(json!({"type": "error", "payload": {"error": "cluster not registered"}}));
    assert_eq!(bench.sent_types(), ["register"]);
    bench.pass_alive(secs(25));
    assert!(bench.sent().is_empty());
}

#[test]
fn what_is_consumed_twice_is_granted_once() {
    let (mut bench, id) = Bench::with_window();
    bench.chunk("r", &bytes(3000));
    bench.take();
    for _ in 0..10 {
        bench.input(Input::Consumed(id, 3000));
    }
    let sent = bench.sent();
    let granted = sent.iter().map(|m| m["payload"]["bytes"].as_u64().unwrap());
    assert_eq!(granted.sum::<u64>(), 3000);
}

#[test]
fn p164_a_clock_may_stand_anywhere() {
    let mut bench = Bench::registered();
    bench.input(Input::Clock(Duration::MAX));
    bench.frame(json!({"type": "ping", "request_id": "p"}));
    let payload = json!({"path": "/api", "timeout": f64::MAX, "deadline": "9999-12-31T23:59:59Z"});
    bench.ask("r", payload);
    bench.pass_alive(secs(31));
    assert!(bench.sent_types().contains(&"heartbeat".to_string()));
    // Time at its end: what is due is done once, and everything else can go on.
    bench.now = Time::since_origin(Duration::MAX);
    bench.agent.handle(bench.now, Input::Tick);
    bench.agent.handle(Time::ZERO, Input::Tick);
    assert!(matches!(bench.agent.phase(), Phase::Waiting));
    assert_eq!(bench.agent.stats().streams_open, 0);
    bench
        .agent
        .handle(bench.now, Input::Shutdown(Duration::MAX));
    assert!(bench.has(&Action::Stopped));
}
