//! What answers a proxied request on the agent's side: a [`Handler`], given a [`Request`] and a
//! [`Responder`]. The built-in one is [`crate::Kubernetes`].

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use controlplane_core::{Kind, RequestHead, ResponseHead, StreamEnd, rules::Credentials};

use crate::{
    body::{Broken, Event, Inflow, Outflow, Piece},
    websocket::{WebSocketRequest, WebSocketResponder},
};

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Answers proxied requests. Implemented for closures:
///
/// ```
/// # use controlplane_driver::{Handler, Request, Responder, ResponseHead};
/// fn hello() -> impl Handler {
///     |request: Request, responder: Responder| async move {
///         let headers = vec![("Content-Type".into(), "text/plain".into())];
///         let mut body = responder.respond(ResponseHead { status: 200, headers });
///         let text = format!("you asked for {}\n", request.head.path);
///         if body.write(text.into()).await.is_ok() {
///             body.finish();
///         }
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    ///
    /// Header, path and identity rules have been applied to it. The future is dropped when the
    /// controller cancels the request, its time limit passes or the link is lost; whatever it
    /// holds ends with it.
    fn handle(&self, request: Request, responder: Responder) -> BoxFuture<'static, ()>;

    /// Opens a WebSocket stream, and carries its messages until it ends.
    ///
    /// The same rules have been applied, and the future is dropped likewise. A handler that does
    /// not implement it refuses every stream with 501.
    fn open(
        &self,
        request: WebSocketRequest,
        responder: WebSocketResponder,
    ) -> BoxFuture<'static, ()> {
        drop(request);
        Box::pin(async move {
            let mut body = responder.refuse(ResponseHead {
                status: 501,
                headers: vec![("Content-Type".into(), "text/plain".into())],
            });
            let text = "this agent opens no WebSocket streams\n";
            if body.write(text.into()).await.is_ok() {
                body.finish();
            }
        })
    }
}

impl<F, T> Handler for F
where
    F: Fn(Request, Responder) -> T + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    fn handle(&self, request: Request, responder: Responder) -> BoxFuture<'static, ()> {
        Box::pin(self(request, responder))
    }
}

pub(crate) type SharedHandler = Arc<dyn Handler>;

/// A proxied request.
#[derive(Debug)]
pub struct Request {
    /// Method, path, query and headers.
    pub head: RequestHead,
    /// Whether the handler adds its own credentials, or those in the headers count.
    pub credentials: Credentials,
    /// The body; empty for most requests.
    pub body: Body,
}

/// The body of a request.
///
/// Taking a piece makes room for the next; what is not taken is bounded by
/// [`crate::Limits::recv_stream`], beyond which the request fails.
#[derive(Debug)]
pub struct Body {
    pub(crate) flow: Outflow,
    pub(crate) over: bool,
}

impl Body {
    /// The next piece; `None` once the body is complete.
    ///
    /// # Errors
    ///
    /// The rest of the body will not come.
    pub async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        if self.over {
            return None;
        }
        let piece = self.flow.next().await;
        if let Some(Piece::Data(_, data)) = piece {
            return Some(Ok(data));
        }
        self.over = true;
        match piece {
            Some(Piece::End) => None,
            _ => Some(Err(Broken)),
        }
    }
}

/// Begins the answer to a request. Dropped, the request fails.
#[derive(Debug)]
#[must_use]
pub struct Responder(pub(crate) BodyWriter);

impl Responder {
    /// Sends status and headers.
    pub fn respond(self, head: ResponseHead) -> BodyWriter {
        if let Some(inflow) = &self.0.0 {
            inflow.tell(Event::Head(head));
        }
        self.0
    }

    /// Fails the request; the text reaches the controller.
    pub fn fail(self, text: impl Into<String>) {
        self.0.abort(text);
    }
}

/// Sends the body of an answer. Dropped unfinished, the answer is aborted: what the client got
/// never passes for the whole.
#[derive(Debug)]
#[must_use]
pub struct BodyWriter(pub(crate) Option<Inflow>);

impl BodyWriter {
    /// Sends a piece of the body; returns when there is room for the next.
    ///
    /// # Errors
    ///
    /// Nobody waits for the answer any more.
    pub async fn write(&mut self, data: Bytes) -> Result<(), Broken> {
        let inflow = self.0.as_mut().ok_or(Broken)?;
        inflow.write(Kind::Bytes, data).await
    }

    /// The answer is complete.
    pub fn finish(mut self) {
        self.end(StreamEnd::Clean);
    }

    /// The answer broke off; the text reaches the controller.
    pub fn abort(mut self, text: impl Into<String>) {
        self.end(StreamEnd::Broken(text.into()));
    }

    fn end(&mut self, end: StreamEnd) {
        if let Some(mut inflow) = self.0.take() {
            inflow.end(end);
        }
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        let text = "the request's handler ended without a complete answer";
        self.end(StreamEnd::Broken(text.into()));
    }
}
