//! The own process of a pod, which any number of attached clients share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::process::{Input, Output};
use super::workload::Running;

/// How many chunks may wait for one client before all of them have to.
const QUEUE: usize = 2;

/// A pod's own process.
#[derive(Debug)]
pub(super) struct MainProcess {
    input: tokio::sync::Mutex<Input>,
    /// Those who watch; `None` when there is nothing more to see.
    watchers: Mutex<Option<Vec<mpsc::Sender<Output>>>>,
}

impl MainProcess {
    /// Takes the ends of a process.
    pub(super) fn new(running: Running) -> Arc<Self> {
        let main = Arc::new(Self {
            input: tokio::sync::Mutex::new(running.input),
            watchers: Mutex::new(Some(Vec::new())),
        });
        tokio::spawn(distribute(running.output, Arc::clone(&main)));
        main
    }

    /// What it writes from now on.
    pub(super) fn watch(&self) -> mpsc::Receiver<Output> {
        let (send, output) = mpsc::channel(QUEUE);
        if let Some(watchers) = self.lock().as_mut() {
            watchers.push(send);
        }
        output
    }

    /// Gives it keys, one client's after the other's.
    pub(super) async fn write(&self, data: &[u8]) {
        self.input.lock().await.write(data).await;
    }

    /// Changes the size of its terminal.
    pub(super) async fn resize(&self, columns: u16, rows: u16) {
        self.input.lock().await.resize(columns, rows);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<mpsc::Sender<Output>>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives each watcher all that is written, until the process has ended.
async fn distribute(mut output: mpsc::Receiver<Output>, main: Arc<MainProcess>) {
    while let Some(piece) = output.recv().await {
        let watchers = main.lock().clone().unwrap_or_default();
        for watcher in watchers {
            // One who has left is forgotten below.
            drop(watcher.send(piece.clone()).await);
        }
        if let Some(watchers) = main.lock().as_mut() {
            watchers.retain(|watcher| !watcher.is_closed());
        }
    }
    *main.lock() = None;
}
