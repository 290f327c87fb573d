//! What a test can do to the streams and processes of a stand-in.

use tokio::sync::watch;

use super::{Backend, WebSockets};
use crate::standin::{Error, StandIn};

impl StandIn {
    /// Gives a pod a process of its own, to which clients can attach: they see what it writes from
    /// then on, all of them, and can type to it. Another one that it had is killed. A pod without
    /// one shows to those who attach what [`push_log`](Self::push_log) adds.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPod`], [`Error::Start`].
    pub fn set_main(&self, pod: &str, argv: &[&str], tty: bool) -> Result<(), Error> {
        let _runtime = self.runtime.enter();
        let argv: Vec<_> = argv.iter().map(|part| (*part).to_owned()).collect();
        self.server.cluster.set_main(pod, &argv, tty)
    }

    /// Leads connections that are forwarded to a port of a pod to a port of 127.0.0.1, or, with
    /// `None`, nowhere: they are refused, as all are at first.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPod`].
    pub fn set_port(&self, pod: &str, port: u16, local: Option<u16>) -> Result<(), Error> {
        let server = &self.server;
        // Those without a log are gone.
        if server.cluster.log(pod).is_none() {
            return Err(Error::NoSuchPod(pod.to_owned()));
        }
        server.exec.set_port(pod, port, local);
        Ok(())
    }

    /// What becomes of requests for WebSockets.
    pub fn set_web_sockets(&self, web_sockets: WebSockets) {
        self.server.exec.set_web_sockets(web_sockets);
    }

    /// Whether the user may not exec, attach or forward ports: 403.
    pub fn forbid_exec(&self, forbidden: bool) {
        self.server.exec.forbid(forbidden);
    }

    /// Makes parts behind the API server die, or come back. Open streams end with the part that
    /// they went through, in its recorded way: for the runtime in v5, a false success. Processes
    /// go on.
    pub fn set_backend(&self, backend: Backend) {
        self.server.exec.set_backend(backend);
    }

    /// Kills the processes that exec has started, as when their pod is killed: status 137.
    pub fn kill_exec_processes(&self) {
        self.server.cluster.workload().kill_exec();
    }

    /// Ends the TCP connections of all streams without a status, a close frame or an end of TLS,
    /// as when the API server is killed. Processes go on; they see the end of what is typed, but
    /// for those on a terminal.
    pub fn drop_streams(&self) {
        self.server.exec.drop_streams();
    }

    /// While it is true, no byte of a stream passes either way, and none ends. New ones are taken,
    /// and answered when it is over.
    pub fn freeze_streams(&self, frozen: bool) {
        self.server.exec.freeze(frozen);
    }

    /// How many local processes run: those of exec, with or without their client, and the pods'
    /// own. Their children do not count.
    #[must_use]
    pub fn running_processes(&self) -> usize {
        *self.server.cluster.workload().count().borrow()
    }

    /// Waits until so many processes run.
    pub async fn processes_become(&self, count: usize) {
        become_equal(self.server.cluster.workload().count(), count).await;
    }

    /// How many streams of exec and attach, and connections of port forwarding, are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        *self.server.exec.open().borrow()
    }

    /// Waits until so many streams are open.
    pub async fn streams_become(&self, count: usize) {
        become_equal(self.server.exec.open(), count).await;
    }
}

async fn become_equal(mut count: watch::Receiver<usize>, wanted: usize) {
    // The sender lives as long as the server.
    drop(count.wait_for(|count| *count == wanted).await);
}
