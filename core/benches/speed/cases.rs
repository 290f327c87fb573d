//! What is measured. Each case drives a machine as an adapter does, until it has nothing to say.

use std::hint::black_box;

use base64::Engine as _;
use bytes::Bytes;
use controlplane_core::{
    Action, ConnId, Frame, Input, Kind, Machine, OutFrame, SendError, Socket, StreamId,
};

use crate::common::{Ends, NOW, Pair, Sort, kind_of};

/// Does the measured thing so many times.
pub(crate) type Run = Box<dyn FnMut(u32)>;
/// Sets everything up for it.
pub(crate) type Make = Box<dyn Fn() -> Run>;

/// What is to be reached.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    /// At least so many GB of payload in a second.
    Rate(f64),
    /// At most so many nanoseconds.
    Time(f64),
}

pub(crate) struct Case {
    pub(crate) name: String,
    /// Payload of one.
    pub(crate) bytes: usize,
    pub(crate) aim: Option<Aim>,
    pub(crate) measured: Make,
    /// Base64 of the same bytes, or a copy of them, and nothing else.
    pub(crate) base: Option<Make>,
    /// How often it is done to count its instructions.
    pub(crate) rounds: u32,
}

/// Sizes of payloads, with what each is to reach.
const SIZES: [(usize, &str, Option<Aim>); 3] = [
    (64, "64 B", Some(Aim::Time(1000.0))),
    (4 << 10, "4 KiB", None),
    (32 << 10, "32 KiB", Some(Aim::Rate(1.5))),
];

/// One machine's way to send or receive data of a stream.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Agent,
    Controller,
}

pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (size, label, aim) in SIZES {
        for sort in [Sort::Upload, Sort::WebSocket] {
            for at in [At::Agent, At::Controller] {
                let name = format!("{}, {}, {label}", of(at), what(sort));
                cases.push(Case {
                    name: format!("encode at the {name}"),
                    bytes: size,
                    aim,
                    measured: Box::new(move || encode(at, sort, size, 1)),
                    base: Some(Box::new(move || base_encode(size))),
                    rounds: 64,
                });
                cases.push(Case {
                    name: format!("decode at the {name}"),
                    bytes: size,
                    aim,
                    measured: Box::new(move || decode(at, sort, size, 1)),
                    base: Some(Box::new(move || base_decode(size))),
                    rounds: 64,
                });
            }
        }
    }
    for streams in [1, 1000] {
        for at in [At::Agent, At::Controller] {
            many(&mut cases, at, streams);
        }
    }
    cases
}

/// What must not depend on the number of streams.
fn many(cases: &mut Vec<Case>, at: At, streams: usize) {
    let name = |what: &str| {
        let s = if streams == 1 { "" } else { "s" };
        format!("{what} at the {}, {streams} stream{s}", of(at))
    };
    let mut case = |name: String, bytes: usize, most: Option<f64>, measured: Make| {
        cases.push(Case {
            name,
            bytes,
            aim: most.map(Aim::Time),
            measured,
            base: None,
            rounds: 2000,
        });
    };
    let most = Some(1000.0);
    let out = move || encode(at, Sort::WebSocket, 64, streams);
    case(name("64 B out"), 64, most, Box::new(out));
    let into = move || decode(at, Sort::WebSocket, 64, streams);
    case(name("64 B in"), 64, most, Box::new(into));
    let all = move || busy(at, 64, streams);
    case(name("64 B out, all busy"), 64, most, Box::new(all));
    let waiting = move || waiting(at, 64, streams);
    case(name("64 B out, others wait"), 64, most, Box::new(waiting));
    case(name("tick"), 0, None, Box::new(move || tick(at, streams)));
    let most = (streams == 1000).then_some(50.0);
    let poll = move || empty(at, streams);
    case(name("empty poll"), 0, most, Box::new(poll));
    let when = move || deadline(at, streams);
    case(name("deadline"), 0, most, Box::new(when));
}

const fn of(at: At) -> &'static str {
    match at {
        At::Agent => "agent",
        At::Controller => "controller",
    }
}

const fn what(sort: Sort) -> &'static str {
    match sort {
        Sort::Upload | Sort::Watch => "body",
        Sort::WebSocket => "WebSocket",
    }
}

/// Data that does not repeat.
pub(crate) fn payload(size: usize) -> Bytes {
    let mut state = 1u32;
    let bytes = (0..size).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    bytes.collect()
}

// ---------------------------------------------------------------- base64 alone

#[cfg(all(feature = "simd", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn engine() -> base64::engine::Simd {
    base64::engine::Simd::standard(base64::engine::general_purpose::PAD)
}

#[cfg(not(all(feature = "simd", any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn engine() -> base64::engine::GeneralPurpose {
    base64::engine::general_purpose::STANDARD
}

fn base_encode(size: usize) -> Run {
    let (engine, data) = (engine(), payload(size));
    let mut out = vec![0; size.div_ceil(3) * 4];
    Box::new(move |count| {
        for _ in 0..count {
            let written = engine.encode_slice(black_box(&data), &mut out);
            black_box(written.expect("it is long enough"));
        }
    })
}

fn base_decode(size: usize) -> Run {
    let engine = engine();
    let text = engine.encode(payload(size));
    let mut out = vec![0; size + 3];
    Box::new(move |count| {
        for _ in 0..count {
            let written = engine.decode_slice(black_box(&text), &mut out);
            black_box(written.expect("it is base64"));
        }
    })
}

// ---------------------------------------------------------------- a machine

/// A machine with its connection and streams.
struct Driven {
    machine: Box<dyn Machine>,
    conn: ConnId,
    streams: Vec<StreamId>,
    kind: Kind,
    next: usize,
}

impl Driven {
    /// The next stream in turn.
    fn turn(&mut self) -> (usize, StreamId) {
        let at = self.next;
        self.next = (at + 1) % self.streams.len();
        (at, self.streams[at])
    }

    fn send(&mut self, id: StreamId, data: &Bytes) {
        let sent = self.machine.send(id, self.kind, black_box(data).clone());
        sent.expect("there is room");
    }

    fn poll(&mut self) -> Option<Action> {
        self.machine.poll(Socket::Ready(self.conn))
    }
}

/// A machine with open streams, no window of which is ever spent, and the text of one message to
/// each.
fn driven(at: At, sort: Sort, count: usize, data: &Bytes) -> (Driven, Vec<String>) {
    let (driven, mut peer) = driven_in(Pair::new(), at, sort, count, count);
    let texts = (0..count).map(|_| message(&mut peer, data));
    (driven, texts.collect())
}

/// The same of this pair, with its peer; the first so many streams have a window without end.
fn driven_in(mut pair: Pair, at: At, sort: Sort, count: usize, granted: usize) -> (Driven, Driven) {
    let ends = pair.open_all(sort, count);
    let (agent_conn, controller_conn) = (pair.at_agent(), pair.at_controller());
    let side = |machine: Box<dyn Machine>, conn, id: fn(&Ends) -> StreamId| Driven {
        machine,
        conn,
        streams: ends.iter().map(id).collect(),
        kind: kind_of(sort),
        next: 0,
    };
    let agent = side(Box::new(pair.agent), agent_conn, |e| e.at_agent);
    let controller = side(Box::new(pair.controller), controller_conn, |e| {
        e.at_controller
    });
    let (mut ours, mut peer, grant) = match at {
        At::Agent => (agent, controller, "proxy_response_grant"),
        At::Controller => (controller, agent, "proxy_request_grant"),
    };
    for _ in 0..granted {
        let text = message(&mut peer, &Bytes::from_static(b"x"));
        let name = name_in(&text);
        let grant = format!(
            r#"{{"type":"{grant}","request_id":"{name}","payload":{{"bytes":{}}}}}"#,
            1u64 << 52
        );
        let frame = Frame::Text(&grant);
        ours.machine.handle(NOW, Input::Frame(ours.conn, frame));
    }
    peer.next = 0;
    assert!(ours.poll().is_none(), "not idle");
    (ours, peer)
}

/// A message with `data` of the next stream.
fn message(from: &mut Driven, data: &Bytes) -> String {
    let (_, id) = from.turn();
    from.send(id, data);
    match from.poll() {
        Some(Action::Send(_, OutFrame::Text(text))) => text,
        other => panic!("no message but {other:?}"),
    }
}

/// The name of the stream that a message is about.
fn name_in(text: &str) -> &str {
    let (_, rest) = text.split_once("\"request_id\":\"").expect("it has one");
    rest.split('"').next().unwrap_or_default()
}

/// `send`, the `poll` that frames it, and one that finds nothing more.
fn encode(at: At, sort: Sort, size: usize, streams: usize) -> Run {
    let data = payload(size);
    let (mut driven, _) = driven(at, sort, streams, &data);
    Box::new(move |count| {
        for _ in 0..count {
            let (_, id) = driven.turn();
            driven.send(id, &data);
            assert!(matches!(black_box(driven.poll()), Some(Action::Send(..))));
            assert!(driven.poll().is_none());
        }
    })
}

/// `handle` of the frame, the `poll` that delivers it, what the local end then says, and a `poll`
/// that finds nothing more or, now and then, grants more.
fn decode(at: At, sort: Sort, size: usize, streams: usize) -> Run {
    let data = payload(size);
    let (mut driven, texts) = driven(at, sort, streams, &data);
    Box::new(move |count| {
        for _ in 0..count {
            let (at, id) = driven.turn();
            let frame = Input::Frame(driven.conn, Frame::Text(black_box(&texts[at])));
            driven.machine.handle(NOW, frame);
            match black_box(driven.poll()) {
                Some(Action::Deliver(to, _, got)) => assert!(to == id && got.len() == size),
                other => panic!("no delivery but {other:?}"),
            }
            driven.machine.handle(NOW, Input::Consumed(id, size));
            while let Some(action) = driven.poll() {
                assert!(matches!(action, Action::Send(..)));
            }
        }
    })
}

/// One `send` and the `poll` that frames it, while every stream has something to send.
fn busy(at: At, size: usize, streams: usize) -> Run {
    let data = payload(size);
    let (mut driven, _) = driven(at, Sort::WebSocket, streams, &data);
    for id in driven.streams.clone() {
        driven.send(id, &data);
    }
    Box::new(move |count| {
        for _ in 0..count {
            assert!(matches!(black_box(driven.poll()), Some(Action::Send(..))));
            // Whose turn it was has none left, and gets another.
            let (_, id) = driven.turn();
            driven.send(id, &data);
        }
    })
}

/// `send` and the `poll` that frames it on one stream, while all others wait for a window that is
/// spent.
fn waiting(at: At, size: usize, streams: usize) -> Run {
    let data = payload(size);
    let large = payload(4 << 10);
    let (mut driven, _) = driven_in(Pair::with_queues(4 << 10), at, Sort::WebSocket, streams, 1);
    for id in driven.streams.split_off(1) {
        driven.send(id, &large);
        while driven.poll().is_some() {}
        let refused = driven.machine.send(id, driven.kind, large.clone());
        assert!(matches!(refused, Err(SendError::Blocked(_))));
    }
    Box::new(move |count| {
        let id = driven.streams[0];
        for _ in 0..count {
            driven.send(id, &data);
            assert!(matches!(black_box(driven.poll()), Some(Action::Send(..))));
            assert!(driven.poll().is_none());
        }
    })
}

fn tick(at: At, streams: usize) -> Run {
    let (mut driven, _) = driven(at, Sort::WebSocket, streams, &payload(64));
    Box::new(move |count| {
        for _ in 0..count {
            driven.machine.handle(NOW, Input::Tick);
            assert!(driven.poll().is_none());
        }
    })
}

fn empty(at: At, streams: usize) -> Run {
    let (mut driven, _) = driven(at, Sort::WebSocket, streams, &payload(64));
    Box::new(move |count| {
        for _ in 0..count {
            assert!(black_box(driven.poll()).is_none());
        }
    })
}

fn deadline(at: At, streams: usize) -> Run {
    let (driven, _) = driven(at, Sort::WebSocket, streams, &payload(64));
    Box::new(move |count| {
        for _ in 0..count {
            black_box(driven.machine.deadline());
        }
    })
}
