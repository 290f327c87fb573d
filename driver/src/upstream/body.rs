//! The body of an upstream request: what the tunnel's client sends, held to the length it declared,
//! so that a body of another length never passes for the one that was meant.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::Frame;
use thiserror::Error;

use super::progress::Progress;
use crate::handler::Body;

/// The body of an upstream request.
pub(super) enum UpstreamBody {
    Empty,
    Flow(Flow),
}

/// A body that is still on its way.
pub(super) struct Flow {
    /// Taken already, to see whether there is a body at all.
    first: Option<Bytes>,
    body: Body,
    progress: Progress,
    /// What is missing of the declared length.
    left: Option<u64>,
}

/// Why a body breaks off.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(super) enum BodyError {
    #[error("the client broke off the request")]
    Broken,
    #[error("the request's body is longer than its Content-Length")]
    Long,
    #[error("the request's body is shorter than its Content-Length")]
    Short,
}

impl UpstreamBody {
    /// The rest of a body of which `first` was read, if anything.
    pub(super) fn flow(first: Option<Bytes>, body: Body, progress: Progress) -> Self {
        Self::Flow(Flow {
            first,
            body,
            progress,
            left: None,
        })
    }

    /// Holds the body to the length that the headers declare.
    pub(super) fn declared(&mut self, headers: &HeaderMap) -> Result<(), BodyError> {
        let length = headers.get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        match self {
            Self::Empty if length.is_some_and(|length: u64| length > 0) => Err(BodyError::Short),
            Self::Empty => Ok(()),
            Self::Flow(flow) => {
                flow.left = length;
                Ok(())
            }
        }
    }
}

impl Flow {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let next = pin!(self.body.next()).poll(cx);
        if next.is_pending() {
            self.progress.waiting();
        }
        next.map(|piece| piece.map(|data| data.map_err(|_| BodyError::Broken)))
    }

    fn count(&mut self, data: &Bytes) -> Result<(), BodyError> {
        if let Some(left) = &mut self.left {
            let len = data.len() as u64;
            *left = left.checked_sub(len).ok_or(BodyError::Long)?;
        }
        Ok(())
    }
}

impl http_body::Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self::Flow(flow) = self.get_mut() else {
            return Poll::Ready(None);
        };
        Poll::Ready(match ready!(flow.poll_piece(cx)) {
            None => {
                flow.progress.sent();
                let short = flow.left.is_some_and(|left| left > 0);
                short.then_some(Err(BodyError::Short))
            }
            Some(Err(error)) => Some(Err(error)),
            Some(Ok(data)) => {
                flow.progress.writing();
                Some(flow.count(&data).map(|()| Frame::data(data)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }
}
