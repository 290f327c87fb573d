//! The queue from the event loop to the reader of one stream: unlike a channel's, its sender can
//! empty it, so that what a reader that does not read holds can be taken back.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use controlplane_core::Failure;

use crate::body::Piece;

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    waker: Option<Waker>,
    /// Nothing more is taken, or comes.
    over: bool,
}

type Shared = Arc<Mutex<Queue>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Queue> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A queue's two ends.
pub(crate) fn pieces() -> (Pieces, Taken) {
    let shared = Shared::default();
    (Pieces(shared.clone()), Taken(shared))
}

/// Where pieces go in. What they may hold is bounded by the core's limits.
#[derive(Debug)]
pub(crate) struct Pieces(Shared);

impl Pieces {
    /// Adds a piece, or gives it back where nobody reads any more.
    pub(crate) fn send(&self, piece: Piece) -> Result<(), Piece> {
        let mut queue = lock(&self.0);
        if queue.over {
            return Err(piece);
        }
        queue.pieces.push_back(piece);
        wake(queue);
        Ok(())
    }

    /// Drops what nobody has taken yet.
    pub(crate) fn discard(&self) {
        let dropped = std::mem::take(&mut lock(&self.0).pieces);
        drop(dropped);
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.over = true;
        wake(queue);
    }
}

/// The reader is woken without the lock, which it takes at once.
fn wake(mut queue: MutexGuard<'_, Queue>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Where pieces come out.
#[derive(Debug)]
pub(crate) struct Taken(Shared);

impl Taken {
    /// The next piece; `None` after the last.
    pub(crate) async fn next(&mut self) -> Option<Piece> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        let mut queue = lock(&self.0);
        match queue.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(piece)),
            None if queue.over => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Why the stream failed, where that is among what was not taken yet.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match lock(&self.0).pieces.back() {
            Some(Piece::Failed(failure)) => Some(failure.clone()),
            _ => None,
        }
    }

    /// Whether nothing comes behind what was not taken yet.
    pub(crate) fn has_ended(&self) -> bool {
        let queue = lock(&self.0);
        let last = queue.pieces.back();
        queue.over || matches!(last, Some(Piece::End | Piece::Failed(_)))
    }

    /// Takes no more, and returns what was not taken.
    pub(crate) fn close(&mut self) -> VecDeque<Piece> {
        let mut queue = lock(&self.0);
        queue.over = true;
        std::mem::take(&mut queue.pieces)
    }
}

#[cfg(test)]
mod tests {
    use controlplane_core::Kind;
    use futures_util::FutureExt;

    use super::*;

    fn data(byte: u8) -> Piece {
        Piece::Data(Kind::Bytes, vec![byte].into())
    }

    fn next(taken: &mut Taken) -> Option<Option<u8>> {
        let piece = taken.next().now_or_never()?;
        Some(piece.map(|piece| match piece {
            Piece::Data(_, data) => data[0],
            _ => 0,
        }))
    }

    #[test]
    fn pieces_come_out_in_order_up_to_the_last() {
        let (pieces, mut taken) = pieces();
        assert_eq!(next(&mut taken), None);
        pieces.send(data(1)).unwrap();
        pieces.send(data(2)).unwrap();
        drop(pieces);
        assert_eq!(next(&mut taken), Some(Some(1)));
        assert_eq!(next(&mut taken), Some(Some(2)));
        assert_eq!(next(&mut taken), Some(None));
    }

    #[test]
    fn what_was_not_taken_can_be_dropped_by_either_end() {
        let (pieces, mut taken) = pieces();
        pieces.send(data(1)).unwrap();
        pieces.discard();
        pieces.send(data(2)).unwrap();
        assert_eq!(next(&mut taken), Some(Some(2)));
        pieces.send(data(3)).unwrap();
        assert_eq!(taken.close().len(), 1);
        assert!(pieces.send(data(4)).is_err());
    }
}
