mod items;
mod table;

use alloc::{format, string::ToString, vec, vec::Vec};

use super::*;

const LIMITS: Limits = Limits {
    streams: 3,
    chunk: 10,
    send_stream: 1024,
    send_total: 4096,
    recv_stream: 1024,
    recv_total: 2048,
    ..Limits::agent()
};

impl<T> Streams<T> {
    /// Whether no trace is left of any stream, the counts of them aside.
    pub(crate) fn holds_nothing(&self) -> bool {
        self.by_id.is_empty()
            && self.by_name.is_empty()
            && self.turn.is_empty()
            && self.blocked.is_empty()
            && self.changed.is_empty()
            && (self.held_in, self.held_out) == (0, 0)
    }
}

fn open(streams: &mut Streams<()>, count: usize) -> Vec<StreamId> {
    (0..count)
        .map(|i| streams.open(&format!("s{i}"), (), &LIMITS).unwrap())
        .collect()
}

fn framed(streams: &mut Streams<()>) -> Option<(u64, usize)> {
    let turn = streams.framed(&LIMITS)?;
    match turn.item {
        Item::Data(data) => Some((turn.id.0, data.len())),
        _ => Some((turn.id.0, 0)),
    }
}

#[test]
fn p171_a_name_is_taken_once_and_free_again_later() {
    let mut streams = Streams::new();
    let ids = open(&mut streams, 3);
    let again = streams.open("s0", (), &LIMITS);
    assert_eq!(again, Err(PeerFault::DuplicateId));
    let more = streams.open("s9", (), &LIMITS);
    assert_eq!(more, Err(PeerFault::TooManyStreams));
    streams.remove(ids[0]);
    assert!(
        streams.open("s0", (), &LIMITS).unwrap() > ids[2],
        "ids are never reused"
    );
}

#[test]
fn p147_streams_take_turns_chunk_by_chunk() {
    let mut streams = Streams::new();
    let ids = open(&mut streams, 2);
    let bulk = Bytes::from(vec![0; 25]);
    streams.enqueue(ids[0], Kind::Bytes, bulk, &LIMITS).unwrap();
    let key = Bytes::from_static(b"k");
    streams.enqueue(ids[1], Kind::Bytes, key, &LIMITS).unwrap();
    streams.push(ids[0], Item::End);
    let order: Vec<_> = core::iter::from_fn(|| framed(&mut streams)).collect();
    assert_eq!(order, [(0, 10), (1, 1), (0, 10), (0, 5), (0, 0)]);
    assert_eq!(streams.held_out(), 0);
}

#[test]
fn the_send_queue_refuses_gives_back_and_wakes() {
    let mut streams = Streams::new();
    let ids = open(&mut streams, 1);
    let piece = Bytes::from(vec![1; 600]);
    streams
        .enqueue(ids[0], Kind::Bytes, piece.clone(), &LIMITS)
        .unwrap();
    let refused = streams.enqueue(ids[0], Kind::Bytes, piece.clone(), &LIMITS);
    assert!(refused == Err(SendError::Blocked(piece.clone())));
    assert_eq!(streams.unblock(&LIMITS), None, "nothing was framed yet");
    while framed(&mut streams).is_some() {}
    assert_eq!(streams.unblock(&LIMITS), Some(ids[0]));
    assert_eq!(streams.unblock(&LIMITS), None);
    let huge = Bytes::from(vec![1; 5000]);
    assert!(
        streams.enqueue(ids[0], Kind::Bytes, huge, &LIMITS).is_ok(),
        "an empty queue takes any piece"
    );
}

#[test]
fn what_a_stream_holds_toward_its_local_end_is_bounded_at_n_and_not_at_n_plus_one() {
    let mut streams = Streams::new();
    let ids = open(&mut streams, 3);
    assert_eq!(streams.received(ids[0], 1024, &LIMITS), Ok(()));
    assert_eq!(streams.consumed(ids[0], 1024), Some(1024));
    assert_eq!(streams.held_in, 0);
    assert_eq!(streams.received(ids[0], 1025, &LIMITS), Err(ids[0]));
    streams.remove(ids[0]);
    // Empty and tiny pieces are charged, too.
    for _ in 0..4 {
        assert_eq!(streams.received(ids[1], 1, &LIMITS), Ok(()));
    }
    assert_eq!(streams.received(ids[1], 1, &LIMITS), Err(ids[1]));
}

#[test]
fn over_the_total_the_stream_that_holds_most_is_named() {
    let mut streams = Streams::new();
    let ids = open(&mut streams, 3);
    streams.received(ids[0], 1000, &LIMITS).unwrap();
    streams.received(ids[1], 900, &LIMITS).unwrap();
    assert_eq!(streams.received(ids[2], 300, &LIMITS), Err(ids[0]));
}

#[test]
fn removing_a_stream_returns_all_that_it_held() {
    let mut streams = Streams::new();
    let ids = open(&mut streams, 2);
    for id in &ids {
        let piece = Bytes::from(vec![1; 600]);
        streams.enqueue(*id, Kind::Bytes, piece, &LIMITS).unwrap();
        streams.push(*id, Item::Abort("gone".to_string()));
        streams.received(*id, 100, &LIMITS).unwrap();
    }
    streams.clear(ids[0]);
    assert_eq!(streams.get(ids[0]).unwrap().held_out, 0);
    while let Some(id) = streams.first() {
        streams.remove(id);
    }
    assert_eq!((streams.held_in, streams.held_out()), (0, 0));
    assert!(!streams.wants_send() && streams.find("s0").is_none());
}

#[test]
fn streams_that_wait_for_room_are_woken_in_turn() {
    let limits = Limits {
        send_total: 1500,
        ..LIMITS
    };
    let mut streams = Streams::new();
    let ids = open(&mut streams, 3);
    let piece = Bytes::from(vec![1; 500]);
    for id in &ids {
        streams
            .enqueue(*id, Kind::Bytes, piece.clone(), &limits)
            .unwrap();
    }
    for id in &ids {
        let refused = streams.enqueue(*id, Kind::Bytes, piece.clone(), &limits);
        assert!(matches!(refused, Err(SendError::Blocked(_))));
    }
    // Whoever is woken takes the room that there is, and waits again behind the others.
    let mut woken = Vec::new();
    for _ in 0..2000 {
        framed(&mut streams).unwrap();
        while let Some(id) = streams.unblock(&limits) {
            woken.push(id);
            while streams
                .enqueue(id, Kind::Bytes, piece.clone(), &limits)
                .is_ok()
            {}
        }
    }
    for id in &ids {
        let turns = woken.iter().filter(|w| *w == id).count();
        assert!(
            turns >= woken.len() / ids.len() - 1,
            "{id:?} had {turns} of {woken:?}"
        );
    }
    assert!(woken.len() >= 6, "{woken:?}");
}

#[test]
fn a_stream_with_a_window_sends_what_is_granted_and_holds_up_nobody() {
    let limits = Limits {
        chunk: 400,
        ..LIMITS
    };
    let mut streams = Streams::new();
    let ids = open(&mut streams, 2);
    streams.limit(ids[0], 600);
    let sent = |streams: &mut Streams<()>| -> Vec<(u64, usize)> {
        core::iter::from_fn(|| {
            let turn = streams.framed(&limits)?;
            match turn.item {
                Item::Data(data) => Some((turn.id.0, data.len())),
                _ => Some((turn.id.0, 0)),
            }
        })
        .collect()
    };
    let piece = Bytes::from(vec![1; 900]);
    streams
        .enqueue(ids[0], Kind::Bytes, piece.clone(), &limits)
        .unwrap();
    streams.push(ids[0], Item::End);
    streams
        .enqueue(ids[1], Kind::Bytes, piece.clone(), &limits)
        .unwrap();
    assert_eq!(
        sent(&mut streams),
        [(0, 400), (1, 400), (0, 200), (1, 400), (1, 100)]
    );
    assert!(
        !streams.wants_send(),
        "what may not be sent is not waited for"
    );
    let refused = streams.enqueue(ids[0], Kind::Bytes, piece, &limits);
    assert!(matches!(refused, Err(SendError::Blocked(_))));
    // A piece is charged as much as the other side will count for it.
    streams.grant(ids[0], 56);
    assert_eq!(
        sent(&mut streams),
        [],
        "the debt of a small piece comes first"
    );
    streams.grant(ids[0], 100);
    assert_eq!(sent(&mut streams), [(0, 100)]);
    streams.grant(ids[0], 10_000);
    assert_eq!(sent(&mut streams), [(0, 200), (0, 0)]);
}

#[test]
fn a_grant_does_not_wait_for_a_grant() {
    let mut streams = Streams::new();
    let ids = open(&mut streams, 1);
    streams.limit(ids[0], 10);
    for _ in 0..2 {
        let message = Bytes::from(vec![1; 300]);
        streams.push(ids[0], Item::Message(Kind::Binary, message));
    }
    assert!(streams.framed(&LIMITS).is_some());
    assert!(!streams.wants_send(), "the window is spent");
    streams.push(ids[0], Item::Grant(500));
    let turn = streams.framed(&LIMITS).unwrap();
    assert!(matches!(turn.item, Item::Grant(500)));
    assert!(!streams.wants_send());
}

#[test]
fn who_is_woken_next_is_found_without_asking_all_that_wait() {
    // The same as asking all of them in turn, whatever happened before.
    let limits = Limits {
        streams: 8,
        ..LIMITS
    };
    let mut streams = Streams::new();
    let mut state = 7u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    let mut woken = 0;
    for step in 0..20_000 {
        let all = streams.ids();
        let id = match all.get(random(8) as usize) {
            Some(id) => *id,
            None => {
                let id = streams.open(&format!("s{step}"), (), &limits).unwrap();
                if random(2) == 0 {
                    streams.limit(id, 600);
                }
                id
            }
        };
        match random(12) {
            0..2 => streams.grant(id, random(2000) as usize),
            2 => streams.local_over(id),
            3 => drop(streams.clear(id)),
            4 if random(4) == 0 => drop(streams.remove(id)),
            5 => streams.push(id, Item::End),
            6..8 => drop(streams.framed(&limits)),
            _ => {
                let data = vec![0; random(1500) as usize].into();
                drop(streams.enqueue(id, Kind::Bytes, data, &limits));
            }
        }
        if random(3) == 0 {
            let expected = first_with_room(&streams, &limits);
            assert_eq!(streams.unblock(&limits), expected, "step {step}");
            woken += usize::from(expected.is_some());
        }
    }
    assert!(woken > 500, "{woken}");
}

fn first_with_room(streams: &Streams<()>, limits: &Limits) -> Option<StreamId> {
    let after = streams.blocked.range(streams.woken..);
    let mut order = after.chain(streams.blocked.range(..streams.woken));
    let has_room = |(id, refused): &(&StreamId, &usize)| {
        let stream = streams.get(**id).unwrap();
        let granted = stream.credit.unwrap_or(i64::MAX).max(0) as usize;
        let room = granted.min(limits.send_stream);
        let fits = stream.held_out <= room / 2 && stream.held_out + *refused <= room;
        !stream.is_spent() && (stream.held_out == 0 || fits)
    };
    let room = streams.held_out < limits.send_total;
    order.find(has_room).map(|(id, _)| *id).filter(|_| room)
}
