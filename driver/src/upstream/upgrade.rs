//! The way of a request that switches protocols: a connection of its own to the Kubernetes API,
//! the handshake as the client made it, and from the 101 on opaque bytes both ways.

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use controlplane_core::{
    RequestHead,
    rules::{Credentials, UpgradeTo},
};
use futures_util::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt,
    future::{Either, select},
    io::{ReadHalf, WriteHalf},
};
use http::{Response, StatusCode, header::UPGRADE};
use hyper::body::Incoming;
use thiserror::Error;

use super::{
    Shared,
    body::UpstreamBody,
    pool::{self, Wire},
    relay::{answer, response_head, upstream_request},
};
use crate::{
    hyper_io::HyperIo,
    links::chain,
    meter::Metered,
    runtime::{Runtime, timeout, yield_now},
    upgrade::{ClientIo, UpgradeRequest, UpgradeResponder},
};

/// Read at once.
const READ: usize = 16 << 10;
/// For the rest of one direction, once the other has nowhere to go any more.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Why bytes are carried no longer; both directions end, and neither in order.
#[derive(Debug, Error)]
enum CarryError {
    #[error("reading from the client: {}", chain(.0))]
    ClientRead(io::Error),
    #[error("writing to the client: {}", chain(.0))]
    ClientWrite(io::Error),
    #[error("reading from the Kubernetes API: {}", chain(.0))]
    ApiRead(io::Error),
    #[error("writing to the Kubernetes API: {}", chain(.0))]
    ApiWrite(io::Error),
}

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

/// How both directions ended that did not break.
enum Ended {
    InOrder,
    /// The API has said all, and takes no more.
    Deaf,
}

/// Carries bytes both ways, each until it ends. `read` has come from the API already.
async fn carry<R: Runtime>(
    runtime: &R,
    client: ClientIo,
    api: impl AsyncRead + AsyncWrite + Unpin,
    read: &[u8],
) -> Result<(), CarryError> {
    let (mut from_client, to_client) = client.split();
    let (from_api, to_api) = api.split();
    let down = down(from_api, to_client, read);
    let ended = both(runtime, down, up(&mut from_client, to_api)).await?;
    if matches!(ended, Ended::Deaf) {
        // Dropped now, the connection might take the API's last word with it.
        timeout(runtime, LAST_WORDS, discard(&mut from_client)).await;
    }
    Ok(())
}

/// Runs both directions, of which neither takes notice of the other's end.
async fn both<R: Runtime>(
    runtime: &R,
    down: impl Future<Output = Result<(), CarryError>>,
    up: impl Future<Output = Result<(), CarryError>>,
) -> Result<Ended, CarryError> {
    match select(pin!(down), pin!(up)).await {
        Either::Left((Ok(()), up)) => match up.await {
            Ok(()) => Ok(Ended::InOrder),
            Err(CarryError::ApiWrite(_)) => Ok(Ended::Deaf),
            Err(error) => Err(error),
        },
        Either::Right((Ok(()), down)) => down.await.map(|()| Ended::InOrder),
        // The API ends its connection right after its last word, often while more is on its way
        // to it. What it said before counts.
        Either::Right((Err(error @ CarryError::ApiWrite(_)), down)) => {
            match timeout(runtime, LAST_WORDS, down).await {
                Some(Ok(())) => Ok(Ended::Deaf),
                _ => Err(error),
            }
        }
        Either::Left((Err(error), _)) | Either::Right((Err(error), _)) => Err(error),
    }
}

/// From the API to the client; the end of the one closes the other.
async fn down<T: AsyncRead + Unpin>(
    mut from: ReadHalf<T>,
    mut to: WriteHalf<ClientIo>,
    read: &[u8],
) -> Result<(), CarryError> {
    let sent = write(&mut to, read).await;
    sent.map_err(CarryError::ClientWrite)?;
    let mut buffer = vec![0; READ];
    loop {
        let len = from.read(&mut buffer).await.map_err(CarryError::ApiRead)?;
        let data = buffer.get(..len).unwrap_or_default();
        if data.is_empty() {
            return to.close().await.map_err(CarryError::ClientWrite);
        }
        let sent = write(&mut to, data).await;
        sent.map_err(CarryError::ClientWrite)?;
        // One direction that never ceases must not keep the other from its turn.
        yield_now().await;
    }
}

/// From the client to the API; likewise.
async fn up<T: AsyncWrite + Unpin>(
    from: &mut ReadHalf<ClientIo>,
    mut to: WriteHalf<T>,
) -> Result<(), CarryError> {
    let mut buffer = vec![0; READ];
    loop {
        let read = from.read(&mut buffer).await;
        let len = read.map_err(CarryError::ClientRead)?;
        let data = buffer.get(..len).unwrap_or_default();
        if data.is_empty() {
            return match to.close().await {
                // The API was faster.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                closed => closed.map_err(CarryError::ApiWrite),
            };
        }
        let sent = write(&mut to, data).await;
        sent.map_err(CarryError::ApiWrite)?;
        yield_now().await;
    }
}

/// Writes it all, and at once.
async fn write(to: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> io::Result<()> {
    to.write_all(data).await?;
    to.flush().await
}

async fn discard(from: &mut ReadHalf<ClientIo>) {
    let mut rest = vec![0; READ];
    while matches!(from.read(&mut rest).await, Ok(1..)) {
        yield_now().await;
    }
}
