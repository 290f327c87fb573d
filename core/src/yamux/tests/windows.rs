//! Windows: what may be under way, how it is granted, and how it grows.

use super::*;

const K: usize = 1 << 10;

fn data(len: usize) -> Bytes {
    vec![7; len].into()
}

/// Takes in what has come, and returns how much it was.
fn consume(end: &mut Session, now: Time) -> usize {
    let mut sum = 0;
    while let Some(event) = end.event() {
        if let Event::Data(id, data) = event {
            end.consumed(now, id, data.len());
            sum += data.len();
        }
    }
    sum
}

#[test]
fn p119_no_more_is_sent_than_the_window_and_the_rest_follows_the_grant() {
    let mut pair = Pair::new();
    let id = pair.open();
    let mut sent = 0;
    loop {
        match pair.server.send(id, data(32 * K)) {
            Ok(()) => sent += 32 * K,
            Err(SendError::Blocked(_)) => break,
            Err(other) => panic!("{other:?}"),
        }
        pair.carry();
    }
    // The window is at the client, and as much again waits here.
    assert_eq!(sent, 512 * K);
    assert_eq!(pair.client.held_in(), INITIAL_WINDOW);
    assert_eq!(pair.server.held_out(), 256 * K);
    assert_eq!(pair.server.stats().stalls, 1);
    let mut read = 0;
    loop {
        let more = consume(&mut pair.client, at(0));
        if more == 0 {
            break;
        }
        read += more;
        pair.carry();
    }
    assert_eq!(read, sent);
    assert_eq!(events(&mut pair.server), [Event::Writable(id)]);
    assert_eq!((pair.client.held_in(), pair.server.held_out()), (0, 0));
}

#[test]
fn a_window_that_holds_the_peer_up_grows_to_its_cap_and_one_that_does_not_stays() {
    for (ms, grown) in [(10, true), (1000, false)] {
        let mut pair = Pair::new();
        let id = pair.open();
        // The first ping took 20 ms.
        pair.client = Session::new(Role::Client, Config::default(), at(0));
        pair.server = Session::new(Role::Server, Config::default(), at(0));
        let ping = pair.client.transmit(at(0)).unwrap();
        pair.server.receive(at(10), &ping);
        let opened = pair.server.open(at(10)).unwrap();
        assert_eq!(opened, id);
        let pong = pair.server.transmit(at(10)).unwrap();
        pair.client.receive(at(20), &pong);
        pair.client.accept(id);
        pair.now = at(20);
        for _ in 0..200 {
            while pair.server.send(id, data(32 * K)).is_ok() {
                pair.carry();
            }
            pair.now = pair.now + Duration::from_millis(ms);
            consume(&mut pair.client, pair.now);
            pair.carry();
            events(&mut pair.server);
        }
        let window = pair.client.streams.get(&id).unwrap().window as usize;
        assert_eq!(window, if grown { 4 << 20 } else { INITIAL_WINDOW }, "{ms}");
    }
}

#[test]
fn p119_a_grant_comes_with_the_half_of_the_window_that_was_consumed() {
    let mut end = Session::new(Role::Server, Config::default(), at(0));
    end.transmit(at(0));
    let half = INITIAL_WINDOW as u32 / 2;
    let mut bytes = frame(0, SYN, 1, half - 1, &vec![0; half as usize - 1]);
    bytes.extend(frame(0, 0, 1, 1, b"x"));
    end.receive(at(0), &bytes);
    assert_eq!(events(&mut end).len(), 3);
    end.consumed(at(0), 1, half as usize - 1);
    assert!(!end.wants_transmit());
    end.consumed(at(0), 1, 1);
    assert_eq!(end.transmit(at(0)).unwrap(), frame(1, 0, 1, half, b""));
    assert!(!end.wants_transmit());
}

#[test]
fn a_window_grows_only_within_what_all_may_hold() {
    let mut end = Session::new(
        Role::Server,
        Config {
            recv_total: 3 * INITIAL_WINDOW,
            ..Config::default()
        },
        at(0),
    );
    end.transmit(at(0));
    end.receive(at(10), &frame(2, ACK, 0, 0, b""));
    let half = INITIAL_WINDOW / 2;
    let mut grants = Vec::new();
    for id in [1, 3] {
        end.receive(at(10), &frame(0, SYN, id, half as u32, &vec![0; half]));
        consume(&mut end, at(10));
    }
    // The first took what there was, the second is granted what it used.
    for id in [1, 3] {
        let more = if id == 1 { INITIAL_WINDOW } else { 0 };
        grants.extend(frame(1, 0, id, (half + more) as u32, b""));
    }
    assert_eq!(end.transmit(at(10)).unwrap(), grants);
    assert_eq!(end.windows, 3 * INITIAL_WINDOW);
    // What one gives back another may have.
    end.reset(1);
    assert_eq!(end.windows, INITIAL_WINDOW);
}

#[test]
fn tiny_pieces_are_granted_again_like_large_ones() {
    let mut pair = Pair::new();
    let id = pair.open();
    let mut read = 0;
    let mut sent = 0;
    for round in 0..400 {
        while sent < 300 * K && pair.server.send(id, data(100 + round)).is_ok() {
            sent += 100 + round;
        }
        pair.carry();
        read += consume(&mut pair.client, at(0));
        pair.carry();
        events(&mut pair.server);
    }
    assert!(read == sent && sent >= 300 * K, "{read} of {sent}");
}
