//! Two sessions that talk to each other, and one that is told frames.

use alloc::{vec, vec::Vec};
use core::time::Duration;

use super::{frame::*, *};

mod edges;
mod ends;
mod faults;
mod limits;
mod sending;
mod told;
mod windows;

fn at(ms: u64) -> Time {
    Time::since_origin(Duration::from_millis(ms))
}

/// Whose openings and data these are.
fn ids_of(events: &[Event]) -> Vec<u32> {
    let id = |event: &Event| match event {
        Event::Opened(id) | Event::Data(id, _) => *id,
        other => panic!("{other:?}"),
    };
    events.iter().map(id).collect()
}

fn events(session: &mut Session) -> Vec<Event> {
    core::iter::from_fn(|| session.event()).collect()
}

/// Two ends, joined by nothing.
struct Pair {
    client: Session,
    server: Session,
    now: Time,
}

impl Pair {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        Self {
            client: Session::new(Role::Client, config, at(0)),
            server: Session::new(Role::Server, config, at(0)),
            now: at(0),
        }
    }

    /// Carries everything both ways until nobody has anything to send.
    fn carry(&mut self) {
        loop {
            let there = self.server.transmit(self.now);
            let back = self.client.transmit(self.now);
            if there.is_none() && back.is_none() {
                return;
            }
            self.client.receive(self.now, &there.unwrap_or_default());
            self.server.receive(self.now, &back.unwrap_or_default());
        }
    }

    /// A stream that the server opened and the client accepted.
    fn open(&mut self) -> u32 {
        let id = self.server.open(self.now).unwrap();
        self.carry();
        assert_eq!(events(&mut self.client), [Event::Opened(id)]);
        self.client.accept(id);
        self.carry();
        id
    }
}

fn frame(kind: u8, flags: u16, stream: u32, length: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, kind];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(payload);
    bytes
}

#[test]
fn p119_a_header_is_read_as_it_was_written() {
    let header = Header {
        kind: Kind::Update,
        flags: SYN | RST,
        stream: 0x0102_0304,
        length: 0x0506_0708,
    };
    let bytes = header.encode();
    assert_eq!(bytes, [0, 1, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(Header::decode(bytes), Ok(header));
}

#[test]
fn p119_the_server_opens_even_ids_and_the_client_odd_ones() {
    let mut pair = Pair::new();
    assert_eq!(
        (pair.server.open(at(0)), pair.server.open(at(0))),
        (Ok(2), Ok(4))
    );
    assert_eq!(
        (pair.client.open(at(0)), pair.client.open(at(0))),
        (Ok(1), Ok(3))
    );
    pair.carry();
    assert_eq!(
        events(&mut pair.client),
        [Event::Opened(2), Event::Opened(4)]
    );
    assert_eq!(
        events(&mut pair.server),
        [Event::Opened(1), Event::Opened(3)]
    );
}

#[test]
fn p118_bytes_may_be_cut_anywhere() {
    let mut pair = Pair::new();
    let id = pair.server.open(at(0)).unwrap();
    pair.server.send(id, Bytes::from_static(b"hello")).unwrap();
    pair.server.finish(id);
    while let Some(bytes) = pair.server.transmit(at(0)) {
        for byte in bytes {
            pair.client.receive(at(0), &[byte]);
        }
    }
    let mut text = Vec::new();
    let mut seen = events(&mut pair.client);
    assert_eq!(seen.remove(0), Event::Opened(id));
    assert_eq!(seen.pop(), Some(Event::Finished(id)));
    for event in seen {
        match event {
            Event::Data(_, data) => text.extend(data),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(text, b"hello");
}

#[test]
fn a_stream_is_over_when_both_ends_have_finished_and_all_was_consumed() {
    let mut pair = Pair::new();
    let id = pair.open();
    pair.client.send(id, Bytes::from_static(b"pong")).unwrap();
    pair.client.finish(id);
    pair.carry();
    assert_eq!(
        events(&mut pair.server),
        [
            Event::Data(id, Bytes::from_static(b"pong")),
            Event::Finished(id)
        ]
    );
    // The other direction goes on.
    pair.server.send(id, Bytes::from_static(b"ping")).unwrap();
    pair.server.finish(id);
    assert_eq!(
        pair.client.send(id, Bytes::from_static(b"x")),
        Err(SendError::Closed(Bytes::from_static(b"x")))
    );
    pair.carry();
    assert_eq!(events(&mut pair.server), []);
    pair.server.consumed(at(0), id, 4);
    assert_eq!(events(&mut pair.server), [Event::Over(id)]);
    assert_eq!(
        events(&mut pair.client),
        [
            Event::Data(id, Bytes::from_static(b"ping")),
            Event::Finished(id)
        ]
    );
    pair.client.consumed(at(0), id, 4);
    assert_eq!(events(&mut pair.client), [Event::Over(id)]);
    for end in [&pair.client, &pair.server] {
        assert_eq!((end.streams(), end.held_in(), end.held_out()), (0, 0, 0));
    }
}
