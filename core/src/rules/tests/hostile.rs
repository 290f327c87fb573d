//! What a peer sends to get more than its request: other rights, or all of the processor.

use super::*;

/// Who names the identity in `Connection` has it taken off on the way, and asks with the rights of
/// whoever is left.
#[test]
fn p194_connection_cannot_take_the_identity_off() {
    let asked = |named: &str, policy| {
        let headers = pairs(&[
            ("Connection", named),
            ("Authorization", "Bearer user"),
            ("impersonate-user", "jane"),
        ]);
        upstream_headers(headers, policy)
    };
    for named in ["Impersonate-User", "close,  IMPERSONATE-USER ,x"] {
        for policy in [IdentityPolicy::Impersonate, IdentityPolicy::Caller] {
            let refused = asked(named, policy);
            assert_eq!(refused, Err(PeerFault::Header), "{named} {policy:?}");
        }
        assert_eq!(asked(named, IdentityPolicy::ServiceAccount), Ok(Vec::new()));
    }
    let own = asked("authorization", IdentityPolicy::Caller);
    assert_eq!(own, Err(PeerFault::Header));
    for policy in [IdentityPolicy::ServiceAccount, IdentityPolicy::Impersonate] {
        let kept = asked("authorization", policy).unwrap();
        assert!(kept.iter().all(|(name, _)| name == "impersonate-user"));
    }
    // What it names and nobody sent takes nothing off.
    let kept = asked("impersonate-group", IdentityPolicy::Caller).unwrap();
    assert_eq!(kept.len(), 2);
}

/// With every name compared with every header this takes longer than anybody waits.
#[test]
fn p201_a_connection_header_of_any_length_is_looked_through_once() {
    let many = if cfg!(miri) { 1 << 6 } else { 1 << 18 };
    let names = (0..many).map(|i| alloc::format!("X-{i}"));
    let mut headers: Vec<_> = names.map(|name| (name, String::new())).collect();
    let named: Vec<_> = (0..many).map(|i| alloc::format!("x-{}", i + 1)).collect();
    headers.push(("Connection".into(), named.join(",")));
    let left = pairs(&[("X-0", "")]);
    assert_eq!(response_headers(200, headers.clone()), left);
    let kept = upstream_headers(headers, IdentityPolicy::default());
    assert_eq!(kept, Ok(left));
}

#[test]
fn p138_no_more_subprotocols_are_offered_than_anybody_speaks() {
    let list = |len: usize| {
        let names: Vec<_> = (0..len).map(|i| alloc::format!("v{i}")).collect();
        names.join(",")
    };
    let offered = |lists: &[&str]| subprotocols(lists.iter().copied()).map(|names| names.len());
    assert_eq!(offered(&[&list(64)]), Ok(64));
    assert_eq!(offered(&[&list(64), &list(64)]), Ok(64), "each once");
    assert_eq!(offered(&[&list(65)]), Err(PeerFault::Subprotocol));
    assert_eq!(offered(&[&list(64), "v64"]), Err(PeerFault::Subprotocol));
}

/// P-058: `protocol` becomes the header where there is none.
#[test]
fn p058_the_header_of_a_request_goes_before_its_protocol() {
    let of = |headers: &[(&str, &str)], bare| {
        let policy = IdentityPolicy::default();
        let offered = protocols_of_start(Some("a"), &pairs(headers), "/api", bare, policy);
        offered.unwrap().0
    };
    let named = [("sec-websocket-protocol", "b, c")];
    assert_eq!(of(&named, false), ["b", "c"]);
    assert_eq!(of(&named, true), ["a", "b", "c"], "P-138");
    assert_eq!(of(&[("Sec-WebSocket-Protocol", " ")], false), ["a"]);
}
