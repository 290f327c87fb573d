//! Any call in any order, nonsense included.

mod frames;

use std::{collections::BTreeSet, time::Duration};

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use controlplane_core::{
    Action, ConnId, Controller, Down, Frame, HeartbeatStatus, Input, Kind, Limits, Machine,
    OutFrame, Phase, RequestHead, ResponseHead, SendError, Socket, StreamClose, StreamEnd,
    StreamId, Time, Transport, Tunnel,
};

use super::{BUDGET, assert_is_line, exec, registered_agent, registered_controller};
use crate::{exchange::chosen, message::field};

/// Later it never gets: where time ends, what is due cannot be told from what is not.
const LAST: Duration = Duration::from_secs(1 << 60);

/// Any call in any order into the agent's machine; then it is told to stop, and does.
///
/// # Panics
///
/// If a promise of the core is broken.
pub fn agent_calls(data: &[u8]) {
    let mut caller = Caller::new(registered_agent(), None);
    let mut input = Unstructured::new(data);
    while !input.is_empty() {
        if caller.call(&mut input).is_err() {
            break;
        }
        caller.drain();
    }
    caller.stop(|agent| agent.phase() == Phase::Stopped);
}

/// The same for the controller's machine.
///
/// # Panics
///
/// If a promise of the core is broken.
pub fn controller_calls(data: &[u8]) {
    let mut caller = Caller::new(registered_controller(), Some(StreamId(4)));
    caller.silent.insert(StreamId(3));
    let mut input = Unstructured::new(data);
    while !input.is_empty() {
        let called = match input.ratio(1, 6) {
            Ok(true) => caller.open(&mut input),
            _ => caller.call(&mut input),
        };
        if called.is_err() {
            break;
        }
        caller.drain();
    }
    caller.stop(|controller| controller.deadline().is_none());
}

struct Caller<M> {
    machine: M,
    now: Time,
    /// The last stream that this caller opened, where it is the one who does.
    opened: Option<StreamId>,
    /// Streams that the machine or this caller ended.
    over: BTreeSet<StreamId>,
    /// Streams of the agent that it was told to close.
    told: BTreeSet<StreamId>,
    /// Terminals whose client was not told how the command ended, and would be if it succeeded.
    silent: BTreeSet<StreamId>,
    /// Id of the last `register`.
    registering: String,
    stopped: bool,
}

impl<M: Machine> Caller<M> {
    const fn new(machine: M, opened: Option<StreamId>) -> Self {
        Self {
            machine,
            now: Time::ZERO,
            opened,
            over: BTreeSet::new(),
            told: BTreeSet::new(),
            silent: BTreeSet::new(),
            registering: String::new(),
            stopped: false,
        }
    }

    fn call(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let conn = ConnId(input.int_in_range(0..=6)?);
        let stream = StreamId(input.int_in_range(0..=12)?);
        // Only ever added to: the corpus counts on the numbers.
        match input.int_in_range(0..=26u8)? {
            0..=4 => self.frame(conn, input)?,
            5 => self.handle(Input::Connected(conn)),
            6 => {
                let down = down(input)?;
                self.handle(Input::Disconnected(conn, down));
            }
            7 => {
                let status = input.arbitrary()?;
                let headers = Vec::from([("A".to_string(), "b".to_string())]);
                self.handle(Input::Head(stream, ResponseHead { status, headers }));
            }
            8 => {
                let clean = input.arbitrary()?;
                let end = if clean {
                    StreamEnd::Clean
                } else {
                    StreamEnd::Broken("broken".into())
                };
                self.handle(Input::Ended(stream, end));
            }
            9 => {
                let len = input.int_in_range(0..=6000)?;
                self.handle(Input::Consumed(stream, len));
            }
            10 | 11 => {
                let data = Bytes::from(vec![7; input.int_in_range(0..=6000)?]);
                let kinds = [Kind::Bytes, Kind::Binary, Kind::Text, Kind::Datagram];
                let kind = *input.choose(&kinds)?;
                match self.machine.send(stream, kind, data.clone()) {
                    Ok(()) => {}
                    Err(SendError::Blocked(back) | SendError::Closed(back)) => {
                        assert!(back == data, "refused data came back changed");
                    }
                }
            }
            12 => self.pass(input)?,
            13 => {
                let status = HeartbeatStatus {
                    k8s_nodes: input.arbitrary()?,
                    ..HeartbeatStatus::default()
                };
                self.handle(Input::Status(status));
            }
            14 => {
                for _ in 0..input.int_in_range(0..=20)? {
                    if let Some(action) = self.machine.poll(Socket::Ready(conn)) {
                        self.keep(action);
                    }
                }
            }
            15 => {
                self.handle(Input::Accepted(conn));
                self.handle(Input::Alive(conn));
            }
            16 => {
                self.handle(Input::Wrote(conn));
                self.handle(Input::Pong(conn));
                self.handle(Input::Cancel(stream));
                if self.opened.is_some_and(|last| stream <= last) {
                    self.over.insert(stream);
                }
            }
            18 => {
                let close = StreamClose::new(input.arbitrary()?, "so it is");
                self.handle(Input::Ended(stream, StreamEnd::Closed(close)));
            }
            19 | 20 => {
                let protocol = input.choose(&["v5.channel.k8s.io", "channel.k8s.io", "x"])?;
                let name = "Sec-WebSocket-Protocol".to_string();
                let head = ResponseHead {
                    status: 101,
                    headers: Vec::from([(name, (*protocol).to_string())]),
                };
                self.handle(Input::Head(stream, head));
            }
            21 => {
                let unix = span(input)?;
                self.handle(Input::Clock(unix));
            }
            22 => {
                let frame = frames::binary(input)?;
                self.handle(Input::Frame(conn, Frame::Binary(&frame)));
            }
            23 => {
                let success = frames::success(&self.registering, input)?;
                self.handle(Input::Frame(conn, Frame::Text(&success)));
            }
            24 => {
                for text in frames::fast_mode(input)? {
                    self.handle(Input::Frame(conn, Frame::Text(&text)));
                }
            }
            25 | 26 => {
                let frames = frames::yamux(input)?;
                self.handle(Input::Frame(conn, Frame::Binary(&frames)));
            }
            _ => {
                let rarely = input.ratio(1, 20)?;
                if rarely {
                    let grace = span(input)?;
                    self.handle(Input::Shutdown(grace));
                }
            }
        }
        Ok(())
    }

    fn frame(&mut self, conn: ConnId, input: &mut Unstructured<'_>) -> Result<()> {
        if input.ratio(1, 8)? {
            let len = input.int_in_range(0..=200)?;
            let raw = input.bytes(len)?;
            self.handle(Input::Frame(conn, Frame::Binary(raw)));
            return Ok(());
        }
        let frame = frames::frame(input)?;
        self.handle(Input::Frame(conn, Frame::Text(&frame)));
        Ok(())
    }

    fn pass(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let to_deadline = input.arbitrary()?;
        self.now = match self.machine.deadline() {
            Some(at) if to_deadline && at.as_duration() < LAST => at,
            // Also into the past, and far ahead; only the end of time itself never comes.
            _ => Time::since_origin(span(input)?.min(LAST)),
        };
        self.handle(Input::Tick);
        Ok(())
    }

    fn handle(&mut self, input: Input<'_>) {
        self.machine.handle(self.now, input);
        let due = self.machine.deadline().is_some_and(|at| at <= self.now);
        assert!(!due, "a timer that is due survived");
    }

    /// Takes everything but frames: only they may wait.
    fn drain(&mut self) {
        for _ in 0..BUDGET {
            let Some(action) = self.machine.poll(Socket::Blocked) else {
                return self.bounds();
            };
            self.keep(action);
        }
        panic!("the machine does not come to rest");
    }

    fn keep(&mut self, action: Action) {
        let stopped = matches!(action, Action::Close(..) | Action::Notice(_));
        assert!(!self.stopped || stopped, "{action:?} after the end");
        match action {
            Action::Deliver(id, kind, data) => {
                assert!(!self.over.contains(&id) && !self.told.contains(&id));
                assert!(!data.is_empty() || kind != Kind::Bytes);
                if data.len() > 1 && data[0] == 3 {
                    self.silent.remove(&id);
                }
            }
            Action::Head(id, head) => {
                assert!(!self.over.contains(&id), "{id:?} is over");
                if head.status == 101 && chosen(&head).starts_with("v5.") {
                    self.silent.insert(id);
                }
            }
            Action::Open(id, _) | Action::Writable(id) => {
                assert!(!self.over.contains(&id), "{id:?} is over");
            }
            Action::Closed(id, close, failure) => {
                let lie = close.code == StreamClose::NORMAL && self.silent.contains(&id);
                assert!(!lie, "{id:?} passes for a success");
                if self.opened.is_some() {
                    assert!(self.over.insert(id), "{id:?} ends twice");
                } else {
                    assert!(failure.is_none() && !self.over.contains(&id));
                    assert!(self.told.insert(id), "{id:?} is closed twice");
                }
            }
            Action::Finish(id) if self.opened.is_some() => {
                assert!(self.over.insert(id), "{id:?} ends twice");
            }
            Action::HalfClosed(id) => assert!(!self.over.contains(&id), "{id:?} is over"),
            Action::Failed(id, _) | Action::Over(id) | Action::Reset(id) => {
                assert!(self.over.insert(id), "{id:?} ends twice");
            }
            Action::Send(_, OutFrame::Text(text)) => {
                assert_is_line(&text);
                if text.starts_with("{\"type\":\"register\"") {
                    self.registering = field(&text, "request_id").unwrap_or_default().into();
                }
            }
            Action::Stopped => self.stopped = true,
            _ => {}
        }
    }

    fn bounds(&self) {
        let stats = self.machine.stats();
        // Of JSON, and of the fast mode.
        assert!(stats.streams_open <= 16);
        assert!(stats.held_in <= 16 << 10, "{stats:?}");
        // One piece above the total; heads and ends of eight streams; whole bodies.
        let most = (8 << 10) + 6000 + 8 * ((2 << 10) + 4 * Limits::MIN_CHARGE) + (6 << 10);
        let fast = (8 << 10) + 6000;
        assert!(stats.held_out <= most + fast, "{stats:?}");
    }

    /// With a socket that takes nothing, it ends within the grace and the last wait for writes.
    fn stop(mut self, has_stopped: impl Fn(&M) -> bool) {
        self.drain();
        let grace = Duration::from_secs(1);
        self.handle(Input::Shutdown(grace));
        self.drain();
        let mut steps = 0;
        while let Some(at) = self.machine.deadline() {
            // It is woken by its timers alone, the last of them at the end of the linger.
            steps += 1;
            assert!(steps < 100, "it is woken again and again");
            self.now = at;
            self.handle(Input::Tick);
            self.drain();
        }
        assert!(has_stopped(&self.machine));
        let stats = self.machine.stats();
        let left = (stats.streams_open, stats.held_in, stats.held_out);
        assert_eq!(left, (0, 0, 0));
    }
}

impl Caller<Controller> {
    fn open(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        // Odd ones open a WebSocket, as they always did.
        let which: u8 = input.arbitrary()?;
        let opened = if which == 6 {
            self.machine.open_http(self.now)
        } else if which == 8 || which == 10 {
            let tunnel = tunnel(which == 10, 0);
            self.machine.open_service(self.now, tunnel)
        } else if which == 2 || which == 4 {
            let tunnel = tunnel(which == 4, input.int_in_range(0..=2)?);
            self.machine.open_tunnel(self.now, tunnel)
        } else if which % 2 == 1 {
            let offers = [&["v5.channel.k8s.io", "x"][..], &["channel.k8s.io"], &[]];
            let offered = input.choose(&offers)?;
            let offered = offered.iter().map(ToString::to_string).collect();
            self.machine.open_websocket(self.now, exec(), offered)
        } else {
            let head = RequestHead {
                method: "PUT".into(),
                path: format!("/api/{}", "x".repeat(input.int_in_range(0..=3000)?)),
                ..RequestHead::default()
            };
            let has_body = input.arbitrary()?;
            self.machine.open(self.now, head, has_body)
        };
        if let Ok(id) = opened {
            assert!(self.opened < Some(id), "an id is used again");
            self.opened = Some(id);
        }
        Ok(())
    }
}

/// A client of a tunnel.
fn tunnel(udp: bool, client_port: u16) -> Tunnel {
    Tunnel {
        transport: if udp { Transport::Udp } else { Transport::Tcp },
        tunnel_id: "t".into(),
        service_name: "web".into(),
        service_namespace: "default".into(),
        service_port: 80,
        client_addr: "192.0.2.1".into(),
        client_port,
        ..Tunnel::default()
    }
}

fn down(input: &mut Unstructured<'_>) -> Result<Down> {
    Ok(match input.int_in_range(0..=3)? {
        0 => Down::Closed {
            code: input.arbitrary()?,
            reason: "closed".into(),
        },
        1 => Down::Lost("lost".into()),
        2 => Down::Refused {
            status: input.arbitrary()?,
            retry_after: Some(span(input)?),
        },
        _ => Down::TooBig,
    })
}

/// Mostly seconds, sometimes anything.
fn span(input: &mut Unstructured<'_>) -> Result<Duration> {
    Ok(match input.int_in_range(0..=3)? {
        0 => Duration::from_millis(input.arbitrary::<u16>()?.into()),
        1 | 2 => Duration::from_secs(input.arbitrary::<u8>()?.into()),
        _ => Duration::new(input.arbitrary()?, 0),
    })
}
