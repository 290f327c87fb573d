//! All settings of the agent, as the command line gives them and as an embedding program or a
//! test sets them.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use controlplane_driver::{
    Backoff, IdentityPolicy, KubernetesConfig, Limits, Periods, Proxies, TlsOptions, TokenSource,
    TunnelTarget,
};

use crate::agent_id::AgentId;

/// How long open requests may take to end after SIGTERM, where nothing else is said.
pub(crate) const DRAIN: Duration = Duration::from_secs(25);

/// All settings of the agent.
#[derive(Clone, Debug)]
pub struct Config {
    /// URL of the control plane.
    pub api_url: String,
    /// The agent's token; a file is read anew at each connect.
    pub token: TokenSource,
    /// Name of the cluster.
    pub cluster_name: String,
    /// Id of the agent, or where it is kept.
    pub agent_id: AgentId,
    /// TLS toward the control plane; files are read anew at each connect.
    pub tls: TlsOptions,
    /// HTTP proxies on the way to the control plane and its gateways; by default none, whatever
    /// the environment says. The program sets [`Proxies::from_env`].
    pub proxies: Proxies,
    /// Whether an URL with `http` or `ws` is accepted.
    pub allow_plaintext: bool,
    /// Whose rights a proxied request has.
    pub identity: IdentityPolicy,
    /// Whether terminals are translated to text, where a stream's start names no subprotocol
    /// (P-106): for control planes that expect that.
    pub terminal_translation: bool,
    /// Whether long answers that are sent whole go as binary frames (P-039): for control planes
    /// that read them.
    pub binary_answers: bool,
    /// Where TCP and UDP tunnels may lead (P-197); none are opened without.
    pub tunnels: Vec<TunnelTarget>,
    /// Hosts that the control plane may send the agent to as gateways (P-007): names, or with a
    /// leading dot all names below one.
    pub gateways: Vec<String>,
    /// The Kubernetes API that requests go to.
    pub kubernetes: KubernetesConfig,
    /// Region, empty where unknown.
    pub region: String,
    /// Cloud provider, empty where unknown.
    pub cloud_provider: String,
    /// Labels, next to those that the agent adds.
    pub labels: BTreeMap<String, String>,
    /// Where to answer health checks and metrics; [`crate::run()`] only.
    pub health_listen: Option<SocketAddr>,
    /// How long open requests may take to end at a shutdown; [`crate::run()`] only.
    pub drain_timeout: Duration,
    /// Periods and patience of the link.
    pub periods: Periods,
    /// Delays between attempts to connect.
    pub backoff: Backoff,
    /// Bounds on what the controller can make the agent hold.
    pub limits: Limits,
}

impl Config {
    /// The settings that have no default, and defaults for all others.
    pub fn new(
        api_url: impl Into<String>,
        token: impl Into<TokenSource>,
        cluster_name: impl Into<String>,
        agent_id: impl Into<AgentId>,
        kubernetes: KubernetesConfig,
    ) -> Self {
        Self {
            api_url: api_url.into(),
            token: token.into(),
            cluster_name: cluster_name.into(),
            agent_id: agent_id.into(),
            tls: TlsOptions::default(),
            proxies: Proxies::none(),
            allow_plaintext: false,
            identity: IdentityPolicy::default(),
            terminal_translation: false,
            binary_answers: false,
            tunnels: Vec::new(),
            gateways: Vec::new(),
            kubernetes,
            region: String::new(),
            cloud_provider: String::new(),
            labels: BTreeMap::new(),
            health_listen: None,
            drain_timeout: DRAIN,
            periods: Periods::default(),
            backoff: Backoff::default(),
            limits: Limits::agent(),
        }
    }
}
