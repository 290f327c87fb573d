//! The reference control plane: kubectl reaches clusters behind NAT through the agents that
//! these dial out with.
//!
//! ```text
//! kubectl ──HTTPS──▶ /clusters/CLUSTER/…   controller   /api/v1/clusters/agent/ws ◀──WSS── agent
//! ```
//!
//! What is below `/clusters/CLUSTER/` reaches that cluster's Kubernetes API: requests of any kind,
//! and WebSocket streams, which is how kubectl's `exec`, `attach`, `cp` and `port-forward` go.
//!
//! [`Server::start`] is the whole of it; the program `pipeops-controller` is a command line
//! around this. Every decision about the tunnel's protocol is made in `controlplane-core`, by
//! way of [`controlplane_driver::Hub`]; here are tokens, limits, HTTP and the audit log.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use pipeops_controller::{Server, ServerConfig, self_signed::SelfSigned};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = SelfSigned::create("try-out", &[])?;
//! let listen = ([127, 0, 0, 1], 8443).into();
//! let config = ServerConfig::new(listen, folder.tls(), folder.credentials());
//! let running = Server::start(config).await?;
//! println!("https://{}/clusters/demo/", running.addr());
//! running.shutdown(Duration::from_secs(20)).await;
//! # Ok(())
//! # }
//! ```
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "in a test a panic is the message")
)]

mod admission;
mod agents;
mod body;
mod config;
mod connection;
pub mod credentials;
mod endpoint;
mod handshake;
pub mod kubeconfig;
mod line;
mod metrics;
mod proxy;
mod pulse;
mod reload;
mod route;
pub mod self_signed;
mod server;
mod status;
#[cfg(test)]
mod testing;
mod tls;

pub use self::{
    config::{Mode, ServerConfig, ServerLimits},
    server::{Cluster, Running, Server, ServerError},
    tls::{ServerTls, ServerTlsError},
};
