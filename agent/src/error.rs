//! Why the program does not start or stops: each text names the cause and the remedy, and none
//! holds a secret.

use std::{io, net::SocketAddr};

use controlplane_driver::{ProxyError, StartError, TlsError, TokenError, UpstreamError};
use thiserror::Error;

use crate::{agent_id::AgentIdError, kubeconfig::KubeconfigError};

/// Why the agent could not start, or stopped by itself.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line or the environment is at fault.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The agent id that was kept is not usable.
    #[error(transparent)]
    AgentId(#[from] AgentIdError),
    /// The kubeconfig is not usable.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// The settings for the Kubernetes API are not usable.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The token's file is not usable.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// CA, certificate or key toward the control plane are not usable.
    #[error("TLS to the control plane cannot be set up: {0}")]
    Tls(#[from] TlsError),
    /// The agent refused its settings.
    #[error("the agent cannot start: {0}")]
    Start(#[from] StartError),
    /// The address for health checks cannot be listened on.
    #[error(
        "cannot listen on {address} for health checks: {source}; choose another --health-listen"
    )]
    Health {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Another log is already set up in this process.
    #[error("a log has already been set up in this process")]
    Logging,
    /// The operating system gave no randomness.
    #[error("the operating system gave no random numbers for a new agent id: give --agent-id")]
    Random,
    /// Signals cannot be caught.
    #[error("cannot catch SIGTERM and SIGINT: {0}")]
    Signals(io::Error),
    /// The async runtime did not start.
    #[error("the async runtime did not start: {0}")]
    Runtime(io::Error),
    /// The agent stopped though nobody asked it to.
    #[error("the agent stopped by itself, which it never should: please report this")]
    Stopped,
}

impl Error {
    /// Exit code of the program: 2 where another command line would help, else 1.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Start(StartError::Url(_)) => 2,
            _ => 1,
        }
    }
}

/// A command line or an environment that cannot be meant.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UsageError {
    /// No URL.
    #[error("the control plane's URL is missing: set PIPEOPS_API_URL or give --api-url")]
    UrlMissing,
    /// Not a URL.
    #[error("the control plane's URL is not one: it looks like https://api.example.com")]
    UrlInvalid,
    /// A scheme that is none of ours.
    #[error("the control plane's URL has the scheme {0:?}: use https:// or wss://")]
    UrlScheme(String),
    /// A scheme without encryption.
    #[error(
        "the control plane's URL begins with {0}://, which would send the token unencrypted: \
         use https:// or wss://, or for a test give --allow-plaintext"
    )]
    Plaintext(&'static str),
    /// User information.
    #[error(
        "the control plane's URL holds a user name or password: remove it, the agent \
         authenticates by its token alone"
    )]
    UrlUserInfo,
    /// No token.
    #[error("the agent's token is missing or empty: set PIPEOPS_TOKEN or give --token-file")]
    TokenMissing,
    /// Two tokens.
    #[error("both a token (PIPEOPS_TOKEN or --token) and --token-file are given: keep one of them")]
    TokenTwice,
    /// Not a token.
    #[error("PIPEOPS_TOKEN or --token: {0}")]
    Token(TokenError),
    /// Not a proxy, or not one that can be used.
    #[error(transparent)]
    Proxy(ProxyError),
    /// No name.
    #[error("the cluster's name is missing: set PIPEOPS_CLUSTER_NAME or give --cluster-name")]
    ClusterNameMissing,
    /// Not an agent id.
    #[error("PIPEOPS_AGENT_ID or --agent-id: {0}")]
    AgentId(AgentIdError),
    /// No Kubernetes API to be found.
    #[error(
        "there is no Kubernetes API to connect: this is not a pod (KUBERNETES_SERVICE_HOST is \
         not set) and no --kubeconfig is given"
    )]
    NoUpstream,
}
