//! The committed corpus of the fuzzers, replayed on a stable compiler.

use std::{fs, path::Path};

use controlplane_world::fuzz;

fn replay(target: &str, body: fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut files: Vec<_> = fs::read_dir(root.join(target))
        .expect("the corpus is missing")
        .map(|entry| entry.expect("unreadable").path())
        .collect();
    files.sort();
    assert!(files.len() >= 12, "the corpus of {target} is too small");
    for file in files {
        let data = fs::read(&file).expect("unreadable");
        let outcome = std::panic::catch_unwind(|| body(&data));
        assert!(outcome.is_ok(), "{}", file.display());
    }
}

#[test]
fn decode() {
    replay("decode", fuzz::decode);
}

#[test]
fn agent_calls() {
    replay("agent_calls", fuzz::agent_calls);
}

#[test]
fn controller_calls() {
    replay("controller_calls", fuzz::controller_calls);
}

#[test]
fn differential() {
    replay("differential", fuzz::differential);
}

#[test]
fn roundtrip() {
    replay("roundtrip", fuzz::roundtrip);
}

#[test]
fn world() {
    replay("world", fuzz::world);
}

#[test]
fn yamux_decode() {
    replay("yamux_decode", fuzz::yamux_decode);
}

#[test]
fn yamux_calls() {
    replay("yamux_calls", fuzz::yamux_calls);
}
