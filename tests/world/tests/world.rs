//! The simulation, the properties and the replay of the fuzzers' corpus.

use controlplane_world::{Setup, run};

#[test]
fn seeds() {
    let seed = std::env::var("WORLD_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seeds = seed.map_or(0..200, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let t = std::time::Instant::now();
        match run(Setup::of(seed)) {
            Ok(report) => println!("{seed} {:?} {:?}", t.elapsed(), report.counts),
            Err(violation) => panic!("{violation}"),
        }
    }
}
