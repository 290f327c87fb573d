//! Reading the bodies of requests, and the rules that an object must keep.

use serde_json::Value;

use super::failure::Failure;
use super::protobuf;
use super::query::Query;
use super::resource::Resource;

/// The formats of objects.
const FORMATS: &str = "application/json, application/vnd.kubernetes.protobuf";

/// The type of a body without its parameters.
pub(super) fn media(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Reads an object, or the options of a delete.
pub(super) fn decode(content_type: &str, body: &[u8]) -> Result<Value, Failure> {
    match media(content_type) {
        "" | "application/json" => json(body),
        "application/vnd.kubernetes.protobuf" => {
            protobuf::decode(body).map_err(|error| Failure::bad_request(error.to_string()))
        }
        _ => Err(Failure::unsupported_media_type(FORMATS)),
    }
}

/// Reads JSON.
pub(super) fn json(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::bad_request(format!(
            "the object provided is unrecognized (must be JSON): {error}"
        ))
    })
}

/// Checks the form of an object, so that it can be handled without surprise: its kind, that maps
/// are maps of texts, and with `fieldValidation=Strict` that no field is unknown. Unknown fields
/// are dropped otherwise.
pub(super) fn form(resource: Resource, object: &mut Value, query: &Query) -> Result<(), Failure> {
    let kind = resource.kind();
    let cannot = |why: String| {
        let start = format!("{kind} in version \"v1\" cannot be handled as a {kind}");
        Failure::bad_request(format!("{start}: {why}"))
    };
    if object["kind"] != kind || object["apiVersion"] != "v1" {
        let why = format!("the object provided is unrecognized (must be of type {kind})");
        return Err(Failure::bad_request(why));
    }
    let Value::Object(fields) = object else {
        return Err(cannot("not an object".to_owned()));
    };
    let known = |name: &String| resource.fields().contains(&name.as_str());
    if query.get("fieldValidation") == Some("Strict")
        && let Some(name) = fields.keys().find(|name| !known(name))
    {
        return Err(cannot(format!(
            "strict decoding error: unknown field \"{name}\""
        )));
    }
    fields.retain(|name, value| known(name) && !value.is_null());
    for place in ["/metadata", "/spec", "/status"] {
        if object
            .pointer(place)
            .is_some_and(|value| !value.is_object())
        {
            return Err(cannot(format!("{} is not an object", &place[1..])));
        }
    }
    for place in [
        "/data",
        "/binaryData",
        "/metadata/labels",
        "/metadata/annotations",
    ] {
        let Some(value) = object.pointer(place).filter(|value| !value.is_null()) else {
            continue;
        };
        let texts = value
            .as_object()
            .is_some_and(|map| map.values().all(Value::is_string));
        if !texts {
            let field = place[1..].replace('/', ".");
            return Err(cannot(format!(
                "cannot unmarshal {kind}.{field} into a map of strings"
            )));
        }
    }
    Ok(())
}

/// Checks the name of a new object.
pub(super) fn name(resource: Resource, name: &str) -> Result<(), Failure> {
    let dots = resource != Resource::Namespaces;
    let limit = if dots { 253 } else { 63 };
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let ends =
        bytes.first().copied().is_some_and(inside) && bytes.last().copied().is_some_and(inside);
    let middle = |byte: &u8| inside(*byte) || *byte == b'-' || (dots && *byte == b'.');
    if name.is_empty() {
        let why = "metadata.name: Required value: name or generateName is required";
        return Err(Failure::invalid(resource, name, why));
    }
    if !ends || bytes.len() > limit || !bytes.iter().all(middle) {
        let what = if dots { "subdomain" } else { "label" };
        let why = format!(
            "metadata.name: Invalid value: \"{name}\": a lowercase RFC 1123 {what} must consist of \
             lower case alphanumeric characters or '-', and must start and end with an alphanumeric \
             character"
        );
        return Err(Failure::invalid(resource, name, &why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(object: Value, query: &str) -> Result<Value, String> {
        let mut object = object;
        let result = form(Resource::ConfigMaps, &mut object, &Query::parse(query));
        result
            .map(|()| object)
            .map_err(|failure| failure.message().to_owned())
    }

    #[test]
    fn reads_the_formats() {
        assert_eq!(
            decode("application/json; charset=utf-8", b"{}").unwrap(),
            json!({})
        );
        assert_eq!(decode("", b"[]").unwrap(), json!([]));
        assert_eq!(decode("application/json", b"a: b").unwrap_err().code(), 400);
        assert_eq!(decode("application/yaml", b"a: b").unwrap_err().code(), 415);
        assert_eq!(
            decode("application/vnd.kubernetes.protobuf", b"{}")
                .unwrap_err()
                .code(),
            400
        );
    }

    #[test]
    fn checks_the_form() {
        let map = |rest: Value| {
            let mut object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {}});
            super::super::patch::merge(&mut object, &rest);
            object
        };
        assert!(check(map(json!({"data": {"a": "b"}})), "").is_ok());
        assert_eq!(check(map(json!({"dat": {}})), "").unwrap(), map(json!({})));
        let strict = check(map(json!({"dat": {}})), "fieldValidation=Strict").unwrap_err();
        assert!(
            strict.ends_with("strict decoding error: unknown field \"dat\""),
            "{strict}"
        );
        for wrong in [
            json!({"data": {"a": 1}}),
            json!({"data": []}),
            json!({"metadata": "x"}),
            json!({"metadata": {"labels": {"a": true}}}),
            json!({"kind": "Secret"}),
            json!({"apiVersion": "v2"}),
        ] {
            assert!(check(map(wrong.clone()), "").is_err(), "{wrong}");
        }
        assert!(check(json!([]), "").is_err());
    }

    #[test]
    fn checks_names() {
        for good in ["a", "web-0", "kube-root-ca.crt"] {
            assert!(name(Resource::ConfigMaps, good).is_ok(), "{good}");
        }
        for wrong in ["", "A", "-a", "a.", "a_b", &"a".repeat(254)] {
            assert_eq!(
                name(Resource::ConfigMaps, wrong).unwrap_err().code(),
                422,
                "{wrong}"
            );
        }
        assert!(name(Resource::Namespaces, "a.b").is_err());
    }
}
