//! One frame of data through two yamux sessions, beside a plain copy of the same bytes.

use std::hint::black_box;

use bytes::Bytes;
use controlplane_core::yamux::{Config, Event, Role, Session};

use crate::{
    cases::{Aim, Case, Run, payload},
    common::NOW,
};

/// Sizes of frames, with what each is to reach.
const SIZES: [(usize, &str, Aim); 2] = [
    (64, "64 B", Aim::Time(1000.0)),
    (32 << 10, "32 KiB", Aim::Rate(1.5)),
];

pub(crate) fn all() -> impl Iterator<Item = Case> {
    let sizes = [1, 1000].map(|streams| SIZES.map(|size| (streams, size)));
    sizes
        .into_iter()
        .flatten()
        .map(|(streams, (size, label, aim))| {
            let s = if streams == 1 { "" } else { "s" };
            Case {
                name: format!("yamux there and consumed, {label}, {streams} stream{s}"),
                bytes: size,
                aim: Some(aim),
                measured: Box::new(move || through(size, streams)),
                base: Some(Box::new(move || copy(size))),
                rounds: 64,
            }
        })
}

/// `send`, `transmit`, `receive`, the event and `consumed`, and now and then the grant back.
fn through(size: usize, streams: usize) -> Run {
    let data = payload(size);
    let config = Config {
        backlog: streams,
        ..Config::default()
    };
    let mut client = Session::new(Role::Client, config, NOW);
    let mut server = Session::new(Role::Server, config, NOW);
    let ids: Vec<u32> = (0..streams)
        .map(|_| server.open(NOW).expect("there is room"))
        .collect();
    let mut next = ids.into_iter().cycle();
    while let Some(bytes) = server.transmit(NOW) {
        client.receive(NOW, &bytes);
    }
    while let Some(Event::Opened(id)) = client.event() {
        client.accept(id);
    }
    Box::new(move |count| {
        for id in next.by_ref().take(count as usize) {
            let sent = server.send(id, black_box(&data).clone());
            sent.expect("there is room");
            while let Some(bytes) = server.transmit(NOW) {
                client.receive(NOW, black_box(&bytes));
            }
            assert!(server.event().is_none());
            let event = black_box(client.event());
            assert!(matches!(event, Some(Event::Data(to, data)) if to == id && data.len() == size));
            client.consumed(NOW, id, size);
            while let Some(bytes) = client.transmit(NOW) {
                server.receive(NOW, &bytes);
            }
        }
    })
}

/// The same bytes once, into a buffer of their own.
fn copy(size: usize) -> Run {
    let data = payload(size);
    Box::new(move |count| {
        for _ in 0..count {
            black_box(Bytes::copy_from_slice(black_box(&data)));
        }
    })
}
