//! What the path of a request asks for, and whose token it carries.

use http::{HeaderMap, header};

/// The part of the controller that a path belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Route<'a> {
    /// Where agents connect.
    Agent,
    /// A cluster's Kubernetes API.
    Cluster {
        /// Id or name.
        cluster: &'a str,
        /// What the cluster is asked, beginning with `/`.
        path: &'a str,
    },
    /// Whether the controller runs.
    Health,
    /// Nothing.
    None,
}

impl<'a> Route<'a> {
    pub(crate) fn of(path: &'a str) -> Self {
        match path {
            "/api/v1/clusters/agent/ws" | "/ws" => return Self::Agent,
            "/healthz" | "/readyz" => return Self::Health,
            _ => {}
        }
        let Some(rest) = path.strip_prefix("/clusters/") else {
            return Self::None;
        };
        let (cluster, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        if cluster.is_empty() {
            return Self::None;
        }
        Self::Cluster { cluster, path }
    }
}

/// The request's bearer token: exactly one `Authorization`, its scheme in any case.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Whether a header lists `token`, as `Connection` and `Upgrade` do.
pub(crate) fn lists(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter();
    let mut tokens = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tokens.any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn paths_are_matched_by_segment() {
        for (path, route) in [
            ("/api/v1/clusters/agent/ws", Route::Agent),
            ("/ws", Route::Agent),
            ("/ws/", Route::None),
            ("/healthz", Route::Health),
            ("/readyz", Route::Health),
            ("/healthz/x", Route::None),
            ("", Route::None),
            ("/", Route::None),
            ("/clusters", Route::None),
            ("/clusters/", Route::None),
            ("/clusters//api", Route::None),
            ("/clustersx/a/api", Route::None),
            ("/Clusters/a/api", Route::None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn the_rest_of_a_clusters_path_stays_as_it_is() {
        for (path, cluster, rest) in [
            ("/clusters/a", "a", "/"),
            ("/clusters/a/", "a", "/"),
            ("/clusters/a/api/v1", "a", "/api/v1"),
            ("/clusters/a//api/%2e%2E/", "a", "//api/%2e%2E/"),
            ("/clusters/../api", "..", "/api"),
        ] {
            let expected = Route::Cluster {
                cluster,
                path: rest,
            };
            assert_eq!(Route::of(path), expected, "{path}");
        }
    }

    #[test]
    fn a_bearer_token_is_one_and_its_scheme_has_any_case() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            bearer(&headers).map(String::from)
        };
        for value in ["Bearer t", "bearer t", "BEARER  t "] {
            assert_eq!(of(&[value]).as_deref(), Some("t"), "{value}");
        }
        for values in [
            &[][..],
            &["Basic t"],
            &["Bearer"],
            &["Bearer "],
            &["t"],
            &["Bearer t", "Bearer t"],
        ] {
            assert_eq!(of(values), None, "{values:?}");
        }
    }

    #[test]
    fn tokens_of_a_header_compare_without_case() {
        let mut headers = HeaderMap::new();
        headers.append(
            "connection",
            HeaderValue::from_static("keep-alive, UPGRADE"),
        );
        assert!(lists(&headers, header::CONNECTION, "upgrade"));
        assert!(!lists(&headers, header::CONNECTION, "grade"));
        assert!(!lists(&headers, header::UPGRADE, "websocket"));
    }
}
