//! Where the Kubernetes API is, and with which credentials and patience it is asked.

use std::{env, path::PathBuf, time::Duration};

use controlplane_core::Limits;
use thiserror::Error;

use crate::{
    dial::UrlError,
    secret::{TokenError, TokenSource},
    tls::{Roots, TlsError, TlsOptions},
};

/// Files of a pod's service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How to reach a Kubernetes API.
#[derive(Clone, Debug)]
pub struct KubernetesConfig {
    /// Its URL, `https://host:port`; a path is ignored.
    pub url: String,
    /// Authorities and client certificate; files are read anew at each new connection.
    pub tls: TlsOptions,
    /// Name that its certificate has, where that is not the host of the URL.
    pub server_name: Option<String>,
    /// Token that requests carry, read anew for each; none with a client certificate.
    pub token: Option<TokenSource>,
    /// Bounds and patience.
    pub limits: UpstreamLimits,
}

impl KubernetesConfig {
    /// The API at `url`, with the system's authorities and no credentials.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            tls: TlsOptions::default(),
            server_name: None,
            token: None,
            limits: UpstreamLimits::default(),
        }
    }

    /// The API of the cluster that this process runs in, by the files and the environment that
    /// Kubernetes gives every pod.
    ///
    /// # Errors
    ///
    /// It does not run in a pod.
    pub fn in_cluster() -> Result<Self, UpstreamError> {
        let host = env::var("KUBERNETES_SERVICE_HOST").ok();
        let port = env::var("KUBERNETES_SERVICE_PORT").ok();
        let host = host.filter(|h| !h.is_empty());
        let host = host.ok_or(UpstreamError::NotInCluster)?;
        let port = port.filter(|p| !p.is_empty()).unwrap_or("443".into());
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host
        };
        let file = |name: &str| PathBuf::from(ACCOUNT).join(name);
        Ok(Self {
            tls: TlsOptions {
                ca_file: Some(file("ca.crt")),
                roots: Roots::Only,
                ..TlsOptions::default()
            },
            token: Some(TokenSource::File(file("token"))),
            ..Self::new(format!("https://{host}:{port}"))
        })
    }
}

/// Bounds and patience toward the Kubernetes API. There is no limit on a whole request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UpstreamLimits {
    /// Requests under way at once; a further one fails at once (P-206). WebSocket streams do not
    /// count: the controller's own limit bounds them. 256.
    pub connections: usize,
    /// For name, TCP and TLS together. 10 s.
    pub connect: Duration,
    /// For status and headers, from when the request was sent. 30 s.
    pub head: Duration,
    /// For a write to make progress. 30 s.
    pub write: Duration,
    /// Between two pieces of an answer, except of watches and followed logs. 5 min.
    pub idle: Duration,
    /// Between two pings on a WebSocket stream; at least two in each [`Self::silence`]. 20 s.
    pub ping: Duration,
    /// For a WebSocket stream on which nothing arrives although it is read, not even the answer to
    /// a ping; then it ends with an error. 45 s.
    pub silence: Duration,
    /// The same while the API may be busy with what it was sent: where a process does not read its
    /// input, the API does not read its WebSocket, and answers no ping. 5 min.
    pub stall: Duration,
    /// Longest message that is taken of a WebSocket stream, in bytes; a longer one ends it with
    /// an error, and so does one longer than [`Limits::message`] of the agent. 1 MiB.
    pub message: usize,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            connections: 256,
            connect: Duration::from_secs(10),
            head: Duration::from_secs(30),
            write: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            ping: Duration::from_secs(20),
            silence: Duration::from_secs(45),
            stall: Duration::from_secs(300),
            message: Limits::agent().message,
        }
    }
}

/// The Kubernetes API cannot be used.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// There is no API to be found.
    #[error(
        "this process does not run in a pod (KUBERNETES_SERVICE_HOST is not set): name the \
         Kubernetes API, for example by a kubeconfig (--kubeconfig)"
    )]
    NotInCluster,
    /// TLS cannot be set up.
    #[error("Kubernetes API: {0}")]
    Tls(#[from] TlsError),
    /// There is no usable token.
    #[error("Kubernetes API: {0}")]
    Token(#[from] TokenError),
    /// The URL cannot be used.
    #[error("Kubernetes API: {0}")]
    Url(UrlError),
    /// The API gave no version.
    #[error("the Kubernetes API does not tell its version: {0}")]
    Version(String),
}
