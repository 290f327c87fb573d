//! What is counted: how requests end, what they are answered with, and why connections end.

use super::*;
use crate::stats::{CodeClass, Disconnect, Ending};

/// The endings that were counted, each as often as it was.
fn endings(bench: &Bench) -> Vec<Ending> {
    let stats = bench.controller.stats();
    let closed: u64 = stats.streams_closed.iter().sum();
    assert_eq!(stats.streams_opened, closed + stats.streams_open as u64);
    let all = Ending::ALL.into_iter();
    all.flat_map(|ending| (0..ending.of(&stats.streams_closed)).map(move |_| ending))
        .collect()
}

#[test]
fn each_request_ends_for_one_reason() {
    type End = fn(&mut Bench, StreamId, &str);
    let complete: End = |bench, _, name| {
        bench.answer_head(name);
        bench.answer_end(name);
    };
    let cancelled: End = |bench, id, _| bench.input(Input::Cancel(id));
    let failed: End = |bench, _, name| {
        bench.says("proxy_error", name, json!({"error": "no route"}));
    };
    let fault: End = |bench, _, name| bench.answer_data(name, b"without a head");
    let lost: End = |bench, _, _| bench.lose(A);
    let shut_down: End = |bench, _, _| {
        bench.input(Input::Shutdown(secs(1)));
        bench.pass(secs(3), &[A]);
    };
    for (end, ending, class) in [
        (complete, Ending::Complete, CodeClass::Success),
        (cancelled, Ending::Cancelled, CodeClass::None),
        (failed, Ending::Failed, CodeClass::None),
        (fault, Ending::Fault, CodeClass::None),
        (lost, Ending::Lost, CodeClass::None),
        (shut_down, Ending::Shutdown, CodeClass::None),
    ] {
        let mut bench = Bench::registered();
        let (id, name) = bench.request(false);
        assert_eq!(endings(&bench), []);
        end(&mut bench, id, &name);
        bench.run();
        assert_eq!(endings(&bench), [ending]);
        let mut expected = [0; CodeClass::COUNT];
        class.count(&mut expected);
        assert_eq!(bench.controller.stats().answers, expected, "{ending:?}");
    }
}

#[test]
fn a_client_that_reads_too_slowly_is_a_limit() {
    let mut bench = Bench::registered_with(|config| config.limits = SMALL);
    let (_, name) = bench.request(false);
    bench.answer_head(&name);
    bench.answer_data(&name, &[0; 1025]);
    bench.run();
    assert_eq!(endings(&bench), [Ending::Limit]);
}

#[test]
fn each_connection_that_ended_is_counted_by_its_cause() {
    let mut bench = Bench::registered();
    bench.join(B, true);
    bench.pass(secs(1), &[B]);
    let counts = bench.controller.stats().disconnects;
    assert_eq!(Disconnect::Superseded.of(&counts), 1);
    bench.pass(secs(120), &[]);
    bench.accept(A);
    bench.pass(secs(120), &[A]);
    bench.join(B, true);
    bench.lose(B);
    let counts = bench.controller.stats().disconnects;
    let of = |cause: Disconnect| cause.of(&counts);
    assert_eq!(of(Disconnect::Silence), 1);
    assert_eq!(of(Disconnect::RegisterTimeout), 1);
    assert_eq!(of(Disconnect::Network), 1);
    assert_eq!(counts.iter().sum::<u64>(), 4);
}

#[test]
fn a_ping_takes_until_its_pong() {
    let mut bench = Bench::registered();
    bench.pass(crate::Periods::default().ping, &[A]);
    bench.now = bench.now + Duration::from_millis(70);
    bench.input(Input::Pong(A));
    bench.input(Input::Pong(A));
    let pings = bench.controller.stats().pings;
    assert_eq!(pings.total, Duration::from_millis(70));
    assert_eq!(pings.buckets.iter().sum::<u64>(), 1);
}
