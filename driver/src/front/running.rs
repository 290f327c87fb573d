//! The task of a handler, which ends with the exchange that it answers.

use std::panic::AssertUnwindSafe;

use futures_channel::oneshot;
use futures_util::{
    FutureExt,
    future::{AbortHandle, abortable},
};

use crate::{handler::BoxFuture, runtime::Runtime};

/// A handler at work. Dropped, its future is dropped at once.
#[derive(Debug)]
pub(super) struct Running {
    task: Option<AbortHandle>,
    /// Gone when the task is.
    ended: oneshot::Receiver<()>,
}

impl Running {
    pub(super) fn start<R: Runtime>(runtime: &R, handler: BoxFuture<'static, ()>) -> Self {
        // A handler that panics has dropped its responder, which tells the client.
        let (task, handle) = abortable(AssertUnwindSafe(handler).catch_unwind());
        let (over, ended) = oneshot::channel::<()>();
        runtime.spawn(async move {
            if let Ok(Err(_)) = task.await {
                tracing::error!("the handler of a request panicked");
            }
            drop(over);
        });
        Self {
            task: Some(handle),
            ended,
        }
    }

    /// The answer is complete: what the handler still does is its own affair, such as keeping its
    /// connection for the next request.
    pub(super) fn let_go(mut self) {
        self.task = None;
    }

    /// Waits for the handler to end.
    pub(super) async fn ended(mut self) {
        let _ = (&mut self.ended).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
