//! Connections to the Kubernetes API.

use super::*;

#[test]
fn both_directions_end_on_their_own() {
    let mut pair = Pair::new();
    let (here, there) = pair.http();
    assert!(matches!(
        pair.at_agent.last(),
        Some(Action::Open(_, Target::Http1(_)))
    ));
    pair.controller
        .send(here, Kind::Bytes, bytes("GET"))
        .unwrap();
    pair.controller_hears(Input::Ended(here, StreamEnd::Clean));
    let heard = [
        Action::Deliver(there, Kind::Bytes, bytes("GET")),
        Action::HalfClosed(there),
    ];
    assert_eq!(pair.agent_events(there), heard);
    pair.agent.send(there, Kind::Bytes, bytes("200")).unwrap();
    pair.agent_hears(Input::Consumed(there, 3));
    pair.agent_hears(Input::Ended(there, StreamEnd::Clean));
    assert_eq!(pair.agent_events(there), [Action::Over(there)]);
    let heard = [
        Action::Deliver(here, Kind::Bytes, bytes("200")),
        Action::HalfClosed(here),
    ];
    assert_eq!(pair.controller_events(here), heard);
    pair.controller_hears(Input::Consumed(here, 3));
    assert_eq!(pair.controller_events(here), [Action::Over(here)]);
    for stats in [pair.agent.stats(), pair.controller.stats()] {
        let left = (stats.streams_open, stats.held_in, stats.held_out);
        assert_eq!((left, stats.streams_opened), ((0, 0, 0), 1));
        assert_eq!(stats.bytes_in + stats.bytes_out, 6);
    }
}

#[test]
fn either_end_may_reset_and_the_other_learns_of_it() {
    for broken in [true, false] {
        let mut pair = Pair::new();
        let (here, there) = pair.http();
        pair.controller_hears(match broken {
            true => Input::Ended(here, StreamEnd::Broken(String::new())),
            false => Input::Cancel(here),
        });
        assert_eq!(pair.agent_events(there), [Action::Reset(there)]);
        assert_eq!(pair.controller_events(here), []);
        let (here, there) = pair.http();
        // Also after its own end.
        pair.agent_hears(Input::Ended(there, StreamEnd::Clean));
        pair.controller_events(here);
        pair.agent_hears(match broken {
            true => Input::Ended(there, StreamEnd::Broken(String::new())),
            false => Input::Cancel(there),
        });
        assert_eq!(pair.agent_events(there), []);
        let failed = Action::Failed(here, Failure::Reset);
        assert_eq!(pair.controller_events(here), [failed]);
        assert_eq!(pair.controller.stats().resets, 2);
    }
}

#[test]
fn p158_p174_a_lost_link_ends_every_stream_at_both_ends() {
    let mut pair = Pair::new();
    let (here, there) = pair.http();
    pair.cut = true;
    pair.agent_hears(Input::Disconnected(A, Down::Lost("cut".into())));
    pair.controller_hears(Input::Disconnected(C, Down::Lost("cut".into())));
    assert_eq!(pair.agent_events(there), [Action::Reset(there)]);
    let failed = Action::Failed(here, Failure::Disconnected);
    assert_eq!(pair.controller_events(here), [failed]);
    // What was counted stays.
    assert_eq!(pair.agent.stats().streams_opened, 1);
    assert_eq!(pair.controller.stats().streams_opened, 1);
    let again = pair.controller.send(here, Kind::Bytes, bytes("x"));
    assert_eq!(again, Err(SendError::Closed(bytes("x"))));
}

#[test]
fn a_stream_whose_reader_stops_holds_its_window_and_tells_its_writer_when_it_goes_on() {
    let mut pair = Pair::new();
    let (here, there) = pair.http();
    let piece = Bytes::from(alloc::vec![7; 32 << 10]);
    let mut sent = 0;
    while pair
        .controller
        .send(here, Kind::Bytes, piece.clone())
        .is_ok()
    {
        sent += piece.len();
        pair.run();
        assert!(sent < 1 << 20, "it is never refused");
    }
    let held = pair.agent.stats().held_in;
    let window = crate::yamux::INITIAL_WINDOW;
    assert!((window - 512..=window + 512).contains(&held), "{held}");
    assert_eq!(pair.controller.stats().stalls, 1);
    assert!(pair.controller.stats().held_out > 0);
    assert_eq!(pair.controller_events(here), []);
    let mut got = 0;
    while got < sent {
        let mut progress = false;
        for action in pair.agent_events(there) {
            if let Action::Deliver(_, _, data) = action {
                got += data.len();
                progress = true;
                pair.agent_hears(Input::Consumed(there, data.len()));
            }
        }
        assert!(progress, "{got} of {sent}");
    }
    assert_eq!(pair.controller_events(here), [Action::Writable(here)]);
}

#[test]
fn p150_what_waits_on_streams_delays_no_control_message() {
    let mut pair = Pair::new();
    let streams: Vec<_> = (0..20).map(|_| pair.http().0).collect();
    for id in streams {
        let piece = Bytes::from(alloc::vec![7; 128 << 10]);
        pair.controller.send(id, Kind::Bytes, piece).unwrap();
    }
    let ping = Frame::Text(r#"{"type":"ping","request_id":"p"}"#);
    pair.controller.handle(pair.now, Input::Frame(C, ping));
    while let Some(action) = pair.controller.poll(Socket::Ready(C)) {
        if let Action::Send(_, frame) = action {
            assert!(matches!(frame, OutFrame::Text(text) if text.contains("pong")));
            return;
        }
    }
    panic!("nothing was sent");
}

#[test]
fn p119_streams_of_the_agent_are_refused() {
    let mut pair = Pair::new();
    // A SYN with an odd id, as only a client may give it.
    let syn = [0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
    pair.cut = true;
    pair.controller_hears(Input::Frame(C, Frame::Binary(&syn)));
    let fault = PeerFault::Unsupported("a stream of the agent");
    let notice = Action::Notice(Notice::Tolerated(None, fault));
    assert!(pair.at_controller.contains(&notice));
    assert_eq!(pair.controller.stats().streams_open, 0);
    assert!(pair.joined().is_some());
}

#[test]
fn p177_a_shutdown_lets_streams_end_and_is_bounded() {
    for at_agent in [true, false] {
        let mut pair = Pair::new();
        let (here, there) = pair.http();
        let grace = Input::Shutdown(Duration::from_secs(5));
        match at_agent {
            true => pair.agent_hears(grace),
            false => pair.controller_hears(grace),
        }
        // No more are opened, and the one that is goes on.
        assert_eq!(pair.controller.open_http(pair.now), Err(OpenError::Away));
        pair.agent.send(there, Kind::Bytes, bytes("on")).unwrap();
        pair.run();
        let on = Action::Deliver(here, Kind::Bytes, bytes("on"));
        assert_eq!(pair.controller_events(here), [on]);
        pair.pass(Duration::from_secs(5));
        assert_eq!(pair.agent_events(there), [Action::Reset(there)]);
        let failure = if at_agent {
            Failure::Reset
        } else {
            Failure::Shutdown
        };
        let failed = Action::Failed(here, failure);
        assert_eq!(pair.controller_events(here), [failed]);
        pair.pass(Duration::from_secs(3));
        let actions = if at_agent {
            &pair.at_agent
        } else {
            &pair.at_controller
        };
        assert!(actions.contains(&Action::Stopped));
    }
}

#[test]
fn a_shutdown_is_over_as_soon_as_the_last_stream_is() {
    let mut pair = Pair::new();
    let (here, there) = pair.http();
    pair.agent_hears(Input::Shutdown(Duration::from_secs(60)));
    pair.agent_hears(Input::Ended(there, StreamEnd::Clean));
    assert!(!pair.at_agent.contains(&Action::Stopped));
    pair.controller_hears(Input::Ended(here, StreamEnd::Clean));
    assert!(pair.at_agent.contains(&Action::Stopped));
}

#[test]
fn a_stream_whose_header_finds_no_room_is_not_opened() {
    let mut pair = Pair::with(|_| {}, |config| config.limits.send_total = 1000);
    let (here, _) = pair.http();
    pair.cut = true;
    let held = Bytes::from(alloc::vec![7; 1000]);
    pair.controller.send(here, Kind::Bytes, held).unwrap();
    let opened = pair.controller.open_http(pair.now);
    assert_eq!(opened, Err(OpenError::TooManyStreams));
    pair.cut = false;
    pair.run();
    // With room again it is, and its header is there.
    pair.http();
}

#[test]
fn streams_whose_peers_do_not_read_leave_room_to_all_others() {
    let mut pair = Pair::new();
    let limits = crate::Limits::controller();
    // The agent reads nothing of any of them.
    let piece = Bytes::from(alloc::vec![7; 64 << 10]);
    for _ in 0..300 {
        let (id, _) = pair.http();
        while pair.controller.send(id, Kind::Bytes, piece.clone()).is_ok() {
            pair.run();
        }
    }
    let (id, _) = pair.http();
    assert_eq!(pair.controller.send(id, Kind::Bytes, piece), Ok(()));
    assert!(pair.controller.stats().held_out <= limits.send_total);
}
