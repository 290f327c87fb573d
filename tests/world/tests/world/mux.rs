//! yamux: random schedules of two ends against a model, and of one end against a hostile peer.
//! `MUX_SEED=n` runs one seed, `MUX_SEEDS=n` more of them.

mod interop;
mod peer;
mod speed;

use std::panic::catch_unwind;

use controlplane_world::{
    mux::{self, Mistake},
    rng::Rng,
};

/// Runs a body for many seeds, and names the one that fails.
fn each_seed(count: u64, body: fn(&mut Rng)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (from, to) = match number("MUX_SEED") {
        Some(seed) => (seed, seed + 1),
        None => (0, number("MUX_SEEDS").unwrap_or(count)),
    };
    for seed in from..to {
        let outcome = catch_unwind(|| body(&mut Rng::new(seed)));
        assert!(outcome.is_ok(), "MUX_SEED={seed}");
    }
}

#[test]
fn p119_two_ends_deliver_everything_in_order_and_within_bounds() {
    each_seed(400, |rng| _ = mux::pair(rng));
}

#[test]
fn p119_a_hostile_peer_costs_no_more_than_the_bounds_say() {
    each_seed(1500, mux::hostile);
}

#[test]
fn p118_any_bytes_are_read() {
    each_seed(300, |rng| {
        let len = rng.len(0, 400);
        let bytes: Vec<u8> = (0..len)
            .map(|n| {
                if n % 3 == 0 {
                    rng.below(256) as u8
                } else {
                    rng.below(3) as u8
                }
            })
            .collect();
        mux::garbage(&bytes);
    });
}

#[test]
fn the_same_schedule_writes_the_same_bytes() {
    for seed in 0..20 {
        let digest = || mux::pair(&mut Rng::new(seed));
        assert_eq!(digest(), digest(), "{seed}");
    }
}

#[test]
fn the_model_sees_a_mistake() {
    for mistake in [Mistake::Flip, Mistake::Grant, Mistake::Fin] {
        let seen = (0..100).filter(|seed| {
            catch_unwind(|| mux::pair_with(&mut Rng::new(*seed), Some(mistake))).is_err()
        });
        assert!(seen.count() > 5, "{mistake:?}");
    }
}
