//! Tells a quiet WebSocket from a dead one, while either direction may have to wait: for room in
//! the tunnel, or for the Kubernetes API to take more.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use super::UpstreamLimits;
use crate::{
    meter::Meter,
    runtime::{Runtime, sleep},
};

/// What each direction waits for.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    held: AtomicBool,
    blocked: AtomicBool,
    /// Messages sent to the API.
    sent: AtomicU64,
    /// So many of them it had read, by its latest pong.
    taken: AtomicU64,
}

/// A look at a stream.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Look {
    /// Bytes read.
    read: u64,
    /// Bytes written.
    written: u64,
    /// The API is not read, because the tunnel has no room for what it sent.
    held: bool,
    /// The API takes no more for now.
    blocked: bool,
    /// It has not said that it read all that was sent.
    owes: bool,
}

/// For how long there has been no sign of life.
#[derive(Debug, Default)]
struct Watch {
    seen: Look,
    still: Duration,
}

impl Pulse {
    /// Waits for room in the tunnel.
    pub(super) async fn held<F: Future>(&self, future: F) -> F::Output {
        during(&self.held, future).await
    }

    /// Waits for the API to take what was written.
    pub(super) async fn blocked<F: Future>(&self, future: F) -> F::Output {
        during(&self.blocked, future).await
    }

    /// Whether the API is not read.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// A message goes out.
    pub(super) fn sends(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// What a ping carries, so that its pong tells how far the API has read.
    pub(super) fn ping(&self) -> [u8; 8] {
        self.sent.load(Ordering::Relaxed).to_be_bytes()
    }

    /// A pong came.
    pub(super) fn pong(&self, payload: &[u8]) {
        if let Ok(taken) = payload.try_into() {
            self.taken
                .store(u64::from_be_bytes(taken), Ordering::Relaxed);
        }
    }

    /// Returns why the API counts as dead, once it does.
    pub(super) async fn lost<R: Runtime>(
        &self,
        runtime: &R,
        meter: &Meter,
        limits: &UpstreamLimits,
    ) -> String {
        let step = limits.silence.min(limits.stall) / 4;
        let step = step.clamp(Duration::from_millis(1), Duration::from_secs(1));
        let mut watch = Watch::default();
        loop {
            sleep(runtime, step).await;
            let look = Look {
                read: meter.read(),
                written: meter.written(),
                held: self.is_held(),
                blocked: self.blocked.load(Ordering::Relaxed),
                owes: self.sent.load(Ordering::Relaxed) != self.taken.load(Ordering::Relaxed),
            };
            if let Some(why) = watch.look(look, step, limits) {
                return why;
            }
        }
    }
}

async fn during<F: Future>(flag: &AtomicBool, future: F) -> F::Output {
    flag.store(true, Ordering::Relaxed);
    let output = future.await;
    flag.store(false, Ordering::Relaxed);
    output
}

impl Watch {
    /// Why the API counts as dead when it looks like `now`, `span` after the last look.
    ///
    /// A stream that is held is not read: then nothing can be seen of the API's answers to pings,
    /// and nothing is held against it. Bytes that it takes count as life only where it took none
    /// before, because then they wait no longer in a buffer of this system: that its answers to
    /// pings are late behind them does not matter.
    fn look(&mut self, now: Look, span: Duration, limits: &UpstreamLimits) -> Option<String> {
        let last = std::mem::replace(&mut self.seen, now);
        let took = last.blocked && now.written != last.written;
        if now.held || now.read != last.read || took || now.blocked != last.blocked {
            self.still = Duration::ZERO;
            return None;
        }
        self.still = self.still.saturating_add(span);
        let (limit, what) = match now.blocked || now.owes {
            true => (limits.stall, "took nothing of what was written"),
            false => (limits.silence, "did not answer pings"),
        };
        (self.still >= limit)
            .then(|| format!("the Kubernetes API {what} for {} s", limit.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks every second, at `look` after so many seconds, and returns when the API counted as
    /// dead within an hour, and why.
    fn dead(look: impl Fn(u64) -> Look) -> Option<(u64, String)> {
        let limits = UpstreamLimits::default();
        let mut watch = Watch::default();
        (1..3600).find_map(|at| Some((at, watch.look(look(at), SECOND, &limits)?)))
    }

    #[test]
    fn silence_ends_a_stream() {
        let quiet = |at: u64| Look {
            // Pings that fill nothing but this system's buffer.
            written: at / 20 * 6,
            ..Look::default()
        };
        let text = "the Kubernetes API did not answer pings for 45 s";
        assert_eq!(dead(quiet), Some((45, text.into())));
        let after = |at: u64| Look {
            read: at.min(100),
            ..Look::default()
        };
        assert_eq!(dead(after).unwrap().0, 145);
    }

    #[test]
    fn answered_pings_keep_a_stream() {
        let answering = |at: u64| Look {
            read: at / 20 * 2,
            ..Look::default()
        };
        assert_eq!(dead(answering), None);
    }

    #[test]
    fn a_stream_that_is_not_read_is_not_silent() {
        let held = |at: u64| Look {
            held: at >= 10,
            ..Look::default()
        };
        assert_eq!(dead(held), None);
        // Nor blocked: the API may be waiting to be read first.
        let both = |at: u64| Look {
            blocked: true,
            ..held(at)
        };
        assert_eq!(dead(both), None);
        // Once it is read again it has the whole time.
        let over = |at: u64| Look {
            held: (40..1000).contains(&at),
            ..Look::default()
        };
        assert_eq!(dead(over).unwrap().0, 999 + 45);
    }

    #[test]
    fn an_api_that_takes_nothing_ends_a_stream() {
        let stuck = |at: u64| Look {
            written: at.min(5) << 20,
            blocked: at >= 5,
            ..Look::default()
        };
        let text = "the Kubernetes API took nothing of what was written for 300 s";
        assert_eq!(dead(stuck), Some((305, text.into())));
        // What it says meanwhile is life.
        let talking = |at: u64| Look {
            read: at,
            ..stuck(at)
        };
        assert_eq!(dead(talking), None);
    }

    #[test]
    fn a_process_that_reads_no_input_keeps_the_api_from_answering() {
        let busy = |at: u64| Look {
            owes: at < 200,
            ..Look::default()
        };
        // Once it has read everything, its silence counts.
        assert_eq!(dead(busy).unwrap().0, 200);
        let stuck = |_| busy(0);
        assert_eq!(dead(stuck).unwrap().0, 300);
    }

    #[test]
    fn a_pong_tells_how_far_the_api_has_read() {
        let pulse = Pulse::default();
        let owes = || pulse.sent.load(Ordering::Relaxed) != pulse.taken.load(Ordering::Relaxed);
        assert!(!owes());
        let early = pulse.ping();
        pulse.sends();
        pulse.pong(&early);
        assert!(owes(), "it was sent after that ping");
        pulse.pong(b"unasked");
        assert!(owes());
        pulse.pong(&pulse.ping());
        assert!(!owes());
    }

    #[test]
    fn a_slow_upload_is_not_silent() {
        let slow = |at: u64| Look {
            written: (4 << 20) + at / 20,
            blocked: true,
            ..Look::default()
        };
        assert_eq!(dead(slow), None);
    }
}
