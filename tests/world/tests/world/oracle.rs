//! The oracle can fail: a link that breaks its promises is found out, whatever it does.

use controlplane_world::{Setup, Tamper, plan::Weather};

use crate::simulation::all;

/// Sound worlds, each with one message of one type tampered with: all are found out, and for the
/// right reason.
fn assert_found(tamper: Tamper, texts: &[&str]) {
    let setup = |seed| Setup {
        weather: Weather::Still,
        tamper: Some((tamper, seed * 3)),
        ..Setup::of(seed)
    };
    for outcome in all(0..4, setup) {
        let Err(violation) = outcome else {
            panic!("{tamper:?} was not noticed");
        };
        assert!(violation.tampered, "{violation}");
        let expected = texts.iter().any(|text| violation.text.contains(text));
        assert!(expected, "{tamper:?}: {violation}");
    }
}

#[test]
fn without_tampering_every_request_succeeds() {
    let setup = |seed| Setup {
        weather: Weather::Still,
        ..Setup::of(seed)
    };
    let mut ends = [0; 3];
    for report in all(0..8, setup) {
        let counts = report
            .unwrap_or_else(|violation| panic!("{violation}"))
            .counts;
        // The last two are cut short by the end of the world.
        let failed: u64 = counts
            .iter()
            .filter(|(what, _)| what.starts_with("failed"))
            .map(|(_, count)| count)
            .sum();
        assert_eq!(failed, 2, "{counts:?}");
        let ended = ["finished", "closed by the client", "closed by the upstream"]
            .map(|what| counts.get(what).copied().unwrap_or_default());
        assert_eq!(
            counts["requests"],
            ended.iter().sum::<u64>() + 2,
            "{counts:?}"
        );
        for (all, count) in ends.iter_mut().zip(ended) {
            *all += count;
        }
    }
    assert!(ends.iter().all(|count| *count > 30), "{ends:?}");
}

#[test]
fn a_changed_byte_is_seen() {
    assert_found(Tamper::Alter("proxy_response_chunk"), &["Answer differs"]);
    assert_found(Tamper::Alter("proxy_request_chunk"), &["Request differs"]);
}

#[test]
fn a_lost_message_is_seen() {
    let lost = ["differs", "not all there", "has more"];
    assert_found(Tamper::Drop("proxy_response_chunk"), &lost);
    assert_found(Tamper::Drop("proxy_request_chunk"), &lost);
    let stuck = ["never ended", "without a cause", "before the head"];
    assert_found(Tamper::Drop("proxy_response_header"), &stuck);
    assert_found(Tamper::Drop("proxy_response_end"), &stuck);
    assert_found(Tamper::Drop("proxy_request_stream_end"), &stuck);
    assert_found(Tamper::Drop("proxy_request"), &stuck);
}

#[test]
fn a_repeated_message_is_seen() {
    let twice = ["differs", "has more"];
    assert_found(Tamper::Duplicate("proxy_response_chunk"), &twice);
    assert_found(Tamper::Duplicate("proxy_request_chunk"), &twice);
    let fault = ["without a cause"];
    assert_found(Tamper::Duplicate("proxy_response_header"), &fault);
}

#[test]
fn messages_in_another_order_are_seen() {
    // Data behind data, and data behind the end.
    let swapped = ["differs", "not all there", "has more"];
    assert_found(Tamper::Delay("proxy_response_chunk"), &swapped);
    assert_found(Tamper::Delay("proxy_request_chunk"), &swapped);
    let late = ["without a cause", "never ended", "differs", "not all there"];
    assert_found(Tamper::Delay("proxy_response_header"), &late);
    assert_found(Tamper::Delay("proxy_request"), &late);
}

/// Which message of a stream is tampered with depends on the seed: of either direction, the first,
/// the last or one in between.
#[test]
fn what_is_done_to_a_message_of_a_stream_is_seen() {
    let message = "proxy_websocket_data";
    // A message that ends the stream as no message, or whose loss takes the result away.
    let fault = "without a cause";
    let wrong = ["differs", "another kind", fault];
    assert_found(Tamper::Alter(message), &wrong);
    let hole = [
        "differs",
        "another kind",
        "not all there",
        "overtook",
        "not as its client did",
        "never ended",
        fault,
    ];
    assert_found(Tamper::Drop(message), &hole);
    let twice = ["differs", "another kind", "has more", "behind"];
    assert_found(Tamper::Duplicate(message), &twice);
    assert_found(Tamper::Delay(message), &hole);
}

#[test]
fn what_is_done_to_the_end_of_a_stream_is_seen() {
    let close = "proxy_websocket_close";
    let open = ["never ended", "long after its client left", "for nobody"];
    assert_found(Tamper::Drop(close), &open);
}

#[test]
fn what_is_done_to_a_stream_of_the_fast_mode_is_seen() {
    let bytes = "yamux";
    let wrong = [
        "differs",
        "not sent next",
        "has more",
        "an end that is none",
        "data of another kind",
        "without a cause",
        "never ended",
        "in the calm",
        "at most",
    ];
    assert_found(Tamper::Alter(bytes), &wrong);
    assert_found(Tamper::Drop(bytes), &wrong);
    assert_found(Tamper::Duplicate(bytes), &wrong);
}

#[test]
fn what_is_done_to_a_tunnel_is_seen() {
    let bytes = "tcp_tunnel_data";
    let wrong = [
        "differs",
        "has more",
        "without a cause",
        "false success",
        "overtook",
        "never ended",
        "nobody sent, or twice",
        "is missing",
        "in the calm",
    ];
    assert_found(Tamper::Alter(bytes), &wrong);
    assert_found(Tamper::Drop(bytes), &wrong);
    assert_found(Tamper::Duplicate(bytes), &wrong);
}
