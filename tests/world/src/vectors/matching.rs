//! Compares what was seen with a pattern.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Texts that earlier steps saved, by name.
pub type Saved = BTreeMap<String, String>;

/// Key that permits further ones.
const MORE: &str = "$more";

/// What a string that begins with `$` stands for.
enum Matcher<'a> {
    Absent,
    Any,
    Contains(&'a str),
    Number,
    Save(&'a str),
    Text,
    Timestamp,
}

/// The matcher that a string is, if it is one; `${name}` is none.
fn matcher(text: &str) -> Option<Result<Matcher<'_>, String>> {
    let word = text.strip_prefix('$').filter(|w| !w.starts_with('{'))?;
    let argument = |rest: Option<&str>| rest.is_some_and(|rest| !rest.is_empty());
    let (word, rest) = match word.split_once(':') {
        Some((word, rest)) => (word, Some(rest)),
        None => (word, None),
    };
    Some(match (word, rest) {
        ("absent", None) => Ok(Matcher::Absent),
        ("any", None) => Ok(Matcher::Any),
        ("number", None) => Ok(Matcher::Number),
        ("string", None) => Ok(Matcher::Text),
        ("timestamp", None) => Ok(Matcher::Timestamp),
        ("contains", rest) if argument(rest) => Ok(Matcher::Contains(rest.unwrap_or_default())),
        ("save", rest) if argument(rest) => Ok(Matcher::Save(rest.unwrap_or_default())),
        _ => Err(format!("unknown matcher {text:?}")),
    })
}

/// Puts in what was saved.
///
/// # Errors
///
/// A name that nothing was saved under.
pub fn filled(text: &str, saved: &Saved) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or("a name without its end")?;
        let value = saved
            .get(name)
            .ok_or_else(|| format!("nothing was saved as {name:?}"))?;
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Compares a message with its pattern: a `timestamp` that the pattern does not name may be there,
/// if it is one.
///
/// # Errors
///
/// Where they differ.
pub fn message(pattern: &Value, seen: &Value, saved: &mut Saved) -> Result<(), String> {
    let mut seen = seen.clone();
    if pattern.get("timestamp").is_none()
        && let Some(stamp) = seen.as_object_mut().and_then(|m| m.remove("timestamp"))
    {
        matches("timestamp", &Value::from("$timestamp"), &stamp, saved)?;
    }
    matches("", pattern, &seen, saved)
}

/// Compares a value that stands at `at`.
///
/// # Errors
///
/// Where they differ.
pub fn matches(at: &str, pattern: &Value, seen: &Value, saved: &mut Saved) -> Result<(), String> {
    let differs = || Err(format!("{at}: expected {pattern}, saw {seen}"));
    let equal = match (pattern, seen) {
        (Value::String(text), _) => match matcher(text) {
            Some(matcher) => holds(&matcher?, seen, saved),
            None => seen.as_str() == Some(&filled(text, saved)?),
        },
        (Value::Object(pattern), Value::Object(seen)) => return object(at, pattern, seen, saved),
        (Value::Array(pattern), Value::Array(seen)) if pattern.len() == seen.len() => {
            for (i, (pattern, seen)) in pattern.iter().zip(seen).enumerate() {
                matches(&format!("{at}[{i}]"), pattern, seen, saved)?;
            }
            true
        }
        (Value::Number(pattern), Value::Number(seen)) => pattern.as_f64() == seen.as_f64(),
        (pattern, seen) => pattern == seen,
    };
    if equal { Ok(()) } else { differs() }
}

fn holds(matcher: &Matcher<'_>, seen: &Value, saved: &mut Saved) -> bool {
    let text = seen.as_str();
    match matcher {
        Matcher::Absent => false,
        Matcher::Any => true,
        Matcher::Contains(part) => text.is_some_and(|text| text.contains(part)),
        Matcher::Number => seen.is_number(),
        Matcher::Save(name) => {
            let text = text.filter(|text| !text.is_empty());
            let known = text.map(|text| saved.insert((*name).into(), text.into()));
            known.is_some()
        }
        Matcher::Text => text.is_some_and(|text| !text.is_empty()),
        Matcher::Timestamp => text.is_some_and(is_timestamp),
    }
}

fn object(
    at: &str,
    pattern: &Map<String, Value>,
    seen: &Map<String, Value>,
    saved: &mut Saved,
) -> Result<(), String> {
    // Names of headers compare without case.
    let fold = at.ends_with(".headers");
    let name = |name: &String| {
        if fold {
            name.to_lowercase()
        } else {
            name.clone()
        }
    };
    let mut left: BTreeMap<String, &Value> = seen.iter().map(|(k, v)| (name(k), v)).collect();
    for (key, pattern) in pattern.iter().filter(|(key, _)| *key != MORE) {
        let at = format!("{at}.{key}");
        match left.remove(&name(key)) {
            Some(seen) => matches(&at, pattern, seen, saved)?,
            None if pattern == "$absent" => {}
            None => return Err(format!("{at}: expected {pattern}, saw nothing")),
        }
    }
    match left.first_key_value() {
        Some((key, seen)) if !pattern.contains_key(MORE) => {
            Err(format!("{at}.{key}: expected nothing, saw {seen}"))
        }
        _ => Ok(()),
    }
}

/// Compares headers with a pattern that need not name all of them.
///
/// # Errors
///
/// Where they differ.
pub fn headers(
    pattern: &BTreeMap<String, Value>,
    seen: &[(String, String)],
    saved: &mut Saved,
) -> Result<(), String> {
    let mut by_name: Map<String, Value> = Map::new();
    for (name, value) in seen {
        let values = by_name
            .entry(name.to_lowercase())
            .or_insert(Value::Array(Vec::new()));
        if let Value::Array(values) = values {
            values.push(Value::from(value.as_str()));
        }
    }
    let mut pattern: Map<String, Value> = pattern.clone().into_iter().collect();
    pattern.insert(MORE.into(), Value::Bool(true));
    object(".headers", &pattern, &by_name, saved)
}

/// Compares URLs: the order of the parameters means nothing.
#[must_use]
pub fn same_url(a: &str, b: &str) -> bool {
    let parts = |url: &str| {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut pairs: Vec<String> = query.split('&').map(String::from).collect();
        pairs.sort();
        (String::from(base), pairs)
    };
    parts(a) == parts(b)
}

/// RFC 3339, in the form that P-024 and P-025 permit.
#[must_use]
pub fn is_timestamp(text: &str) -> bool {
    let Some((head, tail)) = text.split_at_checked(19) else {
        return false;
    };
    let shape: String = head
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    let fraction = tail
        .strip_prefix('.')
        .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let zone = match fraction {
        Some(zone) if zone.len() + 1 < tail.len() => zone,
        Some(_) => return false,
        None => tail,
    };
    let offset: String = zone
        .chars()
        .map(|c| match c {
            '-' => '+',
            c if c.is_ascii_digit() => '0',
            c => c,
        })
        .collect();
    shape == "0000-00-00T00:00:00" && (zone == "Z" || offset == "+00:00")
}

/// Checks that a pattern can be compared with.
///
/// # Errors
///
/// A matcher that does not exist.
pub fn check(pattern: &Value) -> Result<(), String> {
    match pattern {
        Value::String(text) => match matcher(text) {
            Some(Err(unknown)) => Err(unknown),
            _ => Ok(()),
        },
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| match &**key {
            MORE if *value == Value::Bool(true) => Ok(()),
            key if key.starts_with('$') => Err(format!("unknown matcher {key:?}")),
            _ => check(value),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(pattern: &Value, seen: &Value) -> bool {
        let mut saved = Saved::from([("id".into(), "a-1".into())]);
        message(pattern, seen, &mut saved).is_ok()
    }

    #[test]
    fn each_matcher_holds_for_what_it_says_and_nothing_else() {
        let stamp = json!("2026-11-23T05:34:05.9+02:00");
        for (pattern, good, bad) in [
            (json!("$any"), json!(null), None),
            (json!("$string"), json!("a"), Some(json!(""))),
            (json!("$number"), json!(1.5), Some(json!("1"))),
            (
                json!("$timestamp"),
                stamp,
                Some(json!("2026-11-23T05:34:05")),
            ),
            (json!("$contains:b"), json!("abc"), Some(json!("ac"))),
            (json!("$save:x"), json!("a"), Some(json!(7))),
            (json!("x${id}y"), json!("xa-1y"), Some(json!("xy"))),
            (json!(1), json!(1.0), Some(json!(2))),
            (json!(null), json!(null), Some(json!(0))),
            (json!([1, 2]), json!([1, 2]), Some(json!([1]))),
            (
                json!({"a": 1}),
                json!({"a": 1}),
                Some(json!({"a": 1, "b": 2})),
            ),
            (json!({"$more": true}), json!({"b": 2}), Some(json!(2))),
            (json!({"a": "$absent"}), json!({}), Some(json!({"a": 1}))),
            (json!({"a": "$any"}), json!({"a": null}), Some(json!({}))),
            (
                json!({"headers": {"A": 1}}),
                json!({"headers": {"a": 1}}),
                Some(json!({"headers": {}})),
            ),
            (
                json!({"names": {"a": 1}}),
                json!({"names": {"a": 1}}),
                Some(json!({"names": {"A": 1}})),
            ),
        ] {
            let of = |value: &Value| json!({"type": "t", "payload": value});
            assert!(holds(&of(&pattern), &of(&good)), "{pattern} and {good}");
            if let Some(bad) = bad {
                assert!(!holds(&of(&pattern), &of(&bad)), "{pattern} and {bad}");
            }
        }
    }

    #[test]
    fn a_message_may_have_a_timestamp_that_is_one() {
        let pattern = json!({"type": "t"});
        assert!(holds(
            &pattern,
            &json!({"type": "t", "timestamp": "2026-11-23T05:34:05Z"})
        ));
        assert!(!holds(&pattern, &json!({"type": "t", "timestamp": "soon"})));
        assert!(!holds(
            &json!({"type": "t", "timestamp": "$timestamp"}),
            &pattern
        ));
    }

    #[test]
    fn what_is_no_timestamp() {
        for text in [
            "",
            "2026-11-23",
            "2026-11-23T05:34:05.Z",
            "2026-11-23t05:34:05Z",
            "2026-11-23T05:34:05z",
            "2026-11-23T05:34:05+0200",
            "2026-11-23T05:34:05.5",
        ] {
            assert!(!is_timestamp(text), "{text}");
        }
        assert!(is_timestamp("2026-11-23T05:34:05-11:30"));
    }

    #[test]
    fn saved_texts_are_put_in_and_missing_ones_told() {
        let saved = Saved::from([("a".into(), "1".into())]);
        assert_eq!(filled("x${a}${a}$", &saved).as_deref(), Ok("x11$"));
        assert!(filled("${b}", &saved).is_err());
        assert!(filled("${a", &saved).is_err());
    }

    #[test]
    fn the_order_of_parameters_means_nothing() {
        assert!(same_url("wss://h/p?a=1&b=2", "wss://h/p?b=2&a=1"));
        assert!(!same_url("wss://h/p?a=1", "wss://h/p?a=2"));
        assert!(!same_url("wss://h/p?a=1", "ws://h/p?a=1"));
    }
}
