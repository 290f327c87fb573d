//! Unit tests of the agent's machine, one statement or property each; each name begins with the
//! statement it checks.

mod answers;
mod bodies;
mod counts;
mod gateway;
mod leaks;
mod link;
mod reconnect;
mod refusals;
mod requests;
mod sockets;
mod tunnels;
mod twice;
mod weaknesses;

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::{
    action::{OutFrame, Target},
    config::Limits,
    input::{Down, RequestHead, ResponseHead, StreamEnd},
};

/// An agent, the moment it lives in, and what it has said that no test has looked at yet.
struct Bench {
    agent: Agent,
    now: Time,
    actions: Vec<Action>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut AgentConfig)) -> Self {
        let mut config = AgentConfig::new("agent-1f2e", "prod");
        change(&mut config);
        let start = Start {
            now: Time::ZERO,
            unix: Duration::from_secs(1_795_412_045),
            nonce: [3; 16],
        };
        Self {
            agent: Agent::new(config, start).unwrap(),
            now: Time::ZERO,
            actions: Vec::new(),
        }
    }

    /// Registered, everything said on the way forgotten.
    fn registered() -> Self {
        Self::registered_with(|_| {})
    }

    fn registered_with(change: impl FnOnce(&mut AgentConfig)) -> Self {
        let mut bench = Self::with(change);
        bench.connect();
        bench.register();
        bench.run();
        bench.actions.clear();
        bench
    }

    fn connect(&mut self) -> ConnId {
        self.run();
        let Phase::Dialing(conn) = self.agent.phase() else {
            panic!("not dialing: {:?}", self.agent.phase())
        };
        self.input(Input::Connected(conn));
        self.actions.clear();
        conn
    }

    /// Answers the `register` that the agent sends.
    fn register(&mut self) {
        let sent = self.sent();
        let register = sent.iter().find(|v| v["type"] == "register").unwrap();
        let id = register["request_id"].clone();
        self.frame(json!({
            "type": "register_success", "request_id": id,
            "payload": {"cluster_id": "6f1c", "name": "prod", "workspace_id": 123}
        }));
    }

    fn input(&mut self, input: Input<'_>) {
        self.agent.handle(self.now, input);
        assert!(
            self.agent.deadline().is_none_or(|at| at > self.now),
            "a due timer survived"
        );
    }

    fn frame(&mut self, frame: Value) {
        let text = frame.to_string();
        self.raw(&text);
    }

    fn raw(&mut self, text: &str) {
        if let Some(conn) = self.agent.phase().open() {
            self.input(Input::Frame(conn, Frame::Text(text)));
        }
    }

    /// Lets time pass, deadline by deadline, with a socket that takes everything.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        self.run();
        while let Some(at) = self.agent.deadline().filter(|at| *at <= end) {
            self.now = at;
            self.input(Input::Tick);
            self.run();
        }
        self.now = end;
    }

    /// The same with a peer that answers pings.
    fn pass_alive(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            let step = (end - self.now).min(Duration::from_secs(5));
            self.pass(step);
            if let Some(conn) = self.agent.phase().open() {
                self.input(Input::Alive(conn));
            }
        }
    }

    /// Takes all actions with a socket that takes everything.
    fn run(&mut self) {
        loop {
            let socket = self
                .agent
                .phase()
                .open()
                .map_or(Socket::Blocked, Socket::Ready);
            let Some(action) = self.agent.poll(socket) else {
                return;
            };
            self.actions.push(action);
        }
    }

    fn take(&mut self) -> Vec<Action> {
        self.run();
        core::mem::take(&mut self.actions)
    }

    /// The JSON messages among the actions; the other actions stay.
    fn sent(&mut self) -> Vec<Value> {
        let (sent, rest): (Vec<_>, Vec<_>) = self
            .take()
            .into_iter()
            .partition(|a| matches!(a, Action::Send(_, OutFrame::Text(_))));
        self.actions = rest;
        sent.iter()
            .map(|action| match action {
                Action::Send(_, OutFrame::Text(text)) => {
                    assert!(text.ends_with('\n'), "P-010: one object and a newline");
                    serde_json::from_str(text).unwrap()
                }
                _ => Value::Null,
            })
            .collect()
    }

    fn sent_types(&mut self) -> Vec<String> {
        let types = self.sent();
        types
            .iter()
            .map(|v| v["type"].as_str().unwrap().to_string())
            .collect()
    }

    /// Opens a request that asks for a streamed answer, with no body.
    fn request(&mut self, id: &str) -> StreamId {
        self.frame(json!({
            "type": "proxy_request", "request_id": id,
            "payload": {"method": "GET", "path": "/api/v1/pods", "supports_response_streaming": true}
        }));
        self.opened().expect("the request was not opened").0
    }

    /// The first `Open` among the actions.
    fn opened(&mut self) -> Option<(StreamId, RequestHead)> {
        self.run();
        self.opened_without_polling()
    }

    fn opened_without_polling(&mut self) -> Option<(StreamId, RequestHead)> {
        let at = self
            .actions
            .iter()
            .position(|a| matches!(a, Action::Open(..)))?;
        match self.actions.remove(at) {
            Action::Open(id, Target::Http { head, .. } | Target::WebSocket { head, .. }) => {
                Some((id, head))
            }
            _ => None,
        }
    }

    /// Asks with this payload and tells what was opened; a refusal stays among the messages.
    fn ask(&mut self, id: &str, payload: Value) -> Option<(StreamId, RequestHead)> {
        self.frame(json!({"type": "proxy_request", "request_id": id, "payload": payload}));
        self.opened()
    }

    /// Opens a request whose body follows in pieces.
    fn upload(&mut self, id: &str) -> StreamId {
        let payload = json!({"method": "POST", "path": "/api", "use_streaming": true,
            "supports_response_streaming": true});
        self.ask(id, payload).expect("the request was not opened").0
    }

    /// Opens a request whose answer has to be sent whole.
    fn whole(&mut self, id: &str) -> StreamId {
        let payload = json!({"path": "/api"});
        self.ask(id, payload).expect("the request was not opened").0
    }

    /// Opens a request while the socket takes nothing.
    fn request_without_polling(&mut self, id: &str) -> StreamId {
        self.frame(json!({"type": "proxy_request", "request_id": id,
            "payload": {"path": "/api", "supports_response_streaming": true}}));
        while let Some(action) = self.agent.poll(Socket::Blocked) {
            self.actions.push(action);
        }
        self.opened_without_polling().expect("not opened").0
    }

    /// Offers data of the local end; what is refused has to come back whole.
    fn offer(&mut self, id: StreamId, data: Bytes) -> Offer {
        let back = match self.agent.send(id, Kind::Bytes, data.clone()) {
            Ok(()) => return Offer::Taken,
            Err(error) => error,
        };
        let (offer, back) = match back {
            SendError::Blocked(back) => (Offer::Blocked, back),
            SendError::Closed(back) => (Offer::Closed, back),
        };
        assert!(back == data, "data was changed or lost");
        offer
    }

    fn chunk(&mut self, id: &str, data: &[u8]) {
        let data = base64(data);
        self.frame(json!({"type": "proxy_request_chunk", "request_id": id,
            "payload": {"data": data}}));
    }

    fn cut(&mut self) {
        let conn = self.agent.phase().conn().unwrap();
        self.input(Input::Disconnected(conn, Down::Lost("cut".into())));
    }

    /// What was delivered to the local end of a stream; the other actions stay.
    fn delivered(&mut self, id: StreamId) -> Vec<u8> {
        let mut data = Vec::new();
        let rest = self.take().into_iter().filter(|action| match action {
            Action::Deliver(to, Kind::Bytes, piece) if *to == id => {
                data.extend_from_slice(piece);
                false
            }
            _ => true,
        });
        self.actions = rest.collect();
        data
    }

    /// How often the local end of a stream was told that its input is complete.
    fn finishes(&mut self, id: StreamId) -> usize {
        self.run();
        let finish = Action::Finish(id);
        self.actions.iter().filter(|a| **a == finish).count()
    }

    fn has(&mut self, wanted: &Action) -> bool {
        self.run();
        self.actions.contains(wanted)
    }

    fn reconnect(&mut self) -> Option<(Duration, u32, Reason)> {
        self.take().into_iter().find_map(|action| match action {
            Action::ReconnectAfter {
                delay,
                attempt,
                reason,
            } => Some((delay, attempt, reason)),
            _ => None,
        })
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Offer {
    Taken,
    Blocked,
    Closed,
}

fn error(message: &Value) -> &str {
    message["payload"]["error"].as_str().unwrap()
}

fn head(status: u16) -> ResponseHead {
    ResponseHead {
        status,
        headers: Vec::from([("Content-Type".to_string(), "text/plain".to_string())]),
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
    control: 3,
    frame: 8192,
    chunk: 100,
    ..Limits::agent()
};
