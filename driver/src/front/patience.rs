//! The time limit of a head. hyper starts its own as soon as it waits for one, which on a kept
//! connection may rightly take for ever; this one starts with the first byte.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::rt::{Sleep, Timer};

use crate::{
    handler::BoxFuture,
    meter::Meter,
    runtime::{Runtime, sleep},
};

/// hyper's timer for the heads of one connection.
pub(super) struct HeadTimer<R> {
    runtime: R,
    meter: Meter,
    limit: Duration,
}

impl<R> HeadTimer<R> {
    pub(super) const fn new(runtime: R, meter: Meter, limit: Duration) -> Self {
        Self {
            runtime,
            meter,
            limit,
        }
    }
}

impl<R: Runtime> Timer for HeadTimer<R> {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        let (runtime, limit) = (self.runtime.clone(), self.limit);
        Box::pin(Head {
            meter: self.meter.clone(),
            read: self.meter.read(),
            // It begins when it is first polled.
            limit: Mutex::new(Box::pin(async move { sleep(&runtime, limit).await })),
        })
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(self.limit)
    }
}

/// The time limit of one head. hyper polls it whenever it has read what there was.
struct Head {
    meter: Meter,
    /// Had been read before.
    read: u64,
    /// Locked by nobody: a future of the runtime need not be `Sync`, as hyper's has to be.
    limit: Mutex<BoxFuture<'static, ()>>,
}

impl Sleep for Head {}

impl Future for Head {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.meter.read() == self.read {
            return Poll::Pending;
        }
        let limit = self.limit.get_mut();
        limit
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{AsyncReadExt, FutureExt, io::Cursor};

    use super::*;

    #[test]
    fn a_kept_connection_may_be_idle_and_a_begun_head_may_not() {
        let meter = Meter::new();
        let mut io = meter.wrap(Cursor::new("ab"));
        let mut read = || io.read(&mut [0]).now_or_never().unwrap().unwrap();
        read();
        // One that has passed already.
        let mut head = Head {
            meter: meter.clone(),
            read: meter.read(),
            limit: Mutex::new(Box::pin(std::future::ready(()))),
        };
        assert_eq!((&mut head).now_or_never(), None);
        read();
        assert_eq!((&mut head).now_or_never(), Some(()));
    }
}
