//! What its handler does not read of a request: read on and dropped while the answer is under way,
//! so that no uploader is stuck.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::{AbortHandle, abortable};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};

use crate::runtime::Runtime;

/// The body of a request in its handler's hands.
#[derive(Debug)]
pub(crate) struct Upload {
    incoming: Option<Incoming>,
    left: Option<oneshot::Sender<Incoming>>,
}

/// Where a body comes out that its handler has let go of.
#[derive(Debug)]
pub(super) struct Unread(Option<oneshot::Receiver<Incoming>>);

impl Upload {
    pub(super) fn new(incoming: Incoming) -> (Self, Unread) {
        let (left, unread) = oneshot::channel();
        let unread = (!incoming.is_end_stream()).then_some(unread);
        let upload = Self {
            incoming: Some(incoming),
            left: Some(left),
        };
        (upload, Unread(unread))
    }

    /// Whether there is nothing of it, or nothing any more; false where that is not known yet.
    pub(crate) fn is_over(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    /// The next of it; nothing after its end.
    pub(crate) async fn frame(&mut self) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        self.incoming.as_mut()?.frame().await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (Some(incoming), Some(left)) = (self.incoming.take(), self.left.take()) {
            // Where the exchange is over, it ends here.
            let _ = left.send(incoming);
        }
    }
}

impl Unread {
    /// Drops what comes; a client that waits to be asked for it (`Expect`) is not asked before
    /// `answered`.
    pub(super) fn discard<R: Runtime>(
        self,
        runtime: &R,
        answered: Option<oneshot::Receiver<()>>,
    ) -> Discarding {
        let Some(unread) = self.0 else {
            return Discarding(None);
        };
        let (task, handle) = abortable(async move {
            let Ok(mut incoming) = unread.await else {
                return;
            };
            if let Some(answered) = answered {
                let _ = answered.await;
            }
            while let Some(Ok(_)) = incoming.frame().await {}
        });
        runtime.spawn(async move {
            let _ = task.await;
        });
        Discarding(Some(handle))
    }
}

/// Reads on until it is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Discarding(Option<AbortHandle>);

impl Drop for Discarding {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Of the answer that hyper has in full and has not sent yet. Clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Unsent(Arc<Mutex<Option<Discarding>>>);

impl Unsent {
    pub(super) fn put(&self, discarding: Discarding) {
        if discarding.0.is_some() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(discarding);
        }
    }

    /// All was sent.
    pub(super) fn clear(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
