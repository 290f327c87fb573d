//! Any call in any order, nonsense included.

use std::{collections::BTreeSet, time::Duration};

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use controlplane_core::{
    Action, ConnId, Controller, Down, Frame, HeartbeatStatus, Input, Kind, Limits, Machine,
    OutFrame, Phase, RequestHead, ResponseHead, SendError, Socket, StreamEnd, StreamId, Time,
};

use super::{BUDGET, assert_is_line, registered_agent, registered_controller};

/// Later it never gets: where time ends, what is due cannot be told from what is not.
const LAST: Duration = Duration::from_secs(1 << 60);

/// Any call in any order into the agent's machine; then it is told to stop, and does.
///
/// # Panics
///
/// If a promise of the core is broken.
pub fn agent_calls(data: &[u8]) {
    let mut caller = Caller::new(registered_agent());
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
    let mut caller = Caller::new(registered_controller());
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
    /// Streams that the machine or this caller ended.
    over: BTreeSet<StreamId>,
    stopped: bool,
}

impl<M: Machine> Caller<M> {
    const fn new(machine: M) -> Self {
        Self {
            machine,
            now: Time::ZERO,
            over: BTreeSet::new(),
            stopped: false,
        }
    }

    fn call(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let conn = ConnId(input.int_in_range(0..=6)?);
        let stream = StreamId(input.int_in_range(0..=12)?);
        match input.int_in_range(0..=17u8)? {
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
                let kind = *input.choose(&[Kind::Bytes, Kind::Binary, Kind::Text])?;
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
                self.handle(Input::Cancel(stream));
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
        const KINDS: [&str; 16] = [
            "error",
            "heartbeat",
            "ping",
            "proxy_cancel",
            "proxy_error",
            "proxy_request",
            "proxy_request",
            "proxy_request_chunk",
            "proxy_request_stream_end",
            "proxy_response",
            "proxy_response_chunk",
            "proxy_response_end",
            "proxy_response_header",
            "register",
            "register_in_progress",
            "ws_start",
        ];
        if input.ratio(1, 8)? {
            let len = input.int_in_range(0..=200)?;
            let raw = input.bytes(len)?;
            self.handle(Input::Frame(conn, Frame::Binary(raw)));
            return Ok(());
        }
        let kind = input.choose(&KINDS)?;
        let name = input.int_in_range(1..=9u8)?;
        let flags: [bool; 3] = input.arbitrary()?;
        let text = "QUJD".repeat(input.int_in_range(0..=1500)?);
        // Names as this controller gives them; the agent takes any.
        let id = format!("00000000000000000000000000000000-{name}");
        let frame = format!(
            r#"{{"type":"{kind}","request_id":"{id}","payload":{{"agent_id":"a","path":"/api",
            "status":200,"data":"{text}","body":"{text}","body_encoding":"base64",
            "encoding":"base64","use_streaming":{},"supports_response_streaming":{},
            "error":"cluster not registered","timeout":{},"features":{{
            "supports_streaming":{},"supports_response_streaming":{}}}}}}}"#,
            flags[0],
            flags[1],
            u32::from(name) * 500,
            flags[0],
            flags[2],
        );
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
            Action::Deliver(id, _, data) => {
                assert!(!data.is_empty() && !self.over.contains(&id));
            }
            Action::Head(id, _) | Action::Open(id, _) | Action::Writable(id) => {
                assert!(!self.over.contains(&id), "{id:?} is over");
            }
            Action::Failed(id, _) | Action::Reset(id) => {
                assert!(self.over.insert(id), "{id:?} ends twice");
            }
            Action::Send(_, OutFrame::Text(text)) => assert_is_line(&text),
            Action::Stopped => self.stopped = true,
            _ => {}
        }
    }

    fn bounds(&self) {
        let stats = self.machine.stats();
        assert!(stats.streams_open <= 8);
        assert!(stats.held_in <= 8 << 10, "{stats:?}");
        // One piece above the total; heads and ends of eight streams; whole bodies.
        let most = (8 << 10) + 6000 + 8 * ((2 << 10) + 4 * Limits::MIN_CHARGE) + (6 << 10);
        assert!(stats.held_out <= most, "{stats:?}");
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
        let head = RequestHead {
            method: "PUT".into(),
            path: format!("/api/{}", "x".repeat(input.int_in_range(0..=3000)?)),
            ..RequestHead::default()
        };
        let has_body = input.arbitrary()?;
        if let Ok(id) = self.machine.open(self.now, head, has_body) {
            assert!(!self.over.contains(&id), "an id is used again");
        }
        Ok(())
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
