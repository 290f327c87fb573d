//! WebSocket streams of the controller: how they start, carry messages and end.

mod ends;
mod start;
mod windows;

use alloc::{format, vec};

use super::*;
use crate::input::StreamClose;

pub(super) const EXEC: &str = "/api/v1/namespaces/n/pods/p/exec";
const V4: &str = "v4.channel.k8s.io";
pub(super) const V5: &str = "v5.channel.k8s.io";
const SUCCESS: &[u8] = b"\x03{\"metadata\":{},\"status\":\"Success\"}";

/// What the local end of a stream was told.
#[derive(Debug, Eq, PartialEq)]
enum Told {
    Closed(u16, Option<Failure>),
    Failed(Failure),
    Head(u16, Option<String>),
    Message(Kind, Vec<u8>),
    Other,
}

impl Bench {
    /// With an agent that answers upgrades and keeps windows.
    fn modern() -> Self {
        Self::modern_with(|_| {})
    }

    fn modern_with(change: impl FnOnce(&mut ControllerConfig)) -> Self {
        let features = json!({"supports_streaming": true, "supports_response_streaming": true,
            "supports_websocket_proxy": true, "upgrade_answer": true,
            "response_window": true, "request_window": 4096});
        Self::with_agent(features, change)
    }

    /// With an agent of the original kind.
    fn foreign() -> Self {
        Self::with_agent(json!({}), |_| {})
    }

    fn with_agent(features: Value, change: impl FnOnce(&mut ControllerConfig)) -> Self {
        let mut bench = Self::with(change);
        bench.accept(A);
        bench.frame(
            A,
            json!({"type": "register", "request_id": "reg",
                "payload": {"agent_id": "agent-1f2e", "features": features}}),
        );
        bench.take();
        bench
    }

    fn socket(&mut self, path: &str, protocols: &[&str]) -> (StreamId, String) {
        let protocols = protocols.iter().map(ToString::to_string).collect();
        let head = RequestHead {
            method: "GET".into(),
            path: path.into(),
            query: Some("command=sh".into()),
            headers: Vec::new(),
        };
        let opened = self.controller.open_websocket(self.now, head, protocols);
        let id = opened.unwrap();
        let name = self.peek()["request_id"].as_str().unwrap().to_string();
        (id, name)
    }

    /// The message that was sent last; all are kept.
    fn peek(&mut self) -> Value {
        self.run();
        let text = self.actions.iter().rev().find_map(|action| match action {
            Action::Send(_, OutFrame::Text(text)) => Some(text.clone()),
            _ => None,
        });
        serde_json::from_str(&text.expect("nothing was sent")).unwrap()
    }

    /// A stream that the Kubernetes API has accepted; everything said on the way forgotten.
    fn open_socket(&mut self, path: &str, chosen: &str) -> (StreamId, String) {
        let (id, name) = self.socket(path, &[chosen]);
        self.accepts(&name, chosen);
        self.take();
        (id, name)
    }

    fn accepts(&mut self, name: &str, chosen: &str) {
        let headers = json!({"Upgrade": ["websocket"], "Sec-WebSocket-Protocol": [chosen]});
        let payload = json!({"status": 101, "headers": headers});
        self.says("proxy_response_header", name, payload);
        self.answer_end(name);
    }

    fn message(&mut self, name: &str, framed: &[u8]) {
        let payload = json!({"stream_id": name, "data": base64(framed)});
        self.says("proxy_websocket_data", name, payload);
    }

    fn closes(&mut self, name: &str, code: Option<u16>) {
        let payload = json!({"stream_id": name, "code": code});
        self.says("proxy_websocket_close", name, payload);
    }

    fn fails(&mut self, name: &str, text: &str) {
        let payload = json!({"request_id": name, "error": text});
        self.says("proxy_error", name, payload);
    }

    /// What the client's end was told, each message consumed.
    fn told(&mut self, id: StreamId) -> Vec<Told> {
        let mut told = Vec::new();
        let mut rest = Vec::new();
        loop {
            let before = told.len();
            for action in self.take() {
                told.push(match action {
                    Action::Closed(to, close, failure) if to == id => {
                        Told::Closed(close.code, failure)
                    }
                    Action::Deliver(to, kind, data) if to == id => {
                        self.input(Input::Consumed(id, data.len()));
                        Told::Message(kind, data.to_vec())
                    }
                    Action::Failed(to, failure) if to == id => Told::Failed(failure),
                    Action::Finish(to) | Action::Writable(to) if to == id => Told::Other,
                    Action::Head(to, head) if to == id => {
                        let mut headers = head.headers.into_iter();
                        let chosen = headers.find(|(name, _)| name.ends_with("Protocol"));
                        Told::Head(head.status, chosen.map(|(_, value)| value))
                    }
                    other => {
                        rest.push(other);
                        continue;
                    }
                });
            }
            if told.len() == before {
                self.actions = rest;
                return told;
            }
        }
    }

    fn client_says(&mut self, id: StreamId, data: &'static [u8]) -> Result<(), SendError> {
        let data = Bytes::from_static(data);
        self.controller.send(id, Kind::Binary, data)
    }
}

fn binary(data: &[u8]) -> Told {
    Told::Message(Kind::Binary, data.to_vec())
}

/// The channel-3 message that tells of a failure.
fn status(text: &str) -> Told {
    let document = format!(
        r#"{{"metadata":{{}},"status":"Failure","message":"{text}","reason":"InternalError","code":500}}"#
    );
    binary(&[b"\x03", document.as_bytes()].concat())
}
