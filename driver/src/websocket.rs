//! WebSocket streams as a [`crate::Handler`] and a user of [`crate::Hub`] see them: messages in,
//! messages out, one close.

use bytes::Bytes;
use controlplane_core::{
    Failure, Kind, RequestHead, ResponseHead, StreamClose, StreamEnd, rules::Credentials,
};

use crate::{
    body::{Broken, Event, Inflow, Outflow, Piece},
    handler::BodyWriter,
    hub::Answer,
};

/// A message of a WebSocket stream: its boundaries and type are kept on the whole way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// Binary.
    Binary(Bytes),
    /// Text, in UTF-8.
    Text(Bytes),
}

/// What comes out of a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Incoming {
    /// The other side closed it, after all that came before; a failure says why it did not end
    /// in order. Nothing follows.
    Closed(StreamClose, Option<Failure>),
    /// A message.
    Message(Message),
}

/// Where the messages of a stream come out.
#[derive(Debug)]
pub struct MessageReader {
    flow: Outflow,
    /// How it was closed.
    closed: Option<(StreamClose, Option<Failure>)>,
}

impl MessageReader {
    pub(crate) const fn new(flow: Outflow) -> Self {
        Self { flow, closed: None }
    }

    /// The next message, or the close. Taking one makes room for the next; nothing is lost where
    /// the future is dropped.
    pub async fn next(&mut self) -> Incoming {
        if let Some((close, failure)) = &self.closed {
            return Incoming::Closed(close.clone(), failure.clone());
        }
        let (close, failure) = match self.flow.next().await {
            Some(Piece::Data(Kind::Text, data)) => return Incoming::Message(Message::Text(data)),
            Some(Piece::Data(_, data)) => return Incoming::Message(Message::Binary(data)),
            Some(Piece::Closed(close, failure)) => (close, failure),
            Some(Piece::Failed(failure)) => (broken(), Some(failure)),
            Some(Piece::End | Piece::Head(_)) | None => (broken(), Some(Failure::Disconnected)),
        };
        self.closed = Some((close.clone(), failure.clone()));
        Incoming::Closed(close, failure)
    }
}

fn broken() -> StreamClose {
    StreamClose::new(StreamClose::BROKEN, "")
}

/// Where messages go into a stream. Dropped before its end, the stream breaks.
#[derive(Debug)]
#[must_use]
pub struct MessageWriter(Option<Inflow>);

impl MessageWriter {
    /// Sends a message; returns when there is room for the next.
    ///
    /// # Errors
    ///
    /// Nobody takes messages any more: see [`MessageReader::next`] for why.
    pub async fn write(&mut self, message: Message) -> Result<(), Broken> {
        let inflow = self.0.as_mut().ok_or(Broken)?;
        match message {
            Message::Binary(data) => inflow.write(Kind::Binary, data).await,
            Message::Text(data) => inflow.write(Kind::Text, data).await,
        }
    }

    /// This side closed its WebSocket with that.
    pub fn close(mut self, close: StreamClose) {
        self.end(StreamEnd::Closed(close));
    }

    /// This side broke; the text reaches the other.
    pub fn abort(mut self, text: impl Into<String>) {
        self.end(StreamEnd::Broken(text.into()));
    }

    fn end(&mut self, end: StreamEnd) {
        if let Some(mut inflow) = self.0.take() {
            inflow.end(end);
        }
    }
}

impl Drop for MessageWriter {
    fn drop(&mut self) {
        self.end(StreamEnd::Broken("the stream was dropped".into()));
    }
}

/// A request for a WebSocket stream. `Debug` leaves the subprotocols out, of which one may be a
/// credential.
pub struct WebSocketRequest {
    /// Path, query and headers; the handshake's own headers are the handler's to make.
    pub head: RequestHead,
    /// Subprotocols to offer, in this order; with none the header is left out.
    pub protocols: Vec<String>,
    /// Whether the handler adds its own credentials, or those in the headers count.
    pub credentials: Credentials,
    /// Messages toward the Kubernetes API. Some may come before the stream is open.
    pub messages: MessageReader,
}

impl std::fmt::Debug for WebSocketRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocketRequest")
            .field("head", &self.head)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

/// Answers a [`WebSocketRequest`]. Dropped, the stream fails.
#[derive(Debug)]
#[must_use]
pub struct WebSocketResponder(Option<Inflow>);

impl WebSocketResponder {
    pub(crate) const fn new(inflow: Inflow) -> Self {
        Self(Some(inflow))
    }

    /// The stream is open; the headers name the chosen subprotocol.
    pub fn accept(self, headers: Vec<(String, String)>) -> MessageWriter {
        let status = 101;
        MessageWriter(self.answer(ResponseHead { status, headers }))
    }

    /// The upstream refused with this answer, which reaches the client.
    pub fn refuse(self, head: ResponseHead) -> BodyWriter {
        BodyWriter::json(self.answer(head))
    }

    /// There was no answer; the text reaches the controller.
    pub fn fail(mut self, text: impl Into<String>) {
        self.end(text.into());
    }

    fn answer(mut self, head: ResponseHead) -> Option<Inflow> {
        let inflow = self.0.take()?;
        inflow.tell(Event::Head(head));
        Some(inflow)
    }

    fn end(&mut self, text: String) {
        if let Some(mut inflow) = self.0.take() {
            inflow.end(StreamEnd::Broken(text));
        }
    }
}

impl Drop for WebSocketResponder {
    fn drop(&mut self) {
        self.end("the stream's handler ended without an answer".into());
    }
}

/// A WebSocket stream that was asked for. Dropped, it is given up.
#[derive(Debug)]
#[must_use]
pub struct Upgrade(Option<(Outflow, Inflow)>);

/// The answer to an [`Upgrade`].
#[derive(Debug)]
pub enum Upgraded {
    /// The stream is open.
    Open {
        /// Status 101, and headers that name the chosen subprotocol. Those of the handshake are
        /// the other hop's: make your own toward the client.
        head: ResponseHead,
        /// Messages toward the client.
        reader: MessageReader,
        /// Messages of the client.
        writer: MessageWriter,
    },
    /// The Kubernetes API refused, with this answer.
    Refused(ResponseHead, Answer),
}

impl Upgrade {
    pub(crate) const fn new(flow: Outflow, inflow: Inflow) -> Self {
        Self(Some((flow, inflow)))
    }

    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// There was none.
    pub async fn answer(mut self) -> Result<Upgraded, Failure> {
        let Some((flow, _)) = &mut self.0 else {
            return Err(Failure::Disconnected);
        };
        let piece = flow.next().await;
        let Some((flow, mut inflow)) = self.0.take() else {
            return Err(Failure::Disconnected);
        };
        match piece {
            Some(Piece::Head(head)) if head.status == 101 => Ok(Upgraded::Open {
                head,
                reader: MessageReader::new(flow),
                writer: MessageWriter(Some(inflow)),
            }),
            Some(Piece::Head(head)) => {
                inflow.over = true;
                Ok(Upgraded::Refused(head, Answer::json(flow)))
            }
            Some(Piece::Failed(failure)) => Err(failure),
            _ => Err(Failure::Disconnected),
        }
    }
}

impl Drop for Upgrade {
    fn drop(&mut self) {
        if let Some((_, inflow)) = self.0.take() {
            inflow.tell(Event::Cancel);
        }
    }
}
