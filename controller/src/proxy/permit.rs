//! Who asks, for which cluster, and whether and how that is relayed.

use std::sync::Arc;

use controlplane_driver::{Hub, IdentityPolicy, PeerFault, RequestHead, rules};
use http::{HeaderMap, Request, StatusCode, header};
use hyper::body::{Body as _, Incoming};

use super::{
    SOON, Target,
    audit::Audit,
    grant::Grant,
    upgrade::{self, Wish},
};
use crate::{
    connection::Client,
    credentials::{AGENT_PREFIX, AgentCredential, Credentials, UserCredential},
    server::App,
    status::Refusal,
};

/// A request that may go out.
pub(super) struct Permitted {
    pub(super) hub: Hub,
    pub(super) head: RequestHead,
    /// What the agent's policy must be, because the request acts for a user of the Kubernetes API.
    pub(super) policy: Option<IdentityPolicy>,
    /// What to say if the agent leaves before it is asked.
    pub(super) away: Refusal,
    pub(super) grant: Grant,
    /// Whether the agent is to have the protocol switched.
    pub(super) switches: bool,
}

/// Checks a request, and makes of it what the agent is asked.
pub(super) fn permit(
    app: &Arc<App>,
    client: &Client,
    target: Target<'_>,
    request: &Request<Incoming>,
    audit: &mut Audit,
) -> Result<(Permitted, Wish), Refusal> {
    let credentials = app.credentials.current();
    let user = authenticate(&credentials, upgrade::token(request)?.as_deref())?;
    client.visit.authenticated();
    audit.user(user);
    let agent = credentials
        .cluster(target.cluster)
        .filter(|agent| user.may_reach(agent))
        .ok_or_else(|| unknown(target.cluster))?;
    audit.cluster(agent);
    check(request, target)?;
    let wish = Wish::of(request)?;
    let away = away(&agent.name, app.agents.expects(agent));
    let Some((hub, joined)) = app.agents.joined(agent) else {
        return Err(away);
    };
    let kubernetes = user.kubernetes();
    let policy = kubernetes.as_ref().map(|_| IdentityPolicy::Impersonate);
    if policy.is_some() && joined.policy != policy {
        return Err(not_impersonating(agent));
    }
    let headers = rules::client_headers(pairs(request.headers())?, kubernetes.as_ref());
    let headers = headers.map_err(fault)?;
    let switch = wish.protocol(request).filter(|_| joined.http_streams);
    if switch.is_some() && !request.body().is_end_stream() {
        let text = "a request to switch protocols has a body, which none can have";
        return Err(Refusal::bad_request(text));
    }
    let head = RequestHead {
        method: rules::check_method(request.method().as_str()).map_err(fault)?,
        path: target.path.into(),
        query: target
            .query
            .filter(|query| !query.is_empty())
            .map(Into::into),
        headers: match switch {
            Some(protocol) => Wish::switching(protocol, headers),
            None => wish.headers(headers),
        },
    };
    let permitted = Permitted {
        hub,
        head,
        policy,
        away,
        grant: Grant::new(app.clone(), credentials.clone(), user, agent),
        switches: switch.is_some(),
    };
    Ok((permitted, wish))
}

fn authenticate<'a>(
    credentials: &'a Credentials,
    token: Option<&str>,
) -> Result<&'a UserCredential, Refusal> {
    let Some(token) = token else {
        return Err(Refusal::unauthorized(
            "no bearer token: the kubeconfig needs the token that `pipeops-controller token \
             user` prints",
        ));
    };
    credentials.user_by_token(token).ok_or_else(|| {
        Refusal::unauthorized(if token.starts_with(AGENT_PREFIX) {
            "this is the token of an agent: the kubeconfig needs the one that \
             `pipeops-controller token user` prints"
        } else {
            "the token is not known to this controller: it is wrong, or was revoked; ask for a \
             new one"
        })
    })
}

/// What of HTTP is relayed.
fn check(request: &Request<Incoming>, target: Target<'_>) -> Result<(), Refusal> {
    rules::check_method(request.method().as_str()).map_err(fault)?;
    rules::check_path(target.path).map_err(|_| {
        Refusal::forbidden(
            "this path is not relayed: it must be one of the Kubernetes API below /api, /apis, \
             /version, /openapi, /healthz, /livez or /readyz, without empty or dot segments",
        )
    })?;
    if let Some(query) = target.query {
        rules::check_query(query)
            .map_err(|_| Refusal::bad_request("the query holds what no query can hold"))?;
    }
    Ok(())
}

/// Unknown and forbidden look the same, so that nobody learns which clusters there are.
fn unknown(cluster: &str) -> Refusal {
    Refusal::not_found(format!(
        "there is no cluster {cluster:?}, or this user may not reach it"
    ))
}

fn away(name: &str, expected: bool) -> Refusal {
    let refusal = Refusal::unavailable(format!("the agent of cluster {name:?} is not connected"));
    if expected {
        refusal.retry_after(SOON)
    } else {
        refusal
    }
}

fn not_impersonating(agent: &AgentCredential) -> Refusal {
    Refusal::forbidden(format!(
        "this user has a Kubernetes user, but the agent of cluster {:?} impersonates nobody: set \
         the agent's identity policy to `impersonate`",
        agent.name
    ))
}

pub(super) fn fault(fault: PeerFault) -> Refusal {
    match fault {
        PeerFault::Method => {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this method is not relayed")
        }
        PeerFault::Header => Refusal::bad_request(
            "a header holds what no header can hold, or Content-Length is no number",
        ),
        other => Refusal::bad_request(other.to_string()),
    }
}

fn pairs(headers: &HeaderMap) -> Result<Vec<(String, String)>, Refusal> {
    let pair = |(name, value): (&header::HeaderName, &header::HeaderValue)| {
        let text = str::from_utf8(value.as_bytes());
        let text = text.map_err(|_| Refusal::bad_request(format!("header {name} is no UTF-8")))?;
        Ok((name.to_string(), text.to_owned()))
    };
    headers.iter().map(pair).collect()
}
