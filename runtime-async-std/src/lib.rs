//! The control-plane agent on async-std: async-tungstenite and futures-rustls below the event
//! loop of [`controlplane_driver`], which the other runtimes share.
//!
//! ```no_run
//! use controlplane_async_std::{Agent, AgentInfo, Token};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let info = AgentInfo {
//!     agent_id: "agent-1f2e3d4c5b6a7988".into(),
//!     name: "prod".into(),
//!     ..AgentInfo::default()
//! };
//! let token = Token::new(std::env::var("PIPEOPS_TOKEN")?)?;
//! // Forwards to the Kubernetes API of the pod it runs in, and reconnects by itself.
//! let agent = Agent::builder("https://controller.example.com", token, info).start()?;
//! let registration = agent.registered().await?;
//! println!("registered as {}", registration.cluster_id);
//! agent.shutdown(std::time::Duration::from_secs(25)).await;
//! # Ok(())
//! # }
//! ```
//!
//! With a [`Handler`] of your own, the tunnel carries whatever you answer:
//!
//! ```no_run
//! use controlplane_async_std::{Agent, AgentInfo, Request, Responder, ResponseHead, Token};
//!
//! # fn run(info: AgentInfo, token: Token) -> Result<(), Box<dyn std::error::Error>> {
//! let agent = Agent::builder("https://controller.example.com", token, info)
//!     .handler(|mut request: Request, responder: Responder| async move {
//!         let mut length = 0;
//!         while let Some(Ok(piece)) = request.body.next().await {
//!             length += piece.len();
//!         }
//!         let mut body = responder.respond(ResponseHead { status: 200, headers: vec![] });
//!         if body.write(format!("{length} bytes\n").into()).await.is_ok() {
//!             body.finish();
//!         }
//!     })
//!     .start()?;
//! # drop(agent);
//! # Ok(())
//! # }
//! ```
//!
//! # No tokio runtime
//!
//! None is ever entered: there is none. The `tokio` crate is in the tree for data types only, the
//! channels of hyper and of the driver (`tokio::sync`), and is compiled without its feature `rt`, as
//! long as nothing else in your program asks for it.

use std::{
    future::Future,
    io,
    net::{Shutdown, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use async_std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use async_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error as WsError,
        http::Request as HttpRequest,
        protocol::{Role, WebSocketConfig},
    },
};
pub use controlplane_driver::*;
use futures_rustls::TlsConnector;
use futures_util::{AsyncRead, AsyncWrite, future::Either};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName},
};

/// The agent on async-std; see the [crate]'s example.
pub type Agent = controlplane_driver::Agent<AsyncStd>;
/// Settings of an [`Agent`].
pub type Builder = controlplane_driver::Builder<AsyncStd>;
/// The built-in handler on async-std.
pub type Kubernetes = controlplane_driver::Kubernetes<AsyncStd>;

/// async-std.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsyncStd;

/// async-std has no timer that can be set again; the one it is built on has.
#[derive(Debug)]
pub struct Sleep(async_io::Timer);

impl Timer for Sleep {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0.set_at(at);
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

/// A TCP connection of async-std whose close the peer sees: async-std's own only flushes.
#[derive(Debug)]
pub struct Tcp(TcpStream);

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.0.shutdown(Shutdown::Write) {
            // The peer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            closed => closed,
        })
    }
}

/// A UDP socket of async-std.
#[derive(Debug)]
pub struct Udp(UdpSocket);

impl Datagrams for Udp {
    async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.0.send(datagram).await.map(drop)
    }

    async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer).await
    }
}

#[expect(
    clippy::manual_async_fn,
    reason = "the futures outlive the borrow, which `async fn` cannot say"
)]
impl Runtime for AsyncStd {
    type Io = Either<Tcp, TlsIo>;
    type Socket = WebSocketStream<Metered<Self::Io>>;
    type Timer = Sleep;
    type Udp = Udp;

    fn name(&self) -> &'static str {
        "async-std"
    }

    fn resolve(
        &self,
        host: String,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static {
        async move { Ok((host.as_str(), port).to_socket_addrs().await?.collect()) }
    }

    fn tcp(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::Io>> + Send + 'static {
        async move {
            // async-std's own stream does not lend its descriptor; the one below it does.
            let tcp = async_io::Async::<std::net::TcpStream>::connect(address).await?;
            tune(&tcp)?;
            Ok(Either::Left(Tcp(tcp.into_inner()?.into())))
        }
    }

    fn udp(&self, address: SocketAddr) -> impl Future<Output = io::Result<Udp>> + Send + 'static {
        async move {
            let socket = UdpSocket::bind(unspecified(address)).await?;
            socket.connect(address).await?;
            Ok(Udp(socket))
        }
    }

    fn tls(
        &self,
        io: Self::Io,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> impl Future<Output = io::Result<Self::Io>> + Send + 'static {
        async move {
            let stream = TlsConnector::from(config).connect(name, io).await?;
            let tls = TlsIo::new(stream, |stream| stream.get_ref().1, |stream| stream);
            Ok(Either::Right(tls))
        }
    }

    fn peer_certificate(io: &Self::Io) -> Option<CertificateDer<'static>> {
        match io {
            Either::Left(_) => None,
            Either::Right(tls) => tls.certificate().cloned(),
        }
    }

    fn websocket(
        &self,
        request: HttpRequest<()>,
        io: Metered<Self::Io>,
        config: WebSocketConfig,
    ) -> impl Future<Output = Result<Self::Socket, WsError>> + Send + 'static {
        async move {
            let (socket, _) = client_async_with_config(request, io, Some(config)).await?;
            Ok(socket)
        }
    }

    fn websocket_over(
        &self,
        io: Metered<Self::Io>,
        read: Vec<u8>,
        config: WebSocketConfig,
    ) -> impl Future<Output = Self::Socket> + Send + 'static {
        WebSocketStream::from_partially_read(io, read, Role::Client, Some(config))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(async_std::task::spawn(task));
    }

    fn timer(&self, at: Instant) -> Sleep {
        Sleep(async_io::Timer::at(at))
    }
}
