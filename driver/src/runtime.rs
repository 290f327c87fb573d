//! What the driver needs of an async runtime: names, TCP, TLS, WebSocket, tasks and timers.
//! Nothing here knows the protocol.

use std::{
    future::{Future, poll_fn},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{AsyncRead, AsyncWrite, Sink, Stream, future::Either};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName},
};
use socket2::{SockRef, TcpKeepalive};
use tungstenite::{Error as WsError, Message, protocol::WebSocketConfig};

use crate::meter::Metered;

/// An async runtime. Implementations only move bytes; they make no decision of the protocol.
pub trait Runtime: Clone + Default + Send + Sync + 'static {
    /// A TCP connection, or TLS over one, which may be a [`TlsIo`](crate::TlsIo).
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// A WebSocket.
    type Socket: WebSocket;
    /// A timer.
    type Timer: Timer;
    /// A UDP socket that is connected.
    type Udp: Datagrams;

    /// Its name, for logs and `--version`.
    fn name(&self) -> &'static str;

    /// All addresses of `host`, in the order the system prefers.
    fn resolve(
        &self,
        host: String,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static;

    /// Connects, and sets the connection up by [`tune`].
    fn tcp(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::Io>> + Send + 'static;

    /// A UDP socket of its own, bound to [`unspecified`] and connected to `address`.
    fn udp(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::Udp>> + Send + 'static;

    /// Performs the TLS handshake of a client; `io` may be TLS itself, as within the tunnel of a
    /// proxy that is reached by TLS.
    fn tls(
        &self,
        io: Self::Io,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> impl Future<Output = io::Result<Self::Io>> + Send + 'static;

    /// The certificate that the server showed, in DER; `None` without TLS.
    fn peer_certificate(io: &Self::Io) -> Option<CertificateDer<'static>>;

    /// Performs the WebSocket handshake of a client.
    fn websocket(
        &self,
        request: http::Request<()>,
        io: Metered<Self::Io>,
        config: WebSocketConfig,
    ) -> impl Future<Output = Result<Self::Socket, WsError>> + Send + 'static;

    /// Speaks WebSocket as a client on a connection that was upgraded already, and of which
    /// `read` was read beyond the upgrade.
    fn websocket_over(
        &self,
        io: Metered<Self::Io>,
        read: Vec<u8>,
        config: WebSocketConfig,
    ) -> impl Future<Output = Self::Socket> + Send + 'static;

    /// Runs a task to its end, in the background.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// A timer that is due at `at`.
    fn timer(&self, at: Instant) -> Self::Timer;

    /// The present moment; a runtime with virtual time returns that.
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// A timer that can be set again.
pub trait Timer: Send + 'static {
    /// Makes it due at `at`.
    fn reset(self: Pin<&mut Self>, at: Instant);
    /// Ready once it is due.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
}

/// A UDP socket that is connected to one address. Each call is one datagram, whole; both may wait
/// at the same time, and nothing is lost where one of the futures is dropped.
pub trait Datagrams: Send + Sync + 'static {
    /// Sends a datagram, once the system has room for it.
    fn send(&self, datagram: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits for a datagram, and returns its length.
    fn recv(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;
}

/// A WebSocket: a stream and a sink of messages.
pub trait WebSocket:
    Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Send + Unpin + 'static
{
}

impl<T> WebSocket for T where
    T: Stream<Item = Result<Message, WsError>>
        + Sink<Message, Error = WsError>
        + Send
        + Unpin
        + 'static
{
}

/// How every TCP connection is set up: small segments leave at once, and a peer that vanished is
/// noticed within about a minute although nothing is sent, as on a silent watch (P-173).
///
/// # Errors
///
/// The system refuses.
pub fn tune<S: AsFd>(tcp: &S) -> io::Result<()> {
    let alive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    let socket = SockRef::from(tcp);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&alive)
}

/// Any port of any own address, for a socket that will be connected to `peer`.
#[must_use]
pub const fn unspecified(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        SocketAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}

/// Waits for `span`; for ever, where that is later than time can tell.
pub async fn sleep<R: Runtime>(runtime: &R, span: Duration) {
    let Some(at) = runtime.now().checked_add(span) else {
        return std::future::pending().await;
    };
    let mut timer = pin!(runtime.timer(at));
    poll_fn(|cx| timer.as_mut().poll(cx)).await;
}

/// Lets other tasks have a turn.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What `future` returns within `span`, or `None`.
pub async fn timeout<R: Runtime, F: Future>(
    runtime: &R,
    span: Duration,
    future: F,
) -> Option<F::Output> {
    let limit = pin!(sleep(runtime, span));
    match futures_util::future::select(pin!(future), limit).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}
