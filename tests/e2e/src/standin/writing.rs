//! Create, update, patch and delete.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::body;
use super::check;
use super::clock;
use super::cluster::Cluster;
use super::failure::Failure;
use super::managed::{self, Manager};
use super::patch;
use super::pod::uid;
use super::query::{Query, Selector};
use super::reading::{Answer, many, one};
use super::resource::Resource;
use super::store::{Key, Store};
use super::table::View;

/// The formats of patches.
const PATCHES: &str = "application/json-patch+json, application/merge-patch+json, \
                       application/apply-patch+yaml, application/strategic-merge-patch+json";

/// A request that writes.
#[derive(Debug)]
pub(super) struct Write<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) query: &'a Query,
    pub(super) view: View,
    pub(super) content_type: &'a str,
    pub(super) user_agent: &'a str,
    pub(super) body: Bytes,
}

impl Write<'_> {
    /// Makes an object in a namespace, or one that lives in none.
    pub(super) fn create(&self, resource: Resource, namespace: Option<&str>) -> Answer {
        let mut object = check::decode(self.content_type, &self.body)?;
        check::form(resource, &mut object, self.query)?;
        if object["metadata"]
            .get("resourceVersion")
            .is_some_and(|version| version != "")
        {
            let why = "resourceVersion should not be set on objects to be created";
            return Err(Failure::bad_request(why));
        }
        let dry = self.query.dry_run()?;
        let created = self.cluster.write(|store| {
            let name = new_name(&object, store.version());
            let key = Key::new(resource, namespace.unwrap_or_default(), &name);
            self.insert(store, key, object, dry)
        })?;
        Ok(one(StatusCode::CREATED, resource, &created, self.view))
    }

    fn insert(
        &self,
        store: &mut Store,
        key: Key,
        mut object: Value,
        dry: bool,
    ) -> Result<Arc<Value>, Failure> {
        check::name(key.resource, &key.name)?;
        same_namespace(&object, &key)?;
        if key.resource.namespaced() {
            let home = Key::new(Resource::Namespaces, "", &key.namespace);
            if store.get(&home).is_none() {
                return Err(Failure::not_found(Resource::Namespaces, &key.namespace));
            }
            object["metadata"]["namespace"] = json!(key.namespace);
        }
        if store.get(&key).is_some() {
            return Err(Failure::already_exists(key.resource, &key.name));
        }
        let manager = self.manager();
        object["metadata"]["name"] = json!(key.name);
        object["metadata"]["uid"] = json!(uid(store.version() + 1));
        object["metadata"]["creationTimestamp"] = json!(clock::rfc3339(manager.now));
        if media_is_apply(self.content_type) {
            let config = object.clone();
            managed::apply(&manager, &mut object, &config);
        } else {
            managed::note_update(&manager, &Value::Null, &mut object);
        }
        key.resource.complete(&mut object);
        Ok(if dry {
            Arc::new(object)
        } else {
            store.put(key, object)
        })
    }

    /// Replaces an object.
    pub(super) fn update(&self, key: &Key) -> Answer {
        let mut object = check::decode(self.content_type, &self.body)?;
        check::form(key.resource, &mut object, self.query)?;
        same_name(&object, key)?;
        same_namespace(&object, key)?;
        let dry = self.query.dry_run()?;
        let updated = self.cluster.write(|store| {
            let current = store.get(key).map(Arc::clone);
            let current = current.ok_or_else(|| Failure::not_found(key.resource, &key.name))?;
            if object["metadata"].get("managedFields").is_none() {
                object["metadata"]["managedFields"] = current["metadata"]["managedFields"].clone();
            }
            managed::note_update(&self.manager(), &current, &mut object);
            replace(store, key, &current, object, dry)
        })?;
        Ok(one(StatusCode::OK, key.resource, &updated, self.view))
    }

    /// Patches an object; an apply makes it if it is missing.
    pub(super) fn patch(&self, key: &Key) -> Answer {
        let apply = media_is_apply(self.content_type);
        if apply && self.query.get("fieldManager").is_none() {
            let why = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is \
                       required for apply patch";
            return Err(Failure::bad_patch(why));
        }
        let mut patch = self.read_patch()?;
        if apply {
            check::form(key.resource, &mut patch, self.query)?;
            same_name(&patch, key)?;
            same_namespace(&patch, key)?;
        }
        let dry = self.query.dry_run()?;
        let (status, object) =
            self.cluster
                .write(|store| match store.get(key).map(Arc::clone) {
                    Some(current) => {
                        let patched = self.patched(key, &current, &patch)?;
                        Ok((StatusCode::OK, replace(store, key, &current, patched, dry)?))
                    }
                    None if apply && key.resource.allows(super::resource::Verb::Create) => Ok((
                        StatusCode::CREATED,
                        self.insert(store, key.clone(), patch, dry)?,
                    )),
                    None => Err(Failure::not_found(key.resource, &key.name)),
                })?;
        Ok(one(status, key.resource, &object, self.view))
    }

    fn read_patch(&self) -> Result<Value, Failure> {
        match check::media(self.content_type) {
            "application/apply-patch+yaml" => check::json(&self.body).map_err(|_| {
                Failure::bad_request(
                    "error decoding YAML: this stand-in reads apply patches in JSON only",
                )
            }),
            "application/json-patch+json"
            | "application/merge-patch+json"
            | "application/strategic-merge-patch+json" => check::json(&self.body),
            _ => Err(Failure::unsupported_media_type(PATCHES)),
        }
    }

    fn patched(&self, key: &Key, current: &Value, patch: &Value) -> Result<Value, Failure> {
        let mut object = current.clone();
        if media_is_apply(self.content_type) {
            managed::apply(&self.manager(), &mut object, patch);
            for field in ["resourceVersion", "uid"] {
                if let Some(value) = patch["metadata"].get(field) {
                    object["metadata"][field] = value.clone();
                }
            }
            return Ok(object);
        }
        if check::media(self.content_type) == "application/json-patch+json" {
            patch::json_patch(&mut object, patch)?;
        } else {
            patch::merge(&mut object, patch);
        }
        check::form(key.resource, &mut object, self.query)?;
        same_name(&object, key)?;
        managed::note_update(&self.manager(), current, &mut object);
        Ok(object)
    }

    /// Removes an object at once; a namespace with all that is in it.
    pub(super) fn delete(&self, key: &Key) -> Answer {
        let options = self.delete_options()?;
        let removed = self.cluster.write(|store| {
            let current = store.get(key).map(Arc::clone);
            let current = current.ok_or_else(|| Failure::not_found(key.resource, &key.name))?;
            check_preconditions(key, &current, &options.preconditions)?;
            if !options.dry {
                remove(store, key);
            }
            Ok(current)
        })?;
        let status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {
                "name": key.name,
                "kind": key.resource.plural(),
                "uid": removed["metadata"]["uid"],
            },
        });
        Ok(body::json(StatusCode::OK, &status))
    }

    /// Removes all objects that the selectors name, and answers with them.
    pub(super) fn delete_collection(&self, resource: Resource, namespace: Option<&str>) -> Answer {
        let options = self.delete_options()?;
        let selector = Selector::parse(self.query)?;
        let (removed, version) = self.cluster.write(|store| {
            let keys = store.keys_where(resource, namespace, |object| selector.matches(object));
            let objects: Vec<_> = keys
                .iter()
                .filter_map(|key| store.get(key).cloned())
                .collect();
            if !options.dry {
                keys.iter().for_each(|key| remove(store, key));
            }
            (objects, store.version())
        });
        Ok(many(
            resource,
            removed.iter().map(Arc::as_ref),
            version,
            self.view,
        ))
    }

    fn delete_options(&self) -> Result<DeleteOptions, Failure> {
        let mut options = match self.body.is_empty() {
            true => Value::Null,
            false => check::decode(self.content_type, &self.body)?,
        };
        let in_body = options["dryRun"]
            .as_array()
            .is_some_and(|stages| !stages.is_empty());
        Ok(DeleteOptions {
            dry: self.query.dry_run()? || in_body,
            preconditions: options
                .get_mut("preconditions")
                .map(Value::take)
                .unwrap_or_default(),
        })
    }

    fn manager(&self) -> Manager {
        let program = self
            .user_agent
            .split('/')
            .next()
            .filter(|name| !name.is_empty());
        let name = self
            .query
            .get("fieldManager")
            .or(program)
            .unwrap_or("unknown");
        Manager {
            name: name.to_owned(),
            now: clock::now(),
        }
    }
}

/// What a delete asks for.
#[derive(Debug)]
struct DeleteOptions {
    dry: bool,
    preconditions: Value,
}

fn media_is_apply(content_type: &str) -> bool {
    check::media(content_type) == "application/apply-patch+yaml"
}

/// The name of a new object, which may be asked for by its beginning only.
fn new_name(object: &Value, version: u64) -> String {
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .filter(|text| !text.is_empty())
    };
    match (text("name"), text("generateName")) {
        (Some(name), _) => name.to_owned(),
        (None, Some(start)) => format!("{start}{:05}", version + 1),
        (None, None) => String::new(),
    }
}

fn same_name(object: &Value, key: &Key) -> Result<(), Failure> {
    match object["metadata"]["name"].as_str() {
        Some(name) if name != key.name => Err(Failure::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            key.name
        ))),
        _ => Ok(()),
    }
}

fn same_namespace(object: &Value, key: &Key) -> Result<(), Failure> {
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) if !namespace.is_empty() && namespace != key.namespace => {
            Err(Failure::bad_request(
                "the namespace of the provided object does not match the namespace sent on the \
                 request",
            ))
        }
        _ => Ok(()),
    }
}

/// Puts the new state of an object in the place of the current one. A write that changes nothing
/// makes no new version.
fn replace(
    store: &mut Store,
    key: &Key,
    current: &Arc<Value>,
    mut object: Value,
    dry: bool,
) -> Result<Arc<Value>, Failure> {
    let text = |object: &Value, field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let version = text(&object, "resourceVersion");
    if !version.is_empty() && version != text(current, "resourceVersion") {
        return Err(Failure::modified(key.resource, &key.name));
    }
    check_preconditions(key, current, &json!({"uid": text(&object, "uid")}))?;
    for field in [
        "creationTimestamp",
        "name",
        "namespace",
        "resourceVersion",
        "uid",
    ] {
        if let Some(value) = current["metadata"].get(field) {
            object["metadata"][field] = value.clone();
        }
    }
    key.resource.complete(&mut object);
    Ok(match (object == **current, dry) {
        (true, _) => Arc::clone(current),
        (false, true) => Arc::new(object),
        (false, false) => store.put(key.clone(), object),
    })
}

fn check_preconditions(key: &Key, current: &Value, conditions: &Value) -> Result<(), Failure> {
    for (field, name) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let wanted = conditions[field].as_str().unwrap_or_default();
        let found = current["metadata"][field].as_str().unwrap_or_default();
        if !wanted.is_empty() && wanted != found {
            let why = format!(
                "Precondition failed: {name} in precondition: {wanted}, {name} in object meta: \
                 {found}"
            );
            return Err(Failure::conflict(key.resource, &key.name, &why));
        }
    }
    Ok(())
}

fn remove(store: &mut Store, key: &Key) {
    store.remove(key);
    if key.resource == Resource::Namespaces {
        store
            .keys_in(&key.name)
            .iter()
            .for_each(|key| drop(store.remove(key)));
    }
}
