//! The upgrade to a WebSocket: what asks for one, which subprotocols are offered, and which headers
//! belong to the handshake of one hop only.

use alloc::{string::String, vec::Vec};

use super::{IdentityPolicy, request_head};
use crate::{error::PeerFault, input::RequestHead};

type Headers = Vec<(String, String)>;

/// Beginning of the subprotocol in which a browser hides its bearer token, as base64url without
/// padding. It is a credential and never passed on for a client.
pub const BEARER_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Most subprotocols that are offered at once; Kubernetes has fewer than a dozen.
const MAX_OFFERED: usize = 64;

/// Headers of the handshake, which each hop makes anew.
const HANDSHAKE: &str = "sec-websocket-";

/// What a terminal offers where its start names nothing (P-138).
const TERMINAL: [&str; 4] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

/// Whether headers ask for a WebSocket (P-059): `Upgrade: websocket`, or a key, version or
/// subprotocol of one.
#[must_use]
pub(crate) fn asks_websocket(headers: &[(String, String)]) -> bool {
    headers.iter().any(|(name, value)| {
        let upgrade = name.eq_ignore_ascii_case("upgrade");
        let part = handshake_part(name).unwrap_or_default();
        let websocket = ["key", "version", "protocol"]
            .iter()
            .any(|known| part.eq_ignore_ascii_case(known));
        (upgrade && value.trim().eq_ignore_ascii_case("websocket"))
            || (websocket && !value.trim().is_empty())
    })
}

/// The subprotocols that lists like those of `Sec-WebSocket-Protocol` name, in order and each
/// once.
///
/// # Errors
///
/// [`PeerFault::Subprotocol`]: a name that cannot stand in such a header, or more than 64 names.
pub fn subprotocols<'a>(
    lists: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<String>, PeerFault> {
    let mut offered: Vec<String> = Vec::new();
    let names = lists.into_iter().flat_map(|list| list.split(','));
    for name in names.map(str::trim).filter(|name| !name.is_empty()) {
        // Kubernetes' own have a slash, which no token of HTTP has.
        if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(PeerFault::Subprotocol);
        }
        if offered.iter().any(|known| known == name) {
            continue;
        }
        if offered.len() >= MAX_OFFERED {
            return Err(PeerFault::Subprotocol);
        }
        offered.push(name.into());
    }
    Ok(offered)
}

/// The subprotocol that the answer to an upgrade chose, empty for none.
pub(crate) fn chosen_protocol(headers: &[(String, String)]) -> &str {
    let mut headers = headers.iter();
    let chosen = headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"));
    chosen.map_or("", |(_, value)| value.trim())
}

/// Headers without those of the WebSocket handshake.
#[must_use]
pub fn without_handshake(mut headers: Headers) -> Headers {
    headers.retain(|(name, _)| handshake_part(name).is_none());
    headers
}

/// What a start offers (P-138): the subprotocols of `protocol`, then those of the headers, and on
/// a terminal without any the usual ones; with whether those were added. In a request, which is
/// not `bare`, `protocol` stands for the header where there is none (P-058). Under a policy that does
/// not use the caller's credentials none is offered that carries one (P-194).
pub(crate) fn protocols_of_start(
    protocol: Option<&str>,
    headers: &[(String, String)],
    path: &str,
    bare: bool,
    policy: IdentityPolicy,
) -> Result<(Vec<String>, bool), PeerFault> {
    let named = headers
        .iter()
        .filter(|(name, _)| {
            handshake_part(name).is_some_and(|part| part.eq_ignore_ascii_case("protocol"))
        })
        .map(|(_, value)| &**value)
        .filter(|value| !value.trim().is_empty());
    let present = named.clone().next().is_some();
    let protocol = protocol.filter(|_| bare || !present);
    let mut offered = subprotocols(protocol.into_iter().chain(named))?;
    if policy != IdentityPolicy::Caller {
        offered.retain(|name| !name.starts_with(BEARER_PROTOCOL));
    }
    let terminal = path
        .split('/')
        .any(|segment| matches!(segment, "exec" | "attach" | "portforward"));
    let unnamed = offered.is_empty() && terminal && bare;
    if unnamed {
        offered = TERMINAL.map(String::from).to_vec();
    }
    Ok((offered, unnamed))
}

/// Makes of a start what the Kubernetes API is asked: always a `GET` (P-064) without a body, and
/// without the headers of the handshake, which the adapter makes.
pub(crate) fn websocket_head(
    path: &str,
    query: Option<&str>,
    mut headers: Headers,
    policy: IdentityPolicy,
    limit: usize,
) -> Result<RequestHead, PeerFault> {
    headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
    let headers = without_handshake(headers);
    request_head("GET", path, query, headers, policy, limit)
}

/// What follows `Sec-WebSocket-` in a name.
pub(super) fn handshake_part(name: &str) -> Option<&str> {
    let (start, part) = name.split_at_checked(HANDSHAKE.len())?;
    start.eq_ignore_ascii_case(HANDSHAKE).then_some(part)
}
