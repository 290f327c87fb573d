//! The two halves of a request as a user of the [`Hub`](super::Hub) sees them, whichever mode it
//! travels in.

use std::{fmt, sync::Weak};

use bytes::Bytes;
use controlplane_core::{Failure, Kind, PeerFault, ResponseHead, StreamEnd};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::client::{
    self, Arrival, Arrived, Client, Exchange, Sink, Wire, failure_of, response_head,
};
use crate::body::{Broken, Event, Inflow, Outflow, Piece};

/// Sends the body of a request. Dropped unfinished, the request is cancelled, unless its answer has
/// begun, which then goes on to its end.
#[must_use]
pub struct RequestBody(Option<Half>);

enum Half {
    Json(Inflow),
    Fast(Sink, Exchange),
}

impl RequestBody {
    pub(super) const fn json(inflow: Inflow) -> Self {
        Self(Some(Half::Json(inflow)))
    }

    pub(super) const fn fast(sink: Sink, exchange: Exchange) -> Self {
        Self(Some(Half::Fast(sink, exchange)))
    }

    /// Sends a piece; returns when there is room for the next.
    ///
    /// # Errors
    ///
    /// Nobody wants the rest: the answer is complete or has failed. See [`Answer`] for which.
    pub async fn write(&mut self, data: Bytes) -> Result<(), Broken> {
        match &mut self.0 {
            Some(Half::Json(inflow)) => inflow.write(Kind::Bytes, data).await,
            Some(Half::Fast(sink, _)) => sink.write(data).await,
            None => Err(Broken),
        }
    }

    /// The body is complete.
    pub fn finish(self) {
        self.finish_with(Vec::new());
    }

    /// The body is complete, with these trailers, of which those pass that the request's `Trailer`
    /// header has announced. In JSON messages none do (P-201).
    pub fn finish_with(mut self, trailers: Vec<(String, String)>) {
        match self.0.take() {
            Some(Half::Json(mut inflow)) => inflow.end(StreamEnd::Clean),
            Some(Half::Fast(sink, exchange)) => {
                exchange.finish(client::trailers(trailers));
                drop(sink);
            }
            None => {}
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        match self.0.take() {
            Some(Half::Json(mut inflow)) => {
                let text = "the client broke off the request";
                inflow.end(StreamEnd::Broken(text.into()));
            }
            Some(Half::Fast(sink, exchange)) => {
                if !exchange.is_finished() {
                    exchange.let_go();
                }
                drop(sink);
            }
            None => {}
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

/// The answer to a request. Dropped before its end, the request is cancelled.
pub struct Answer(Source);

enum Source {
    Json(Json),
    Fast(Box<Fast>),
}

struct Json {
    flow: Outflow,
    over: bool,
}

impl Answer {
    pub(crate) const fn json(flow: Outflow) -> Self {
        Self(Source::Json(Json { flow, over: false }))
    }

    pub(super) fn fast(exchange: Exchange, arrival: Arrival) -> Self {
        Self::begun(Fast::new(exchange, arrival))
    }

    /// One of which something was taken already.
    pub(super) fn begun(fast: Fast) -> Self {
        Self(Source::Fast(Box::new(fast)))
    }

    /// Status and headers; ask once.
    ///
    /// # Errors
    ///
    /// The request failed before there were any.
    pub async fn head(&mut self) -> Result<ResponseHead, Failure> {
        match &mut self.0 {
            Source::Json(json) => json.head().await,
            Source::Fast(fast) => match fast.head().await? {
                head if head.status == 101 => fast.failed(Failure::Fault(PeerFault::Malformed)),
                head => Ok(head),
            },
        }
    }

    /// The next piece of the body; `None` once it is complete.
    ///
    /// # Errors
    ///
    /// The answer broke off: what came before must not pass for the whole.
    pub async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        match &mut self.0 {
            Source::Json(json) => json.next().await,
            Source::Fast(fast) => fast.next().await,
        }
    }

    /// The trailers, once [`Self::next`] has returned `None`. In JSON messages there are none.
    #[must_use]
    pub fn trailers(&self) -> Vec<(String, String)> {
        match &self.0 {
            Source::Json(_) => Vec::new(),
            Source::Fast(fast) => client::pairs(&fast.trailers),
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl Json {
    async fn head(&mut self) -> Result<ResponseHead, Failure> {
        match self.flow.next().await {
            Some(Piece::Head(head)) => Ok(head),
            Some(Piece::Failed(failure)) => self.failed(failure),
            _ => self.failed(Failure::Disconnected),
        }
    }

    fn failed<T>(&mut self, failure: Failure) -> Result<T, Failure> {
        self.over = true;
        Err(failure)
    }

    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        if self.over {
            return None;
        }
        match self.flow.next().await {
            Some(Piece::Data(_, data)) => Some(Ok(data)),
            Some(Piece::End) => {
                self.over = true;
                None
            }
            Some(Piece::Failed(failure)) => Some(self.failed(failure)),
            Some(Piece::Closed(..) | Piece::Head(_)) | None => {
                Some(self.failed(Failure::Disconnected))
            }
        }
    }
}

impl Drop for Json {
    fn drop(&mut self) {
        if !self.over {
            let cancel = (self.flow.id, Event::Cancel);
            let _ = self.flow.events.unbounded_send(cancel);
        }
    }
}

/// An answer by HTTP/1.1.
pub(super) struct Fast {
    exchange: Exchange,
    stage: Stage,
    /// What is missing of a body that is chunked although its length is known.
    left: Option<u64>,
    trailers: HeaderMap,
}

enum Stage {
    /// The head is awaited.
    Waiting(Arrival),
    /// With the connection for when it is complete.
    Body(Incoming, Wire, Weak<Client>),
    Over,
}

impl Fast {
    pub(super) fn new(exchange: Exchange, arrival: Arrival) -> Self {
        Self {
            exchange,
            stage: Stage::Waiting(arrival),
            left: None,
            trailers: HeaderMap::new(),
        }
    }

    /// The answer with its body still in it; from then on its end is the caller's affair.
    pub(super) async fn response(&mut self) -> Result<Arrived, Failure> {
        let Stage::Waiting(arrival) = &mut self.stage else {
            return Err(Failure::Disconnected);
        };
        let arrived = arrival.await.unwrap_or(Err(Failure::Disconnected));
        let mut arrived = match arrived {
            Ok(arrived) => arrived,
            Err(failure) => return self.failed(failure),
        };
        if let Some(failure) = failure_of(&arrived.response) {
            return self.failed(failure);
        }
        match client::take_length(arrived.response.headers_mut()) {
            Ok(left) => self.left = left,
            Err(failure) => return self.failed(failure),
        }
        self.exchange.counts(arrived.response.status().as_u16());
        Ok(arrived)
    }

    pub(super) async fn head(&mut self) -> Result<ResponseHead, Failure> {
        let arrived = self.response().await?;
        Ok(self.begin(arrived))
    }

    /// Goes on with the body of this answer.
    pub(super) fn begin(&mut self, arrived: Arrived) -> ResponseHead {
        let Arrived {
            response,
            wire,
            client,
        } = arrived;
        let head = response_head(&response);
        self.stage = Stage::Body(response.into_body(), wire, client);
        head
    }

    /// The connection has switched protocols: there is no more of HTTP on it.
    pub(super) fn switched(&mut self) {
        self.stage = Stage::Over;
    }

    pub(super) fn failed<T>(&mut self, failure: Failure) -> Result<T, Failure> {
        self.stage = Stage::Over;
        self.exchange.give_up(failure.clone());
        Err(failure)
    }

    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        loop {
            let Stage::Body(body, ..) = &mut self.stage else {
                return None;
            };
            let frame = match body.frame().await {
                None => return self.end().err().map(Err),
                Some(Err(error)) => {
                    let failure = self.exchange.failure(&error);
                    return Some(self.failed(failure));
                }
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Some(self.count(data)),
                Err(frame) => self.trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
    }

    fn count(&mut self, data: Bytes) -> Result<Bytes, Failure> {
        if let Some(left) = &mut self.left {
            match left.checked_sub(data.len() as u64) {
                Some(rest) => *left = rest,
                None => return self.failed(Failure::Fault(PeerFault::Malformed)),
            }
        }
        Ok(data)
    }

    /// HTTP has come to the end of the answer.
    fn end(&mut self) -> Result<(), Failure> {
        if let Some(failure) = client::take_failure(&mut self.trailers) {
            return self.failed(failure);
        }
        if self.left.is_some_and(|left| left > 0) {
            return self.failed(Failure::Fault(PeerFault::Malformed));
        }
        self.complete();
        Ok(())
    }

    fn complete(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        if !self.exchange.is_finished() {
            // Nobody wants the rest of the request.
            return self.exchange.give_up(Failure::Cancelled);
        }
        if let Stage::Body(_, wire, client) = stage {
            Arrived::finished(wire, &client);
        }
    }
}

impl Drop for Fast {
    fn drop(&mut self) {
        if !matches!(self.stage, Stage::Over) {
            self.exchange.give_up(Failure::Cancelled);
        }
    }
}
