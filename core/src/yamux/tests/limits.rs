//! Limits, ids, leaving and pings.

use super::*;

fn with(config: Config) -> Session {
    let mut end = Session::new(Role::Server, config, at(0));
    end.transmit(at(0));
    end
}

fn server() -> Session {
    with(Config::default())
}

fn syn(id: u32) -> Vec<u8> {
    frame(1, SYN, id, 0, b"")
}

#[test]
fn p119_ids_of_the_peer_may_come_out_of_order_but_only_once() {
    let mut end = server();
    end.receive(at(0), &[syn(9), syn(3), syn(1), syn(7)].concat());
    let opened = [9, 3, 1, 7].map(Event::Opened);
    assert_eq!(events(&mut end), opened);
    for id in [9, 3] {
        end.reset(id);
    }
    end.transmit(at(0));
    end.receive(at(0), &[syn(3), syn(9), syn(5), syn(11)].concat());
    assert_eq!(events(&mut end), [Event::Opened(5), Event::Opened(11)]);
    assert_eq!(end.stats().refused, 2);
    let refused = [frame(1, RST, 3, 0, b""), frame(1, RST, 9, 0, b"")].concat();
    assert_eq!(end.transmit(at(0)).unwrap(), refused);
    // One that is open is another matter.
    end.receive(at(0), &syn(5));
    assert_eq!(events(&mut end), [Event::Ended(SessionError::Id)]);
}

#[test]
fn ids_that_were_left_out_long_ago_count_as_used() {
    let mut ids = PeerIds::new(Role::Client);
    assert!(ids.may_be(2) && !ids.may_be(3) && !ids.may_be(0));
    // Every other one is left out.
    for n in 1..=300 {
        assert!(ids.take(4 * n));
    }
    assert!(!ids.take(2) && !ids.take(4 * 44 - 2) && ids.take(4 * 45 - 2));
    assert!(!ids.take(4 * 45 - 2));
    assert!(ids.take(u32::MAX - 1) && !ids.take(u32::MAX - 1));
    assert!(ids.take(4 * 300 + 2) && ids.take(u32::MAX - 3) && !ids.take(4 * 300 + 2));
    assert!(ids.take(100_000) && ids.take(99_998) && ids.take(100_002) && !ids.take(100_000));
}

#[test]
fn p119_streams_beyond_the_backlog_are_reset_and_so_are_those_beyond_all() {
    let mut end = with(Config {
        backlog: 2,
        streams: 3,
        ..Config::default()
    });
    end.receive(
        at(0),
        &[syn(1), syn(3), frame(0, SYN, 5, 2, b"hi")].concat(),
    );
    assert_eq!(end.transmit(at(0)).unwrap(), frame(1, RST, 5, 0, b""));
    end.accept(1);
    end.accept(1);
    end.accept(77);
    assert_eq!(end.transmit(at(0)).unwrap(), frame(1, ACK, 1, 0, b""));
    end.receive(at(0), &syn(7));
    end.accept(7);
    end.receive(at(0), &syn(9));
    assert_eq!(end.stats().refused, 2);
    assert_eq!(end.open(at(0)), Err(OpenError::TooMany));
    end.reset(3);
    assert_eq!(end.open(at(0)), Ok(2));
    assert_eq!(events(&mut end), [Event::Opened(1), Event::Opened(7)]);
}

#[test]
fn p119_no_more_are_opened_than_the_peer_may_have_to_accept() {
    let mut end = with(Config {
        backlog: 2,
        ..Config::default()
    });
    assert_eq!((end.open(at(0)), end.open(at(0))), (Ok(2), Ok(4)));
    assert_eq!(end.open(at(0)), Err(OpenError::TooMany));
    end.receive(at(0), &frame(0, ACK, 4, 1, b"x"));
    end.receive(at(0), &frame(1, ACK, 4, 0, b""));
    assert_eq!(end.open(at(0)), Ok(6));
    assert_eq!(end.open(at(0)), Err(OpenError::TooMany));
    // One that is gone is no longer waited for.
    end.receive(at(0), &frame(1, RST, 2, 0, b""));
    assert_eq!(end.open(at(0)), Ok(8));
}

#[test]
fn of_all_streams_the_one_that_holds_most_makes_room() {
    let mut end = with(Config {
        recv_total: 10_000,
        ..Config::default()
    });
    end.receive(at(0), &[syn(1), syn(3)].concat());
    assert_eq!(events(&mut end).len(), 2);
    end.receive(at(0), &frame(0, 0, 1, 8_000, &[0; 8_000]));
    end.receive(at(0), &frame(0, 0, 3, 2_000, &[0; 2_000]));
    assert_eq!((end.held_in(), end.streams()), (10_000, 2));
    end.receive(at(0), &frame(0, 0, 3, 1, b"x"));
    assert_eq!(end.held_in(), 2_001);
    assert_eq!(end.event(), Some(Event::Reset(1, ResetBy::Memory)));
    assert_eq!(end.transmit(at(0)).unwrap(), frame(1, RST, 1, 0, b""));
}

#[test]
fn what_a_peer_may_not_say_costs_its_stream() {
    for (flags, bytes, by) in [
        (FIN, frame(0, 0, 1, 1, b"x"), ResetBy::Fault),
        (0, frame(1, 0, 1, u32::MAX, b""), ResetBy::Fault),
    ] {
        let mut end = server();
        end.receive(at(0), &frame(0, SYN | flags, 1, 0, b""));
        events(&mut end);
        end.receive(at(0), &[bytes, syn(3)].concat());
        assert_eq!(events(&mut end), [Event::Reset(1, by), Event::Opened(3)]);
        assert_eq!(end.transmit(at(0)).unwrap(), frame(1, RST, 1, 0, b""));
    }
}

#[test]
fn p119_a_fin_may_come_with_a_grant_and_twice() {
    let mut end = server();
    end.receive(
        at(0),
        &[syn(1), frame(1, FIN, 1, 5, b""), frame(0, FIN, 1, 0, b"")].concat(),
    );
    assert_eq!(events(&mut end), [Event::Opened(1), Event::Finished(1)]);
}

#[test]
fn answers_that_nobody_takes_end_the_session() {
    let mut end = with(Config {
        control: 10,
        streams: 5,
        ..Config::default()
    });
    for _ in 0..15 {
        end.receive(at(0), &frame(2, SYN, 0, 1, b""));
    }
    assert!(!end.is_over());
    end.receive(at(0), &frame(2, SYN, 0, 1, b""));
    assert_eq!(events(&mut end), [Event::Ended(SessionError::Flood)]);
    assert_eq!(end.transmit(at(0)).unwrap(), frame(3, 0, 0, 1, b""));
    let config = Config {
        control: usize::MAX,
        ..Config::default()
    };
    let mut end = with(config);
    end.receive(at(0), &frame(2, SYN, 0, 1, b""));
    assert!(!end.is_over());
}

#[test]
fn who_leaves_takes_no_more_streams_and_keeps_those_it_has() {
    let mut pair = Pair::new();
    let id = pair.open();
    pair.server.go_away();
    pair.server.go_away();
    assert_eq!(pair.server.open(at(0)), Err(OpenError::Closed));
    let late = pair.client.open(at(0)).unwrap();
    pair.carry();
    let told = [Event::GoAway, Event::Reset(late, ResetBy::Peer)];
    assert_eq!(events(&mut pair.client), told);
    assert_eq!(pair.client.open(at(0)), Err(OpenError::Closed));
    pair.client.send(id, Bytes::from_static(b"on")).unwrap();
    pair.carry();
    assert_eq!(
        events(&mut pair.server),
        [Event::Data(id, Bytes::from_static(b"on"))]
    );
}

#[test]
fn p119_pings_are_asked_in_time_and_answered() {
    let mut end = Session::new(Role::Client, Config::default(), at(0));
    assert_eq!(end.deadline(), None);
    assert_eq!(end.transmit(at(0)).unwrap(), frame(2, SYN, 0, 0, b""));
    // Overdue, unless something else is heard.
    assert_eq!(end.deadline(), Some(at(30_000)));
    end.receive(at(10), &frame(2, ACK, 0, 1, b""));
    assert_eq!(end.deadline(), Some(at(30_010)));
    end.receive(at(20), &frame(2, ACK, 0, 0, b""));
    assert_eq!(end.keepalive.rtt(), Some(Duration::from_millis(20)));
    assert_eq!(end.deadline(), Some(at(30_000)));
    end.tick(at(29_999));
    assert!(!end.wants_transmit());
    end.tick(at(30_000));
    assert_eq!(end.transmit(at(30_001)).unwrap(), frame(2, SYN, 0, 1, b""));
    // An answer to an earlier one is none.
    end.receive(at(30_001), &frame(2, ACK, 0, 0, b""));
    assert_eq!(end.deadline(), Some(at(60_001)));
    end.tick(at(60_000));
    assert!(!end.is_over());
    end.tick(at(60_001));
    assert_eq!(events(&mut end), [Event::Ended(SessionError::Timeout)]);
    assert_eq!(end.transmit(at(60_001)).unwrap(), frame(3, 0, 0, 2, b""));
    assert_eq!(end.deadline(), None);
}

#[test]
fn bounds_that_make_no_sense_are_raised() {
    let config = Config {
        window: 0,
        streams: 0,
        backlog: 0,
        recv_total: 1 << 20,
        send_stream: 0,
        send_total: 0,
        control: 0,
        chunk: 0,
        keepalive: Duration::ZERO,
        timeout: Duration::ZERO,
    };
    let mut pair = Pair::with(config);
    let id = pair.open();
    pair.server.send(id, Bytes::from_static(b"hi")).unwrap();
    assert!(pair.server.send(id, Bytes::from_static(b"!")).is_err());
    pair.carry();
    assert_eq!(
        events(&mut pair.client),
        [Event::Data(id, Bytes::from_static(b"hi"))]
    );
    assert_eq!(events(&mut pair.server), [Event::Writable(id)]);
    assert_eq!(pair.server.deadline(), Some(at(1000)));
}

#[test]
fn p199_no_data_is_shown() {
    let shown = alloc::format!("{:?}", Event::Data(1, Bytes::from_static(b"hunter2")));
    assert_eq!(shown, "Data(1, 7 bytes)");
    let mut pair = Pair::new();
    let id = pair.open();
    pair.server
        .send(id, Bytes::from_static(b"hunter2"))
        .unwrap();
    assert!(!alloc::format!("{:?}", pair.server).contains("hunter"));
}
