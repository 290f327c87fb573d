//! The way of an answer from a handler to hyper, one piece at a time: hyper takes the next when it
//! has room, and that is when the handler goes on.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use controlplane_core::ResponseHead;
use futures_channel::{mpsc, oneshot};
use futures_util::{FutureExt, SinkExt, StreamExt};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;

use super::{
    refusal,
    running::Running,
    unread::{Discarding, Unsent},
};
use crate::{body::Broken, handler::Headers};

pub(super) const NO_ANSWER: &str = "the request's handler ended without a complete answer";

/// What a handler says first.
#[derive(Debug)]
pub(super) enum Outcome {
    Answer(ResponseHead, Pieces),
    Failed(String),
    /// Protocols are switched; these are the headers of the 101.
    Switch(Headers),
}

/// Where a handler says it. Dropped, it says nothing.
#[derive(Debug)]
pub(crate) struct Reply(oneshot::Sender<Outcome>);

impl Reply {
    pub(super) fn new() -> (Self, oneshot::Receiver<Outcome>) {
        let (sender, outcome) = oneshot::channel();
        (Self(sender), outcome)
    }

    pub(crate) fn answer(self, head: ResponseHead) -> Writer {
        // The channel has room for the one piece of its sender.
        let (pieces, taken) = mpsc::channel(0);
        let (end, ended) = oneshot::channel();
        let _ = self.0.send(Outcome::Answer(head, Pieces { taken, ended }));
        Writer { pieces, end }
    }

    pub(crate) fn fail(self, text: String) {
        let _ = self.0.send(Outcome::Failed(text));
    }

    pub(crate) fn switch(self, headers: Headers) {
        let _ = self.0.send(Outcome::Switch(headers));
    }
}

/// Where the body of an answer goes in. Dropped, the answer breaks off.
#[derive(Debug)]
pub(crate) struct Writer {
    pieces: mpsc::Sender<Bytes>,
    end: oneshot::Sender<Result<Headers, String>>,
}

impl Writer {
    /// Offers a piece and waits until it was taken. A call that was dropped while it waited has
    /// offered its piece all the same.
    pub(crate) async fn write(&mut self, data: Bytes) -> Result<(), Broken> {
        if data.is_empty() {
            return Ok(());
        }
        self.pieces.send(data).await.map_err(|_| Broken)
    }

    /// The body is complete.
    pub(crate) fn finish(self, trailers: Headers) {
        let _ = self.end.send(Ok(trailers));
    }

    /// It will not be.
    pub(crate) fn break_off(self, text: String) {
        let _ = self.end.send(Err(text));
    }
}

/// Where it comes out.
#[derive(Debug)]
pub(super) struct Pieces {
    taken: mpsc::Receiver<Bytes>,
    /// The trailers, behind the last piece, or why there are none.
    ended: oneshot::Receiver<Result<Headers, String>>,
}

/// The body of an answer breaks off.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(super) enum AnswerError {
    #[error("{0}")]
    Broken(String),
    #[error("the answer is longer than its Content-Length")]
    Long,
    #[error("the answer is shorter than its Content-Length")]
    Short,
}

/// The body of a response.
pub(super) enum ResponseBody {
    /// Without one.
    Empty,
    Pour(Pour),
    Text(Option<Bytes>),
}

/// A body that a handler still makes.
pub(super) struct Pour {
    pieces: Pieces,
    framing: Framing,
    trailers: fn(Headers) -> HeaderMap,
    running: Option<Running>,
    unread: Option<(Discarding, Unsent)>,
    /// How it breaks off, once hyper had a turn to send what came before.
    broken: Option<AnswerError>,
}

/// How the end of a body shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Framing {
    /// What is missing of the declared length: hyper would cut what is longer, and call it whole.
    pub(super) left: Option<u64>,
    /// It is in chunks, behind which a trailer can tell of a failure.
    pub(super) told: bool,
}

impl Pour {
    /// A body whose handler is `running`, with what becomes of the request's.
    pub(super) fn new(
        pieces: Pieces,
        framing: Framing,
        trailers: fn(Headers) -> HeaderMap,
        running: Running,
        unread: (Discarding, Unsent),
    ) -> Self {
        let mut pour = Self {
            pieces,
            framing,
            trailers,
            running: Some(running),
            unread: Some(unread),
            broken: None,
        };
        if framing.left == Some(0) {
            pour.complete();
        }
        pour
    }

    /// hyper may drop it now without having seen its end.
    fn complete(&mut self) {
        if let Some(running) = self.running.take() {
            running.let_go();
        }
    }

    fn count(&mut self, data: &Bytes) -> Result<(), AnswerError> {
        let Some(left) = &mut self.framing.left else {
            return Ok(());
        };
        let len = data.len() as u64;
        *left = left.checked_sub(len).ok_or(AnswerError::Long)?;
        if *left == 0 {
            self.complete();
        }
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Some(error) = self.broken.clone() {
            return Poll::Ready(Some(Err(error)));
        }
        let error = match ready!(self.poll_next(cx)) {
            Ok(frame) => return Poll::Ready(frame.map(Ok)),
            Err(error) => error,
        };
        tracing::debug!(%error, "an answer broke off");
        if self.framing.told {
            let told = refusal::trailer(&error.to_string());
            return Poll::Ready(Some(Ok(Frame::trailers(told))));
        }
        // At an error hyper would forget what it has not sent, be it the head.
        self.broken = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, AnswerError>> {
        if let Some(data) = ready!(self.pieces.taken.poll_next_unpin(cx)) {
            return Poll::Ready(self.count(&data).map(|()| Some(Frame::data(data))));
        }
        let trailers = match ready!(self.pieces.ended.poll_unpin(cx)) {
            Ok(Ok(trailers)) => trailers,
            Ok(Err(text)) => return Poll::Ready(Err(AnswerError::Broken(text))),
            Err(_) => return Poll::Ready(Err(AnswerError::Broken(NO_ANSWER.into()))),
        };
        if self.framing.left.is_some_and(|left| left > 0) {
            return Poll::Ready(Err(AnswerError::Short));
        }
        self.complete();
        let trailers = (self.trailers)(trailers);
        let frame = (!trailers.is_empty()).then(|| Frame::trailers(trailers));
        Poll::Ready(Ok(frame))
    }
}

/// hyper has all of it, or there is nobody to have it.
impl Drop for Pour {
    fn drop(&mut self) {
        if let Some((discarding, unsent)) = self.unread.take() {
            unsent.put(discarding);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Pour(pour) => pour.poll(cx),
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Text(None) => true,
            Self::Text(Some(_)) => false,
            // Behind the last piece the end follows at once.
            Self::Pour(pour) => pour.framing.told && pour.framing.left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            // A head may declare a length for a body that there is none of.
            Self::Empty | Self::Pour(_) | Self::Text(None) => SizeHint::default(),
            Self::Text(Some(text)) => SizeHint::with_exact(text.len() as u64),
        }
    }
}
