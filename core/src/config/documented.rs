//! The figures in the documentation are those of the code: the tables of periods and limits, and what
//! is said of the bounds that no configuration changes.

use alloc::{
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use super::{
    Limits, Periods,
    tests::{limits, periods},
};
use crate::backoff::Backoff;

fn size(bytes: usize) -> String {
    match bytes {
        n if n % (1 << 20) == 0 => format!("{} MiB", n >> 20),
        n if n % (1 << 10) == 0 && n > 1024 => format!("{} KiB", n >> 10),
        n => format!("{n}"),
    }
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let (mut agent, mut controller) = (Limits::agent(), Limits::controller());
    let all = limits(&mut agent).into_iter().zip(limits(&mut controller));
    let table = include_str!("limits.md");
    for ((name, agent), (_, controller)) in all {
        let row = format!("| `{name}` | {} | {} |", size(*agent), size(*controller));
        assert!(table.contains(&row), "not in the table: {row}");
    }
}

#[test]
fn the_documented_periods_are_the_defaults() {
    let Backoff {
        base,
        max,
        stable,
        retry_after_max,
    } = Backoff::default();
    let mut defaults = Periods::default();
    let mut all: Vec<_> = periods(&mut defaults).map(|(n, p)| (n, *p)).into();
    all.extend([
        ("Backoff::base", base),
        ("Backoff::max", max),
        ("Backoff::stable", stable),
        ("Backoff::retry_after_max", retry_after_max),
    ]);
    let table = include_str!("periods.md");
    let fields = [include_str!("limits.rs"), include_str!("../backoff.rs")].concat();
    for (name, period) in &all {
        let row = format!("| `{name}` | {} s |", period.as_secs_f64());
        assert!(table.contains(&row), "not in the table: {row}");
        // And at the field itself.
        let (_, field) = name.rsplit_once(':').unwrap_or(("", name));
        let end = format!("\n    pub {field}: Duration,");
        let (before, _) = fields.split_once(&end).unwrap();
        let doc = before.rsplit("\n    pub ").next().unwrap_or_default();
        let seconds = format!("{} s", period.as_secs_f64());
        let minutes = format!("{} min", period.as_secs() / 60);
        let said = [seconds, minutes].map(|shown| format!(" {shown}"));
        let said = said.iter().any(|shown| doc.contains(shown));
        assert!(
            said,
            "{field} is {period:?}, and its documentation says:{doc}"
        );
    }
    assert_eq!(table.lines().count(), 2 + all.len());
}

/// The number that a constant of a source file has.
fn constant(source: &str, name: &str) -> usize {
    let (_, rest) = source
        .split_once(&format!("const {name}: usize = "))
        .unwrap();
    let text = rest.split(';').next().unwrap().replace('_', "");
    let (base, shift) = text.split_once(" << ").unwrap_or((&text, "0"));
    base.parse::<usize>().unwrap() << shift.parse::<u32>().unwrap()
}

/// Where a bound stands, its name there, and what is said of it.
const FIXED: [(&str, &str, &str); 18] = [
    (
        include_str!("../agent/incoming.rs"),
        "MAX_ID",
        "ids of a peer {} bytes",
    ),
    (
        include_str!("../controller/incoming.rs"),
        "MAX_ID",
        "ids of a peer {} bytes",
    ),
    (
        include_str!("../notices.rs"),
        "MAX_TEXT",
        "texts of a peer that are kept {} bytes",
    ),
    (
        include_str!("../rules/gateway.rs"),
        "MAX_URL",
        "URLs of gateways {},",
    ),
    (
        include_str!("../mux/head.rs"),
        "MAX_TEXT",
        "of the names in a tunnel of the fast mode {},",
    ),
    (
        include_str!("../agent/sockets.rs"),
        "MAX_REFUSAL",
        "the body of a refused stream {},",
    ),
    (
        include_str!("../agent/incoming.rs"),
        "MAX_UNKNOWN",
        "refused UDP tunnels {} each",
    ),
    (
        include_str!("../controller/outgoing.rs"),
        "MAX_STRAYS",
        "was told so {},",
    ),
    (
        include_str!("../agent/outgoing.rs"),
        "MAX_ANNOUNCED",
        "those whose binary body may still come {},",
    ),
    (include_str!("../notices.rs"), "MAX", "notices {},"),
    (
        include_str!("../controller/incoming.rs"),
        "MAX_FACTS",
        "labels and facts of an agent {} each",
    ),
    (
        include_str!("../wire/decode/shape.rs"),
        "MAX",
        "headers of a request or answer {},",
    ),
    (
        include_str!("../rules/upgrade.rs"),
        "MAX_OFFERED",
        "subprotocols on offer {},",
    ),
    (
        include_str!("../controller/sessions.rs"),
        "MAX_SESSIONS",
        "connections of one agent {},",
    ),
    (
        include_str!("../rules/tunnel.rs"),
        "MAX_DATAGRAM",
        "a datagram {} bytes",
    ),
    (
        include_str!("../controller/exchange.rs"),
        "WINDOW",
        "A window between our own ends: {} of an answer",
    ),
    (
        include_str!("../yamux/stream.rs"),
        "AHEAD",
        "of what a stream receives up to {} is with its local end",
    ),
    (
        include_str!("../yamux/frame.rs"),
        "INITIAL_WINDOW",
        "begins with {}",
    ),
];

#[test]
fn the_documented_fixed_bounds_are_those_of_the_code() {
    let text = include_str!("limits.md").replace('\n', " ");
    for (source, name, said) in FIXED {
        let bound = constant(source, name);
        // Bytes have a unit, counts have none.
        let ways = match bound {
            65_507 => ["65,507".into(), bound.to_string()],
            bound => [size(bound), bound.to_string()],
        };
        assert!(
            ways.iter()
                .any(|bound| text.contains(&said.replace("{}", bound))),
            "{name} is {bound}, and it does not say: {said}"
        );
    }
    let share = Limits::agent().send_total / Limits::agent().streams;
    assert!(text.contains(&format!("({} at the defaults)", size(share))));
    let window = Limits::agent().request_window();
    let said = format!("{} toward the Kubernetes API", size(window));
    assert!(text.contains(&said), "{said}");
}
