//! The rules, by statement.

mod hostile;

use alloc::string::ToString;

use super::*;

fn pairs(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = headers.iter().map(|(n, v)| (n.to_string(), v.to_string()));
    owned.collect()
}

#[test]
fn p163_a_path_passes_byte_for_byte_or_not_at_all() {
    let path = "/api/v1/namespaces/a/services/http:web:80/proxy/a%2Fb;c=d/%C3%A4..b/";
    let head = request_head(
        "get",
        path,
        Some("a=%2f&m&z=;"),
        Vec::new(),
        IdentityPolicy::default(),
        1 << 16,
    )
    .unwrap();
    assert_eq!(head.path, path);
    assert_eq!(head.query.as_deref(), Some("a=%2f&m&z=;"));
    assert_eq!(head.method, "GET");
}

#[test]
fn p201_a_path_is_matched_by_segment() {
    for path in [
        "/api",
        "/apis/apps/v1",
        "/version",
        "/healthz",
        "/readyz/etcd",
        "/livez",
        "/openapi/v3",
    ] {
        assert_eq!(check_path(path), Ok(()), "{path}");
    }
    for path in [
        "",
        "/",
        "api",
        "/apifoo",
        "/api2/v1",
        "/metrics",
        "/API/v1",
        "/%61pi/v1",
        "//api",
        "/logs/",
    ] {
        assert_eq!(check_path(path), Err(PeerFault::Path), "{path}");
    }
}

#[test]
fn p163_what_an_upstream_might_read_differently_is_refused() {
    for path in [
        "/api/../metrics",
        "/api/..",
        "/api/./v1",
        "/api/%2e%2E/x",
        "/api/.%2e",
        "/api/..%2Fmetrics",
        "/api/a%5C..",
        "/api//v1",
        "/api/a b",
        "/api/a#b",
        "/api/a?b",
        "/api/a\\b",
        "/api/%",
        "/api/%4",
        "/api/%zz",
        "/api/%+1",
        "/api/a\r\nb",
        "/api/%00",
        "/api/%0a",
        "/api/ä",
    ] {
        assert_eq!(check_path(path), Err(PeerFault::Path), "{path}");
    }
    for query in ["a b", "a#b", "a\nb", "ä"] {
        assert_eq!(check_query(query), Err(PeerFault::Query), "{query}");
    }
}

#[test]
fn p136_a_missing_leading_slash_is_added_and_an_empty_method_is_get() {
    let head = request_head(
        "",
        "api/v1",
        None,
        Vec::new(),
        IdentityPolicy::default(),
        100,
    )
    .unwrap();
    assert_eq!((&*head.method, &*head.path), ("GET", "/api/v1"));
}

#[test]
fn methods_that_are_not_relayed() {
    for method in ["CONNECT", "trace", "GE T", "GET\r\n", "G\u{e4}T"] {
        assert_eq!(check_method(method), Err(PeerFault::Method), "{method}");
    }
    assert_eq!(check_method("patch").as_deref(), Ok("PATCH"));
}

#[test]
fn a_head_above_the_limit_is_refused() {
    let head = |limit| {
        request_head(
            "GET",
            "/api",
            None,
            pairs(&[("A", "b")]),
            IdentityPolicy::default(),
            limit,
        )
    };
    assert!(head(17).is_ok());
    assert_eq!(head(16), Err(PeerFault::HeadTooLong));
}

#[test]
fn p195_p201_connection_headers_go_whatever_their_case() {
    let headers = pairs(&[
        ("cOnnection", "X-Private, close"),
        ("x-private", "1"),
        ("UPGRADE", "h2c"),
        ("te", "trailers"),
        ("Transfer-Encoding", "chunked"),
        ("Proxy-Connection", "x"),
        ("Accept", "a"),
        ("accept", "b"),
    ]);
    let kept = upstream_headers(headers.clone(), IdentityPolicy::default()).unwrap();
    assert_eq!(kept, pairs(&[("Accept", "a"), ("accept", "b")]));
    assert_eq!(
        response_headers(200, headers),
        pairs(&[("Accept", "a"), ("accept", "b")])
    );
}

#[test]
fn p133_of_connection_headers_a_101_keeps_those_that_say_what_it_switches_to() {
    let headers = pairs(&[
        ("Connection", "upgrade, X-Hop"),
        ("UPGRADE", "websocket"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "2"),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ]);
    let kept = pairs(&[
        ("Connection", "upgrade, X-Hop"),
        ("UPGRADE", "websocket"),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ]);
    assert_eq!(response_headers(101, headers), kept);
    assert_eq!(response_headers(101, kept.clone()), kept);
}

#[test]
fn p194_p196_identity_follows_one_policy() {
    let headers = pairs(&[
        ("authorization", "Bearer user"),
        ("Impersonate-User", "root"),
        ("impersonate-extra-scopes", "x"),
        ("X-Remote-User", "root"),
        ("Cookie", "c"),
        ("Accept", "a"),
    ]);
    let names = |policy| {
        let kept = upstream_headers(headers.clone(), policy).unwrap();
        kept.into_iter().map(|(n, _)| n).collect::<Vec<_>>()
    };
    assert_eq!(names(IdentityPolicy::ServiceAccount), ["Accept"]);
    assert_eq!(
        names(IdentityPolicy::Impersonate),
        ["Impersonate-User", "impersonate-extra-scopes", "Accept"]
    );
    assert_eq!(
        names(IdentityPolicy::Caller),
        [
            "authorization",
            "Impersonate-User",
            "impersonate-extra-scopes",
            "Accept"
        ]
    );
}

#[test]
fn p194_a_clients_own_identity_never_passes_the_controller() {
    let headers = pairs(&[
        ("Authorization", "Bearer tunnel"),
        ("Impersonate-User", "root"),
        ("Impersonate-Group", "system:masters"),
        (
            "Sec-WebSocket-Protocol",
            "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0",
        ),
        ("Host", "h"),
    ]);
    let user = KubernetesUser {
        user: "jane".into(),
        groups: Vec::from(["dev".into(), "ops".into()]),
    };
    let kept = client_headers(headers.clone(), Some(&user)).unwrap();
    let expected = pairs(&[
        ("Sec-WebSocket-Protocol", "v4.channel.k8s.io"),
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Group", "ops"),
    ]);
    assert_eq!(kept, expected);
    assert_eq!(client_headers(headers, None).unwrap(), expected[..1]);
    let forged = KubernetesUser {
        user: "a\r\nb".into(),
        groups: Vec::new(),
    };
    assert_eq!(
        client_headers(Vec::new(), Some(&forged)),
        Err(PeerFault::Header)
    );
}

#[test]
fn p202_headers_that_cannot_stand_in_http_are_refused() {
    for (name, value) in [
        ("", "x"),
        ("a b", "x"),
        ("a:", "x"),
        ("A", "x\r\nB: y"),
        ("A", "\0"),
    ] {
        let refused = upstream_headers(pairs(&[(name, value)]), IdentityPolicy::default());
        assert_eq!(refused, Err(PeerFault::Header), "{name:?} {value:?}");
        assert_eq!(response_headers(200, pairs(&[(name, value)])), []);
    }
}

#[test]
fn p207_a_length_is_one_number_or_refused() {
    let of = |values: &[&str]| {
        let headers: Vec<_> = values
            .iter()
            .map(|v| ("content-length".to_string(), v.to_string()))
            .collect();
        upstream_headers(headers, IdentityPolicy::default())
    };
    assert_eq!(of(&["12"]), Ok(pairs(&[("Content-Length", "12")])));
    assert_eq!(of(&["12", "12"]), Ok(pairs(&[("Content-Length", "12")])));
    for bad in [
        &["12", "13"][..],
        &["+1"],
        &["-1"],
        &[""],
        &["1, 1"],
        &["99999999999999999999999"],
    ] {
        assert_eq!(of(bad), Err(PeerFault::Header), "{bad:?}");
    }
    let bad = pairs(&[("Content-Length", "x"), ("A", "b")]);
    assert_eq!(response_headers(200, bad), pairs(&[("A", "b")]));
}

#[test]
fn policies_have_names() {
    for policy in [
        IdentityPolicy::ServiceAccount,
        IdentityPolicy::Impersonate,
        IdentityPolicy::Caller,
    ] {
        assert_eq!(policy.as_str().parse(), Ok(policy));
    }
    assert_eq!("root".parse::<IdentityPolicy>(), Err(UnknownPolicy));
}
