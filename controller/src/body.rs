//! Bodies of responses: none, a text of the controller, or what the agent sends as it comes.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use hyper::body::{Body, Frame, SizeHint};
use thiserror::Error;

use crate::pulse::Busy;

/// Ends a connection in the middle of a response, so that the client sees that it is not whole.
#[derive(Clone, Copy, Debug, Error)]
#[error("the response broke off")]
pub(crate) struct BrokenOff;

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, BrokenOff>> + Send>>;

/// The body of a response, and the mark of its connection as busy for as long as it lives.
pub(crate) struct ResponseBody {
    content: Content,
    busy: Option<Busy>,
}

enum Content {
    /// All of it, taken when it is sent.
    Full(Option<Bytes>),
    Pieces(Pieces),
}

impl ResponseBody {
    pub(crate) fn empty() -> Self {
        Self::full(Bytes::new())
    }

    pub(crate) fn full(content: Bytes) -> Self {
        Self {
            content: Content::Full(Some(content).filter(|content| !content.is_empty())),
            busy: None,
        }
    }

    pub(crate) fn pieces(
        pieces: impl Stream<Item = Result<Bytes, BrokenOff>> + Send + 'static,
    ) -> Self {
        Self {
            content: Content::Pieces(Box::pin(pieces)),
            busy: None,
        }
    }

    pub(crate) fn keep_busy(mut self, busy: Busy) -> Self {
        self.busy = Some(busy);
        self
    }

    /// How many bytes it has, where that is known.
    pub(crate) fn len(&self) -> u64 {
        self.size_hint().exact().unwrap_or(0)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let piece = match &mut self.content {
            Content::Full(content) => Poll::Ready(content.take().map(Ok)),
            Content::Pieces(pieces) => pieces.poll_next_unpin(cx),
        };
        piece.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(content) => {
                SizeHint::with_exact(content.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Pieces(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseBody")
    }
}
