//! What health checks and metrics see of the agent, and where they are answered.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use controlplane_driver::{Agent, Runtime, State, TlsOptions};
use controlplane_health::{Health, Server};

use crate::{
    error::Error,
    metrics::{self, Certificates},
    report,
};

/// Answers `/livez`, `/readyz` and `/metrics` about an agent that [`crate::start()`] has started
/// with these TLS settings, as long as what it returns lives; [`crate::run()`] does so by itself.
///
/// # Errors
///
/// The address cannot be listened on.
pub fn serve<R: Runtime>(
    agent: &Agent<R>,
    tls: TlsOptions,
    address: SocketAddr,
) -> Result<Server, Error> {
    let view = View::new(agent.runtime().clone(), tls);
    view.started(agent.clone());
    listen(address, &Arc::new(view))
}

/// Listens for those who ask.
pub(crate) fn listen<R: Runtime>(
    address: SocketAddr,
    view: &Arc<View<R>>,
) -> Result<Server, Error> {
    let listening = Server::start(address, view.clone());
    listening.map_err(|source| Error::Health { address, source })
}

/// What is seen.
pub(crate) struct View<R: Runtime> {
    runtime: R,
    /// Toward the control plane.
    tls: TlsOptions,
    /// Set once it has started.
    agent: OnceLock<Agent<R>>,
}

impl<R: Runtime> View<R> {
    /// Of an agent that is still to start.
    pub(crate) const fn new(runtime: R, tls: TlsOptions) -> Self {
        Self {
            runtime,
            tls,
            agent: OnceLock::new(),
        }
    }

    pub(crate) fn started(&self, agent: Agent<R>) {
        let _ = self.agent.set(agent);
    }
}

impl<R: Runtime> Health for View<R> {
    fn ready(&self) -> Result<(), String> {
        let Some(agent) = self.agent.get() else {
            return Err("starting".into());
        };
        match agent.state() {
            State::Registered(_) => Ok(()),
            state => Err(report::line(&state, self.runtime.now())),
        }
    }

    fn metrics(&self) -> String {
        let agent = self.agent.get();
        let state = agent.map(Agent::state);
        let stats = agent.map(Agent::stats).unwrap_or_default();
        let seen = agent.and_then(Agent::controller_certificate);
        let certificates = Certificates {
            tls: &self.tls,
            controller: seen.map(|der| der.to_vec()),
        };
        metrics::page(self.runtime.name(), state.as_ref(), stats, &certificates)
    }
}
