//! The processes of the pods. None outlives this.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot, watch};

use super::main_process::MainProcess;
use super::process::{self, Input, Job, Output, Spawned, StartError};
use crate::standin::clock;

/// The variable in the environment of all processes by which they, and their children, are found.
const MARK: &str = "STANDIN_WORKLOAD";

/// How often the system is searched for processes that are left, at most.
const SWEEPS: usize = 16;

/// The processes of all pods.
#[derive(Debug)]
pub(in crate::standin) struct Workload {
    state: Arc<Mutex<State>>,
    /// The value of [`MARK`].
    mark: String,
    /// Where commands are looked for, if not where this process looks.
    path: Mutex<Option<OsString>>,
}

#[derive(Debug)]
struct State {
    /// How many have been started.
    started: u64,
    running: BTreeMap<u64, Entry>,
    /// By the name of the pod.
    mains: BTreeMap<String, Arc<MainProcess>>,
    /// How many run.
    count: watch::Sender<usize>,
    ended: bool,
}

#[derive(Debug)]
struct Entry {
    pid: Pid,
    pod: String,
    main: bool,
}

/// A process that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) input: Input,
    pub(super) output: mpsc::Receiver<Output>,
    /// Its code.
    pub(super) exit: oneshot::Receiver<i32>,
}

impl Workload {
    /// No process.
    pub(in crate::standin) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let now = clock::now().as_nanos();
        Self {
            state: Arc::new(Mutex::new(State {
                started: 0,
                running: BTreeMap::new(),
                mains: BTreeMap::new(),
                count: watch::Sender::new(0),
                ended: false,
            })),
            mark: format!("{}-{now}-{number}", std::process::id()),
            path: Mutex::new(None),
        }
    }

    /// Has commands looked for in these folders.
    pub(in crate::standin) fn set_path(&self, path: OsString) {
        *self.path.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
    }

    /// Starts a process.
    pub(super) fn start(&self, job: Job<'_>) -> Result<Running, StartError> {
        let path = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        let path = path.clone().or_else(|| std::env::var_os("PATH"));
        // Under the lock, so that none is started behind the back of the end.
        let mut state = lock(&self.state);
        if state.ended {
            return Err(StartError::Ending);
        }
        let Spawned {
            child,
            input,
            output,
        } = process::spawn(job, (MARK, &self.mark), path)?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = pid.and_then(Pid::from_raw);
        let entry = Entry {
            pid: pid.ok_or_else(|| io::Error::other("a process without an identity"))?,
            pod: job.pod.to_owned(),
            main: job.main,
        };
        let number = state.started;
        state.started += 1;
        state.running.insert(number, entry);
        state.tell();
        drop(state);
        let (tell, exit) = oneshot::channel();
        tokio::spawn(attend(child, number, Arc::clone(&self.state), tell));
        Ok(Running {
            input,
            output,
            exit,
        })
    }

    /// Gives a pod a process of its own. The one that it had is killed, also if the new one does
    /// not start.
    pub(in crate::standin) fn set_main(
        &self,
        pod: &str,
        argv: &[String],
        tty: bool,
    ) -> io::Result<()> {
        self.kill(|entry| entry.main && entry.pod == pod);
        lock(&self.state).mains.remove(pod);
        let running = self.start(Job {
            pod,
            argv,
            tty,
            stdin: true,
            stdout: true,
            stderr: true,
            main: true,
        });
        let main = MainProcess::new(running.map_err(io::Error::other)?);
        lock(&self.state).mains.insert(pod.to_owned(), main);
        Ok(())
    }

    /// The pod's own process.
    pub(super) fn main(&self, pod: &str) -> Option<Arc<MainProcess>> {
        lock(&self.state).mains.get(pod).map(Arc::clone)
    }

    /// Kills the processes of exec.
    pub(in crate::standin) fn kill_exec(&self) {
        self.kill(|entry| !entry.main);
    }

    /// Kills all processes of a pod that is gone.
    pub(in crate::standin) fn pod_gone(&self, pod: &str) {
        lock(&self.state).mains.remove(pod);
        self.kill(|entry| entry.pod == pod);
    }

    /// Kills those processes, with the groups that they lead. They leave the list when they are
    /// reaped, from when on another process could have their number.
    fn kill(&self, which: impl Fn(&Entry) -> bool) {
        let state = lock(&self.state);
        for entry in state.running.values().filter(|entry| which(entry)) {
            // Only one that has just ended by itself cannot be killed.
            let _ = kill_process_group(entry.pid, Signal::KILL);
        }
    }

    /// How many processes run.
    pub(in crate::standin) fn count(&self) -> watch::Receiver<usize> {
        lock(&self.state).count.subscribe()
    }

    /// Kills all there is, for good.
    pub(in crate::standin) fn end(&self) {
        let mut state = lock(&self.state);
        state.ended = true;
        let used = state.started != 0;
        drop(state);
        self.kill(|_| true);
        if used {
            self.sweep();
        }
    }

    /// Kills children that have left their group, where the system lists the environments of
    /// processes. One may have forked while the list was read, hence again until none is left.
    fn sweep(&self) {
        let mark = format!("{MARK}={}", self.mark);
        for _ in 0..SWEEPS {
            let marked = marked(&mark);
            for pid in &marked {
                let _ = kill_process(*pid, Signal::KILL);
            }
            if marked.is_empty() {
                return;
            }
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.end();
    }
}

impl State {
    fn tell(&self) {
        self.count.send_replace(self.running.len());
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the end of a process and tells its code.
async fn attend(
    mut child: Child,
    number: u64,
    state: Arc<Mutex<State>>,
    tell: oneshot::Sender<i32>,
) {
    let status = child.wait().await;
    let mut state = lock(&state);
    state.running.remove(&number);
    state.tell();
    // Nobody may be left who wants to know.
    let _ = tell.send(status.map_or(-1, process::code));
}

/// The living processes with that in their environment. One that has ended has none.
fn marked(mark: &str) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let marked = processes.filter_map(|process| {
        let number = process.file_name().to_str()?.parse().ok()?;
        let environment = fs::read(process.path().join("environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        variables
            .any(|variable| variable == mark.as_bytes())
            .then(|| Pid::from_raw(number))?
    });
    marked.collect()
}
