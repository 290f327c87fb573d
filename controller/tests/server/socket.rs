//! WebSocket streams: a client's end, and what an agent says of them.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role},
    },
};

use crate::world::{Agent, Body, World, decode, empty, encode};

pub(crate) const EXEC: &str = "/clusters/demo/api/v1/namespaces/n/pods/p/exec?command=sh";
pub(crate) const FORWARD: &str = "/clusters/demo/api/v1/namespaces/n/pods/p/portforward";
pub(crate) const V5: &str = "v5.channel.k8s.io";
pub(crate) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Of RFC 6455, with what answers it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

impl World {
    /// A request for a WebSocket.
    pub(crate) fn upgrade(&self, path: &str) -> http::request::Builder {
        self.request("GET", path)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", KEY)
    }

    /// Sends it on a connection of its own, in a task.
    pub(crate) fn shaking(
        self: &Arc<Self>,
        request: http::request::Builder,
    ) -> JoinHandle<Response<Incoming>> {
        let request: Request<Body> = request.body(empty()).unwrap();
        let world = self.clone();
        tokio::spawn(async move { world.client().await.send(request).await })
    }

    /// A stream that is open, offered and accepted with this subprotocol; its id and its client's
    /// end.
    pub(crate) async fn open(
        self: &Arc<Self>,
        agent: &mut Agent,
        path: &str,
        protocol: &str,
    ) -> (String, Socket) {
        let request = self.upgrade(path);
        let asked = self.shaking(request.header("sec-websocket-protocol", protocol));
        let (id, _) = agent.request().await;
        agent.accept(&id, &[protocol]).await;
        (id, socket(asked.await.unwrap()).await)
    }
}

/// The client's end of what was opened by that answer.
pub(crate) async fn socket(response: Response<Incoming>) -> Socket {
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await
}

/// The next message that is neither ping nor pong.
pub(crate) async fn message(socket: &mut Socket) -> Message {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Ping(_) | Message::Pong(_) => {}
            message => return message,
        }
    }
}

/// The close frame, which must come next, and then the end of the connection.
pub(crate) async fn closed(socket: &mut Socket) -> Option<(u16, String)> {
    let Message::Close(frame) = message(socket).await else {
        panic!("a message and no close frame")
    };
    // Reading on answers it.
    assert!(socket.next().await.is_none());
    frame.map(|frame| (frame.code.into(), frame.reason.to_string()))
}

/// The end of a connection that nobody closes in order.
pub(crate) async fn cut(socket: &mut Socket) {
    while let Some(Ok(message)) = socket.next().await {
        assert!(!message.is_close(), "{message:?}");
    }
}

pub(crate) fn close(code: u16, reason: &str) -> Message {
    Message::Close(Some(CloseFrame {
        code: code.into(),
        reason: reason.into(),
    }))
}

/// Sends a message of the client and checks that the agent gets just this one.
pub(crate) async fn passes(socket: &mut Socket, agent: &mut Agent, id: &str, message: Message) {
    let expected = (opcode(&message), message.clone().into_data().to_vec());
    socket.send(message).await.unwrap();
    assert!(agent.message(id).await == expected, "another message");
}

pub(crate) fn opcode(message: &Message) -> u8 {
    match message {
        Message::Text(_) => 1,
        Message::Binary(_) => 2,
        other => panic!("{other:?}"),
    }
}

impl Agent {
    /// A round trip, after which all that the controller had to say before has come.
    pub(crate) async fn settled(&mut self) {
        let payload = json!({"agent_id": "agent-1"});
        self.send("heartbeat", "", payload).await;
        self.expect("heartbeat_ack").await;
    }

    /// The Kubernetes API switched protocols, and chose these.
    pub(crate) async fn accept(&mut self, id: &str, protocols: &[&str]) {
        let mut headers = json!({
            "Upgrade": ["websocket"],
            "Connection": ["Upgrade"],
            "Sec-WebSocket-Accept": ["of the other hop"],
            "X-Other": ["of the other hop"],
        });
        if !protocols.is_empty() {
            headers["Sec-Websocket-Protocol"] = json!(protocols);
        }
        self.head(id, 101, headers).await;
    }

    /// A message toward the client.
    pub(crate) async fn says(&mut self, id: &str, message: &Message) {
        let data = [&[opcode(message)], &*message.clone().into_data()].concat();
        let payload = json!({"stream_id": id, "data": encode(&data)});
        self.send("proxy_websocket_data", id, payload).await;
    }

    /// The next message, which must be one of this stream: opcode and content.
    pub(crate) async fn message(&mut self, id: &str) -> (u8, Vec<u8>) {
        let message = self.expect("proxy_websocket_data").await;
        assert_eq!(message["payload"]["stream_id"], id);
        let mut data = decode(message["payload"]["data"].as_str().unwrap());
        let content = data.split_off(1);
        (data[0], content)
    }

    pub(crate) async fn closes(&mut self, id: &str, code: Option<u16>, reason: &str) {
        let mut payload = json!({"stream_id": id, "reason": reason});
        if let Some(code) = code {
            payload["code"] = json!(code);
        }
        self.send("proxy_websocket_close", id, payload).await;
    }

    /// The close of this stream, which must come next: code and reason, null where it has none.
    pub(crate) async fn close_of(&mut self, id: &str) -> (Value, Value) {
        let message = self.expect("proxy_websocket_close").await;
        let payload = &message["payload"];
        assert_eq!(payload["stream_id"], id);
        (payload["code"].clone(), payload["reason"].clone())
    }
}
