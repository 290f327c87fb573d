//! The core's yamux and the `yamux` crate, each as client and as server, under random schedules.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use controlplane_core::{
    SendError, Time,
    yamux::{Config, Event, OpenError, ResetBy, Role, Session},
};
use controlplane_world::{
    mux::{self, at, content},
    rng::Rng,
};
use yamux::Mode;

use super::{
    each_seed,
    peer::{OURS, PEER, Peer},
};

/// A stream at the core's end.
#[derive(Debug, Default)]
struct Ours {
    sent: usize,
    received: usize,
    finished: bool,
    peer_finished: bool,
    unread: Vec<usize>,
    over: bool,
    broken: bool,
}

/// Both ends.
struct Talk {
    session: Session,
    streams: BTreeMap<u32, Ours>,
    peer: Peer,
    now: Time,
    away: bool,
}

impl Talk {
    fn new(role: Role, config: Config) -> Self {
        let mode = match role {
            Role::Client => Mode::Server,
            Role::Server => Mode::Client,
        };
        Self {
            session: Session::new(role, config, at(0)),
            streams: BTreeMap::new(),
            peer: Peer::new(mode),
            now: at(0),
            away: false,
        }
    }

    fn step(&mut self, rng: &mut Rng) {
        self.now = self.now + Duration::from_millis(1);
        let open: Vec<u32> = self
            .streams
            .iter()
            .filter(|(_, s)| !s.over && !s.broken)
            .map(|(id, _)| *id)
            .collect();
        let ours = open.len().checked_sub(1).map(|last| open[rng.len(0, last)]);
        let theirs = self.peer.any(rng);
        match (rng.below(14), ours, theirs) {
            (0, ..) if self.streams.len() < 60 => self.open(),
            (1, ..) if self.peer.streams.len() < 60 => self.peer.open(),
            (2 | 3, Some(id), _) => _ = self.send(id, rng.len(0, 70_000)),
            (4 | 5, _, Some(id)) => _ = self.peer.send(id, rng.len(1, 70_000)),
            (6, Some(id), _) => self.consume(id, rng.len(1, 9)),
            (7, _, Some(id)) => _ = self.peer.read(id, rng.len(1, 100_000)),
            (8, ..) => self.write(),
            (9, ..) => self.peer.poll(),
            (10, ..) => self.receive(rng.len(0, 60_000)),
            (11, ..) => (0..rng.len(1, 20)).for_each(|_| _ = self.listen()),
            (12, Some(id), _) if rng.chance(200) => self.finish(id),
            (12, _, Some(id)) if rng.chance(200) && self.peer.streams[&id].sent > 0 => {
                self.peer.close(id)
            }
            (13, Some(id), _) if rng.chance(60) => {
                self.streams.get_mut(&id).unwrap().broken = true;
                self.session.reset(id);
            }
            (13, _, Some(id)) if rng.chance(60) => self.peer.drop_stream(id),
            _ => {}
        }
        assert!(self.session.held_in() <= 64 << 20 && self.session.held_out() <= 65 << 20);
    }

    fn open(&mut self) {
        if let Ok(id) = self.session.open(self.now) {
            self.streams.insert(id, Ours::default());
        }
    }

    fn send(&mut self, id: u32, len: usize) -> bool {
        let ours = self.streams.get_mut(&id).unwrap();
        match self.session.send(id, content(id, OURS, ours.sent, len)) {
            Ok(()) => ours.sent += len,
            Err(SendError::Blocked(_)) => return false,
            Err(SendError::Closed(_)) => return ours.finished,
        }
        true
    }

    fn finish(&mut self, id: u32) {
        self.streams.get_mut(&id).unwrap().finished = true;
        self.session.finish(id);
    }

    fn consume(&mut self, id: u32, pieces: usize) {
        let ours = self.streams.get_mut(&id).unwrap();
        let some = pieces.min(ours.unread.len());
        for len in ours.unread.drain(..some) {
            self.session.consumed(self.now, id, len);
        }
    }

    fn write(&mut self) {
        if let Some(bytes) = self.session.transmit(self.now) {
            self.peer.pipe.borrow_mut().to_peer.extend(bytes);
        }
    }

    fn receive(&mut self, len: usize) {
        let mut pipe = self.peer.pipe.borrow_mut();
        let len = len.min(pipe.from_peer.len());
        let bytes: Bytes = pipe.from_peer.drain(..len).collect();
        drop(pipe);
        self.session.receive(self.now, &bytes);
    }

    fn listen(&mut self) -> bool {
        let Some(event) = self.session.event() else {
            return false;
        };
        match event {
            Event::Opened(id) => {
                assert!(self.streams.insert(id, Ours::default()).is_none());
                self.session.accept(id);
            }
            Event::Data(id, data) => {
                let ours = self.streams.get_mut(&id).unwrap();
                let expected = content(id, PEER, ours.received, data.len());
                assert!(data == expected && !ours.peer_finished, "{id}: other bytes");
                ours.received += data.len();
                ours.unread.push(data.len());
            }
            Event::Finished(id) => {
                let ours = self.streams.get_mut(&id).unwrap();
                assert_eq!(ours.received, self.peer.streams[&id].sent, "{id} cut off");
                ours.peer_finished = true;
            }
            Event::Over(id) => self.streams.get_mut(&id).unwrap().over = true,
            Event::Reset(id, by) => {
                let dropped = self.peer.streams[&id].dropped;
                assert!(by == ResetBy::Peer && dropped, "{id}: {by:?}");
                self.streams.get_mut(&id).unwrap().broken = true;
            }
            Event::Writable(_) => {}
            Event::GoAway => self.away = true,
            Event::Ended(error) => panic!("{error}"),
        }
        true
    }

    /// Everybody reads and writes until nothing moves.
    fn calm(&mut self) {
        let mut still = 0;
        while still < 3 {
            let before = self.state();
            self.now = self.now + Duration::from_millis(1);
            for _ in 0..20 {
                self.write();
            }
            self.peer.poll();
            self.receive(usize::MAX);
            while self.listen() {}
            let ids: Vec<u32> = self.streams.keys().copied().collect();
            for id in ids {
                self.consume(id, usize::MAX);
            }
            for id in self.peer.ids() {
                while self.peer.read(id, 100_000) {}
            }
            still = if before == self.state() { still + 1 } else { 0 };
        }
    }

    fn state(&self) -> (usize, usize, usize, usize, usize, bool) {
        let pipe = self.peer.pipe.borrow();
        let sum = |of: fn(&Ours) -> usize| self.streams.values().map(of).sum::<usize>();
        (
            sum(|s| s.received + usize::from(s.over) + usize::from(s.peer_finished)),
            self.peer.streams.values().map(|s| s.received).sum(),
            self.session.held_out(),
            self.session.held_in(),
            pipe.to_peer.len() + pipe.from_peer.len(),
            self.session.wants_transmit(),
        )
    }

    fn delivered(&self) {
        for (id, ours) in &self.streams {
            if ours.broken {
                continue;
            }
            let theirs = &self.peer.streams[id];
            if theirs.dropped {
                // It says that it has finished where this end had.
                assert!(ours.peer_finished, "{id} was dropped, and nobody knows");
                continue;
            }
            assert_eq!(ours.sent, theirs.received, "{id} lost data: {ours:?}");
            assert_eq!(ours.received, theirs.sent, "{id} lost data of the peer");
            assert_eq!(ours.finished, theirs.eof, "{id} lost its end");
            assert_eq!(
                ours.peer_finished, theirs.closed,
                "{id} lost the end of the peer"
            );
        }
    }

    /// Both finish, and one of them leaves.
    fn end(&mut self, ours_leaves: bool) {
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        for id in ids {
            self.finish(id);
        }
        for id in self.peer.ids() {
            if self.peer.streams[&id].sent > 0 || self.streams.contains_key(&id) {
                self.peer.close(id);
            }
        }
        self.calm();
        for id in self.peer.ids() {
            // What had no room to be closed.
            self.peer.close(id);
        }
        self.calm();
        let left = self
            .streams
            .iter()
            .find(|(_, ours)| !ours.over && !ours.broken);
        assert!(left.is_none(), "{left:?}");
        let session = &self.session;
        assert_eq!(
            (session.streams(), session.held_in(), session.held_out()),
            (0, 0, 0)
        );
        if ours_leaves {
            self.session.go_away();
            self.calm();
            assert!(self.peer.over);
        } else {
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            for _ in 0..100 {
                _ = self.peer.connection.poll_close(&mut cx);
                self.receive(usize::MAX);
                while self.listen() {}
            }
            assert!(self.away);
        }
        assert_eq!(self.session.open(self.now), Err(OpenError::Closed));
    }
}

fn talk(role: Role, config: Config, rng: &mut Rng) {
    let mut talk = Talk::new(role, config);
    for _ in 0..rng.len(100, 1500) {
        talk.step(rng);
    }
    talk.calm();
    talk.delivered();
    talk.end(rng.chance(500));
}

/// The original's settings.
fn original() -> Config {
    Config {
        window: 262_144,
        keepalive: Duration::from_secs(30),
        backlog: 256,
        ..Config::default()
    }
}

#[test]
fn p118_p119_the_core_as_client_and_the_crate_as_server() {
    each_seed(20, |rng| talk(Role::Client, original(), rng));
}

#[test]
fn p118_p119_the_core_as_server_and_the_crate_as_client() {
    each_seed(20, |rng| talk(Role::Server, Config::default(), rng));
}

#[test]
fn p119_other_bounds_are_interoperable_too() {
    each_seed(20, |rng| {
        let config = Config {
            streams: 512,
            recv_total: 64 << 20,
            ..mux::config(rng)
        };
        let role = mux::ROLES[rng.len(0, 1)];
        // Refused streams look to the crate as if they had ended.
        let backlog = config.backlog.max(256);
        talk(role, Config { backlog, ..config }, rng);
    });
}

/// What the original's gateway writes at the start of a stream.
fn header(protocol: u8, port: u16, texts: [&str; 3]) -> Vec<u8> {
    let mut bytes = vec![1, protocol];
    bytes.extend(port.to_be_bytes());
    for text in texts {
        bytes.extend((text.len() as u16).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

#[test]
fn p120_a_header_of_the_original_arrives_and_the_answer_goes_back() {
    use futures_util::io::AsyncWrite;
    use std::{pin::Pin, task::Context, task::Poll, task::Waker};
    let mut cx = Context::from_waker(Waker::noop());
    // The gateway is the server, and opens.
    let mut session = Session::new(Role::Client, original(), at(0));
    let mut peer = Peer::new(Mode::Server);
    let Poll::Ready(Ok(mut stream)) = peer.connection.poll_new_outbound(&mut cx) else {
        panic!("no stream");
    };
    let bytes = header(1, 5432, ["db", "shop", "t-1"]);
    // Field by field, as the original does.
    for part in [&bytes[..4], &bytes[4..8], &bytes[8..]] {
        let wrote = Pin::new(&mut stream).poll_write(&mut cx, part);
        assert!(matches!(wrote, Poll::Ready(Ok(len)) if len == part.len()));
        peer.poll();
    }
    let came: Vec<u8> = peer.pipe.borrow_mut().from_peer.drain(..).collect();
    // Each header and each body is a message of its own there.
    for byte in came {
        session.receive(at(1), &[byte]);
    }
    assert_eq!(session.event(), Some(Event::Opened(2)));
    session.accept(2);
    let mut read = Vec::new();
    while let Some(Event::Data(2, data)) = session.event() {
        session.consumed(at(1), 2, data.len());
        read.extend(data);
    }
    assert_eq!(read, bytes);
    assert!(stream.is_pending_ack());
    let answer = session.transmit(at(1)).unwrap();
    peer.pipe.borrow_mut().to_peer.extend(answer);
    peer.poll();
    assert!(!stream.is_pending_ack());
}
