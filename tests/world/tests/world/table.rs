//! The table of properties in the core's documentation: complete, and every test in it exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Names of the packages in the table, and their folders.
const PACKAGES: [(&str, &str); 7] = [
    ("agent", "agent"),
    ("controller", "controller"),
    ("core", "core"),
    ("driver", "driver"),
    ("e2e", "tests/e2e"),
    ("health", "health"),
    ("world", "tests/world"),
];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every Rust file below a folder.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Names of the functions of a file that are run as tests: those with an attribute that says so
/// and none that leaves them out, and those that a macro of this workspace makes tests of.
fn tests(source: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let (mut is_test, mut left_out, mut in_macro) = (false, false, false);
    let makers = [
        "on_both! {",
        "in_both_worlds! {",
        "in_both_worlds_within! {",
        "on_both_names! {",
        "on_both_slowly! {",
    ];
    for line in source.lines().map(str::trim) {
        if in_macro {
            in_macro = line != "}";
            if is_name(line) && source.contains(&format!("async fn {line}")) {
                found.insert(line);
            }
        } else if makers.contains(&line) {
            in_macro = true;
        } else if line == "#[test]" || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if line.starts_with("#[") {
            left_out |= line.starts_with("#[ignore") || line.starts_with("#[cfg");
        } else {
            let name = line.split_once("fn ").map_or("", |(_, rest)| rest);
            let name = name.split(['(', '<']).next().unwrap_or_default();
            if is_test && !left_out && is_name(name) {
                found.insert(name);
            }
            (is_test, left_out) = (false, false);
        }
    }
    found
}

/// Package and name of each test in a cell: `core `one`, `two`; e2e `three``.
fn named(cell: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for group in cell.split("; ") {
        let (package, names) = group.split_once(' ').unwrap_or_default();
        for name in names.split(", ") {
            let bare = name.strip_prefix('`').and_then(|n| n.strip_suffix('`'));
            // What is no name is not found.
            let bare = bare.filter(|name| is_name(name)).unwrap_or_default();
            found.push((package.to_owned(), bare.to_owned()));
        }
    }
    found
}

/// What is wrong with a table, given the tests that there are.
fn faults(table: &str, there: &BTreeMap<&str, BTreeSet<String>>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut next = 144;
    for line in table.lines().skip(2) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", property, held, tests, ""] = cells[..] else {
            faults.push(format!("not three cells: {line}"));
            continue;
        };
        let expected = format!("P-{next} (W-{:02}): ", next - 143);
        next += 1;
        if !property.starts_with(&expected) || property.len() == expected.len() {
            faults.push(format!("expected {expected:?}, not {property:?}"));
        }
        if held.is_empty() {
            faults.push(format!("{property}: held by nothing"));
        }
        match tests.strip_prefix("out of scope: ") {
            Some(reason) if !reason.is_empty() => continue,
            _ if tests.is_empty() => faults.push(format!("{property}: neither test nor reason")),
            _ => {}
        }
        for (package, name) in named(tests) {
            if !there
                .get(&*package)
                .is_some_and(|names| names.contains(&name))
            {
                faults.push(format!("{property}: there is no test {name} in {package}"));
            }
        }
    }
    if next != 216 {
        faults.push(format!("the last row is P-{}", next - 1));
    }
    faults
}

pub(crate) fn all_tests() -> BTreeMap<&'static str, BTreeSet<String>> {
    let of = |(name, folder): (&'static str, &str)| {
        let files = sources(&root().join(folder));
        let names = files.iter().flat_map(|(_, text)| tests(text));
        (name, names.map(String::from).collect())
    };
    PACKAGES.into_iter().map(of).collect()
}

fn table() -> String {
    fs::read_to_string(root().join("core/src/properties.md")).unwrap()
}

#[test]
fn p215_every_property_has_its_row_and_its_tests() {
    assert_eq!(faults(&table(), &all_tests()), Vec::<String>::new());
    let docs = fs::read_to_string(root().join("core/src/lib.rs")).unwrap();
    assert!(docs.contains("#![doc = include_str!(\"properties.md\")]"));
}

#[test]
fn a_table_that_is_wrong_is_noticed() {
    let there = all_tests();
    let table = table();
    let lines: Vec<&str> = table.lines().collect();
    let without = |n: usize| [&lines[..n], &lines[n + 1..]].concat().join("\n");
    let changed = |from: &str, to: &str| {
        let changed = table.replacen(from, to, 1);
        assert_ne!(changed, table);
        changed
    };
    for (what, wrong) in [
        ("the first row is missing", without(2)),
        ("the last row is missing", without(lines.len() - 1)),
        ("a row is doubled", format!("{table}{}", lines[40])),
        (
            "a number is doubled",
            changed("P-150 (W-07)", "P-149 (W-06)"),
        ),
        (
            "a test is gone",
            changed("`p146_reading_never", "`p146_writing_never"),
        ),
        ("a test is elsewhere", changed("core `p146_", "e2e `p146_")),
    ] {
        assert!(!faults(&wrong, &there).is_empty(), "{what}");
    }
    for (cell, fine) in [
        ("", false),
        ("out of scope:", false),
        ("core p146_reading_never_waits_for_writing", false),
        ("out of scope: no such thing", true),
    ] {
        let row = format!("| P-144 (W-01): a body | somewhere | {cell} |");
        let table = table.replacen(lines[2], &row, 1);
        assert_eq!(faults(&table, &there).is_empty(), fine, "{cell:?}");
    }
}

#[test]
fn what_is_run_as_a_test_is_told_from_what_is_not() {
    let source = "
        #[test]
        #[allow(clippy::unwrap_used)]
        fn plain() {}
        #[tokio::test(start_paused = true)]
        async fn waits<R: Runtime>(runtime: R) {}
        #[test]
        #[ignore = \"slow\"]
        fn left_out() {}
        // fn commented() {}
        fn helper() {}
        on_both! {
            twice
            nowhere
        }
        async fn twice() {}
        proptest! {
            #[test]
            fn many(data in 0..3) {}
        }
    ";
    let expected = ["many", "plain", "twice", "waits"];
    assert_eq!(Vec::from_iter(tests(source)), expected);
}

/// W-45: a read lock that is taken twice waits for ever when a writer comes between. What is there
/// of other locks guards one value each and is held for no call of anything else.
#[test]
fn p188_the_core_has_no_locks_and_nothing_has_read_locks() {
    let lock = ["RwL", "ock"].concat();
    for folder in [
        "agent",
        "controller",
        "core",
        "driver",
        "health",
        "runtime-tokio",
        "runtime-async-std",
    ] {
        for (path, text) in sources(&root().join(folder).join("src")) {
            let path = path.display();
            assert!(!text.contains(&lock), "{path}");
            let locks = ["Mutex", "Cell<", "Atomic"]
                .iter()
                .any(|kind| text.contains(kind));
            assert!(folder != "core" || !locks, "{path}");
        }
    }
}
