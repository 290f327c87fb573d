//! What each machine is told at its start: identity, periods, backoff and bounds.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;

use crate::{backoff::Backoff, error::ConfigError, rules::IdentityPolicy};

/// What the agent is and how it behaves.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Fields of `register`.
    pub info: AgentInfo,
    /// Whose rights a proxied request has at the Kubernetes API.
    pub policy: IdentityPolicy,
    /// Whether the link is encrypted; without, no password of a monitoring service is sent
    /// (P-199). Off by default.
    pub encrypted: bool,
    /// For controllers that show terminals as text: on a stream whose start names no subprotocol,
    /// the channel bytes of Kubernetes' channel subprotocols are taken off what goes to the
    /// controller and put before the text that comes from it (P-106). Off by default: it merges
    /// output, errors and exit status, and kubectl cannot work with that (P-156).
    pub terminal_translation: bool,
    /// Periods and patience.
    pub periods: Periods,
    /// Delays between attempts.
    pub backoff: Backoff,
    /// Bounds on what the controller can make the agent hold.
    pub limits: Limits,
}

impl AgentConfig {
    /// A configuration with the defaults of the protocol for the agent called `agent_id`.
    pub fn new(agent_id: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            info: AgentInfo {
                agent_id: agent_id.into(),
                name: name.into(),
                ..AgentInfo::default()
            },
            policy: IdentityPolicy::default(),
            encrypted: false,
            terminal_translation: false,
            periods: Periods::default(),
            backoff: Backoff::default(),
            limits: Limits::agent(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.info.agent_id.is_empty() {
            return Err(ConfigError::EmptyAgentId);
        }
        self.periods.check()?;
        self.backoff.check()?;
        self.limits.check()
    }
}

/// How the controller's machine behaves toward one agent.
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    /// Id under which the agent is registered, whatever id it asks for.
    pub cluster_id: String,
    /// Name told in `register_success`.
    pub name: String,
    /// Workspace told in `register_success`.
    pub workspace_id: Option<i64>,
    /// Periods and patience; those of heartbeat, dial and backoff are the agent's.
    pub periods: Periods,
    /// Bounds on what the agent can make the controller hold.
    pub limits: Limits,
}

impl ControllerConfig {
    /// A configuration with the defaults of the protocol for the agent of cluster `cluster_id`.
    pub fn new(cluster_id: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            cluster_id: cluster_id.into(),
            name: name.into(),
            workspace_id: None,
            periods: Periods::default(),
            limits: Limits::controller(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.cluster_id.is_empty() {
            return Err(ConfigError::EmptyClusterId);
        }
        self.periods.check()?;
        self.limits.check()
    }
}

/// What `register` says of an agent and its cluster (P-032). Strings may be empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AgentInfo {
    /// Stable id of this agent, kept over restarts.
    pub agent_id: String,
    /// Name of the cluster.
    pub name: String,
    /// Version of Kubernetes.
    pub k8s_version: String,
    /// Region, where known.
    pub region: String,
    /// Name of the host.
    pub hostname: String,
    /// Version of the agent program.
    pub agent_version: String,
    /// Address of the server, `0.0.0.0` where unknown.
    pub server_ip: String,
    /// Cloud provider, where known.
    pub cloud_provider: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Size of the server.
    pub server_specs: ServerSpecs,
    /// Free text facts, left out when empty.
    pub metadata: BTreeMap<String, String>,
    /// Id of the cluster from an earlier registration: sent with each `register`, replaced by
    /// what the controller answers.
    pub cluster_id: Option<String>,
}

/// Size of the server an agent runs on; zero means unknown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServerSpecs {
    /// Processors.
    pub cpu_cores: u32,
    /// Memory in GiB.
    pub memory_gb: u32,
    /// Disk in GiB.
    pub disk_gb: u32,
    /// Operating system, empty where unknown.
    pub os: String,
}

/// What the agent's heartbeats say (P-034), next to its ids and the state of the link.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct HeartbeatStatus {
    /// Nodes of the cluster.
    pub k8s_nodes: Option<u32>,
    /// Pods of the cluster.
    pub k8s_pods: Option<u32>,
    /// Further facts.
    pub metadata: BTreeMap<String, String>,
    /// Monitoring services that the controller may query. Their passwords travel with them, so
    /// they are sent once per registration and when they change, and only where
    /// [`AgentConfig::encrypted`] says so (P-199).
    pub monitoring: Vec<Monitoring>,
}

/// Passwords stay out: only counts and names are shown.
impl core::fmt::Debug for HeartbeatStatus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HeartbeatStatus")
            .field("k8s_nodes", &self.k8s_nodes)
            .field("k8s_pods", &self.k8s_pods)
            .field("metadata", &self.metadata)
            .field("monitoring", &self.monitoring)
            .finish()
    }
}

/// One monitoring service, as the heartbeat announces it.
#[derive(Clone, Eq, PartialEq)]
pub struct Monitoring {
    /// Which service.
    pub service: MonitoringService,
    /// Its URL; a service without one is not announced.
    pub url: String,
    /// User name.
    pub username: String,
    /// Password: a secret, never shown by `Debug`.
    pub password: String,
    /// Whether it speaks TLS. Not sent for OpenCost.
    pub ssl: bool,
}

impl core::fmt::Debug for Monitoring {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Monitoring")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// The monitoring services that a heartbeat has fields for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MonitoringService {
    /// `grafana_*`.
    Grafana,
    /// `loki_*`.
    Loki,
    /// `opencost_*`.
    OpenCost,
    /// `prometheus_*`.
    Prometheus,
}

/// Periods and patience. All must be above zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Periods {
    /// Between two heartbeats; 30 s.
    pub heartbeat: Duration,
    /// Between two WebSocket pings; 10 s.
    pub ping: Duration,
    /// Silence after which the link counts as dead; 30 s, at least twice `ping`.
    pub idle: Duration,
    /// For a write to make progress; 30 s (P-020).
    pub write: Duration,
    /// For TCP, TLS and WebSocket handshake together; 30 s (P-021).
    pub dial: Duration,
    /// For the answer to `register`; 30 s (P-075).
    pub register: Duration,
    /// The same in all, however often the controller says `register_in_progress`; 120 s.
    pub register_total: Duration,
    /// For one buffered answer, which an endless response would never complete; 2 min.
    pub buffered: Duration,
    /// For the last frames to leave once all streams have ended; 2 s.
    pub linger: Duration,
    /// For a stream that one side closed to deliver what was sent before and to end; 10 s.
    pub closing: Duration,
}

impl Default for Periods {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(30),
            ping: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            write: Duration::from_secs(30),
            dial: Duration::from_secs(30),
            register: Duration::from_secs(30),
            register_total: Duration::from_secs(120),
            buffered: Duration::from_secs(120),
            linger: Duration::from_secs(2),
            closing: Duration::from_secs(10),
        }
    }
}

impl Periods {
    fn check(&self) -> Result<(), ConfigError> {
        let all = [
            self.heartbeat,
            self.ping,
            self.idle,
            self.write,
            self.dial,
            self.register,
            self.register_total,
            self.buffered,
            self.linger,
            self.closing,
        ];
        if all.contains(&Duration::ZERO) {
            return Err(ConfigError::ZeroPeriod);
        }
        if self.idle < self.ping.saturating_mul(2) {
            return Err(ConfigError::IdleBelowTwicePing);
        }
        Ok(())
    }
}

/// Bounds on what a peer, or the local end of a stream, can make the core hold. In bytes where
/// nothing else is said; each piece of data is charged at least [`Limits::MIN_CHARGE`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Longest message accepted; beyond it the connection is closed with 1009.
    pub frame: usize,
    /// Streams open at once; beyond it a start is refused.
    pub streams: usize,
    /// Delivered and not consumed, per stream; beyond it that stream ends with an error.
    pub recv_stream: usize,
    /// The same over all streams; beyond it the stream that holds most ends with an error.
    pub recv_total: usize,
    /// Taken from a local end and not framed, per stream; beyond it `send` gives the data back.
    pub send_stream: usize,
    /// The same over all streams.
    pub send_total: usize,
    /// Control answers queued, a count; beyond it the connection is closed with 1008.
    pub control: usize,
    /// Data of a byte stream per frame. WebSocket messages are never cut.
    pub chunk: usize,
    /// Longest message of a WebSocket stream; beyond it that stream ends with an error.
    pub message: usize,
    /// A whole body held back for a peer that cannot stream it; beyond it the request fails.
    pub buffered: usize,
    /// The same over all requests.
    pub buffered_total: usize,
    /// Method, path, query and headers of one request together; beyond it the request fails.
    pub head: usize,
}

impl Limits {
    /// What each piece of data is charged at least, so that empty ones are not free.
    pub const MIN_CHARGE: usize = 256;

    const MIB: usize = 1 << 20;

    /// The agent's defaults.
    pub const fn agent() -> Self {
        Self {
            frame: 16 * Self::MIB,
            streams: 1024,
            recv_stream: 4 * Self::MIB,
            recv_total: 64 * Self::MIB,
            send_stream: 256 << 10,
            send_total: 64 * Self::MIB,
            control: 256,
            chunk: 32 << 10,
            message: Self::MIB,
            buffered: 8 * Self::MIB,
            buffered_total: 64 * Self::MIB,
            head: 256 << 10,
        }
    }

    /// The controller's defaults.
    ///
    /// Its receive bounds are wider than the agent's: an answer arrives at the pace of the
    /// cluster's network and leaves at the pace of the user's, and the JSON protocol has no
    /// window to hold it back.
    pub const fn controller() -> Self {
        Self {
            frame: 64 * Self::MIB,
            recv_stream: 32 * Self::MIB,
            recv_total: 256 * Self::MIB,
            ..Self::agent()
        }
    }

    /// How much of a request's body or of a client's messages may be under way to the Kubernetes
    /// API, as an agent with these limits tells its controller.
    pub(crate) fn request_window(&self) -> usize {
        Self::MIB.min(self.recv_stream / 2)
    }

    /// What a piece of `len` bytes is charged.
    pub const fn charge(len: usize) -> usize {
        if len < Self::MIN_CHARGE {
            Self::MIN_CHARGE
        } else {
            len
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.chunk == 0 || self.chunk > self.send_stream {
            return Err(ConfigError::Chunk);
        }
        let all = [
            self.frame,
            self.streams,
            self.recv_stream,
            self.recv_total,
            self.send_total,
            self.control,
            self.message,
            self.buffered,
            self.buffered_total,
            self.head,
        ];
        if all.contains(&0) {
            return Err(ConfigError::ZeroLimit);
        }
        Ok(())
    }
}
