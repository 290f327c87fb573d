//! Carries the messages of one stream between the tunnel and the WebSocket to the Kubernetes API,
//! in both directions at once, until one side ends it.

use std::pin::pin;

use bytes::Bytes;
use controlplane_core::StreamClose;
use futures_util::{
    SinkExt, StreamExt,
    future::{Either, select},
    stream::{SplitSink, SplitStream},
};
use tungstenite::{
    Error as WsError, Message as Frame, Utf8Bytes,
    error::{CapacityError, ProtocolError},
    protocol::CloseFrame,
};

use super::{UpstreamLimits, pulse::Pulse};
use crate::{
    links::{chain, complaint, farewell, stream_close},
    meter::Meter,
    runtime::{Runtime, sleep, timeout, yield_now},
    websocket::{Incoming, Message, MessageReader, MessageWriter},
};

/// What carrying takes beside the two sides.
pub(super) struct Carry<'a, R> {
    pub(super) runtime: &'a R,
    pub(super) limits: &'a UpstreamLimits,
    /// Of the connection to the API.
    pub(super) meter: &'a Meter,
}

/// How a stream ends.
enum End {
    /// The API closed it.
    Api(StreamClose),
    /// It broke, and what the API is told of it, where it can be told anything.
    Broken(String, Option<CloseFrame>),
    /// The tunnel's side closed it.
    Tunnel(StreamClose),
}

impl<R: Runtime> Carry<'_, R> {
    pub(super) async fn run(
        &self,
        socket: R::Socket,
        mut messages: MessageReader,
        mut writer: MessageWriter,
    ) {
        let (mut sink, mut stream) = socket.split();
        let end = self.both(&mut sink, &mut stream, &mut messages, &mut writer);
        let end = end.await;
        let Ok(socket) = stream.reunite(sink) else {
            return;
        };
        let part = |last| farewell(self.runtime, socket, self.meter, last);
        match end {
            End::Api(close) => {
                writer.close(close);
                // The API does not wait for its close to be answered, so that may well fail.
                part(None).await;
            }
            End::Broken(text, frame) => {
                writer.abort(text);
                if let Some(frame) = frame {
                    part(Some(Frame::Close(Some(frame)))).await;
                }
            }
            End::Tunnel(close) => {
                let answer = part(Some(close_frame(&close))).await;
                writer.close(answer.unwrap_or(close));
            }
        }
    }

    /// Carries both ways until the stream ends in one of them. Neither direction waits for the
    /// other: a process that reads no input may still have much to say.
    async fn both(
        &self,
        sink: &mut SplitSink<R::Socket, Frame>,
        stream: &mut SplitStream<R::Socket>,
        messages: &mut MessageReader,
        writer: &mut MessageWriter,
    ) -> End {
        let pulse = Pulse::default();
        let down = pin!(self.down(stream, writer, &pulse));
        let up = pin!(self.up(sink, messages, &pulse));
        let lost = pin!(pulse.lost(self.runtime, self.meter, self.limits));
        // Reading comes first, so that a close that has come is seen before a write fails on it.
        let (failed, down) = match select(down, select(up, lost)).await {
            Either::Left((end, _)) => return end,
            Either::Right((Either::Left((Ok(close), _)), _)) => return End::Tunnel(close),
            Either::Right((Either::Right((why, _)), _)) => return End::Broken(why, None),
            Either::Right((Either::Left((Err(failed), _)), down)) => (failed, down),
        };
        // The API ends its connection right after its last word, often while input is on its way
        // to it. What it said before counts; else the failure ends both directions (P-172).
        match timeout(self.runtime, self.limits.write, down).await {
            Some(End::Api(close)) => End::Api(close),
            _ => End::Broken(failed, None),
        }
    }

    /// Toward the API: messages, and pings between them, until the tunnel's side closes.
    async fn up(
        &self,
        sink: &mut SplitSink<R::Socket, Frame>,
        messages: &mut MessageReader,
        pulse: &Pulse,
    ) -> Result<StreamClose, String> {
        let period = self.limits.ping.min(self.limits.silence / 2);
        let mut due = pin!(sleep(self.runtime, period));
        loop {
            // The ping comes first: it must not wait for a gap between messages.
            let frame = match select(due.as_mut(), pin!(messages.next())).await {
                Either::Left(_) => {
                    due.set(sleep(self.runtime, period));
                    // Answers that nobody reads would only fill the way back.
                    if pulse.is_held() {
                        continue;
                    }
                    Frame::Ping(Bytes::copy_from_slice(&pulse.ping()))
                }
                Either::Right((Incoming::Closed(close, _), _)) => return Ok(close),
                Either::Right((Incoming::Message(message), _)) => {
                    pulse.sends();
                    as_frame(message)?
                }
            };
            let sent = pulse.blocked(sink.send(frame)).await;
            sent.map_err(|e| format!("cannot write to the Kubernetes API: {}", chain(&e)))?;
            // Messages that never cease must not keep the other direction from its turn.
            yield_now().await;
        }
    }

    /// From the API, until it ends.
    async fn down(
        &self,
        stream: &mut SplitStream<R::Socket>,
        writer: &mut MessageWriter,
        pulse: &Pulse,
    ) -> End {
        loop {
            let message = match stream.next().await {
                Some(Ok(Frame::Binary(data))) => Message::Binary(data),
                Some(Ok(Frame::Text(text))) => Message::Text(text.into()),
                Some(Ok(Frame::Close(frame))) => return End::Api(stream_close(frame)),
                Some(Ok(Frame::Pong(payload))) => {
                    pulse.pong(&payload);
                    yield_now().await;
                    continue;
                }
                Some(Ok(_)) => {
                    // Pings that never cease must not keep the other direction from its turn.
                    yield_now().await;
                    continue;
                }
                Some(Err(error)) => return self.broken(&error),
                None => return self.broken(&WsError::ConnectionClosed),
            };
            if pulse.held(writer.write(message)).await.is_err() {
                return End::Broken("the stream is over".into(), None);
            }
        }
    }

    fn broken(&self, error: &WsError) -> End {
        let text = match error {
            WsError::Capacity(CapacityError::MessageTooLong { .. }) => {
                let limit = self.limits.message;
                format!("the Kubernetes API sent a message of more than {limit} bytes")
            }
            error if is_bare_end(error) => {
                "the Kubernetes API ended the stream without a close frame".into()
            }
            WsError::Io(error) => {
                format!(
                    "the connection to the Kubernetes API broke: {}",
                    chain(error)
                )
            }
            error => format!(
                "the Kubernetes API broke the rules of WebSocket: {}",
                chain(error)
            ),
        };
        End::Broken(text, complaint(error))
    }
}

/// Whether the connection ended, and nothing else is wrong.
fn is_bare_end(error: &WsError) -> bool {
    match error {
        WsError::AlreadyClosed
        | WsError::ConnectionClosed
        | WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => true,
        // TLS that ends as TCP does.
        WsError::Io(error) => error.kind() == std::io::ErrorKind::UnexpectedEof,
        _ => false,
    }
}

/// One frame for each message: the API does not join fragments.
fn as_frame(message: Message) -> Result<Frame, String> {
    match message {
        Message::Binary(data) => Ok(Frame::Binary(data)),
        Message::Text(data) => match Utf8Bytes::try_from(data) {
            Ok(text) => Ok(Frame::Text(text)),
            Err(_) => Err("a text message for the Kubernetes API is not UTF-8".into()),
        },
    }
}

/// The frame that closes with `close`; empty where there is no code.
fn close_frame(close: &StreamClose) -> Frame {
    Frame::Close((close.code != StreamClose::NO_CODE).then(|| CloseFrame {
        code: close.code.into(),
        reason: close.reason.as_str().into(),
    }))
}
