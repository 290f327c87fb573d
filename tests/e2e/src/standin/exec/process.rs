//! Local processes: what is given to them, and what they write.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use bytes::Bytes;
use pty_process::{OwnedWritePty, Size};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use super::channel::{STDERR, STDOUT};

/// The most that one message carries of what a process has written; that of the real server.
const CHUNK: usize = 32 * 1024;

/// How many chunks may wait for their reader before the process has to.
const QUEUE: usize = 2;

/// What shall run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job<'a> {
    /// The pod that it belongs to.
    pub(super) pod: &'a str,
    pub(super) argv: &'a [String],
    pub(super) tty: bool,
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    /// Whether it is the pod's own process, and not one of exec.
    pub(super) main: bool,
}

/// Why a process cannot be started, in the words of the container runtime.
#[derive(Debug, Error)]
pub(super) enum StartError {
    #[error("args must not be empty")]
    NoCommand,
    #[error("unable to start container process: exec: \"{0}\": executable file not found in $PATH")]
    NotInPath(String),
    #[error(
        "unable to start container process: exec: \"{0}\": stat {0}: no such file or directory"
    )]
    NoSuchFile(String),
    #[error("unable to start container process: exec: \"{0}\": permission denied")]
    NotAllowed(String),
    #[error("the stand-in ends")]
    Ending,
    #[error("{0}")]
    System(#[from] io::Error),
}

/// A piece of what a process has written.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) channel: u8,
    pub(super) data: Bytes,
}

/// A process that has just been started.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) child: Child,
    pub(super) input: Input,
    /// Ends when the process, and all that hold its ends, have closed them. Dropping it does not
    /// hold the process up.
    pub(super) output: mpsc::Receiver<Output>,
}

/// Where the keys go.
#[derive(Debug)]
pub(super) enum Input {
    Nowhere,
    Pipe(ChildStdin),
    Tty(OwnedWritePty),
}

impl Input {
    /// Writes all of it; waits while the process does not read. That it no longer reads at all is
    /// as unimportant as it is to the real server.
    pub(super) async fn write(&mut self, data: &[u8]) {
        let written = match self {
            Self::Nowhere => Ok(()),
            Self::Pipe(pipe) => pipe.write_all(data).await,
            Self::Tty(tty) => tty.write_all(data).await,
        };
        drop(written);
    }

    /// Changes the size of the terminal, if it is one.
    pub(super) fn resize(&self, columns: u16, rows: u16) {
        if let Self::Tty(tty) = self {
            drop(tty.resize(Size::new(rows, columns)));
        }
    }
}

/// Starts a process with a safe environment, as the leader of a group of its own. It is marked by
/// a variable, which its children inherit.
pub(super) fn spawn(
    job: Job<'_>,
    mark: (&str, &str),
    path: Option<OsString>,
) -> Result<Spawned, StartError> {
    let Some((program, arguments)) = job.argv.split_first() else {
        return Err(StartError::NoCommand);
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("HOSTNAME", job.pod)
        .env(mark.0, mark.1)
        .current_dir("/")
        .kill_on_drop(true);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let spawned = match job.tty {
        true => on_tty(command, job),
        false => on_pipes(command, job),
    };
    spawned.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if program.contains('/') => StartError::NoSuchFile(program.clone()),
        io::ErrorKind::NotFound => StartError::NotInPath(program.clone()),
        io::ErrorKind::PermissionDenied => StartError::NotAllowed(program.clone()),
        _ => StartError::System(error),
    })
}

fn on_pipes(mut command: Command, job: Job<'_>) -> io::Result<Spawned> {
    let end = |wanted| match wanted {
        true => Stdio::piped(),
        false => Stdio::null(),
    };
    command
        .process_group(0)
        .stdin(end(job.stdin))
        .stdout(end(job.stdout))
        .stderr(end(job.stderr));
    let mut child = command.spawn()?;
    let (send, output) = mpsc::channel(QUEUE);
    if let Some(stdout) = child.stdout.take() {
        tokio::spawn(pump(stdout, STDOUT, send.clone()));
    }
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(pump(stderr, STDERR, send));
    }
    let input = child.stdin.take().map_or(Input::Nowhere, Input::Pipe);
    Ok(Spawned {
        child,
        input,
        output,
    })
}

fn on_tty(mut command: Command, job: Job<'_>) -> io::Result<Spawned> {
    let failed = |error| match error {
        pty_process::Error::Io(error) => error,
        pty_process::Error::Rustix(error) => error.into(),
        _ => io::Error::other(error),
    };
    command.env("TERM", "xterm");
    let (tty, process_end) = pty_process::open().map_err(failed)?;
    let command = pty_process::Command::from(command);
    let child = command.spawn(process_end).map_err(failed)?;
    let (screen, keys) = tty.into_split();
    let (send, output) = mpsc::channel(QUEUE);
    tokio::spawn(pump(screen, STDOUT, send));
    let input = match job.stdin {
        true => Input::Tty(keys),
        false => Input::Nowhere,
    };
    Ok(Spawned {
        child,
        input,
        output,
    })
}

/// Carries what is written to its reader, and nowhere when there is none: without a client the
/// process goes on all the same. A terminal ends with an error, a pipe without one.
async fn pump(mut from: impl AsyncRead + Unpin, channel: u8, to: mpsc::Sender<Output>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let data = Bytes::copy_from_slice(&buffer[..count]);
        drop(to.send(Output { channel, data }).await);
    }
}

/// The code that the container runtime gives: for a process that was killed, 128 and the signal.
pub(super) fn code(status: ExitStatus) -> i32 {
    let killed = || status.signal().map_or(-1, |signal| 128 + signal);
    status.code().unwrap_or_else(killed)
}
