//! What is counted: how streams end, why connections do, what requests are answered with, and how
//! long pings and heartbeats take.

use super::*;
use crate::stats::{CodeClass, Disconnect, Ending, RoundTrips};

/// The endings that were counted, each as often as it was.
fn endings(bench: &Bench) -> Vec<Ending> {
    let stats = bench.agent.stats();
    let closed: u64 = stats.streams_closed.iter().sum();
    assert_eq!(stats.streams_opened, closed + stats.streams_open as u64);
    let all = Ending::ALL.into_iter();
    all.flat_map(|ending| (0..ending.of(&stats.streams_closed)).map(move |_| ending))
        .collect()
}

fn answers(bench: &Bench) -> [u64; CodeClass::COUNT] {
    bench.agent.stats().answers
}

/// Answers a request with this status.
fn answer(bench: &mut Bench, id: StreamId, status: u16) {
    let head = ResponseHead {
        status,
        headers: Vec::new(),
    };
    bench.input(Input::Head(id, head));
}

#[test]
fn each_request_ends_for_one_reason() {
    type End = fn(&mut Bench, StreamId);
    let complete: End = |bench, id| {
        answer(bench, id, 403);
        bench.input(Input::Ended(id, StreamEnd::Clean));
    };
    let unanswered: End = |bench, id| bench.input(Input::Ended(id, StreamEnd::Clean));
    let broken: End = |bench, id| {
        answer(bench, id, 200);
        bench.input(Input::Ended(id, StreamEnd::Broken("it broke".into())));
    };
    let cancelled: End = |bench, _| {
        bench.frame(json!({"type": "proxy_cancel", "request_id": "r", "payload": {}}));
    };
    let lost: End = |bench, _| bench.cut();
    let shut_down: End = |bench, _| {
        bench.input(Input::Shutdown(Duration::from_secs(1)));
        bench.pass(Duration::from_secs(2));
    };
    for (end, ending, class) in [
        (complete, Ending::Complete, CodeClass::ClientError),
        (unanswered, Ending::Failed, CodeClass::None),
        (broken, Ending::Failed, CodeClass::Success),
        (cancelled, Ending::Cancelled, CodeClass::None),
        (lost, Ending::Lost, CodeClass::None),
        (shut_down, Ending::Shutdown, CodeClass::None),
    ] {
        let mut bench = Bench::registered();
        let id = bench.request("r");
        assert_eq!(endings(&bench), []);
        end(&mut bench, id);
        bench.run();
        assert_eq!(endings(&bench), [ending]);
        let mut expected = [0; CodeClass::COUNT];
        class.count(&mut expected);
        assert_eq!(answers(&bench), expected, "{ending:?}");
    }
}

#[test]
fn limits_and_faults_are_told_apart() {
    let mut bench = Bench::registered_with(|config| {
        config.limits.recv_stream = 1024;
        config.limits.recv_total = 2048;
    });
    bench.upload("big");
    bench.chunk("big", &[0; 2000]);
    bench.run();
    assert_eq!(endings(&bench), [Ending::Limit]);
    bench.upload("odd");
    bench.frame(json!({"type": "proxy_request_chunk", "request_id": "odd",
        "payload": {"data": "?"}}));
    bench.run();
    assert_eq!(endings(&bench), [Ending::Fault, Ending::Limit]);
    let payload = json!({"path": "/api", "supports_response_streaming": true, "timeout": 1000});
    bench.ask("slow", payload).unwrap();
    bench.pass_alive(Duration::from_secs(3600));
    let counted = endings(&bench);
    assert_eq!(counted, [Ending::Fault, Ending::Limit, Ending::Timeout]);
}

#[test]
fn what_is_refused_by_name_is_counted_as_opened_and_closed() {
    let mut bench = Bench::registered();
    assert_eq!(bench.ask("r", json!({"path": "/nowhere"})), None);
    assert_eq!(endings(&bench), [Ending::Refused]);
    assert_eq!(CodeClass::None.of(&answers(&bench)), 1);
    bench.frame(json!({"type": "tcp_tunnel_start", "request_id": "t", "payload": {}}));
    bench.run();
    assert_eq!(endings(&bench), [Ending::Refused; 2]);
    assert_eq!(
        CodeClass::None.of(&answers(&bench)),
        1,
        "a tunnel is no request"
    );
}

#[test]
fn a_connection_that_is_lost_is_counted_by_its_cause_and_a_shutdown_is_none() {
    type End = fn(&mut Bench);
    let closed: End = |bench| {
        let conn = bench.agent.phase().conn().unwrap();
        let reason = String::new();
        bench.input(Input::Disconnected(
            conn,
            Down::Closed { code: 1001, reason },
        ));
    };
    let silent: End = |bench| bench.pass(Duration::from_secs(60));
    for (end, cause) in [
        (closed, Disconnect::Closed),
        (Bench::cut as End, Disconnect::Network),
        (silent, Disconnect::Silence),
    ] {
        let mut bench = Bench::registered();
        end(&mut bench);
        let mut counts = bench.agent.stats().disconnects;
        assert_eq!(cause.of(&counts), 1, "{cause:?}: {counts:?}");
        counts[cause as usize] = 0;
        // A dial that follows may have failed as well.
        counts[Disconnect::DialTimeout as usize] = 0;
        assert_eq!(counts, [0; Disconnect::COUNT]);
    }
    let mut bench = Bench::registered();
    bench.input(Input::Shutdown(Duration::ZERO));
    bench.pass(Duration::from_secs(30));
    assert_eq!(bench.agent.phase(), Phase::Stopped);
    assert_eq!(bench.agent.stats().disconnects, [0; Disconnect::COUNT]);
}

#[test]
fn a_ping_takes_until_its_pong_and_each_counts_once() {
    let mut bench = Bench::registered();
    let conn = bench.agent.phase().open().unwrap();
    let pong = |bench: &mut Bench| bench.input(Input::Pong(conn));
    pong(&mut bench);
    assert_eq!(bench.agent.stats().pings, RoundTrips::default(), "unasked");
    let period = crate::Periods::default().ping;
    bench.pass(period);
    bench.now = bench.now + Duration::from_millis(30);
    pong(&mut bench);
    pong(&mut bench);
    let pings = bench.agent.stats().pings;
    assert_eq!(pings.last, Some(Duration::from_millis(30)));
    assert_eq!(pings.buckets.iter().sum::<u64>(), 1);
    // It is a sign of life like any other.
    let idle = crate::Periods::default().idle;
    bench.pass(idle - Duration::from_millis(1));
    assert_eq!(bench.agent.phase(), Phase::Ready(conn));
}

#[test]
fn a_heartbeat_takes_until_it_is_acknowledged() {
    let mut bench = Bench::registered();
    bench.run();
    bench.now = bench.now + Duration::from_millis(250);
    let ack = json!({"type": "heartbeat_ack", "payload": {}});
    bench.frame(ack.clone());
    bench.frame(ack);
    let heartbeats = bench.agent.stats().heartbeats;
    assert_eq!(heartbeats.total, Duration::from_millis(250));
    assert_eq!(heartbeats.buckets.iter().sum::<u64>(), 1);
}
