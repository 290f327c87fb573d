//! What ends a stream although both its sides would go on.

use std::time::Duration;

use tokio::time::interval;

use super::grant::Grant;
use crate::pulse::{Overdue, Patience, Pulse};

/// Between two looks at whether the user may still reach the cluster.
const REVIEW: Duration = Duration::from_secs(2);

/// Waits until the client takes nothing for so long.
pub(super) async fn stalled(pulse: &Pulse, write: Duration) {
    // A busy connection waits for no head and is never idle.
    let patience = Patience {
        head: write,
        idle: write,
        write,
    };
    while pulse.overdue(patience).await != Overdue::Write {}
}

/// Waits until its user may no longer do this.
pub(super) async fn withdrawn(mut grant: Grant) {
    let mut review = interval(REVIEW);
    while grant.holds() {
        review.tick().await;
    }
}
