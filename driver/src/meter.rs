//! Counts the bytes below the WebSocket layer, so that a peer in the middle of a long message is
//! known to live, and a long write to make progress.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{AsyncRead, AsyncWrite};

use crate::runtime::{Runtime, timeout};

/// Counters of one connection, shared with the [`Metered`] bytes.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    read: AtomicU64,
    written: AtomicU64,
}

impl Meter {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts what is read from and written to `io`.
    pub fn wrap<T>(&self, io: T) -> Metered<T> {
        Metered {
            io,
            meter: self.clone(),
        }
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    pub(crate) fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }
}

/// What `future` returns, or `None` once nothing has been read or written for `patience()`, which
/// is asked anew from time to time.
pub(crate) async fn while_moving<R: Runtime, F: Future>(
    runtime: &R,
    meter: &Meter,
    patience: impl Fn() -> Duration,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut seen = (meter.read(), meter.written(), patience());
    let mut still = Duration::ZERO;
    loop {
        let step = (seen.2 / 4).clamp(Duration::from_millis(1), Duration::from_secs(1));
        if let Some(output) = timeout(runtime, step, future.as_mut()).await {
            return Some(output);
        }
        let now = (meter.read(), meter.written(), patience());
        still = still.saturating_add(step);
        if std::mem::replace(&mut seen, now) != now {
            still = Duration::ZERO;
        } else if still >= now.2 {
            return None;
        }
    }
}

/// A byte stream whose traffic is counted.
#[derive(Debug)]
pub struct Metered<T> {
    io: T,
    meter: Meter,
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_read(cx, buffer);
        if let Poll::Ready(Ok(len)) = outcome {
            self.meter.0.read.fetch_add(len as u64, Ordering::Relaxed);
        }
        outcome
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, data);
        if let Poll::Ready(Ok(len)) = outcome {
            self.meter
                .0
                .written
                .fetch_add(len as u64, Ordering::Relaxed);
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
