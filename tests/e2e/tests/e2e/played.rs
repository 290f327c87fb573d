//! A controller or gateway that a test plays by hand, message by message.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use controlplane_driver::{Agent, AgentInfo, Backoff, Builder, Request, Responder, Runtime, Token};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request as Upgrade, Response},
    },
};

use crate::bench::ok;

pub(crate) const TOKEN: &str = "t0ken";

/// Settings of an agent that dials `address` and comes back within milliseconds.
pub(crate) fn agent<R: Runtime>(runtime: R, address: SocketAddr) -> Builder<R> {
    agent_of(runtime, &format!("ws://{address}"))
}

/// The same of one that dials `url`.
pub(crate) fn agent_of<R: Runtime>(runtime: R, url: &str) -> Builder<R> {
    let info = AgentInfo {
        agent_id: "agent-1".into(),
        name: "prod".into(),
        ..AgentInfo::default()
    };
    Agent::builder(url, Token::new(TOKEN).unwrap(), info)
        .runtime(runtime)
        .allow_plaintext(true)
        .backoff(Backoff {
            base: Duration::from_millis(10),
            max: Duration::from_millis(50),
            ..Backoff::default()
        })
        .handler(|_: Request, responder: Responder| async move {
            let mut body = responder.respond(ok());
            if body.write("served".into()).await.is_ok() {
                body.finish();
            }
        })
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// One connection of an agent.
pub(crate) struct Played<T = TcpStream> {
    socket: WebSocketStream<T>,
    /// Path and query that it asked for.
    pub(crate) target: String,
    pub(crate) authorization: String,
}

impl Played {
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        let (tcp, _) = listener.accept().await.unwrap();
        Self::upgrade(tcp).await
    }

    /// Accepts an agent and registers it; the answer says `more` as well.
    pub(crate) async fn register(listener: &TcpListener, more: Value) -> Self {
        let played = Self::accept(listener).await;
        played.registered(more).await
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Played<T> {
    pub(crate) async fn upgrade(io: T) -> Self {
        Self::try_upgrade(io).await.unwrap()
    }

    /// The same of a connection that may end before.
    pub(crate) async fn try_upgrade(io: T) -> Option<Self> {
        let (mut target, mut authorization) = (String::new(), String::new());
        #[expect(clippy::result_large_err, reason = "the library's own type")]
        let look = |request: &Upgrade, response: Response| -> Result<Response, ErrorResponse> {
            target = request.uri().to_string();
            let header = request.headers().get("authorization");
            authorization = header.map_or(String::new(), |h| h.to_str().unwrap().into());
            Ok(response)
        };
        let socket = accept_hdr_async(io, look).await.ok()?;
        Some(Self {
            socket,
            target,
            authorization,
        })
    }

    pub(crate) fn socket(&mut self) -> &mut WebSocketStream<T> {
        &mut self.socket
    }

    /// Registers the agent; the answer says `more` as well.
    pub(crate) async fn registered(mut self, more: Value) -> Self {
        let register = self.next().await.unwrap();
        assert_eq!(register["type"], "register");
        let mut payload = json!({"cluster_id": "6f1c", "name": "prod", "status": "active"});
        let fields = payload.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        let id = register["request_id"].as_str().unwrap();
        self.say("register_success", id, payload).await;
        self
    }

    pub(crate) async fn say(&mut self, kind: &str, id: &str, payload: Value) {
        let mut message = json!({"type": kind, "payload": payload});
        if !id.is_empty() {
            message["request_id"] = id.into();
        }
        let text = Message::text(message.to_string());
        self.socket.send(text).await.unwrap();
    }

    /// The next message; the code of the close where there is none.
    pub(crate) async fn next(&mut self) -> Result<Value, Option<u16>> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|f| f.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The next binary message.
    pub(crate) async fn binary(&mut self) -> Vec<u8> {
        loop {
            if let Message::Binary(frame) = self.socket.next().await.unwrap().unwrap() {
                return frame.into();
            }
        }
    }

    /// The next message of that type.
    pub(crate) async fn until(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().await.unwrap();
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// Has the agent answer a request.
    pub(crate) async fn asks(&mut self, id: &str) {
        let payload = json!({"method": "GET", "path": "/api/v1/x", "headers": {}});
        self.say("proxy_request", id, payload).await;
        let answer = self.until("proxy_response").await;
        assert_eq!(answer["request_id"], id);
        assert_eq!(decoded(&answer["payload"]["body"]), b"served");
    }
}

pub(crate) fn encoded(data: &[u8]) -> String {
    STANDARD.encode(data)
}

pub(crate) fn decoded(text: &Value) -> Vec<u8> {
    STANDARD.decode(text.as_str().unwrap()).unwrap()
}
