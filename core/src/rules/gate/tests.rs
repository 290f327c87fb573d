use alloc::string::ToString;

use super::*;

const SECRET: &str = "base64url.bearer.authorization.k8s.io.c2VjcmV0";

fn pairs(headers: &[(&str, &str)]) -> Headers {
    let owned = headers.iter().map(|(n, v)| (n.to_string(), v.to_string()));
    owned.collect()
}

fn head(method: &str, headers: &[(&str, &str)]) -> RequestHead {
    RequestHead {
        method: method.into(),
        path: "/api/v1/pods".into(),
        query: Some("a=%2f&b".into()),
        headers: pairs(headers),
    }
}

fn gate(policy: IdentityPolicy) -> Gate {
    Gate::new(policy, 4096)
}

fn admit(method: &str, headers: &[(&str, &str)]) -> Result<Admitted, PeerFault> {
    gate(IdentityPolicy::ServiceAccount).admit(head(method, headers))
}

const WEBSOCKET: [(&str, &str); 4] = [
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "WebSocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
];

#[test]
fn p163_p201_a_head_meets_the_rules_of_a_request_in_json() {
    let headers = [
        ("Accept", "*/*"),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("TE", "trailers"),
        ("Host", "agent"),
        ("Expect", "100-continue"),
        ("Sec-WebSocket-Version", "13"),
        ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
    ];
    let admitted = admit("GET", &headers).unwrap();
    assert_eq!(admitted.head, head("GET", &[("Accept", "*/*")]));
    assert_eq!(admitted.upgrade, None);
    for (path, fault) in [
        ("/metrics", PeerFault::Path),
        ("/api/../x", PeerFault::Path),
        ("*", PeerFault::Path),
    ] {
        let asked = RequestHead {
            path: path.into(),
            ..head("GET", &[])
        };
        assert_eq!(gate(IdentityPolicy::Caller).admit(asked), Err(fault));
    }
    assert_eq!(admit("CONNECT", &[]), Err(PeerFault::Method));
    let long = "x".repeat(4096);
    assert_eq!(admit("GET", &[("A", &long)]), Err(PeerFault::HeadTooLong));
}

#[test]
fn p194_p196_identity_is_decided_by_the_policy() {
    let asked = [
        ("Authorization", "Bearer t"),
        ("Cookie", "c"),
        ("Impersonate-User", "jane"),
        ("X-Remote-User", "root"),
    ];
    for upgrade in [false, true] {
        let own = if upgrade { &WEBSOCKET[..] } else { &[] };
        let names = |policy| {
            let admitted = gate(policy).admit(head("GET", &[&asked, own].concat()));
            let admitted = admitted.unwrap();
            assert_eq!(admitted.credentials, policy.credentials());
            let names = admitted.head.headers.into_iter().map(|(name, _)| name);
            let identity = names.filter(|n| asked.iter().any(|(a, _)| a == n));
            identity.collect::<Vec<_>>()
        };
        assert!(names(IdentityPolicy::ServiceAccount).is_empty());
        assert_eq!(names(IdentityPolicy::Impersonate), ["Impersonate-User"]);
        let caller = ["Authorization", "Impersonate-User"];
        assert_eq!(names(IdentityPolicy::Caller), caller);
    }
}

#[test]
fn p194_connection_cannot_take_the_identity_off() {
    for named in ["impersonate-user", "Upgrade, Impersonate-User"] {
        let mut asked = Vec::from([("Impersonate-User", "jane"), ("Connection", named)]);
        if named.contains("Upgrade") {
            asked.extend(&WEBSOCKET[1..]);
        }
        let asked = head("GET", &asked);
        let refused = gate(IdentityPolicy::Impersonate).admit(asked);
        assert_eq!(refused, Err(PeerFault::Header), "{named}");
    }
}

#[test]
fn p194_no_token_is_offered_as_a_subprotocol() {
    let offers = |policy, value: &str| {
        let offer = [("Sec-WebSocket-Protocol", value)];
        let asked = head("GET", &[&WEBSOCKET[..], &offer].concat());
        let headers = gate(policy).admit(asked).unwrap().head.headers;
        let mut offers = headers.into_iter().filter(|(name, _)| is_offer(name));
        offers.next().map(|(_, value)| value)
    };
    let both = alloc::format!("v5.channel.k8s.io,{SECRET}");
    let service = IdentityPolicy::ServiceAccount;
    assert_eq!(offers(service, &both).unwrap(), "v5.channel.k8s.io");
    assert_eq!(offers(IdentityPolicy::Impersonate, SECRET), None);
    assert_eq!(offers(IdentityPolicy::Caller, &both).unwrap(), both);
    assert_eq!(offers(service, "a ,b").unwrap(), "a ,b");
    let bad = [("Sec-WebSocket-Protocol", "a b")];
    let refused = admit("GET", &[&WEBSOCKET[..], &bad].concat());
    assert_eq!(refused, Err(PeerFault::Subprotocol));
}

#[test]
fn the_headers_of_a_handshake_pass_with_an_upgrade() {
    let admitted = admit("GET", &WEBSOCKET).unwrap();
    assert_eq!(admitted.upgrade, Some(UpgradeTo::WebSocket));
    let expected = [
        WEBSOCKET[2],
        WEBSOCKET[3],
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
    ];
    assert_eq!(admitted.head, head("GET", &expected));
    let spdy = [
        ("upgrade", "spdy/3.1"),
        ("connection", "upgrade"),
        ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
        ("X-Stream-Protocol-Version", "v3.channel.k8s.io"),
        ("content-length", "0"),
    ];
    for method in ["GET", "POST"] {
        let admitted = admit(method, &spdy).unwrap();
        assert_eq!(admitted.upgrade, Some(UpgradeTo::Spdy));
        let expected = [
            spdy[2],
            spdy[3],
            ("Content-Length", "0"),
            ("Connection", "Upgrade"),
            ("Upgrade", "SPDY/3.1"),
        ];
        let mut headers = admitted.head.headers;
        headers.sort();
        let mut expected = pairs(&expected);
        expected.sort();
        assert_eq!(headers, expected);
    }
}

#[test]
fn only_two_protocols_can_be_switched_to_and_only_as_http_says() {
    let unsupported = |method, headers: &[(&str, &str)]| {
        let refused = admit(method, headers);
        assert!(
            matches!(refused, Err(PeerFault::Unsupported(_))),
            "{headers:?}: {refused:?}"
        );
    };
    let connection = ("Connection", "Upgrade");
    for to in [
        "h2c",
        "TLS/1.0",
        "SPDY/3",
        "websocket, h2c",
        "h2c,websocket",
    ] {
        unsupported("GET", &[connection, ("Upgrade", to)]);
    }
    let twice = [connection, ("Upgrade", "websocket"), ("Upgrade", "h2c")];
    unsupported("GET", &twice);
    unsupported("GET", &[("Upgrade", "websocket")]);
    unsupported("GET", &[("Connection", "close"), ("Upgrade", "SPDY/3.1")]);
    for body in [("Content-Length", "1"), ("Transfer-Encoding", "chunked")] {
        unsupported("POST", &[connection, ("Upgrade", "SPDY/3.1"), body]);
    }
    assert_eq!(admit("POST", &WEBSOCKET), Err(PeerFault::Method));
    let delete = [connection, ("Upgrade", "SPDY/3.1")];
    assert_eq!(admit("DELETE", &delete), Err(PeerFault::Method));
}

#[test]
fn a_connection_names_no_identity_away_behind_the_agent() {
    let asked = [
        ("Connection", "Upgrade, Impersonate-User"),
        ("Upgrade", "websocket"),
    ];
    let admitted = gate(IdentityPolicy::Impersonate).admit(head("GET", &asked));
    let headers = admitted.unwrap().head.headers;
    let expected = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    assert_eq!(headers, pairs(&expected));
}

#[test]
fn p207_a_request_without_a_body_has_a_length_where_one_is_expected() {
    let headers = |method, asked: &[(&str, &str)]| admit(method, asked).unwrap().head.headers;
    let zero = pairs(&[("Content-Length", "0")]);
    for method in ["POST", "PUT", "PATCH"] {
        assert_eq!(headers(method, &[]), zero);
        assert_eq!(headers(method, &[("Transfer-Encoding", "chunked")]), []);
        let five = [("content-length", "5")];
        assert_eq!(headers(method, &five), pairs(&[("Content-Length", "5")]));
    }
    assert_eq!(headers("GET", &[]), []);
    let bad = [("Content-Length", "1, 1")];
    assert_eq!(admit("PUT", &bad), Err(PeerFault::Header));
}

#[test]
fn p194_trailers_decide_nothing() {
    let gate = gate(IdentityPolicy::Caller);
    let trailers = pairs(&[
        ("X-Sum", "1"),
        ("Authorization", "Bearer t"),
        ("Impersonate-User", "root"),
        ("Content-Length", "1"),
        ("Sec-WebSocket-Key", "k"),
    ]);
    assert_eq!(gate.trailers(trailers), Ok(pairs(&[("X-Sum", "1")])));
}
