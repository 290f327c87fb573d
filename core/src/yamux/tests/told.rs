//! What is told, what waits until it is asked for, and within which bounds.

use super::*;

/// Frames that a peer wrote, in a row.
fn say(end: &mut Session, frames: &[Vec<u8>]) {
    end.receive(at(0), &frames.concat());
}

#[test]
fn a_session_whose_events_nobody_takes_grows_no_more() {
    let mut end = Session::new(Role::Server, Config::default(), at(0));
    for id in 0..20_000 {
        let id = 2 * id + 1;
        say(
            &mut end,
            &[
                frame(0, SYN, id, 1, b"x"),
                frame(0, FIN, id, 1, b"y"),
                frame(1, RST, id, 0, b""),
            ],
        );
        end.accept(id);
    }
    assert!(!end.is_over());
    assert_eq!((end.streams(), end.held_in()), (0, 0));
    let lists = [
        end.ready.len(),
        end.turn.len(),
        end.roomy.len(),
        end.events.len(),
    ];
    assert_eq!(lists, [0; 4]);
    // Nobody heard of them.
    assert_eq!(end.event(), None);
    let ping = end.transmit(at(0)).unwrap();
    assert_eq!((ping.len(), end.transmit(at(0))), (12, None));
}

#[test]
fn an_acceptance_that_is_too_late_is_not_written() {
    let mut end = Session::new(Role::Server, Config::default(), at(0));
    end.transmit(at(0));
    for id in 0..100 {
        say(&mut end, &[frame(1, SYN, 2 * id + 1, 0, b"")]);
    }
    assert_eq!(events(&mut end).len(), 100);
    for id in 0..100 {
        end.accept(2 * id + 1);
        say(&mut end, &[frame(1, RST, 2 * id + 1, 0, b"")]);
    }
    assert!(!end.wants_transmit());
    assert_eq!(events(&mut end).len(), 100);
}

#[test]
fn grants_that_are_no_longer_due_do_not_hide_what_follows() {
    let mut end = Session::new(Role::Server, Config::default(), at(0));
    end.transmit(at(0));
    let half = INITIAL_WINDOW / 2;
    for id in (1..=257).step_by(2) {
        say(
            &mut end,
            &[
                frame(1, SYN, id, 0, b""),
                frame(0, 0, id, half as u32, &vec![0; half]),
            ],
        );
        while let Some(event) = end.event() {
            if let Event::Data(id, data) = event {
                end.consumed(at(0), id, data.len());
            }
        }
        say(&mut end, &[frame(0, FIN, id, 0, b"")]);
    }
    assert_eq!(events(&mut end), [Event::Finished(257)]);
    end.send(1, Bytes::from_static(b"hello")).unwrap();
    // 129 grants are void, and more than go out at once.
    let bytes = end.transmit(at(0)).unwrap();
    assert_eq!(bytes, [frame(0, 0, 1, 5, b"hello")].concat());
    assert!(!end.wants_transmit() && end.transmit(at(0)).is_none());
}

#[test]
fn a_stream_that_went_before_it_was_told_is_not_told() {
    let mut end = Session::new(Role::Server, Config::default(), at(0));
    say(
        &mut end,
        &[frame(1, SYN, 1, 0, b""), frame(1, SYN, 3, 0, b"")],
    );
    assert_eq!(end.event(), Some(Event::Opened(1)));
    say(
        &mut end,
        &[frame(1, RST, 1, 0, b""), frame(1, RST, 3, 0, b"")],
    );
    assert_eq!(events(&mut end), [Event::Reset(1, ResetBy::Peer)]);
    assert_eq!(end.stats().resets, 2);
}

#[test]
fn small_pieces_are_joined_while_nobody_reads_and_charged_at_once() {
    let mut end = Session::new(Role::Server, Config::default(), at(0));
    say(&mut end, &[frame(1, SYN, 1, 0, b"")]);
    for _ in 0..300 {
        say(&mut end, &[frame(0, 0, 1, 1, b"x")]);
    }
    assert_eq!(end.held_in(), 300);
    say(
        &mut end,
        &[
            frame(0, 0, 1, 40_000, &vec![b'x'; 40_000]),
            frame(0, FIN, 1, 1, b"x"),
        ],
    );
    // The third piece is alone, and charged as every piece at least.
    assert_eq!(end.held_in(), 40_300 + Limits::MIN_CHARGE);
    let lens: Vec<_> = events(&mut end)
        .iter()
        .map(|event| match event {
            Event::Opened(_) => -1,
            Event::Data(_, data) => data.len() as isize,
            Event::Finished(_) => -2,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lens, [-1, 300, 40_000, 1, -2]);
    assert_eq!(end.held_in(), 40_300 + Limits::MIN_CHARGE);
    end.consumed(at(0), 1, 300);
    end.consumed(at(0), 1, 40_000);
    assert_eq!(end.held_in(), Limits::MIN_CHARGE);
    end.finish(1);
    while end.transmit(at(0)).is_some() {}
    assert_eq!(end.event(), None);
    end.consumed(at(0), 1, 1);
    assert_eq!(events(&mut end), [Event::Over(1)]);
}

#[test]
fn what_is_handed_over_waits_for_the_local_end_to_read() {
    let mut end = Session::new(Role::Server, Config::default(), at(0));
    let piece = vec![0; 64 << 10];
    say(&mut end, &[frame(1, SYN, 1, 0, b"")]);
    for flags in [0, 0, FIN] {
        say(&mut end, &[frame(0, flags, 1, piece.len() as u32, &piece)]);
    }
    let data = || Event::Data(1, Bytes::from(vec![0; 64 << 10]));
    // So much ahead, and no more.
    assert_eq!(events(&mut end), [Event::Opened(1), data(), data()]);
    end.consumed(at(0), 1, piece.len());
    assert_eq!(events(&mut end), [data(), Event::Finished(1)]);
}

#[test]
fn streams_are_told_in_turn() {
    let mut end = Session::new(Role::Server, Config::default(), at(0));
    let piece = vec![0; 40_000];
    for id in [1, 3] {
        say(&mut end, &[frame(1, SYN, id, 0, b"")]);
        for _ in 0..3 {
            say(&mut end, &[frame(0, 0, id, piece.len() as u32, &piece)]);
        }
    }
    let ids = ids_of(&events(&mut end));
    assert_eq!(ids, [1, 3, 1, 3, 1, 3, 1, 3]);
}

#[test]
fn a_stream_whose_fin_was_not_told_is_not_over() {
    let mut pair = Pair::new();
    let id = pair.open();
    pair.client.finish(id);
    pair.server.finish(id);
    pair.carry();
    assert_eq!((pair.client.streams(), pair.server.streams()), (1, 1));
    for end in [&mut pair.client, &mut pair.server] {
        assert_eq!(events(end), [Event::Finished(id), Event::Over(id)]);
    }
}

#[test]
fn a_reset_here_is_told_there_and_not_here() {
    let mut pair = Pair::new();
    let id = pair.open();
    pair.client.send(id, Bytes::from_static(b"lost")).unwrap();
    pair.client.reset(id);
    pair.carry();
    assert_eq!(events(&mut pair.client), []);
    assert_eq!(events(&mut pair.server), [Event::Reset(id, ResetBy::Peer)]);
    assert_eq!((pair.client.held_out(), pair.client.streams()), (0, 0));
    // What is on its way to a stream that is gone is nobody's fault.
    let id = pair.open();
    pair.server.send(id, Bytes::from_static(b"late")).unwrap();
    pair.client.reset(id);
    let late = pair.server.transmit(at(0)).unwrap();
    pair.client.receive(at(0), &late);
    assert_eq!(
        (events(&mut pair.client), pair.client.stats().stale),
        (vec![], 1)
    );
}

#[test]
fn a_stream_that_was_opened_and_reset_at_once_is_never_heard_of() {
    let mut pair = Pair::new();
    let id = pair.server.open(at(0)).unwrap();
    pair.server.send(id, Bytes::from_static(b"x")).unwrap();
    pair.server.reset(id);
    pair.carry();
    assert_eq!(pair.server.open(at(0)), Ok(id + 2));
    pair.carry();
    assert_eq!(events(&mut pair.client), [Event::Opened(id + 2)]);
}
