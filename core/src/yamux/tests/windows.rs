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
