//! One conversation: the subject, the moment it lives in, and what nobody has looked at yet.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use controlplane_core::{
    Action, Agent, ConnId, Controller, Down, Endpoint, Failure, Frame, Input, Kind, Machine,
    OutFrame, ResponseHead, SendError, Socket, StreamEnd, StreamId, Target, Time,
};
use controlplane_world::vectors::{
    Beginning, Era, Role, Step, Vector,
    data::hex,
    load,
    matching::{self, Saved},
    step, wire,
};
use serde_json::json;

use super::setup;

pub(super) enum Subject {
    Agent(Box<Agent>),
    Controller(Box<Controller>),
}

impl Subject {
    fn machine(&mut self) -> &mut dyn Machine {
        match self {
            Self::Agent(agent) => &mut **agent,
            Self::Controller(controller) => &mut **controller,
        }
    }
}

/// What the tester's end of a stream has seen and nobody has looked at.
#[derive(Debug, Default)]
pub(super) struct Local {
    pub(super) head: Option<ResponseHead>,
    pub(super) inbox: VecDeque<(Kind, Bytes)>,
    /// What the subject does not take yet.
    outbox: VecDeque<(Kind, Bytes)>,
    pub(super) end: Option<Seen>,
}

impl Local {
    /// The subject has not taken all that was offered.
    pub(super) fn waits(&self) -> bool {
        !self.outbox.is_empty()
    }
}

/// An end, as the tester's end of a stream saw it.
#[derive(Debug)]
pub(super) enum Seen {
    Complete,
    Closed(u16, String),
    Broken(Option<u16>),
}

pub(super) struct Player {
    pub(super) subject: Subject,
    pub(super) now: Time,
    pub(super) saved: Saved,
    pub(super) conn: Option<ConnId>,
    pub(super) sent: VecDeque<OutFrame>,
    pub(super) closes: VecDeque<u16>,
    dials: VecDeque<(ConnId, Endpoint, Time)>,
    lost: Time,
    pub(super) opens: VecDeque<(StreamId, Target)>,
    pub(super) locals: BTreeMap<StreamId, Local>,
    /// Streams by the names that steps gave them, the latest last.
    pub(super) named: Vec<(String, StreamId)>,
    pub(super) quiets: u32,
}

/// Plays the conversation of a vector.
pub(super) fn play(vector: &Vector) -> Result<(), String> {
    let era = vector.era.ok_or("no era")?;
    let mut player = match vector.role {
        Role::Agent => Player::agent(&vector.config, era, vector.start)?,
        _ => Player::controller(era, vector.start)?,
    };
    for (i, step) in vector.steps.iter().enumerate() {
        let outcome = player.step(step).and_then(|()| player.pump());
        outcome.map_err(|error| format!("step {}: {error}", i + 1))?;
    }
    player
        .nothing_left()
        .map_err(|e| format!("at the end: {e}"))
}

impl Player {
    pub(super) fn new(subject: Subject) -> Self {
        Self {
            subject,
            now: Time::ZERO,
            saved: Saved::from([("own".into(), "service-account-token".into())]),
            conn: None,
            sent: VecDeque::new(),
            closes: VecDeque::new(),
            dials: VecDeque::new(),
            lost: Time::ZERO,
            opens: VecDeque::new(),
            locals: BTreeMap::new(),
            named: Vec::new(),
            quiets: 0,
        }
    }

    pub(super) fn controller(era: Era, start: Beginning) -> Result<Self, String> {
        let mut player = Self::new(Subject::Controller(Box::new(setup::controller()?)));
        player.conn = Some(ConnId(1));
        player.input(Input::Accepted(ConnId(1)))?;
        if start == Beginning::Registered {
            let register = load::greeting(Role::Controller, era)?;
            player.text(&register)?;
            let success = json!({"type": "register_success", "request_id": "reg",
                "payload": {"$more": true}});
            player.expect(&success)?;
        }
        Ok(player)
    }

    // ------------------------------------------------------------ the machine

    pub(super) fn input(&mut self, input: Input<'_>) -> Result<(), String> {
        let now = self.now;
        self.subject.machine().handle(now, input);
        self.pump()
    }

    pub(super) fn offer(&mut self, id: StreamId, kind: Kind, data: Bytes) -> Result<(), String> {
        self.local(id).outbox.push_back((kind, data));
        self.flush(id);
        self.pump()
    }

    /// Offers what waits, as far as the subject takes it; what it refuses for good is lost, as it
    /// is on a connection that is closed.
    fn flush(&mut self, id: StreamId) {
        while let Some((kind, data)) = self.local(id).outbox.pop_front() {
            match self.subject.machine().send(id, kind, data) {
                Ok(()) | Err(SendError::Closed(_)) => {}
                Err(SendError::Blocked(data)) => {
                    return self.local(id).outbox.push_front((kind, data));
                }
            }
        }
    }

    /// Does what the machine wants, until it wants nothing more.
    fn pump(&mut self) -> Result<(), String> {
        loop {
            let socket = self.conn.map_or(Socket::Blocked, Socket::Ready);
            let Some(action) = self.subject.machine().poll(socket) else {
                return Ok(());
            };
            self.take(action);
        }
    }

    fn take(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::Send(_, OutFrame::Ping) => {}
            Action::Send(_, frame) => self.sent.push_back(frame),
            Action::Connect(conn, endpoint) => self.dials.push_back((conn, endpoint, now)),
            Action::Close(conn, code, _) => {
                self.closes.push_back(code as u16);
                if self.conn == Some(conn) {
                    self.conn = None;
                    self.lost = now;
                }
            }
            Action::Open(id, target) => self.opens.push_back((id, target)),
            Action::Head(id, head) => self.local(id).head = Some(head),
            Action::Deliver(id, kind, data) => {
                let len = data.len();
                self.local(id).inbox.push_back((kind, data));
                self.subject.machine().handle(now, Input::Consumed(id, len));
            }
            Action::Finish(id) => self.local(id).end = Some(Seen::Complete),
            Action::Reset(id) => self.local(id).end = Some(Seen::Broken(None)),
            Action::Failed(id, failure) => {
                let status = match failure {
                    Failure::Refused { status, .. } => Some(status),
                    _ => None,
                };
                self.local(id).end = Some(Seen::Broken(status));
            }
            Action::Writable(id) => self.flush(id),
            Action::Closed(id, close, _) => {
                self.local(id).end = Some(Seen::Closed(close.code, close.reason.clone()));
                if matches!(self.subject, Subject::Agent(_)) {
                    // As every WebSocket does, the upstream's answers a close with a close.
                    let end = Input::Ended(id, StreamEnd::Closed(close));
                    self.subject.machine().handle(now, end);
                }
            }
            _ => {}
        }
    }

    pub(super) fn local(&mut self, id: StreamId) -> &mut Local {
        self.locals.entry(id).or_default()
    }

    /// The stream of that name, or the latest.
    pub(super) fn on(&self, name: Option<&String>) -> Result<StreamId, String> {
        let found = match name {
            Some(name) => self.named.iter().rev().find(|(known, _)| known == name),
            None => self.named.last(),
        };
        found
            .map(|(_, id)| *id)
            .ok_or_else(|| format!("no stream is called {name:?}"))
    }

    pub(super) fn name(&mut self, name: Option<&String>, id: StreamId) {
        let name = name.cloned().unwrap_or_default();
        self.named.push((name, id));
        self.local(id);
    }

    // ------------------------------------------------------------ the link

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Send(raw) => {
                let text = matching::filled(raw.get(), &self.saved)?;
                self.text(&text)
            }
            Step::SendText(text) => {
                let text = matching::filled(text, &self.saved)?;
                self.text(&text)
            }
            Step::SendBinary(digits) => self.binary(&hex(digits)?),
            Step::SendFrame(frame) => {
                let id = matching::filled(&frame.request_id, &self.saved)?;
                self.binary(&wire::frame(frame, &id))
            }
            Step::Expect(pattern) => self.expect(pattern),
            Step::ExpectPieces(pieces) => self.expect_pieces(pieces),
            Step::ExpectBinary(digits) => self.expect_binary(&hex(digits)?),
            Step::ExpectFrame(frame) => self.expect_frame(frame),
            Step::Quiet(_) => self.quiet(),
            Step::Pass(millis) => self.pass(Duration::from_millis(*millis)),
            Step::Dial(dial) => self.dial(dial),
            Step::Close(code) => self.down(Down::Closed {
                code: *code,
                reason: String::new(),
            }),
            Step::Drop(_) => self.down(Down::Lost("cut".into())),
            Step::ExpectClose(code) => match self.closes.pop_front() {
                Some(seen) if seen == *code => Ok(()),
                seen => Err(format!("expected a close with {code}, saw {seen:?}")),
            },
            other => match &self.subject {
                Subject::Agent(_) => self.upstream(other),
                Subject::Controller(_) => self.client(other),
            },
        }
    }

    pub(super) fn open_conn(&self) -> Result<ConnId, String> {
        self.conn.ok_or_else(|| "the connection is closed".into())
    }

    pub(super) fn text(&mut self, text: &str) -> Result<(), String> {
        let conn = self.open_conn()?;
        self.input(Input::Frame(conn, Frame::Text(text)))
    }

    pub(super) fn binary(&mut self, data: &[u8]) -> Result<(), String> {
        let conn = self.open_conn()?;
        self.input(Input::Frame(conn, Frame::Binary(data)))
    }

    fn down(&mut self, down: Down) -> Result<(), String> {
        let conn = self.open_conn()?;
        self.conn = None;
        self.lost = self.now;
        self.input(Input::Disconnected(conn, down))
    }

    /// Lets time pass; the tester answers pings.
    pub(super) fn pass(&mut self, span: Duration) -> Result<(), String> {
        let end = self.now + span;
        self.pump()?;
        while self.now < end {
            let due = self.subject.machine().deadline().unwrap_or(end);
            let step = self.now + Duration::from_secs(5);
            self.now = end.min(step).min(due);
            self.input(Input::Tick)?;
            if let Some(conn) = self.conn {
                self.input(Input::Alive(conn))?;
            }
        }
        Ok(())
    }

    /// Waits for a dial, and takes or refuses it.
    pub(super) fn dial(&mut self, dial: &step::Dial) -> Result<(), String> {
        for _ in 0..600 {
            if !self.dials.is_empty() {
                break;
            }
            self.pass(Duration::from_secs(1))?;
        }
        let (conn, endpoint, at) = self.dials.pop_front().ok_or("no dial")?;
        let to = match endpoint {
            Endpoint::Controller => "controller".into(),
            Endpoint::Gateway(url) => url,
        };
        if !matching::same_url(&dial.to, &to) {
            return Err(format!("expected a dial of {}, saw one of {to}", dial.to));
        }
        let after = u64::try_from((at - self.lost).as_millis()).unwrap_or(u64::MAX);
        if let Some([from, until]) = dial.after_ms
            && !(from..=until).contains(&after)
        {
            return Err(format!("dialled after {after} ms"));
        }
        let Some(status) = dial.refused else {
            self.conn = Some(conn);
            return self.input(Input::Connected(conn));
        };
        self.lost = self.now;
        let retry_after = dial.retry_after.map(Duration::from_secs);
        let down = Down::Refused {
            status,
            retry_after,
        };
        self.input(Input::Disconnected(conn, down))
    }
}
