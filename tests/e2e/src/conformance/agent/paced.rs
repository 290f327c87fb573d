//! A runtime whose time and whose names are the tester's, and whose bytes go over real connections
//! of the runtime below.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use controlplane_driver::{Datagrams, Metered, Runtime};
use controlplane_world::vectors::step::Transport;
use futures_util::{Sink, Stream};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::{Error as WsError, Message, protocol::WebSocketConfig};

use super::pace::{Pace, PacedTimer, Watched};
use crate::left_to;

/// Where a connection to a service leads, if it is taken.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) address: SocketAddr,
    /// Dropped with the agent's end, where that shows in no other way.
    pub(super) held: oneshot::Sender<()>,
}

/// The agent connects to a service, and waits until the tester takes it; it gives up where the
/// other end of `taken` is gone.
#[derive(Debug)]
pub(super) struct Connecting {
    pub(super) transport: Transport,
    /// Host and port.
    pub(super) to: String,
    pub(super) taken: oneshot::Sender<Taken>,
}

/// What names stand for.
#[derive(Debug)]
pub(super) struct Names {
    /// Controller and gateways.
    pub(super) link: SocketAddr,
    /// The Kubernetes API.
    pub(super) upstream: SocketAddr,
    /// Hosts of gateways.
    pub(super) gateways: Vec<String>,
    /// Services that were asked for; the n-th has an address that no machine has.
    services: Mutex<Vec<String>>,
    connects: mpsc::UnboundedSender<Connecting>,
}

impl Names {
    pub(super) fn new(
        (link, upstream): (SocketAddr, SocketAddr),
        gateways: Vec<String>,
        connects: mpsc::UnboundedSender<Connecting>,
    ) -> Self {
        Self {
            link,
            upstream,
            gateways,
            services: Mutex::default(),
            connects,
        }
    }

    fn address(&self, host: &str, port: u16) -> SocketAddr {
        let own = [self.link, self.upstream];
        if let Some(address) = own.into_iter().find(|a| a.port() == port) {
            return address;
        }
        if self.gateways.iter().any(|gateway| gateway == host) {
            return self.link;
        }
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{host}:{port}");
        let known = services.iter().position(|service| *service == name);
        let place = known.unwrap_or_else(|| {
            services.push(name);
            services.len() - 1
        });
        // The block for documentation: a connection that is not intercepted goes nowhere.
        SocketAddr::from(([192, 0, 2, 1 + place as u8], port))
    }

    fn service(&self, address: SocketAddr) -> Option<String> {
        let SocketAddr::V4(v4) = address else {
            return None;
        };
        let [192, 0, 2, place] = v4.ip().octets() else {
            return None;
        };
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.get(usize::from(place).checked_sub(1)?).cloned()
    }

    /// Waits until the tester takes a connection to a service.
    async fn taken(&self, transport: Transport, to: String) -> io::Result<Taken> {
        let (taken, verdict) = oneshot::channel();
        let connecting = Connecting {
            transport,
            to,
            taken,
        };
        let refused = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
        let _ = self.connects.send(connecting);
        verdict.await.map_err(refused)
    }
}

/// The runtime `R` in the tester's time.
#[derive(Clone)]
pub(super) struct Paced<R> {
    inner: R,
    /// Without it there is no tester.
    tester: Option<(Arc<Pace>, Arc<Names>)>,
}

impl<R: Runtime> Paced<R> {
    pub(super) const fn new(inner: R, pace: Arc<Pace>, names: Arc<Names>) -> Self {
        Self {
            inner,
            tester: Some((pace, names)),
        }
    }

    fn tester(&self) -> (Arc<Pace>, Arc<Names>) {
        self.tester
            .clone()
            .expect("it was made by `Paced::new`, not by `default`")
    }
}

impl<R: Runtime> Default for Paced<R> {
    fn default() -> Self {
        Self {
            inner: R::default(),
            tester: None,
        }
    }
}

/// A WebSocket that is counted as long as it is held.
pub(super) struct Counted<S> {
    inner: S,
    pace: Arc<Pace>,
    is_link: bool,
}

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        if self.is_link {
            self.pace.count(|counts| counts.links -= 1);
        }
    }
}

impl<S: Stream + Unpin> Stream for Counted<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Pin::new(&mut self.inner).poll_next(cx)
    }
}

impl<S: Sink<Message> + Unpin> Sink<Message> for Counted<S> {
    type Error = S::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Pin::new(&mut self.inner).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), S::Error> {
        self.pace.count(|counts| counts.said += 1);
        Pin::new(&mut self.inner).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// Counts a dial that is over, with whatever outcome.
struct Dialled(Arc<Pace>);

impl Drop for Dialled {
    fn drop(&mut self) {
        self.0.count(|counts| counts.dialled += 1);
    }
}

/// A UDP socket that tells the tester when it is gone.
pub(super) struct Held<U> {
    inner: U,
    _held: Option<oneshot::Sender<()>>,
}

impl<U: Datagrams> Datagrams for Held<U> {
    async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.inner.send(datagram).await
    }

    async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.recv(buffer).await
    }
}

impl<R: Runtime> Runtime for Paced<R> {
    type Io = R::Io;
    type Socket = Counted<R::Socket>;
    type Timer = PacedTimer;
    type Udp = Held<R::Udp>;

    left_to!(inner: name tls);

    fn resolve(
        &self,
        host: String,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static {
        let (_, names) = self.tester();
        async move { Ok(vec![names.address(&host, port)]) }
    }

    fn tcp(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::Io>> + Send + 'static {
        let (pace, names) = self.tester();
        let inner = self.inner.clone();
        async move {
            if let Some(service) = names.service(address) {
                let taken = names.taken(Transport::Tcp, service).await?;
                let connected = inner.tcp(taken.address).await;
                pace.count(|counts| counts.connected += 1);
                return connected;
            }
            if address == names.link {
                pace.count(|counts| counts.begun += 1);
            }
            inner.tcp(address).await
        }
    }

    fn udp(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::Udp>> + Send + 'static {
        let (pace, names) = self.tester();
        let inner = self.inner.clone();
        async move {
            let Some(service) = names.service(address) else {
                let inner = inner.udp(address).await?;
                return Ok(Held { inner, _held: None });
            };
            let taken = names.taken(Transport::Udp, service).await?;
            let connected = inner.udp(taken.address).await;
            pace.count(|counts| counts.connected += 1);
            Ok(Held {
                inner: connected?,
                _held: Some(taken.held),
            })
        }
    }

    fn websocket(
        &self,
        request: http::Request<()>,
        io: Metered<Self::Io>,
        config: WebSocketConfig,
    ) -> impl Future<Output = Result<Self::Socket, WsError>> + Send + 'static {
        let (pace, _) = self.tester();
        let dialled = Dialled(pace.clone());
        let opening = self.inner.websocket(request, io, config);
        async move {
            let _dialled = dialled;
            let inner = opening.await?;
            pace.count(|counts| counts.links += 1);
            Ok(Counted {
                inner,
                pace,
                is_link: true,
            })
        }
    }

    fn websocket_over(
        &self,
        io: Metered<Self::Io>,
        read: Vec<u8>,
        config: WebSocketConfig,
    ) -> impl Future<Output = Self::Socket> + Send + 'static {
        let (pace, _) = self.tester();
        let opening = self.inner.websocket_over(io, read, config);
        async move {
            Counted {
                inner: opening.await,
                pace,
                is_link: false,
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let (pace, _) = self.tester();
        self.inner.spawn(Watched::new(pace, task));
    }

    fn timer(&self, at: Instant) -> PacedTimer {
        let (pace, _) = self.tester();
        PacedTimer::new(pace, at)
    }

    fn now(&self) -> Instant {
        let (pace, _) = self.tester();
        pace.now()
    }
}
