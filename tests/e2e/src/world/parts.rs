//! The controller and the agent of a world, here or in a process of their own.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result};
use controlplane_async_std::AsyncStd;
use controlplane_driver::{Backoff, KubernetesConfig, Proxies, Roots, TlsOptions, TokenSource};
use controlplane_tokio::Tokio;
use pipeops_controller::{
    Running, Server, ServerConfig,
    self_signed::{CLUSTER, SelfSigned},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::{AnyAgent, Folder, RuntimeName, Settings, kubeconfig};
use crate::standin::StandIn;

/// Any port of this machine alone.
pub(super) const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Name of the controller for an agent [`Behind`] a proxy.
pub const BEHIND: &str = "controller.test";

/// An agent that reaches its controller only through a proxy, which alone knows the name
/// [`BEHIND`]. The Kubernetes API is at an address of this host that is none of loopback, so that
/// no rule of proxies excepts it.
#[derive(Clone, Debug)]
pub struct Behind {
    /// The proxies.
    pub proxies: Proxies,
    /// Authorities that the agent trusts beside the controller's, in PEM.
    pub ca_pem: String,
}

/// How the agent reaches the Kubernetes API.
#[derive(Clone, Debug)]
pub struct Api {
    /// Its URL.
    pub url: String,
    ca: PathBuf,
    token: PathBuf,
}

impl Api {
    /// The API at `url`, whose files [`Self::write`] left in `folder`.
    #[must_use]
    pub fn at(folder: &Path, url: String) -> Self {
        Self {
            url,
            ca: folder.join("api-ca.pem"),
            token: folder.join("service-account.token"),
        }
    }

    /// Leaves in `folder` what the agent has to know of the stand-in.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub fn write(folder: &Path, standin: &StandIn) -> Result<Self> {
        let api = Self::at(folder, standin.url());
        write_private(&api.ca, standin.ca_pem())?;
        write_private(&api.token, standin.token())?;
        Ok(api)
    }
}

/// Starts the controller.
///
/// # Errors
///
/// The port is taken, or a file is missing.
pub async fn serve(files: &SelfSigned, at: SocketAddr, settings: &Settings) -> Result<Running> {
    let mut config = ServerConfig::new(at, files.tls(), files.credentials());
    config.mode = settings.mode;
    config.health_listen = Some(LOCAL);
    if let Some(limits) = settings.server {
        config.limits = limits;
    }
    if let Some(limits) = settings.agent_limits {
        config.agent_limits = limits;
    }
    Ok(Server::start(config).await?)
}

/// Starts the agent, and what answers health checks about it.
///
/// # Errors
///
/// A file is missing.
pub async fn start_agent(
    files: &SelfSigned,
    api: &Api,
    controller: SocketAddr,
    settings: &Settings,
) -> Result<(AnyAgent, controlplane_health::Server)> {
    let mut kubernetes = KubernetesConfig::new(&api.url);
    kubernetes.tls.ca_pem = fs::read(&api.ca)?;
    kubernetes.tls.roots = Roots::Only;
    kubernetes.token = Some(TokenSource::File(api.token.clone()));
    let url = match settings.behind {
        Some(_) => format!("https://{BEHIND}:{}", controller.port()),
        None => format!("https://{controller}"),
    };
    let token = TokenSource::File(files.agent_token());
    let mut config = pipeops_agent::Config::new(url, token, CLUSTER, "agent-demo", kubernetes);
    config.tls = TlsOptions {
        ca_file: Some(files.ca()),
        ..TlsOptions::default()
    };
    if let Some(behind) = &settings.behind {
        config.proxies = behind.proxies.clone();
        config.tls.ca_pem = behind.ca_pem.clone().into_bytes();
        config.kubernetes.url = api.url.replace("127.0.0.1", "0.0.0.0");
        config.kubernetes.server_name = Some("127.0.0.1".into());
    }
    config.identity = settings.identity;
    if settings.hasty {
        config.backoff = Backoff {
            base: Duration::from_millis(10),
            max: Duration::from_millis(50),
            ..Backoff::default()
        };
    }
    let tls = config.tls.clone();
    Ok(match settings.runtime {
        RuntimeName::Tokio => {
            let agent = pipeops_agent::start(Tokio, config).await?;
            let health = pipeops_agent::health::serve(&agent, tls, LOCAL)?;
            (AnyAgent::Tokio(agent), health)
        }
        RuntimeName::AsyncStd => {
            let agent = pipeops_agent::start(AsyncStd, config).await?;
            let health = pipeops_agent::health::serve(&agent, tls, LOCAL)?;
            (AnyAgent::AsyncStd(agent), health)
        }
    })
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// A world whose controller and agent are processes, so that they can be killed, and whose link
/// between them can be laid through something else.
#[derive(Debug)]
pub struct Parts {
    /// The Kubernetes API, in this process.
    pub standin: StandIn,
    /// Where the controller listens.
    pub address: SocketAddr,
    /// Where it answers health checks.
    pub health: SocketAddr,
    /// Where the agent does, once it is started.
    pub agent_health: Option<SocketAddr>,
    controller: Child,
    agent: Option<Child>,
    runtime: RuntimeName,
    program: PathBuf,
    folder: Folder,
}

impl Parts {
    /// Starts the stand-in and the controller; `program` is the one that runs single parts.
    ///
    /// # Errors
    ///
    /// A port, a file or the program cannot be had.
    pub async fn start(program: &Path, runtime: RuntimeName, standin: StandIn) -> Result<Self> {
        let folder = Folder::new(None)?;
        let files = SelfSigned::create(&folder.path, &[])?;
        Api::write(&folder.path, &standin)?;
        let mut command = Command::new(program);
        command.arg("controller").arg(&folder.path);
        let (controller, ready) = start(command).await?;
        let (address, health) = ready.split_once(' ').context("two addresses")?;
        let address: SocketAddr = address.parse().context("the controller says no address")?;
        let health = health.parse().context("it says no address of its health")?;
        let token = TokenSource::File(files.user_token()).read()?;
        let text = kubeconfig(&files, address, CLUSTER, token)?;
        write_private(&folder.path.join("kubeconfig"), &text)?;
        Ok(Self {
            standin,
            address,
            health,
            agent_health: None,
            controller,
            agent: None,
            runtime,
            program: program.into(),
            folder,
        })
    }

    /// Starts the agent, which dials `controller`, and waits until it is registered.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn start_agent(&mut self, controller: SocketAddr) -> Result<()> {
        let mut command = Command::new(&self.program);
        command
            .arg("agent")
            .arg(&self.folder.path)
            .args([&controller.to_string(), &self.standin.url()])
            .args(["--runtime", self.runtime.as_str()]);
        let (agent, ready) = start(command).await?;
        let health = ready.strip_prefix("registered ");
        let health = health.with_context(|| format!("the agent says {ready:?}"))?;
        self.agent_health = Some(health.parse()?);
        self.agent = Some(agent);
        Ok(())
    }

    /// The folder with all files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// The process ids of the controller and of the agent, as far as they run.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let agent = self.agent.as_ref().and_then(Child::id);
        self.controller.id().into_iter().chain(agent).collect()
    }

    /// Kills the agent, as the kernel does when memory runs out.
    ///
    /// # Errors
    ///
    /// It is gone already.
    pub async fn kill_agent(&mut self) -> Result<()> {
        let agent = self.agent.as_mut().context("there is no agent")?;
        Ok(agent.kill().await?)
    }

    /// Kills the controller likewise.
    ///
    /// # Errors
    ///
    /// It is gone already.
    pub async fn kill_controller(&mut self) -> Result<()> {
        Ok(self.controller.kill().await?)
    }
}

/// Starts a part and returns the line that says it is ready.
async fn start(mut command: Command) -> Result<(Child, String)> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().context("cannot start a part")?;
    let stdout = child.stdout.take().context("stdout")?;
    let line = BufReader::new(stdout).lines().next_line().await?;
    Ok((child, line.context("a part ended before it was ready")?))
}
