//! The WebSockets of a machine: reads and writes messages, counts bytes, closes politely.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use controlplane_core::{CloseCode, ConnId, Down, Frame, Input, Limits, OutFrame, StreamClose};
use futures_util::{SinkExt, StreamExt, stream::FuturesUnordered};
use tungstenite::{
    Error as WsError, Message,
    error::{CapacityError, ProtocolError},
    protocol::{CloseFrame, WebSocketConfig, frame::coding},
};

use crate::{
    meter::{Meter, while_moving},
    runtime::{Runtime, WebSocket, timeout, yield_now},
};

pub(crate) type BoxSocket = Pin<Box<dyn WebSocket>>;

/// For the peer to answer a close frame, and for a write to make progress before it.
const CLOSING: Duration = Duration::from_secs(2);
/// For everything that was written to leave, however slowly it does.
const LEAVING: Duration = Duration::from_secs(10);

/// How both ends set up their WebSockets: messages bounded by [`Limits::frame`], and each written
/// at once, so that the core decides late what is sent next.
#[must_use]
pub fn websocket_config(limits: &Limits) -> WebSocketConfig {
    config_for(limits.frame)
}

/// Messages of up to `longest` bytes, each written at once.
pub(crate) fn config_for(longest: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .write_buffer_size(0)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest))
}

struct Link {
    socket: BoxSocket,
    meter: Meter,
    read: u64,
    written: u64,
}

/// All connections of one machine.
#[derive(Default)]
pub(crate) struct Links {
    open: BTreeMap<ConnId, Link>,
    closing: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// What came off a socket.
pub(crate) enum Received {
    Alive,
    Binary(bytes::Bytes),
    Down(Down),
    Pong,
    Text(tungstenite::Utf8Bytes),
}

impl Received {
    pub(crate) fn input(&self, conn: ConnId) -> Input<'_> {
        match self {
            Self::Alive => Input::Alive(conn),
            Self::Binary(bytes) => Input::Frame(conn, Frame::Binary(bytes)),
            Self::Down(down) => Input::Disconnected(conn, down.clone()),
            Self::Pong => Input::Pong(conn),
            Self::Text(text) => Input::Frame(conn, Frame::Text(text)),
        }
    }
}

impl Links {
    pub(crate) fn add(&mut self, conn: ConnId, socket: BoxSocket, meter: Meter) {
        let (read, written) = (meter.read(), meter.written());
        let link = Link {
            socket,
            meter,
            read,
            written,
        };
        self.open.insert(conn, link);
    }

    pub(crate) fn conns(&self) -> Vec<ConnId> {
        self.open.keys().copied().collect()
    }

    /// Whether a message can be written; an error says why the connection is over.
    pub(crate) fn poll_ready(&mut self, conn: ConnId, cx: &mut Context<'_>) -> Result<bool, Down> {
        let Some(link) = self.open.get_mut(&conn) else {
            return Ok(false);
        };
        match link.socket.poll_ready_unpin(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(error)) => {
                self.open.remove(&conn);
                Err(down(&error))
            }
        }
    }

    pub(crate) fn send(&mut self, conn: ConnId, frame: OutFrame) -> Result<(), Down> {
        let Some(link) = self.open.get_mut(&conn) else {
            return Ok(());
        };
        let message = match frame {
            OutFrame::Binary(bytes) => Message::Binary(bytes),
            OutFrame::Text(text) => Message::text(text),
            OutFrame::Ping => Message::Ping(bytes::Bytes::new()),
            _ => return Ok(()),
        };
        link.socket.start_send_unpin(message).map_err(|error| {
            self.open.remove(&conn);
            down(&error)
        })
    }

    /// Pushes out what was written; true where any byte left since the last call.
    pub(crate) fn poll_flush(&mut self, conn: ConnId, cx: &mut Context<'_>) -> bool {
        let Some(link) = self.open.get_mut(&conn) else {
            return false;
        };
        // An error shows again when the socket is read.
        let _ = link.socket.poll_flush_unpin(cx);
        let written = link.meter.written();
        std::mem::replace(&mut link.written, written) != written
    }

    /// The next message, or the news that bytes of one have come.
    pub(crate) fn poll_read<R: Runtime>(
        &mut self,
        conn: ConnId,
        runtime: &R,
        cx: &mut Context<'_>,
    ) -> Option<Received> {
        let link = self.open.get_mut(&conn)?;
        let message = link.socket.poll_next_unpin(cx);
        let read = link.meter.read();
        let moved = std::mem::replace(&mut link.read, read) != read;
        let message = match message {
            Poll::Pending => return moved.then_some(Received::Alive),
            Poll::Ready(message) => message,
        };
        Some(match message {
            Some(Ok(Message::Text(text))) => Received::Text(text),
            Some(Ok(Message::Binary(bytes))) => Received::Binary(bytes),
            Some(Ok(Message::Close(frame))) => {
                self.finish(conn, None, runtime);
                Received::Down(closed(frame))
            }
            Some(Ok(Message::Pong(_))) => Received::Pong,
            Some(Ok(_)) => Received::Alive,
            Some(Err(error)) => {
                match complaint(&error) {
                    Some(frame) => self.finish(conn, Some(frame), runtime),
                    None => drop(self.open.remove(&conn)),
                }
                Received::Down(down(&error))
            }
            None => {
                self.open.remove(&conn);
                let text = "the peer ended the connection without a close frame";
                Received::Down(Down::Lost(text.into()))
            }
        })
    }

    pub(crate) fn close<R: Runtime>(
        &mut self,
        conn: ConnId,
        code: CloseCode,
        reason: &'static str,
        runtime: &R,
    ) {
        self.finish(conn, Some(close_frame(code, reason)), runtime);
    }

    /// Lets the close handshake end in the background, for a bounded time.
    fn finish<R: Runtime>(&mut self, conn: ConnId, frame: Option<CloseFrame>, runtime: &R) {
        let Some(link) = self.open.remove(&conn) else {
            return;
        };
        let runtime = runtime.clone();
        self.closing.push(Box::pin(async move {
            let last = frame.map(|frame| Message::Close(Some(frame)));
            farewell(&runtime, link.socket, &link.meter, last).await;
        }));
    }

    /// Works on the farewells; true once none is left.
    pub(crate) fn poll_closing(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            match self.closing.poll_next_unpin(cx) {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) => return true,
                Poll::Pending => return false,
            }
        }
    }

    /// Drops every connection as a cut cable would.
    pub(crate) fn cut(&mut self) -> Vec<ConnId> {
        let conns = self.conns();
        self.open.clear();
        conns
    }
}

/// Sends what was written and a last message, if there is one, then waits for the peer to end the
/// connection, all for a bounded time. Returns how the peer closed it meanwhile.
pub(crate) async fn farewell<R: Runtime>(
    runtime: &R,
    mut socket: impl WebSocket,
    meter: &Meter,
    last: Option<Message>,
) -> Option<StreamClose> {
    let sent = async {
        match last {
            Some(message) => socket.send(message).await,
            None => socket.flush().await,
        }
    };
    // What was written before may be long and the way slow.
    let sent = while_moving(runtime, meter, || CLOSING, sent);
    let Some(Some(Ok(()))) = timeout(runtime, LEAVING, sent).await else {
        return None;
    };
    let mut closed = None;
    let answer = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(frame) = message {
                closed = Some(stream_close(frame));
            }
            // A peer that never stops sending must not hold up the loop.
            yield_now().await;
        }
    };
    timeout(runtime, CLOSING, answer).await;
    closed
}

fn close_frame(code: CloseCode, reason: &'static str) -> CloseFrame {
    CloseFrame {
        code: coding::CloseCode::from(code as u16),
        reason: reason.into(),
    }
}

/// What a peer that broke the rules of WebSocket is told.
pub(crate) fn complaint(error: &WsError) -> Option<CloseFrame> {
    let (code, reason) = match error {
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => {
            (coding::CloseCode::Size, "message too long")
        }
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return None,
        WsError::Protocol(_) | WsError::AttackAttempt => {
            (coding::CloseCode::Protocol, "protocol error")
        }
        WsError::Utf8(_) => (coding::CloseCode::Invalid, "protocol error"),
        _ => return None,
    };
    let reason = reason.into();
    Some(CloseFrame { code, reason })
}

/// The close of a stream whose WebSocket was closed with that.
pub(crate) fn stream_close(frame: Option<CloseFrame>) -> StreamClose {
    match frame {
        None => StreamClose::new(StreamClose::NO_CODE, ""),
        Some(frame) => StreamClose::new(frame.code.into(), &frame.reason),
    }
}

fn closed(frame: Option<CloseFrame>) -> Down {
    match frame {
        None => Down::Closed {
            code: 1005,
            reason: String::new(),
        },
        Some(frame) => Down::Closed {
            code: frame.code.into(),
            reason: frame.reason.to_string(),
        },
    }
}

fn down(error: &WsError) -> Down {
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => Down::TooBig,
        WsError::ConnectionClosed | WsError::AlreadyClosed => {
            Down::Lost("connection closed".into())
        }
        error => Down::Lost(chain(error)),
    }
}

/// An error with its causes, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text
}
