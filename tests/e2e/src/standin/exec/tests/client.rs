//! A client of streams.

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use http::{HeaderValue, header};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::standin::StandIn;
use crate::standin::tests::client::connect;

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// The path of a stream to the pod `web-0`.
pub(super) fn query(action: &str, streams: &str, argv: &[&str]) -> String {
    let escaped = |part: &str| -> String {
        let bytes = part.bytes();
        bytes.map(|byte| format!("%{byte:02x}")).collect()
    };
    let argv: String = argv
        .iter()
        .map(|part| format!("&command={}", escaped(part)))
        .collect();
    format!("/api/v1/namespaces/default/pods/web-0/{action}?container=app&{streams}{argv}")
}

/// An open stream.
pub(super) struct Stream {
    pub(super) keys: Keys,
    pub(super) screen: Screen,
}

/// Its way to the server.
pub(super) struct Keys(SplitSink<Socket, Message>);

/// Its way back, and what has come so far.
pub(super) struct Screen {
    socket: SplitStream<Socket>,
    pub(super) seen: Seen,
}

/// What the server has sent.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) status: String,
    /// The code of the close frame.
    pub(super) close: Option<u16>,
    /// The length of the largest message.
    pub(super) largest: usize,
    pongs: usize,
}

impl Stream {
    /// Opens a stream, and sees the empty message that it begins with.
    pub(super) async fn open(standin: &StandIn, path: &str, subprotocol: &str) -> Self {
        let request = format!("wss://standin{path}");
        let mut request = request.into_client_request().unwrap();
        let headers = request.headers_mut();
        let token = format!("Bearer {}", standin.token());
        headers.insert(header::AUTHORIZATION, token.parse().unwrap());
        let subprotocol = HeaderValue::from_str(subprotocol).unwrap();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol.clone());
        let socket = connect(standin).await;
        let (mut socket, answer) = client_async(request, socket).await.unwrap();
        assert_eq!(
            answer.headers()[header::SEC_WEBSOCKET_PROTOCOL],
            subprotocol
        );
        let first = socket.next().await.unwrap().unwrap();
        assert_eq!(first, Message::binary(vec![1]));
        let (keys, screen) = socket.split();
        Self {
            keys: Keys(keys),
            screen: Screen {
                socket: screen,
                seen: Seen::default(),
            },
        }
    }

    /// Waits until the standard output so far ends with that.
    pub(super) async fn until(&mut self, text: &[u8]) {
        while !self.screen.seen.stdout.ends_with(text) {
            let more = self.screen.next().await;
            assert!(more, "ended before {text:?}: {:?}", self.screen.seen);
        }
    }

    /// Closes, and waits for the server's answer.
    pub(super) async fn leave(&mut self) {
        self.keys.0.send(Message::Close(None)).await.unwrap();
        while self.screen.next().await {}
        assert_eq!(self.screen.seen.close, Some(1000));
        assert_eq!(self.screen.seen.status, "");
    }

    /// Sends a ping.
    pub(super) async fn ping(&mut self) {
        self.keys.0.send(Message::Ping("?".into())).await.unwrap();
    }

    /// Waits for one pong more than there were.
    pub(super) async fn pong(&mut self) {
        let before = self.screen.seen.pongs;
        while self.screen.seen.pongs == before {
            assert!(self.screen.next().await, "{:?}", self.screen.seen);
        }
    }

    /// Whether there is nothing to be seen just now.
    pub(super) fn is_silent(&mut self) -> bool {
        self.screen.next().now_or_never().is_none()
    }

    /// Waits for the end.
    pub(super) async fn end(self) -> Seen {
        self.screen.end().await
    }
}

impl Keys {
    /// Sends a message.
    pub(super) async fn send(&mut self, channel: u8, data: &[u8]) {
        let message = Message::binary([&[channel], data].concat());
        self.0.send(message).await.unwrap();
    }
}

impl Screen {
    /// Takes the next message; false at the end.
    async fn next(&mut self) -> bool {
        let message = match self.socket.next().await {
            Some(Ok(message)) => message,
            Some(Err(_)) | None => return false,
        };
        let seen = &mut self.seen;
        match message {
            Message::Binary(data) => {
                seen.largest = seen.largest.max(data.len());
                match data[0] {
                    1 => seen.stdout.extend_from_slice(&data[1..]),
                    2 => seen.stderr.extend_from_slice(&data[1..]),
                    3 => seen.status += std::str::from_utf8(&data[1..]).unwrap(),
                    channel => panic!("channel {channel}"),
                }
            }
            Message::Pong(_) => seen.pongs += 1,
            Message::Close(frame) => {
                seen.close = frame.map(|frame| frame.code.into());
                return false;
            }
            other => panic!("{other:?}"),
        }
        true
    }

    /// Waits for the end.
    pub(super) async fn end(mut self) -> Seen {
        while self.next().await {}
        self.seen
    }
}
