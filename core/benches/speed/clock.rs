//! Wall time on a machine that does other things too: what is measured and what it is compared
//! with take turns, many times, so that a disturbance hits both or neither.

#![allow(
    clippy::disallowed_types,
    reason = "a benchmark reads the clock that the core may not read"
)]

use std::time::{Duration, Instant};

use crate::cases::Run;

/// How long one turn is meant to take.
const TURN: Duration = Duration::from_micros(250);
/// How long the turns of one case are meant to take together.
const ALL: Duration = Duration::from_millis(400);

/// Times of one run, in nanoseconds.
pub(crate) struct Times {
    /// The shortest: what it takes when nothing disturbs.
    pub(crate) best: f64,
    /// The one in the middle.
    pub(crate) median: f64,
}

/// Times the two by turns. Without `thorough` once each, to see that they work.
pub(crate) fn time(
    measured: &mut Run,
    base: Option<&mut Run>,
    thorough: bool,
) -> (Times, Option<Times>) {
    let mut nothing: Run = Box::new(|_| {});
    let compared = base.is_some();
    let base = base.unwrap_or(&mut nothing);
    if !thorough {
        let (one, other) = (turn(measured, 1), turn(base, 1));
        return (times(vec![one]), compared.then(|| times(vec![other])));
    }
    let (count, base_count) = (calibrate(measured), calibrate(base));
    let turns = (ALL.as_nanos() / TURN.as_nanos()) as usize;
    let (mut ours, mut theirs) = (Vec::with_capacity(turns), Vec::with_capacity(turns));
    for _ in 0..turns {
        ours.push(turn(measured, count));
        if compared {
            theirs.push(turn(base, base_count));
        }
    }
    (times(ours), compared.then(|| times(theirs)))
}

/// Nanoseconds of one of `count` in a row.
fn turn(run: &mut Run, count: u32) -> f64 {
    let start = Instant::now();
    run(count);
    start.elapsed().as_nanos() as f64 / f64::from(count)
}

/// How many in a row fill a turn; warms up on the way.
fn calibrate(run: &mut Run) -> u32 {
    let mut count = 1;
    loop {
        let spent = turn(run, count) * f64::from(count);
        if spent >= TURN.as_nanos() as f64 || count > 1 << 20 {
            return count;
        }
        count *= 2;
    }
}

fn times(mut all: Vec<f64>) -> Times {
    all.sort_by(f64::total_cmp);
    Times {
        best: all.first().copied().unwrap_or_default(),
        median: all.get(all.len() / 2).copied().unwrap_or_default(),
    }
}
