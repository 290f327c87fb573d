//! The state behind the API: the objects, the logs of the pods, and a signal for every change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::exec::Workload;
use super::logs::Log;
use super::pod::{self, NAMESPACE};
use super::resource::Resource;
use super::store::{Key, Store};
use super::{Error, clock};

/// The annotation that a touch changes.
const TOUCHED: &str = "standin.example/touched";

/// All that clients can see.
#[derive(Debug)]
pub(super) struct Cluster {
    state: Mutex<State>,
    /// The version of the latest change, to wake those who watch.
    news: watch::Sender<u64>,
    log_lines: usize,
    workload: Workload,
}

#[derive(Debug)]
struct State {
    store: Store,
    /// By the name of the pod in [`NAMESPACE`].
    logs: BTreeMap<String, Arc<Log>>,
}

impl Cluster {
    /// A cluster with its namespaces and nothing else.
    pub(super) fn new(watch_history: usize, log_lines: usize) -> Self {
        let mut store = Store::new(watch_history);
        for name in [NAMESPACE, "kube-system"] {
            let mut object = json!({"metadata": {
                "name": name,
                "uid": pod::uid(store.version() + 1),
                "creationTimestamp": clock::rfc3339(clock::now()),
            }});
            Resource::Namespaces.complete(&mut object);
            store.put(Key::new(Resource::Namespaces, "", name), object);
        }
        let news = watch::Sender::new(store.version());
        Self {
            state: Mutex::new(State {
                store,
                logs: BTreeMap::new(),
            }),
            news,
            log_lines,
            workload: Workload::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the objects.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.lock().store)
    }

    /// Changes objects, then wakes those who watch.
    pub(super) fn write<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        self.change(|state| change(&mut state.store))
    }

    /// Changes the state, ends the logs and the processes of pods that are gone, and wakes those
    /// who watch.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let before = state.store.version();
        let result = change(&mut state);
        let State { store, logs } = &mut *state;
        logs.retain(|name, log| {
            let lives = store.get(&pod_key(name)).is_some();
            if !lives {
                log.end();
                self.workload.pod_gone(name);
            }
            lives
        });
        let version = store.version();
        drop(state);
        if version != before {
            self.news.send_replace(version);
        }
        result
    }

    /// To be woken by changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// The log of a pod.
    pub(super) fn log(&self, name: &str) -> Option<Arc<Log>> {
        self.lock().logs.get(name).map(Arc::clone)
    }

    /// The processes of the pods.
    pub(super) fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Adds a running pod with an empty log.
    pub(super) fn add_pod(&self, name: &str) -> Result<(), Error> {
        self.change(|State { store, logs }| {
            let key = pod_key(name);
            if store.get(&key).is_some() {
                return Err(Error::PodExists(name.to_owned()));
            }
            let object = pod::pod(name, store.version() + 1);
            store.put(key, object);
            logs.insert(name.to_owned(), Arc::new(Log::new(self.log_lines)));
            Ok(())
        })
    }

    /// Changes an annotation of a pod.
    pub(super) fn touch_pod(&self, name: &str) -> Result<(), Error> {
        self.change_pod(name, |object, version| {
            object["metadata"]["annotations"][TOUCHED] = json!(version.to_string());
        })
    }

    /// Starts the own process of a pod, and tells of it in the pod, where kubectl looks before it
    /// attaches.
    pub(super) fn set_main(&self, name: &str, argv: &[String], tty: bool) -> Result<(), Error> {
        let missing = self.read(|store| store.get(&pod_key(name)).is_none());
        if missing {
            return Err(Error::NoSuchPod(name.to_owned()));
        }
        let started = self.workload.set_main(name, argv, tty);
        started.map_err(|source| Error::Start {
            pod: name.to_owned(),
            source,
        })?;
        let changed = self.change_pod(name, |object, _| {
            let container = &mut object["spec"]["containers"][0];
            container["command"] = json!(argv);
            container["stdin"] = json!(true);
            container["tty"] = json!(tty);
        });
        // It may have been deleted meanwhile.
        changed.inspect_err(|_| self.workload.pod_gone(name))
    }

    /// Changes a pod, given the version that it will have.
    fn change_pod(&self, name: &str, change: impl FnOnce(&mut Value, u64)) -> Result<(), Error> {
        self.write(|store| {
            let key = pod_key(name);
            let current = store
                .get(&key)
                .ok_or_else(|| Error::NoSuchPod(name.to_owned()))?;
            let mut object = Value::clone(current);
            change(&mut object, store.version() + 1);
            store.put(key, object);
            Ok(())
        })
    }

    /// Removes a pod at once, and ends its log.
    pub(super) fn delete_pod(&self, name: &str) -> Result<(), Error> {
        let removed = self.write(|store| store.remove(&pod_key(name)));
        removed
            .map(drop)
            .ok_or_else(|| Error::NoSuchPod(name.to_owned()))
    }
}

fn pod_key(name: &str) -> Key {
    Key::new(Resource::Pods, NAMESPACE, name)
}
