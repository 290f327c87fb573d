//! The way of a request that switches protocols: a connection of its own to the Kubernetes API,
//! the handshake as the client made it, and from the 101 on opaque bytes both ways.

use std::sync::Arc;

use controlplane_core::{
    RequestHead,
    rules::{Credentials, UpgradeTo},
};
use http::{Response, StatusCode, header::UPGRADE};
use hyper::body::Incoming;

use super::{
    Shared,
    body::UpstreamBody,
    pool::{self, Wire},
    relay::{answer, response_head, upstream_request},
};
use crate::{
    both_ways::carry,
    hyper_io::HyperIo,
    links::chain,
    meter::Metered,
    runtime::Runtime,
    upgrade::{UpgradeRequest, UpgradeResponder},
};

pub(super) async fn switch<R: Runtime>(
    shared: Arc<Shared<R>>,
    request: UpgradeRequest,
    responder: UpgradeResponder,
) {
    let UpgradeRequest {
        head,
        to,
        credentials,
    } = request;
    let (_wire, response) = match ask(&shared, head, credentials).await {
        Ok(asked) => asked,
        Err(text) => return responder.fail(text),
    };
    let head = response_head(&response);
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let writer = responder.refuse(head);
        answer(&shared, response.into_body(), writer, false).await;
        return;
    }
    let (api, read) = match taken_back::<R>(response, to).await {
        Ok(taken) => taken,
        Err(text) => return responder.fail(text),
    };
    // Without a client there is nobody to tell.
    if let Ok(client) = responder.accept(head.headers).await
        && let Err(error) = carry(&shared.runtime, client, api, &read).await
    {
        tracing::debug!(%error, protocol = to.as_str(), "an upgraded connection broke");
    }
}

/// Asks for the upgrade and waits for the head of the answer.
async fn ask<R: Runtime>(
    shared: &Shared<R>,
    head: RequestHead,
    credentials: Credentials,
) -> Result<(Wire, Response<Incoming>), String> {
    let request = upstream_request(shared, head, credentials, UpstreamBody::Empty)?;
    pool::ask_alone(shared, request).await
}

/// Takes the connection back from HTTP, with what was read beyond the answer's head. Whether the
/// handshake was done right is between the API and the client.
async fn taken_back<R: Runtime>(
    response: Response<Incoming>,
    to: UpgradeTo,
) -> Result<(Metered<R::Io>, Vec<u8>), String> {
    let switched = response.headers().get(UPGRADE);
    let switched = switched.and_then(|value| value.to_str().ok());
    if !switched.is_some_and(|name| name.trim().eq_ignore_ascii_case(to.as_str())) {
        let text = "the Kubernetes API switched to another protocol than it was asked for";
        return Err(text.into());
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|e| chain(&e))?;
    let parts = upgraded.downcast::<HyperIo<Metered<R::Io>>>();
    let parts = parts.map_err(|_| "the upgraded connection is not the one that was dialled")?;
    Ok((parts.io.into_inner(), parts.read_buf.into()))
}
