//! Agents that are right but for one thing: what a right agent says goes through a wrapper that
//! reorders, drops, repeats or falsifies.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use controlplane_driver::{Metered, Runtime, WebSocket};
use controlplane_e2e::left_to;
use futures_util::{Sink, Stream};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error as WsError, Message, protocol::WebSocketConfig};

/// `one`, `two` and `half` with what follows, as pieces of an answer.
const ONE: &str = "b25lCg==";
const TWO: &str = "dHdvCg==";
const HALF: &str = "aGFsZg==";

/// What is wrong with an agent, in one message of all that it says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Flaw {
    #[default]
    None,
    /// The head of an answer comes after the first piece of its body.
    Swaps,
    /// A piece in the middle of an answer is not sent.
    Drops,
    /// A piece of an answer is sent twice.
    Repeats,
    /// An answer that breaks off is said to be complete.
    FalseEnd,
    /// A stream that broke is said to be closed in order.
    FalseClose,
}

/// The runtime `R` with an agent of that flaw.
#[derive(Clone, Default)]
pub(crate) struct Flawed<R> {
    pub(crate) inner: R,
    pub(crate) flaw: Flaw,
}

/// A WebSocket to the controller, through which the agent speaks.
pub(crate) struct Bent<S> {
    inner: S,
    flaw: Flaw,
    /// What waits for the next message.
    held: Option<Value>,
    /// What is to be falsified has begun.
    armed: bool,
    /// Goes before anything else.
    out: Vec<Message>,
}

impl<S> Bent<S> {
    fn new(inner: S, flaw: Flaw) -> Self {
        Self {
            inner,
            flaw,
            held: None,
            armed: false,
            out: Vec::new(),
        }
    }

    /// What becomes of a message.
    fn bend(&mut self, mut message: Value) -> Vec<Value> {
        if let Some(held) = self.held.take() {
            return vec![message, held];
        }
        let kind = message["type"].as_str().unwrap_or_default().to_string();
        let payload = &mut message["payload"];
        match (self.flaw, &*kind) {
            (Flaw::Swaps, "proxy_response_header")
                if payload["headers"].to_string().contains("text/plain") =>
            {
                self.held = Some(message);
                return Vec::new();
            }
            (Flaw::Drops, "proxy_response_chunk") if payload["data"] == TWO => return Vec::new(),
            (Flaw::Repeats, "proxy_response_chunk") if payload["data"] == ONE => {
                return vec![message.clone(), message];
            }
            (Flaw::FalseEnd, "proxy_response_chunk") => self.armed |= payload["data"] == HALF,
            (Flaw::FalseEnd, "proxy_response_abort") if self.armed => {
                message["type"] = "proxy_response_end".into();
                message["payload"] = json!({});
            }
            (Flaw::FalseClose, "proxy_error") => {
                self.armed = payload["error"]
                    .to_string()
                    .contains("without a close frame");
                if self.armed {
                    return Vec::new();
                }
            }
            (Flaw::FalseClose, "proxy_websocket_close") if self.armed => {
                payload["code"] = 1000.into();
                payload["reason"] = "".into();
            }
            _ => {}
        }
        vec![message]
    }
}

impl<S: Stream + Unpin> Stream for Bent<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Pin::new(&mut self.inner).poll_next(cx)
    }
}

impl<S: WebSocket> Sink<Message> for Bent<S> {
    type Error = WsError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        loop {
            std::task::ready!(Pin::new(&mut self.inner).poll_ready(cx))?;
            if self.out.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let next = self.out.remove(0);
            Pin::new(&mut self.inner).start_send(next)?;
        }
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), WsError> {
        let parsed = match &message {
            Message::Text(text) => serde_json::from_str(text.as_str()).ok(),
            _ => None,
        };
        let Some(parsed) = parsed else {
            return Pin::new(&mut self.inner).start_send(message);
        };
        let said = self.bend(parsed).into_iter();
        let said: Vec<Message> = said.map(|m| Message::text(format!("{m}\n"))).collect();
        self.out.extend(said);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        std::task::ready!(self.as_mut().poll_ready(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        std::task::ready!(self.as_mut().poll_ready(cx))?;
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

impl<R: Runtime> Runtime for Flawed<R> {
    type Io = R::Io;
    type Socket = Bent<R::Socket>;
    type Timer = R::Timer;
    type Udp = R::Udp;

    left_to!(inner: name resolve tcp udp tls spawn timer);

    fn websocket(
        &self,
        request: http::Request<()>,
        io: Metered<Self::Io>,
        config: WebSocketConfig,
    ) -> impl Future<Output = Result<Self::Socket, WsError>> + Send + 'static {
        let flaw = self.flaw;
        let opening = self.inner.websocket(request, io, config);
        async move { Ok(Bent::new(opening.await?, flaw)) }
    }

    fn websocket_over(
        &self,
        io: Metered<Self::Io>,
        read: Vec<u8>,
        config: WebSocketConfig,
    ) -> impl Future<Output = Self::Socket> + Send + 'static {
        let opening = self.inner.websocket_over(io, read, config);
        // Toward the Kubernetes API it is right.
        async move { Bent::new(opening.await, Flaw::None) }
    }
}
