//! Instruction counts: this program runs itself once more below callgrind, which counts inside one
//! function only and writes its count each time that returns.

use std::{env, fs, hint::black_box, path::Path, process::Command};

use crate::cases::{Case, Run};

/// Says to the second run that it is one.
pub(crate) const ARGUMENT: &str = "--below-callgrind";

/// Instructions of each case that has this word in its name, or `None` where there is no valgrind.
pub(crate) fn count(cases: usize, word: Option<&str>) -> Option<Vec<u64>> {
    let found = Command::new("valgrind").arg("--version").output().ok()?;
    if !found.status.success() {
        return None;
    }
    let folder = env::temp_dir().join(format!("controlplane-speed-{}", std::process::id()));
    fs::create_dir_all(&folder).ok()?;
    let counts = run(&folder, cases, word);
    // Left behind, it costs a few kilobytes.
    let _ = fs::remove_dir_all(&folder);
    counts
}

fn run(folder: &Path, cases: usize, word: Option<&str>) -> Option<Vec<u64>> {
    let out = folder.join("counts");
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .args(["--toggle-collect=*counted_by_callgrind*"])
        .args(["--dump-after=*dumped_by_callgrind*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe().ok()?)
        .arg(ARGUMENT)
        .args(word)
        .output()
        .ok()?;
    if !done.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&done.stderr));
        return None;
    }
    let counts = (1..=cases).map(|n| total(&folder.join(format!("counts.{n}"))));
    counts.collect()
}

/// The sum in one of callgrind's files.
fn total(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
    line?.trim().parse().ok()
}

/// The second run.
pub(crate) fn be_counted(cases: &[Case]) {
    for case in cases {
        black_box(dumped_by_callgrind(case));
    }
}

// Callgrind finds these two by their names. That they return something makes what they do calls and
// no jumps, so that their ends can be seen.

/// At the end of this it writes down what it counted.
#[inline(never)]
fn dumped_by_callgrind(case: &Case) -> u32 {
    let mut run = (case.measured)();
    run(case.rounds);
    black_box(counted_by_callgrind(&mut run, case.rounds))
}

/// In here it counts: the case so often that what happens now and then is counted in its share.
#[inline(never)]
fn counted_by_callgrind(run: &mut Run, count: u32) -> u32 {
    run(count);
    black_box(count)
}
