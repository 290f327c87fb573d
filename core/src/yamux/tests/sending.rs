//! Who may send: queues that are full, turns, and what goes first.

use super::*;

const K: usize = 1 << 10;

fn data(len: usize) -> Bytes {
    vec![7; len].into()
}

fn blocked(outcome: Result<(), SendError>) -> bool {
    matches!(outcome, Err(SendError::Blocked(_)))
}

/// The streams of the frames in these bytes.
fn ids(bytes: &[u8]) -> Vec<u32> {
    let mut ids = Vec::new();
    let mut rest = bytes;
    while let Some((header, after)) = rest.split_first_chunk() {
        let header = Header::decode(*header).unwrap();
        let len = if header.kind == Kind::Data {
            header.length as usize
        } else {
            0
        };
        ids.push(header.stream);
        rest = &after[len..];
    }
    ids
}

#[test]
fn a_piece_of_more_than_half_the_queue_is_told_writable_once_it_fits() {
    let mut pair = Pair::new();
    let id = pair.open();
    pair.server.send(id, data(100 * K)).unwrap();
    assert!(blocked(pair.server.send(id, data(200 * K))));
    // Half of the queue is free, but not enough of it.
    assert_eq!(pair.server.event(), None);
    while pair.server.held_out() > 56 * K {
        assert_eq!(pair.server.event(), None);
        pair.server.transmit(at(0));
    }
    assert_eq!(pair.server.event(), Some(Event::Writable(id)));
    pair.server.send(id, data(200 * K)).unwrap();
    assert_eq!(pair.server.event(), None);
}

#[test]
fn a_refused_end_is_woken_when_half_of_its_queue_is_free() {
    let mut pair = Pair::new();
    let id = pair.open();
    pair.server.send(id, data(256 * K)).unwrap();
    assert!(blocked(pair.server.send(id, data(1))));
    while pair.server.held_out() > 128 * K {
        assert_eq!(pair.server.event(), None);
        pair.server.transmit(at(0));
    }
    assert_eq!(pair.server.event(), Some(Event::Writable(id)));
}

#[test]
fn a_piece_larger_than_the_queue_goes_when_it_is_empty() {
    let mut pair = Pair::new();
    let id = pair.open();
    pair.server.send(id, data(1)).unwrap();
    assert!(blocked(pair.server.send(id, data(300 * K))));
    assert_eq!(pair.server.event(), None);
    pair.server.transmit(at(0));
    assert_eq!(pair.server.event(), Some(Event::Writable(id)));
    pair.server.send(id, data(300 * K)).unwrap();
}

#[test]
fn at_the_limit_of_all_streams_those_that_were_refused_have_their_turn() {
    let mut pair = Pair::with(Config {
        send_total: 64 * K,
        ..Config::default()
    });
    let [one, two, three] = [pair.open(), pair.open(), pair.open()];
    pair.server.send(two, data(64 * K)).unwrap();
    for id in [three, one, two] {
        assert!(blocked(pair.server.send(id, data(64 * K))));
    }
    assert_eq!(pair.server.event(), None);
    for id in [three, one, two, three] {
        while pair.server.transmit(at(0)).is_some() {}
        // In the order in which they were refused, and not the lowest first.
        assert_eq!(pair.server.event(), Some(Event::Writable(id)));
        pair.server.send(id, data(64 * K)).unwrap();
        assert_eq!(pair.server.event(), None);
        assert!(blocked(pair.server.send(id, data(64 * K))));
    }
}

#[test]
fn who_has_finished_or_is_gone_is_not_told_writable() {
    let mut pair = Pair::new();
    let [one, two, three] = [pair.open(), pair.open(), pair.open()];
    for id in [one, two, three] {
        pair.server.send(id, data(256 * K)).unwrap();
        assert!(blocked(pair.server.send(id, data(1))));
    }
    pair.server.finish(one);
    pair.server.reset(two);
    while pair.server.transmit(at(0)).is_some() {}
    assert_eq!(events(&mut pair.server), [Event::Writable(three)]);
}

#[test]
fn nothing_is_nothing_to_send() {
    let mut pair = Pair::new();
    let id = pair.open();
    pair.server.send(id, Bytes::new()).unwrap();
    assert!(!pair.server.wants_transmit());
}

#[test]
fn floods_take_turns_and_a_keystroke_waits_for_one_chunk_of_each() {
    let mut pair = Pair::new();
    let floods = [pair.open(), pair.open(), pair.open()];
    let typed = pair.open();
    for id in floods {
        pair.server.send(id, data(200 * K)).unwrap();
    }
    assert_eq!(ids(&pair.server.transmit(at(0)).unwrap()), [floods[0]]);
    pair.server.send(typed, data(1)).unwrap();
    let order: Vec<_> = (0..5)
        .flat_map(|_| ids(&pair.server.transmit(at(0)).unwrap()))
        .collect();
    assert_eq!(order, [floods[1], floods[2], floods[0], typed, floods[1]]);
}

#[test]
fn answers_and_grants_go_before_data() {
    let mut pair = Pair::new();
    let id = pair.open();
    let other = pair.open();
    pair.server.send(id, data(200 * K)).unwrap();
    pair.server.receive(at(0), &frame(2, SYN, 0, 77, b""));
    pair.server.receive(at(0), &frame(1, SYN, 1, 0, b""));
    pair.server.accept(1);
    pair.server.reset(other);
    let bytes = pair.server.transmit(at(0)).unwrap();
    assert_eq!(bytes[..12], frame(2, ACK, 0, 77, b""));
    assert_eq!(bytes[12..24], frame(1, RST, other, 0, b""));
    assert_eq!(bytes[24..36], frame(1, ACK, 1, 0, b""));
    assert_eq!(ids(&bytes), [0, other, 1, id]);
}

#[test]
fn many_answers_go_in_batches_and_no_data_before_its_stream_is_open() {
    let mut pair = Pair::new();
    pair.carry();
    let opened: Vec<u32> = (0..65).map(|_| pair.server.open(at(0)).unwrap()).collect();
    pair.server.send(opened[64], data(1)).unwrap();
    let one = ids(&pair.server.transmit(at(0)).unwrap());
    assert_eq!(one, opened[..64]);
    let two = ids(&pair.server.transmit(at(0)).unwrap());
    assert_eq!(two, [opened[64], opened[64]]);
}

#[test]
fn p119_a_fin_is_a_frame_of_its_own_after_the_last_data() {
    let mut pair = Pair::new();
    let id = pair.open();
    pair.server.send(id, data(40 * K)).unwrap();
    pair.server.finish(id);
    pair.server.finish(id);
    let one = pair.server.transmit(at(0)).unwrap();
    assert_eq!(one.len(), 12 + 32 * K);
    let two = pair.server.transmit(at(0)).unwrap();
    assert_eq!(two.len(), 24 + 8 * K);
    assert_eq!(two[12 + 8 * K..], frame(0, FIN, id, 0, b""));
    assert_eq!(pair.server.transmit(at(0)), None);
}

#[test]
fn a_fin_needs_no_window_and_waits_for_the_data_before_it() {
    let mut pair = Pair::new();
    let id = pair.open();
    for _ in 0..4 {
        pair.server.send(id, data(64 * K)).unwrap();
        pair.carry();
    }
    pair.server.send(id, data(1)).unwrap();
    pair.server.finish(id);
    assert_eq!(pair.server.transmit(at(0)), None);
    pair.server.receive(at(0), &frame(1, 0, id, 1, b""));
    let last = pair.server.transmit(at(0)).unwrap();
    assert_eq!(
        last,
        [frame(0, 0, id, 1, &[7]), frame(0, FIN, id, 0, b"")].concat()
    );
    let mut pair = Pair::new();
    let id = pair.open();
    for _ in 0..4 {
        pair.server.send(id, data(64 * K)).unwrap();
        pair.carry();
    }
    pair.server.finish(id);
    assert_eq!(
        pair.server.transmit(at(0)).unwrap(),
        frame(0, FIN, id, 0, b"")
    );
}

#[test]
fn a_stall_is_counted_once_until_it_is_over() {
    let mut pair = Pair::new();
    let id = pair.open();
    for _ in 0..4 {
        pair.server.send(id, data(64 * K)).unwrap();
        pair.carry();
    }
    assert_eq!(pair.server.stats().stalls, 0);
    pair.server.send(id, data(1)).unwrap();
    pair.server.send(id, data(1)).unwrap();
    assert_eq!(pair.server.stats().stalls, 1);
    pair.server.receive(at(0), &frame(1, 0, id, 0, b""));
    pair.server.send(id, data(1)).unwrap();
    assert_eq!(pair.server.stats().stalls, 1);
    pair.server.receive(at(0), &frame(1, 0, id, 1, b""));
    pair.carry();
    assert_eq!(pair.server.stats().stalls, 2);
}
