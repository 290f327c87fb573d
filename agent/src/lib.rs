//! The agent program as a library, generic over the async runtime: command line, credentials,
//! agent id, kubeconfig, logs, health and signals around [`controlplane_driver::Agent`].
//!
//! [`main()`] is the whole program; [`start()`] is the part that a program of another shape, or a
//! test, embeds:
//!
//! ```no_run
//! # async fn example<R: controlplane_driver::Runtime>(runtime: R) -> Result<(), Box<dyn std::error::Error>> {
//! use controlplane_driver::{KubernetesConfig, Token};
//! use pipeops_agent::Config;
//!
//! let token = Token::new("the agent's token")?;
//! let config = Config::new("https://api.example.com", token, "prod", "agent-1f2e", KubernetesConfig::in_cluster()?);
//! let agent = pipeops_agent::start(runtime, config).await?;
//! println!("registered as {}", agent.registered().await?.cluster_id);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "in a test a panic is the message")
)]

#[cfg(not(any(feature = "tokio", feature = "async-std")))]
compile_error!(
    "pipeops-agent needs an async runtime: enable the feature `tokio` (the default), \
     `async-std`, or both"
);

pub mod agent_id;
pub mod cli;
mod config;
mod error;
mod escape;
mod facts;
pub mod health;
pub mod kubeconfig;
pub mod logging;
mod metrics;
mod program;
mod report;
mod run;
pub mod signals;
mod start;
#[cfg(test)]
mod testing;
mod url;

pub use self::{
    agent_id::AgentId,
    cli::Cli,
    config::Config,
    error::{Error, UsageError},
    program::main,
    run::run,
    start::start,
};

/// Version of this program, as `register` and `--version` tell it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
