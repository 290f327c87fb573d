//! The listener and its connections: TLS, HTTP/1.1, and nothing left behind at the end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::server::{Leave, Server};

/// How long a client may take for the handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(30);

/// Accepts connections until it is dropped; they end with it.
pub(super) async fn listen(
    listener: TcpListener,
    tls: TlsAcceptor,
    server: Arc<Server>,
) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(connection(socket, tls.clone(), Arc::clone(&server)));
                }
                // Out of descriptors: it gets better when a connection ends.
                Err(_) => drop(connections.join_next().await),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection. What goes wrong with it is the client's to notice.
async fn connection(socket: TcpStream, tls: TlsAcceptor, server: Arc<Server>) {
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let reset = Arc::new(AtomicBool::new(false));
    let socket = Socket {
        socket,
        reset: Arc::clone(&reset),
    };
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(socket)).await else {
        return;
    };
    let left = Arc::new(Mutex::new(None));
    let leaving = Arc::clone(&left);
    let service = service_fn(move |request| {
        let (server, leaving) = (Arc::clone(&server), Arc::clone(&leaving));
        Box::pin(async move {
            server.serve(request).await.map_err(|leave| {
                *leaving.lock().unwrap_or_else(PoisonError::into_inner) = Some(leave);
                NotServed
            })
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    let served = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    let left = left.lock().unwrap_or_else(PoisonError::into_inner).take();
    match left {
        Some(Leave::Reset) => reset.store(true, Ordering::Relaxed),
        Some(Leave::Takeover(takeover)) => takeover.run(stream, parts.read_buf).await,
        None if served.is_ok() => drop(stream.shutdown().await),
        None => {}
    }
}

/// Ends the work of HTTP on a connection.
#[derive(Debug, Error)]
#[error("not served over HTTP")]
struct NotServed;

/// A socket that can be made to end with a reset instead of an orderly close.
#[derive(Debug)]
struct Socket {
    socket: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            drop(self.socket.set_zero_linger());
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
