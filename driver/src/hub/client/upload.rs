//! A request's body on its way to hyper, at its pace, and held to its length: one that breaks off
//! breaks the connection off, so that no part of it passes for the whole.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use controlplane_core::Failure;
use futures_channel::mpsc;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;

use super::Exchange;
use crate::body::Broken;

/// Where the body of a request goes in.
pub(in crate::hub) struct Sink(mpsc::Sender<Bytes>);

/// Where it comes out.
pub(in crate::hub) enum Upload {
    Empty,
    Flow(Flow),
}

pub(in crate::hub) struct Flow {
    pieces: mpsc::Receiver<Bytes>,
    /// What is missing of the declared length.
    left: Option<u64>,
    exchange: Exchange,
}

/// Why a body breaks off.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(in crate::hub) enum BodyError {
    #[error("the client broke off the request")]
    Broken,
    #[error("the request's body is longer than its Content-Length")]
    Long,
    #[error("the request's body is shorter than its Content-Length")]
    Short,
}

/// The two ends of the body of a request with these headers.
pub(super) fn upload(exchange: &Exchange, headers: &HeaderMap, has_body: bool) -> (Sink, Upload) {
    let (sender, pieces) = mpsc::channel(0);
    if !has_body {
        return (Sink(sender), Upload::Empty);
    }
    let length = headers.get(CONTENT_LENGTH);
    let flow = Flow {
        pieces,
        left: length.and_then(|value| value.to_str().ok()?.parse().ok()),
        exchange: exchange.clone(),
    };
    (Sink(sender), Upload::Flow(flow))
}

impl Sink {
    /// Of a request that is not sent.
    pub(super) fn closed() -> Self {
        Self(mpsc::channel(0).0)
    }

    /// Returns when the piece was taken.
    pub(in crate::hub) async fn write(&mut self, data: Bytes) -> Result<(), Broken> {
        if data.is_empty() {
            return Ok(());
        }
        self.0.send(data).await.map_err(|_| Broken)
    }
}

impl Flow {
    fn end(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.exchange.is_finished() {
            if self.exchange.let_go() {
                // The connection ends with the answer.
                return Poll::Pending;
            }
            return self.fail(BodyError::Broken);
        }
        if self.left.is_some_and(|left| left > 0) {
            return self.fail(BodyError::Short);
        }
        let trailers = self.exchange.take_trailers();
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn fail(&self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.exchange.give_up(match error {
            BodyError::Broken => Failure::Cancelled,
            error => Failure::Agent(error.to_string()),
        });
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self::Flow(flow) = self.get_mut() else {
            return Poll::Ready(None);
        };
        if flow.exchange.hung_up() {
            // Who waits for room learns of it; the answer may still be read.
            flow.pieces.close();
            return Poll::Pending;
        }
        let Some(data) = ready!(flow.pieces.poll_next_unpin(cx)) else {
            return flow.end();
        };
        if let Some(left) = &mut flow.left {
            match left.checked_sub(data.len() as u64) {
                Some(rest) => *left = rest,
                None => return flow.fail(BodyError::Long),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Flow(_) => SizeHint::default(),
        }
    }
}
