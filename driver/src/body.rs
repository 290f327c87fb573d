//! The two ends of a stream that the event loop does not hold: where its data comes out, and where
//! data goes in, one piece at a time, so that the reader's pace is the writer's.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use controlplane_core::{Failure, Kind, ResponseHead, StreamClose, StreamEnd, StreamId};
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender};
use futures_util::StreamExt;
use thiserror::Error;

use crate::pieces::Taken;

/// The other side of the stream is gone.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the other side of the stream is gone")]
pub struct Broken;

/// What an end tells the event loop.
#[derive(Debug)]
pub(crate) enum Event {
    Cancel,
    Consumed(usize),
    Data(Kind, Bytes),
    Ended(StreamEnd),
    Head(ResponseHead),
}

/// What the event loop hands to an end.
#[derive(Debug)]
pub(crate) enum Piece {
    Closed(StreamClose, Option<Failure>),
    Data(Kind, Bytes),
    End,
    Failed(Failure),
    Head(ResponseHead),
}

/// It needs no bound of its own: one piece per stream is under way.
pub(crate) type Events = UnboundedSender<(StreamId, Event)>;

/// Where the data of a stream comes out.
#[derive(Debug)]
pub(crate) struct Outflow {
    pub(crate) id: StreamId,
    pub(crate) pieces: Taken,
    pub(crate) events: Events,
}

impl Outflow {
    /// The next piece; `None` if the event loop let go of the stream without a word.
    pub(crate) async fn next(&mut self) -> Option<Piece> {
        let piece = self.pieces.next().await?;
        if let Piece::Data(_, data) = &piece {
            let event = Event::Consumed(data.len());
            let _ = self.events.unbounded_send((self.id, event));
        }
        Some(piece)
    }
}

impl Drop for Outflow {
    fn drop(&mut self) {
        for piece in self.pieces.close() {
            if let Piece::Data(_, data) = piece {
                let _ = self
                    .events
                    .unbounded_send((self.id, Event::Consumed(data.len())));
            }
        }
    }
}

/// Where the data of a stream goes in.
#[derive(Debug)]
pub(crate) struct Inflow {
    pub(crate) id: StreamId,
    pub(crate) events: Events,
    /// One for each piece that was taken.
    pub(crate) taken: UnboundedReceiver<()>,
    /// A piece was offered and not yet taken.
    pub(crate) owed: bool,
    pub(crate) over: bool,
}

impl Inflow {
    pub(crate) fn tell(&self, event: Event) {
        let _ = self.events.unbounded_send((self.id, event));
    }

    /// Offers a piece and waits until it was taken.
    ///
    /// A call that was dropped while it waited has offered its piece all the same; the next one
    /// waits for both.
    pub(crate) async fn write(&mut self, kind: Kind, data: Bytes) -> Result<(), Broken> {
        self.settle().await?;
        self.offer(kind, data);
        self.settle().await
    }

    async fn settle(&mut self) -> Result<(), Broken> {
        poll_fn(|cx| self.poll_settled(cx)).await
    }

    /// Offers a piece, before which the last must have settled.
    pub(crate) fn offer(&mut self, kind: Kind, data: Bytes) {
        self.owed = true;
        self.tell(Event::Data(kind, data));
    }

    /// Ready once the piece that was offered last was taken.
    pub(crate) fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if !self.owed {
            return Poll::Ready(Ok(()));
        }
        if ready!(self.taken.poll_next_unpin(cx)).is_none() {
            // The other side has ended already: it is told of no end, and may have last words.
            self.over = true;
            return Poll::Ready(Err(Broken));
        }
        self.owed = false;
        Poll::Ready(Ok(()))
    }

    pub(crate) fn end(&mut self, end: StreamEnd) {
        if !std::mem::replace(&mut self.over, true) {
            self.tell(Event::Ended(end));
        }
    }
}
