//! What a conversation is played on: the tester's servers, with a certificate of their own.

use std::sync::Arc;

use anyhow::Result;
use tokio_rustls::TlsAcceptor;

use super::server::Server;
use crate::standin::tls;

/// The tester's servers.
#[derive(Debug)]
pub(super) struct Stage {
    /// The controller and the gateways.
    pub(super) controller: Server,
    /// The Kubernetes API.
    pub(super) api: Server,
    /// Whom the agent is to trust, in PEM.
    pub(super) ca_pem: String,
}

impl Stage {
    /// Sets it up; `gateways` are the hosts that the agent may be sent to. Where it is not to be
    /// `trusted`, the agent is told of an authority that has signed none of its certificates.
    pub(super) async fn start(gateways: &[String], trusted: bool) -> Result<Self> {
        let mut names = vec!["127.0.0.1", "localhost"];
        names.extend(gateways.iter().map(|name| &**name));
        let identity = tls::identity(&names)?;
        let acceptor = TlsAcceptor::from(Arc::clone(&identity.config));
        Ok(Self {
            controller: Server::start(acceptor.clone()).await?,
            api: Server::start(acceptor).await?,
            ca_pem: match trusted {
                true => identity.ca_pem,
                false => tls::identity(&names)?.ca_pem,
            },
        })
    }

    /// The controller's URL.
    pub(super) fn url(&self, plain: bool) -> String {
        let scheme = if plain { "http" } else { "https" };
        format!("{scheme}://{}", self.controller.address)
    }

    /// The Kubernetes API's URL.
    pub(super) fn api_url(&self) -> String {
        format!("https://{}", self.api.address)
    }
}
