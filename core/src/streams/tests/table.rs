//! The table itself: who is in it, and its limits to the byte.

use super::*;

#[test]
fn it_counts_who_is_open_and_who_was() {
    let mut streams = Streams::<()>::new();
    assert!(streams.is_empty());
    let ids = open(&mut streams, 3);
    assert_eq!(streams.ids(), ids);
    assert_eq!((streams.len(), streams.opened), (3, 3));
    streams.remove(ids[1]);
    assert_eq!(streams.ids(), [ids[0], ids[2]]);
    assert!(!streams.is_empty());
    streams.ends(ids[0], Ending::Cancelled);
    streams.ends(ids[0], Ending::Complete);
    for id in [ids[0], ids[2]] {
        assert_eq!(streams.first(), Some(id));
        assert!(streams.remove(id).is_some());
    }
    assert!(streams.first().is_none());
    let stats = streams.add_to(Stats::default());
    let of = |ending: Ending| ending.of(&stats.streams_closed);
    assert_eq!((stats.streams_opened, stats.streams_open), (3, 0));
    assert_eq!(of(Ending::Cancelled), 1, "the first cause counts");
    assert_eq!(of(Ending::Failed), 2, "no end was noted");
    assert_eq!((streams.len(), streams.opened), (0, 3));
}

#[test]
fn streams_without_a_name_do_not_meet_under_it() {
    let mut streams = Streams::new();
    let first = streams.open("", (), &LIMITS).unwrap();
    let second = streams.open("", (), &LIMITS).unwrap();
    let named = streams.open("s", (), &LIMITS).unwrap();
    assert_eq!(streams.find(""), None);
    assert_eq!(streams.find("s"), Some(named));
    assert!(streams.remove(first).is_some() && streams.remove(second).is_some());
    assert_eq!(streams.find("s"), Some(named));
}

#[test]
fn what_is_said_of_a_stream_that_is_gone_changes_nothing() {
    let mut streams = Streams::new();
    let ids = open(&mut streams, 2);
    let gone = streams.remove(ids[0]).unwrap();
    assert_eq!(&*gone.name, "s0");
    streams.received(ids[1], 300, &LIMITS).unwrap();
    let data = Bytes::from_static(b"x");
    streams
        .enqueue(ids[1], Kind::Bytes, data.clone(), &LIMITS)
        .unwrap();
    assert!(streams.remove(ids[0]).is_none());
    assert_eq!(streams.received(ids[0], 5000, &LIMITS), Ok(()));
    assert_eq!(streams.consumed(ids[0], 300), None);
    let refused = streams.enqueue(ids[0], Kind::Bytes, data.clone(), &LIMITS);
    assert!(refused == Err(SendError::Closed(data)));
    streams.push(ids[0], Item::End);
    streams.limit(ids[0], 1);
    streams.grant(ids[0], 1);
    streams.local_over(ids[0]);
    assert!(!streams.clear(ids[0]));
    assert_eq!((streams.held_in, streams.held_out()), (300, 256));
    assert_eq!(framed(&mut streams), Some((ids[1].0, 1)));
    assert_eq!(framed(&mut streams), None);
    assert_eq!(streams.unblock(&LIMITS), None);
}

#[test]
fn a_stream_that_goes_or_is_cleared_takes_its_own_turn_with_it_and_no_other() {
    for clear in [false, true] {
        let mut streams = Streams::new();
        let ids = open(&mut streams, 3);
        for id in &ids {
            streams.push(*id, Item::End);
            streams.push(*id, Item::End);
        }
        if clear {
            assert!(!streams.clear(ids[1]), "nothing of it was refused");
        } else {
            streams.remove(ids[1]);
        }
        assert_eq!(streams.held_out(), 4 * 256);
        let order: Vec<_> = core::iter::from_fn(|| framed(&mut streams)).collect();
        assert_eq!(order, [(0, 0), (2, 0), (0, 0), (2, 0)]);
    }
}

#[test]
fn all_streams_together_hold_their_total_and_not_a_byte_more() {
    let mut streams = Streams::new();
    let ids = open(&mut streams, 3);
    assert_eq!(streams.received(ids[0], 1000, &LIMITS), Ok(()));
    assert_eq!(streams.received(ids[1], 748, &LIMITS), Ok(()));
    assert_eq!(streams.received(ids[2], 300, &LIMITS), Ok(()));
    assert_eq!(streams.held_in, 2048);
    streams.local_over(ids[2]);
    assert_eq!(streams.held_in, 1748);
    assert_eq!(streams.received(ids[2], 301, &LIMITS), Err(ids[0]));
    assert_eq!(streams.held_in, 2049);
}

#[test]
fn what_is_consumed_returns_no_more_than_was_charged() {
    let mut streams = Streams::new();
    let ids = open(&mut streams, 2);
    for id in &ids {
        streams.received(*id, 400, &LIMITS).unwrap();
        streams.received(*id, 1, &LIMITS).unwrap();
    }
    assert_eq!(streams.consumed(ids[0], 1), Some(256));
    assert_eq!(streams.held_in, 400 + 656);
    assert!(!streams.get(ids[0]).unwrap().is_consumed());
    assert_eq!(streams.consumed(ids[0], 5000), Some(400));
    assert!(streams.get(ids[0]).unwrap().is_consumed());
    assert_eq!(streams.consumed(ids[0], 300), Some(0), "told twice");
    assert_eq!(streams.held_in, 656, "the other's is its own");
}

#[test]
fn a_send_queue_takes_its_limit_and_not_a_byte_more() {
    for (second, fits) in [(724, true), (725, false)] {
        let mut streams = Streams::new();
        let id = open(&mut streams, 1)[0];
        let mut offer = |len| {
            let data = vec![0; len].into();
            streams.enqueue(id, Kind::Bytes, data, &LIMITS).is_ok()
        };
        assert!(offer(300));
        assert_eq!(offer(second), fits);
    }
}

#[test]
fn all_send_queues_together_take_what_begins_below_their_total() {
    let limits = Limits {
        send_total: 600,
        ..LIMITS
    };
    for (second, refused) in [(299, false), (300, true)] {
        let mut streams = Streams::new();
        let ids = open(&mut streams, 3);
        let mut offer = |id, len| {
            let data = vec![0; len].into();
            streams.enqueue(id, Kind::Bytes, data, &limits).is_err()
        };
        assert!(!offer(ids[0], 300) && !offer(ids[1], second));
        assert_eq!(offer(ids[2], 1), refused);
    }
}

#[test]
fn who_was_refused_is_woken_at_half_its_limit_and_below_the_total() {
    let limits = Limits {
        send_total: 1300,
        chunk: 1,
        ..LIMITS
    };
    let mut streams = Streams::new();
    let ids = open(&mut streams, 2);
    let fill = |streams: &mut Streams<()>, id, len| {
        let data = vec![0; len].into();
        streams.enqueue(id, Kind::Bytes, data, &limits)
    };
    fill(&mut streams, ids[0], 514).unwrap();
    fill(&mut streams, ids[1], 786).unwrap();
    fill(&mut streams, ids[0], 512).unwrap_err();
    assert_eq!(streams.unblock(&limits), None, "the total is reached");
    streams.framed(&limits).unwrap();
    assert_eq!(streams.get(ids[0]).unwrap().held_out, 513);
    assert_eq!(streams.unblock(&limits), None, "more than half");
    streams.framed(&limits).unwrap();
    streams.framed(&limits).unwrap();
    assert_eq!(streams.get(ids[0]).unwrap().held_out, 512);
    assert_eq!(streams.unblock(&limits), Some(ids[0]));
    assert_eq!(streams.unblock(&limits), None, "once");
}

#[test]
fn who_is_woken_is_not_refused_again() {
    let limits = Limits {
        chunk: 100,
        ..LIMITS
    };
    // Without a window, and with one.
    for (granted, first, refused) in [(None, 300, 900), (Some(1000), 300, 800)] {
        let mut streams = Streams::new();
        let id = open(&mut streams, 1)[0];
        if let Some(granted) = granted {
            streams.limit(id, granted);
        }
        let offer = |streams: &mut Streams<()>, len| {
            let data = vec![0; len].into();
            streams.enqueue(id, Kind::Bytes, data, &limits)
        };
        offer(&mut streams, first).unwrap();
        offer(&mut streams, refused).unwrap_err();
        while streams.unblock(&limits).is_none() {
            streams.framed(&limits).expect("it is never woken");
        }
        offer(&mut streams, refused).expect("it was woken too early");
    }
}

#[test]
fn one_that_goes_first_is_not_woken_before_those_that_wait_longer() {
    let mut streams = Streams::new();
    let ids = open(&mut streams, 3);
    let refuse = |streams: &mut Streams<()>, id| {
        let data = Bytes::from(vec![0; 2000]);
        while streams
            .enqueue(id, Kind::Bytes, data.clone(), &LIMITS)
            .is_ok()
        {}
    };
    for id in &ids {
        refuse(&mut streams, *id);
    }
    while framed(&mut streams).is_some() {}
    let mut woken = Vec::new();
    for _ in 0..6 {
        let id = streams.unblock(&LIMITS).unwrap();
        woken.push(id.0);
        refuse(&mut streams, id);
        while framed(&mut streams).is_some() {}
    }
    assert_eq!(woken, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_window_that_is_spent_to_the_byte_waits_and_one_byte_sends() {
    let mut streams = Streams::new();
    let id = open(&mut streams, 1)[0];
    streams.limit(id, 256);
    let data = Bytes::from(vec![0; 600]);
    let offer = |streams: &mut Streams<()>| {
        let limits = Limits {
            chunk: 256,
            ..LIMITS
        };
        streams
            .enqueue(id, Kind::Bytes, data.clone(), &limits)
            .unwrap();
        core::iter::from_fn(|| streams.framed(&limits)).count()
    };
    assert_eq!(offer(&mut streams), 1);
    assert!(!streams.wants_send());
    assert!(streams.get(id).unwrap().owes_frames());
    streams.grant(id, 1);
    assert!(streams.wants_send());
    assert_eq!(framed(&mut streams), Some((0, 1)), "one byte, charged 256");
    assert!(!streams.wants_send());
}

#[test]
fn a_stream_without_a_window_is_granted_nothing() {
    let mut streams = Streams::new();
    let id = open(&mut streams, 1)[0];
    streams.grant(id, 1000);
    assert!(!streams.wants_send() && streams.unblock(&LIMITS).is_none());
    let data = Bytes::from(vec![0; 10]);
    streams.enqueue(id, Kind::Bytes, data, &LIMITS).unwrap();
    assert_eq!(framed(&mut streams), Some((0, 10)));
}

#[test]
fn who_was_refused_and_is_cleared_is_told_so() {
    let mut streams = Streams::new();
    let id = open(&mut streams, 1)[0];
    let data = Bytes::from(vec![0; 1000]);
    streams
        .enqueue(id, Kind::Bytes, data.clone(), &LIMITS)
        .unwrap();
    streams.enqueue(id, Kind::Bytes, data, &LIMITS).unwrap_err();
    assert!(streams.clear(id));
    assert!(!streams.clear(id), "it is not told twice");
    assert!(!streams.get(id).unwrap().owes_frames());
    assert_eq!(streams.unblock(&LIMITS), None);
}

#[test]
fn p153_streams_that_wait_for_grants_leave_room_to_all_others() {
    let limits = Limits {
        streams: 40,
        chunk: 100,
        send_stream: 1000,
        send_total: 20_000,
        ..LIMITS
    };
    let mut streams = Streams::new();
    let offer = |streams: &mut Streams<()>, id| {
        let data = vec![0; 100].into();
        streams.enqueue(id, Kind::Bytes, data, &limits).is_ok()
    };
    for name in 0..30 {
        let id = streams.open(&format!("s{name}"), (), &limits).unwrap();
        streams.limit(id, 300);
        let took = |streams: &mut Streams<()>| {
            let took = core::iter::from_fn(|| offer(streams, id).then_some(())).count();
            while streams.framed(&limits).is_some() {}
            took
        };
        while took(&mut streams) > 0 {}
        let held = streams.get(id).unwrap().held_out;
        assert!(held <= 256, "more than one piece waits: {held} bytes");
    }
    let other = streams.open("other", (), &limits).unwrap();
    assert!(offer(&mut streams, other));
}
