//! Bytes both ways between a stream of the tunnel and a connection of the cluster's network, each
//! direction until it ends: the end of one leaves the other open.

use std::{future::Future, io, pin::pin, time::Duration};

use futures_util::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt,
    future::{Either, select},
    io::{ReadHalf, WriteHalf},
};
use thiserror::Error;

use crate::{
    links::chain,
    runtime::{Runtime, timeout, yield_now},
};

/// Read at once.
const READ: usize = 16 << 10;
/// For the rest of one direction, once the other has nowhere to go any more.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Why bytes are carried no longer; both directions end, and neither in order.
#[derive(Debug, Error)]
pub(crate) enum CarryError {
    #[error("reading from the client: {}", chain(.0))]
    ClientRead(io::Error),
    #[error("writing to the client: {}", chain(.0))]
    ClientWrite(io::Error),
    #[error("reading from the upstream: {}", chain(.0))]
    UpstreamRead(io::Error),
    #[error("writing to the upstream: {}", chain(.0))]
    UpstreamWrite(io::Error),
}

/// How both directions ended that did not break.
enum Ended {
    InOrder,
    /// The upstream has said all, and takes no more.
    Deaf,
}

/// Carries bytes both ways, each until it ends. `read` has come from the upstream already.
///
/// # Errors
///
/// A direction broke: both ends are to be dropped, and not closed.
pub(crate) async fn carry<R: Runtime>(
    runtime: &R,
    client: impl AsyncRead + AsyncWrite + Unpin,
    upstream: impl AsyncRead + AsyncWrite + Unpin,
    read: &[u8],
) -> Result<(), CarryError> {
    let (mut from_client, to_client) = client.split();
    let (from_upstream, to_upstream) = upstream.split();
    let down = down(from_upstream, to_client, read);
    let ended = both(runtime, down, up(&mut from_client, to_upstream)).await?;
    if matches!(ended, Ended::Deaf) {
        // Dropped now, the connection might take the upstream's last word with it.
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
            Err(CarryError::UpstreamWrite(_)) => Ok(Ended::Deaf),
            Err(error) => Err(error),
        },
        Either::Right((Ok(()), down)) => down.await.map(|()| Ended::InOrder),
        // The upstream ends its connection right after its last word, often while more is on its way
        // to it. What it said before counts.
        Either::Right((Err(error @ CarryError::UpstreamWrite(_)), down)) => {
            match timeout(runtime, LAST_WORDS, down).await {
                Some(Ok(())) => Ok(Ended::Deaf),
                _ => Err(error),
            }
        }
        Either::Left((Err(error), _)) | Either::Right((Err(error), _)) => Err(error),
    }
}

/// From the upstream to the client; the end of the one closes the other.
async fn down(
    mut from: ReadHalf<impl AsyncRead + Unpin>,
    mut to: WriteHalf<impl AsyncWrite + Unpin>,
    read: &[u8],
) -> Result<(), CarryError> {
    let sent = write(&mut to, read).await;
    sent.map_err(CarryError::ClientWrite)?;
    let mut buffer = vec![0; READ];
    loop {
        let len = from
            .read(&mut buffer)
            .await
            .map_err(CarryError::UpstreamRead)?;
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

/// From the client to the upstream; likewise.
async fn up(
    from: &mut ReadHalf<impl AsyncRead + Unpin>,
    mut to: WriteHalf<impl AsyncWrite + Unpin>,
) -> Result<(), CarryError> {
    let mut buffer = vec![0; READ];
    loop {
        let read = from.read(&mut buffer).await;
        let len = read.map_err(CarryError::ClientRead)?;
        let data = buffer.get(..len).unwrap_or_default();
        if data.is_empty() {
            return match to.close().await {
                // The upstream was faster.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                closed => closed.map_err(CarryError::UpstreamWrite),
            };
        }
        let sent = write(&mut to, data).await;
        sent.map_err(CarryError::UpstreamWrite)?;
        yield_now().await;
    }
}

/// Writes it all, and at once.
async fn write(to: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> io::Result<()> {
    to.write_all(data).await?;
    to.flush().await
}

async fn discard(from: &mut ReadHalf<impl AsyncRead + Unpin>) {
    let mut rest = vec![0; READ];
    while matches!(from.read(&mut rest).await, Ok(1..)) {
        yield_now().await;
    }
}
