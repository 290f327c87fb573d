//! The way of one request to the Kubernetes API and of its answer back.

use std::sync::Arc;

use bytes::Bytes;
use controlplane_core::{RequestHead, ResponseHead, rules::Credentials};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request as HttpRequest, Response,
    header::AUTHORIZATION,
};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{Shared, body::UpstreamBody, pool::Lease, progress::Progress};
use crate::{
    handler::{Body, BodyWriter, First, Headers, Request, Responder},
    links::chain,
    meter::while_moving,
    runtime::Runtime,
};

pub(super) const NO_ANSWER: &str = "timeout: no answer in time from the Kubernetes API";

pub(super) async fn relay<R: Runtime>(
    shared: Arc<Shared<R>>,
    request: Request,
    responder: Responder,
) {
    let Request {
        head,
        credentials,
        body,
    } = request;
    let endless = is_endless(&head);
    let asked = ask(&shared, head, credentials, body, endless).await;
    let (lease, response) = match asked {
        Ok(asked) => asked,
        Err(text) => return responder.fail(format!("kubernetes API request failed: {text}")),
    };
    let writer = responder.respond(response_head(&response));
    if answer(&shared, response.into_body(), writer, endless).await {
        shared.pool.put(&shared, lease).await;
    }
}

/// Sends the request and waits for the head of its answer.
async fn ask<'a, R: Runtime>(
    shared: &'a Shared<R>,
    head: RequestHead,
    credentials: Credentials,
    mut body: Body,
    endless: bool,
) -> Result<(Lease<'a>, Response<Incoming>), String> {
    let progress = Progress::default();
    // The end of a body that there is none of comes at once.
    let body = match body.first().await.map_err(|e| e.to_string())? {
        First::Nothing => {
            progress.sent();
            UpstreamBody::Empty
        }
        First::Piece(first) => UpstreamBody::flow(Some(first), body, progress.clone()),
        First::Later => UpstreamBody::flow(None, body, progress.clone()),
    };
    let request = upstream_request(shared, head, credentials, body)?;
    let mut lease = shared.pool.get(shared).await?;
    let meter = lease.meter();
    let sent = shared.pool.send(&mut lease, shared, request);
    if endless {
        // The log of a silent container has no head before its first line.
        let response = sent.await?;
        return Ok((lease, response));
    }
    let limits = &shared.config.limits;
    let patience = || progress.patience(limits);
    let response = while_moving(&shared.runtime, &meter, patience, sent).await;
    let response = response.ok_or(NO_ANSWER)??;
    Ok((lease, response))
}

pub(super) fn upstream_request<R: Runtime>(
    shared: &Shared<R>,
    head: RequestHead,
    credentials: Credentials,
    body: UpstreamBody,
) -> Result<HttpRequest<UpstreamBody>, String> {
    let method = Method::from_bytes(head.method.as_bytes()).map_err(|e| e.to_string())?;
    let target = match &head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path,
    };
    let mut request = shared
        .request(method, &target)?
        .body(body)
        .map_err(|e| e.to_string())?;
    let headers = request.headers_mut();
    for (name, value) in head.headers {
        let name = HeaderName::try_from(name).map_err(|e| e.to_string())?;
        let value = HeaderValue::try_from(value).map_err(|e| e.to_string())?;
        headers.append(name, value);
    }
    let declared = headers.clone();
    request
        .body_mut()
        .declared(&declared)
        .map_err(|e| e.to_string())?;
    let headers = request.headers_mut();
    if credentials == Credentials::ServiceAccount
        && let Some(value) = shared.authorization()?
    {
        headers.insert(AUTHORIZATION, value);
    }
    Ok(request)
}

/// Passes the body on; true if all of it was.
pub(super) async fn answer<R: Runtime>(
    shared: &Shared<R>,
    mut incoming: Incoming,
    mut writer: BodyWriter,
    endless: bool,
) -> bool {
    let idle = shared.config.limits.idle;
    let mut trailers = Vec::new();
    loop {
        let frame = if endless {
            Some(incoming.frame().await)
        } else {
            crate::runtime::timeout(&shared.runtime, idle, incoming.frame()).await
        };
        let data: Bytes = match frame {
            None => {
                let text = format!("the Kubernetes API sent nothing for {} s", idle.as_secs());
                writer.abort(text);
                return false;
            }
            Some(None) => {
                writer.finish_with(trailers);
                return true;
            }
            Some(Some(Err(error))) => {
                writer.abort(format!("the answer broke off: {}", chain(&error)));
                return false;
            }
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => data,
                Err(other) => {
                    trailers = pairs(&other.into_trailers().unwrap_or_default());
                    continue;
                }
            },
        };
        if writer.write(data).await.is_err() {
            return false;
        }
    }
}

/// Watches and followed logs may be silent for as long as they like.
fn is_endless(head: &RequestHead) -> bool {
    let query = head.query.as_deref().unwrap_or_default();
    let asked = query.split('&').any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
        matches!(name, "watch" | "follow") && matches!(value, "true" | "1" | "True" | "t" | "T")
    });
    asked || head.path.split('/').any(|segment| segment == "watch")
}

/// Status and headers, as the tunnel carries them.
pub(super) fn response_head(response: &Response<Incoming>) -> ResponseHead {
    ResponseHead {
        status: response.status().as_u16(),
        headers: pairs(response.headers()),
    }
}

fn pairs(headers: &HeaderMap) -> Headers {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = headers.iter();
    headers
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p187_watches_and_followed_logs_are_endless() {
        let head = |path: &str, query: &str| RequestHead {
            path: path.into(),
            query: (!query.is_empty()).then(|| query.into()),
            ..RequestHead::default()
        };
        assert!(is_endless(&head("/api/v1/pods", "limit=1&watch=true")));
        assert!(is_endless(&head("/api/v1/pods", "watch=1")));
        assert!(is_endless(&head("/api/v1/watch/pods", "")));
        assert!(is_endless(&head(
            "/api/v1/namespaces/a/pods/b/log",
            "follow=true"
        )));
        assert!(!is_endless(&head("/api/v1/pods", "")));
        assert!(!is_endless(&head(
            "/api/v1/pods",
            "watch=false&labelSelector=follow%3Dtrue"
        )));
    }
}
