//! What the agent is told: by the command line, or by the environment of a conformance test.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use clap::{Parser, builder::FalseyValueParser};
use controlplane_core::{
    AgentConfig, AgentInfo, HeartbeatStatus, Monitoring, MonitoringService, ServerSpecs,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::Value;

/// An agent on threads and blocking sockets.
#[derive(Parser)]
struct Cli {
    /// The controller, https://HOST:PORT.
    #[arg(long, env = "CONFORMANCE_URL", hide_env_values = true)]
    url: String,
    /// The agent's token at the controller.
    #[arg(long, env = "CONFORMANCE_TOKEN", hide_env_values = true)]
    token: String,
    /// Certificates of the authorities that are trusted, in PEM.
    #[arg(long, env = "CONFORMANCE_CA_FILE")]
    ca_file: PathBuf,
    /// The Kubernetes API, such as that of kubectl proxy: http://127.0.0.1:8001.
    #[arg(long, env = "CONFORMANCE_UPSTREAM_URL")]
    upstream_url: String,
    /// The agent's token at the Kubernetes API.
    #[arg(
        long,
        env = "CONFORMANCE_UPSTREAM_TOKEN",
        hide_env_values = true,
        default_value = ""
    )]
    upstream_token: String,
    /// Stable id of this agent.
    #[arg(long, env = "CONFORMANCE_AGENT_ID")]
    agent_id: String,
    /// Name of the cluster.
    #[arg(long, env = "CONFORMANCE_NAME")]
    name: String,
    /// service-account, impersonate or caller.
    #[arg(long, env = "CONFORMANCE_IDENTITY", default_value = "")]
    identity: String,
    /// Long answers as binary frames.
    #[arg(long, env = "CONFORMANCE_BINARY_ANSWERS", value_parser = FalseyValueParser::new())]
    binary_answers: bool,
    /// Terminals as text.
    #[arg(long, env = "CONFORMANCE_TERMINAL_TRANSLATION", value_parser = FalseyValueParser::new())]
    terminal_translation: bool,
    /// Further facts to register with, a JSON object.
    #[arg(
        long,
        env = "CONFORMANCE_INFO",
        hide_env_values = true,
        default_value = ""
    )]
    info: String,
    /// Hosts that a controller may send the agent to, separated by commas.
    #[arg(long, env = "CONFORMANCE_GATEWAYS", default_value = "")]
    gateways: String,
    /// Where tunnels may lead, SERVICE.NAMESPACE:PORT or localhost:PORT, separated by commas.
    #[arg(long, env = "CONFORMANCE_TUNNELS", default_value = "")]
    tunnels: String,
}

/// Settings of the adapter and of its machine.
pub(crate) struct Settings {
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) upstream: String,
    pub(crate) upstream_token: String,
    pub(crate) config: AgentConfig,
    pub(crate) status: HeartbeatStatus,
}

impl Settings {
    pub(crate) fn read() -> Result<Self> {
        let cli = Cli::parse();
        let (config, status) = cli.config()?;
        let bare = |url: String| url.trim_end_matches('/').to_string();
        Ok(Self {
            tls: cli.tls()?,
            url: bare(cli.url),
            token: cli.token,
            upstream: bare(cli.upstream_url),
            upstream_token: cli.upstream_token,
            config,
            status,
        })
    }
}

impl Cli {
    fn config(&self) -> Result<(AgentConfig, HeartbeatStatus)> {
        let mut config = AgentConfig::new(&*self.agent_id, &*self.name);
        // This adapter has no local end for the streams of the fast mode.
        config.yamux = false;
        config.encrypted = self.url.starts_with("https:");
        config.binary_answers = self.binary_answers;
        config.terminal_translation = self.terminal_translation;
        config.gateways = list(&self.gateways).map(String::from).collect();
        if !self.identity.is_empty() {
            config.policy = self.identity.parse()?;
        }
        for target in list(&self.tunnels) {
            let target = target
                .parse()
                .with_context(|| format!("tunnel {target:?}"))?;
            config.tunnels.push(target);
        }
        let mut status = HeartbeatStatus::default();
        if !self.info.is_empty() {
            let facts: BTreeMap<String, Value> =
                serde_json::from_str(&self.info).context("info")?;
            for (key, value) in &facts {
                tell(&mut config.info, &mut status, key, value)
                    .with_context(|| format!("info: {key}"))?;
            }
        }
        Ok((config, status))
    }

    fn tls(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        let file = &self.ca_file;
        let told = || format!("the CA file {}", file.display());
        for certificate in CertificateDer::pem_file_iter(file).with_context(told)? {
            // A system's bundle may hold some that cannot be used.
            let _ = roots.add(certificate.with_context(told)?);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// One fact of the agent; `None` where there is no such.
fn tell(
    info: &mut AgentInfo,
    status: &mut HeartbeatStatus,
    key: &str,
    value: &Value,
) -> Option<()> {
    let text = || value.as_str().map(String::from);
    match key {
        "agent_version" => info.agent_version = text()?,
        "cloud_provider" => info.cloud_provider = text()?,
        "cluster_id" => info.cluster_id = Some(text()?),
        "hostname" => info.hostname = text()?,
        "k8s_nodes" => status.k8s_nodes = Some(number(value)?),
        "k8s_pods" => status.k8s_pods = Some(number(value)?),
        "k8s_version" => info.k8s_version = text()?,
        "labels" => info.labels = texts(value)?,
        "metadata" => info.metadata = texts(value)?,
        "monitoring" => {
            let services = value.as_array()?.iter().map(monitoring);
            status.monitoring = services.collect::<Option<_>>()?;
        }
        "region" => info.region = text()?,
        "server_ip" => info.server_ip = text()?,
        "server_specs" => {
            let size = |key: &str| value.get(key).map_or(Some(0), number);
            info.server_specs = ServerSpecs {
                cpu_cores: size("cpu_cores")?,
                memory_gb: size("memory_gb")?,
                disk_gb: size("disk_gb")?,
                os: value.get("os")?.as_str()?.into(),
            };
        }
        _ => return None,
    }
    Some(())
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

fn texts(value: &Value) -> Option<BTreeMap<String, String>> {
    let pairs = value.as_object()?.iter();
    pairs
        .map(|(key, value)| Some((key.clone(), value.as_str()?.into())))
        .collect()
}

fn monitoring(value: &Value) -> Option<Monitoring> {
    let text = |key: &str| value.get(key)?.as_str().map(String::from);
    Some(Monitoring {
        service: match &*text("service")? {
            "grafana" => MonitoringService::Grafana,
            "loki" => MonitoringService::Loki,
            "opencost" => MonitoringService::OpenCost,
            "prometheus" => MonitoringService::Prometheus,
            _ => return None,
        },
        url: text("url")?,
        username: text("username")?,
        password: text("password")?,
        ssl: value.get("ssl")?.as_bool()?,
    })
}
