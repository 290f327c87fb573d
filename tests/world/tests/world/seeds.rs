//! With what the fuzzers begin, as readable code. `CORPUS=write` writes it into the corpus, next
//! to what fuzzing found; the test sees to it that what is committed is what stands here.

mod calls;
mod messages;
mod muxes;
mod worlds;

use std::{env, fs, path::Path};

use self::{
    calls::{agent_calls, controller_calls},
    messages::{decode, differential, roundtrip},
    muxes::{yamux_calls, yamux_decode},
    worlds::world,
};

type Seed = (&'static str, Vec<u8>);

#[test]
fn the_corpus_has_what_stands_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let write = env::var_os("CORPUS").is_some();
    for (target, seeds) in [
        ("agent_calls", agent_calls()),
        ("controller_calls", controller_calls()),
        ("decode", decode()),
        ("differential", differential()),
        ("roundtrip", roundtrip()),
        ("world", world()),
        ("yamux_calls", yamux_calls()),
        ("yamux_decode", yamux_decode()),
    ] {
        fs::create_dir_all(root.join(target)).unwrap();
        for (name, bytes) in seeds {
            let path = root.join(target).join(name);
            if write {
                fs::write(&path, &bytes).unwrap();
            }
            let same = fs::read(&path).is_ok_and(|found| found == bytes);
            assert!(same, "{}: run this with CORPUS=write", path.display());
        }
    }
}
