//! `WORLD_SEEDS` worlds, 100 by default; or the one of `WORLD_SEED`, or that of the bytes in
//! `WORLD_FILE`, with a trace of all that happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use controlplane_core::TRANSITIONS;
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
                    let report = run(&setup(seed));
                    reports.lock().unwrap().insert(seed, report);
                }
            });
        }
    });
    reports.into_inner().unwrap().into_values().collect()
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("not a number"))
}

/// The one world that is asked for.
fn single() -> Option<Setup> {
    let file = std::env::var_os("WORLD_FILE");
    let file = file.map(|file| std::fs::read(file).expect("the file is unreadable"));
    let setup = match file {
        Some(bytes) => Setup::of_bytes(&bytes),
        None => Setup::of(number("WORLD_SEED")?),
    };
    Some(Setup {
        verbose: true,
        ..setup
    })
}

/// So many worlds are simulated, and from so many on everything has to happen in them.
const ENOUGH: u64 = 100;
/// What so many worlds have to contain, or they prove little.
const EXPECTED: [&str; 107] = [
    "agent crashed",
    "agent told to stop",
    "aliens",
    "binary answers",
    "binary answers, compressed",
    "binary bodies",
    "bodies broken off",
    "broken streams",
    "cancelled",
    "client blocked",
    "clock jumps",
    "closed by the agent",
    "closed by the client",
    "closed by the client before it was heard",
    "closed by the controller",
    "closed by the upstream",
    "closed in between",
    "closes told",
    "closing time over at the agent",
    "compressed answers",
    "controller crashed",
    "controller told to stop",
    "cut",
    "dials broken",
    "dials left",
    "dials of the gateway",
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
    "fast: HTTP",
    "fast: TCP",
    "fast: UDP",
    "fast: aliens",
    "fast: broken off",
    "fast: bytes",
    "fast: connected",
    "fast: dialled",
    "fast: disconnected",
    "fast: dropped",
    "fast: failed",
    "fast: failed, controller stops",
    "fast: failed, no memory",
    "fast: half closed",
    "fast: over",
    "fast: reads no more",
    "fast: refused, JSON alone",
    "fast: refused, away",
    "fast: refused, too many",
    "fast: sessions",
    "fast: waited for room",
    "fast: windows spent",
    "finished",
    "gateway away",
    "held",
    "hostile messages",
    "late answers",
    "link: dial timeout",
    "link: idle",
    "link: peer's fault",
    "link: register timeout",
    "link: stalled",
    "link: unauthorized",
    "moved to the gateway",
    "not admitted",
    "refused: no streams",
    "refused: too many",
    "results made up",
    "second agents",
    "strangers",
    "streams",
    "streams accepted",
    "streams left",
    "streams open",
    "streams: client blocked",
    "streams: upstream blocked",
    "superseded",
    "tunnels refused",
    "tunnels: TCP",
    "tunnels: UDP",
    "tunnels: closes told",
    "tunnels: dialled",
    "tunnels: dropped",
    "tunnels: ended by the client",
    "tunnels: ended by the service",
    "tunnels: failed",
    "tunnels: finished",
    "tunnels: waited for room",
    "upstream blocked",
    "window to a client spent",
    "window to the upstream spent",
    "yamux lies that break the session",
];

#[test]
fn every_invariant_holds_in_every_world() {
    if let Some(setup) = single() {
        let report = run(&setup).unwrap_or_else(|violation| panic!("{violation}"));
        return println!("{:#?}", report.counts);
    }
    let seeds = number("WORLD_FROM").unwrap_or(0);
    let seeds = seeds..seeds + number("WORLD_SEEDS").unwrap_or(ENOUGH);
    let enough = seeds.end - seeds.start >= ENOUGH;
    let mut transitions = BTreeSet::new();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let reports = all(seeds, Setup::of);
    for violation in reports.iter().filter_map(|report| report.as_ref().err()) {
        println!("{:?}: {}", violation.source, violation.text);
    }
    for report in reports {
        let report = report.unwrap_or_else(|violation| panic!("{violation}"));
        transitions.extend(report.transitions);
        for (what, count) in report.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    println!("{counts:#?}");
    if !enough {
        return println!("too few worlds to ask whether everything happened that can");
    }
    for (row, transition) in TRANSITIONS.iter().enumerate() {
        assert!(transitions.contains(&row), "never taken: {transition:?}");
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
