//! How fast the core is, beside what it is meant to be: instructions where valgrind is there, and
//! wall time.
//!
//! ```console
//! cargo bench -p controlplane-core
//! cargo bench -p controlplane-core --bench speed -- "32 KiB"
//! ```
//!
//! Nothing here fails because a machine is slow.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark that is wrong is to stop, and its output is a table"
)]

mod cases;
mod clock;
#[path = "../common/mod.rs"]
mod common;
mod instructions;
mod yamux;

use self::{
    cases::{Aim, Case},
    clock::Times,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let word = arguments.iter().find(|argument| !argument.starts_with('-'));
    let word = word.map(String::as_str);
    let has = |argument: &str| arguments.iter().any(|a| a == argument);
    let mut cases = cases::all();
    cases.extend(yamux::all());
    cases.retain(|case| word.is_none_or(|word| case.name.contains(word)));
    if has(instructions::ARGUMENT) {
        return instructions::be_counted(&cases);
    }
    // cargo says `--bench` for `cargo bench`; for `cargo test` once is enough.
    let thorough = has("--bench");
    let counts = thorough.then(|| instructions::count(cases.len(), word));
    let counts = counts.flatten();
    introduce(counts.is_some());
    // The aims are for vectorised base64, and once is no measurement.
    let judged = thorough && cfg!(feature = "simd");
    if !judged {
        println!("(not judged: once each, or without vectorised base64)");
    }
    for (at, case) in cases.iter().enumerate() {
        let count = counts.as_ref().and_then(|counts| counts.get(at));
        let count = count.map(|count| *count as f64 / f64::from(case.rounds));
        let mut measured = (case.measured)();
        let mut base = case.base.as_ref().map(|make| make());
        let (ours, base) = clock::time(&mut measured, base.as_mut(), thorough);
        println!("{}", row(case, judged, count, &ours, base.as_ref()));
    }
}

fn introduce(counted: bool) {
    let simd = cfg!(feature = "simd");
    let what = match counted {
        true => "instructions below callgrind, and wall time",
        false => "wall time only: there is no valgrind here to count instructions",
    };
    println!(
        "speed of the core: {what}; vectorised base64 {}",
        onoff(simd)
    );
    println!(
        "each case is the whole way of one frame through the public API, an empty poll included;"
    );
    println!(
        "base64 alone: the same bytes and engine, into a buffer that is there, by turns with the case"
    );
    println!("yamux: a copy of the same bytes into a buffer of their own takes that place");
    println!("GB/s: 10^9 bytes of payload a second\n");
    println!(
        "{:54} {:>9} {:>9} {:>9} {:>6} {:>6} {:>9} {:>6}  {:15}",
        "", "instr.", "best ns", "median", "GB/s", "median", "base ns", "ratio", "aim (best)"
    );
}

const fn onoff(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn row(
    case: &Case,
    judged: bool,
    count: Option<f64>,
    ours: &Times,
    base: Option<&Times>,
) -> String {
    let number = |n: Option<f64>, digits: usize| n.map_or("-".into(), |n| format!("{n:.digits$}"));
    let rate = |ns: f64| (case.bytes >= 1024).then(|| case.bytes as f64 / ns);
    let aim = match case.aim {
        None => String::new(),
        Some(Aim::Rate(least)) => {
            let fast = rate(ours.best).is_some_and(|rate| rate >= least);
            format!(">= {least} GB/s  {}", verdict(fast, judged))
        }
        Some(Aim::Time(most)) => {
            format!("<= {most:4} ns   {}", verdict(ours.best <= most, judged))
        }
    };
    format!(
        "{:54} {:>9} {:>9} {:>9} {:>6} {:>6} {:>9} {:>6}  {aim}",
        case.name,
        number(count, 0),
        number(Some(ours.best), if ours.best < 100.0 { 1 } else { 0 }),
        number(Some(ours.median), if ours.median < 100.0 { 1 } else { 0 }),
        number(rate(ours.best), 2),
        number(rate(ours.median), 2),
        number(base.map(|base| base.best), 0),
        number(base.map(|base| ours.best / base.best), 2),
    )
}

const fn verdict(reached: bool, judged: bool) -> &'static str {
    match (judged, reached) {
        (false, _) => "",
        (true, true) => "yes",
        (true, false) => "NO",
    }
}
