//! The listener and its connections: TLS, HTTP/1.1, and nothing left behind at the end.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::server::Server;

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
    let service = service_fn(move |request| {
        let (server, reset) = (Arc::clone(&server), Arc::clone(&reset));
        async move {
            let answered = server.serve(request).await;
            answered.inspect_err(|_| reset.store(true, Ordering::Relaxed))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    drop(served.await);
}

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
