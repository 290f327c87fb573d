//! Watches: the changes of a resource from a version on, as a stream of events. A watch keeps no
//! queue of its own; it reads the store's history, and ends with 410 when it falls behind that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::failure::Failure;
use super::query::{Query, Selector};
use super::resource::Resource;
use super::store::{Change, Store};
use super::table::{View, metadata_only, table};

/// The annotation of the bookmark that ends the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// One watch.
#[derive(Debug)]
pub(super) struct Watcher {
    cluster: Arc<Cluster>,
    news: watch::Receiver<u64>,
    scope: Scope,
    view: View,
    /// The state at the beginning, for a watch that asked for it.
    initial: VecDeque<(&'static str, Arc<Value>)>,
    /// All changes up to this version are told.
    version: u64,
    deadline: Option<Instant>,
    /// Whether an event has been told, so that tables need no head any more.
    told: bool,
    ended: bool,
}

/// What is watched.
#[derive(Debug)]
struct Scope {
    resource: Resource,
    namespace: Option<String>,
    selector: Selector,
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    object: &'a Value,
}

impl Watcher {
    /// Begins to watch as the query says.
    pub(super) fn new(
        cluster: Arc<Cluster>,
        resource: Resource,
        namespace: Option<String>,
        query: &Query,
        view: View,
    ) -> Result<Self, Failure> {
        let scope = Scope {
            resource,
            namespace,
            selector: Selector::parse(query)?,
        };
        let from = start_version(query)?;
        let timeout = query
            .number("timeoutSeconds")?
            .filter(|seconds| *seconds > 0);
        let streaming_list = query.flag("sendInitialEvents");
        let with_state = match query.get("sendInitialEvents") {
            Some(_) => streaming_list,
            None => from.is_none(),
        };
        let (version, initial) = cluster.read(|store| match with_state {
            true => (store.version(), scope.state(store, streaming_list)),
            false => (from.unwrap_or(store.version()), VecDeque::new()),
        });
        Ok(Self {
            news: cluster.subscribe(),
            cluster,
            scope,
            view,
            initial,
            version,
            deadline: timeout
                .and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds))),
            told: false,
            ended: false,
        })
    }

    /// The next event, in the form in which it is sent.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            if let Some((kind, object)) = self.initial.pop_front() {
                return Some(self.event(kind, &object));
            }
            match self.step() {
                Step::Event(kind, object) => return Some(self.event(kind, &object)),
                Step::Failed(failure) => {
                    self.ended = true;
                    return Some(line("ERROR", &failure.to_value()));
                }
                Step::Skip => {}
                Step::Wait => self.wait().await?,
            }
        }
        None
    }

    fn step(&mut self) -> Step {
        self.news.mark_unchanged();
        let (cluster, scope) = (&self.cluster, &self.scope);
        let (version, step) = cluster.read(|store| {
            match store.next_after(self.version, |key| {
                key.resource == scope.resource
                    && scope
                        .namespace
                        .as_ref()
                        .is_none_or(|namespace| key.namespace == *namespace)
            }) {
                Ok(Some(change)) => (change.version, scope.event(change)),
                Ok(None) => (store.version().max(self.version), Step::Wait),
                Err(_) => {
                    let failure = Failure::expired(self.version, store.oldest());
                    (self.version, Step::Failed(failure))
                }
            }
        });
        self.version = version;
        step
    }

    /// Waits for a change; `None` when the time of the watch is over.
    async fn wait(&mut self) -> Option<()> {
        match self.deadline {
            None => self.news.changed().await.ok(),
            Some(deadline) => tokio::time::timeout_at(deadline, self.news.changed())
                .await
                .ok()?
                .ok(),
        }
    }

    fn event(&mut self, kind: &'static str, object: &Value) -> Bytes {
        let version = object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        match self.view {
            View::Whole => line(kind, object),
            View::Metadata => line(kind, &metadata_only(object)),
            View::Table(row_object) => {
                let rows = (kind != "BOOKMARK").then_some(object);
                let resource = self.scope.resource;
                let head = !std::mem::replace(&mut self.told, true);
                line(kind, &table(resource, rows, version, row_object, head))
            }
        }
    }
}

#[derive(Debug)]
enum Step {
    Event(&'static str, Arc<Value>),
    /// A change of an object that is not selected, neither before nor after.
    Skip,
    Wait,
    Failed(Failure),
}

impl Scope {
    /// The present state as events; a streaming list ends it with a bookmark.
    fn state(&self, store: &Store, bookmark: bool) -> VecDeque<(&'static str, Arc<Value>)> {
        let objects = store.list(self.resource, self.namespace.as_deref());
        let selected = objects
            .into_iter()
            .filter(|object| self.selector.matches(object));
        let mut events: VecDeque<_> = selected.map(|object| ("ADDED", object)).collect();
        if bookmark {
            let object = json!({
                "kind": self.resource.kind(),
                "apiVersion": "v1",
                "metadata": {
                    "resourceVersion": store.version().to_string(),
                    "annotations": {INITIAL_EVENTS_END: "true"},
                },
            });
            events.push_back(("BOOKMARK", Arc::new(object)));
        }
        events
    }

    /// A change as those see it who watch a selection: to them an object that is selected no
    /// longer is deleted.
    fn event(&self, change: &Change) -> Step {
        let selected = |object: &Option<Arc<Value>>| {
            object
                .as_ref()
                .filter(|object| self.selector.matches(object))
                .map(Arc::clone)
        };
        match (selected(&change.before), selected(&change.after)) {
            (None, Some(after)) => Step::Event("ADDED", after),
            (Some(_), Some(after)) => Step::Event("MODIFIED", after),
            (Some(before), None) => {
                let mut last = Value::clone(&before);
                last["metadata"]["resourceVersion"] = json!(change.version.to_string());
                Step::Event("DELETED", Arc::new(last))
            }
            (None, None) => Step::Skip,
        }
    }
}

/// The version after which the watch begins; `None` for the present state first.
fn start_version(query: &Query) -> Result<Option<u64>, Failure> {
    let Some(text) = query.get("resourceVersion") else {
        return Ok(None);
    };
    let wrong = |_| Failure::bad_request(format!("invalid resource version \"{text}\""));
    let version: u64 = text.parse().map_err(wrong)?;
    Ok((version > 0).then_some(version))
}

fn line(kind: &'static str, object: &Value) -> Bytes {
    let mut text = serde_json::to_vec(&Event { kind, object }).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::super::table::RowObject;
    use super::*;
    use futures_util::FutureExt as _;

    fn cluster() -> Arc<Cluster> {
        let cluster = Cluster::new(4, 4);
        cluster.add_pod("web-0").unwrap();
        cluster.add_pod("db-0").unwrap();
        Arc::new(cluster)
    }

    fn watch(cluster: &Arc<Cluster>, query: &str, view: View) -> Watcher {
        let query = Query::parse(query);
        Watcher::new(Arc::clone(cluster), Resource::Pods, None, &query, view).unwrap()
    }

    /// The kind and the name of the next event, if it is there.
    fn next(watcher: &mut Watcher) -> Option<(String, String)> {
        let event = watcher.next().now_or_never()?.expect("not the end");
        let event: Value = serde_json::from_slice(&event).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Some((
            text(&event["type"]),
            text(&event["object"]["metadata"]["name"]),
        ))
    }

    fn pair(kind: &str, name: &str) -> Option<(String, String)> {
        Some((kind.to_owned(), name.to_owned()))
    }

    #[test]
    fn tells_the_state_and_then_the_changes() {
        let cluster = cluster();
        let mut watcher = watch(&cluster, "", View::Whole);
        assert_eq!(next(&mut watcher), pair("ADDED", "db-0"));
        assert_eq!(next(&mut watcher), pair("ADDED", "web-0"));
        assert_eq!(next(&mut watcher), None);
        cluster.touch_pod("web-0").unwrap();
        cluster.delete_pod("web-0").unwrap();
        assert_eq!(next(&mut watcher), pair("MODIFIED", "web-0"));
        assert_eq!(next(&mut watcher), pair("DELETED", "web-0"));
        assert_eq!(next(&mut watcher), None);
    }

    #[test]
    fn begins_after_the_version_of_a_list() {
        let cluster = cluster();
        let version = cluster.read(Store::version);
        cluster.touch_pod("db-0").unwrap();
        let query = format!("resourceVersion={version}&labelSelector=app%3Dweb");
        let mut selected = watch(&cluster, &query, View::Whole);
        assert_eq!(next(&mut selected), None);
        let mut all = watch(&cluster, &format!("resourceVersion={version}"), View::Whole);
        assert_eq!(next(&mut all), pair("MODIFIED", "db-0"));
        cluster.touch_pod("web-0").unwrap();
        assert_eq!(next(&mut selected), pair("MODIFIED", "web-0"));
    }

    #[test]
    fn a_streaming_list_ends_with_a_bookmark() {
        let cluster = cluster();
        let mut watcher = watch(
            &cluster,
            "sendInitialEvents=true&resourceVersion=",
            View::Whole,
        );
        assert_eq!(next(&mut watcher), pair("ADDED", "db-0"));
        assert_eq!(next(&mut watcher), pair("ADDED", "web-0"));
        assert_eq!(next(&mut watcher), pair("BOOKMARK", ""));
    }

    #[test]
    fn too_old_a_version_is_an_error_event_and_the_end() {
        let cluster = cluster();
        (0..4).for_each(|_| cluster.touch_pod("web-0").unwrap());
        let mut watcher = watch(&cluster, "resourceVersion=1", View::Whole);
        let event = watcher.next().now_or_never().unwrap().unwrap();
        let event: Value = serde_json::from_slice(&event).unwrap();
        assert_eq!(event["type"], "ERROR");
        assert_eq!(event["object"]["code"], 410);
        assert_eq!(event["object"]["reason"], "Expired");
        assert!(watcher.next().now_or_never().unwrap().is_none());
    }

    #[test]
    fn a_watch_that_sleeps_through_other_changes_does_not_fall_behind() {
        let cluster = cluster();
        let mut watcher = watch(&cluster, "labelSelector=app%3Dweb", View::Whole);
        assert_eq!(next(&mut watcher), pair("ADDED", "web-0"));
        for _ in 0..3 {
            assert_eq!(next(&mut watcher), None);
            (0..3).for_each(|_| cluster.touch_pod("db-0").unwrap());
        }
        assert_eq!(next(&mut watcher), None);
    }

    #[test]
    fn only_the_first_table_has_a_head() {
        let cluster = cluster();
        let mut watcher = watch(&cluster, "", View::Table(RowObject::Metadata));
        let mut table = || {
            let event = watcher.next().now_or_never().unwrap().unwrap();
            serde_json::from_slice::<Value>(&event).unwrap()["object"].take()
        };
        assert!(table()["columnDefinitions"].is_array());
        assert!(table()["columnDefinitions"].is_null());
    }

    #[tokio::test]
    async fn ends_when_its_time_is_over() {
        let cluster = cluster();
        let query = "timeoutSeconds=60&sendInitialEvents=false";
        let mut watcher = watch(&cluster, query, View::Whole);
        assert!(watcher.deadline > Some(Instant::now() + Duration::from_secs(30)));
        watcher.deadline = Some(Instant::now());
        assert!(watcher.next().await.is_none());
    }
}
