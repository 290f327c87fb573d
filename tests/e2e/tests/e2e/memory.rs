//! How much memory an idle agent has resident, on either runtime.
//!
//! What is promised is promised of the released programs: `AGENT_PROGRAMS` names the folder with
//! them, as step `memory` of the gate does. Without it the agent is a part of these tests, built
//! without optimisation, whose file alone is larger: only its own memory is limited then.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use controlplane_e2e::{
    client::Client,
    standin::{Options, StandIn},
    world::{RuntimeName, parts::Parts},
};
use pipeops_controller::self_signed::{CLUSTER, SelfSigned};
use tokio::process::{Child, Command};

use crate::bench::{PATIENCE, on_both_names};

/// Resident memory of a released program, in KiB.
const RESIDENT: u64 = 12 << 10;
/// The part of it that no file backs, in KiB, with room for the threads of a machine with many
/// processors; that of a test program likewise.
const OWN: u64 = 6 << 10;

on_both_names! {
    PATIENCE;
    an_idle_agent_has_at_most_12_mib
}

async fn an_idle_agent_has_at_most_12_mib(runtime: RuntimeName) -> Result<()> {
    let standin = StandIn::start(Options::default()).await?;
    let part = Path::new(env!("CARGO_BIN_EXE_part"));
    let mut parts = Parts::start(part, runtime, standin).await?;
    let files = SelfSigned::at(parts.folder());
    let released = env::var_os("AGENT_PROGRAMS");
    let mut program = None;
    if let Some(folder) = &released {
        program = Some(released_agent(Path::new(folder), runtime, &parts, &files)?);
    } else {
        parts.start_agent(parts.address).await?;
    }
    let pid = match &program {
        Some(program) => program.id(),
        None => parts.pids().last().copied(),
    };
    let pid = pid.context("the agent has ended")?;
    let token = fs::read_to_string(files.user_token())?;
    let ca = fs::read(files.ca())?;
    let client = Client::new(parts.address, &ca, CLUSTER, token.trim())?;
    // It is registered, and its way to the Kubernetes API has been used.
    while client.get("/version").await?.status() == 503 {}
    let (resident, own) = (status(pid, "VmRSS:")?, status(pid, "RssAnon:")?);
    eprintln!(
        "{}: {resident} KiB resident, of which {own} KiB its own",
        runtime.as_str()
    );
    ensure!(own <= OWN, "{own} KiB are its own");
    ensure!(
        released.is_none() || resident <= RESIDENT,
        "{resident} KiB are resident"
    );
    Ok(())
}

/// The program that is released for that runtime, with the system's authorities as in real life.
fn released_agent(
    folder: &Path,
    runtime: RuntimeName,
    parts: &Parts,
    files: &SelfSigned,
) -> Result<Child> {
    let name = match runtime {
        RuntimeName::Tokio => "pipeops-agent",
        RuntimeName::AsyncStd => "pipeops-agent-async-std",
    };
    let kubeconfig = parts.folder().join("standin.kubeconfig");
    fs::write(&kubeconfig, parts.standin.kubeconfig())?;
    let program = folder.join(name);
    Command::new(&program)
        .args(["--api-url", &format!("https://{}", parts.address)])
        .args(["--cluster-name", CLUSTER, "--agent-id", "agent-1f2e"])
        .arg("--token-file")
        .arg(files.agent_token())
        .arg("--ca-file")
        .arg(files.ca())
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--health-listen", "127.0.0.1:0"])
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

/// A line of `/proc/PID/status`, in KiB.
fn status(pid: u32, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    Ok(value.with_context(|| format!("no {name}"))?.parse()?)
}
