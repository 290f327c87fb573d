//! The service's end of a TCP or UDP tunnel: connects, and carries bytes or datagrams both ways
//! until one side ends it. Nothing here decides where a tunnel may lead.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt,
    future::{Either, select},
};
use thiserror::Error;

use crate::{
    both_ways::carry as carry_both_ways,
    dial,
    duplex::ByteStream,
    links::chain,
    runtime::{Datagrams, Runtime, timeout, yield_now},
    tunnel::{TunnelReader, TunnelWriter},
};

/// For the name and the connection of a service (P-123).
const CONNECT: Duration = Duration::from_secs(30);
/// For a service to say the rest, once nothing more can be written to it.
const LAST_WORDS: Duration = Duration::from_secs(30);
/// Read of a service at once.
const READ: usize = 32 << 10;
/// No datagram is longer.
const DATAGRAM: usize = 1 << 16;

/// Why a tunnel ends other than in order; the text reaches the peer.
#[derive(Debug, Error)]
enum RelayError {
    #[error("the tunnel is over")]
    Over,
    #[error("no connection to the service within {} s", CONNECT.as_secs())]
    Late,
    #[error("cannot reach the service: {0}")]
    Unreachable(String),
    #[error("reading from the service: {}", chain(.0))]
    Read(io::Error),
    #[error("writing to the service: {}", chain(.0))]
    Write(io::Error),
}

fn fail(writer: TunnelWriter, error: &RelayError) {
    tracing::debug!(%error, "a tunnel broke");
    writer.abort(error.to_string());
}

async fn connect<R: Runtime>(runtime: &R, host: &str, port: u16) -> Result<R::Io, RelayError> {
    match timeout(runtime, CONNECT, dial::tcp(runtime, host, port)).await {
        Some(Ok(io)) => Ok(io),
        Some(Err(text)) => Err(RelayError::Unreachable(text)),
        None => Err(RelayError::Late),
    }
}

/// Carries a stream of the fast mode, whose directions end on their own. What fails resets it.
pub(super) async fn stream<R: Runtime>(runtime: R, (host, port): (String, u16), io: ByteStream) {
    let service = match connect(&runtime, &host, port).await {
        Ok(service) => service,
        Err(error) => return tracing::debug!(%error, "a tunnel broke"),
    };
    io.opened();
    if let Err(error) = carry_both_ways(&runtime, io, service, &[]).await {
        tracing::debug!(%error, "a tunnel broke");
    }
}

/// Carries a tunnel in JSON messages.
pub(super) async fn tcp<R: Runtime>(
    runtime: R,
    (host, port): (String, u16),
    mut reader: TunnelReader,
    mut writer: TunnelWriter,
) {
    let io = match connect(&runtime, &host, port).await {
        Ok(io) => io,
        Err(error) => return fail(writer, &error),
    };
    writer.opened();
    match carry(&runtime, io, &mut reader, &mut writer).await {
        Ok(()) => writer.finish(),
        Err(error) => fail(writer, &error),
    }
}

/// Carries both ways until the service ends; neither direction waits for the other.
async fn carry<R: Runtime>(
    runtime: &R,
    io: R::Io,
    reader: &mut TunnelReader,
    writer: &mut TunnelWriter,
) -> Result<(), RelayError> {
    let (mut from, mut to) = io.split();
    let down = pin!(down(&mut from, writer));
    let up = pin!(up(&mut to, reader));
    let (written, down) = match select(down, up).await {
        Either::Left((read, _)) => return read,
        Either::Right((written, down)) => (written, down),
    };
    match written {
        // The peer has closed: the service ends as well, or the core's patience does.
        Ok(()) => down.await,
        // A service that ends often does so while more is on its way to it. What it said counts.
        Err(error) => match timeout(runtime, LAST_WORDS, down).await {
            Some(Ok(())) => Ok(()),
            _ => Err(error),
        },
    }
}

/// From the service, until it ends.
async fn down(
    from: &mut (impl AsyncRead + Unpin),
    writer: &mut TunnelWriter,
) -> Result<(), RelayError> {
    let mut buffer = vec![0; READ];
    loop {
        let len = from.read(&mut buffer).await.map_err(RelayError::Read)?;
        let data = buffer.get(..len).unwrap_or_default();
        if data.is_empty() || writer.write(Bytes::copy_from_slice(data)).await.is_err() {
            return Ok(());
        }
        // A service that never ceases must not keep the other direction from its turn.
        yield_now().await;
    }
}

/// Toward the service, until the peer closes.
async fn up(
    to: &mut (impl AsyncWrite + Unpin),
    reader: &mut TunnelReader,
) -> Result<(), RelayError> {
    while let Some(data) = reader.next().await {
        let data = data.map_err(|_| RelayError::Over)?;
        to.write_all(&data).await.map_err(RelayError::Write)?;
        to.flush().await.map_err(RelayError::Write)?;
        yield_now().await;
    }
    match to.close().await {
        // The service was faster.
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
        closed => closed.map_err(RelayError::Write),
    }
}

/// Carries the datagrams of one client, by a socket of its own (P-198).
pub(super) async fn udp<R: Runtime>(
    runtime: R,
    (host, port): (String, u16),
    mut reader: TunnelReader,
    mut writer: TunnelWriter,
) {
    let resolving = timeout(&runtime, CONNECT, dial::resolve(&runtime, &host, port));
    let addresses = match resolving.await {
        Some(Ok(addresses)) => addresses,
        Some(Err(text)) => return fail(writer, &RelayError::Unreachable(text)),
        None => return fail(writer, &RelayError::Late),
    };
    writer.opened();
    let mut unanswered = None;
    let mut problems = Vec::new();
    for address in addresses {
        let heard = AtomicBool::new(false);
        let ends = (&mut reader, &mut writer);
        match datagrams(&runtime, address, ends, &mut unanswered, &heard).await {
            Ok(()) => return writer.finish(),
            // There is no handshake: that nobody listens shows by what becomes of a datagram.
            Err(error) if !heard.into_inner() => problems.push(format!("{address}: {error}")),
            Err(error) => return fail(writer, &error),
        }
    }
    fail(writer, &RelayError::Unreachable(problems.join("; ")));
}

/// Carries datagrams to and from one address until the tunnel ends, or an error. The last one sent
/// to a service that has not been `heard` stays in `unanswered`, for the next address.
async fn datagrams<R: Runtime>(
    runtime: &R,
    address: SocketAddr,
    (reader, writer): (&mut TunnelReader, &mut TunnelWriter),
    unanswered: &mut Option<Bytes>,
    heard: &AtomicBool,
) -> Result<(), RelayError> {
    let socket = runtime.udp(address).await.map_err(RelayError::Write)?;
    if let Some(datagram) = &unanswered {
        socket.send(datagram).await.map_err(RelayError::Write)?;
    }
    let down = async {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let len = socket.recv(&mut buffer).await.map_err(RelayError::Read)?;
            heard.store(true, Ordering::Relaxed);
            let data = Bytes::copy_from_slice(buffer.get(..len).unwrap_or_default());
            if writer.write(data).await.is_err() {
                return Ok(());
            }
            yield_now().await;
        }
    };
    let up = async {
        while let Some(Ok(datagram)) = reader.next().await {
            if !heard.load(Ordering::Relaxed) {
                *unanswered = Some(datagram.clone());
            }
            socket.send(&datagram).await.map_err(RelayError::Write)?;
            yield_now().await;
        }
        Ok(())
    };
    match select(pin!(down), pin!(up)).await {
        Either::Left((ended, _)) | Either::Right((ended, _)) => ended,
    }
}
