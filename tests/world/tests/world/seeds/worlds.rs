//! Worlds of every weather, for the fuzzer to change.

use controlplane_world::rng::Rng;

use super::Seed;

/// Two of each weather: one that its seed alone decides, and one with bytes to change.
pub(super) fn world() -> Vec<Seed> {
    let names = [
        ("fair", "fair_decided"),
        ("hostile", "hostile_decided"),
        ("crowd", "crowd_decided"),
        ("flaps", "flaps_decided"),
        ("slow_clients", "slow_clients_decided"),
        ("slow_upstream", "slow_upstream_decided"),
        ("storm", "storm_decided"),
    ];
    let seeds = names.into_iter().enumerate();
    let pair = |(weather, (short, long)): (usize, (&'static str, &'static str))| {
        let weather = weather as u8;
        let mut decided = Vec::from([weather]);
        decided.extend(Rng::new(weather.into()).bytes(400));
        [(short, Vec::from([weather])), (long, decided)]
    };
    seeds.flat_map(pair).collect()
}
