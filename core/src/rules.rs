//! Header, path and identity rules, as pure functions: what is relayed, what is removed, what is
//! refused. Nothing is repaired: a request reaches the Kubernetes API as it came, or not at all.

mod channels;
mod compressed;
mod follow;
mod gate;
mod gateway;
mod headers;
mod path;
#[cfg(test)]
mod tests;
mod tunnel;
mod upgrade;

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::str::FromStr;

pub(crate) use self::{
    channels::{Channels, is_channel_protocol},
    compressed::is_compressed_unsaid,
    gateway::{MAX_URL, gateway_url},
    headers::set_content_length,
    tunnel::{MAX_DATAGRAM, Named, tunnel_target},
    upgrade::{asks_websocket, chosen_protocol, protocols_of_start, websocket_head},
};
pub use self::{
    follow::{Closed, Follower},
    gate::{Admitted, Gate, UpgradeTo},
    gateway::is_gateway_host,
    headers::{client_headers, response_headers, upstream_headers},
    path::{check_method, check_path, check_query},
    tunnel::{NoTarget, TunnelTarget},
    upgrade::{BEARER_PROTOCOL, subprotocols, without_handshake},
};
use crate::{error::PeerFault, input::RequestHead, streams::head_len};

/// Whose rights a proxied request has at the Kubernetes API (P-196): one policy for all requests,
/// told to the controller in `register.features.identity`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IdentityPolicy {
    /// Those of the agent's service account. `Authorization` and `Impersonate-*` of the request
    /// are removed.
    #[default]
    ServiceAccount,
    /// Those of the user whom the controller names in `Impersonate-User` and `Impersonate-Group`,
    /// by the agent's service account.
    Impersonate,
    /// Those of the request's own `Authorization`; a request without one goes out without.
    Caller,
}

impl IdentityPolicy {
    /// Its name in the protocol and in configurations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "service-account",
            Self::Impersonate => "impersonate",
            Self::Caller => "caller",
        }
    }

    /// Which credentials a request under this policy carries.
    #[must_use]
    pub const fn credentials(self) -> Credentials {
        match self {
            Self::ServiceAccount | Self::Impersonate => Credentials::ServiceAccount,
            Self::Caller => Credentials::Caller,
        }
    }
}

impl FromStr for IdentityPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        [Self::ServiceAccount, Self::Impersonate, Self::Caller]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or(UnknownPolicy)
    }
}

/// Not the name of an [`IdentityPolicy`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an identity policy: use service-account, impersonate or caller")]
pub struct UnknownPolicy;

/// Which credentials an upstream request carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Credentials {
    /// The agent's own: the adapter adds them.
    ServiceAccount,
    /// Those that are in the request's headers, if any.
    Caller,
}

/// A user of the Kubernetes API, as the controller knows one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KubernetesUser {
    /// Value of `Impersonate-User`.
    pub user: String,
    /// Values of `Impersonate-Group`.
    pub groups: Vec<String>,
}

/// What the peer is told whose request was refused for that.
#[must_use]
pub fn refusal(fault: PeerFault) -> String {
    match fault {
        PeerFault::Path => "invalid path: only Kubernetes API paths are relayed".into(),
        PeerFault::Overrun => "the request body is too large to be sent in one message".into(),
        PeerFault::Header => {
            "invalid header: HTTP cannot carry its name or value, or it is a Content-Length that is \
             no number, or a Connection that names whose request it is"
                .into()
        }
        PeerFault::Method => "invalid method: no token of HTTP, or CONNECT or TRACE".into(),
        PeerFault::Subprotocol => "invalid subprotocol: no visible ASCII, or more than 64".into(),
        PeerFault::Base64 => "invalid body: not base64".into(),
        PeerFault::NotPermitted => "the agent's configuration permits no tunnel to there".into(),
        fault => fault.to_string(),
    }
}

/// Checks a request of the controller and makes of it what the Kubernetes API is asked.
///
/// An empty method is `GET` (P-058); a path without its leading `/` gets one (P-136).
///
/// # Errors
///
/// [`PeerFault::Method`], [`PeerFault::Path`] (of the query, too) or [`PeerFault::Header`]: it cannot be
/// relayed as it is. [`PeerFault::HeadTooLong`]: all together are longer than `limit` bytes.
pub fn request_head(
    method: &str,
    path: &str,
    query: Option<&str>,
    headers: Vec<(String, String)>,
    policy: IdentityPolicy,
    limit: usize,
) -> Result<RequestHead, PeerFault> {
    let method = check_method(method)?;
    let mut rooted = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        rooted.push('/');
    }
    rooted.push_str(path);
    check_path(&rooted)?;
    let query = query.filter(|q| !q.is_empty());
    if let Some(query) = query {
        check_query(query)?;
    }
    let head = RequestHead {
        method,
        path: rooted,
        query: query.map(String::from),
        headers: upstream_headers(headers, policy)?,
    };
    if head_len(&head) > limit {
        return Err(PeerFault::HeadTooLong);
    }
    Ok(head)
}
