//! Get, list and watch.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::body::{self, Body, chunks};
use super::cluster::Cluster;
use super::failure::Failure;
use super::logs::{LogOptions, LogReader};
use super::pod::{CONTAINER, NAMESPACE};
use super::query::{Query, Selector};
use super::resource::Resource;
use super::store::Key;
use super::table::{View, metadata_only, table};
use super::watching::Watcher;

/// What a handler answers.
pub(super) type Answer = Result<Response<Body>, Failure>;

#[derive(Serialize)]
struct List<'a> {
    kind: &'a str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    metadata: Value,
    items: Vec<Value>,
}

/// One object.
pub(super) fn get(cluster: &Cluster, key: &Key, view: View) -> Answer {
    let found = cluster.read(|store| store.get(key).map(Arc::clone));
    let object = found.ok_or_else(|| Failure::not_found(key.resource, &key.name))?;
    Ok(one(StatusCode::OK, key.resource, &object, view))
}

/// The answer with one object.
pub(super) fn one(
    status: StatusCode,
    resource: Resource,
    object: &Value,
    view: View,
) -> Response<Body> {
    let version = object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default();
    match view {
        View::Whole => body::json(status, object),
        View::Metadata => body::json(status, &metadata_only(object)),
        View::Table(row) => body::json(status, &table(resource, [object], version, row, true)),
    }
}

/// All objects that the selectors name. `limit` is not obeyed, as a server may do: all are given.
pub(super) fn list(
    cluster: &Cluster,
    resource: Resource,
    namespace: Option<&str>,
    query: &Query,
    view: View,
) -> Answer {
    let selector = Selector::parse(query)?;
    let (version, objects) =
        cluster.read(|store| (store.version(), store.list(resource, namespace)));
    let selected = objects
        .iter()
        .map(Arc::as_ref)
        .filter(|object| selector.matches(object));
    Ok(many(resource, selected, version, view))
}

/// The answer with many objects.
pub(super) fn many<'a>(
    resource: Resource,
    objects: impl Iterator<Item = &'a Value>,
    version: u64,
    view: View,
) -> Response<Body> {
    let version = version.to_string();
    let list = |kind: &str, api_version: &'static str, items: Vec<Value>| {
        let metadata = json!({"resourceVersion": version});
        body::json(
            StatusCode::OK,
            &List {
                kind,
                api_version,
                metadata,
                items,
            },
        )
    };
    match view {
        View::Table(row) => body::json(
            StatusCode::OK,
            &table(resource, objects, &version, row, true),
        ),
        View::Metadata => {
            let items = objects.map(metadata_only).collect();
            list("PartialObjectMetadataList", "meta.k8s.io/v1", items)
        }
        View::Whole => list(
            &format!("{}List", resource.kind()),
            "v1",
            objects.cloned().collect(),
        ),
    }
}

/// The changes from now, or from a version, on.
pub(super) fn watch(
    cluster: &Arc<Cluster>,
    resource: Resource,
    namespace: Option<String>,
    query: &Query,
    view: View,
) -> Answer {
    let watcher = Watcher::new(Arc::clone(cluster), resource, namespace, query, view)?;
    let events = chunks(watcher, |mut watcher| async {
        let event = watcher.next().await?;
        Some((Ok(event), watcher))
    });
    Ok(body::answer(StatusCode::OK, "application/json", events))
}

/// The log of a pod.
pub(super) fn log(cluster: &Cluster, namespace: &str, pod: &str, query: &Query) -> Answer {
    let log = (namespace == NAMESPACE).then(|| cluster.log(pod)).flatten();
    let log = log.ok_or_else(|| Failure::not_found(Resource::Pods, pod))?;
    if let Some(container) = query
        .get("container")
        .filter(|container| *container != CONTAINER)
    {
        let why = format!("container {container} is not valid for pod {pod}");
        return Err(Failure::bad_request(why));
    }
    if query.flag("previous") {
        let why =
            format!("previous terminated container \"{CONTAINER}\" in pod \"{pod}\" not found");
        return Err(Failure::bad_request(why));
    }
    let reader = LogReader::new(log, LogOptions::parse(query)?);
    let lines = chunks(reader, |mut reader| async {
        let chunk = reader.next().await?;
        Some((chunk, reader))
    });
    Ok(body::answer(StatusCode::OK, "text/plain", lines))
}
