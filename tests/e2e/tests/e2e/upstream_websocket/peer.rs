//! The Kubernetes API's end of a WebSocket, played frame by frame.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use controlplane_driver::{
    Agent, Failure, Hub, Incoming, Kubernetes, Message, MessageReader, MessageWriter, ResponseHead,
    Runtime, StreamClose, Upgrade, Upgraded,
};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message as WsMessage, handshake::derive_accept_key},
};

use crate::{
    bench::agent_at,
    upstream::{Api, Connection, get},
};

/// A path whose messages nobody on the way looks into.
pub(super) const PATH: &str = "/api/v1/namespaces/a/pods/b/portforward";

/// First byte of a whole message.
pub(super) const TEXT: u8 = 0x81;
pub(super) const BINARY: u8 = 0x82;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;

pub(super) type Frame = (u8, Vec<u8>);

pub(super) struct Peer(pub(super) TcpStream);

/// Answer to an upgrade request.
pub(super) fn accepted(request: &str, more: &str) -> String {
    let key = request
        .lines()
        .find_map(|line| line.strip_prefix("sec-websocket-key: "))
        .unwrap();
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    )
}

/// A frame as the API sends it.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(len as u8),
        len @ 126..0x1_0000 => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// Payload of a close frame.
pub(super) fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

impl Peer {
    /// Accepts the next connection and what it asks for, with further lines of the answer.
    pub(super) async fn accept(api: &mut Api, more: &str) -> Self {
        let mut connection = api.accept().await;
        let request = connection.head().await;
        connection.write(&accepted(&request, more)).await;
        let Connection(tcp) = connection;
        Self(tcp)
    }

    pub(super) async fn send(&mut self, first: u8, payload: &[u8]) {
        self.0.write_all(&frame(first, payload)).await.unwrap();
    }

    /// The next frame, which must be masked as a client's; `None` once the connection has ended.
    pub(super) async fn frame(&mut self) -> Option<Frame> {
        let mut start = [0; 2];
        // A reset is an end, too.
        self.0.read_exact(&mut start).await.ok()?;
        let [first, second] = start;
        assert!(second & 0x80 != 0, "a frame without a mask");
        let len = match second & 0x7f {
            126 => u64::from(self.0.read_u16().await.ok()?),
            127 => self.0.read_u64().await.ok()?,
            len => u64::from(len),
        };
        let mut mask = [0; 4];
        self.0.read_exact(&mut mask).await.ok()?;
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        self.0.read_exact(&mut payload).await.ok()?;
        for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= key;
        }
        Some((first, payload))
    }

    /// The next frame but pings, which are answered.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.frame().await? {
                (PING, payload) => self.send(PONG, &payload).await,
                frame => return Some(frame),
            }
        }
    }

    /// Reads until the connection ends.
    pub(super) async fn ended(&mut self) {
        while self.frame().await.is_some() {}
    }
}

/// A controller that speaks by hand: it can send before a stream is open, and sees how it ends.
pub(super) struct ByHand<R: Runtime> {
    link: WebSocketStream<TcpStream>,
    _agent: Agent<R>,
}

impl<R: Runtime> ByHand<R> {
    pub(super) async fn new(runtime: R, api: &Api) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler = Kubernetes::new(runtime.clone(), api.config()).unwrap();
        let agent = agent_at(runtime, address, handler);
        let (tcp, _) = listener.accept().await.unwrap();
        let link = tokio_tungstenite::accept_async(tcp).await.unwrap();
        let mut this = Self {
            link,
            _agent: agent,
        };
        let register = this.next("register").await;
        this.send(
            json!({"type": "register_success", "request_id": register["request_id"],
            "payload": {"cluster_id": "6f1c"}}),
        )
        .await;
        this
    }

    /// Starts the stream `s`.
    pub(super) async fn start(&mut self) {
        self.tell("start", json!({"path": PATH})).await;
    }

    /// Sends a binary message of the stream `s`.
    pub(super) async fn say(&mut self, text: &str) {
        let data = STANDARD.encode(format!("\u{2}{text}"));
        self.tell("data", json!({"data": data})).await;
    }

    pub(super) async fn tell(&mut self, what: &str, mut payload: Value) {
        payload["stream_id"] = json!("s");
        let kind = format!("proxy_websocket_{what}");
        let message = json!({"type": kind, "request_id": "s", "payload": payload});
        self.send(message).await;
    }

    async fn send(&mut self, message: Value) {
        let message = WsMessage::text(message.to_string());
        self.link.send(message).await.unwrap();
    }

    /// The next message of one type.
    pub(super) async fn next(&mut self, kind: &str) -> Value {
        loop {
            if let WsMessage::Text(text) = self.link.next().await.unwrap().unwrap() {
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["type"] == kind {
                    return message;
                }
            }
        }
    }
}

/// A stream that both sides have opened.
pub(super) struct Stream {
    pub(super) head: ResponseHead,
    pub(super) reader: MessageReader,
    pub(super) writer: MessageWriter,
    pub(super) peer: Peer,
}

pub(super) async fn ask(hub: &Hub, protocols: &[&str]) -> Upgrade {
    let protocols = protocols.iter().map(|name| name.to_string()).collect();
    hub.open_websocket(None, get(PATH), protocols)
        .await
        .unwrap()
}

pub(super) async fn open(hub: &Hub, api: &mut Api) -> Stream {
    let upgrade = ask(hub, &[]).await;
    let (peer, answer) = tokio::join!(Peer::accept(api, ""), upgrade.answer());
    opened(answer, peer)
}

pub(super) fn opened(answer: Result<Upgraded, Failure>, peer: Peer) -> Stream {
    match answer.unwrap() {
        Upgraded::Open {
            head,
            reader,
            writer,
        } => Stream {
            head,
            reader,
            writer,
            peer,
        },
        refused => panic!("{refused:?}"),
    }
}

pub(super) async fn next(reader: &mut MessageReader) -> Message {
    match reader.next().await {
        Incoming::Message(message) => message,
        closed => panic!("{closed:?}"),
    }
}

/// How a stream ends, with the bytes of messages before that.
pub(super) async fn end(reader: &mut MessageReader) -> (usize, StreamClose, Option<Failure>) {
    let mut len = 0;
    loop {
        match reader.next().await {
            Incoming::Message(Message::Binary(data) | Message::Text(data)) => len += data.len(),
            Incoming::Closed(close, failure) => return (len, close, failure),
        }
    }
}

/// What the agent said of a stream that broke.
pub(super) async fn broken(reader: &mut MessageReader) -> String {
    match end(reader).await {
        (_, _, Some(Failure::Agent(text))) => text,
        other => panic!("{other:?}"),
    }
}
