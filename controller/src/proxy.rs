//! `/clusters/CLUSTER/…`: an operator's request on its way to the cluster's Kubernetes API.

mod answer;
mod audit;
mod failure;
mod grant;
mod upload;

use std::sync::Arc;

use controlplane_driver::{Hub, IdentityPolicy, OpenError, PeerFault, RequestHead, rules};
use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::{Body as _, Incoming};

use self::{
    answer::Pour,
    audit::{Audit, End},
    failure::refusal,
    grant::Grant,
    upload::Upload,
};
use crate::{
    body::ResponseBody,
    connection::{Client, discard},
    credentials::{AGENT_PREFIX, AgentCredential, Credentials, UserCredential},
    route::bearer,
    server::App,
    status::Refusal,
};

/// `Retry-After` of what passes by itself. client-go asks ten times before it shows the text, and
/// kubectl does that five times, so it is set only where waiting helps, and short.
const SOON: u64 = 1;
/// Where kubectl reads the code of an error but not its status.
const DISCOVERY: [&str; 3] = ["/api", "/apis", "/version"];

/// Whom a request is for, and what that one is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// Id or name of the cluster.
    pub(crate) cluster: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
}

/// A request that may go out.
struct Permitted {
    hub: Hub,
    head: RequestHead,
    /// It acts for a user of the Kubernetes API.
    impersonates: bool,
    /// What to say if the agent leaves before it is asked.
    away: Refusal,
    grant: Grant,
}

pub(crate) async fn respond(
    app: &Arc<App>,
    client: &Client,
    target: Target<'_>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let mut audit = Audit::new(client.peer, request.method(), &target);
    let refused = match permit(app, client, target, &request, &mut audit) {
        Ok(permitted) => match relay(permitted, request.into_body(), &mut audit).await {
            Ok((head, pour)) => return pour.response(head, audit).await,
            Err(refused) => refused,
        },
        Err(refused) => {
            discard(request).await;
            refused
        }
    };
    let refused = match DISCOVERY.contains(&target.path) {
        true => refused.with_warning(),
        false => refused,
    };
    let response = refused.response();
    audit.answered(response.status(), response.body().len());
    response
}

/// Who asks, for which cluster, and whether that may be relayed.
fn permit(
    app: &Arc<App>,
    client: &Client,
    target: Target<'_>,
    request: &Request<Incoming>,
    audit: &mut Audit,
) -> Result<Permitted, Refusal> {
    let credentials = app.credentials.current();
    let user = authenticate(&credentials, bearer(request.headers()))?;
    client.visit.authenticated();
    audit.user(user);
    let agent = credentials
        .cluster(target.cluster)
        .filter(|agent| user.may_reach(agent))
        .ok_or_else(|| unknown(target.cluster))?;
    audit.cluster(agent);
    check(request, target)?;
    let away = away(&agent.name, app.agents.expects(agent));
    let Some((hub, joined)) = app.agents.joined(agent) else {
        return Err(away);
    };
    let kubernetes = user.kubernetes();
    let impersonates = kubernetes.is_some();
    if impersonates && joined.policy != Some(IdentityPolicy::Impersonate) {
        return Err(not_impersonating(agent));
    }
    let headers = rules::client_headers(pairs(request.headers())?, kubernetes.as_ref());
    let head = RequestHead {
        method: rules::check_method(request.method().as_str()).map_err(fault)?,
        path: target.path.into(),
        query: target
            .query
            .filter(|query| !query.is_empty())
            .map(Into::into),
        headers: headers.map_err(fault)?,
    };
    Ok(Permitted {
        hub,
        head,
        impersonates,
        away,
        grant: Grant::new(app.clone(), credentials.clone(), user, agent),
    })
}

/// Asks the agent, and returns with the head of its answer.
async fn relay(
    permitted: Permitted,
    body: Incoming,
    audit: &mut Audit,
) -> Result<(controlplane_driver::ResponseHead, Pour), Refusal> {
    let Permitted {
        hub,
        head,
        impersonates,
        away,
        grant,
    } = permitted;
    let has_body = !body.is_end_stream();
    let bodiless = head.method == "HEAD";
    // The agent may have come back with another policy since it was looked at.
    let opened = match impersonates {
        true => {
            let policy = IdentityPolicy::Impersonate;
            hub.request_under(policy, head, has_body).await
        }
        false => hub.request(head, has_body).await,
    };
    let (outgoing, mut answer) = match opened {
        Ok(opened) => opened,
        Err(OpenError::Away | OpenError::Policy) => return Err(away),
        Err(error) => return Err(not_opened(error)),
    };
    let upload = Upload::start(body, outgoing, grant.clone(), audit.bytes_in());
    match answer.head().await {
        Ok(head) => Ok((head, Pour::new(answer, upload, grant, bodiless))),
        Err(failure) => {
            audit.end(End::failed(&failure, upload.client_left()));
            Err(refusal(&failure))
        }
    }
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

/// What this version relays of what HTTP can ask.
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
    if request.headers().contains_key(header::UPGRADE) {
        return Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "this version of the controller relays no WebSocket and no SPDY stream yet, so exec, \
             attach, cp and port-forward do not work through it",
        ));
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

fn not_opened(error: OpenError) -> Refusal {
    let text = error.to_string();
    match error {
        OpenError::HeadTooLong => Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text),
        OpenError::TooManyStreams => {
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, text).retry_after(SOON)
        }
        _ => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text),
    }
}

fn fault(fault: PeerFault) -> Refusal {
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
