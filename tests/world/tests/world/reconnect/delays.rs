//! Which delay follows which loss, worked out without the machine.

use std::time::Duration;

use controlplane_core::{Backoff, Down, Reason};

use super::model::Check;

/// The longest delay after so many failures, without `Retry-After`.
pub(super) fn ceiling(backoff: Backoff, failures: u32) -> Duration {
    let Backoff { base, max, .. } = backoff;
    (1..failures.min(40)).fold(base, |ceiling, _| (ceiling * 2).min(max))
}

/// Half the ceiling to the ceiling, or what `Retry-After` makes of it.
pub(super) fn is_within(
    backoff: Backoff,
    down: Option<&Down>,
    delay: Duration,
    failures: u32,
) -> Check {
    let ceiling = ceiling(backoff, failures);
    let granted = match down {
        Some(Down::Refused { retry_after, .. }) => *retry_after,
        _ => None,
    };
    let (mut low, mut high) = (ceiling / 2, ceiling);
    if let Some(granted) = granted.map(|asked| asked.min(backoff.retry_after_max)) {
        low = low.max(granted);
        high = high.max(granted + granted.max(ceiling) / 2);
    }
    if delay < low || delay > high {
        return Err(format!("{delay:?} is not within {low:?} and {high:?}"));
    }
    Ok(())
}

/// The reason is what the network said, or one of the agent's own.
pub(super) fn told_right(down: Option<&Down>, reason: &Reason) -> Check {
    let right = match (down, reason) {
        (Some(Down::Closed { code: 4001, .. }), Reason::Superseded) => true,
        (Some(Down::Closed { code, .. }), Reason::Closed { code: told, .. }) => code == told,
        (Some(Down::Lost(_)), Reason::Lost(_)) => true,
        (Some(Down::Refused { status, .. }), Reason::Unauthorized(told)) => {
            status == told && matches!(status, 401 | 403)
        }
        (Some(Down::Refused { status, .. }), Reason::Refused(told)) => {
            status == told && !matches!(status, 401 | 403)
        }
        (Some(Down::TooBig), Reason::Peer(_)) => true,
        (None, reason) => matches!(
            reason,
            Reason::DialTimeout
                | Reason::Idle
                | Reason::RegisterRefused(_)
                | Reason::RegisterTimeout
                | Reason::Stalled
        ),
        _ => false,
    };
    match right {
        true => Ok(()),
        false => Err(format!("{reason:?} for {down:?}")),
    }
}
