//! The kinds of patch: merge (also for strategic merge: the served kinds have no lists to merge)
//! and JSON patch. Server-side apply is in `managed`.

use serde_json::{Map, Value};

use super::failure::Failure;

/// Merges a patch into an object (RFC 7386). Keys of the patch that begin with `$` are directives
/// of strategic merge patches about lists; they are left out.
pub(super) fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(fields) = object else {
        return;
    };
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        if value.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// Applies the operations of a JSON patch (RFC 6902): `add`, `remove`, `replace` and `test`.
pub(super) fn json_patch(object: &mut Value, patch: &Value) -> Result<(), Failure> {
    let wrong = || Failure::bad_request("a JSON patch is a list of operations");
    for operation in patch.as_array().ok_or_else(wrong)? {
        let path = operation["path"].as_str().ok_or_else(wrong)?;
        let value = &operation["value"];
        let done = match operation["op"].as_str().ok_or_else(wrong)? {
            "add" => add(object, path, value),
            "remove" => remove(object, path),
            "replace" => object.pointer_mut(path).map(|place| *place = value.clone()),
            "test" => object
                .pointer(path)
                .filter(|found| *found == value)
                .map(drop),
            other => {
                let why = format!("the operation \"{other}\" is not offered by this stand-in");
                return Err(Failure::bad_request(why));
            }
        };
        done.ok_or_else(|| {
            Failure::bad_patch(format!(
                "the server rejected our request due to an error in our request: {} operation \
                 does not apply: \"{path}\"",
                operation["op"].as_str().unwrap_or_default()
            ))
        })?;
    }
    Ok(())
}

/// The parent of a place, and the last part of its path.
fn parent<'a>(object: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((
        object.pointer_mut(parent)?,
        last.replace("~1", "/").replace("~0", "~"),
    ))
}

fn add(object: &mut Value, path: &str, value: &Value) -> Option<()> {
    if path.is_empty() {
        *object = value.clone();
        return Some(());
    }
    match parent(object, path)? {
        (Value::Object(fields), key) => drop(fields.insert(key, value.clone())),
        (Value::Array(items), index) if index == "-" => items.push(value.clone()),
        (Value::Array(items), index) => {
            let index = index.parse().ok().filter(|index| *index <= items.len())?;
            items.insert(index, value.clone());
        }
        _ => return None,
    }
    Some(())
}

fn remove(object: &mut Value, path: &str) -> Option<()> {
    match parent(object, path)? {
        (Value::Object(fields), key) => fields.remove(&key).map(drop),
        (Value::Array(items), index) => {
            let index = index.parse().ok().filter(|index| *index < items.len())?;
            items.remove(index);
            Some(())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merges() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "d": [1, 2]});
        merge(
            &mut object,
            &json!({"a": {"b": null, "e": {"f": null, "g": 3}}, "d": [3], "$patch": "merge"}),
        );
        assert_eq!(object, json!({"a": {"c": 2, "e": {"g": 3}}, "d": [3]}));
        merge(&mut object, &json!(7));
        assert_eq!(object, json!(7));
    }

    #[test]
    fn follows_operations() {
        let mut object = json!({"data": {"a/b": "1", "c": "2"}, "list": [1, 3]});
        let patch = json!([
            {"op": "test", "path": "/data/c", "value": "2"},
            {"op": "replace", "path": "/data/a~1b", "value": "9"},
            {"op": "remove", "path": "/data/c"},
            {"op": "add", "path": "/list/1", "value": 2},
            {"op": "add", "path": "/list/-", "value": 4},
            {"op": "remove", "path": "/list/0"},
            {"op": "add", "path": "/new", "value": {"x": null}},
        ]);
        json_patch(&mut object, &patch).unwrap();
        assert_eq!(
            object,
            json!({"data": {"a/b": "9"}, "list": [2, 3, 4], "new": {"x": null}})
        );
    }

    #[test]
    fn refuses_operations_that_do_not_fit() {
        let object = json!({"a": 1, "list": []});
        let cases = [
            (json!({"op": "replace", "path": "/b", "value": 1}), 422),
            (json!({"op": "remove", "path": "/b"}), 422),
            (json!({"op": "remove", "path": "/list/0"}), 422),
            (json!({"op": "add", "path": "/a/b", "value": 1}), 422),
            (json!({"op": "add", "path": "/list/7", "value": 1}), 422),
            (json!({"op": "test", "path": "/a", "value": 2}), 422),
            (json!({"op": "move", "path": "/a", "from": "/list"}), 400),
            (json!({"path": "/a"}), 400),
            (json!("add"), 400),
        ];
        for (operation, code) in cases {
            let result = json_patch(&mut object.clone(), &json!([operation]));
            assert_eq!(result.unwrap_err().code(), code, "{operation}");
        }
        assert_eq!(
            json_patch(&mut object.clone(), &json!({}))
                .unwrap_err()
                .code(),
            400
        );
    }
}
