//! Datagrams on streams.

use super::*;
use crate::mux::datagrams::prefixed;

fn udp(pair: &mut Pair) -> (StreamId, StreamId) {
    let tunnel = tunnels::redis(Transport::Udp);
    let here = pair.controller.open_service(pair.now, tunnel).unwrap();
    pair.run();
    (here, pair.opened())
}

#[test]
fn p205_datagrams_are_kept_apart_between_our_ends() {
    // W-62: the original's merge and split.
    let mut pair = Pair::new();
    let (here, there) = udp(&mut pair);
    assert!(matches!(
        pair.at_agent.last(),
        Some(Action::Open(_, Target::Udp { .. }))
    ));
    let long = Bytes::from(alloc::vec![7; MAX_DATAGRAM]);
    let datagrams = [bytes("a"), bytes(""), long, bytes("bc")];
    for datagram in &datagrams {
        pair.controller
            .send(here, Kind::Datagram, datagram.clone())
            .unwrap();
        pair.agent
            .send(there, Kind::Datagram, datagram.clone())
            .unwrap();
        pair.run();
    }
    let mut there_got = Vec::new();
    let mut here_got = Vec::new();
    // No more is handed over than the local end keeps up with.
    for _ in &datagrams {
        for action in pair.agent_events(there) {
            let data = datagram(action);
            pair.agent_hears(Input::Consumed(there, data.len()));
            there_got.push(data);
        }
        for action in pair.controller_events(here) {
            let data = datagram(action);
            pair.controller_hears(Input::Consumed(here, data.len()));
            here_got.push(data);
        }
    }
    assert!(there_got == datagrams && here_got == datagrams);
}

#[test]
fn p205_the_end_comes_behind_the_datagrams_that_wait_for_a_slow_end() {
    let mut pair = Pair::new();
    let (here, there) = udp(&mut pair);
    // Charged with 256 bytes each, these are more than are handed over ahead.
    for _ in 0..300 {
        let sent = pair.controller.send(here, Kind::Datagram, bytes("x"));
        assert_eq!(sent, Ok(()));
        pair.run();
    }
    pair.controller_hears(Input::Ended(here, StreamEnd::Clean));
    let (mut got, mut ended) = (0, false);
    loop {
        let events = pair.agent_events(there);
        if events.is_empty() {
            break;
        }
        for action in events {
            assert!(!ended, "{action:?} behind the end");
            if action == Action::HalfClosed(there) {
                ended = true;
                continue;
            }
            got += datagram(action).len();
            pair.agent_hears(Input::Consumed(there, 1));
        }
    }
    assert_eq!((got, ended), (300, true));
}

#[test]
fn p205_a_datagram_that_none_of_udp_is_ends_its_stream_with_an_error() {
    let mut pair = Pair::new();
    let (here, there) = udp(&mut pair);
    let long = Bytes::from(alloc::vec![7; MAX_DATAGRAM + 1]);
    let refused = pair.controller.send(here, Kind::Datagram, long.clone());
    assert_eq!(refused, Err(SendError::Closed(long.clone())));
    pair.run();
    let failed = Action::Failed(here, Failure::MessageTooLong);
    assert_eq!(pair.controller_events(here), [failed]);
    assert_eq!(pair.agent_events(there), [Action::Reset(there)]);

    let (here, there) = udp(&mut pair);
    let refused = pair.agent.send(there, Kind::Datagram, long.clone());
    assert_eq!(refused, Err(SendError::Closed(long)));
    pair.run();
    assert_eq!(pair.agent_events(there), [Action::Reset(there)]);
    let failed = Action::Failed(here, Failure::Reset);
    assert_eq!(pair.controller_events(here), [failed]);
}

fn datagram(action: Action) -> Bytes {
    match action {
        Action::Deliver(_, Kind::Datagram, data) => data,
        other => panic!("{other:?}"),
    }
}

#[test]
fn p205_a_datagram_may_come_in_any_pieces_and_a_service_that_is_slow_holds_the_peer_up() {
    let mut state = Datagrams::new(true);
    let mut stream = Vec::new();
    for len in [1000, 0, 300, MAX_DATAGRAM] {
        stream.extend(prefixed(&alloc::vec![9; len]));
    }
    let (mut owed, mut got, mut released) = (0, Vec::new(), 0);
    for byte in &stream {
        state.push(Bytes::copy_from_slice(&[*byte]));
        owed += 1;
        while let Some(datagram) = state.next() {
            got.push(datagram.len());
        }
        while let Some(piece) = state.release() {
            released += piece;
        }
        // Otherwise the rest of a long one would never come.
        assert!(released == owed || got.len() == 4);
    }
    assert_eq!(got, [1000, 0, 300, MAX_DATAGRAM]);
    // More than is permitted ahead of the service waits now.
    state.push(prefixed(b"next"));
    assert_eq!((state.next(), state.release()), (None, None));
    state.taken(MAX_DATAGRAM);
    assert_eq!(state.next(), Some(bytes("next")));
    assert!(state.release().is_some());
}

#[test]
fn p121_each_frame_of_a_gateway_without_lengths_is_a_datagram() {
    let mut state = Datagrams::new(false);
    state.push(bytes("one"));
    state.push(Bytes::from(alloc::vec![1; MAX_DATAGRAM]));
    state.push(Bytes::from(alloc::vec![1; MAX_DATAGRAM + 1]));
    let lens: Vec<usize> = core::iter::from_fn(|| {
        let datagram = state.next()?;
        state.taken(datagram.len());
        Some(datagram.len())
    })
    .collect();
    assert_eq!(lens, [3, MAX_DATAGRAM, MAX_DATAGRAM, 1]);
    let released: usize = core::iter::from_fn(|| state.release()).sum();
    assert_eq!(released, 3 + 2 * MAX_DATAGRAM + 1);
}

#[test]
fn p121_to_a_gateway_without_lengths_none_is_written() {
    let (limits, periods) = (crate::Limits::agent(), crate::Periods::default());
    let protocols = Protocols::of(&[1.0, 2.0]);
    let asked = YamuxConfig::default();
    let mut mux = Mux::new(Role::Client, &limits, asked, protocols, Time::ZERO);
    let syn = [0, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0];
    mux.receive(Time::ZERO, &syn);
    assert!(mux.heard(Time::ZERO, &periods).is_none());
    for (protocol, expected) in [
        (Protocol::Udp, &b"one"[..]),
        (Protocol::Datagrams, b"\0\x03one"),
    ] {
        mux.admit(Time::ZERO, 2, StreamId(1), protocol, &periods);
        while mux.transmit(Time::ZERO).is_some() {}
        mux.send(Time::ZERO, StreamId(1), bytes("one")).unwrap();
        let frame = mux.transmit(Time::ZERO).unwrap();
        assert_eq!(frame[12..], *expected);
    }
}

#[test]
fn p205_a_length_that_none_of_udp_has_costs_that_datagram() {
    let mut pair = Pair::new();
    let (here, there) = udp(&mut pair);
    let _ = here;
    let mut stream = Vec::from([0xff, 0xff]);
    stream.extend(alloc::vec![1; 0xffff]);
    stream.extend(prefixed(b"good"));
    let mut frame = Vec::from([0, 0, 0, 0, 0, 0, 0, 2]);
    frame.extend((stream.len() as u32).to_be_bytes());
    frame.extend(stream);
    pair.agent_hears(Input::Frame(A, Frame::Binary(&frame)));
    let good = Action::Deliver(there, Kind::Datagram, bytes("good"));
    assert_eq!(pair.agent_events(there), [good]);
    let fault = Notice::Tolerated(None, PeerFault::MessageTooLong);
    assert!(pair.at_agent.contains(&Action::Notice(fault)));
}

#[test]
fn p205_a_datagram_that_the_end_cuts_off_is_told() {
    for whole in [true, false] {
        let mut pair = Pair::new();
        let (here, there) = udp(&mut pair);
        let sent = pair.controller.send(here, Kind::Datagram, bytes("one"));
        assert_eq!(sent, Ok(()));
        pair.run();
        pair.agent_events(there);
        // A FIN of stream 2, behind the first byte of a length where that is cut off.
        let end: &[u8] = match whole {
            true => &[0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 0],
            false => &[0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 1, 0],
        };
        pair.agent_hears(Input::Frame(A, Frame::Binary(end)));
        assert_eq!(pair.agent_events(there), [Action::HalfClosed(there)]);
        let fault = Notice::Tolerated(None, PeerFault::Malformed);
        let told = pair.at_agent.contains(&Action::Notice(fault));
        assert_eq!(told, !whole);
    }
}
