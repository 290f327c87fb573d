//! exec and attach: what goes in, what comes out, and the exit status.

use std::{
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use controlplane_e2e::world::{World, mode};
use pipeops_controller::Mode;
use pty_process::{Pty, Size};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Child,
};

use super::{Kubectl, kubectl};
use crate::bench::{in_both_worlds, in_both_worlds_within, pattern};

in_both_worlds! {
    output_errors_and_exit_status
    what_cannot_run_says_why
    a_mebibyte_goes_in_and_comes_out
    a_terminal_is_resized
    attach_shows_what_a_pod_writes
    attach_types_to_a_pod
    a_process_that_reads_ends_when_its_kubectl_goes_away
}

/// For those that have much to do.
const LONG: Duration = Duration::from_secs(180);

in_both_worlds_within! {
    LONG;
    fifty_at_once
}

impl Kubectl {
    /// Runs a shell command in `web-0`: exit code, output, errors.
    pub(crate) async fn sh(&self, script: &str) -> Result<(Option<i32>, String, String)> {
        let args = ["exec", "web-0", "--", "sh", "-c", script];
        let output = self.output(&args).await?;
        let text = |bytes| String::from_utf8(bytes);
        let code = output.status.code();
        Ok((code, text(output.stdout)?, text(output.stderr)?))
    }

    /// Runs with this input; what comes out.
    pub(super) async fn pipe(
        &self,
        args: &[&str],
        input: Vec<u8>,
    ) -> Result<(ExitStatus, Vec<u8>, String)> {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("stdin")?;
        let write = async move {
            // Where the other end leaves first, the exit status tells.
            let _ = stdin.write_all(&input).await;
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), write);
        let output = output?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((output.status, output.stdout, error))
    }
}

/// A kubectl at a terminal of its own.
struct Terminal {
    pty: Pty,
    child: Child,
    seen: String,
}

impl Terminal {
    fn start(kubectl: &Kubectl, args: &[&str], size: Size) -> Result<Self> {
        let (pty, pts) = pty_process::open()?;
        pty.resize(size)?;
        let child = pty_process::Command::new(&kubectl.program)
            .args(args)
            .env("HOME", &kubectl.home)
            .env("KUBECONFIG", &kubectl.kubeconfig)
            .env("TERM", "xterm")
            .kill_on_drop(true)
            .spawn(pts)?;
        let seen = String::new();
        Ok(Self { pty, child, seen })
    }

    async fn types(&mut self, text: &str) -> Result<()> {
        Ok(self.pty.write_all(text.as_bytes()).await?)
    }

    /// Reads on until `part` was seen, and takes what was seen up to its end.
    async fn until(&mut self, part: &str) -> Result<String> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.seen.find(part) {
                let rest = self.seen.split_off(at + part.len());
                return Ok(std::mem::replace(&mut self.seen, rest));
            }
            let len = self.pty.read(&mut buffer).await.unwrap_or_default();
            if len == 0 {
                bail!("the terminal ended without {part:?}: {:?}", self.seen);
            }
            let text = String::from_utf8_lossy(buffer.get(..len).unwrap_or_default());
            self.seen.push_str(&text);
        }
    }
}

async fn output_errors_and_exit_status(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    let (code, out, err) = kubectl.sh("echo out; echo err >&2").await?;
    ensure!(
        (code, &*out, &*err) == (Some(0), "out\n", "err\n"),
        "{code:?} {out} {err}"
    );
    let (code, out, err) = kubectl.sh("echo out; echo err >&2; exit 3").await?;
    ensure!((code, &*out) == (Some(3), "out\n"), "{code:?} {out}");
    ensure!(err == "err\ncommand terminated with exit code 3\n", "{err}");
    let (code, _, err) = kubectl.sh("kill -9 $$").await?;
    ensure!(code == Some(137), "{code:?} {err}");
    ensure!(err == "command terminated with exit code 137\n", "{err}");
    // More than one frame and more than one window, and the end comes after all of it.
    let (code, out, _) = kubectl.sh("seq 1 1000000; exit 4").await?;
    ensure!(code == Some(4) && out.ends_with("\n1000000\n"), "{code:?}");
    ensure!(
        out.lines().count() == 1_000_000,
        "{} lines",
        out.lines().count()
    );
    Ok(())
}

async fn what_cannot_run_says_why(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    let missing = ["exec", "web-0", "--", "nosuchcommand"];
    let error = kubectl.fail(&missing).await?;
    ensure!(
        error.contains("\"nosuchcommand\": executable file not found"),
        "{error}"
    );
    let container = ["exec", "web-0", "-c", "nosuch", "--", "true"];
    let error = kubectl.fail(&container).await?;
    ensure!(
        error.contains("container nosuch is not valid for pod web-0"),
        "{error}"
    );
    let error = kubectl.fail(&["exec", "nosuch", "--", "true"]).await?;
    ensure!(
        error == "Error from server (NotFound): pods \"nosuch\" not found\n",
        "{error}"
    );
    world.standin.forbid_exec(true);
    let error = kubectl.fail(&["exec", "web-0", "--", "true"]).await?;
    ensure!(
        error.contains("(Forbidden)") && error.contains("pods/exec"),
        "{error}"
    );
    world.standin.forbid_exec(false);
    // kubectl's own way without WebSockets is SPDY, which the JSON mode cannot carry.
    let mut old = kubectl.command(&["exec", "web-0", "--", "sh", "-c", "exit 3"]);
    old.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false");
    let output = old.output().await?;
    let error = String::from_utf8(output.stderr)?;
    let (code, text) = match mode() {
        Mode::Fast => (3, "command terminated with exit code 3"),
        Mode::Json => (1, "WebSocket"),
    };
    ensure!(
        output.status.code() == Some(code) && error.contains(text),
        "{} {error}",
        output.status
    );
    world.agent.shutdown(Duration::ZERO).await;
    let error = kubectl.fail(&["exec", "web-0", "--", "true"]).await?;
    ensure!(
        error.contains("the agent of cluster \"demo\" is not connected"),
        "{error}"
    );
    Ok(())
}

async fn a_mebibyte_goes_in_and_comes_out(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    let cat = ["exec", "-i", "web-0", "--", "cat"];
    for len in [0, 1, 1 << 20, 10 << 20] {
        let input = pattern(len);
        let (status, output, error) = kubectl.pipe(&cat, input.clone()).await?;
        ensure!(status.success(), "{len}: {error}");
        ensure!(output == input, "{} bytes of {len} came back", output.len());
    }
    // The end of the input arrives as such, while the output goes on.
    let count = [
        "exec",
        "-i",
        "web-0",
        "--",
        "sh",
        "-c",
        "wc -c; echo after; exit 5",
    ];
    let (status, output, error) = kubectl.pipe(&count, pattern(1 << 20)).await?;
    let output = String::from_utf8(output)?;
    ensure!(status.code() == Some(5), "{status} {error}");
    ensure!(output.trim_start() == "1048576\nafter\n", "{output}");
    Ok(())
}

async fn a_terminal_is_resized(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    let script = "echo ready; while read line; do stty size; done; exit 7";
    let args = ["exec", "-it", "web-0", "--", "sh", "-c", script];
    let mut terminal = Terminal::start(&kubectl, &args, Size::new(24, 80))?;
    // Before, what is typed may be lost: kubectl makes the terminal raw.
    terminal.until("ready\r\n").await?;
    // How soon kubectl says the size, is its business.
    let size = async |terminal: &mut Terminal, wanted: &str| -> Result<()> {
        loop {
            terminal.types("?\r").await?;
            let seen = terminal.until("\n").await? + &terminal.until("\n").await?;
            if seen.contains(wanted) {
                return Ok(());
            }
        }
    };
    size(&mut terminal, "24 80").await?;
    terminal.pty.resize(Size::new(40, 100))?;
    size(&mut terminal, "40 100").await?;
    terminal.types("\u{4}").await?;
    terminal.until("exit code 7").await?;
    let status = terminal.child.wait().await?;
    ensure!(status.code() == Some(7), "{status}");
    Ok(())
}

async fn attach_shows_what_a_pod_writes(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    let script = "while read line; do echo got $line; done; exit 3";
    world
        .standin
        .set_main("web-0", &["sh", "-c", script], false)?;
    let mut watcher = kubectl.follow(&["attach", "web-0"])?;
    world.standin.streams_become(1).await;
    let mut typist = kubectl
        .command(&["attach", "-i", "web-0"])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut stdin = typist.stdin.take().context("stdin")?;
    stdin.write_all(b"one\n").await?;
    ensure!(watcher.lines.next_line().await?.as_deref() == Some("got one"));
    stdin.write_all(b"two\n").await?;
    ensure!(watcher.lines.next_line().await?.as_deref() == Some("got two"));
    Ok(())
}

async fn attach_types_to_a_pod(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    let script = "while read line; do echo got $line; done";
    world
        .standin
        .set_main("web-0", &["sh", "-c", script], false)?;
    let mut typist = kubectl.interact(&["attach", "-i", "web-0"])?;
    for word in ["one", "two"] {
        typist.types(&format!("{word}\n")).await?;
        typist.until(&format!("got {word}")).await?;
    }
    // The end of what is typed ends the attach, and not the process.
    drop(typist.child.stdin.take());
    let (status, error) = typist.status().await?;
    ensure!(status.success(), "{status} {error}");
    ensure!(world.standin.running_processes() == 1);
    // At a terminal.
    let script = "while read line; do echo got $line; done";
    world
        .standin
        .set_main("web-1", &["sh", "-c", script], true)?;
    let size = Size::new(24, 80);
    let mut terminal = Terminal::start(&kubectl, &["attach", "-it", "web-1"], size)?;
    world.standin.streams_become(1).await;
    terminal.types("hello\r").await?;
    terminal.until("got hello").await?;
    Ok(())
}

async fn a_process_that_reads_ends_when_its_kubectl_goes_away(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    let args = [
        "exec",
        "-i",
        "web-0",
        "--",
        "sh",
        "-c",
        "echo up; cat; echo more; cat",
    ];
    let mut running = kubectl.command(&args).stdin(Stdio::piped()).spawn()?;
    let mut stdout = running.stdout.take().context("stdout")?;
    stdout.read_exact(&mut [0; 3]).await?;
    ensure!(world.standin.running_processes() == 1);
    running.kill().await?;
    world.standin.processes_become(0).await;
    world.standin.streams_become(0).await;
    Ok(())
}

async fn fifty_at_once(mut world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    let input = pattern(64 << 10);
    let runs = (0..50).map(|n| {
        let (kubectl, input) = (&kubectl, input.clone());
        async move {
            let script = format!("cat; echo {n}; exit {n}");
            let args = ["exec", "-i", "web-0", "--", "sh", "-c", &script];
            let (status, output, error) = kubectl.pipe(&args, input.clone()).await?;
            ensure!(status.code() == Some(n), "{n}: {status} {error}");
            let expected = [&input[..], format!("{n}\n").as_bytes()].concat();
            ensure!(output == expected, "{n}: {} bytes", output.len());
            Ok(())
        }
    });
    futures_util::future::try_join_all(runs).await?;
    // What is left are connections that wait for the next request, and end with the controller.
    world.stop_controller().await;
    while world.agent.stats().streams_open > 0 {
        tokio::task::yield_now().await;
    }
    Ok(())
}
