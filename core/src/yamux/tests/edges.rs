//! Edges: the last id, the longest length, full lists, and a thousand streams in each way to end.

use super::*;

const K: usize = 1 << 10;

fn server() -> Session {
    let mut end = Session::new(Role::Server, Config::default(), at(0));
    end.transmit(at(0));
    end
}

fn with_total(recv_total: usize) -> Session {
    let config = Config {
        recv_total,
        ..Config::default()
    };
    Session::new(Role::Server, config, at(0))
}

#[test]
fn p119_ids_are_used_up_to_the_last_and_not_again() {
    for (role, last) in [(Role::Client, u32::MAX), (Role::Server, u32::MAX - 1)] {
        let mut end = Session::new(role, Config::default(), at(0));
        end.next = Some(last);
        assert_eq!(end.open(at(0)), Ok(last));
        assert_eq!(end.open(at(0)), Err(OpenError::Closed));
        assert!(end.reset(last));
        assert_eq!(end.open(at(0)), Err(OpenError::Closed));
    }
}

#[test]
fn gaps_between_ids_are_kept_up_to_a_bound_and_the_oldest_go_first() {
    let mut ids = PeerIds::new(Role::Server);
    // Each gap is three wide: 8n + 1, 8n + 3 and 8n + 5.
    for n in 0..256 {
        assert!(ids.take(8 * n + 7));
    }
    // The end and the beginning of one leave no more than there were.
    assert!(ids.take(8 * 100 + 5) && ids.take(8 * 101 + 1));
    assert!(ids.take(1) && !ids.take(1));
    // The middle leaves two, and the oldest goes.
    assert!(ids.take(8 * 200 + 3));
    assert!(!ids.take(3) && !ids.take(5) && ids.take(8 + 1));
}

#[test]
fn p119_a_length_that_nobody_can_mean_costs_its_stream_and_no_memory() {
    let mut end = server();
    let bytes = [
        frame(1, SYN, 1, 0, b""),
        frame(0, 0, 1, u32::MAX, &[0; 100]),
    ];
    end.receive(at(0), &bytes.concat());
    assert_eq!((end.streams(), end.held_in(), end.event()), (0, 0, None));
    // All that was announced belongs to it, whatever it looks like.
    end.receive(at(0), &[9; 1000]);
    assert!(!end.is_over());
    assert_eq!((end.stats().stale, end.stats().opened), (0, 1));
}

#[test]
fn p119_one_byte_more_than_the_window_is_too_much_and_all_of_it_is_not() {
    for more in [0, 1] {
        let mut end = server();
        end.receive(at(0), &frame(1, SYN, 1, 0, b""));
        end.event();
        let all = vec![0; INITIAL_WINDOW];
        end.receive(at(0), &frame(0, 0, 1, INITIAL_WINDOW as u32, &all));
        end.receive(at(0), &frame(0, 0, 1, more, &vec![0; more as usize]));
        assert_eq!(end.streams(), 1 - more as usize);
        // What is granted again may be sent again, to the byte.
        let mut read = 0;
        while let Some(event) = end.event() {
            if let Event::Data(id, data) = event {
                read += data.len();
                end.consumed(at(0), id, data.len());
            }
        }
        if more == 0 {
            assert_eq!(read, INITIAL_WINDOW);
            while end.transmit(at(0)).is_some() {}
            let stream = end.streams.get(&1).unwrap();
            assert_eq!(
                (stream.left, stream.window),
                (all.len() as u32, all.len() as u32)
            );
        }
    }
}

#[test]
fn p119_a_frame_without_data_is_told_to_nobody_and_holds_nothing() {
    let mut end = server();
    end.receive(at(0), &frame(1, SYN, 1, 0, b""));
    assert_eq!(end.event(), Some(Event::Opened(1)));
    for _ in 0..1000 {
        end.receive(at(0), &[frame(0, 0, 1, 0, b""), vec![0]].concat());
        end.receive(at(0), &frame(0, 0, 1, 0, b"")[1..]);
    }
    assert_eq!((end.event(), end.held_in(), end.streams()), (None, 0, 1));
}

#[test]
fn a_window_takes_all_that_is_left_of_what_all_may_hold() {
    for (less, window) in [(0, 2 * INITIAL_WINDOW), (1, INITIAL_WINDOW)] {
        let mut end = with_total(2 * INITIAL_WINDOW - less);
        end.transmit(at(0));
        end.receive(at(0), &frame(2, ACK, 0, 0, b""));
        let half = vec![0; INITIAL_WINDOW / 2];
        end.receive(at(0), &frame(0, SYN, 1, half.len() as u32, &half));
        assert_eq!(events(&mut end).len(), 2);
        end.consumed(at(0), 1, half.len());
        assert_eq!(end.windows, window);
    }
}

#[test]
fn p119_nothing_heard_is_no_sign_of_life() {
    let mut end = Session::new(Role::Server, Config::default(), at(0));
    end.transmit(at(0));
    end.receive(at(10), b"");
    assert_eq!(end.deadline(), Some(at(30_000)));
    end.receive(at(10), b"\0");
    assert_eq!(end.deadline(), Some(at(30_010)));
    // A clock that was set back makes nobody late.
    end.receive(at(5), b"\0");
    assert_eq!(end.deadline(), Some(at(30_010)));
}

#[test]
fn what_ends_with_the_session_is_counted() {
    let mut end = server();
    end.receive(at(0), &frame(1, SYN, 1, 0, b""));
    end.open(at(0)).unwrap();
    end.receive(at(0), &[1; 12]);
    assert_eq!((end.stats().lost, end.stats().opened), (2, 2));
}

#[test]
fn resets_are_counted_by_who_is_at_fault() {
    let mut end = with_total(1000);
    let window = INITIAL_WINDOW as u32;
    for id in [1, 3, 5, 7, 9] {
        end.receive(at(0), &frame(1, SYN, id, 0, b""));
    }
    for bytes in [
        frame(1, RST, 1, 0, b""),
        frame(0, 0, 3, window + 1, &vec![0; INITIAL_WINDOW + 1]),
        frame(1, 0, 5, u32::MAX, b""),
        frame(0, 0, 7, 1001, &[0; 1001]),
    ] {
        end.receive(at(0), &bytes);
    }
    end.reset(9);
    let stats = end.stats();
    let at_fault = (stats.resets_by_peer, stats.resets_for_faults);
    assert_eq!((at_fault, stats.resets_for_memory), ((1, 2), 1));
    assert_eq!((stats.resets, stats.opened, end.streams()), (5, 5, 0));
}

#[test]
fn a_window_never_grows_beyond_what_a_grant_can_say() {
    let config = Config {
        window: usize::MAX,
        ..Config::default()
    };
    assert_eq!(config.checked().window, u32::MAX as usize / 2);
    let config = Config {
        control: 0,
        chunk: usize::MAX,
        ..config
    };
    let checked = config.checked();
    assert_eq!((checked.control, checked.chunk), (1, u32::MAX as usize));
}

#[test]
fn a_stream_that_waits_for_its_reader_hides_no_other() {
    let mut end = server();
    let piece = vec![0; 64 * K];
    end.receive(at(0), &frame(1, SYN, 1, 0, b""));
    for _ in 0..3 {
        end.receive(at(0), &frame(0, 0, 1, piece.len() as u32, &piece));
    }
    end.receive(at(0), &frame(0, SYN, 3, 1, b"x"));
    let ids = ids_of(&events(&mut end));
    assert_eq!(ids, [1, 3, 1, 3, 1]);
    // It has more now, and is asked for before the other.
    end.receive(at(0), &frame(0, 0, 1, 1, b"x"));
    end.receive(at(0), &frame(0, 0, 3, 1, b"y"));
    let other = Event::Data(3, Bytes::from_static(b"y"));
    assert_eq!(events(&mut end), [other]);
}

#[test]
fn p119_who_leaves_says_so_once() {
    let mut end = server();
    end.go_away();
    assert_eq!(end.transmit(at(0)).unwrap(), frame(3, 0, 0, 0, b""));
    end.go_away();
    assert_eq!(end.transmit(at(0)), None);
}

#[test]
fn pieces_are_joined_up_to_a_block_and_no_further() {
    let mut end = server();
    end.receive(at(0), &frame(1, SYN, 1, 0, b""));
    for len in [20_000, 32 * K - 20_000, 1] {
        end.receive(at(0), &frame(0, 0, 1, len as u32, &vec![0; len]));
    }
    assert_eq!(end.held_in(), 32 * K + Limits::MIN_CHARGE);
    let lens = events(&mut end)
        .into_iter()
        .filter_map(|event| match event {
            Event::Data(_, data) => Some(data.len()),
            _ => None,
        });
    assert_eq!(lens.collect::<Vec<_>>(), [32 * K, 1]);
}

#[test]
fn room_for_data_is_there_until_all_that_waits_reaches_its_bound() {
    let mut pair = Pair::with(Config {
        send_total: 1000,
        ..Config::default()
    });
    let id = pair.open();
    for (len, more) in [(600, true), (400, false)] {
        pair.server.send(id, vec![0; len].into()).unwrap();
        assert_eq!(pair.server.takes_data(), more);
    }
}

/// Every table, list and account.
fn left(end: &Session) -> [usize; 12] {
    [
        end.streams.len(),
        end.backlog,
        end.unacknowledged,
        end.events.len(),
        end.ready.len(),
        end.turn.len(),
        end.roomy.len(),
        end.held_in,
        end.held_out,
        end.windows,
        end.control.len(),
        usize::from(end.wants_transmit()),
    ]
}

#[test]
fn nothing_is_kept_of_thousands_of_streams_however_they_end() {
    type Way = fn(&mut Pair, u32);
    let ways: [(&str, Way); 7] = [
        ("finished by both", |pair, id| {
            pair.server.finish(id);
            pair.client.finish(id);
        }),
        ("reset by who opened", |pair, id| {
            pair.server.reset(id);
        }),
        ("reset by the other", |pair, id| {
            pair.client.reset(id);
        }),
        ("reset by both at once", |pair, id| {
            pair.server.reset(id);
            pair.client.reset(id);
        }),
        ("reset with a refused piece", |pair, id| {
            let full = pair.server.send(id, vec![0; 300 * K].into());
            assert!(matches!(full, Err(SendError::Blocked(_))));
            pair.server.reset(id);
        }),
        ("finished, then reset", |pair, id| {
            pair.server.finish(id);
            pair.carry();
            pair.client.reset(id);
        }),
        ("data after its end", |pair, id| {
            pair.server.finish(id);
            pair.carry();
            pair.client.receive(at(0), &frame(0, 0, id, 1, b"x"));
        }),
    ];
    for (name, way) in ways {
        let mut pair = Pair::new();
        for _ in 0..1000 {
            let id = pair.open();
            pair.server.send(id, vec![0; 100].into()).unwrap();
            pair.client.send(id, vec![0; 100].into()).unwrap();
            way(&mut pair, id);
            for _ in 0..2 {
                pair.carry();
                for end in [&mut pair.client, &mut pair.server] {
                    while let Some(event) = end.event() {
                        if let Event::Data(id, data) = event {
                            end.consumed(at(0), id, data.len());
                        }
                    }
                }
            }
        }
        for end in [&pair.client, &pair.server] {
            assert!(!end.is_over(), "{name}");
            assert_eq!(left(end), [0; 12], "{name}");
            let stats = end.stats();
            assert_eq!(stats.finished + stats.resets, 1000, "{name}");
            assert_eq!(stats.finished > 0, name == "finished by both", "{name}");
        }
    }
}
