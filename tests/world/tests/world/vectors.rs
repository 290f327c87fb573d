//! Plays the vectors against the machines, in memory and in virtual time.

mod agent;
mod client;
mod functions;
mod messages;
mod player;
mod proofs;
mod setup;
mod upstream;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use controlplane_world::vectors::{
    Era, Role,
    load::{self, Line},
};

/// All vectors; the test fails with each line that is none.
pub(crate) fn all() -> Vec<Line> {
    load::directory(&load::own()).unwrap_or_else(|errors| panic!("{}", errors.join("\n")))
}

/// Plays one vector.
fn play(line: &Line) -> Result<(), String> {
    let vector = &line.vector;
    if vector.role.converses() {
        player::play(vector)
    } else {
        functions::play(vector)
    }
}

#[test]
fn every_vector_holds() {
    let lines = all();
    let failed: Vec<String> = lines
        .iter()
        .filter_map(|line| {
            let Line { file, number, .. } = line;
            let title = &line.vector.title;
            let error = play(line).err()?;
            Some(format!("{file}:{number}: {title}: {error}"))
        })
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} vectors failed:\n{}",
        failed.len(),
        lines.len(),
        failed.join("\n")
    );
}

#[test]
fn every_statement_that_the_readme_lists_has_a_vector_and_the_other_way() {
    let readme = fs::read_to_string(load::own().join("README.md")).expect("no README");
    let (_, table) = readme.split_once("## Coverage").expect("no table");
    let mut listed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in table.lines().filter(|row| row.starts_with("| P-")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let files = cells[2].split(", ").map(|file| file.trim_matches('`'));
        let before = listed.insert(cells[1], files.collect());
        assert!(before.is_none(), "listed twice: {row}");
    }
    let lines = all();
    let mut there: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in &lines {
        let file = line.file.trim_end_matches(".jsonl");
        for p in &line.vector.p {
            there.entry(p).or_default().insert(file);
        }
    }
    assert!(!listed.is_empty(), "the table is empty");
    for (p, files) in &there {
        assert_eq!(listed.get(p), Some(files), "{p}: the table says otherwise");
    }
    for p in listed.keys() {
        assert!(there.contains_key(p), "{p} has no vector");
    }
}

#[test]
fn every_example_that_the_readme_lists_has_the_vectors_it_names() {
    let readme = fs::read_to_string(load::own().join("README.md")).expect("no README");
    let (_, table) = readme.split_once("## Examples").expect("no table");
    let (table, _) = table.split_once("\n## ").expect("no end");
    let lines = all();
    let mut messages = BTreeSet::new();
    for row in table.lines().filter(|row| row.starts_with("| P-")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let ["", p, example, files, agent, controller, ""] = cells[..] else {
            panic!("not five cells: {row}")
        };
        let files: Vec<String> = files
            .split(", ")
            .map(|file| format!("{}.jsonl", file.trim_matches('`')))
            .collect();
        let mut checks = false;
        for title in [agent, controller]
            .into_iter()
            .flat_map(|cell| cell.split("; "))
        {
            let mut there = lines.iter().filter(|line| files.contains(&line.file));
            let line = there.find(|line| line.vector.title == title);
            assert!(
                line.is_some() || title == "–",
                "no vector {title:?} in {files:?}"
            );
            checks |= line.is_some_and(|line| line.vector.p.iter().any(|own| own == p));
        }
        assert!(checks, "no vector of these checks {p}: {row}");
        messages.insert(example);
    }
    assert!(messages.len() >= 30, "only {} examples", messages.len());
}

#[test]
fn both_eras_of_the_original_speak_to_both_roles() {
    let lines = all();
    for role in [Role::Agent, Role::Controller] {
        for era in [Era::Seed, Era::Later, Era::Ours] {
            let count = lines
                .iter()
                .filter(|line| line.vector.role == role && line.vector.era == Some(era))
                .count();
            assert!(count >= 3, "{role:?} with {era:?}: {count} vectors");
        }
    }
}

#[test]
fn no_title_stands_twice() {
    let lines = all();
    let mut titles = BTreeSet::new();
    for line in &lines {
        assert!(
            titles.insert(&line.vector.title),
            "{}:{}: the title stands elsewhere, too",
            line.file,
            line.number
        );
    }
}
