//! The server: takes connections, keeps its agents in step with the credentials file, and stops
//! within a bounded time.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};

use crate::{
    admission::{Admission, Full, Visit},
    agents::Agents,
    config::ServerConfig,
    connection::{self, Client},
    credentials::{AgentCredential, Credentials, CredentialsError, CredentialsFile},
    metrics::{Responses, View},
    reload::Reloaded,
    tls::{Configs, ServerTlsError},
};

/// How often it is looked at who is connected, and who may no longer be.
const REVIEW: Duration = Duration::from_secs(2);
/// After an error of the system, such as no file descriptors left.
const BREATH: Duration = Duration::from_millis(200);
/// For the last bytes to leave after the grace of a shutdown, the ends of streams among them.
const LINGER: Duration = Duration::from_secs(3);

/// What all connections share.
pub(crate) struct App {
    pub(crate) config: ServerConfig,
    pub(crate) tls: Configs,
    pub(crate) credentials: Reloaded<Credentials, CredentialsError>,
    pub(crate) agents: Agents,
    pub(crate) admission: Admission,
    pub(crate) responses: Responses,
}

/// The reference control plane.
#[derive(Clone, Copy, Debug)]
pub struct Server;

impl Server {
    /// Reads certificate and credentials, listens, and serves from then on.
    ///
    /// # Errors
    ///
    /// A file cannot be used, a limit is impossible, or the address cannot be listened on.
    pub async fn start(config: ServerConfig) -> Result<Running, ServerError> {
        let app = App::new(config)?;
        let listen = app.config.listen;
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|source| ServerError::Listen { listen, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| ServerError::Listen { listen, source })?;
        let app = Arc::new(app);
        let (stop, stopping) = watch::channel(None);
        let health = health(&app, &stop)?;
        let accepting = accept(app.clone(), listener, stopping);
        Ok(Running {
            app,
            address,
            health,
            stop,
            accepting: Some(tokio::spawn(accepting)),
        })
    }
}

type Stop = watch::Sender<Option<Instant>>;

fn health(app: &Arc<App>, stop: &Stop) -> Result<Option<controlplane_health::Server>, ServerError> {
    let Some(listen) = app.config.health_listen else {
        return Ok(None);
    };
    let view = View {
        app: app.clone(),
        stop: stop.subscribe(),
    };
    let started = controlplane_health::Server::start(listen, Arc::new(view));
    let started = started.map_err(|source| ServerError::Health { listen, source })?;
    Ok(Some(started))
}

impl App {
    pub(crate) fn new(config: ServerConfig) -> Result<Self, ServerError> {
        let limits = &config.limits;
        let waits = [
            limits.tls_handshake,
            limits.head_read,
            limits.idle,
            limits.write,
            limits.stream_ping,
            limits.stream_write,
        ];
        if limits.connections == 0
            || limits.pending_per_address == 0
            || limits.agent_handshakes_per_second == 0
            || limits.head < 8192
            || limits.stream_silence < limits.stream_ping.saturating_mul(2)
            || waits.contains(&Duration::ZERO)
        {
            return Err(ServerError::Limits);
        }
        let file = CredentialsFile::new(&config.credentials);
        let credentials = Reloaded::start(vec![config.credentials.clone()], move || file.load())?;
        Ok(Self {
            tls: config.tls.start()?,
            credentials,
            agents: Agents::new(config.periods, config.agent_limits, config.mode),
            admission: Admission::new(&config.limits, Instant::now()),
            responses: Responses::default(),
            config,
        })
    }
}

/// A server that runs. Dropped, it ends at once, its connections included.
#[derive(Debug)]
pub struct Running {
    app: Arc<App>,
    address: SocketAddr,
    /// It answers as long as it lives.
    health: Option<controlplane_health::Server>,
    /// Since [`Running::shutdown`]: when everything is over at the latest.
    stop: Stop,
    accepting: Option<JoinHandle<()>>,
}

/// One cluster, as [`Running::clusters`] lists them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cluster {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether its agent is connected and registered.
    pub connected: bool,
    /// Whether requests to it travel in the fast mode ([`crate::Mode::Fast`]).
    pub fast: bool,
    /// How often a stream of the fast mode to it had data to send and no window left, on the present
    /// connection.
    pub stalls: u64,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Where it answers health checks, if it does.
    #[must_use]
    pub fn health_addr(&self) -> Option<SocketAddr> {
        self.health
            .as_ref()
            .map(controlplane_health::Server::address)
    }

    /// The clusters that have a credential.
    #[must_use]
    pub fn clusters(&self) -> Vec<Cluster> {
        let cluster = |agent: &AgentCredential| {
            let joined = self.app.agents.joined(agent);
            let fast = joined
                .as_ref()
                .is_some_and(|(_, joined)| joined.http_streams);
            Cluster {
                id: agent.cluster_id().into(),
                name: agent.name.clone(),
                connected: joined.is_some(),
                fast,
                stalls: self.app.agents.stats(agent).stalls,
            }
        };
        let credentials = self.app.credentials.current();
        credentials.agents.iter().map(cluster).collect()
    }

    /// Cuts the connections of all agents as a broken network would, without a farewell.
    pub fn drop_agent_connections(&self) {
        self.app.agents.disconnect();
    }

    /// Stops: no new connections and requests, open requests and streams may end within `grace`,
    /// agents are told with 1001. Clients whose streams are still open then are told why they end.
    /// Returns when all is over, a few seconds after `grace` at the latest.
    pub async fn shutdown(mut self, grace: Duration) {
        let deadline = Instant::now() + grace + LINGER;
        self.stop.send_replace(Some(deadline));
        let agents = timeout_at(deadline, self.app.agents.shutdown(grace));
        if agents.await.is_err() {
            tracing::warn!("not every agent could be told that the controller stops");
        }
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

async fn accept(app: Arc<App>, listener: TcpListener, mut stop: watch::Receiver<Option<Instant>>) {
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut review = interval(REVIEW);
    review.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let deadline = loop {
        tokio::select! {
            deadline = told(&mut stop) => break deadline,
            _ = review.tick() => app.agents.review(&app.credentials.current()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((tcp, peer)) => {
                    if let Some(visit) = admit(&app, peer) {
                        let client = Client::new(peer, visit, stopped.clone());
                        connections.spawn(connection::serve(app.clone(), tcp, client));
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections");
                    sleep(BREATH).await;
                }
            }
        }
    };
    drop(listener);
    stopping.send_replace(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout_at(deadline, ended).await.is_err() {
        connections.shutdown().await;
    }
}

/// Waits until the server is to stop, and returns when everything must be over.
async fn told(stop: &mut watch::Receiver<Option<Instant>>) -> Instant {
    let deadline = stop.wait_for(Option::is_some).await;
    // Without a sender the server's handle is gone.
    deadline
        .ok()
        .and_then(|deadline| *deadline)
        .unwrap_or_else(Instant::now)
}

fn admit(app: &App, peer: SocketAddr) -> Option<Visit> {
    match app.admission.enter(peer.ip()) {
        Ok(visit) => Some(visit),
        Err(Full::Address) => {
            tracing::debug!(%peer, "connection dropped: too many of its address");
            None
        }
        Err(Full::Server) => {
            tracing::warn!(%peer, "connection dropped: too many connections");
            None
        }
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("config", &self.config).finish()
    }
}

/// The server cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The address for health checks cannot be listened on.
    #[error(
        "cannot listen on {listen} for health checks: {source}; choose another --health-listen"
    )]
    Health {
        /// Which address.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A limit is zero, that of request heads below 8192, or that of silence below two pings.
    #[error(
        "limits: none may be zero, `head` must be at least 8192 bytes, and `stream_silence` at \
         least twice `stream_ping`"
    )]
    Limits,
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}; is the port taken, or not permitted?")]
    Listen {
        /// Which address.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] ServerTlsError),
}
