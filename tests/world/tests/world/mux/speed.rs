//! How fast and how fair yamux is on a link with a bandwidth and a latency, in virtual time.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use controlplane_core::{
    Time,
    yamux::{Config, Event, Role, Session},
};
use controlplane_world::mux::{Frame, Kind, Plain, at};

const CHUNK: usize = 32 << 10;

/// One end and the direction that leads away from it.
struct End {
    session: Session,
    /// When the link takes the next bytes.
    free: Time,
    /// What is on its way, and when it arrives.
    way: VecDeque<(Time, Bytes)>,
    reader: Plain,
    /// Frames that this end was told, other than data.
    heard: Vec<(Time, Frame)>,
    wrote: Vec<(Time, Frame)>,
    writer: Plain,
    /// Streams that are never short of data.
    floods: Vec<u32>,
    /// Streams that nobody reads.
    ignored: Vec<u32>,
    /// Bytes that were read of each.
    read: BTreeMap<u32, usize>,
    arrived: BTreeMap<u32, Time>,
}

struct Link {
    ends: [End; 2],
    now: Time,
    /// Bytes a second.
    rate: u64,
    latency: Duration,
}

impl Link {
    fn new(rate: u64, latency: Duration, config: Config) -> Self {
        let end = |role| End {
            session: Session::new(role, config, at(0)),
            free: at(0),
            way: VecDeque::new(),
            reader: Plain::default(),
            heard: Vec::new(),
            wrote: Vec::new(),
            writer: Plain::default(),
            floods: Vec::new(),
            ignored: Vec::new(),
            read: BTreeMap::new(),
            arrived: BTreeMap::new(),
        };
        Self {
            ends: [end(Role::Client), end(Role::Server)],
            now: at(0),
            rate,
            latency,
        }
    }

    /// How long so many bytes take on the link.
    fn span(&self, len: usize) -> Duration {
        Duration::from_nanos(len as u64 * 1_000_000_000 / self.rate)
    }

    /// Streams of the server, on which it floods.
    fn flood(&mut self, count: usize) -> Vec<u32> {
        let session = &mut self.ends[1].session;
        let ids: Vec<u32> = (0..count)
            .map(|_| session.open(self.now).unwrap())
            .collect();
        self.ends[1].floods.extend(&ids);
        ids
    }

    /// Lets time pass until then.
    fn run(&mut self, until: Time) {
        loop {
            let now = self.now;
            for side in [0, 1] {
                self.arrive(side);
            }
            for side in [0, 1] {
                self.act(side);
                self.write(side);
            }
            let next = self.ends.iter().flat_map(|end| {
                let writes = end.session.wants_transmit().then_some(end.free);
                let arrives = end.way.front().map(|(when, _)| *when);
                [writes, arrives, end.session.deadline()]
            });
            self.now = next
                .flatten()
                .filter(|when| *when > now)
                .min()
                .unwrap_or(until)
                .min(until);
            if self.now >= until {
                return;
            }
        }
    }

    fn arrive(&mut self, side: usize) {
        while let Some((when, _)) = self.ends[1 - side].way.front()
            && *when <= self.now
            && let Some((_, bytes)) = self.ends[1 - side].way.pop_front()
        {
            let end = &mut self.ends[side];
            let frames = end.reader.frames(&bytes);
            let others = frames.into_iter().filter(|frame| frame.kind != Kind::Data);
            end.heard.extend(others.map(|frame| (self.now, frame)));
            end.session.receive(self.now, &bytes);
        }
    }

    fn act(&mut self, side: usize) {
        let end = &mut self.ends[side];
        end.session.tick(self.now);
        for _ in 0..2 {
            while let Some(event) = end.session.event() {
                match event {
                    Event::Opened(id) => end.session.accept(id),
                    Event::Data(id, data) => {
                        end.arrived.insert(id, self.now);
                        *end.read.entry(id).or_default() += data.len();
                        if !end.ignored.contains(&id) {
                            end.session.consumed(self.now, id, data.len());
                        }
                    }
                    Event::Writable(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            for id in &end.floods {
                let piece = || Bytes::from_static(&[0; CHUNK]);
                while end.session.send(*id, piece()).is_ok() {}
            }
        }
    }

    fn write(&mut self, side: usize) {
        let (now, latency) = (self.now, self.latency);
        if self.ends[side].free > now {
            return;
        }
        if let Some(bytes) = self.ends[side].session.transmit(now) {
            let span = self.span(bytes.len());
            let end = &mut self.ends[side];
            let frames = end.writer.frames(&bytes);
            end.wrote
                .extend(frames.into_iter().map(|frame| (now, frame)));
            end.free = now + span;
            end.way.push_back((end.free + latency, bytes));
        }
    }

    /// What was read of a stream of the server.
    fn read(&self, id: u32) -> usize {
        self.ends[0].read.get(&id).copied().unwrap_or_default()
    }
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn one_stream_fills_a_long_link_as_far_as_its_window_reaches() {
    // 1 Gbit/s, and 200 ms there and back: 4 MiB reach for 21 MB/s.
    let mut link = Link::new(125_000_000, millis(100), Config::default());
    let id = link.flood(1)[0];
    let most = (4 << 20) as f64 / 0.2;
    let mut seconds = Vec::new();
    for second in 1..=12 {
        let before = link.read(id);
        link.run(at(second * 1000));
        seconds.push((link.read(id) - before) as f64 / most);
    }
    assert!(link.read(id) > 200_000_000);
    // The ramp-up takes less than 1.5 s.
    assert!(seconds[1] >= 0.5, "{seconds:?}");
    for share in &seconds[2..] {
        assert!((0.8..=1.1).contains(share), "{seconds:?}");
    }
}

#[test]
fn a_slow_link_is_full_and_its_window_stays_small() {
    // 10 MB/s and 10 ms: the first window is more than it takes.
    let mut link = Link::new(10_000_000, millis(5), Config::default());
    let id = link.flood(1)[0];
    link.run(at(100));
    let before = link.read(id);
    link.run(at(1100));
    assert!(link.read(id) - before > 9_800_000);
    let granted = link.ends[0]
        .wrote
        .iter()
        .filter(|(_, frame)| frame.kind == Kind::Update);
    let granted: usize = granted.map(|(_, frame)| frame.length as usize).sum();
    // Four times what is on its way: 10 MB/s for 10 ms and for what waits to be sent.
    assert!(granted <= link.read(id) + (1 << 20), "{granted}");
}

#[test]
fn a_keystroke_waits_for_one_chunk_of_each_flood_and_floods_share_alike() {
    const FLOODS: usize = 8;
    let mut link = Link::new(10_000_000, millis(5), Config::default());
    let floods = link.flood(FLOODS);
    let typed = link.ends[1].session.open(at(0)).unwrap();
    link.run(at(200));
    let before: Vec<usize> = floods.iter().map(|id| link.read(*id)).collect();
    let turn = link.span(CHUNK + 12);
    for n in 0..100 {
        // At any point of their turns.
        let now = at(200 + 57 * n);
        link.run(now);
        link.ends[1]
            .session
            .send(typed, Bytes::from_static(b"k"))
            .unwrap();
        link.run(now + millis(50));
        let late = link.ends[0].arrived[&typed] - now;
        // One is on its way out already.
        let most = millis(5) + turn * (FLOODS as u32 + 1) + millis(1);
        assert!(late <= most, "{late:?} of {most:?}");
    }
    let shares = floods
        .iter()
        .zip(before)
        .map(|(id, before)| link.read(*id) - before);
    let shares: Vec<usize> = shares.collect();
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(*least > 500_000 && most - least <= 2 * CHUNK, "{shares:?}");
}

#[test]
fn pings_and_grants_go_ahead_of_data() {
    let config = Config {
        keepalive: millis(1000),
        ..Config::default()
    };
    let mut link = Link::new(10_000_000, millis(5), config);
    link.flood(8);
    // The other direction is as busy.
    for _ in 0..8 {
        let id = link.ends[0].session.open(at(0)).unwrap();
        link.ends[0].floods.push(id);
    }
    link.run(at(10_000));
    let turn = link.span(CHUNK + 12 * 66);
    for side in [0, 1] {
        let of = |list: &Vec<(Time, Frame)>, flags| -> Vec<Time> {
            let pings = list
                .iter()
                .filter(|(_, f)| f.kind == Kind::Ping && f.flags == flags);
            pings.map(|(when, _)| *when).collect()
        };
        let asked = of(&link.ends[side].wrote, 1);
        let answered = of(&link.ends[side].heard, 2);
        assert!(answered.len() >= 9, "{} answers", answered.len());
        for (asked, answered) in asked.iter().zip(answered) {
            // What is being written is finished first, and the ping goes out with a chunk.
            let most = millis(10) + turn * 4;
            assert!(
                answered - *asked <= most,
                "{:?} of {most:?}",
                answered - *asked
            );
        }
        // No stream ever waited for its grant.
        assert_eq!(link.ends[side].session.stats().stalls, 0);
    }
}

#[test]
fn a_stream_that_nobody_reads_holds_its_window_and_no_one_up() {
    let run = |stalled: bool| {
        let mut link = Link::new(20_000_000, millis(20), Config::default());
        let floods = link.flood(100);
        if stalled {
            link.ends[0].ignored.push(floods[0]);
        }
        link.run(at(10_000));
        let others: Vec<usize> = floods[1..].iter().map(|id| link.read(*id)).collect();
        let (least, most) = (*others.iter().min().unwrap(), *others.iter().max().unwrap());
        assert!(most - least <= 2 * CHUNK, "{others:?}");
        (least, link.ends[0].session.held_in())
    };
    let ((stalled, held), (free, nothing)) = (run(true), run(false));
    assert!(stalled >= free, "{stalled} of {free}");
    assert_eq!((held, nothing), (256 << 10, 0));
}
