//! The player can fail: every expectation of every vector, altered in one place, is noticed; and so
//! is what would test nothing.

use std::collections::BTreeMap;

use controlplane_world::vectors::load::{self, Line};
use serde_json::{Map, Value, json};

/// Every expectation there is.
const KINDS: [&str; 16] = [
    "cases",
    "dial",
    "expect",
    "expect_binary",
    "expect_client_end",
    "expect_client_gets",
    "expect_client_head",
    "expect_close",
    "expect_connect",
    "expect_frame",
    "expect_pieces",
    "expect_request",
    "expect_upgrade",
    "expect_upstream_end",
    "expect_upstream_gets",
    "quiet",
];

/// Keys that expect nothing.
const NO_EXPECTATION: [&str; 5] = ["$more", "as", "on", "refused", "retry_after"];

#[test]
fn an_expectation_that_is_altered_in_one_place_is_noticed() {
    let mut noticed: BTreeMap<String, usize> = BTreeMap::new();
    let mut missed = Vec::new();
    for line in super::all() {
        let vector: Value = serde_json::from_str(&line.text).unwrap();
        for (kind, place, altered) in alterations(&vector) {
            let text = altered.to_string();
            let at = format!("{}:{}: {kind}", line.file, line.number);
            let vector = load::vector(&text).unwrap_or_else(|e| panic!("{at}: {e}: {text}"));
            let altered = Line {
                file: line.file.clone(),
                number: line.number,
                text,
                vector,
            };
            match super::play(&altered) {
                // There, and not somewhere else.
                Err(error) if error.starts_with(&place) => {
                    *noticed.entry(kind).or_default() += 1;
                }
                outcome => missed.push(format!("{at}: {place}: {outcome:?}: {}", altered.text)),
            }
        }
    }
    assert!(
        missed.is_empty(),
        "{} alterations were not noticed:\n{}",
        missed.len(),
        missed.join("\n")
    );
    let kinds: Vec<&str> = noticed.keys().map(|kind| &**kind).collect();
    assert_eq!(kinds, KINDS, "a kind of expectation was never altered");
}

/// The vector with each of its expectations altered in each place: its kind, where it has to be
/// noticed, and the vector.
fn alterations(vector: &Value) -> Vec<(String, String, Value)> {
    let mut out = Vec::new();
    let steps = vector["steps"].as_array();
    for (i, step) in steps.into_iter().flatten().enumerate() {
        let (kind, expected) = step.as_object().and_then(|s| s.iter().next()).unwrap();
        let place = |i: usize| format!("step {}: ", i + 1);
        if kind == "quiet" {
            // Something is said.
            let mut with = vector.clone();
            let steps = with["steps"].as_array_mut().unwrap();
            let ping = json!({"type": "ping", "request_id": "altered", "payload": {}});
            steps.insert(i, json!({"send": ping}));
            out.push((kind.clone(), place(i + 1), with));
        } else if kind.starts_with("expect") || kind == "dial" {
            for altered in values(kind, expected) {
                let mut with = vector.clone();
                with["steps"][i][kind] = altered;
                out.push((kind.clone(), place(i), with));
            }
        }
    }
    let cases = vector["cases"].as_array();
    for (i, case) in cases.into_iter().flatten().enumerate() {
        let outs = match case.get("out") {
            Some(out) => values("out", out),
            None => vec![json!("altered")],
        };
        for altered in outs {
            let mut with = vector.clone();
            let case = with["cases"][i].as_object_mut().unwrap();
            case.remove("refused");
            case.insert("out".into(), altered);
            out.push(("cases".into(), format!("case {}: ", i + 1), with));
        }
    }
    out
}

/// A value, altered in each place.
fn values(key: &str, value: &Value) -> Vec<Value> {
    if NO_EXPECTATION.contains(&key) {
        return Vec::new();
    }
    match value {
        Value::Object(end) if end.contains_key("how") => ends(end),
        _ if key == "after_ms" => vec![json!([400_000, 500_000])],
        Value::String(text) if key == "transport" => vec![match &**text {
            "tcp" => json!("udp"),
            _ => json!("tcp"),
        }],
        Value::String(text) if key == "hex" => vec![format!("{text}00").into()],
        Value::String(text) if text.starts_with('$') => vec!["altered".into()],
        Value::String(text) => vec![format!("{text}x").into()],
        // A bound, which need not be reached.
        Value::Number(_) if key == "longest" => vec![1.into()],
        Value::Number(number) => vec![(number.as_u64().unwrap() + 1).into()],
        Value::Bool(flag) => vec![(!flag).into()],
        Value::Null => vec![1.into()],
        Value::Array(items) if items.is_empty() => vec![json!(["altered"])],
        Value::Object(map) if map.is_empty() => vec![json!({"altered": 1})],
        Value::Array(items) => (0..items.len())
            .flat_map(|i| {
                let altered = values(key, &items[i]).into_iter();
                altered.map(move |item| {
                    let mut with = items.clone();
                    with[i] = item;
                    Value::Array(with)
                })
            })
            .collect(),
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| {
                let altered = values(key, value).into_iter();
                altered.map(move |value| {
                    let mut with = map.clone();
                    with.insert(key.clone(), value);
                    Value::Object(with)
                })
            })
            .collect(),
    }
}

/// An end, altered in each place and replaced by the others.
fn ends(end: &Map<String, Value>) -> Vec<Value> {
    let on = end.get("on").cloned();
    let all = [
        json!({"how": "complete"}),
        json!({"how": "broken"}),
        json!({"how": "closed", "code": 1003}),
    ];
    let others = all.into_iter().filter(|other| other["how"] != end["how"]);
    let mut out: Vec<Value> = others
        .map(|mut other| {
            let map = other.as_object_mut().unwrap();
            map.extend(on.clone().map(|on| ("on".into(), on)));
            other
        })
        .collect();
    for (key, value) in end.iter().filter(|(key, _)| *key != "how") {
        for altered in values(key, value) {
            let mut with = end.clone();
            with.insert(key.clone(), altered);
            out.push(with.into());
        }
    }
    out
}

#[test]
fn what_would_test_nothing_is_no_vector() {
    let good = json!({"title": "t", "p": ["P-056"], "role": "agent", "era": "seed",
        "steps": [{"send": {"type": "ping"}}, {"expect": {"type": "pong", "payload": {}}}]});
    load::vector(&good.to_string()).unwrap();
    let changes: [(&str, Value); 10] = [
        ("title", json!("")),
        ("p", json!([])),
        ("p", json!(["37"])),
        ("extra", json!(1)),
        ("steps", json!([])),
        ("steps", json!([{"send": {"type": "ping"}}])),
        ("steps", json!([{"expect": {}}])),
        (
            "steps",
            json!([{"expect": {"type": "pong", "payload": "$nothing"}}]),
        ),
        ("steps", json!([{"expects": {"type": "pong"}}])),
        ("cases", json!([{"in": 1, "out": 2}])),
    ];
    for (key, value) in changes {
        let mut bad = good.clone();
        bad[key] = value;
        assert!(load::vector(&bad.to_string()).is_err(), "{bad}");
    }
    for step in [
        json!({"quiet": false}),
        json!({"expect_upstream_gets": {"bytes": ""}}),
        json!({"expect_upstream_gets": {}}),
        json!({"expect_upstream_gets": {"text": "a", "bytes": "a"}}),
        json!({"expect_upstream_end": {"how": "closed"}}),
        json!({"expect_upstream_end": {"how": "complete", "status": 403}}),
        json!({"expect_request": {"method": "GET", "path": "/", "headers": {"a": "$b"}}}),
        json!({"expect_request": {"method": "GET", "path": "/", "extra": 1}}),
        json!({"expect": {"type": "$any"}}),
        json!({"expect": {"type": "pong", "payload": {"$less": true}}}),
    ] {
        let mut bad = good.clone();
        bad["steps"].as_array_mut().unwrap().push(step);
        assert!(load::vector(&bad.to_string()).is_err(), "{bad}");
    }
    assert!(load::file("empty.jsonl", "").is_err());
    assert!(load::file("blank.jsonl", "\n").is_err());
}

#[test]
fn cases_that_would_test_nothing_are_no_vector() {
    let good = json!({"title": "t", "p": ["P-027"], "role": "base64",
        "cases": [{"in": "aGk=", "out": "6869"}]});
    load::vector(&good.to_string()).unwrap();
    for cases in [
        json!([]),
        json!([{"in": "aGk="}]),
        json!([{"in": "aGk=", "out": "6869", "refused": true}]),
        json!([{"in": "aGk=", "outs": "6869"}]),
    ] {
        let mut bad = good.clone();
        bad["cases"] = cases;
        assert!(load::vector(&bad.to_string()).is_err(), "{bad}");
    }
}
