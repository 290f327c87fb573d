//! One request or WebSocket of the tester's client, on a connection of its own so that it can go
//! away.

use std::convert::Infallible;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use controlplane_driver::Kind;
use futures_util::{SinkExt, StreamExt, stream};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role},
    },
};

use super::dial::Place;

/// What waits for the tester to look at it, or for the controller to take it; beyond it the other
/// side waits.
const HELD: usize = 64;

/// What the client has seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Event {
    /// Status and headers.
    Head(u16, Vec<(String, String)>),
    /// A part of the answer, or a message.
    Piece(Kind, Bytes),
    /// The answer is whole.
    Complete,
    /// The WebSocket was closed: code and reason.
    Closed(u16, String),
    /// It broke off: why.
    Broken(String),
}

/// What the client sends as the body of its request.
#[derive(Debug)]
pub(super) enum Body {
    None,
    /// In parts, whose length is not told before: what the steps send.
    Parts,
}

/// A request that runs. Dropped, its client goes away.
#[derive(Debug)]
pub(super) struct Exchange {
    out: Option<mpsc::Sender<Message>>,
    events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
    /// Whether the tester looks at what comes.
    looked_at: bool,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Exchange {
    /// Begins one. `request` has the headers of the client; those of the connection are added.
    pub(super) fn start(place: &Place, request: Request<()>, body: Body) -> Self {
        let (out, parts) = mpsc::channel(HELD);
        let (told, events) = mpsc::channel(HELD);
        let place = place.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = carry(&place, request, body, parts, &told).await {
                let _ = told.send(Event::Broken(format!("{error:#}"))).await;
            }
        });
        Self {
            out: Some(out),
            events,
            task,
            looked_at: true,
        }
    }

    /// What it sees next.
    pub(super) async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// What it has seen and nobody has looked at.
    pub(super) fn left(&mut self) -> Option<Event> {
        self.events.try_recv().ok().filter(|_| self.looked_at)
    }

    /// Sends a part of a body, or a message.
    pub(super) async fn sends(&mut self, message: Message) -> Result<(), String> {
        let out = self.out.as_ref().ok_or("the client has ended already")?;
        let sent = out.send(message).await;
        sent.map_err(|_| "the client's connection is over".into())
    }

    /// The body is complete.
    pub(super) fn finishes(&mut self) {
        self.out = None;
    }

    /// Closes the WebSocket; what comes then is not looked at.
    pub(super) async fn closes(&mut self, code: u16, reason: &str) -> Result<(), String> {
        let frame = CloseFrame {
            code: code.into(),
            reason: reason.into(),
        };
        self.sends(Message::Close(Some(frame))).await?;
        self.looked_at = false;
        Ok(())
    }

    /// Goes away, without a farewell.
    pub(super) async fn leaves(&mut self) {
        self.looked_at = false;
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

type Parts = mpsc::Receiver<Message>;

async fn carry(
    place: &Place,
    request: Request<()>,
    body: Body,
    mut parts: Parts,
    told: &mpsc::Sender<Event>,
) -> Result<()> {
    let io = TokioIo::new(place.connect().await?);
    let (mut sender, connection) = http1::handshake(io).await?;
    // It ends with this task.
    let mut connections = JoinSet::new();
    connections.spawn(connection.with_upgrades());
    let upgrades = request.headers().contains_key(header::UPGRADE);
    let body = match body {
        Body::Parts => in_parts(std::mem::replace(&mut parts, mpsc::channel(1).1)),
        Body::None => Empty::new().boxed_unsync(),
    };
    let answer = sender.send_request(request.map(|()| body)).await;
    let mut answer = answer.context("no answer")?;
    let head = Event::Head(answer.status().as_u16(), headers(&answer));
    if !(upgrades && answer.status() == StatusCode::SWITCHING_PROTOCOLS) {
        told.send(head).await?;
        return read(answer, told).await;
    }
    let switched = hyper::upgrade::on(&mut answer).await?;
    told.send(head).await?;
    let io = TokioIo::new(switched);
    let socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    messages(socket, parts, told).await
}

fn in_parts(parts: Parts) -> UnsyncBoxBody<Bytes, Infallible> {
    let frames = stream::unfold(parts, async |mut parts| {
        let data = parts.recv().await?.into_data();
        Some((Ok(Frame::data(data)), parts))
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

fn headers(answer: &Response<Incoming>) -> Vec<(String, String)> {
    // How the body is framed is a matter of this connection.
    let all = answer.headers().iter();
    let pairs = all.filter(|(name, _)| *name != header::TRANSFER_ENCODING);
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    pairs
        .map(|(name, value)| (name.as_str().into(), text(value.as_bytes())))
        .collect()
}

async fn read(mut answer: Response<Incoming>, told: &mpsc::Sender<Event>) -> Result<()> {
    while let Some(frame) = answer.body_mut().frame().await {
        let frame = frame.context("the answer broke off")?;
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            told.send(Event::Piece(Kind::Bytes, data)).await?;
        }
    }
    told.send(Event::Complete).await?;
    Ok(())
}

async fn messages<S>(
    mut socket: WebSocketStream<S>,
    mut parts: Parts,
    told: &mpsc::Sender<Event>,
) -> Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut closed = false;
    loop {
        let event = tokio::select! {
            Some(message) = parts.recv() => {
                socket.send(message).await?;
                continue;
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => Event::Piece(Kind::Text, text.into()),
                Some(Ok(Message::Binary(data))) => Event::Piece(Kind::Binary, data),
                Some(Ok(Message::Close(frame))) => {
                    closed = true;
                    let (code, reason) = match frame {
                        Some(frame) => (frame.code.into(), frame.reason.as_str().into()),
                        None => (1005, String::new()),
                    };
                    Event::Closed(code, reason)
                }
                Some(Ok(_)) => continue,
                // The answer to the close was sent.
                Some(Err(_)) | None if closed => return Ok(()),
                Some(Err(error)) => Event::Broken(error.to_string()),
                None => Event::Broken("it ended without a close".into()),
            },
        };
        let over = matches!(event, Event::Broken(_));
        told.send(event).await?;
        if over {
            return Ok(());
        }
    }
}
