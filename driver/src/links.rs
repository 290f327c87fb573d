//! The WebSockets of a machine: reads and writes messages, counts bytes, closes politely.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use controlplane_core::{CloseCode, ConnId, Down, Frame, Input, Limits, OutFrame};
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
    WebSocketConfig::default()
        .write_buffer_size(0)
        .max_message_size(Some(limits.frame))
        .max_frame_size(Some(limits.frame))
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
    Text(tungstenite::Utf8Bytes),
}

impl Received {
    pub(crate) fn input(&self, conn: ConnId) -> Input<'_> {
        match self {
            Self::Alive => Input::Alive(conn),
            Self::Binary(bytes) => Input::Frame(conn, Frame::Binary(bytes)),
            Self::Down(down) => Input::Disconnected(conn, down.clone()),
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
            Some(Ok(_)) => Received::Alive,
            Some(Err(WsError::Capacity(CapacityError::MessageTooLong { .. }))) => {
                let frame = close_frame(CloseCode::TooBig, "message too long");
                self.finish(conn, Some(frame), runtime);
                Received::Down(Down::TooBig)
            }
            Some(Err(error)) => {
                let down = down(&error);
                match broken_rule(&error) {
                    Some(code) => {
                        let reason = "protocol error".into();
                        self.finish(conn, Some(CloseFrame { code, reason }), runtime);
                    }
                    None => drop(self.open.remove(&conn)),
                }
                Received::Down(down)
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
        let mut socket = link.socket;
        let runtime = runtime.clone();
        self.closing.push(Box::pin(async move {
            let (meter, span) = (link.meter, CLOSING);
            let sent = async {
                match frame {
                    Some(frame) => socket.send(Message::Close(Some(frame))).await,
                    None => socket.flush().await,
                }
            };
            // What was written before may be long and the way slow.
            let sent = while_moving(&runtime, &meter, || span, sent);
            if let Some(Some(Ok(()))) = timeout(&runtime, LEAVING, sent).await {
                let answer = async {
                    while let Some(Ok(_)) = socket.next().await {
                        // A peer that never stops sending must not hold up the loop.
                        yield_now().await;
                    }
                };
                timeout(&runtime, CLOSING, answer).await;
            }
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

fn close_frame(code: CloseCode, reason: &'static str) -> CloseFrame {
    CloseFrame {
        code: coding::CloseCode::from(code as u16),
        reason: reason.into(),
    }
}

/// The code to close with, where the peer broke the rules of WebSocket.
fn broken_rule(error: &WsError) -> Option<coding::CloseCode> {
    match error {
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        WsError::Protocol(_) | WsError::AttackAttempt => Some(coding::CloseCode::Protocol),
        WsError::Utf8(_) => Some(coding::CloseCode::Invalid),
        _ => None,
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
    Down::Lost(match error {
        WsError::ConnectionClosed | WsError::AlreadyClosed => "connection closed".into(),
        error => chain(error),
    })
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
