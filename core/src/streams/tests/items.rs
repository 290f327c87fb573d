//! What items are charged, what is released when they leave, and what a drained queue keeps.

use alloc::string::String;

use super::*;
use crate::{
    input::{RequestHead, ResponseHead, StreamClose, Tunnel},
    wire::encode::TunnelEnd,
};

fn text(len: usize) -> String {
    "x".repeat(len)
}

fn headers() -> Vec<(String, String)> {
    vec![(text(100), text(1000)), (text(20), text(300))]
}

/// Each of two headers counts for eight more than its bytes.
const HEADERS: usize = 1420 + 16;

fn request() -> Box<RequestHead> {
    Box::new(RequestHead {
        method: text(3),
        path: text(50),
        query: Some(text(700)),
        headers: headers(),
    })
}

const REQUEST: usize = 753 + HEADERS;

fn answer() -> ResponseHead {
    ResponseHead {
        status: 200,
        headers: headers(),
    }
}

fn tunnel() -> Box<Tunnel> {
    Box::new(Tunnel {
        tunnel_id: text(1000),
        gateway_name: text(200),
        gateway_namespace: text(30),
        service_name: text(4),
        service_namespace: text(10_000),
        client_addr: text(100_000),
        ..Tunnel::default()
    })
}

fn tunnel_end(error: Option<String>) -> Item {
    Item::TunnelClose(Box::new(TunnelEnd {
        reason: "service_closed",
        error,
        counts: None,
    }))
}

/// One of each, and more where that makes a difference; with what it is charged.
fn items() -> Vec<(Item, usize)> {
    let data = Bytes::from(vec![0; 700]);
    vec![
        (Item::Abort(text(300)), 300),
        (Item::Broke(text(301)), 301),
        (Item::Cancel, 256),
        (Item::Close(StreamClose::new(1000, "bye")), 256),
        (Item::Data(data.clone()), 700),
        (Item::Data(Bytes::new()), 256),
        (Item::End, 256),
        (Item::FlowOver(Some(text(302))), 302),
        (Item::FlowOver(None), 256),
        (Item::Grant(9999), 256),
        (Item::Error(text(303)), 303),
        (Item::Head(answer()), HEADERS),
        (Item::Message(Kind::Text, data.clone()), 700),
        (
            Item::Request {
                head: request(),
                body_follows: false,
                body: vec![data.clone()],
            },
            REQUEST,
        ),
        (Item::Tunnel(tunnel()), 111_234),
        (tunnel_end(Some(text(304))), 304),
        (tunnel_end(None), 256),
        (
            Item::Upgrade(request(), vec![text(40), text(400)]),
            REQUEST + 440,
        ),
        (Item::Whole(answer(), vec![data]), HEADERS),
    ]
}

#[test]
fn each_item_is_charged_what_it_holds_and_never_nothing() {
    for (item, charge) in items() {
        assert_eq!(item.charge(), charge, "{item:?}");
    }
    assert_eq!(head_len(&request()), REQUEST);
}

#[test]
fn what_is_charged_is_released_when_it_is_framed() {
    let limits = Limits {
        chunk: 300,
        ..LIMITS
    };
    let mut streams = Streams::new();
    let ids = open(&mut streams, 2);
    let mut held = 0;
    for (item, charge) in items() {
        streams.push(ids[0], item);
        held += charge;
        assert_eq!(streams.held_out(), held);
    }
    streams.push(ids[1], Item::End);
    let mut before = held + 256;
    let mut frames = 0;
    while streams.framed(&limits).is_some() {
        assert!(streams.held_out() < before, "each frame releases something");
        before = streams.held_out();
        frames += 1;
    }
    assert_eq!(before, 0);
    assert_eq!(frames, items().len() + 1 + 2, "700 bytes are three frames");
}

#[test]
fn data_of_one_chunk_is_one_frame_and_of_a_byte_more_two() {
    for (len, frames) in [(10, &[10][..]), (11, &[10, 1]), (20, &[10, 10])] {
        let mut streams = Streams::new();
        let id = open(&mut streams, 1)[0];
        let data = vec![0; len].into();
        streams.enqueue(id, Kind::Bytes, data, &LIMITS).unwrap();
        let sent = core::iter::from_fn(|| framed(&mut streams));
        let lengths: Vec<_> = sent.map(|(_, len)| len).collect();
        assert_eq!(lengths, frames);
    }
}

#[test]
fn a_message_is_one_frame_whatever_the_chunk() {
    let mut streams = Streams::new();
    let id = open(&mut streams, 1)[0];
    let message = Bytes::from(vec![0; 900]);
    streams
        .enqueue(id, Kind::Binary, message.clone(), &LIMITS)
        .unwrap();
    let turn = streams.framed(&LIMITS).unwrap();
    assert!(matches!(turn.item, Item::Message(Kind::Binary, data) if data == message));
    assert!(streams.framed(&LIMITS).is_none());
}

#[test]
fn a_queue_keeps_room_for_one_and_returns_what_it_needed_more() {
    let mut streams = Streams::new();
    let id = open(&mut streams, 1)[0];
    let room = |streams: &Streams<()>| streams.get(id).unwrap().out.capacity();
    assert_eq!(room(&streams), 0, "an idle stream has none");
    for _ in 0..2 {
        streams.push(id, Item::End);
        streams.framed(&LIMITS).unwrap();
        assert_eq!(room(&streams), 1);
    }
    for _ in 0..10 {
        streams.push(id, Item::End);
    }
    for left in (0..10).rev() {
        streams.framed(&LIMITS).unwrap();
        assert_eq!(room(&streams) >= 10, left > 0, "{left} left");
    }
    assert_eq!(room(&streams), 0);
}

#[test]
fn only_data_is_paid_for_with_what_the_peer_granted() {
    let mut streams = Streams::new();
    let id = open(&mut streams, 1)[0];
    streams.limit(id, 300);
    for item in [Item::Head(answer()), Item::Abort(text(1000)), Item::End] {
        streams.push(id, item);
    }
    while streams.framed(&LIMITS).is_some() {}
    let data = Bytes::from(vec![0; 1]);
    for _ in 0..3 {
        streams.push(id, Item::Message(Kind::Binary, data.clone()));
    }
    let sent = core::iter::from_fn(|| streams.framed(&LIMITS)).count();
    assert_eq!(sent, 2, "two are charged 512, which is more than 300");
}
