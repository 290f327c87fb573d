//! What a kubectl in the middle of an exec is told when something breaks: it ends, soon, with the
//! cause and never as if the command had succeeded.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use controlplane_e2e::{
    standin::{Options, StandIn},
    world::{RuntimeName, parts::Parts},
};

use super::Kubectl;
use crate::{bench::on_both_names, cable::Cable};

/// So soon everything that breaks is told, a link that swallows everything included.
const SOON: Duration = Duration::from_secs(45);

/// To start everything, and for the worst case of it.
const LONG: Duration = Duration::from_secs(150);

on_both_names! {
    LONG;
    an_agent_that_is_killed
    a_controller_that_is_killed
    an_api_that_is_killed
    a_link_that_is_cut
    a_link_that_swallows_everything
    a_command_that_is_killed
}

/// What breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Break {
    Agent,
    Api,
    Cable,
    Command,
    Controller,
    Hole,
}

/// Starts everything, an exec in the middle of it, breaks something, and returns the exit code and
/// what kubectl complained about.
async fn broken(runtime: RuntimeName, what: Break) -> Result<Option<(i32, String)>> {
    let standin = StandIn::start(Options::default()).await?;
    let program = Path::new(env!("CARGO_BIN_EXE_part"));
    let mut parts = Parts::start(program, runtime, standin).await?;
    let cable = Cable::to(parts.address).await?;
    parts.start_agent(cable.address).await?;
    let Some(kubectl) = Kubectl::at(parts.folder()) else {
        return Ok(None);
    };
    let args = ["exec", "-i", "web-0", "--", "sh", "-c", "echo up; cat"];
    let mut exec = kubectl.interact(&args)?;
    exec.until("up").await?;
    let start = Instant::now();
    match what {
        Break::Agent => parts.kill_agent().await?,
        Break::Api => parts.standin.drop_streams(),
        Break::Cable => cable.cut(),
        Break::Command => parts.standin.kill_exec_processes(),
        Break::Controller => parts.kill_controller().await?,
        Break::Hole => cable.swallow(),
    }
    let (status, error) = exec.status().await?;
    let took = start.elapsed();
    ensure!(took <= SOON, "{what:?}: kubectl ended after {took:?}");
    let code = status.code().context("kubectl was killed")?;
    ensure!(code != 0, "{what:?}: kubectl takes it for a success");
    if what != Break::Controller {
        // Where only kubectl's own connection is gone, the controller tells the agent.
        parts.standin.processes_become(0).await;
    }
    Ok(Some((code, error)))
}

async fn told(runtime: RuntimeName, what: Break, cause: &str) -> Result<()> {
    let Some((_, error)) = broken(runtime, what).await? else {
        return Ok(());
    };
    ensure!(error.contains(cause), "{what:?}: {error}");
    Ok(())
}

const LOST: &str = "the connection to the cluster's agent was lost";

async fn an_agent_that_is_killed(runtime: RuntimeName) -> Result<()> {
    told(runtime, Break::Agent, LOST).await
}

async fn a_controller_that_is_killed(runtime: RuntimeName) -> Result<()> {
    // Nobody is left to say more than that.
    told(runtime, Break::Controller, "error").await
}

async fn an_api_that_is_killed(runtime: RuntimeName) -> Result<()> {
    told(runtime, Break::Api, "the Kubernetes API").await
}

async fn a_link_that_is_cut(runtime: RuntimeName) -> Result<()> {
    told(runtime, Break::Cable, LOST).await
}

async fn a_link_that_swallows_everything(runtime: RuntimeName) -> Result<()> {
    told(runtime, Break::Hole, LOST).await
}

async fn a_command_that_is_killed(runtime: RuntimeName) -> Result<()> {
    let Some((code, error)) = broken(runtime, Break::Command).await? else {
        return Ok(());
    };
    ensure!(
        code == 137 && error.contains("exit code 137"),
        "{code} {error}"
    );
    Ok(())
}
