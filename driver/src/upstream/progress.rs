//! Tells a slow step from a dead one: where the body of a request stands, and how long nothing may
//! move while it stands there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use super::UpstreamLimits;

const WRITING: u8 = 0;
const WAITING: u8 = 1;
const SENT: u8 = 2;

/// Where the body of a request stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<AtomicU8>);

impl Progress {
    /// The tunnel's client has to send more first.
    pub(super) fn waiting(&self) {
        self.0.store(WAITING, Ordering::Relaxed);
    }

    /// There is something to write.
    pub(super) fn writing(&self) {
        self.0.store(WRITING, Ordering::Relaxed);
    }

    /// All of it was handed over; the answer is waited for.
    pub(super) fn sent(&self) {
        self.0.store(SENT, Ordering::Relaxed);
    }

    /// How long nothing may move.
    pub(super) fn patience(&self, limits: &UpstreamLimits) -> Duration {
        match self.0.load(Ordering::Relaxed) {
            WRITING => limits.write,
            SENT => limits.head,
            _ => Duration::MAX,
        }
    }
}
