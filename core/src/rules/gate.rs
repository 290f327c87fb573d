//! The rules for one request of an HTTP/1.1 connection whose server is the agent: those that a
//! request in JSON meets, and which protocols it may switch to.

use alloc::{string::String, vec::Vec};

use super::{
    Credentials, IdentityPolicy,
    headers::{set_content_length, upstream_headers, without_bearer},
    request_head,
    upgrade::{handshake_part, subprotocols},
};
use crate::{error::PeerFault, input::RequestHead};

type Headers = Vec<(String, String)>;

/// In which a SPDY client lists the protocols that its streams may speak.
const STREAM_PROTOCOLS: &str = "x-stream-protocol-version";

/// What a connection of that kind may ask for: the agent's identity policy and its limit on a
/// request's head.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gate {
    policy: IdentityPolicy,
    limit: usize,
}

/// A request that was let in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admitted {
    /// What the Kubernetes API is asked. To switch protocols, the headers of the handshake are
    /// among the others, as they came; `Connection` names nothing but the upgrade.
    pub head: RequestHead,
    /// Whose credentials it carries there.
    pub credentials: Credentials,
    /// The protocol that it asks to switch to.
    pub upgrade: Option<UpgradeTo>,
}

/// A protocol that a connection may switch to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UpgradeTo {
    /// `SPDY/3.1`, asked for by `GET` or `POST`.
    Spdy,
    /// `websocket`, asked for by `GET`.
    WebSocket,
}

impl UpgradeTo {
    /// Its name in `Upgrade`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spdy => "SPDY/3.1",
            Self::WebSocket => "websocket",
        }
    }

    fn is_asked_by(self, method: &str) -> bool {
        match self {
            Self::Spdy => matches!(method, "GET" | "POST"),
            Self::WebSocket => method == "GET",
        }
    }
}

impl Gate {
    /// Lets requests of up to `limit` bytes in, counted as for [`crate::Limits::head`].
    #[must_use]
    pub const fn new(policy: IdentityPolicy, limit: usize) -> Self {
        Self { policy, limit }
    }

    /// How long a head may be, in bytes.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Checks one head as it came off the wire, and makes of it what the Kubernetes API is asked.
    ///
    /// # Errors
    ///
    /// Method, path, query or a header cannot be relayed as it is, all together are too long, or
    /// it asks to switch to another protocol than an [`UpgradeTo`], or in another way than HTTP
    /// defines ([`PeerFault::Unsupported`]).
    pub fn admit(&self, head: RequestHead) -> Result<Admitted, PeerFault> {
        let RequestHead {
            method,
            path,
            query,
            mut headers,
        } = head;
        let upgrade = asked(&headers)?;
        let mut handshake = Headers::new();
        let bodied = has_body(&headers);
        if upgrade.is_some() {
            if bodied {
                return Err(PeerFault::Unsupported("an upgrade with a body"));
            }
            handshake = self.handshake(&headers)?;
        } else if !bodied && matches!(&*method, "POST" | "PUT" | "PATCH") {
            // P-207: the length is known.
            set_content_length(&mut headers, Some(0));
        }
        headers.retain(|(name, _)| !is_handshake(name));
        headers.append(&mut handshake);
        let (policy, limit) = (self.policy, self.limit);
        let mut head = request_head(&method, &path, query.as_deref(), headers, policy, limit)?;
        if let Some(to) = upgrade {
            if !to.is_asked_by(&head.method) {
                return Err(PeerFault::Method);
            }
            head.headers.push(("Connection".into(), "Upgrade".into()));
            head.headers.push(("Upgrade".into(), to.as_str().into()));
        }
        Ok(Admitted {
            head,
            credentials: policy.credentials(),
            upgrade,
        })
    }

    /// Headers of a request's trailers, by the same rules (P-194, P-201): none of them is one that
    /// decides about the request.
    ///
    /// # Errors
    ///
    /// [`PeerFault::Header`]: a name or value that cannot stand in HTTP.
    pub fn trailers(&self, trailers: Headers) -> Result<Headers, PeerFault> {
        let mut kept = upstream_headers(trailers, IdentityPolicy::ServiceAccount)?;
        kept.retain(|(name, _)| !is_handshake(name));
        set_content_length(&mut kept, None);
        Ok(kept)
    }

    /// The headers of a handshake that pass (P-194).
    fn handshake(&self, headers: &Headers) -> Result<Headers, PeerFault> {
        let mut kept = headers.clone();
        kept.retain(|(name, _)| is_handshake(name));
        let offers = kept.iter().filter(|(name, _)| is_offer(name));
        subprotocols(offers.map(|(_, value)| &**value))?;
        if self.policy != IdentityPolicy::Caller {
            without_bearer(&mut kept);
            kept.retain(|(name, value)| !is_offer(name) || !value.is_empty());
        }
        Ok(kept)
    }
}

/// The protocol that the headers ask to switch to.
fn asked(headers: &[(String, String)]) -> Result<Option<UpgradeTo>, PeerFault> {
    let unsupported = |what| Err(PeerFault::Unsupported(what));
    let mut names = tokens(headers, "upgrade");
    let Some(name) = names.next() else {
        return Ok(None);
    };
    if names.next().is_some() {
        return unsupported("an upgrade to one of several protocols");
    }
    let known = [UpgradeTo::Spdy, UpgradeTo::WebSocket];
    let mut known = known.into_iter();
    let Some(to) = known.find(|to| to.as_str().eq_ignore_ascii_case(name)) else {
        return unsupported("an upgrade to another protocol than websocket and SPDY/3.1");
    };
    let mut named = tokens(headers, "connection");
    if !named.any(|name| name.eq_ignore_ascii_case("upgrade")) {
        return unsupported("an Upgrade that Connection does not name");
    }
    Ok(Some(to))
}

/// The elements of a header that is a list.
fn tokens<'a>(
    headers: &'a [(String, String)],
    header: &'static str,
) -> impl Iterator<Item = &'a str> {
    let values = headers.iter();
    let values = values.filter(move |(name, _)| name.eq_ignore_ascii_case(header));
    let elements = values.flat_map(|(_, value)| value.split(','));
    elements
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

/// Whether a body is announced, be it an invalid one.
fn has_body(headers: &[(String, String)]) -> bool {
    headers.iter().any(|(name, value)| {
        let length = name.eq_ignore_ascii_case("content-length");
        (length && value.trim() != "0") || name.eq_ignore_ascii_case("transfer-encoding")
    })
}

/// Those of `Connection` and `Upgrade` apart, which are written anew: `Connection` could name a
/// header that a proxy before the Kubernetes API then takes off, such as the identity.
fn is_handshake(name: &str) -> bool {
    handshake_part(name).is_some() || name.eq_ignore_ascii_case(STREAM_PROTOCOLS)
}

fn is_offer(name: &str) -> bool {
    name.eq_ignore_ascii_case("sec-websocket-protocol")
}

#[cfg(test)]
mod tests;
