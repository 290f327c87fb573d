//! exec and attach with the `kube` crate as client, always.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use controlplane_e2e::world::World;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{
    Api, Error,
    api::{AttachParams, AttachedProcess, TerminalSize},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    bench::{in_both_worlds, in_both_worlds_within, pattern},
    kube_crate::client,
    kubectl::Kubectl,
};

in_both_worlds! {
    output_errors_and_exit_status
    what_cannot_run_says_why
    a_mebibyte_goes_in_and_comes_out
    a_terminal_is_resized
    attach_types_to_a_pod
    a_connection_that_is_lost_is_no_success
}

/// For those that have much to do, or nothing for long.
const LONG: Duration = Duration::from_secs(180);

in_both_worlds_within! {
    LONG;
    fifty_at_once
    an_idle_one_lives_for_ninety_seconds
}

async fn pods(world: &World) -> Result<Api<Pod>> {
    Ok(Api::default_namespaced(client(world).await?))
}

fn sh(script: &str) -> [String; 3] {
    ["sh".into(), "-c".into(), script.into()]
}

/// What it wrote, and its result.
async fn outcome(mut process: AttachedProcess) -> Result<(Vec<u8>, Vec<u8>, Status)> {
    let status = process.take_status().context("status")?;
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let out = async {
        let mut all = Vec::new();
        if let Some(mut stdout) = stdout {
            stdout.read_to_end(&mut all).await?;
        }
        anyhow::Ok(all)
    };
    let err = async {
        let mut all = Vec::new();
        if let Some(mut stderr) = stderr {
            stderr.read_to_end(&mut all).await?;
        }
        anyhow::Ok(all)
    };
    let (out, err) = tokio::try_join!(out, err)?;
    let status = status.await.context("it ended without a status")?;
    // The status is known when the output has ended; how the connection ends after it, is not
    // part of the result.
    let _ = process.join().await;
    Ok((out, err, status))
}

/// The exit code, 0 for a success.
fn code(status: &Status) -> Option<i32> {
    if status.status.as_deref() == Some("Success") {
        return Some(0);
    }
    let causes = status.details.as_ref()?.causes.as_ref()?;
    let exit = causes
        .iter()
        .find(|c| c.reason.as_deref() == Some("ExitCode"))?;
    exit.message.as_ref()?.parse().ok()
}

async fn output_errors_and_exit_status(world: World) -> Result<()> {
    let pods = pods(&world).await?;
    let run = async |script: &str| {
        let process = pods
            .exec("web-0", sh(script), &AttachParams::default())
            .await?;
        outcome(process).await
    };
    for (script, expected) in [
        ("echo out; echo err >&2", 0),
        ("echo out; echo err >&2; exit 3", 3),
        ("echo out; echo err >&2; kill -9 $$", 137),
    ] {
        let (out, err, status) = run(script).await?;
        ensure!(
            out == b"out\n" && err == b"err\n",
            "{script}: {out:?} {err:?}"
        );
        ensure!(code(&status) == Some(expected), "{script}: {status:?}");
    }
    let (out, _, status) = run("seq 1 1000000; exit 4").await?;
    ensure!(
        out.ends_with(b"\n1000000\n") && out.len() == 6_888_896,
        "{}",
        out.len()
    );
    ensure!(code(&status) == Some(4), "{status:?}");
    Ok(())
}

async fn what_cannot_run_says_why(world: World) -> Result<()> {
    let pods = pods(&world).await?;
    let params = AttachParams::default();
    let process = pods.exec("web-0", ["nosuchcommand"], &params).await?;
    let (.., status) = outcome(process).await?;
    ensure!(
        code(&status).is_none() && status.code == Some(500),
        "{status:?}"
    );
    let refused =
        async |pod: &str, params: &AttachParams| match pods.exec(pod, ["true"], params).await {
            Err(Error::Api(status)) => Ok((status.code, status.message)),
            other => Err(anyhow::anyhow!("{:?}", other.err())),
        };
    let unknown = refused("nosuch", &params).await?;
    ensure!(
        unknown == (404, "pods \"nosuch\" not found".into()),
        "{unknown:?}"
    );
    let wrong = AttachParams::default().container("nosuch");
    let wrong = refused("web-0", &wrong).await?;
    let text = "container nosuch is not valid for pod web-0";
    ensure!(wrong == (400, text.into()), "{wrong:?}");
    world.standin.forbid_exec(true);
    let forbidden = refused("web-0", &params).await?;
    ensure!(
        forbidden.0 == 403 && forbidden.1.contains("pods/exec"),
        "{forbidden:?}"
    );
    world.standin.forbid_exec(false);
    // kube asks again and again while the agent is away: see the tests with kubectl.
    Ok(())
}

/// Runs with this input.
async fn pipe(pods: &Api<Pod>, script: &str, input: Vec<u8>) -> Result<(Vec<u8>, Status)> {
    let params = AttachParams::default().stdin(true);
    let mut process = pods.exec("web-0", sh(script), &params).await?;
    let mut stdin = process.stdin().context("stdin")?;
    let write = async move {
        stdin.write_all(&input).await?;
        // The input ends, while the output goes on.
        anyhow::Ok(stdin.shutdown().await?)
    };
    let ((out, _, status), ()) = tokio::try_join!(outcome(process), write)?;
    Ok((out, status))
}

async fn a_mebibyte_goes_in_and_comes_out(world: World) -> Result<()> {
    let pods = pods(&world).await?;
    for len in [0, 1, 1 << 20] {
        let input = pattern(len);
        let (out, status) = pipe(&pods, "cat; exit 9", input.clone()).await?;
        ensure!(out == input, "{} bytes of {len} came back", out.len());
        ensure!(code(&status) == Some(9), "{status:?}");
    }
    Ok(())
}

async fn a_terminal_is_resized(world: World) -> Result<()> {
    let pods = pods(&world).await?;
    let script = "while read line; do stty size; done; exit 7";
    let mut process = pods
        .exec("web-0", sh(script), &AttachParams::interactive_tty())
        .await?;
    let mut sizes = process.terminal_size().context("terminal_size")?;
    let (mut stdin, mut stdout) = (
        process.stdin().context("stdin")?,
        process.stdout().context("stdout")?,
    );
    let status = process.take_status().context("status")?;
    for (width, height) in [(80, 24), (100, 40)] {
        sizes.try_send(TerminalSize { width, height })?;
        let wanted = format!("{height} {width}");
        let mut seen = String::new();
        while !seen.contains(&wanted) {
            stdin.write_all(b"?\n").await?;
            let mut buffer = [0; 256];
            let len = stdout.read(&mut buffer).await?;
            ensure!(len > 0, "the terminal ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(
                buffer.get(..len).unwrap_or_default(),
            ));
        }
    }
    stdin.write_all(b"\x04").await?;
    let drain = async { Ok(tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await?) };
    let (status, _) = tokio::try_join!(async { status.await.context("status") }, drain)?;
    ensure!(code(&status) == Some(7), "{status:?}");
    Ok(())
}

async fn attach_types_to_a_pod(world: World) -> Result<()> {
    let pods = pods(&world).await?;
    let script = "while read line; do echo got $line; done; exit 3";
    world
        .standin
        .set_main("web-0", &["sh", "-c", script], false)?;
    let params = AttachParams::default().stdin(true);
    let mut process = pods.attach("web-0", &params).await?;
    let mut stdin = process.stdin().context("stdin")?;
    let mut stdout = process.stdout().context("stdout")?;
    for word in ["one", "two"] {
        stdin.write_all(format!("{word}\n").as_bytes()).await?;
        let expected = format!("got {word}\n");
        let mut line = vec![0; expected.len()];
        stdout.read_exact(&mut line).await?;
        ensure!(line == expected.as_bytes(), "{line:?}");
    }
    Ok(())
}

async fn a_connection_that_is_lost_is_no_success(world: World) -> Result<()> {
    let pods = pods(&world).await?;
    let params = AttachParams::default().stdin(true);
    let mut process = pods.exec("web-0", sh("echo up; cat"), &params).await?;
    let mut stdout = process.stdout().context("stdout")?;
    stdout.read_exact(&mut [0; 3]).await?;
    let status = process.take_status().context("status")?;
    world.cut();
    let status = status.await.context("it ended without a status")?;
    ensure!(status.status.as_deref() == Some("Failure"), "{status:?}");
    let message = status.message.unwrap_or_default();
    ensure!(
        message == "the connection to the cluster's agent was lost",
        "{message}"
    );
    world.standin.processes_become(0).await;
    world.joined().await?;
    let (out, status) = pipe(&pods, "cat", b"again".to_vec()).await?;
    ensure!(out == b"again" && code(&status) == Some(0), "{status:?}");
    Ok(())
}

async fn fifty_at_once(world: World) -> Result<()> {
    let pods = pods(&world).await?;
    let input = pattern(64 << 10);
    let runs = (0..50).map(|n| {
        let (pods, input) = (&pods, input.clone());
        async move {
            let script = format!("cat; echo {n}; exit {n}");
            let (out, status) = pipe(pods, &script, input.clone()).await?;
            ensure!(code(&status) == Some(n), "{n}: {status:?}");
            ensure!(
                out == [&input[..], format!("{n}\n").as_bytes()].concat(),
                "{n}"
            );
            Ok(())
        }
    });
    futures_util::future::try_join_all(runs).await?;
    Ok(())
}

/// With kubectl beside it, because nobody has to wait twice.
async fn an_idle_one_lives_for_ninety_seconds(world: World) -> Result<()> {
    let script = "echo before; sleep 90; echo after; exit 6";
    let pods = pods(&world).await?;
    let of_kube = async {
        let params = AttachParams::default();
        let process = pods.exec("web-0", sh(script), &params).await?;
        let (out, _, status) = outcome(process).await?;
        ensure!(
            out == b"before\nafter\n" && code(&status) == Some(6),
            "{status:?}"
        );
        Ok(())
    };
    let of_kubectl = async {
        let Some(kubectl) = Kubectl::find(&world) else {
            return Ok(());
        };
        let (code, out, err) = kubectl.sh(script).await?;
        ensure!(
            (code, &*out) == (Some(6), "before\nafter\n"),
            "{code:?} {out} {err}"
        );
        Ok(())
    };
    tokio::try_join!(of_kube, of_kubectl)?;
    Ok(())
}
