//! An agent that is a command: anybody's, in any language. It finds where to connect in its
//! environment, and is killed with all that it started once its conversation is over.

use std::{
    collections::{BTreeSet, VecDeque},
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use controlplane_world::vectors::{Config, Step, Vector, wire};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::Child,
    task::JoinHandle,
};

use super::{AGENT_ID, NAME, OWN, TOKEN, stage::Stage};
use crate::world::{Folder, write_private};

/// Last lines of a command that are kept.
const LINES: usize = 12;

/// For a command that was killed to have said all.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a command may be unable to be set up with.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub enum Setting {
    /// `CONFORMANCE_BINARY_ANSWERS`.
    BinaryAnswers,
    /// It has no fast mode.
    FastMode,
    /// `CONFORMANCE_GATEWAYS`.
    Gateways,
    /// `CONFORMANCE_IDENTITY`.
    Identity,
    /// `CONFORMANCE_INFO`.
    Info,
    /// `CONFORMANCE_NO_YAMUX`.
    NoYamux,
    /// `CONFORMANCE_TERMINAL_TRANSLATION`.
    TerminalTranslation,
    /// `CONFORMANCE_TUNNELS`.
    Tunnels,
}

impl Setting {
    /// As the command line of the suite has it.
    pub(super) fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map_or(String::new(), |value| value.get_name().into())
    }
}

/// How an agent is started.
#[derive(Clone, Debug)]
pub struct Command {
    /// For `sh -c`.
    pub line: String,
    /// What it cannot be set up with.
    pub without: BTreeSet<Setting>,
}

impl Command {
    /// Starts an agent that dials `url`, and is set up so.
    pub(super) async fn start(&self, url: &str, stage: &Stage, config: &Config) -> Result<Process> {
        let folder = Folder::new(None)?;
        tokio::fs::create_dir(&folder.path).await?;
        let files = Files::write(&folder.path, stage)?;
        let mut command = tokio::process::Command::new("sh");
        command
            .args(["-c", &self.line])
            .envs(files.environment(url, stage))
            .envs(settings(config)?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().context("cannot start sh")?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let said = Arc::<Mutex<VecDeque<String>>>::default();
        let stderr = child.stderr.take().context("stderr")?;
        let reading = tokio::spawn(keep(stderr, said.clone()));
        Ok(Process {
            child,
            group: Group(group),
            said,
            reading,
            _folder: folder,
        })
    }
}

/// Files that a command may read.
struct Files {
    ca: String,
    token: String,
    kubeconfig: String,
}

impl Files {
    fn write(folder: &Path, stage: &Stage) -> Result<Self> {
        let write = |name: &str, text: &str| -> Result<String> {
            let path = folder.join(name);
            write_private(&path, text)?;
            Ok(path.display().to_string())
        };
        let ca = write("ca.pem", &stage.ca_pem)?;
        let token = write("service-account.token", OWN)?;
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": NAME,
            "clusters": [{"name": NAME, "cluster":
                {"server": stage.api_url(), "certificate-authority": ca}}],
            "users": [{"name": NAME, "user": {"tokenFile": token}}],
            "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME}}]});
        // JSON is YAML.
        let kubeconfig = write("kubeconfig", &kubeconfig.to_string())?;
        Ok(Self {
            ca,
            token,
            kubeconfig,
        })
    }

    fn environment(self, url: &str, stage: &Stage) -> [(&'static str, String); 10] {
        [
            ("CONFORMANCE_URL", url.into()),
            ("CONFORMANCE_TOKEN", TOKEN.into()),
            ("CONFORMANCE_CA_FILE", self.ca.clone()),
            ("CONFORMANCE_UPSTREAM_URL", stage.api_url()),
            ("CONFORMANCE_UPSTREAM_CA_FILE", self.ca),
            ("CONFORMANCE_UPSTREAM_TOKEN", OWN.into()),
            ("CONFORMANCE_UPSTREAM_TOKEN_FILE", self.token),
            ("CONFORMANCE_KUBECONFIG", self.kubeconfig),
            ("CONFORMANCE_AGENT_ID", AGENT_ID.into()),
            ("CONFORMANCE_NAME", NAME.into()),
        ]
    }
}

/// What the vector wants beside; empty where it wants nothing.
fn settings(config: &Config) -> Result<[(&'static str, String); 7]> {
    let flag = |wanted: bool| String::from(if wanted { "1" } else { "" });
    let info = match config.info.is_empty() {
        true => String::new(),
        false => serde_json::to_string(&config.info)?,
    };
    Ok([
        (
            "CONFORMANCE_IDENTITY",
            config.identity.clone().unwrap_or_default(),
        ),
        ("CONFORMANCE_TUNNELS", config.tunnels.join(",")),
        ("CONFORMANCE_GATEWAYS", config.gateways.join(",")),
        ("CONFORMANCE_BINARY_ANSWERS", flag(config.binary_answers)),
        (
            "CONFORMANCE_TERMINAL_TRANSLATION",
            flag(config.terminal_translation),
        ),
        ("CONFORMANCE_NO_YAMUX", flag(config.no_yamux)),
        ("CONFORMANCE_INFO", info),
    ])
}

/// What a conversation needs a setting for.
pub(super) fn needs(vector: &Vector) -> BTreeSet<Setting> {
    let config = &vector.config;
    // What an agent tells that was told nothing.
    let whole = |step: &Step| match step {
        Step::Expect(pattern) => {
            wire::kind(pattern) == "register" && pattern["payload"].get("$more").is_none()
        }
        _ => false,
    };
    let fast = |step: &Step| match step {
        Step::Expect(pattern) => {
            let payload = &pattern["payload"];
            payload["use_yamux"] == true || payload["features"]["supports_yamux"] == true
        }
        _ => false,
    };
    let info = !config.info.is_empty() || vector.steps.iter().any(whole);
    [
        (Setting::BinaryAnswers, config.binary_answers),
        (Setting::FastMode, vector.steps.iter().any(fast)),
        (Setting::Gateways, !config.gateways.is_empty()),
        (Setting::Identity, config.identity.is_some()),
        (Setting::Info, info),
        (Setting::NoYamux, config.no_yamux),
        (Setting::TerminalTranslation, config.terminal_translation),
        (Setting::Tunnels, !config.tunnels.is_empty()),
    ]
    .into_iter()
    .filter_map(|(setting, needed)| needed.then_some(setting))
    .collect()
}

/// A process and its children, which are killed when it is dropped.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            // It may be gone already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A running command.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Group,
    said: Arc<Mutex<VecDeque<String>>>,
    reading: JoinHandle<()>,
    _folder: Folder,
}

impl Process {
    /// Returns once it has ended by itself.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => format!("the command ended by itself: {status}"),
            Err(error) => format!("the command cannot be waited for: {error}"),
        }
    }

    /// Kills it with all that it started, and returns what it said last.
    pub(super) async fn end(mut self) -> String {
        drop(self.group);
        let _ = self.child.wait().await;
        // What it has started out of the group would keep this open.
        let _ = tokio::time::timeout(LAST_WORDS, self.reading).await;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = said.iter().map(|line| &**line).collect();
        lines.join("\n")
    }
}

/// Keeps the last lines.
async fn keep(from: impl AsyncRead + Unpin, said: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.push_back(line);
        if said.len() > LINES {
            said.pop_front();
        }
    }
}
