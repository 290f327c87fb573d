//! An agent in this process, in the tester's time.

use std::{sync::Arc, time::Duration};

use controlplane_driver::{
    Agent, AgentInfo, Kubernetes, KubernetesConfig, Roots, Runtime, TlsOptions, Token, TokenSource,
};
use controlplane_world::vectors::{Config, facts};

use super::{
    OWN, TOKEN,
    pace::Pace,
    paced::{Names, Paced},
    stage::Stage,
};

/// A running agent, which stops when it is dropped.
pub(super) type Running = Box<dyn Tables>;

/// What an agent counts, as its metrics tell.
pub(super) trait Tables: Send + Sync {
    /// What is in its tables.
    fn held(&self) -> Option<String>;
}

impl<R: Runtime> Tables for Agent<R> {
    fn held(&self) -> Option<String> {
        let stats = self.stats();
        let held = [stats.streams_open, stats.held_in, stats.held_out];
        let [streams, incoming, outgoing] = held;
        held.iter().any(|count| *count > 0).then(|| {
            format!(
                "{streams} streams, {incoming} bytes for local ends and {outgoing} for the link"
            )
        })
    }
}

/// Returns once the agent, whose tester has gone, holds nothing any more; an error where it still
/// does after `patience`.
pub(super) async fn emptied(agent: &dyn Tables, patience: Duration) -> Result<(), String> {
    let emptied = async {
        while agent.held().is_some() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = tokio::time::timeout(patience, emptied).await;
    waited.map_err(|_| {
        let held = agent.held().unwrap_or_default();
        format!("after its link was gone the agent still held {held}")
    })
}

/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// Starts agents on some runtime.
pub(super) trait Start: Send + Sync {
    /// Name of the runtime.
    fn name(&self) -> &'static str;

    /// Starts one that dials `url`, and is set up so.
    fn start(
        &self,
        url: String,
        stage: &Stage,
        config: &Config,
        tester: (Arc<Pace>, Arc<Names>),
    ) -> Result<Running, String>;
}

impl<R: Runtime> Start for R {
    fn name(&self) -> &'static str {
        Runtime::name(self)
    }

    fn start(
        &self,
        url: String,
        stage: &Stage,
        config: &Config,
        (pace, names): (Arc<Pace>, Arc<Names>),
    ) -> Result<Running, String> {
        let runtime = Paced::new(self.clone(), pace, names);
        let info = AgentInfo {
            agent_id: super::AGENT_ID.into(),
            name: super::NAME.into(),
            ..AgentInfo::default()
        };
        let (info, status) = facts::told(config, info)?;
        let tls = TlsOptions {
            ca_pem: stage.ca_pem.clone().into_bytes(),
            roots: Roots::Only,
            ..TlsOptions::default()
        };
        let mut api = KubernetesConfig::new(stage.api_url());
        api.tls = tls.clone();
        api.token = Some(TokenSource::from(text(Token::new(OWN))?));
        let api = text(Kubernetes::new(runtime.clone(), api))?;
        let targets = config.tunnels.iter().map(|target| text(target.parse()));
        let plain = url.starts_with("http:");
        let mut builder = Agent::builder(url, text(Token::new(TOKEN))?, info)
            .runtime(runtime)
            .tls(tls)
            .allow_plaintext(plain)
            .terminal_translation(config.terminal_translation)
            .binary_answers(config.binary_answers)
            .yamux(!config.no_yamux)
            .tunnels(targets.collect::<Result<Vec<_>, _>>()?)
            .gateways(config.gateways.clone())
            .handler(api);
        if let Some(policy) = &config.identity {
            builder = builder.identity(text(policy.parse())?);
        }
        let agent = text(builder.start())?;
        agent.set_status(status);
        Ok(Box::new(agent))
    }
}

fn text<T, E: std::fmt::Display>(outcome: Result<T, E>) -> Result<T, String> {
    outcome.map_err(|e| e.to_string())
}
