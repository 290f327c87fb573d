//! A runtime that resolves names in its own way.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Instant};

use controlplane_driver::{Metered, Runtime};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName},
};
use tokio_tungstenite::tungstenite::{Error as WsError, protocol::WebSocketConfig};

/// A runtime whose names have a dead address before the living one, where one is given.
#[derive(Clone, Default)]
pub(crate) struct TwoAddresses<R>(pub(crate) R, pub(crate) Option<SocketAddr>);

impl<R: Runtime> Runtime for TwoAddresses<R> {
    type Io = R::Io;
    type Socket = R::Socket;
    type Timer = R::Timer;
    type Udp = R::Udp;

    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn resolve(
        &self,
        host: String,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static {
        let dead = self.1;
        // The services of this cluster are at home.
        let host = if host.ends_with(".svc") {
            "localhost".into()
        } else {
            host
        };
        let living = self.0.resolve(host, port);
        async move {
            let mut addresses: Vec<SocketAddr> = dead.into_iter().collect();
            addresses.extend(living.await?);
            Ok(addresses)
        }
    }

    fn tcp(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::Io>> + Send + 'static {
        self.0.tcp(address)
    }

    fn udp(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::Udp>> + Send + 'static {
        self.0.udp(address)
    }

    fn tls(
        &self,
        io: Self::Io,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> impl Future<Output = io::Result<Self::Io>> + Send + 'static {
        self.0.tls(io, config, name)
    }

    fn peer_certificate(io: &Self::Io) -> Option<CertificateDer<'static>> {
        R::peer_certificate(io)
    }

    fn websocket(
        &self,
        request: http::Request<()>,
        io: Metered<Self::Io>,
        config: WebSocketConfig,
    ) -> impl Future<Output = Result<Self::Socket, WsError>> + Send + 'static {
        self.0.websocket(request, io, config)
    }

    fn websocket_over(
        &self,
        io: Metered<Self::Io>,
        read: Vec<u8>,
        config: WebSocketConfig,
    ) -> impl Future<Output = Self::Socket> + Send + 'static {
        self.0.websocket_over(io, read, config)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }

    fn timer(&self, at: Instant) -> Self::Timer {
        self.0.timer(at)
    }

    fn now(&self) -> Instant {
        self.0.now()
    }
}
