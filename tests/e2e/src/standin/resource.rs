//! The three kinds of object that are served, and what can be done with each.

use serde_json::{Value, json};

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Resource {
    ConfigMaps,
    Namespaces,
    Pods,
}

/// What the path and the method ask of a resource. Watching is a list with `watch=true`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
}

impl Resource {
    /// All of them, in the order of discovery.
    pub(super) const ALL: [Self; 3] = [Self::ConfigMaps, Self::Namespaces, Self::Pods];

    /// The name in paths and messages.
    pub(super) const fn plural(self) -> &'static str {
        match self {
            Self::ConfigMaps => "configmaps",
            Self::Namespaces => "namespaces",
            Self::Pods => "pods",
        }
    }

    /// The name of one, in lower case.
    pub(super) const fn singular(self) -> &'static str {
        match self {
            Self::ConfigMaps => "configmap",
            Self::Namespaces => "namespace",
            Self::Pods => "pod",
        }
    }

    /// The name that kubectl takes for it.
    pub(super) const fn short(self) -> &'static str {
        match self {
            Self::ConfigMaps => "cm",
            Self::Namespaces => "ns",
            Self::Pods => "po",
        }
    }

    /// The name in objects.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::ConfigMaps => "ConfigMap",
            Self::Namespaces => "Namespace",
            Self::Pods => "Pod",
        }
    }

    /// Whether its objects live in a namespace.
    pub(super) const fn namespaced(self) -> bool {
        !matches!(self, Self::Namespaces)
    }

    /// The fields of an object at its top.
    pub(super) const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::ConfigMaps => &[
                "apiVersion",
                "binaryData",
                "data",
                "immutable",
                "kind",
                "metadata",
            ],
            Self::Namespaces | Self::Pods => &["apiVersion", "kind", "metadata", "spec", "status"],
        }
    }

    /// The resource of that plural name.
    pub(super) fn of(plural: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|resource| resource.plural() == plural)
    }

    /// Whether the verb is offered. Pods are made by the test, not by the client.
    pub(super) fn allows(self, verb: Verb) -> bool {
        self != Self::Pods || !matches!(verb, Verb::Create | Verb::Update)
    }

    /// The verbs as discovery tells them.
    pub(super) fn verbs(self) -> Vec<&'static str> {
        let named = [
            (Verb::Create, "create"),
            (Verb::Delete, "delete"),
            (Verb::DeleteCollection, "deletecollection"),
            (Verb::Get, "get"),
            (Verb::List, "list"),
            (Verb::Patch, "patch"),
            (Verb::Update, "update"),
        ];
        let offered = named.into_iter().filter(|(verb, _)| self.allows(*verb));
        offered.map(|(_, name)| name).chain(["watch"]).collect()
    }

    /// The object as the server completes it when it is created.
    pub(super) fn complete(self, object: &mut Value) {
        object["apiVersion"] = json!("v1");
        object["kind"] = json!(self.kind());
        if self == Self::Namespaces {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"]["phase"] = json!("Active");
        }
    }
}
