//! Headers: names compare without case (P-195), connection headers never pass (P-201), a length
//! is a length (P-207), and identity is decided by one policy (P-194, P-196).

use alloc::{
    collections::BTreeSet,
    string::{String, ToString},
    vec::Vec,
};
use core::cmp::Ordering;

use super::{IdentityPolicy, KubernetesUser, path::is_token, upgrade::BEARER_PROTOCOL};
use crate::error::PeerFault;

type Headers = Vec<(String, String)>;

/// Headers of one hop (RFC 9110, section 7.6.1, and what is used like them).
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];

/// Those of them that say that protocols are switched.
const UPGRADE: [&str; 2] = ["connection", "upgrade"];

/// Headers that a request carries to the Kubernetes API under `policy`.
///
/// Removed are connection headers and those named in `Connection`, `Host`, `Expect`, `Cookie`
/// and `X-Remote-*`; `Authorization` except under [`IdentityPolicy::Caller`]; `Impersonate-*`
/// under [`IdentityPolicy::ServiceAccount`].
///
/// # Errors
///
/// [`PeerFault::Header`]: a name or value that cannot stand in HTTP, a `Content-Length` that is not
/// one number, or a `Connection` that names a header with the identity of the request: without
/// that it would be somebody else's (P-194).
pub fn upstream_headers(headers: Headers, policy: IdentityPolicy) -> Result<Headers, PeerFault> {
    if !headers.iter().all(|(name, value)| is_valid(name, value)) {
        return Err(PeerFault::Header);
    }
    let named = named_in_connection(&headers);
    if named.iter().any(|name| is_identity(name, policy)) {
        return Err(PeerFault::Header);
    }
    let mut kept = without_connection(headers, &named, &[]);
    kept.retain(|(name, _)| {
        let identity = is_identity(name, IdentityPolicy::Caller);
        !is_any(name, &["host", "expect", "cookie"])
            && !has_prefix(name, "x-remote-")
            && (!identity || is_identity(name, policy))
    });
    match lengths(&kept) {
        Lengths::Bad => Err(PeerFault::Header),
        Lengths::None => Ok(kept),
        Lengths::One(length) => {
            set_content_length(&mut kept, Some(length));
            Ok(kept)
        }
    }
}

/// Headers that the controller relays for a client whom it has authenticated itself.
///
/// The client's own credentials and identity never pass: `Authorization`, `Cookie`,
/// `Impersonate-*`, `X-Remote-*` and the bearer subprotocol are removed. A `user` is named in
/// `Impersonate-User` and `Impersonate-Group`, which an agent obeys only under
/// [`IdentityPolicy::Impersonate`].
///
/// # Errors
///
/// As for [`upstream_headers`].
pub fn client_headers(
    headers: Headers,
    user: Option<&KubernetesUser>,
) -> Result<Headers, PeerFault> {
    let mut kept = upstream_headers(headers, IdentityPolicy::ServiceAccount)?;
    without_bearer(&mut kept);
    if let Some(user) = user {
        if !is_valid("impersonate-user", &user.user) || user.user.is_empty() {
            return Err(PeerFault::Header);
        }
        kept.push(("Impersonate-User".into(), user.user.clone()));
        for group in &user.groups {
            if !is_valid("impersonate-group", group) {
                return Err(PeerFault::Header);
            }
            kept.push(("Impersonate-Group".into(), group.clone()));
        }
    }
    Ok(kept)
}

/// Headers of a response as they are passed on: without connection headers and without what
/// cannot stand in HTTP. A `101` keeps `Connection` and `Upgrade` (P-133), and has no length.
#[must_use]
pub fn response_headers(status: u16, mut headers: Headers) -> Headers {
    headers.retain(|(name, value)| is_valid(name, value));
    let switches = status == 101;
    let but: &[&str] = if switches { &UPGRADE } else { &[] };
    let named = named_in_connection(&headers);
    let mut kept = without_connection(headers, &named, but);
    match lengths(&kept) {
        Lengths::None => {}
        _ if switches => set_content_length(&mut kept, None),
        Lengths::One(length) => set_content_length(&mut kept, Some(length)),
        Lengths::Bad => set_content_length(&mut kept, None),
    }
    kept
}

/// Takes tokens out of the subprotocols on offer; other lists stay as they are.
pub(super) fn without_bearer(headers: &mut Headers) {
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("sec-websocket-protocol") {
            let offered = || value.split(',').map(str::trim);
            let is_token = |p: &&str| p.starts_with(BEARER_PROTOCOL);
            if offered().any(|p| is_token(&p)) {
                let passed: Vec<&str> = offered().filter(|p| !is_token(p)).collect();
                *value = passed.join(", ");
            }
        }
    }
}

/// Replaces every `Content-Length`.
pub(crate) fn set_content_length(headers: &mut Headers, length: Option<u64>) {
    headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
    if let Some(length) = length {
        headers.push(("Content-Length".into(), length.to_string()));
    }
}

/// Whether a header says under `policy` who asks.
fn is_identity(name: &str, policy: IdentityPolicy) -> bool {
    match policy {
        IdentityPolicy::ServiceAccount => false,
        IdentityPolicy::Impersonate => has_prefix(name, "impersonate-"),
        IdentityPolicy::Caller => {
            name.eq_ignore_ascii_case("authorization") || has_prefix(name, "impersonate-")
        }
    }
}

/// The headers among these that `Connection` names, in lower case: never more than there are,
/// however many it names, and found without a comparison of each with each.
fn named_in_connection(headers: &Headers) -> BTreeSet<String> {
    let connection = |name: &str| name.eq_ignore_ascii_case("connection");
    let values = headers.iter().filter(|(name, _)| connection(name));
    let mut listed = values.flat_map(|(_, value)| value.split(',')).peekable();
    if listed.peek().is_none() {
        return BTreeSet::new();
    }
    let mut names: Vec<&str> = headers.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable_by(|a, b| without_case(a, b));
    listed
        .filter_map(|name| {
            let found = names.binary_search_by(|known| without_case(known, name.trim()));
            found.ok().map(|_| name.trim().to_ascii_lowercase())
        })
        .collect()
}

fn without_case(a: &str, b: &str) -> Ordering {
    let lower = |b: u8| b.to_ascii_lowercase();
    a.bytes().map(lower).cmp(b.bytes().map(lower))
}

/// Without connection headers and those that it names, `but` for these.
fn without_connection(mut headers: Headers, named: &BTreeSet<String>, but: &[&str]) -> Headers {
    let is_named = |name: &str| !named.is_empty() && named.contains(&name.to_ascii_lowercase());
    headers.retain(|(name, _)| {
        let hop = is_any(name, &HOP_BY_HOP) || is_named(name);
        !hop || is_any(name, but)
    });
    headers
}

enum Lengths {
    None,
    One(u64),
    Bad,
}

fn lengths(headers: &[(String, String)]) -> Lengths {
    let mut found = Lengths::None;
    for (name, value) in headers {
        if !name.eq_ignore_ascii_case("content-length") {
            continue;
        }
        let value = value.trim();
        let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        found = match (found, value.parse::<u64>()) {
            (Lengths::None, Ok(length)) if digits => Lengths::One(length),
            (Lengths::One(first), Ok(length)) if digits && first == length => Lengths::One(first),
            _ => return Lengths::Bad,
        };
    }
    found
}

fn is_any(name: &str, names: &[&str]) -> bool {
    names.iter().any(|n| n.eq_ignore_ascii_case(name))
}

fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn is_valid(name: &str, value: &str) -> bool {
    let named = !name.is_empty() && name.bytes().all(is_token);
    let fine = |b: u8| b == b'\t' || (b >= 0x20 && b != 0x7f);
    named && value.bytes().all(fine)
}
