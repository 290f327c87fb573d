//! What the agent tells of itself: in `register`, and in its heartbeats.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::fmt;

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
    /// [`crate::AgentConfig::encrypted`] says so (P-199).
    pub monitoring: Vec<Monitoring>,
}

/// Passwords stay out: only counts and names are shown.
impl fmt::Debug for HeartbeatStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

impl fmt::Debug for Monitoring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
