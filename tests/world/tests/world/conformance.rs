//! The tables of what the conformance tests cover: complete, and every test and vector in them
//! exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use crate::table::{all_tests, root};

/// The last test of the original.
const LAST: usize = 107;

/// Names of tests by package, and under `vectors` the titles of the vectors.
fn there() -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut there = all_tests();
    let titles = crate::vectors::all().into_iter().map(|l| l.vector.title);
    there.insert("vectors", titles.collect());
    there
}

fn text() -> String {
    fs::read_to_string(root().join("tests/e2e/CONFORMANCE.md")).unwrap()
}

/// The rows below a heading, in two cells.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<(&'a str, &'a str)> {
    let section = text.split("\n## ").find(|s| s.starts_with(heading));
    let lines = section.unwrap_or_default().lines();
    let lines = lines.filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = lines.map(|line| line.split_once(" | ").unwrap_or((line, "")));
    cells.skip(1).collect()
}

/// Package and name of each test in a cell: `core `one`, `two`; e2e `three``; an error where it is
/// not written so.
fn named(cell: &str) -> Result<Vec<(&str, &str)>, &str> {
    let mut found = Vec::new();
    let mut rest = cell;
    loop {
        let (package, mut names) = rest.split_once(' ').ok_or(rest)?;
        loop {
            let (name, after) = names
                .strip_prefix('`')
                .and_then(|n| n.split_once('`'))
                .ok_or(names)?;
            found.push((package, name));
            match after.strip_prefix(", ") {
                Some(more) => names = more,
                None if after.is_empty() => return Ok(found),
                None => {
                    rest = after.strip_prefix("; ").ok_or(after)?;
                    break;
                }
            }
        }
    }
}

/// What is wrong with a cell.
fn unknown(cell: &str, there: &BTreeMap<&str, BTreeSet<String>>) -> Vec<String> {
    match named(cell) {
        Err(at) => vec![format!("this names no tests: {at:?}")],
        Ok(names) => {
            let known = |(package, name): &(&str, &str)| {
                there
                    .get(package)
                    .is_some_and(|names| names.contains(*name))
            };
            let unknown = names.iter().filter(|name| !known(name));
            let told = unknown.map(|(package, name)| format!("there is no {name:?} in {package}"));
            told.collect()
        }
    }
}

fn faults(text: &str, there: &BTreeMap<&str, BTreeSet<String>>) -> Vec<String> {
    let mut faults = Vec::new();
    let tests = rows(text, "Tests of the original");
    for (i, (test, cell)) in tests.iter().enumerate() {
        let number = format!("T-{:03} ", i + 1);
        if !test.starts_with(&number) || test.len() == number.len() {
            faults.push(format!("expected {number:?}, not {test:?}"));
        }
        match cell.strip_prefix("nothing: ") {
            Some(why) if !why.is_empty() => {}
            _ => faults.extend(unknown(cell, there)),
        }
    }
    let life = rows(text, "Life of a link");
    if life.is_empty() {
        faults.push("there is nothing of the life of a link".into());
    }
    faults.extend(life.iter().flat_map(|(_, cell)| unknown(cell, there)));
    if tests.len() != LAST {
        faults.push(format!("{} rows instead of {LAST}", tests.len()));
    }
    faults
}

#[test]
fn each_test_of_the_original_has_its_row_and_its_tests() {
    assert_eq!(faults(&text(), &there()), Vec::<String>::new());
}

#[test]
fn a_wrong_row_is_noticed() {
    let (text, there) = (text(), there());
    let row = text.lines().find(|l| l.starts_with("| T-017")).unwrap();
    for (what, wrong) in [
        ("a row is missing", text.replace(&format!("{row}\n"), "")),
        (
            "a row is doubled",
            text.replace(row, &format!("{row}\n{row}")),
        ),
        (
            "a vector is gone",
            text.replace("`a ping is answered with its id`", "`a ping is lost`"),
        ),
        (
            "a test is elsewhere",
            text.replace("core `t015", "agent `t015"),
        ),
        (
            "a test of the second table is gone",
            text.replace("`a_thousand_streams", "`a_million_streams"),
        ),
        (
            "the second table is gone",
            text.replace("## Life", "## Death"),
        ),
        (
            "a cell is empty",
            text.replace(row, "| T-017 ping and pong |  |"),
        ),
        (
            "a reason is empty",
            text.replace(row, "| T-017 ping and pong | nothing:  |"),
        ),
        (
            "names are not marked",
            text.replace(row, "| T-017 ping and pong | vectors a ping |"),
        ),
    ] {
        assert!(!faults(&wrong, &there).is_empty(), "{what}");
    }
}
