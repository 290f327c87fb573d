//! The agent of a world, whichever runtime it is on.

use std::time::Duration;

use anyhow::Result;
use controlplane_async_std::AsyncStd;
use controlplane_driver::{Agent, Registration, State};
use controlplane_tokio::Tokio;

/// A running agent on either runtime.
#[derive(Clone, Debug)]
pub enum AnyAgent {
    /// On tokio.
    Tokio(Agent<Tokio>),
    /// On async-std.
    AsyncStd(Agent<AsyncStd>),
}

/// Calls the same method of either agent.
macro_rules! either {
    ($any:expr, $agent:ident => $call:expr) => {
        match $any {
            AnyAgent::Tokio($agent) => $call,
            AnyAgent::AsyncStd($agent) => $call,
        }
    };
}

impl AnyAgent {
    /// See [`Agent::state`].
    #[must_use]
    pub fn state(&self) -> State {
        either!(self, agent => agent.state())
    }

    /// See [`Agent::changed`].
    pub async fn changed(&self, seen: &State) -> State {
        either!(self, agent => agent.changed(seen).await)
    }

    /// See [`Agent::registered`].
    ///
    /// # Errors
    ///
    /// The agent has stopped.
    pub async fn registered(&self) -> Result<Registration> {
        Ok(either!(self, agent => agent.registered().await)?)
    }

    /// See [`Agent::stats`].
    #[must_use]
    pub fn stats(&self) -> controlplane_driver::Stats {
        either!(self, agent => agent.stats())
    }

    /// See [`Agent::shutdown`].
    pub async fn shutdown(&self, grace: Duration) {
        either!(self, agent => agent.shutdown(grace).await);
    }
}
