//! Makes a subject as a vector wants it.

use std::time::Duration;

use controlplane_core::{
    Agent, AgentConfig, Controller, ControllerConfig, HeartbeatStatus, Start, Time,
};
use controlplane_world::vectors::{Config, facts};

/// 2025-11-02T22:00:00Z, since the UNIX epoch.
const MOMENT: Duration = Duration::from_secs(1_762_120_800);

fn start() -> Start {
    Start {
        now: Time::ZERO,
        unix: MOMENT,
        nonce: [7; 16],
    }
}

pub(super) fn agent(config: &Config) -> Result<(Agent, HeartbeatStatus), String> {
    let mut to = AgentConfig::new("agent-1f2e", "prod");
    to.binary_answers = config.binary_answers;
    to.encrypted = config.encrypted;
    to.yamux = !config.no_yamux;
    to.gateways.clone_from(&config.gateways);
    to.terminal_translation = config.terminal_translation;
    if let Some(policy) = &config.identity {
        to.policy = policy.parse().map_err(|e| format!("{e}"))?;
    }
    for target in &config.tunnels {
        to.tunnels.push(target.parse().map_err(|e| format!("{e}"))?);
    }
    let (info, status) = facts::told(config, to.info)?;
    to.info = info;
    let agent = Agent::new(to, start()).map_err(|e| e.to_string())?;
    Ok((agent, status))
}

pub(super) fn controller() -> Result<Controller, String> {
    let mut config = ControllerConfig::new("6f1c", "prod");
    config.workspace_id = Some(123);
    Controller::new(config, start()).map_err(|e| e.to_string())
}
