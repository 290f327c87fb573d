//! Everything in one process: the stand-in Kubernetes API, the controller, and an agent between
//! them on either runtime, with certificates and tokens in a folder of their own. For tests that
//! kill a part, [`parts`] starts it in a process of its own.

mod agent;
pub mod parts;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use controlplane_driver::{Limits, State, Token, TokenSource};
use pipeops_controller::{
    Mode, Running, ServerLimits,
    kubeconfig::Kubeconfig,
    self_signed::{CLUSTER, SelfSigned},
};

pub use self::agent::AnyAgent;
pub(crate) use self::parts::write_private;
use self::parts::{Api, serve, start_agent};
pub use self::parts::{BEHIND, Behind};
use crate::{
    client::Client,
    metrics::{self, Metrics},
    standin::{Options, StandIn},
};

/// Which runtime the agent runs on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum RuntimeName {
    /// tokio.
    #[default]
    Tokio,
    /// async-std.
    AsyncStd,
}

impl RuntimeName {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::AsyncStd => "async-std",
        }
    }
}

/// How requests travel where nothing else is said: `E2E_MODE`, `fast` (default) or `json`. The
/// processes of [`parts`] inherit it.
///
/// # Panics
///
/// `E2E_MODE` is neither: a test would run in another mode than was meant.
pub fn mode() -> Mode {
    static MODE: OnceLock<Mode> = OnceLock::new();
    *MODE.get_or_init(|| match std::env::var("E2E_MODE").as_deref() {
        Err(std::env::VarError::NotPresent) | Ok("fast") => Mode::Fast,
        Ok("json") => Mode::Json,
        other => panic!("E2E_MODE is {other:?}; there are \"fast\" and \"json\""),
    })
}

/// What may differ from one world to another.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The agent's runtime.
    pub runtime: RuntimeName,
    /// How requests travel to the agent; [`mode`] by default.
    pub mode: Mode,
    /// Where files go; by default a new folder that is removed in the end.
    pub folder: Option<PathBuf>,
    /// Whether the agent comes back within milliseconds, for tests.
    pub hasty: bool,
    /// The controller's limits.
    pub server: Option<ServerLimits>,
    /// The agent's identity policy.
    pub identity: controlplane_driver::IdentityPolicy,
    /// Bounds on what one agent can make the controller hold.
    pub agent_limits: Option<Limits>,
    /// Pods of the stand-in beside its usual ones.
    pub pods: Vec<String>,
    /// Whether the agent is behind a proxy; it is not by default.
    pub behind: Option<Behind>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            runtime: RuntimeName::default(),
            mode: mode(),
            folder: None,
            hasty: false,
            server: None,
            identity: controlplane_driver::IdentityPolicy::default(),
            agent_limits: None,
            pods: Vec::new(),
            behind: None,
        }
    }
}

/// A folder; one that was made for this world is removed with it.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    temporary: bool,
}

impl Folder {
    pub(crate) fn new(given: Option<PathBuf>) -> Result<Self> {
        if let Some(path) = given {
            let temporary = false;
            return Ok(Self { path, temporary });
        }
        let mut name = [0; 8];
        getrandom::fill(&mut name).context("the system gives no random numbers")?;
        let name = format!("controlplane-demo-{:016x}", u64::from_be_bytes(name));
        Ok(Self {
            path: std::env::temp_dir().join(name),
            temporary: true,
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// All of it.
#[derive(Debug)]
pub struct World {
    /// The Kubernetes API.
    pub standin: StandIn,
    /// The controller; `None` while it is stopped.
    pub controller: Option<Running>,
    /// The agent.
    pub agent: AnyAgent,
    agent_health: controlplane_health::Server,
    files: SelfSigned,
    address: SocketAddr,
    settings: Settings,
    folder: Folder,
}

impl World {
    /// Starts everything and waits until the agent is registered; `progress` is told each step.
    ///
    /// # Errors
    ///
    /// A port or a file cannot be had.
    pub async fn start(settings: Settings, progress: impl Fn(&str)) -> Result<Self> {
        let folder = Folder::new(settings.folder.clone())?;
        let files = SelfSigned::create(&folder.path, &[BEHIND.into()])?;
        progress(&format!(
            "certificates and tokens in {}",
            folder.path.display()
        ));
        let mut options = Options::default();
        options.pods.extend(settings.pods.iter().cloned());
        let standin = StandIn::start(options).await?;
        progress(&format!("stand-in Kubernetes API on {}", standin.url()));
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let controller = serve(&files, local, &settings).await?;
        let address = controller.addr();
        progress(&format!("controller on https://{address}"));
        let api = Api::write(&folder.path, &standin)?;
        let (agent, agent_health) = start_agent(&files, &api, address, &settings).await?;
        let registration = agent.registered().await?;
        progress(&format!(
            "agent on {} registered as cluster {:?} ({})",
            settings.runtime.as_str(),
            registration.name,
            registration.cluster_id
        ));
        let world = Self {
            standin,
            controller: Some(controller),
            agent,
            agent_health,
            files,
            address,
            settings,
            folder,
        };
        world.write_kubeconfig()?;
        world.joined().await?;
        Ok(world)
    }

    /// Where the controller listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The metrics of the controller, and of the agent.
    ///
    /// # Errors
    ///
    /// One of them does not run.
    pub async fn metrics(&self) -> Result<(Metrics, Metrics)> {
        let controller = self.controller.as_ref().and_then(Running::health_addr);
        let controller = Metrics::fetch(controller.context("there is no controller")?);
        Ok((
            controller.await?,
            Metrics::fetch(self.agent_health.address()).await?,
        ))
    }

    /// Waits until nothing is under way any more: see [`metrics::tables_empty`].
    ///
    /// # Errors
    ///
    /// What is left after a long time.
    pub async fn tables_become_empty(&self) -> Result<()> {
        metrics::until(|| async {
            let (controller, agent) = self.metrics().await?;
            metrics::tables_empty(&controller, &agent)
        })
        .await
    }

    /// The folder with all files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// A kubeconfig for the cluster behind the tunnel.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path.join("kubeconfig")
    }

    /// The user's token.
    ///
    /// # Errors
    ///
    /// Its file is gone.
    pub fn user_token(&self) -> Result<Token> {
        Ok(TokenSource::File(self.files.user_token()).read()?)
    }

    /// Certificate of the authority that signed the controller's, in PEM.
    ///
    /// # Errors
    ///
    /// Its file is gone.
    pub fn ca_pem(&self) -> Result<String> {
        Ok(fs::read_to_string(self.files.ca())?)
    }

    /// Text of a kubeconfig with another token.
    ///
    /// # Errors
    ///
    /// A file is gone.
    pub fn kubeconfig_with(&self, token: Token, cluster: &str) -> Result<String> {
        kubeconfig(&self.files, self.address, cluster, token)
    }

    fn write_kubeconfig(&self) -> Result<()> {
        let text = self.kubeconfig_with(self.user_token()?, CLUSTER)?;
        write_private(&self.kubeconfig(), &text)
    }

    /// The credentials file of the controller.
    #[must_use]
    pub fn credentials(&self) -> PathBuf {
        self.files.credentials()
    }

    /// A client for the cluster behind the tunnel.
    ///
    /// # Errors
    ///
    /// A file is gone.
    pub fn client(&self) -> Result<Client> {
        let ca = fs::read(self.files.ca())?;
        Client::new(self.address, &ca, CLUSTER, self.user_token()?.as_str())
    }

    /// Cuts the agent's connection as a broken network would and waits until it is back.
    ///
    /// # Errors
    ///
    /// The agent has stopped.
    pub async fn reset_control_connection(&self) -> Result<()> {
        let seen = self.agent.state();
        ensure!(
            matches!(seen, State::Registered(_)),
            "not registered: {seen:?}"
        );
        self.cut();
        self.agent.changed(&seen).await;
        self.joined().await
    }

    /// Cuts the agent's connection and returns at once.
    pub fn cut(&self) {
        if let Some(controller) = &self.controller {
            controller.drop_agent_connections();
        }
    }

    /// Waits until both ends know of the registration.
    ///
    /// # Errors
    ///
    /// The agent has stopped.
    pub async fn joined(&self) -> Result<()> {
        self.agent.registered().await?;
        let connected = |c: &Running| c.clusters().iter().any(|c| c.connected);
        while self.controller.as_ref().is_some_and(|c| !connected(c)) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Stops the controller.
    pub async fn stop_controller(&mut self) {
        if let Some(controller) = self.controller.take() {
            controller.shutdown(Duration::ZERO).await;
        }
    }

    /// Starts the controller again where it was, and waits until the agent is back.
    ///
    /// # Errors
    ///
    /// The port is taken, or the agent has stopped.
    pub async fn start_controller(&mut self) -> Result<()> {
        self.controller = Some(serve(&self.files, self.address, &self.settings).await?);
        self.joined().await
    }

    /// Ends all of it.
    pub async fn shutdown(mut self) {
        self.agent.shutdown(Duration::from_secs(1)).await;
        self.stop_controller().await;
    }
}

/// Text of a kubeconfig for a cluster at the controller.
fn kubeconfig(
    files: &SelfSigned,
    address: SocketAddr,
    cluster: &str,
    token: Token,
) -> Result<String> {
    let kubeconfig = Kubeconfig {
        server: format!("https://{address}"),
        cluster: cluster.into(),
        ca: Some(fs::read(files.ca())?),
        token,
    };
    Ok(kubeconfig.render()?)
}
