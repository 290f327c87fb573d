//! The controller's ends toward its agents: one hub per agent credential, made when the agent
//! first connects and given up when its token is no longer valid.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use controlplane_driver::{ControllerConfig, Hub, Joined, Limits, Periods, StartError};
use controlplane_tokio::Tokio;
use futures_util::future::join_all;

use crate::{
    credentials::{AgentCredential, Credentials, TokenHash},
    reload::lock,
};

#[derive(Debug)]
pub(crate) struct Agents {
    periods: Periods,
    limits: Limits,
    /// By id of the credential.
    hubs: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    hub: Hub,
    /// The token that its connections have shown.
    token: TokenHash,
}

impl Agents {
    pub(crate) fn new(periods: Periods, limits: Limits) -> Self {
        Self {
            periods,
            limits,
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
            ..ControllerConfig::new(agent.cluster_id(), &*agent.name)
        };
        let hub = Hub::start(Tokio, config)?;
        let entry = Entry {
            hub: hub.clone(),
            token: agent.token_sha256,
        };
        hubs.insert(agent.id.clone(), entry);
        Ok(hub)
    }

    /// The hub of this agent, if it ever connected.
    pub(crate) fn find(&self, agent: &AgentCredential) -> Option<Hub> {
        lock(&self.hubs)
            .get(&agent.id)
            .map(|entry| entry.hub.clone())
    }

    /// What the agent said of itself, if it is connected.
    pub(crate) fn joined(&self, agent: &AgentCredential) -> Option<Arc<Joined>> {
        self.find(agent)?.joined()
    }

    /// Ends the connections of agents whose token is no longer valid.
    pub(crate) fn dismiss_revoked(&self, credentials: &Credentials) {
        let valid = |id: &String, entry: &mut Entry| {
            let mut agents = credentials.agents.iter();
            agents.any(|agent| agent.id == *id && agent.token_sha256 == entry.token)
        };
        let mut hubs = lock(&self.hubs);
        let revoked = hubs.extract_if(.., |id, entry| !valid(id, entry));
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
