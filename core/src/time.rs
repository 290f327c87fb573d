//! Time as the core sees it: a span since an origin that the caller chose.

use core::ops::{Add, Sub};
use core::time::Duration;

/// A point in monotonic time.
///
/// Adapters fix one `std::time::Instant` at start and count from it; tests count up from
/// [`Time::ZERO`].
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Time(Duration);

impl Time {
    /// The origin.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The time `elapsed` after the origin.
    pub const fn since_origin(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The present after `now` was told: it never runs backwards, and never so far ahead that no
    /// timer could lie behind it.
    pub(crate) fn advance(self, now: Self) -> Self {
        const LAST: Time = Time(Duration::from_secs(u64::MAX / 2));
        self.max(now.min(LAST))
    }

    /// The span since the origin.
    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

/// Saturates at the end of time.
impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

/// The span from `earlier`, or zero where `earlier` is later.
impl Sub for Time {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// What differs between two runs of one configuration.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Monotonic time of the start.
    pub now: Time,
    /// The same moment since the UNIX epoch, for timestamps in frames.
    pub unix: Duration,
    /// 128 bits that no earlier start had. The agent seeds its jitter with them; the controller
    /// puts them into its request ids, so that a late answer to an earlier start matches nothing
    /// (P-091). No secret is derived from them.
    pub nonce: [u8; 16],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_neither_runs_backwards_nor_to_its_end() {
        let at = |s| Time::since_origin(Duration::from_secs(s));
        assert_eq!(at(5).advance(at(7)), at(7));
        assert_eq!(at(7).advance(at(5)), at(7));
        let last = Time::ZERO.advance(Time::since_origin(Duration::MAX));
        assert!(last + Duration::from_nanos(1) > last);
        assert_eq!(last.advance(Time::since_origin(Duration::MAX)), last);
    }

    #[test]
    fn sums_and_spans_stay_between_the_origin_and_the_end_of_time() {
        let at = |s| Time::since_origin(Duration::from_secs(s));
        assert_eq!(at(5) + Duration::from_secs(2), at(7));
        assert_eq!(at(7) - at(5), Duration::from_secs(2));
        assert_eq!(at(5) - at(7), Duration::ZERO);
        let end = Time::since_origin(Duration::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(end.as_duration(), Duration::MAX);
    }
}
