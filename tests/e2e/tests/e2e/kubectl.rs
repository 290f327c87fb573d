//! The real kubectl through the tunnel. It is required when `CI=true`; elsewhere a missing one is
//! reported as skipped, by name.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use controlplane_e2e::world::World;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
};

mod breaks;
mod copy;
mod exec;
mod forward;
mod requests;
mod spdy;

/// kubectl with a home and a kubeconfig of its own.
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Kubectl {
    /// `None`, and a line that names the test, where there is no kubectl and it is not required.
    pub(crate) fn find(world: &World) -> Option<Self> {
        Self::at(world.folder())
    }

    /// With the kubeconfig of a folder.
    fn at(folder: &Path) -> Option<Self> {
        let given = env::var_os("KUBECTL").map(PathBuf::from);
        let Some(program) = given.or_else(in_path) else {
            let test = std::thread::current().name().unwrap_or("?").to_string();
            assert!(
                env::var("CI").as_deref() != Ok("true"),
                "{test}: kubectl is required in CI"
            );
            eprintln!("SKIPPED {test}: there is no kubectl in PATH and KUBECTL is not set");
            return None;
        };
        let home = folder.join("home");
        fs::create_dir_all(&home).unwrap();
        Some(Self {
            program,
            kubeconfig: folder.join("kubeconfig"),
            home,
        })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env("HOME", &self.home)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn output(&self, args: &[&str]) -> Result<Output> {
        Ok(self.command(args).output().await?)
    }

    /// What it prints where all goes well.
    async fn run(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args).await?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "kubectl {args:?}: {error}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What it complains about.
    async fn fail(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args).await?;
        ensure!(!output.status.success(), "kubectl {args:?} should fail");
        Ok(String::from_utf8(output.stderr)?)
    }

    fn follow(&self, args: &[&str]) -> Result<Following> {
        Following::of(self.command(args).spawn()?)
    }

    /// Follows one whose input stays open.
    fn interact(&self, args: &[&str]) -> Result<Following> {
        Following::of(self.command(args).stdin(Stdio::piped()).spawn()?)
    }
}

/// A kubectl that goes on until something ends it.
struct Following {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    stderr: ChildStderr,
}

impl Following {
    fn of(mut child: Child) -> Result<Self> {
        let stdout = child.stdout.take().context("stdout")?;
        let stderr = child.stderr.take().context("stderr")?;
        Ok(Self {
            lines: BufReader::new(stdout).lines(),
            stderr,
            child,
        })
    }

    /// The next line that contains `part`.
    async fn until(&mut self, part: &str) -> Result<String> {
        while let Some(line) = self.lines.next_line().await? {
            if line.contains(part) {
                return Ok(line);
            }
        }
        let mut error = String::new();
        self.stderr.read_to_string(&mut error).await?;
        bail!("kubectl ended without {part:?}: {error}")
    }

    async fn types(&mut self, text: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("stdin")?;
        Ok(stdin.write_all(text.as_bytes()).await?)
    }

    /// Waits for its end; whether it was a success, and what it complained about.
    async fn end(self) -> Result<(bool, String)> {
        let (status, error) = self.status().await?;
        Ok((status.success(), error))
    }

    /// Waits for its end; how it ended, and what it complained about.
    async fn status(mut self) -> Result<(ExitStatus, String)> {
        while self.lines.next_line().await?.is_some() {}
        let mut error = String::new();
        self.stderr.read_to_string(&mut error).await?;
        // Its input stays open until it ends by itself.
        let stdin = self.child.stdin.take();
        let status = self.child.wait().await?;
        drop(stdin);
        Ok((status, error))
    }
}

fn in_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join("kubectl"))
        .find(|file| file.is_file())
}

/// Skips the rest of a test where there is no kubectl.
macro_rules! kubectl {
    ($world:expr) => {
        match $crate::kubectl::Kubectl::find(&$world) {
            Some(kubectl) => kubectl,
            None => return Ok(()),
        }
    };
}
use kubectl;
