//! The controller's ends toward its agents: one hub per agent credential, made when the agent
//! first connects and given up when its token is no longer valid.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use controlplane_driver::{ControllerConfig, Hub, Joined, Limits, Periods, StartError, Stats};
use controlplane_tokio::Tokio;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    config::Mode,
    credentials::{AgentCredential, Credentials, TokenHash},
    reload::lock,
};

/// For so long an agent that was here is likely to be back any moment.
const RETURN: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Agents {
    start: Instant,
    periods: Periods,
    limits: Limits,
    mode: Mode,
    /// By id of the credential.
    hubs: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    hub: Hub,
    /// The token that its connections have shown.
    token: TokenHash,
    /// When it was last found connected.
    seen: Instant,
}

impl Agents {
    pub(crate) fn new(periods: Periods, limits: Limits, mode: Mode) -> Self {
        Self {
            start: Instant::now(),
            periods,
            limits,
            mode,
            hubs: Mutex::default(),
        }
    }

    /// The hub for connections of this agent.
    pub(crate) fn enlist(&self, agent: &AgentCredential) -> Result<Hub, StartError> {
        let mut hubs = lock(&self.hubs);
        match hubs.get(&agent.id) {
            Some(entry) if entry.token == agent.token_sha256 => return Ok(entry.hub.clone()),
            Some(_) => drop(hubs.remove(&agent.id).map(dismiss)),
            None => {}
        }
        let config = ControllerConfig {
            workspace_id: agent.workspace_id,
            periods: self.periods,
            limits: self.limits,
            yamux: self.mode == Mode::Fast,
            ..ControllerConfig::new(agent.cluster_id(), &*agent.name)
        };
        let hub = Hub::start(Tokio, config)?;
        let entry = Entry {
            hub: hub.clone(),
            token: agent.token_sha256,
            seen: Instant::now(),
        };
        hubs.insert(agent.id.clone(), entry);
        Ok(hub)
    }

    /// The agent's hub and what the agent said of itself, if it is connected.
    pub(crate) fn joined(&self, agent: &AgentCredential) -> Option<(Hub, Arc<Joined>)> {
        let hub = lock(&self.hubs).get(&agent.id)?.hub.clone();
        let joined = hub.joined()?;
        Some((hub, joined))
    }

    /// Counters of the agent's hub; zero where it never connected.
    pub(crate) fn stats(&self, agent: &AgentCredential) -> Stats {
        let hubs = lock(&self.hubs);
        hubs.get(&agent.id)
            .map(|entry| entry.hub.stats())
            .unwrap_or_default()
    }

    /// Streams to the agent that are kept open for the next request.
    pub(crate) fn idle(&self, agent: &AgentCredential) -> usize {
        let hubs = lock(&self.hubs);
        hubs.get(&agent.id)
            .map_or(0, |entry| entry.hub.streams_idle())
    }

    /// Whether an agent that is away is likely to be back any moment: it was here a moment ago,
    /// or the controller itself was not.
    pub(crate) fn expects(&self, agent: &AgentCredential) -> bool {
        let seen = lock(&self.hubs).get(&agent.id).map(|entry| entry.seen);
        seen.unwrap_or(self.start).elapsed() < RETURN
    }

    /// Notes who is connected, and ends the connections of agents whose token is no longer
    /// valid. To be called every few seconds.
    pub(crate) fn review(&self, credentials: &Credentials) {
        let agents = credentials.agents.iter();
        let tokens: BTreeMap<&str, TokenHash> = agents
            .map(|agent| (&*agent.id, agent.token_sha256))
            .collect();
        let mut hubs = lock(&self.hubs);
        let connected = hubs
            .values_mut()
            .filter(|entry| entry.hub.joined().is_some());
        connected.for_each(|entry| entry.seen = Instant::now());
        let revoked = hubs.extract_if(.., |id, entry| tokens.get(&**id) != Some(&entry.token));
        for (id, entry) in revoked {
            tracing::warn!(
                id,
                "the agent's token was revoked: its connection is closed"
            );
            dismiss(entry);
        }
    }

    /// Cuts all connections as a broken network would.
    pub(crate) fn disconnect(&self) {
        for entry in lock(&self.hubs).values() {
            entry.hub.disconnect();
        }
    }

    /// Lets open requests end within `grace`, then closes all connections.
    pub(crate) async fn shutdown(&self, grace: Duration) {
        let hubs: Vec<Hub> = lock(&self.hubs).values().map(|e| e.hub.clone()).collect();
        join_all(hubs.iter().map(|hub| hub.shutdown(grace))).await;
    }
}

/// Closes the connections of a hub that nobody will ask for again.
fn dismiss(entry: Entry) {
    tokio::spawn(async move { entry.hub.shutdown(Duration::ZERO).await });
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_agent_is_expected_for_a_while_and_then_no_more() {
        let hash = "0".repeat(64);
        let text = format!(r#"{{"agents":[{{"id":"a","name":"a","token_sha256":"{hash}"}}]}}"#);
        let credentials = Credentials::parse(&text, Path::new("c")).unwrap();
        let agent = &credentials.agents[0];
        let agents = Agents::new(Periods::default(), Limits::controller(), Mode::Fast);
        assert!(agents.expects(agent));
        tokio::time::advance(RETURN).await;
        assert!(!agents.expects(agent));
        // It connects.
        agents.enlist(agent).unwrap();
        assert!(agents.expects(agent));
        tokio::time::advance(RETURN).await;
        agents.review(&credentials);
        assert!(!agents.expects(agent));
        // Its token is revoked.
        agents.review(&Credentials::default());
        assert!(lock(&agents.hubs).is_empty());
    }
}
