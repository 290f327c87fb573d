//! What a path means.

use super::query::decode;
use super::resource::Resource;

/// A place of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `/version`.
    Version,
    /// `/healthz`, `/livez`, `/readyz`.
    Health,
    /// `/api`: the versions of the core group.
    CoreVersions,
    /// `/apis`: the groups, of which there are none.
    Groups,
    /// `/api/v1`: the resources.
    Resources,
    /// `/openapi/v2`.
    OpenApiV2,
    /// `/openapi/v3`: the list of the documents.
    OpenApiIndex,
    /// `/openapi/v3/api/v1`: the one document.
    OpenApiV3,
    /// `/api/v1/echo`: the request's body comes back.
    Echo,
    /// `/api/v1/bytes`: as many bytes as asked for.
    Bytes,
    /// All objects of a resource, of one namespace or of all.
    Collection {
        resource: Resource,
        namespace: Option<String>,
    },
    /// One object; the namespace is empty for a resource that lives in none.
    Object {
        resource: Resource,
        namespace: String,
        name: String,
    },
    /// The log of a pod.
    Log { namespace: String, pod: String },
    /// A stream to a process or a port of a pod.
    Stream {
        action: Action,
        namespace: String,
        pod: String,
    },
}

/// What a stream goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// The pod's own process.
    Attach,
    /// A new process.
    Exec,
    /// Ports of the pod.
    PortForward,
}

impl Action {
    /// The one of that name.
    fn of(name: &str) -> Option<Self> {
        let all = [Self::Attach, Self::Exec, Self::PortForward];
        all.into_iter().find(|action| action.name() == name)
    }

    /// The name in paths and messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Exec => "exec",
            Self::PortForward => "portforward",
        }
    }
}

impl Route {
    /// The place of a path, if it is one.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let trimmed = path.strip_suffix('/').unwrap_or(path);
        let parts: Vec<_> = trimmed.strip_prefix('/')?.split('/').map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        if parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        match parts.as_slice() {
            ["version"] => Some(Self::Version),
            ["healthz" | "livez" | "readyz", ..] => Some(Self::Health),
            ["api"] => Some(Self::CoreVersions),
            ["apis"] => Some(Self::Groups),
            ["openapi", "v2"] => Some(Self::OpenApiV2),
            ["openapi", "v3"] => Some(Self::OpenApiIndex),
            ["openapi", "v3", "api", "v1"] => Some(Self::OpenApiV3),
            ["api", "v1", rest @ ..] => Self::core(rest),
            _ => None,
        }
    }

    fn core(parts: &[&str]) -> Option<Self> {
        match *parts {
            [] => Some(Self::Resources),
            ["echo"] => Some(Self::Echo),
            ["bytes"] => Some(Self::Bytes),
            ["namespaces", namespace, "pods", pod, "log"] => Some(Self::Log {
                namespace: namespace.to_owned(),
                pod: pod.to_owned(),
            }),
            ["namespaces", namespace, "pods", pod, name] => Some(Self::Stream {
                action: Action::of(name)?,
                namespace: namespace.to_owned(),
                pod: pod.to_owned(),
            }),
            ["namespaces", namespace, plural] => {
                let resource = namespaced(plural)?;
                Some(Self::Collection {
                    resource,
                    namespace: Some(namespace.to_owned()),
                })
            }
            ["namespaces", namespace, plural, name] => Some(Self::Object {
                resource: namespaced(plural)?,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            ["namespaces", name] => Some(Self::Object {
                resource: Resource::Namespaces,
                namespace: String::new(),
                name: name.to_owned(),
            }),
            [plural] => Some(Self::Collection {
                resource: Resource::of(plural)?,
                namespace: None,
            }),
            _ => None,
        }
    }
}

fn namespaced(plural: &str) -> Option<Resource> {
    Resource::of(plural).filter(|resource| resource.namespaced())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_places() {
        let object = |resource, namespace: &str, name: &str| Route::Object {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let collection = |resource, namespace: Option<&str>| Route::Collection {
            resource,
            namespace: namespace.map(str::to_owned),
        };
        let cases = [
            ("/version", Some(Route::Version)),
            ("/version/", Some(Route::Version)),
            ("/readyz/ping", Some(Route::Health)),
            ("/api/v1", Some(Route::Resources)),
            ("/openapi/v3/api/v1", Some(Route::OpenApiV3)),
            ("/api/v1/pods", Some(collection(Resource::Pods, None))),
            (
                "/api/v1/namespaces",
                Some(collection(Resource::Namespaces, None)),
            ),
            (
                "/api/v1/namespaces/a",
                Some(object(Resource::Namespaces, "", "a")),
            ),
            (
                "/api/v1/namespaces/a/pods",
                Some(collection(Resource::Pods, Some("a"))),
            ),
            (
                "/api/v1/namespaces/a/configmaps/b%2e",
                Some(object(Resource::ConfigMaps, "a", "b.")),
            ),
            (
                "/api/v1/namespaces/a/pods/b/log",
                Some(Route::Log {
                    namespace: "a".to_owned(),
                    pod: "b".to_owned(),
                }),
            ),
            (
                "/api/v1/namespaces/a/pods/b/exec",
                Some(Route::Stream {
                    action: Action::Exec,
                    namespace: "a".to_owned(),
                    pod: "b".to_owned(),
                }),
            ),
            (
                "/api/v1/namespaces/a/pods/b/portforward",
                Some(Route::Stream {
                    action: Action::PortForward,
                    namespace: "a".to_owned(),
                    pod: "b".to_owned(),
                }),
            ),
            ("/api/v1/namespaces/a/pods/b/proxy", None),
            ("/api/v1/namespaces/a/configmaps/b/log", None),
            ("/api/v1/namespaces/a/namespaces", None),
            ("/api/v1/namespaces//pods", None),
            ("/api/v1/widgets", None),
            ("/apis/apps/v1", None),
            ("/", None),
        ];
        for (path, route) in cases {
            assert_eq!(Route::parse(path), route, "{path}");
        }
    }
}
