//! Who wrote which field: `metadata.managedFields`, and server-side apply on top of it. Simpler
//! than the real one: no conflicts between managers, lists are single values.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::clock;

/// The writer of a request.
#[derive(Debug, Clone)]
pub(super) struct Manager {
    /// Its name: the query's `fieldManager`, or the program in the user agent.
    pub(super) name: String,
    /// When it writes.
    pub(super) now: Duration,
}

/// Notes that a manager created or updated: what `new` has other than `old` is its own now.
pub(super) fn note_update(manager: &Manager, old: &Value, new: &mut Value) {
    let written = changed(&content(old), &content(new));
    let mut entries = entries(new);
    if !is_empty(&written) {
        for entry in &mut entries {
            subtract(&mut entry["fieldsV1"], &written);
        }
        let place = place(&mut entries, &manager.name, "Update");
        unite(&mut place["fieldsV1"], &written);
        place["time"] = json!(clock::rfc3339(manager.now));
    }
    keep(entries, new);
}

/// Server-side apply: merges the manager's configuration into the object, and takes away what the
/// manager applied before, does not want any more and nobody else owns.
pub(super) fn apply(manager: &Manager, object: &mut Value, config: &Value) {
    let before = content(object);
    let wanted = changed(&Value::Null, &content(config));
    let mut entries = entries(object);
    let mine = place(&mut entries, &manager.name, "Apply");
    let owned = std::mem::replace(&mut mine["fieldsV1"], wanted.clone());
    let mut dropped = owned.clone();
    for entry in &entries {
        subtract(&mut dropped, &entry["fieldsV1"]);
    }
    remove(object, &dropped);
    merge(object, &content(config));
    if owned != wanted || content(object) != before {
        let mine = place(&mut entries, &manager.name, "Apply");
        mine["time"] = json!(clock::rfc3339(manager.now));
    }
    keep(entries, object);
}

/// What of an object can be owned.
fn content(object: &Value) -> Value {
    let Value::Object(fields) = object else {
        return Value::Null;
    };
    let mut fields = fields.clone();
    for name in ["apiVersion", "kind", "status"] {
        fields.remove(name);
    }
    let mut meta = Map::new();
    for name in ["annotations", "labels", "finalizers"] {
        if let Some(value) = object["metadata"].get(name) {
            meta.insert(name.to_owned(), value.clone());
        }
    }
    fields.remove("metadata");
    if !meta.is_empty() {
        fields.insert("metadata".to_owned(), Value::Object(meta));
    }
    Value::Object(fields)
}

/// The set of the values in `new` that `old` does not have, as `fieldsV1` writes it: `f:` and the
/// name of the field, empty below a single value.
fn changed(old: &Value, new: &Value) -> Value {
    let Value::Object(fields) = new else {
        return json!({});
    };
    let mut set = Map::new();
    for (name, value) in fields {
        let before = &old[name.as_str()];
        let below = changed(before, value);
        let single = !value.is_object() || value == &json!({});
        if !is_empty(&below) || (single && before != value) {
            set.insert(format!("f:{name}"), below);
        }
    }
    Value::Object(set)
}

fn is_empty(set: &Value) -> bool {
    set.as_object().is_none_or(Map::is_empty)
}

fn entries(object: &Value) -> Vec<Value> {
    let list = object["metadata"]["managedFields"].as_array();
    list.into_iter()
        .flatten()
        .filter(|entry| entry.is_object())
        .cloned()
        .collect()
}

/// The entry of a manager, made if it is missing.
fn place<'a>(entries: &'a mut Vec<Value>, name: &str, operation: &str) -> &'a mut Value {
    let found = entries
        .iter()
        .position(|entry| entry["manager"] == name && entry["operation"] == operation);
    let index = found.unwrap_or_else(|| {
        entries.push(json!({
            "manager": name,
            "operation": operation,
            "apiVersion": "v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {},
        }));
        entries.len() - 1
    });
    &mut entries[index]
}

fn keep(mut entries: Vec<Value>, object: &mut Value) {
    entries.retain(|entry| !is_empty(&entry["fieldsV1"]));
    let Some(meta) = object["metadata"].as_object_mut() else {
        return;
    };
    if entries.is_empty() {
        meta.remove("managedFields");
    } else {
        meta.insert("managedFields".to_owned(), Value::Array(entries));
    }
}

fn unite(set: &mut Value, other: &Value) {
    if !set.is_object() {
        *set = json!({});
    }
    for (name, below) in other.as_object().into_iter().flatten() {
        unite(&mut set[name.as_str()], below);
    }
}

/// Takes the single values of `other` out of a set.
fn subtract(set: &mut Value, other: &Value) {
    let (Value::Object(set), Value::Object(other)) = (set, other) else {
        return;
    };
    for (name, below) in other {
        let Some(mine) = set.get_mut(name) else {
            continue;
        };
        subtract(mine, below);
        if is_empty(mine) {
            set.remove(name);
        }
    }
}

/// Removes the single values of a set from an object, and the maps that get empty by it.
fn remove(object: &mut Value, set: &Value) {
    let (Value::Object(fields), Value::Object(set)) = (object, set) else {
        return;
    };
    for (name, below) in set {
        let Some(name) = name.strip_prefix("f:") else {
            continue;
        };
        let Some(value) = fields.get_mut(name) else {
            continue;
        };
        remove(value, below);
        if is_empty(below) || value == &json!({}) {
            fields.remove(name);
        }
    }
}

/// Puts a configuration into an object; a null is a value that is not stated.
fn merge(object: &mut Value, config: &Value) {
    let Value::Object(config) = config else {
        return;
    };
    for (name, value) in config.iter().filter(|(_, value)| !value.is_null()) {
        let place = &mut object[name.as_str()];
        if value.is_object() && (place.is_object() || place.is_null()) {
            if place.is_null() {
                *place = json!({});
            }
            merge(place, value);
        } else {
            *place = value.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(name: &str) -> Manager {
        Manager {
            name: name.to_owned(),
            now: Duration::from_secs(1),
        }
    }

    #[test]
    fn notes_who_wrote() {
        let mut first = json!({"metadata": {"name": "a"}, "data": {"x": "1", "y": "2"}});
        note_update(&manager("one"), &Value::Null, &mut first);
        let mut second = first.clone();
        second["data"]["y"] = json!("3");
        note_update(&manager("two"), &first, &mut second);
        let entries = second["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0]["fieldsV1"], json!({"f:data": {"f:x": {}}}));
        assert_eq!(entries[1]["fieldsV1"], json!({"f:data": {"f:y": {}}}));
        assert_eq!(entries[1]["manager"], "two");
        assert_eq!(entries[1]["time"], "1970-01-01T00:00:01Z");
    }

    #[test]
    fn apply_takes_back_what_is_no_longer_wanted() {
        let mut object = json!({"metadata": {"name": "a"}, "data": {"mine": "1", "other": "1"}});
        note_update(&manager("editor"), &Value::Null, &mut object);
        let config = |data: Value| json!({"metadata": {"name": "a"}, "data": data});
        apply(
            &manager("ci"),
            &mut object,
            &config(json!({"a": "1", "b": "1", "other": "2"})),
        );
        assert_eq!(
            object["data"],
            json!({"a": "1", "b": "1", "mine": "1", "other": "2"})
        );
        apply(&manager("ci"), &mut object, &config(json!({"a": "2"})));
        // `other` stays: the editor owns it too.
        assert_eq!(object["data"], json!({"a": "2", "mine": "1", "other": "2"}));
        let entries = object["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(entries[1]["fieldsV1"], json!({"f:data": {"f:a": {}}}));
        assert_eq!(entries[1]["operation"], "Apply");
        // With nothing left the manager is gone.
        apply(
            &manager("ci"),
            &mut object,
            &json!({"metadata": {"name": "a"}}),
        );
        assert_eq!(object["data"], json!({"mine": "1", "other": "2"}));
        assert_eq!(
            object["metadata"]["managedFields"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
    }
}
