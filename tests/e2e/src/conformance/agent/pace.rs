//! Time that passes only when the tester lets it, and how much an agent in this process has to do:
//! what takes hours on the clock is played in moments, and nothing depends on the machine's speed.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use controlplane_driver::Timer;
use tokio::sync::Notify;

/// The time of one agent, and what it does in it.
#[derive(Debug)]
pub(super) struct Pace {
    state: Mutex<State>,
    changed: Notify,
}

/// What is counted of an agent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Tasks that run or are about to.
    pub(super) busy: usize,
    /// Connections toward the controller or a gateway that were begun.
    pub(super) begun: usize,
    /// Connections to services that were taken, and that the agent has or has failed to get.
    pub(super) connected: usize,
    /// Dials that are over, with a WebSocket or without.
    pub(super) dialled: usize,
    /// Messages that it has put into WebSockets.
    pub(super) said: usize,
    /// WebSockets toward the controller or a gateway that are held.
    pub(super) links: usize,
}

#[derive(Debug)]
struct State {
    now: Instant,
    counts: Counts,
    timers: BTreeMap<u64, (Instant, Waker)>,
    next: u64,
}

impl Pace {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                now: Instant::now(),
                counts: Counts::default(),
                timers: BTreeMap::new(),
                next: 0,
            }),
            changed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Instant {
        self.state().now
    }

    /// When the next timer is due that somebody waits for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.state().timers.values().map(|(at, _)| *at).min()
    }

    /// Makes it `now`; who waits for that is woken.
    pub(super) fn advance(&self, now: Instant) {
        let mut state = self.state();
        state.now = state.now.max(now);
        let due: Vec<u64> = state
            .timers
            .iter()
            .filter(|(_, (at, _))| *at <= now)
            .map(|(id, _)| *id)
            .collect();
        let wakers: Vec<Waker> = due
            .iter()
            .filter_map(|id| Some(state.timers.remove(id)?.1))
            .collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// What an agent waits for that nobody needs any more is over at once.
    pub(super) fn finish(&self) {
        for _ in 0..3 {
            self.advance(self.now() + Duration::from_secs(3600));
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.state().counts
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.state().counts);
        self.changed.notify_waiters();
    }

    /// Returns once that holds; an error where it does not within `patience`.
    pub(super) async fn until(
        &self,
        patience: Duration,
        what: &str,
        holds: impl Fn(Counts) -> bool,
    ) -> Result<(), String> {
        let waiting = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if holds(self.counts()) {
                    return;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(patience, waiting).await;
        waited.map_err(|_| format!("{what}: {:?}", self.counts()))
    }

    /// Returns once the agent has nothing to do until something comes, or time passes.
    pub(super) async fn idle(&self, patience: Duration) -> Result<(), String> {
        let what = "the agent never rests";
        self.until(patience, what, |counts| counts.busy == 0).await
    }
}

/// A timer of such a time.
#[derive(Debug)]
pub(super) struct PacedTimer {
    pace: Arc<Pace>,
    id: u64,
    at: Instant,
}

impl PacedTimer {
    pub(super) fn new(pace: Arc<Pace>, at: Instant) -> Self {
        let mut state = pace.state();
        state.next += 1;
        let id = state.next;
        drop(state);
        Self { pace, id, at }
    }
}

impl Timer for PacedTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.at = at;
        let id = self.id;
        self.pace.state().timers.remove(&id);
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.pace.state();
        if state.now >= self.at {
            state.timers.remove(&self.id);
            return Poll::Ready(());
        }
        let waiting = (self.at, cx.waker().clone());
        state.timers.insert(self.id, waiting);
        Poll::Pending
    }
}

impl Drop for PacedTimer {
    fn drop(&mut self) {
        self.pace.state().timers.remove(&self.id);
    }
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    Waits,
    /// It will be polled.
    Due,
    Runs,
    /// It runs, and will be polled once more.
    RunsAndDue,
    Over,
}

/// Knows whether a task has something to do.
struct Watch {
    pace: Arc<Pace>,
    standing: Mutex<(Standing, Option<Waker>)>,
}

impl Watch {
    fn change(&self, next: impl FnOnce(Standing) -> Standing, outer: Option<&Waker>) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = standing.0;
        standing.0 = next(before);
        if let Some(outer) = outer {
            standing.1 = Some(outer.clone());
        }
        let rests = |s: Standing| matches!(s, Standing::Waits | Standing::Over);
        match (rests(before), rests(standing.0)) {
            (true, false) => self.pace.count(|counts| counts.busy += 1),
            (false, true) => self.pace.count(|counts| counts.busy -= 1),
            _ => {}
        }
    }
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.change(
            |standing| match standing {
                Standing::Waits => Standing::Due,
                Standing::Runs => Standing::RunsAndDue,
                other => other,
            },
            None,
        );
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let outer = standing.1.clone();
        drop(standing);
        if let Some(outer) = outer {
            outer.wake();
        }
    }
}

/// A task of which is known whether it has something to do.
pub(super) struct Watched<F> {
    future: Pin<Box<F>>,
    watch: Arc<Watch>,
}

impl<F> Watched<F> {
    pub(super) fn new(pace: Arc<Pace>, future: F) -> Self {
        let watch = Arc::new(Watch {
            pace,
            standing: Mutex::new((Standing::Waits, None)),
        });
        watch.change(|_| Standing::Due, None);
        Self {
            future: Box::pin(future),
            watch,
        }
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.change(|_| Standing::Runs, Some(cx.waker()));
        let waker = Waker::from(self.watch.clone());
        let outcome = self.future.as_mut().poll(&mut Context::from_waker(&waker));
        let over = outcome.is_ready();
        self.watch.change(
            |standing| match standing {
                _ if over => Standing::Over,
                Standing::RunsAndDue => Standing::Due,
                _ => Standing::Waits,
            },
            None,
        );
        outcome
    }
}

impl<F> Drop for Watched<F> {
    fn drop(&mut self) {
        self.watch.change(|_| Standing::Over, None);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "in a test a panic is the message")]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn time_passes_when_it_is_told_to_and_wakes_who_waits() {
        let pace = Pace::new();
        let start = pace.now();
        let hour = start + Duration::from_secs(3600);
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let mut timer = Box::pin(PacedTimer::new(pace.clone(), hour));
        tokio::spawn(Watched::new(pace.clone(), async move {
            std::future::poll_fn(|cx| timer.as_mut().poll(cx)).await;
            told.send(()).unwrap();
        }));
        pace.idle(PATIENCE).await.unwrap();
        assert_eq!(pace.due(), Some(hour));
        pace.advance(hour - Duration::from_millis(1));
        pace.idle(PATIENCE).await.unwrap();
        assert!(heard.try_recv().is_err());
        pace.advance(hour);
        pace.idle(PATIENCE).await.unwrap();
        assert!(heard.try_recv().is_ok());
        assert_eq!((pace.due(), pace.counts().busy), (None, 0));
    }

    #[tokio::test]
    async fn a_task_that_has_something_to_do_is_busy() {
        let pace = Pace::new();
        let (go, mut going) = tokio::sync::mpsc::unbounded_channel::<()>();
        let task = tokio::spawn(Watched::new(pace.clone(), async move {
            while going.recv().await.is_some() {}
            std::future::pending::<()>().await;
        }));
        pace.idle(PATIENCE).await.unwrap();
        go.send(()).unwrap();
        // It counts from the moment in which it is woken.
        assert_eq!(pace.counts().busy, 1);
        pace.idle(PATIENCE).await.unwrap();
        task.abort();
        let _ = task.await;
        assert_eq!(pace.counts().busy, 0);
    }
}
