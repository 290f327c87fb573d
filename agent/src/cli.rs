//! The command line: flags, their variables of the environment, and how a [`Config`] is made of
//! them. Variables that are set to nothing count as not set.

mod values;

use std::{
    env,
    ffi::OsString,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, builder::FalseyValueParser};
use controlplane_driver::{
    IdentityPolicy, KubernetesConfig, Proxies, TlsOptions, Token, TokenError, TokenSource,
    TunnelTarget,
};

use self::values::{gateway, label, policy, tunnel};
use crate::{
    VERSION,
    agent_id::{self, AgentId},
    config::Config,
    error::{Error, UsageError},
    kubeconfig,
    logging::{self, Format, Level},
    url,
};

const AFTER_HELP: &str = "\
HTTP proxies: HTTPS_PROXY, or HTTP_PROXY for an http:// URL, is the proxy on the way to the \
control plane and its gateways, http://[USER:PASSWORD@]HOST:PORT, or https:// for TLS to the proxy; \
NO_PROXY lists hosts, domains and networks that are reached directly, separated by commas. In \
lower case they work as well. The Kubernetes API is never reached through a proxy.

The token, the CA file and the certificate files are read anew at each connect, so they can be \
replaced at any time. SIGTERM and SIGINT drain and end the program with code 0; a second one \
ends it at once. Exit codes: 0 asked to stop, 1 failed, 2 wrong command line or environment.";

/// Connects a Kubernetes cluster behind NAT to its control plane: dials out, registers, and
/// relays the requests of the control plane to the Kubernetes API.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    after_help = AFTER_HELP,
    disable_help_flag = true,
    disable_version_flag = true
)]
pub struct Cli {
    /// URL of the control plane, https:// or wss://; its path is replaced by that of the protocol
    #[arg(
        long,
        value_name = "URL",
        env = "PIPEOPS_API_URL",
        hide_env_values = true,
        help_heading = "Control plane"
    )]
    api_url: Option<String>,

    /// The agent's token; better in the environment or in --token-file, since other users of
    /// the machine can see a command line
    #[arg(
        long,
        value_name = "TOKEN",
        env = "PIPEOPS_TOKEN",
        hide_env_values = true,
        help_heading = "Control plane"
    )]
    token: Option<Hidden>,

    /// File that holds the agent's token
    #[arg(long, value_name = "FILE", help_heading = "Control plane")]
    token_file: Option<PathBuf>,

    /// Certificate authorities to trust besides those of the system, in PEM
    #[arg(long, value_name = "FILE", help_heading = "Control plane")]
    ca_file: Option<PathBuf>,

    /// Client certificate for mutual TLS, in PEM
    #[arg(
        long,
        value_name = "FILE",
        requires = "key_file",
        help_heading = "Control plane"
    )]
    cert_file: Option<PathBuf>,

    /// Key of the client certificate, in PEM
    #[arg(
        long,
        value_name = "FILE",
        requires = "cert_file",
        help_heading = "Control plane"
    )]
    key_file: Option<PathBuf>,

    /// Accept an http:// or ws:// URL: the token and all traffic travel unencrypted; for tests
    #[arg(long, help_heading = "Control plane")]
    allow_plaintext: bool,

    /// Name of this cluster
    #[arg(
        long,
        value_name = "NAME",
        env = "PIPEOPS_CLUSTER_NAME",
        help_heading = "Agent"
    )]
    cluster_name: Option<String>,

    /// Id of this agent, the same at each start
    #[arg(
        long,
        value_name = "ID",
        env = "PIPEOPS_AGENT_ID",
        help_heading = "Agent"
    )]
    agent_id: Option<String>,

    /// Where to keep the id that is made at the first start if none is given [default:
    /// pipeops-agent/agent-id in $XDG_STATE_HOME, else in ~/.local/state, else in /var/lib]
    #[arg(long, value_name = "FILE", help_heading = "Agent")]
    agent_id_file: Option<PathBuf>,

    /// Region of the cluster
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        help_heading = "Agent"
    )]
    region: String,

    /// Cloud provider of the cluster
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true,
        help_heading = "Agent"
    )]
    cloud_provider: String,

    /// Label of the cluster; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = label, help_heading = "Agent")]
    label: Vec<(String, String)>,

    /// Whose rights a request has at the Kubernetes API: the agent's service account; the user
    /// whom the control plane names, impersonated; or the caller's own credentials
    #[arg(
        long,
        value_name = "POLICY",
        default_value = "service-account",
        value_parser = policy(),
        help_heading = "Kubernetes API"
    )]
    identity: IdentityPolicy,

    /// Send terminals as text, without Kubernetes' channels, where a stream's start names no
    /// subprotocol: only for control planes that expect that. Output, errors and exit status can
    /// then not be told apart
    #[arg(long, help_heading = "Control plane")]
    terminal_translation: bool,

    /// Send long answers that the control plane wants whole as binary frames, which are a third
    /// shorter: only for control planes that read them
    #[arg(
        long,
        env = "PIPEOPS_BINARY_ANSWERS",
        value_parser = FalseyValueParser::new(),
        help_heading = "Control plane"
    )]
    binary_answers: bool,

    /// Host that the control plane may send the agent to as a gateway, which then gets the token:
    /// a name, or .DOMAIN for all names below it; may be repeated, and several are separated by
    /// commas. Without it the agent follows nowhere
    #[arg(
        long,
        value_name = "HOST",
        env = "PIPEOPS_ALLOW_GATEWAY",
        value_delimiter = ',',
        value_parser = gateway,
        help_heading = "Control plane"
    )]
    allow_gateway: Vec<Option<String>>,

    /// Where TCP and UDP tunnels of the control plane may lead: SERVICE.NAMESPACE:PORT, or
    /// localhost:PORT; may be repeated, and several are separated by commas. Without it every
    /// tunnel is refused
    #[arg(
        long,
        value_name = "TARGET",
        env = "PIPEOPS_ALLOW_TUNNEL",
        value_delimiter = ',',
        value_parser = tunnel,
        help_heading = "Control plane"
    )]
    allow_tunnel: Vec<Option<TunnelTarget>>,

    /// Kubeconfig of the Kubernetes API; without it the agent uses the service account of its
    /// pod. $KUBECONFIG is not looked at, so that no cluster is connected by accident
    #[arg(long, value_name = "FILE", help_heading = "Kubernetes API")]
    kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: its current-context]
    #[arg(
        long,
        value_name = "NAME",
        requires = "kubeconfig",
        help_heading = "Kubernetes API"
    )]
    context: Option<String>,

    /// Connections to the Kubernetes API at most; a request beyond is refused [default: 256]
    #[arg(
        long,
        value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Kubernetes API"
    )]
    upstream_connections: Option<u32>,

    /// Answer GET /livez, /readyz and /metrics at this address, such as 0.0.0.0:8081 in a pod;
    /// without it nothing listens
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Program")]
    health_listen: Option<SocketAddr>,

    /// What to log; libraries are never logged in more detail than debug
    #[arg(
        long,
        value_name = "LEVEL",
        env = "PIPEOPS_LOG_LEVEL",
        default_value = "info",
        ignore_case = true,
        help_heading = "Program"
    )]
    log_level: Level,

    /// How to log, to standard error
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Program"
    )]
    log_format: Format,

    /// Seconds that open requests have to end after SIGTERM or SIGINT
    #[arg(long, value_name = "SECONDS", default_value_t = crate::config::DRAIN.as_secs(),
        help_heading = "Program")]
    drain_timeout: u64,

    /// Print help
    #[arg(long, short, action = ArgAction::Help, help_heading = "Program")]
    help: Option<bool>,

    /// Print version and async runtime
    #[arg(long, short = 'V', action = ArgAction::Version, help_heading = "Program")]
    version: Option<bool>,
}

/// A value that `Debug` does not show.
#[derive(Clone)]
struct Hidden(String);

impl FromStr for Hidden {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl Cli {
    /// Parses a command line of the program `name`, whose runtime is called `runtime`.
    ///
    /// # Errors
    ///
    /// It is wrong, or asks for help or the version; the error knows its exit code.
    pub fn parse_from_args(
        name: &'static str,
        runtime: &str,
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        // Once in the life of the program: clap keeps texts that live for ever.
        let version: &'static str = format!("{VERSION} (runtime: {runtime})").leak();
        let command = Self::command().name(name).version(version);
        Self::from_arg_matches(&command.try_get_matches_from(args)?)
    }

    /// How to log.
    #[must_use]
    pub const fn log(&self) -> logging::Options {
        logging::Options {
            level: self.log_level,
            format: self.log_format,
        }
    }

    /// Checks everything and reads the kubeconfig.
    ///
    /// # Errors
    ///
    /// Something is missing, or is not what it should be.
    pub fn into_config(self) -> Result<Config, Error> {
        let api_url = given(self.api_url.as_ref()).ok_or(UsageError::UrlMissing)?;
        url::check(&api_url, self.allow_plaintext)?;
        let token = self.token()?;
        let cluster_name =
            given(self.cluster_name.as_ref()).ok_or(UsageError::ClusterNameMissing)?;
        let agent_id = self.agent_id()?;
        let mut kubernetes = upstream(self.kubeconfig.as_deref(), self.context.as_deref())?;
        if let Some(connections) = self.upstream_connections {
            kubernetes.limits.connections = usize::try_from(connections).unwrap_or(usize::MAX);
        }
        let tls = TlsOptions {
            ca_file: self.ca_file,
            cert_file: self.cert_file,
            key_file: self.key_file,
            ..TlsOptions::default()
        };
        Ok(Config {
            tls,
            proxies: Proxies::from_env(variable).map_err(UsageError::Proxy)?,
            allow_plaintext: self.allow_plaintext,
            identity: self.identity,
            terminal_translation: self.terminal_translation,
            binary_answers: self.binary_answers,
            tunnels: self.allow_tunnel.into_iter().flatten().collect(),
            gateways: self.allow_gateway.into_iter().flatten().collect(),
            region: self.region,
            cloud_provider: self.cloud_provider,
            labels: self.label.into_iter().collect(),
            health_listen: self.health_listen,
            drain_timeout: Duration::from_secs(self.drain_timeout),
            ..Config::new(api_url, token, cluster_name, agent_id, kubernetes)
        })
    }

    fn token(&self) -> Result<TokenSource, UsageError> {
        let file = self.token_file.clone();
        match (self.token.as_ref(), file) {
            (Some(Hidden(text)), None) => {
                let token = Token::new(text).map_err(|error| match error {
                    TokenError::Empty => UsageError::TokenMissing,
                    error => UsageError::Token(error),
                })?;
                Ok(token.into())
            }
            (Some(Hidden(text)), Some(_)) if !text.trim().is_empty() => Err(UsageError::TokenTwice),
            (_, Some(file)) => Ok(TokenSource::File(file)),
            (None, None) => Err(UsageError::TokenMissing),
        }
    }

    fn agent_id(&self) -> Result<AgentId, UsageError> {
        if let Some(id) = given(self.agent_id.as_ref()) {
            agent_id::check(&id).map_err(UsageError::AgentId)?;
            return Ok(AgentId::Given(id));
        }
        let file = self.agent_id_file.clone();
        Ok(AgentId::File(file.unwrap_or_else(agent_id::default_file)))
    }
}

fn given(value: Option<&String>) -> Option<String> {
    let value = value?.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

fn upstream(path: Option<&Path>, context: Option<&str>) -> Result<KubernetesConfig, Error> {
    if let Some(path) = path {
        return Ok(kubeconfig::read(path, context)?);
    }
    if env::var_os("KUBERNETES_SERVICE_HOST").is_none_or(|host| host.is_empty()) {
        return Err(UsageError::NoUpstream.into());
    }
    Ok(KubernetesConfig::in_cluster()?)
}

/// A variable of the environment, whatever it holds.
fn variable(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
