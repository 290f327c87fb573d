//! What answers a proxied request on the agent's side: a [`Handler`], given a [`Request`] and a
//! [`Responder`]. The built-in one is [`crate::Kubernetes`].

use std::{future::Future, mem, pin::Pin, sync::Arc};

use bytes::Bytes;
use controlplane_core::{
    Kind, RequestHead, ResponseHead, StreamEnd,
    rules::{Credentials, Gate},
};

use crate::{
    body::{Broken, Event, Inflow, Outflow, Piece},
    front::{self, Reply, Upload, Writer},
    upgrade::{UpgradeRequest, UpgradeResponder},
    websocket::{WebSocketRequest, WebSocketResponder},
};

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Names and values.
pub(crate) type Headers = Vec<(String, String)>;

/// Answers proxied requests, which come as JSON or over HTTP. Implemented for closures:
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
        let text = "this agent opens no WebSocket streams\n";
        Box::pin(async move { decline(responder.refuse(not_implemented()), text).await })
    }

    /// Switches to another protocol, and carries its bytes until both directions have ended.
    ///
    /// The same rules have been applied, and the future is dropped likewise. A handler that does
    /// not implement it refuses with 501.
    fn upgrade(
        &self,
        request: UpgradeRequest,
        responder: UpgradeResponder,
    ) -> BoxFuture<'static, ()> {
        drop(request);
        let text = "this agent switches to no other protocol\n";
        Box::pin(async move { decline(responder.refuse(not_implemented()), text).await })
    }
}

fn not_implemented() -> ResponseHead {
    ResponseHead {
        status: 501,
        headers: vec![("Content-Type".into(), "text/plain".into())],
    }
}

async fn decline(mut body: BodyWriter, text: &'static str) {
    if body.write(text.into()).await.is_ok() {
        body.finish();
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
/// Taking a piece makes room for the next. Over HTTP the client waits meanwhile; in JSON mode what
/// is not taken is bounded by [`crate::Limits::recv_stream`], beyond which the request fails.
/// Dropped, what still comes is read and dropped as well, as long as the answer is under way.
#[derive(Debug)]
pub struct Body {
    source: Source,
    trailers: Headers,
}

#[derive(Debug)]
enum Source {
    Http(Upload, Gate),
    /// Whether it was still to come when the request was.
    Json(Outflow, bool),
    Over,
}

/// How a body begins.
pub(crate) enum First {
    /// There is none.
    Nothing,
    /// With this.
    Piece(Bytes),
    /// It is still to come.
    Later,
}

impl Body {
    pub(crate) const fn json(flow: Outflow, streams: bool) -> Self {
        Self {
            source: Source::Json(flow, streams),
            trailers: Vec::new(),
        }
    }

    pub(crate) const fn http(upload: Upload, gate: Gate) -> Self {
        Self {
            source: Source::Http(upload, gate),
            trailers: Vec::new(),
        }
    }

    /// The next piece; `None` once the body is complete. Nothing is lost where the future is
    /// dropped.
    ///
    /// # Errors
    ///
    /// The rest of the body will not come.
    pub async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        let piece = match &mut self.source {
            Source::Over => return None,
            Source::Http(upload, gate) => data(upload, gate, &mut self.trailers).await,
            Source::Json(flow, _) => match flow.next().await {
                Some(Piece::Data(_, data)) => Some(Ok(data)),
                Some(Piece::End) => None,
                _ => Some(Err(Broken)),
            },
        };
        if !matches!(piece, Some(Ok(_))) {
            self.source = Source::Over;
        }
        piece
    }

    /// How it begins: waits for the first piece only in JSON mode, and there only for a body that the
    /// request's own message holds. So the API learns of a request before its body comes (P-060),
    /// and can refuse it unread.
    ///
    /// # Errors
    ///
    /// It will not come.
    pub(crate) async fn first(&mut self) -> Result<First, Broken> {
        match &self.source {
            Source::Json(_, true) => Ok(First::Later),
            Source::Http(upload, _) if !upload.is_over() => Ok(First::Later),
            Source::Json(..) => match self.next().await {
                None => Ok(First::Nothing),
                Some(piece) => piece.map(First::Piece),
            },
            Source::Http(..) | Source::Over => Ok(First::Nothing),
        }
    }

    /// What followed the body, once it is complete; without headers that decide about a request.
    /// JSON mode has no place for any.
    #[must_use]
    pub fn trailers(&self) -> &[(String, String)] {
        &self.trailers
    }
}

/// The next data of an HTTP body; what follows the last goes to `trailers`.
async fn data(
    upload: &mut Upload,
    gate: &Gate,
    trailers: &mut Headers,
) -> Option<Result<Bytes, Broken>> {
    loop {
        let frame = match upload.frame().await? {
            Ok(frame) => frame,
            Err(_) => return Some(Err(Broken)),
        };
        let map = match frame.into_data() {
            Ok(data) => return Some(Ok(data)),
            Err(other) => other.into_trailers().unwrap_or_default(),
        };
        match front::pairs(&map).and_then(|pairs| gate.trailers(pairs)) {
            Ok(kept) => *trailers = kept,
            Err(_) => return Some(Err(Broken)),
        }
    }
}

/// Begins the answer to a request. Dropped, the request fails.
#[derive(Debug)]
#[must_use]
pub struct Responder(To);

#[derive(Debug)]
enum To {
    Http(Reply),
    Json(BodyWriter),
}

impl Responder {
    pub(crate) fn json(inflow: Inflow) -> Self {
        Self(To::Json(BodyWriter::json(Some(inflow))))
    }

    pub(crate) const fn http(reply: Reply) -> Self {
        Self(To::Http(reply))
    }

    /// Sends status and headers. Trailers that will follow the body are announced in `Trailer`.
    pub fn respond(self, head: ResponseHead) -> BodyWriter {
        match self.0 {
            To::Http(reply) => BodyWriter::http(reply.answer(head)),
            To::Json(writer) => {
                if let Sink::Json(inflow) = &writer.0 {
                    inflow.tell(Event::Head(head));
                }
                writer
            }
        }
    }

    /// Fails the request; the text reaches the controller.
    pub fn fail(self, text: impl Into<String>) {
        match self.0 {
            To::Http(reply) => reply.fail(text.into()),
            To::Json(writer) => writer.abort(text),
        }
    }
}

/// Sends the body of an answer. Dropped unfinished, the answer is aborted: what the client got
/// never passes for the whole.
#[derive(Debug)]
#[must_use]
pub struct BodyWriter(Sink);

#[derive(Debug)]
enum Sink {
    Http(Writer),
    Json(Inflow),
    Over,
}

impl BodyWriter {
    pub(crate) fn json(inflow: Option<Inflow>) -> Self {
        Self(match inflow {
            Some(inflow) => Sink::Json(inflow),
            None => Sink::Over,
        })
    }

    pub(crate) const fn http(writer: Writer) -> Self {
        Self(Sink::Http(writer))
    }

    /// Sends a piece of the body; returns when there is room for the next.
    ///
    /// # Errors
    ///
    /// Nobody waits for the answer any more, or it is one that has no body.
    pub async fn write(&mut self, data: Bytes) -> Result<(), Broken> {
        match &mut self.0 {
            Sink::Http(writer) => writer.write(data).await,
            Sink::Json(inflow) => inflow.write(Kind::Bytes, data).await,
            Sink::Over => Err(Broken),
        }
    }

    /// The answer is complete.
    pub fn finish(self) {
        self.finish_with(Vec::new());
    }

    /// The answer is complete but for these trailers. They reach a client that takes trailers,
    /// where the head announced them and declared no length; JSON mode has no place for them.
    pub fn finish_with(mut self, trailers: Vec<(String, String)>) {
        match mem::replace(&mut self.0, Sink::Over) {
            Sink::Http(writer) => writer.finish(trailers),
            Sink::Json(mut inflow) => inflow.end(StreamEnd::Clean),
            Sink::Over => {}
        }
    }

    /// The answer broke off. The text reaches the controller; a client of [`crate::serve`] that
    /// does not ask for it in `TE` sees the connection break off.
    pub fn abort(mut self, text: impl Into<String>) {
        self.break_off(text.into());
    }

    fn break_off(&mut self, text: String) {
        match mem::replace(&mut self.0, Sink::Over) {
            Sink::Http(writer) => writer.break_off(text),
            Sink::Json(mut inflow) => inflow.end(StreamEnd::Broken(text)),
            Sink::Over => {}
        }
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        self.break_off("the request's handler ended without a complete answer".into());
    }
}
