//! How streams of the fast mode are counted as ended, at either end.

use super::*;
use crate::stats::{Ending, Stats};

/// The one ending that was counted.
fn ending(stats: &Stats) -> Option<Ending> {
    let closed: u64 = stats.streams_closed.iter().sum();
    assert_eq!(stats.streams_opened, closed + stats.streams_open as u64);
    let mut ended = Ending::ALL
        .into_iter()
        .filter(|e| e.of(&stats.streams_closed) > 0);
    let found = ended.next();
    assert_eq!((closed, ended.next()), (u64::from(found.is_some()), None));
    found
}

#[test]
fn each_end_says_what_it_knows_of_the_end() {
    type End = fn(&mut Pair, StreamId, StreamId);
    let complete: End = |pair, here, there| {
        pair.controller_hears(Input::Ended(here, StreamEnd::Clean));
        pair.agent_hears(Input::Ended(there, StreamEnd::Clean));
    };
    let cancelled: End = |pair, here, _| pair.controller_hears(Input::Cancel(here));
    let failed: End = |pair, _, there| {
        let broken = StreamEnd::Broken(String::new());
        pair.agent_hears(Input::Ended(there, broken));
    };
    let lost: End = |pair, _, _| {
        pair.agent_hears(Input::Disconnected(A, Down::Lost("cut".into())));
        pair.controller_hears(Input::Disconnected(C, Down::Lost("cut".into())));
    };
    for (end, counted) in [
        (complete, Ending::Complete),
        (cancelled, Ending::Cancelled),
        (failed, Ending::Failed),
        (lost, Ending::Lost),
    ] {
        let mut pair = Pair::new();
        let (here, there) = pair.http();
        assert_eq!(ending(&pair.agent.stats()), None);
        end(&mut pair, here, there);
        assert_eq!(ending(&pair.agent.stats()), Some(counted));
        assert_eq!(ending(&pair.controller.stats()), Some(counted));
    }
}

#[test]
fn what_the_agent_does_not_permit_is_refused_there_and_failed_here() {
    let mut pair = Pair::new();
    let tunnel = Tunnel {
        service_name: "postgres".into(),
        service_namespace: "db".into(),
        service_port: 5432,
        ..Tunnel::default()
    };
    pair.controller.open_service(pair.now, tunnel).unwrap();
    pair.controller_hears(Input::Tick);
    assert_eq!(ending(&pair.agent.stats()), Some(Ending::Refused));
    assert_eq!(ending(&pair.controller.stats()), Some(Ending::Failed));
}

#[test]
fn a_shutdown_is_the_end_of_what_is_still_open() {
    let mut pair = Pair::new();
    pair.http();
    pair.agent_hears(Input::Shutdown(Duration::ZERO));
    pair.now = pair.now + Duration::from_secs(1);
    pair.agent_hears(Input::Tick);
    assert_eq!(ending(&pair.agent.stats()), Some(Ending::Shutdown));
}

#[test]
fn frames_about_streams_that_are_gone_are_counted() {
    let mut pair = Pair::new();
    // Data of a stream that nobody opened, and a grant.
    let data = [0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 7];
    let grant = [0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1];
    for frame in [&data[..], &grant] {
        pair.agent_hears(Input::Frame(A, Frame::Binary(frame)));
        pair.controller_hears(Input::Frame(C, Frame::Binary(frame)));
    }
    assert_eq!(pair.agent.stats().stale_frames, 2);
    assert_eq!(pair.controller.stats().stale_frames, 2);
    assert_eq!(pair.agent.stats().streams_opened, 0);
}
