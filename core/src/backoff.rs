//! Delays between attempts to connect.

use core::time::Duration;

use crate::error::ConfigError;

/// Delays between attempts: uniform between half the ceiling and the ceiling, which doubles with
/// each failure in a row from [`base`](Self::base) to [`max`](Self::max) (P-087).
///
/// ```
/// use controlplane_core::Backoff;
/// use core::time::Duration;
///
/// let backoff = Backoff::default();
/// let first = backoff.delay(1, None, 0);
/// assert_eq!(first, Duration::from_millis(250));
/// let asked = backoff.delay(1, Some(Duration::from_secs(7)), u64::MAX);
/// assert!(asked >= Duration::from_secs(7), "Retry-After is a lower bound");
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    /// First ceiling; 0.5 s.
    pub base: Duration,
    /// Last ceiling; 60 s.
    pub max: Duration,
    /// A link that stayed registered this long resets the count of failures; 60 s.
    pub stable: Duration,
    /// What is granted to a peer's `Retry-After` at most; 5 min.
    pub retry_after_max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(500),
            max: Duration::from_secs(60),
            stable: Duration::from_secs(60),
            retry_after_max: Duration::from_secs(300),
        }
    }
}

impl Backoff {
    /// The delay before the next attempt, after `failures` failures in a row (from 1; 0 counts
    /// as 1).
    ///
    /// `entropy` is any number, best a random one. With `retry_after` the delay is no shorter
    /// than that, capped at [`retry_after_max`](Self::retry_after_max), plus up to half of it or
    /// of the ceiling, whichever is more, so that a fleet that was told the same does not come
    /// back at the same moment.
    #[must_use]
    pub fn delay(&self, failures: u32, retry_after: Option<Duration>, entropy: u64) -> Duration {
        let ceiling = self.ceiling(failures);
        let own = ceiling / 2 + fraction(ceiling / 2, entropy);
        let Some(asked) = retry_after else { return own };
        let asked = asked.min(self.retry_after_max);
        let spread = asked.max(ceiling) / 2;
        own.max(asked.saturating_add(fraction(spread, entropy)))
    }

    /// The longest delay after `failures` failures in a row.
    #[must_use]
    pub fn ceiling(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.max)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.base.is_zero() || self.base > self.max {
            return Err(ConfigError::Backoff);
        }
        Ok(())
    }
}

/// `span` times `entropy` ÷ 2⁶⁴.
fn fraction(span: Duration, entropy: u64) -> Duration {
    let nanos = span.as_nanos().saturating_mul(u128::from(entropy)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p087_the_ceiling_doubles_up_to_the_cap() {
        let backoff = Backoff::default();
        let seconds: [f64; 9] =
            core::array::from_fn(|n| backoff.ceiling(n as u32 + 1).as_secs_f64());
        assert_eq!(seconds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        assert_eq!(backoff.ceiling(u32::MAX), backoff.max);
        assert_eq!(backoff.ceiling(0), backoff.base);
    }

    #[test]
    fn p087_a_delay_lies_between_half_the_ceiling_and_the_ceiling() {
        let backoff = Backoff::default();
        let delay = |entropy| backoff.delay(4, None, entropy);
        assert_eq!(delay(0), Duration::from_secs(2));
        assert_eq!(delay(1 << 63), Duration::from_secs(3));
        let last = Duration::from_secs(4) - Duration::from_nanos(1);
        assert_eq!(delay(u64::MAX), last);
    }

    #[test]
    fn p087_a_fleet_that_was_told_the_same_spreads_from_that_on() {
        let backoff = Backoff::default();
        let half = |failures, asked| {
            let asked = Some(Duration::from_millis(asked));
            backoff.delay(failures, asked, 1 << 63)
        };
        // Over half of what was asked for, or of a ceiling that is longer.
        assert_eq!(half(1, 8000), Duration::from_secs(10));
        assert_eq!(half(4, 3000), Duration::from_secs(4));
        assert_eq!(half(4, 100), Duration::from_secs(3), "no less than its own");
    }

    #[test]
    fn retry_after_is_capped() {
        let backoff = Backoff::default();
        let day = Some(Duration::from_secs(86_400));
        assert_eq!(backoff.delay(1, day, 0), backoff.retry_after_max);
        assert!(backoff.delay(1, day, u64::MAX) <= backoff.retry_after_max * 3 / 2);
    }
}
