//! How long a client's connection may do nothing: while it sends a request head, between two
//! requests, and when it does not take what is written to it; and when its last sign of life was.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::reload::lock;

/// What a connection waits for. Clones observe the same one.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Since when a write waits.
    stalled: Option<Instant>,
    /// When the client was last known to be there.
    heard: Instant,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// A request is being answered.
    Busy,
    /// The head of a request is awaited or has begun.
    Head,
    /// Nothing has come since the last request.
    Idle,
}

/// Longest waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
    pub(crate) write: Duration,
}

/// What took too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Overdue {
    Head,
    Idle,
    Write,
}

impl Pulse {
    /// Of a connection whose first request is awaited.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                phase: Phase::Head,
                since: Instant::now(),
                stalled: None,
                heard: Instant::now(),
            }),
            changed: Notify::new(),
        }))
    }

    /// The first request is awaited from now on.
    pub(crate) fn begins(&self) {
        self.enter(Phase::Head);
    }

    /// A request has come and is answered for as long as the mark lives.
    pub(crate) fn busy(&self) -> Busy {
        self.enter(Phase::Busy);
        Busy(self.clone())
    }

    /// Bytes have come.
    pub(crate) fn received(&self) {
        let mut state = lock(&self.0.state);
        state.heard = Instant::now();
        let idle = state.phase == Phase::Idle;
        drop(state);
        if idle {
            self.enter(Phase::Head);
        }
    }

    /// When the client last showed that it is there.
    pub(crate) fn heard(&self) -> Instant {
        lock(&self.0.state).heard
    }

    /// Whether a write waits.
    pub(crate) fn is_stalled(&self) -> bool {
        lock(&self.0.state).stalled.is_some()
    }

    /// A write made progress, or has to wait.
    pub(crate) fn wrote(&self, progress: bool) {
        let mut state = lock(&self.0.state);
        if progress {
            // It had to wait until the client took something.
            if state.stalled.take().is_some() {
                state.heard = Instant::now();
            }
        } else if state.stalled.is_none() {
            state.stalled = Some(Instant::now());
            self.0.changed.notify_one();
        }
    }

    /// Waits until something takes too long.
    pub(crate) async fn overdue(&self, patience: Patience) -> Overdue {
        loop {
            let changed = self.0.changed.notified();
            let Some((at, what)) = self.deadline(patience) else {
                changed.await;
                continue;
            };
            tokio::select! {
                () = changed => {}
                () = sleep_until(at) => {
                    // A write may have gone on without a word.
                    let still = self.deadline(patience).is_some_and(|(at, _)| at <= Instant::now());
                    if still {
                        return what;
                    }
                }
            }
        }
    }

    fn deadline(&self, patience: Patience) -> Option<(Instant, Overdue)> {
        let state = lock(&self.0.state);
        let phase = match state.phase {
            Phase::Busy => None,
            Phase::Head => Some((state.since + patience.head, Overdue::Head)),
            Phase::Idle => Some((state.since + patience.idle, Overdue::Idle)),
        };
        let write = state
            .stalled
            .map(|at| (at + patience.write, Overdue::Write));
        phase.into_iter().chain(write).min_by_key(|(at, _)| *at)
    }

    fn enter(&self, phase: Phase) {
        let mut state = lock(&self.0.state);
        state.phase = phase;
        state.since = Instant::now();
        self.0.changed.notify_one();
    }
}

/// Marks a connection as busy with a request.
#[derive(Debug)]
pub(crate) struct Busy(Pulse);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.enter(Phase::Idle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(90),
        write: Duration::from_secs(600),
    };

    async fn after(pulse: &Pulse) -> (Overdue, u64) {
        let start = Instant::now();
        let what = pulse.overdue(PATIENCE).await;
        (what, start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_ten_seconds_and_a_kept_connection_ninety() {
        let pulse = Pulse::new();
        assert_eq!(after(&pulse).await, (Overdue::Head, 10));
        drop(pulse.busy());
        assert_eq!(after(&pulse).await, (Overdue::Idle, 90));
        pulse.received();
        assert_eq!(after(&pulse).await, (Overdue::Head, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_shows_that_it_is_there_by_what_it_sends_and_takes() {
        let pulse = Pulse::new();
        let start = Instant::now();
        let after = |pulse: &Pulse| (pulse.heard() - start).as_secs();
        let second = || tokio::time::advance(Duration::from_secs(1));
        second().await;
        pulse.wrote(true);
        assert_eq!(after(&pulse), 0, "what the system takes shows nothing");
        pulse.received();
        assert_eq!(after(&pulse), 1);
        second().await;
        pulse.wrote(false);
        assert_eq!(after(&pulse), 1);
        second().await;
        pulse.wrote(true);
        assert_eq!(after(&pulse), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_request_is_left_alone_but_not_a_stalled_write() {
        let pulse = Pulse::new();
        let busy = pulse.busy();
        pulse.received();
        let waited = tokio::time::timeout(Duration::from_secs(9000), after(&pulse)).await;
        assert!(waited.is_err());
        pulse.wrote(false);
        assert_eq!(after(&pulse).await, (Overdue::Write, 600));
        pulse.wrote(true);
        drop(busy);
        assert_eq!(after(&pulse).await, (Overdue::Idle, 90));
    }
}
