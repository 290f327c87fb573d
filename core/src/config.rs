//! What each machine is told at its start: identity, periods, backoff and bounds.

#[cfg(test)]
mod documented;
mod info;
mod limits;
#[cfg(test)]
mod tests;

use alloc::{string::String, vec::Vec};

pub use self::{
    info::{AgentInfo, HeartbeatStatus, Monitoring, MonitoringService, ServerSpecs},
    limits::{Limits, Periods},
};
use crate::{
    backoff::Backoff,
    error::ConfigError,
    rules::{IdentityPolicy, TunnelTarget, is_gateway_host},
};

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
    /// For controllers that are known to read them: an answer that is sent whole and has at least
    /// 10,240 bytes of body goes as a binary frame (P-039), which costs a third less than base64.
    /// Off by default.
    pub binary_answers: bool,
    /// Whether the fast mode is offered: yamux streams, with a window each, in binary messages
    /// (P-118). On by default; without it every request goes as JSON.
    pub yamux: bool,
    /// Where TCP and UDP tunnels may lead (P-197); empty by default, so that none is opened.
    pub tunnels: Vec<TunnelTarget>,
    /// Hosts that a controller may send the agent to (`gateway_ws_url`, P-007): names, or with a
    /// leading dot all names below one. Empty by default, so that none is followed.
    pub gateways: Vec<String>,
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
            binary_answers: false,
            yamux: true,
            tunnels: Vec::new(),
            gateways: Vec::new(),
            periods: Periods::default(),
            backoff: Backoff::default(),
            limits: Limits::agent(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.info.agent_id.is_empty() {
            return Err(ConfigError::EmptyAgentId);
        }
        let mut gateways = self.gateways.iter();
        if !gateways.all(|host| is_gateway_host(host)) {
            return Err(ConfigError::Gateway);
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
    /// Whether the fast mode is asked for of agents that offer it. On by default.
    pub yamux: bool,
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
            yamux: true,
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
