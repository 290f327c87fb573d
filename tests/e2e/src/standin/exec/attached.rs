//! What a stream is attached to: a new process, the pod's own, or what a test adds to its log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;

use super::Ask;
use super::channel::STDOUT;
use super::main_process::MainProcess;
use super::process::{Input, Job, Output};
use super::status::Outcome;
use super::workload::Running;
use crate::standin::cluster::Cluster;
use crate::standin::logs::{Log, LogOptions, LogReader};

/// The ends of it.
pub(super) struct Attached {
    pub(super) keys: Keys,
    pub(super) output: BoxStream<'static, io::Result<Output>>,
    /// How it ended; to be asked when there is no more output.
    pub(super) end: BoxFuture<'static, Outcome>,
}

/// Where the keys go.
pub(super) enum Keys {
    Own(Input),
    Shared(Arc<MainProcess>),
    Nowhere,
}

impl Keys {
    /// Gives them to the process.
    pub(super) async fn write(&mut self, data: &[u8]) {
        match self {
            Self::Own(input) => input.write(data).await,
            Self::Shared(main) => main.write(data).await,
            Self::Nowhere => {}
        }
    }

    /// Changes the size of the terminal.
    pub(super) async fn resize(&self, columns: u16, rows: u16) {
        match self {
            Self::Own(input) => input.resize(columns, rows),
            Self::Shared(main) => main.resize(columns, rows).await,
            Self::Nowhere => {}
        }
    }

    /// There will be no more. Whether that ends the stream: an attach it does, since the pod's own
    /// process goes on with the keys of others.
    pub(super) fn end(&mut self) -> bool {
        match self {
            // A terminal stays as it is, for it is the process that it belongs to.
            Self::Own(Input::Tty(_)) => false,
            Self::Own(input) => {
                *input = Input::Nowhere;
                false
            }
            Self::Shared(_) | Self::Nowhere => true,
        }
    }
}

/// Starts or finds what is asked for.
pub(super) fn start(cluster: &Cluster, ask: &Ask) -> Result<Attached, Outcome> {
    match ask.attach {
        false => exec(cluster, ask),
        true => Ok(attach(cluster, ask)),
    }
}

fn exec(cluster: &Cluster, ask: &Ask) -> Result<Attached, Outcome> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let job = Job {
        pod: &ask.pod,
        argv: &ask.argv,
        tty: ask.tty,
        stdin: ask.stdin,
        stdout: ask.stdout,
        stderr: ask.stderr,
        main: false,
    };
    let running = cluster.workload().start(job).map_err(|error| {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Outcome::NotStarted(format!(
            "failed to exec in container: failed to start exec \"{number:064x}\": \
             OCI runtime exec failed: exec failed: {error}: unknown"
        ))
    })?;
    let Running {
        input,
        output,
        exit,
    } = running;
    Ok(Attached {
        keys: Keys::Own(input),
        output: pieces(output),
        // It is told unless the whole runtime ends, and then nobody listens.
        end: exit.map(|code| Outcome::Exit(code.unwrap_or(-1))).boxed(),
    })
}

fn attach(cluster: &Cluster, ask: &Ask) -> Attached {
    let end = std::future::ready(Outcome::Ended).boxed();
    if let Some(main) = cluster.workload().main(&ask.pod) {
        return Attached {
            output: pieces(main.watch()),
            keys: Keys::Shared(main),
            end,
        };
    }
    let log = cluster.log(&ask.pod);
    Attached {
        keys: Keys::Nowhere,
        output: log.map_or_else(|| stream::empty().boxed(), lines),
        end,
    }
}

fn pieces(mut output: mpsc::Receiver<Output>) -> BoxStream<'static, io::Result<Output>> {
    stream::poll_fn(move |cx| output.poll_recv(cx))
        .map(Ok)
        .boxed()
}

/// The lines that are added to the log from now on.
fn lines(log: Arc<Log>) -> BoxStream<'static, io::Result<Output>> {
    let reader = LogReader::new(log, LogOptions::new_lines());
    let lines = stream::unfold(reader, |mut reader| async {
        let line = reader.next().await?;
        let output = line.map_err(io::Error::other).map(|data| Output {
            channel: STDOUT,
            data,
        });
        Some((output, reader))
    });
    lines.boxed()
}
