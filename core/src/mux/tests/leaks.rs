//! What is kept of streams that are gone: nothing, in whatever way they went.

use super::*;
use crate::{
    config::{Limits, Periods},
    wire::decode::YamuxConfig,
    yamux::Role,
};

const SYN: u8 = 1;
const FIN: u8 = 4;
const RST: u8 = 8;
/// A header, and data behind it.
const HEAD: &[u8] = b"\x01\x01\0\x50\0\x01s\0\x01n\0\x01tmore";

/// The agent's end, and what its peer says on the next stream.
struct End {
    mux: Mux,
    next: u32,
    ids: u64,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from([0, kind, 0, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes
}

impl End {
    fn new() -> Self {
        let limits = Limits::agent();
        let protocols = Protocols::of(&[16.0, 17.0]);
        let asked = YamuxConfig::default();
        Self {
            mux: Mux::new(Role::Client, &limits, asked, protocols, Time::ZERO),
            next: 0,
            ids: 0,
        }
    }

    /// The peer says this, and all that comes of it is asked for.
    fn hears(&mut self, bytes: &[u8]) -> Vec<Heard> {
        self.mux.receive(Time::ZERO, bytes);
        while self.mux.transmit(Time::ZERO).is_some() {}
        let periods = Periods::default();
        core::iter::from_fn(|| self.mux.heard(Time::ZERO, &periods)).collect()
    }

    /// A stream of which this arrived, in a message of its own.
    fn opened(&mut self, first: &[u8]) -> u32 {
        self.next += 2;
        self.hears(&frame(1, SYN, self.next, b""));
        if !first.is_empty() {
            self.hears(&frame(0, 0, self.next, first));
        }
        self.next
    }

    fn admitted(&mut self, first: &[u8]) -> (u32, StreamId) {
        let wire = self.opened(first);
        self.ids += 1;
        let (id, periods) = (StreamId(self.ids), Periods::default());
        self.mux
            .admit(Time::ZERO, wire, id, Protocol::Tcp, &periods);
        self.hears(b"");
        (wire, id)
    }

    fn local(&mut self, id: StreamId, input: &Input<'_>) {
        self.mux.local(Time::ZERO, id, input);
        self.hears(b"");
    }

    fn left(&self) -> [usize; 9] {
        let mux = &self.mux;
        [
            mux.session.streams(),
            mux.session.held_in(),
            mux.session.held_out(),
            mux.by_wire.len(),
            mux.by_id.len(),
            mux.heads.len(),
            mux.due.len(),
            mux.out.len(),
            mux.early.iter().map(|(_, data)| data.len()).sum(),
        ]
    }
}

#[test]
fn p120_nothing_is_kept_of_a_stream_however_it_ends() {
    type Way = fn(&mut End);
    let ends: [(&str, Way); 9] = [
        ("reset before its header", |end| {
            let wire = end.opened(b"");
            end.hears(&frame(1, RST, wire, b""));
        }),
        ("reset within its header", |end| {
            let wire = end.opened(&HEAD[..7]);
            end.hears(&frame(1, RST, wire, b""));
        }),
        ("finished within its header", |end| {
            let wire = end.opened(&HEAD[..7]);
            end.hears(&frame(1, FIN, wire, b""));
        }),
        ("a header that is none", |end| {
            end.opened(b"\x01\x63\0\0");
        }),
        ("refused", |end| {
            let wire = end.opened(HEAD);
            end.mux.refuse(wire);
            end.hears(b"");
        }),
        ("reset by the peer", |end| {
            let (wire, _) = end.admitted(HEAD);
            end.hears(&frame(1, RST, wire, b""));
        }),
        ("cancelled", |end| {
            let (_, id) = end.admitted(HEAD);
            end.local(id, &Input::Cancel(id));
        }),
        ("cancelled with an answer that waits", |end| {
            let (_, id) = end.admitted(HEAD);
            end.mux.send(Time::ZERO, id, bytes("answer")).unwrap();
            end.mux.local(Time::ZERO, id, &Input::Cancel(id));
            end.hears(b"");
        }),
        ("finished by both", |end| {
            let (wire, id) = end.admitted(HEAD);
            end.local(id, &Input::Head(id, crate::ResponseHead::default()));
            end.hears(&frame(0, FIN, wire, b"last"));
            end.local(id, &Input::Consumed(id, 4));
            end.local(id, &Input::Consumed(id, 4));
            end.local(id, &Input::Ended(id, StreamEnd::Clean));
        }),
    ];
    for (name, way) in ends {
        let mut end = End::new();
        for _ in 0..2000 {
            way(&mut end);
        }
        assert!(!end.mux.is_over(), "{name}");
        assert_eq!(end.left(), [0; 9], "{name}");
    }
}

#[test]
fn what_falls_due_first_is_the_deadline_and_passes_it() {
    let at = |s| Time::since_origin(Duration::from_secs(s));
    let mut end = End::new();
    end.hears(b"");
    // The first ping is not answered.
    assert_eq!(end.mux.deadline(), Some(at(30)));
    let periods = Periods {
        dial: Duration::from_secs(5),
        ..Periods::default()
    };
    let id = StreamId(1);
    end.mux.receive(at(1), &frame(1, SYN, 2, b""));
    assert!(end.mux.heard(at(1), &periods).is_none());
    assert_eq!(end.mux.deadline(), Some(at(6)));
    end.mux.receive(at(2), &frame(0, 0, 2, HEAD));
    let asked = end.mux.heard(at(2), &periods);
    assert!(matches!(asked, Some(Heard::Asked(2, _))));
    end.mux.admit(at(2), 2, id, Protocol::Tcp, &periods);
    assert_eq!(end.mux.tick(at(6)), []);
    assert_eq!(end.mux.deadline(), Some(at(7)));
    end.mux
        .local(at(3), id, &Input::Head(id, crate::ResponseHead::default()));
    // Silence has its limit, and what passes moves it.
    assert_eq!(end.mux.tick(at(30)), []);
    end.mux.local(at(30), id, &Input::Consumed(id, 0));
    end.hears(&frame(2, 2, 0, b""));
    let silent = 30 + periods.tunnel_idle.as_secs();
    for now in (60..silent).step_by(10) {
        end.mux.receive(at(now), b"\0\x02\0\x01\0\0\0\0\0\0\0\0");
        assert_eq!(end.mux.tick(at(now)), []);
        assert!(end.mux.deadline() > Some(at(now)), "{now}");
        while end.mux.transmit(at(now)).is_some() {}
    }
    assert_eq!(end.mux.tick(at(silent)), [id]);
    assert_eq!(end.mux.session.streams(), 0);
}

#[test]
fn p199_no_data_is_shown() {
    let mut end = End::new();
    end.opened(b"\x01\x01\0\x50\0\x07hunter2");
    let (_, id) = end.admitted(b"\x01\x01\0\x50\0\x01s\0\x01n\0\x01thunter2");
    end.mux.send(Time::ZERO, id, bytes("hunter2")).unwrap();
    let shown = alloc::format!("{:?}", end.mux);
    assert!(
        !shown.contains("hunter") && !shown.contains("104, 117"),
        "{shown}"
    );
}
