//! WebSocket streams of the agent: how they start, carry messages and end.

mod ends;
mod messages;
mod start;
mod windows;

use alloc::{format, vec};

use super::*;
use crate::input::StreamClose;

const EXEC: &str = "/api/v1/namespaces/n/pods/p/exec";
const V4: &str = "v4.channel.k8s.io";
const V5: &str = "v5.channel.k8s.io";

/// How a stream is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// `proxy_websocket_start`.
    Bare,
    /// `proxy_request`, answered with one message.
    Whole,
    /// `proxy_request`, answered with streamed messages.
    Streamed,
}

const FORMS: [Form; 3] = [Form::Bare, Form::Whole, Form::Streamed];

impl Bench {
    fn start(&mut self, form: Form, id: &str) -> StreamId {
        self.try_start(form, id, json!({"path": EXEC, "protocol": V5}))
            .expect("the stream was not opened")
    }

    fn try_start(&mut self, form: Form, id: &str, payload: Value) -> Option<StreamId> {
        let mut payload = payload;
        match form {
            Form::Bare => payload["stream_id"] = json!(id),
            Form::Whole => payload["is_websocket"] = json!(true),
            Form::Streamed => {
                payload["is_websocket"] = json!(true);
                payload["supports_response_streaming"] = json!(true);
            }
        }
        let kind = match form {
            Form::Bare => "proxy_websocket_start",
            _ => "proxy_request",
        };
        self.frame(json!({"type": kind, "request_id": id, "payload": payload}));
        self.opened().map(|(id, _)| id)
    }

    /// What was opened, whole.
    fn target(&mut self) -> Option<Target> {
        self.take().into_iter().find_map(|action| match action {
            Action::Open(_, target) => Some(target),
            _ => None,
        })
    }

    /// A stream whose upstream has accepted it with this subprotocol; what was said is forgotten.
    fn socket_with(&mut self, form: Form, id: &str, chosen: &str) -> StreamId {
        let stream = self.start(form, id);
        self.accept(stream, chosen);
        self.sent();
        stream
    }

    fn socket(&mut self, id: &str) -> StreamId {
        self.socket_with(Form::Bare, id, V5)
    }

    fn accept(&mut self, id: StreamId, chosen: &str) {
        let headers = [("Sec-WebSocket-Protocol".to_string(), chosen.to_string())].to_vec();
        let status = 101;
        self.input(Input::Head(id, ResponseHead { status, headers }));
    }

    fn data(&mut self, id: &str, framed: &[u8]) {
        let payload = json!({"stream_id": id, "data": base64(framed)});
        self.frame(json!({"type": "proxy_websocket_data", "request_id": id, "payload": payload}));
    }

    fn close(&mut self, id: &str) {
        let payload = json!({"stream_id": id});
        self.frame(json!({"type": "proxy_websocket_close", "request_id": id, "payload": payload}));
    }

    /// Messages that the local end was given; the other actions stay.
    fn messages(&mut self, id: StreamId) -> Vec<(Kind, Vec<u8>)> {
        let mut messages = Vec::new();
        let rest = self.take().into_iter().filter(|action| match action {
            Action::Deliver(to, kind, data) if *to == id => {
                messages.push((*kind, data.to_vec()));
                false
            }
            _ => true,
        });
        self.actions = rest.collect();
        messages
    }

    fn says(&mut self, id: StreamId, kind: Kind, data: &'static [u8]) -> Result<(), SendError> {
        self.agent.send(id, kind, Bytes::from_static(data))
    }

    /// Types of what is sent, and its texts.
    fn ends(&mut self) -> Vec<(String, String)> {
        let sent = self.sent();
        let end = |message: &Value| {
            let payload = &message["payload"];
            let text = match payload["error"].as_str() {
                Some(error) => error.to_string(),
                None => payload["code"].to_string(),
            };
            (message["type"].as_str().unwrap().to_string(), text)
        };
        sent.iter().map(end).collect()
    }
}

fn end(kind: &str, text: &str) -> (String, String) {
    (kind.to_string(), text.to_string())
}
