//! Tells a slow step from a dead one: time counts only while no byte moves and the tunnel's
//! client is not the one who is waited for.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    meter::Meter,
    runtime::{Runtime, timeout},
};

/// Set while the request's body waits for the client.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<AtomicBool>);

impl Waiting {
    pub(super) fn set(&self, waiting: bool) {
        self.0.store(waiting, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What `future` returns, or `None` once nothing has moved for `span`.
pub(super) async fn while_moving<R: Runtime, F: Future>(
    runtime: &R,
    span: Duration,
    meter: &Meter,
    waiting: &Waiting,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut seen = (meter.read(), meter.written());
    loop {
        if let Some(output) = timeout(runtime, span, future.as_mut()).await {
            return Some(output);
        }
        let now = (meter.read(), meter.written());
        if now == seen && !waiting.get() {
            return None;
        }
        seen = now;
    }
}
