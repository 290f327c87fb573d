//! The `Table` form of objects, which `kubectl get` asks for, and the `PartialObjectMetadata` form.

use serde::Serialize;
use serde_json::{Value, json};

use super::clock;
use super::resource::Resource;

/// How a client wants to see objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// As they are.
    Whole,
    /// Rows for a human.
    Table(RowObject),
    /// Their metadata alone.
    Metadata,
}

/// What a row carries besides its cells (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowObject {
    None,
    Metadata,
    Whole,
}

impl View {
    /// The first view in an Accept header that is offered; `None` if there is none.
    pub(super) fn accepted(accept: &str, include_object: Option<&str>) -> Option<Self> {
        if accept.trim().is_empty() {
            return Some(Self::Whole);
        }
        let row = match include_object {
            Some("None") => RowObject::None,
            Some("Object") => RowObject::Whole,
            _ => RowObject::Metadata,
        };
        accept.split(',').find_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next()?;
            if !matches!(media, "application/json" | "application/*" | "*/*") {
                return None;
            }
            let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
            let of = |name| {
                parameters
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| *value)
            };
            match (of("as"), of("g"), of("v")) {
                (None, _, _) => Some(Self::Whole),
                (Some("Table"), Some("meta.k8s.io"), Some("v1")) => Some(Self::Table(row)),
                (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), _, Some("v1")) => {
                    Some(Self::Metadata)
                }
                _ => None,
            }
        })
    }
}

#[derive(Serialize)]
struct Table {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    metadata: Value,
    #[serde(rename = "columnDefinitions")]
    columns: Option<Vec<Value>>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    cells: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Value>,
}

/// A table of objects. Only the first table of a watch has a head.
pub(super) fn table<'a>(
    resource: Resource,
    objects: impl IntoIterator<Item = &'a Value>,
    version: &str,
    row_object: RowObject,
    head: bool,
) -> Value {
    let rows = objects.into_iter().map(|object| Row {
        cells: cells(resource, object),
        object: match row_object {
            RowObject::None => None,
            RowObject::Metadata => Some(metadata_only(object)),
            RowObject::Whole => Some(object.clone()),
        },
    });
    let table = Table {
        kind: "Table",
        api_version: "meta.k8s.io/v1",
        metadata: json!({"resourceVersion": version}),
        columns: head.then(|| columns(resource)),
        rows: rows.collect(),
    };
    serde_json::to_value(table).unwrap_or_default()
}

/// The `PartialObjectMetadata` of an object.
pub(super) fn metadata_only(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

/// The columns: name, type, and whether only `-o wide` shows it.
fn columns(resource: Resource) -> Vec<Value> {
    let columns: &[(&str, &str, u8)] = match resource {
        Resource::ConfigMaps => &[
            ("Name", "string", 0),
            ("Data", "integer", 0),
            ("Age", "string", 0),
        ],
        Resource::Namespaces => &[
            ("Name", "string", 0),
            ("Status", "string", 0),
            ("Age", "string", 0),
        ],
        Resource::Pods => &[
            ("Name", "string", 0),
            ("Ready", "string", 0),
            ("Status", "string", 0),
            ("Restarts", "string", 0),
            ("Age", "string", 0),
            ("IP", "string", 1),
            ("Node", "string", 1),
            ("Nominated Node", "string", 1),
            ("Readiness Gates", "string", 1),
        ],
    };
    let column = |(name, kind, priority): &(&str, &str, u8)| {
        let format = if *name == "Name" { "name" } else { "" };
        json!({
            "name": name,
            "type": kind,
            "format": format,
            "description": format!("{name} of the object"),
            "priority": priority,
        })
    };
    columns.iter().map(column).collect()
}

fn cells(resource: Resource, object: &Value) -> Vec<Value> {
    let name = object["metadata"]["name"].clone();
    let created = object["metadata"]["creationTimestamp"]
        .as_str()
        .and_then(clock::parse);
    let age = created.map_or("<unknown>".to_owned(), |created| {
        clock::age(clock::now().as_secs().saturating_sub(created))
    });
    match resource {
        Resource::ConfigMaps => {
            let count = |field: &str| object[field].as_object().map_or(0, |data| data.len());
            vec![name, json!(count("data") + count("binaryData")), json!(age)]
        }
        Resource::Namespaces => vec![name, object["status"]["phase"].clone(), json!(age)],
        Resource::Pods => pod_cells(name, object, &age),
    }
}

fn pod_cells(name: Value, pod: &Value, age: &str) -> Vec<Value> {
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let ready = statuses
        .iter()
        .filter(|status| status["ready"] == true)
        .count();
    let restarts: u64 = statuses
        .iter()
        .filter_map(|status| status["restartCount"].as_u64())
        .sum();
    let containers = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    let text = |value: &Value| json!(value.as_str().unwrap_or("<none>"));
    vec![
        name,
        json!(format!("{ready}/{containers}")),
        text(&pod["status"]["phase"]),
        json!(restarts.to_string()),
        json!(age),
        text(&pod["status"]["podIP"]),
        text(&pod["spec"]["nodeName"]),
        json!("<none>"),
        json!("<none>"),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::pod::pod;
    use super::*;

    #[test]
    fn chooses_the_first_view_that_it_has() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                       application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let view = |accept| View::accepted(accept, None);
        assert_eq!(view(kubectl), Some(View::Table(RowObject::Metadata)));
        assert_eq!(
            View::accepted(kubectl, Some("Object")),
            Some(View::Table(RowObject::Whole))
        );
        assert_eq!(
            view("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"),
            Some(View::Whole)
        );
        assert_eq!(
            view("application/vnd.kubernetes.protobuf,application/json"),
            Some(View::Whole)
        );
        assert_eq!(
            view("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            Some(View::Metadata)
        );
        assert_eq!(view("*/*"), Some(View::Whole));
        assert_eq!(view(""), Some(View::Whole));
        assert_eq!(view("application/vnd.kubernetes.protobuf"), None);
    }

    #[test]
    fn a_pod_has_a_cell_for_each_column() {
        let pod = pod("web-0", 7);
        let table = table(Resource::Pods, [&pod], "12", RowObject::Metadata, true);
        let cells = table["rows"][0]["cells"].as_array().unwrap();
        assert_eq!(
            cells.len(),
            table["columnDefinitions"].as_array().unwrap().len()
        );
        assert_eq!(
            cells[..4],
            [json!("web-0"), json!("1/1"), json!("Running"), json!("0")]
        );
        assert_eq!(cells[6], "node-1");
        let object = &table["rows"][0]["object"];
        assert_eq!(object["kind"], "PartialObjectMetadata");
        assert_eq!(object["metadata"]["name"], "web-0");
        assert!(object.get("spec").is_none());
        assert_eq!(table["metadata"]["resourceVersion"], "12");
    }

    #[test]
    fn later_tables_of_a_watch_have_no_head() {
        let map = json!({"metadata": {"name": "a"}, "data": {"x": ""}, "binaryData": {"y": ""}});
        let table = table(Resource::ConfigMaps, [&map], "1", RowObject::None, false);
        assert_eq!(table["columnDefinitions"], Value::Null);
        assert_eq!(table["rows"], json!([{"cells": ["a", 2, "<unknown>"]}]));
    }
}
