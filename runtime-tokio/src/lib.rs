//! The control-plane agent on tokio: tokio-tungstenite and rustls below the event loop of
//! [`controlplane_driver`], which the other runtimes share.
//!
//! ```no_run
//! use controlplane_tokio::{Agent, AgentInfo, Token};
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
//! use controlplane_tokio::{Agent, AgentInfo, Request, Responder, ResponseHead, Token};
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

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

pub use controlplane_driver::*;
use futures_util::future::Either;
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName},
};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error as WsError,
        http::Request as HttpRequest,
        protocol::{Role, WebSocketConfig},
    },
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

/// The agent on tokio; see the [crate]'s example.
pub type Agent = controlplane_driver::Agent<Tokio>;
/// Settings of an [`Agent`].
pub type Builder = controlplane_driver::Builder<Tokio>;
/// The built-in handler on tokio.
pub type Kubernetes = controlplane_driver::Kubernetes<Tokio>;

/// tokio. Its methods are called within a tokio runtime with time and I/O enabled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tokio;

/// A timer of tokio.
#[derive(Debug)]
pub struct Sleep(Pin<Box<tokio::time::Sleep>>);

impl Timer for Sleep {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0.as_mut().reset(at.into());
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// A UDP socket of tokio.
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
impl Runtime for Tokio {
    type Io = Either<Compat<TcpStream>, TlsIo>;
    type Socket = WebSocketStream<Compat<Metered<Self::Io>>>;
    type Timer = Sleep;
    type Udp = Udp;

    fn name(&self) -> &'static str {
        "tokio"
    }

    fn resolve(
        &self,
        host: String,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static {
        async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }
    }

    fn tcp(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::Io>> + Send + 'static {
        async move {
            let tcp = TcpStream::connect(address).await?;
            tune(&tcp)?;
            Ok(Either::Left(tcp.compat()))
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
            let tls = TlsConnector::from(config);
            Ok(Either::Right(match io {
                Either::Left(tcp) => {
                    let stream = tls.connect(name, tcp.into_inner()).await?;
                    TlsIo::new(stream, |stream| stream.get_ref().1, TlsStream::compat)
                }
                Either::Right(outer) => {
                    let stream = tls.connect(name, outer.compat()).await?;
                    TlsIo::new(stream, |stream| stream.get_ref().1, TlsStream::compat)
                }
            }))
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
            let (socket, _) = client_async_with_config(request, io.compat(), Some(config)).await?;
            Ok(socket)
        }
    }

    fn websocket_over(
        &self,
        io: Metered<Self::Io>,
        read: Vec<u8>,
        config: WebSocketConfig,
    ) -> impl Future<Output = Self::Socket> + Send + 'static {
        WebSocketStream::from_partially_read(io.compat(), read, Role::Client, Some(config))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(task));
    }

    fn timer(&self, at: Instant) -> Sleep {
        Sleep(Box::pin(tokio::time::sleep_until(at.into())))
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}
