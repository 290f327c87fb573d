//! The objects, their resource versions, and the latest changes for those who watch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::resource::Resource;

/// The resource version that the first object gets.
const FIRST: u64 = 101;

/// Where an object is. The namespace is empty for a resource that lives in none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) resource: Resource,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    /// The place of an object.
    pub(super) fn new(resource: Resource, namespace: &str, name: &str) -> Self {
        Self {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// One change: the object before and after it. One of the two may be missing, never both.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// The resource version that the change made.
    pub(super) version: u64,
    pub(super) key: Key,
    pub(super) before: Option<Arc<Value>>,
    /// After a removal the last state is in `before`, with the version of the removal.
    pub(super) after: Option<Arc<Value>>,
}

/// The objects and a bounded history of their changes.
#[derive(Debug)]
pub(super) struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    limit: usize,
    version: u64,
    /// The version of the newest change that is no longer in the history.
    forgotten: u64,
}

impl Store {
    /// An empty store that remembers up to `limit` changes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            limit: limit.max(1),
            version: FIRST - 1,
            forgotten: 0,
        }
    }

    /// The version of the latest change.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The oldest version from which a watch can begin.
    pub(super) fn oldest(&self) -> u64 {
        self.forgotten
    }

    /// One object.
    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// All objects of a resource, of one namespace or of all, by namespace and name.
    pub(super) fn list(&self, resource: Resource, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let wanted = |key: &Key| {
            key.resource == resource && namespace.is_none_or(|namespace| key.namespace == namespace)
        };
        let found = self.objects.iter().filter(|(key, _)| wanted(key));
        found.map(|(_, object)| Arc::clone(object)).collect()
    }

    /// The keys of all objects in a namespace.
    pub(super) fn keys_in(&self, namespace: &str) -> Vec<Key> {
        self.objects
            .keys()
            .filter(|key| key.namespace == namespace)
            .cloned()
            .collect()
    }

    /// The keys of some objects of a resource.
    pub(super) fn keys_where(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        wanted: impl Fn(&Value) -> bool,
    ) -> Vec<Key> {
        let found = self.objects.iter().filter(|(key, object)| {
            key.resource == resource
                && namespace.is_none_or(|namespace| key.namespace == namespace)
                && wanted(object)
        });
        found.map(|(key, _)| key.clone()).collect()
    }

    /// Adds or replaces an object, which gets the next version.
    pub(super) fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        self.remember(Change {
            version: self.version,
            key,
            before,
            after: Some(Arc::clone(&object)),
        });
        object
    }

    /// Removes an object; it is returned as it was.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let removed = self.objects.remove(key)?;
        self.version += 1;
        let mut last = Value::clone(&removed);
        last["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.remember(Change {
            version: self.version,
            key: key.clone(),
            before: Some(Arc::new(last)),
            after: None,
        });
        Some(removed)
    }

    /// The next change after a version, or `Err` if it might have been forgotten.
    pub(super) fn next_after(
        &self,
        version: u64,
        wanted: impl Fn(&Key) -> bool,
    ) -> Result<Option<&Change>, Forgotten> {
        if version < self.forgotten {
            return Err(Forgotten);
        }
        let from = self
            .history
            .partition_point(|change| change.version <= version);
        Ok(self
            .history
            .range(from..)
            .find(|change| wanted(&change.key)))
    }

    fn remember(&mut self, change: Change) {
        if self.history.len() == self.limit
            && let Some(oldest) = self.history.pop_front()
        {
            self.forgotten = oldest.version;
        }
        self.history.push_back(change);
    }
}

/// The history does not reach back that far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forgotten;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new(Resource::Pods, "default", name)
    }

    #[test]
    fn counts_versions_and_remembers_changes() {
        let mut store = Store::new(2);
        let start = store.version();
        let object = store.put(key("a"), json!({"metadata": {"name": "a"}}));
        assert_eq!(
            object["metadata"]["resourceVersion"],
            (start + 1).to_string()
        );
        store.put(key("b"), json!({"metadata": {"name": "b"}}));
        let first = store.next_after(start, |_| true).unwrap().unwrap();
        assert_eq!((first.version, first.before.is_none()), (start + 1, true));
        let other = store
            .next_after(start, |key| key.name == "b")
            .unwrap()
            .unwrap();
        assert_eq!(other.version, start + 2);
        assert!(store.next_after(start + 2, |_| true).unwrap().is_none());

        store.remove(&key("a")).unwrap();
        assert!(store.remove(&key("a")).is_none());
        assert_eq!(store.next_after(start, |_| true).err(), Some(Forgotten));
        assert_eq!(store.oldest(), start + 1);
        let removal = store.next_after(start + 2, |_| true).unwrap().unwrap();
        let last = removal.before.as_ref().unwrap();
        assert_eq!(last["metadata"]["resourceVersion"], (start + 3).to_string());
        assert!(removal.after.is_none());
        assert_eq!(store.list(Resource::Pods, None).len(), 1);
        assert!(store.list(Resource::Pods, Some("other")).is_empty());
    }
}
