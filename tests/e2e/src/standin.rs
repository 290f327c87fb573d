//! A stand-in Kubernetes API server inside the process, for tests and the demo: good enough for an
//! unmodified kubectl and the `kube` crate. It serves pods with logs, config maps and namespaces
//! over TLS on loopback, answers as the recorded real server does, and fails when told to.
//!
//! `exec` and `attach` run local processes with the rights of whoever runs the stand-in. That is
//! why it listens on 127.0.0.1 and nowhere else.
//!
//! Not offered: other kinds, sets in label selectors, conflicts between field managers, YAML bodies,
//! protobuf answers, the forms of port forwarding from before SPDY was carried by WebSocket.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod body;
mod check;
mod clock;
mod cluster;
mod discovery;
mod exec;
mod failure;
mod fault;
mod listener;
mod logs;
mod managed;
mod patch;
mod pod;
mod protobuf;
mod query;
mod reading;
mod record;
mod resource;
mod route;
mod server;
pub mod spdy;
mod store;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
mod watching;
mod writing;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

pub use self::body::pattern;
pub use self::exec::{Backend, WebSockets};
pub use self::fault::Fault;
pub use self::pod::{CONTAINER, NAMESPACE};
pub use self::record::RecordedRequest;

use self::cluster::Cluster;
use self::exec::Exec;
use self::fault::Setting;
use self::record::Record;
use self::server::Server;

/// Names under which its clients know it.
const NAMES: [&str; 4] = [
    "127.0.0.1",
    "localhost",
    "kubernetes",
    "kubernetes.default.svc",
];

/// The user that the token belongs to.
const USER: &str = "standin";

/// What a stand-in begins with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The bearer token that clients must send; `None` makes a random one.
    pub token: Option<String>,
    /// The names of the pods that are there from the start.
    pub pods: Vec<String>,
    /// How many changes a watch can be behind before it gets a 410.
    pub watch_history: usize,
    /// How many lines the log of each pod keeps. A reader that falls behind that sees its answer
    /// break off.
    pub log_lines: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            token: None,
            pods: vec!["web-0".to_owned(), "web-1".to_owned()],
            watch_history: 1024,
            log_lines: 10_000,
        }
    }
}

/// Why the stand-in cannot do what it is asked to.
#[derive(Debug, Error)]
pub enum Error {
    /// No socket could be opened.
    #[error("cannot listen on loopback: {0}")]
    Listen(#[from] std::io::Error),
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The certificate cannot be used.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The system gives no random numbers.
    #[error("no randomness for a token: {0}")]
    Random(#[from] getrandom::Error),
    /// There is no pod of that name.
    #[error("there is no pod {0}")]
    NoSuchPod(String),
    /// There is a pod of that name.
    #[error("there is a pod {0} already")]
    PodExists(String),
    /// The own process of a pod does not start.
    #[error("cannot start the process of pod {pod}: {source}")]
    Start {
        /// The pod.
        pod: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// A running stand-in. Dropping it ends the server, all its connections and all its processes.
#[derive(Debug)]
pub struct StandIn {
    addr: SocketAddr,
    ca_pem: String,
    server: Arc<Server>,
    listening: JoinHandle<()>,
    runtime: Handle,
}

impl StandIn {
    /// Starts a server on 127.0.0.1 in the current tokio runtime.
    ///
    /// # Errors
    ///
    /// If it cannot listen, or not make its certificate or token.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let identity = tls::identity(&NAMES)?;
        let token = options.token.map_or_else(random_token, Ok)?;
        let cluster = Cluster::new(options.watch_history, options.log_lines);
        options
            .pods
            .iter()
            .try_for_each(|name| cluster.add_pod(name))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let addr = listener.local_addr()?;
        let server = Arc::new(Server {
            cluster: Arc::new(cluster),
            exec: Exec::new(),
            token,
            record: Record::default(),
            faults: watch::Sender::new(Setting::default()),
            answered: AtomicU64::new(0),
        });
        let acceptor = TlsAcceptor::from(identity.config);
        let listen = listener::listen(listener, acceptor, Arc::clone(&server));
        let listening = tokio::spawn(async { match listen.await {} });
        Ok(Self {
            addr,
            ca_pem: identity.ca_pem,
            server,
            listening,
            runtime: Handle::current(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base of its URLs, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.addr)
    }

    /// The certificate of the authority that signed the server's.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The bearer token that clients must send.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.server.token
    }

    /// The text of a kubeconfig that leads here. It holds the token.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\n\
             kind: Config\n\
             clusters:\n\
             - name: standin\n\
             \x20 cluster:\n\
             \x20   server: {url}\n\
             \x20   certificate-authority-data: {ca}\n\
             users:\n\
             - name: {USER}\n\
             \x20 user:\n\
             \x20   token: {token}\n\
             contexts:\n\
             - name: standin\n\
             \x20 context:\n\
             \x20   cluster: standin\n\
             \x20   user: {USER}\n\
             \x20   namespace: {NAMESPACE}\n\
             current-context: standin\n",
            url = self.url(),
            ca = STANDARD.encode(&self.ca_pem),
            token = self.server.token,
        )
    }

    /// Adds a running pod, with one container and an empty log, in [`NAMESPACE`].
    ///
    /// # Errors
    ///
    /// [`Error::PodExists`].
    pub fn add_pod(&self, name: &str) -> Result<(), Error> {
        self.server.cluster.add_pod(name)
    }

    /// Removes a pod at once, and ends its log.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPod`].
    pub fn delete_pod(&self, name: &str) -> Result<(), Error> {
        self.server.cluster.delete_pod(name)
    }

    /// Changes an annotation of a pod, which those who watch it see as `MODIFIED`.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPod`].
    pub fn touch_pod(&self, name: &str) -> Result<(), Error> {
        self.server.cluster.touch_pod(name)
    }

    /// Has the commands of all pods looked for in these folders, as `PATH` lists them.
    pub fn set_path(&self, path: impl Into<std::ffi::OsString>) {
        self.server.cluster.workload().set_path(path.into());
    }

    /// Adds a line, given without its line feed, to the log of a pod.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPod`].
    pub fn push_log(&self, pod: &str, line: &str) -> Result<(), Error> {
        self.with_log(pod, |log| log.push(line))
    }

    /// Ends the log of a pod, and with it the answers to those who follow it.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPod`].
    pub fn end_log(&self, pod: &str) -> Result<(), Error> {
        self.with_log(pod, logs::Log::end)
    }

    fn with_log(&self, pod: &str, act: impl FnOnce(&logs::Log)) -> Result<(), Error> {
        let log = self
            .server
            .cluster
            .log(pod)
            .ok_or_else(|| Error::NoSuchPod(pod.to_owned()))?;
        act(&log);
        Ok(())
    }

    /// Makes the requests that come from now on fail, but those for `/version`, which kubectl may
    /// ask first. [`Fault::None`] ends it.
    pub fn set_fault(&self, fault: Fault) {
        self.server.faults.send_replace(Setting {
            fault,
            everywhere: false,
        });
    }

    /// Like [`set_fault`](Self::set_fault), for all requests.
    pub fn set_fault_everywhere(&self, fault: Fault) {
        self.server.faults.send_replace(Setting {
            fault,
            everywhere: true,
        });
    }

    /// The latest requests (up to 4096), oldest first, with those that were refused or failed.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.server.record.all()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.server.record.clear();
    }

    /// Ends the server, its connections and its processes, and waits until the port is free.
    pub async fn shutdown(mut self) {
        self.listening.abort();
        // An error says that it was aborted, which is what was wanted.
        drop((&mut self.listening).await);
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.listening.abort();
        self.server.cluster.workload().end();
    }
}

fn random_token() -> Result<String, Error> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
