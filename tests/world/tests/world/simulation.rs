//! 200 worlds, or the one of `WORLD_SEED`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use controlplane_core::{Cause, TRANSITIONS};
use controlplane_world::{Report, Setup, Violation, run};

/// Simulates worlds on all processors; the reports come in the order of the seeds.
pub(crate) fn all(
    seeds: std::ops::Range<u64>,
    setup: impl Fn(u64) -> Setup + Sync,
) -> Vec<Result<Report, Violation>> {
    let next = AtomicU64::new(seeds.start);
    let reports = Mutex::new(BTreeMap::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let report = run(setup(seed));
                    reports.lock().unwrap().insert(seed, report);
                }
            });
        }
    });
    reports.into_inner().unwrap().into_values().collect()
}

/// `WORLD_SEED`, where it is set; `WORLD_SEEDS` worlds otherwise, 200 by default.
fn seeds() -> (std::ops::Range<u64>, bool) {
    let number = |name| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(text.parse().expect("not a number"))
    };
    match number("WORLD_SEED") {
        Some(seed) => (seed..seed + 1, true),
        None => (0..number("WORLD_SEEDS").unwrap_or(200), false),
    }
}

/// What 200 worlds have to contain, or they prove little.
const EXPECTED: [&str; 63] = [
    "agent crashed",
    "agent told to stop",
    "aliens",
    "bodies broken off",
    "broken streams",
    "cancelled",
    "client blocked",
    "closed by the agent",
    "closed by the client",
    "closed by the client before it was heard",
    "closed by the controller",
    "closed by the upstream",
    "closed in between",
    "closes told",
    "closing time over at the agent",
    "closing time over at the controller",
    "controller crashed",
    "controller told to stop",
    "cut",
    "dials broken",
    "dials left",
    "early messages",
    "failed: agent stops",
    "failed: answer too long",
    "failed: answers too long",
    "failed: client too slow",
    "failed: closed unopened",
    "failed: closed with a code",
    "failed: controller stops",
    "failed: disconnected",
    "failed: lied about",
    "failed: message too long",
    "failed: no result",
    "failed: refused",
    "failed: request too large",
    "failed: subprotocol",
    "failed: time limit",
    "failed: too many for the agent",
    "failed: upstream",
    "failed: upstream too slow",
    "finished",
    "held",
    "link: dial timeout",
    "link: idle",
    "link: peer's fault",
    "link: register timeout",
    "link: stalled",
    "link: unauthorized",
    "not admitted",
    "refused: no streams",
    "refused: too many",
    "results made up",
    "strangers",
    "streams",
    "streams accepted",
    "streams left",
    "streams open",
    "streams: client blocked",
    "streams: upstream blocked",
    "superseded",
    "upstream blocked",
    "window to a client spent",
    "window to the upstream spent",
];

#[test]
fn every_invariant_holds_in_every_world() {
    let (seeds, single) = seeds();
    let mut transitions = BTreeSet::new();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let setup = |seed| Setup {
        verbose: single,
        ..Setup::of(seed)
    };
    for report in all(seeds, setup) {
        let report = report.unwrap_or_else(|violation| panic!("{violation}"));
        transitions.extend(report.transitions);
        for (what, count) in report.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    if single {
        return;
    }
    for (row, transition) in TRANSITIONS.iter().enumerate() {
        // There is no gateway in these worlds: the core's own tests move to one and resume there.
        let gateway = matches!(transition.1, Cause::Moved | Cause::Resumed);
        assert_eq!(!gateway, transitions.contains(&row), "{transition:?}");
    }
    for what in EXPECTED {
        assert!(
            counts.contains_key(what),
            "never happened: {what}\n{counts:#?}"
        );
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    let first = all(0..24, Setup::of);
    let again = all(0..24, Setup::of);
    let mut hashes = BTreeSet::new();
    for (seed, (first, again)) in first.into_iter().zip(again).enumerate() {
        let first = first.unwrap();
        assert_eq!(first, again.unwrap(), "seed {seed}");
        assert!(hashes.insert(first.hash), "two seeds, one world");
    }
}
