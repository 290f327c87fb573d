//! Unit tests of the controller's machine, one statement or property each; a name that begins
//! with `p` and a number says which statement.

mod answers;
mod churn;
mod counts;
mod limits;
mod orders;
mod requests;
mod sessions;
mod sockets;
mod tunnels;
mod whole;

use alloc::{
    collections::BTreeSet,
    string::{String, ToString},
    vec::Vec,
};

use serde_json::{Value, json};

use super::*;
use crate::{
    action::{CloseCode, OutFrame},
    config::Limits,
    error::{Failure, Reason},
    input::{Down, Frame, ResponseHead, StreamEnd},
};

const A: ConnId = ConnId(1);
const B: ConnId = ConnId(2);

/// A controller, the moment it lives in, and what it has said that no test has looked at yet.
struct Bench {
    controller: Controller,
    now: Time,
    /// Connections whose socket takes everything.
    open: BTreeSet<ConnId>,
    actions: Vec<Action>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut ControllerConfig)) -> Self {
        Self::start(9, change)
    }

    fn start(nonce: u8, change: impl FnOnce(&mut ControllerConfig)) -> Self {
        let mut config = ControllerConfig::new("c-1", "prod");
        config.workspace_id = Some(7);
        change(&mut config);
        let start = Start {
            now: Time::ZERO,
            unix: Duration::from_secs(1_795_412_045),
            nonce: [nonce; 16],
        };
        Self {
            controller: Controller::new(config, start).unwrap(),
            now: Time::ZERO,
            open: BTreeSet::new(),
            actions: Vec::new(),
        }
    }

    /// With an agent on [`A`] that streams both ways; everything said on the way forgotten.
    fn registered() -> Self {
        Self::registered_with(|_| {})
    }

    fn registered_with(change: impl FnOnce(&mut ControllerConfig)) -> Self {
        let mut bench = Self::with(change);
        bench.join(A, true);
        bench.take();
        bench
    }

    fn accept(&mut self, conn: ConnId) {
        self.input(Input::Accepted(conn));
        self.open.insert(conn);
    }

    /// An agent connects and registers; where `streams`, it says that it streams both ways.
    fn join(&mut self, conn: ConnId, streams: bool) {
        self.accept(conn);
        self.register(conn, streams);
    }

    fn register(&mut self, conn: ConnId, streams: bool) {
        let features =
            json!({"supports_streaming": streams, "supports_response_streaming": streams});
        self.frame(
            conn,
            json!({"type": "register", "request_id": "reg",
                "payload": {"agent_id": "agent-1f2e", "features": features}}),
        );
    }

    fn input(&mut self, input: Input<'_>) {
        self.controller.handle(self.now, input);
        assert!(
            self.controller.deadline().is_none_or(|at| at > self.now),
            "a due timer survived"
        );
    }

    fn frame(&mut self, conn: ConnId, frame: Value) {
        self.raw(conn, &frame.to_string());
    }

    fn raw(&mut self, conn: ConnId, text: &str) {
        self.input(Input::Frame(conn, Frame::Text(text)));
    }

    /// Something that the agent says about a request.
    fn says(&mut self, kind: &str, name: &str, payload: Value) {
        self.frame(
            A,
            json!({"type": kind, "request_id": name, "payload": payload}),
        );
    }

    fn answer_head(&mut self, name: &str) {
        let payload = json!({"status": 200, "headers": {"A": ["b"]}});
        self.says("proxy_response_header", name, payload);
    }

    fn answer_data(&mut self, name: &str, data: &[u8]) {
        let payload = json!({"data": base64(data), "encoding": "base64", "size": data.len()});
        self.says("proxy_response_chunk", name, payload);
    }

    fn answer_end(&mut self, name: &str) {
        self.says("proxy_response_end", name, json!({}));
    }

    fn lose(&mut self, conn: ConnId) {
        self.open.remove(&conn);
        self.input(Input::Disconnected(conn, Down::Lost("cut".into())));
    }

    /// Lets time pass, deadline by deadline; agents that are `alive` answer pings.
    fn pass(&mut self, span: Duration, alive: &[ConnId]) {
        let end = self.now + span;
        self.run();
        while self.now < end {
            let step = self.now + secs(5);
            let due = self.controller.deadline().unwrap_or(end);
            self.now = end.min(step).min(due);
            self.input(Input::Tick);
            for conn in alive {
                self.input(Input::Alive(*conn));
            }
            self.run();
        }
    }

    /// Takes all actions; every open connection's socket takes everything.
    fn run(&mut self) {
        self.run_blocked();
        for conn in self.open.clone() {
            while let Some(action) = self.controller.poll(Socket::Ready(conn)) {
                self.keep(action);
            }
        }
    }

    /// Takes all actions with sockets that take nothing.
    fn run_blocked(&mut self) {
        while let Some(action) = self.controller.poll(Socket::Blocked) {
            self.keep(action);
        }
    }

    fn keep(&mut self, action: Action) {
        if let Action::Close(conn, ..) = &action {
            self.open.remove(conn);
        }
        self.actions.push(action);
    }

    fn take(&mut self) -> Vec<Action> {
        self.run();
        core::mem::take(&mut self.actions)
    }

    fn has(&mut self, wanted: &Action) -> bool {
        self.run();
        self.actions.contains(wanted)
    }

    /// The JSON messages to one connection; the other actions stay.
    fn sent_to(&mut self, conn: ConnId) -> Vec<Value> {
        let mut sent = Vec::new();
        let rest = self.take().into_iter().filter(|action| match action {
            Action::Send(to, OutFrame::Text(text)) if *to == conn => {
                sent.push(serde_json::from_str(text).unwrap());
                false
            }
            _ => true,
        });
        self.actions = rest.collect();
        sent
    }

    fn sent(&mut self) -> Vec<Value> {
        self.sent_to(A)
    }

    fn sent_types(&mut self) -> Vec<String> {
        let sent = self.sent();
        sent.iter()
            .map(|v| v["type"].as_str().unwrap().to_string())
            .collect()
    }

    /// Opens a request and tells its name on the wire; what is sent for it is forgotten.
    fn request(&mut self, has_body: bool) -> (StreamId, String) {
        let id = self.controller.open(self.now, ask(), has_body).unwrap();
        let sent = self.sent();
        let name = sent.last().expect("nothing was asked")["request_id"].clone();
        (id, name.as_str().unwrap().to_string())
    }

    fn streams_open(&self) -> usize {
        self.controller.stats().streams_open
    }

    /// What happened to the local end of a stream, with deliveries joined and consumed; the
    /// other actions stay.
    fn events(&mut self, id: StreamId) -> Vec<Event> {
        let mut events = Vec::new();
        let mut rest = Vec::new();
        loop {
            let mut idle = true;
            for action in self.take() {
                let event = match action {
                    Action::Head(to, head) if to == id => Event::Head(head.status),
                    Action::Deliver(to, Kind::Bytes, data) if to == id => {
                        self.input(Input::Consumed(id, data.len()));
                        Event::Data(data.to_vec())
                    }
                    Action::Finish(to) if to == id => Event::Finish,
                    Action::Failed(to, failure) if to == id => Event::Failed(failure),
                    other => {
                        rest.push(other);
                        continue;
                    }
                };
                idle = false;
                match (events.last_mut(), event) {
                    (Some(Event::Data(before)), Event::Data(data)) => before.extend(data),
                    (_, event) => events.push(event),
                }
            }
            if idle {
                self.actions = rest;
                return events;
            }
        }
    }
}

#[derive(Debug, Eq, PartialEq)]
enum Event {
    Head(u16),
    Data(Vec<u8>),
    Finish,
    Failed(Failure),
}

fn ask() -> RequestHead {
    RequestHead {
        method: "POST".into(),
        path: "/api/v1/pods".into(),
        query: Some("a=b".into()),
        headers: Vec::from([("Accept".into(), "text/plain".into())]),
    }
}

fn bytes(len: usize) -> Bytes {
    Bytes::from((0..len).map(|i| i as u8).collect::<Vec<_>>())
}

fn base64(data: &[u8]) -> String {
    let mut text = String::new();
    Base64::new().encode_into(data, &mut text);
    text
}

fn decoded(text: &Value) -> Vec<u8> {
    Base64::new().decode(text.as_str().unwrap()).unwrap()
}

const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// Bounds small enough to reach in a test.
const SMALL: Limits = Limits {
    streams: 2,
    recv_stream: 1024,
    recv_total: 1536,
    buffered: 1024,
    buffered_total: 1500,
    control: 3,
    frame: 8192,
    chunk: 100,
    send_stream: 1000,
    ..Limits::controller()
};
