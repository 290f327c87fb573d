//! kubectl at the stand-in itself, with nothing in between: port forwarding, and what kubectl does
//! where there are no WebSockets. The latter through the tunnel, too.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use controlplane_e2e::{
    standin::{Options, StandIn, WebSockets},
    world::World,
};

use super::{
    Kubectl,
    forward::{By, a_port_where_nobody_listens, twenty_of_which_one_is_reset},
    kubectl,
};
use crate::bench::{block_on_within, in_both_worlds_within, pattern, skipped_in_json};

/// For many processes on a slow machine.
const LONG: Duration = Duration::from_secs(120);

in_both_worlds_within! {
    LONG;
    exec_through_the_tunnel
    attach_through_the_tunnel
}

/// A stand-in with a folder for the kubeconfig that leads to it.
struct Direct {
    standin: StandIn,
    folder: PathBuf,
}

impl Direct {
    async fn start(name: &str) -> Result<Self> {
        let standin = StandIn::start(Options::default()).await?;
        let folder = format!("controlplane-direct-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("kubeconfig"), standin.kubeconfig())?;
        Ok(Self { standin, folder })
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Runs a test with a kubectl, if there is one.
fn directly(name: &str, test: impl AsyncFnOnce(&Kubectl, &StandIn) -> Result<()>) {
    block_on_within(LONG, async {
        let direct = Direct::start(name).await.unwrap();
        if let Some(kubectl) = Kubectl::at(&direct.folder) {
            test(&kubectl, &direct.standin).await.unwrap();
        }
    });
}

#[test]
fn twenty_connections_by_web_socket() {
    directly("twenty-ws", async |kubectl, standin| {
        twenty_of_which_one_is_reset(kubectl, standin, By::WebSocket).await?;
        a_port_where_nobody_listens(kubectl, By::WebSocket).await
    });
}

#[test]
fn twenty_connections_by_spdy() {
    directly("twenty-spdy", async |kubectl, standin| {
        twenty_of_which_one_is_reset(kubectl, standin, By::Spdy).await?;
        a_port_where_nobody_listens(kubectl, By::Spdy).await
    });
}

#[test]
fn exec_falls_back_to_spdy() {
    directly("exec-spdy", async |kubectl, standin| {
        exec_without_web_sockets(kubectl, standin).await
    });
}

/// Whatever the refusal of WebSockets, exec goes on over SPDY.
pub(crate) async fn exec_without_web_sockets(kubectl: &Kubectl, standin: &StandIn) -> Result<()> {
    for refusal in [WebSockets::Forbidden, WebSockets::Unknown] {
        standin.set_web_sockets(refusal);
        standin.clear_requests();
        let (code, out, err) = kubectl.sh("echo out; echo err >&2").await?;
        ensure!(
            (code, &*out, &*err) == (Some(0), "out\n", "err\n"),
            "{refusal:?}: {code:?} {out} {err}"
        );
        let requests = standin.requests();
        let upgrades = requests
            .iter()
            .filter_map(|request| request.header("upgrade"));
        let upgrades: Vec<_> = upgrades.collect();
        ensure!(upgrades == ["websocket", "SPDY/3.1"], "{upgrades:?}");
        let (code, out, err) = kubectl.sh("echo out; exit 3").await?;
        ensure!((code, &*out) == (Some(3), "out\n"), "{code:?} {out} {err}");
        ensure!(err == "command terminated with exit code 3\n", "{err}");
    }
    // More than waits anywhere, both ways, and the end of the input by itself.
    let cat = ["exec", "-i", "web-0", "--", "sh", "-c", "cat; exit 5"];
    let input = pattern(10 << 20);
    let (status, output, error) = kubectl.pipe(&cat, input.clone()).await?;
    ensure!(status.code() == Some(5), "{status} {error}");
    ensure!(output == input, "{} bytes came back", output.len());
    let error = kubectl
        .fail(&["exec", "web-0", "--", "nosuchcommand"])
        .await?;
    ensure!(
        error.contains("\"nosuchcommand\": executable file not found"),
        "{error}"
    );
    standin.streams_become(0).await;
    Ok(())
}

#[test]
fn attach_falls_back_to_spdy() {
    directly("attach-spdy", async |kubectl, standin| {
        attach_without_web_sockets(kubectl, standin).await
    });
}

/// The same with attach.
pub(crate) async fn attach_without_web_sockets(kubectl: &Kubectl, standin: &StandIn) -> Result<()> {
    standin.set_web_sockets(WebSockets::Unknown);
    let script = "while read line; do echo got $line; done";
    standin.set_main("web-0", &["sh", "-c", script], false)?;
    let mut typist = kubectl.interact(&["attach", "-i", "web-0"])?;
    for word in ["one", "two"] {
        typist.types(&format!("{word}\n")).await?;
        typist.until(&format!("got {word}")).await?;
    }
    // The end of what is typed ends the attach, and not the process.
    drop(typist.child.stdin.take());
    let (status, error) = typist.status().await?;
    ensure!(status.success(), "{status} {error}");
    ensure!(standin.running_processes() == 1);
    Ok(())
}

async fn exec_through_the_tunnel(world: World) -> Result<()> {
    if skipped_in_json("there is no SPDY") {
        return Ok(());
    }
    let kubectl = kubectl!(world);
    exec_without_web_sockets(&kubectl, &world.standin).await
}

async fn attach_through_the_tunnel(world: World) -> Result<()> {
    if skipped_in_json("there is no SPDY") {
        return Ok(());
    }
    let kubectl = kubectl!(world);
    attach_without_web_sockets(&kubectl, &world.standin).await
}
