//! Connections that wait for their next request: few, not for long, and only to the agent that
//! they were opened to.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use controlplane_core::Joined;

use super::Wire;

/// How long an unused connection is kept.
pub(super) const KEEP: Duration = Duration::from_secs(30);
/// Unused connections kept.
pub(super) const IDLE: usize = 16;

#[derive(Default)]
pub(super) struct Pool(Mutex<State>);

#[derive(Default)]
struct State {
    /// The one used longest ago first.
    idle: VecDeque<(Instant, Wire)>,
    closed: bool,
    /// Somebody calls [`Pool::sweep`] from time to time.
    swept: bool,
}

impl State {
    /// Drops what was unused for too long, or is closed.
    fn clear(&mut self, now: Instant) {
        self.idle.retain(|(since, wire)| {
            now.saturating_duration_since(*since) < KEEP && !wire.sender.is_closed()
        });
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to this very agent, in this very session of it.
    pub(super) fn get(&self, now: Instant, joined: &Arc<Joined>) -> Option<Wire> {
        let mut state = self.lock();
        state.clear(now);
        state
            .idle
            .retain(|(_, wire)| Arc::ptr_eq(&wire.joined, joined));
        // One that is not ready still sends the end of a body.
        let ready = state
            .idle
            .iter()
            .rposition(|(_, wire)| wire.sender.is_ready())?;
        state.idle.remove(ready).map(|(_, wire)| wire)
    }

    /// Keeps a connection; true where somebody has to begin to call [`Self::sweep`].
    pub(super) fn put(&self, now: Instant, wire: Wire) -> bool {
        let mut state = self.lock();
        if state.closed || wire.sender.is_closed() {
            return false;
        }
        if state.idle.len() >= IDLE {
            state.idle.pop_front();
        }
        state.idle.push_back((now, wire));
        !std::mem::replace(&mut state.swept, true)
    }

    /// Closes what was unused for too long, and returns how long the next may be; nothing where
    /// none is left, and nobody needs to call until [`Self::put`] says so again.
    pub(super) fn sweep(&self, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        state.clear(now);
        let next = state.idle.front().map(|(since, _)| *since + KEEP);
        state.swept = next.is_some();
        next.map(|at| at.saturating_duration_since(now))
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.idle.clear();
    }

    /// How many there are that could be used.
    pub(super) fn len(&self) -> usize {
        let state = self.lock();
        let open = state.idle.iter().filter(|(_, w)| !w.sender.is_closed());
        open.count()
    }
}
