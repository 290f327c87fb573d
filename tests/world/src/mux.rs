//! yamux sessions in a world of their own: two ends that talk to each other, or one whose peer is
//! hostile, with what must hold after every step.
//!
//! An [`Observer`] reads what each end writes and knows nothing of how it came about; a model knows
//! what the local ends said and consumed, and nothing of frames.

mod calm;
mod ends;
mod hostile;
mod observer;
mod told;

use std::time::Duration;

use controlplane_core::{
    Time,
    yamux::{Config, INITIAL_WINDOW, Role},
};

pub use self::{
    ends::{Mistake, Pair, content},
    hostile::{garbage, hostile},
    observer::{Frame, Kind, Observer, Plain, encode},
};
use crate::rng::Rng;

/// The role of each side of a [`Pair`].
pub const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// Bounds as they may be, small ones too.
pub fn config(rng: &mut Rng) -> Config {
    let mut config = Config::default();
    if rng.chance(500) {
        config.window = INITIAL_WINDOW << rng.below(5);
    }
    if rng.chance(300) {
        config.streams = rng.len(1, 20);
    }
    if rng.chance(300) {
        config.backlog = rng.len(1, 6);
    }
    if rng.chance(300) {
        config.recv_total = rng.len(1000, 3 << 20);
    }
    if rng.chance(300) {
        config.send_stream = rng.len(0, 100_000);
    }
    if rng.chance(300) {
        config.send_total = rng.len(0, 500_000);
    }
    if rng.chance(300) {
        config.chunk = rng.len(0, 70_000);
    }
    config
}

/// A moment so many milliseconds after the start.
#[must_use]
pub const fn at(ms: u64) -> Time {
    Time::since_origin(Duration::from_millis(ms))
}

/// Two ends under a hostile schedule, and then a calm one in which everything must arrive. Returns
/// a digest of all that was written.
///
/// # Panics
///
/// If a rule does not hold.
pub fn pair(rng: &mut Rng) -> u64 {
    pair_with(rng, None)
}

/// The same; from some step on something is wrong with the pair, which must be seen.
///
/// # Panics
///
/// If a rule does not hold.
pub fn pair_with(rng: &mut Rng, mistake: Option<Mistake>) -> u64 {
    let mut configs = [config(rng), config(rng)];
    for config in &mut configs {
        // The schedule is hostile enough to let an answer wait for long.
        config.keepalive = Duration::from_secs(1);
        config.timeout = Duration::from_secs(3600);
    }
    let mut pair = Pair::new(configs);
    let steps = rng.len(10, 400);
    pair.mistake = mistake;
    // What one schedule does often another does hardly at all.
    let weights: [u64; 10] = std::array::from_fn(|_| rng.below(10));
    let sum = weights.iter().sum::<u64>().max(1);
    for _ in 0..steps {
        let mut pick = rng.below(sum);
        let what = weights.iter().position(|weight| {
            let hit = pick < *weight;
            pick = pick.saturating_sub(*weight);
            hit
        });
        pair.step(what.unwrap_or_default(), rng);
        pair.check();
    }
    pair.calm();
    pair.close();
    pair.digest()
}
