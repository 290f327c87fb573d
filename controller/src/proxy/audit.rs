//! One line per request or stream: who asked which cluster for what, and how it ended. The query is left
//! out, because it may hold secrets.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use controlplane_driver::{Failure, StreamClose};
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::Target;
use crate::credentials::{AgentCredential, UserCredential};

/// Longest path that is logged.
const MAX_PATH: usize = 1024;

/// The line of one request, written when this is dropped.
#[derive(Debug)]
pub(super) struct Audit {
    peer: SocketAddr,
    user: String,
    cluster: String,
    method: String,
    path: String,
    status: u16,
    bytes_in: Arc<AtomicU64>,
    bytes_out: u64,
    start: Instant,
    /// Unknown for as long as the client waits: who leaves then has gone.
    end: Option<End>,
}

/// How a request ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// The connection to the agent was lost.
    AgentLost,
    /// The client went away before the end.
    ClientGone,
    /// One side closed its WebSocket in order, with this.
    Closed(Side, StreamClose),
    /// The answer was relayed to its end.
    Complete,
    /// The cause.
    Failed(String),
    /// The controller answered itself.
    Refused,
}

/// Who closed a WebSocket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Client,
    Cluster,
}

impl End {
    pub(super) fn failed(failure: &Failure, client_left: bool) -> Self {
        match failure {
            _ if client_left => Self::ClientGone,
            Failure::Disconnected => Self::AgentLost,
            other => Self::Failed(other.to_string()),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AgentLost => f.write_str("agent lost"),
            Self::ClientGone => f.write_str("client gone"),
            Self::Closed(side, close) => closed(f, *side, close),
            Self::Complete => f.write_str("complete"),
            Self::Failed(text) => write!(f, "failed: {}", text.escape_debug()),
            Self::Refused => f.write_str("refused"),
        }
    }
}

fn closed(f: &mut fmt::Formatter<'_>, side: Side, close: &StreamClose) -> fmt::Result {
    f.write_str(match side {
        Side::Client => "closed by client: ",
        Side::Cluster => "closed by cluster: ",
    })?;
    match close.code {
        StreamClose::NO_CODE => f.write_str("no code"),
        code if close.reason.is_empty() => write!(f, "{code}"),
        code => write!(f, "{code} {}", close.reason.escape_debug()),
    }
}

impl Audit {
    pub(super) fn new(peer: SocketAddr, method: &Method, target: &Target<'_>) -> Self {
        Self {
            peer,
            user: String::new(),
            cluster: clip(target.cluster),
            method: clip(method.as_str()),
            path: clip(target.path),
            status: 0,
            bytes_in: Arc::default(),
            bytes_out: 0,
            start: Instant::now(),
            end: None,
        }
    }

    pub(super) fn user(&mut self, user: &UserCredential) {
        self.user.clone_from(&user.name);
    }

    pub(super) fn cluster(&mut self, agent: &AgentCredential) {
        self.cluster.clone_from(&agent.name);
    }

    /// Counter of what the client sends.
    pub(super) fn bytes_in(&self) -> Arc<AtomicU64> {
        self.bytes_in.clone()
    }

    pub(super) fn status(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    pub(super) fn end(&mut self, end: End) {
        self.end = Some(end);
    }

    /// The controller answered itself, unless a failure was noted that it tells of.
    pub(super) fn answered(&mut self, status: StatusCode, bytes: u64) {
        if self.end == Some(End::ClientGone) {
            return;
        }
        self.status(status);
        self.bytes_out = bytes;
        self.end.get_or_insert(End::Refused);
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        let duration: Duration = self.start.elapsed();
        let end = self.end.take().unwrap_or(End::ClientGone);
        tracing::info!(
            target: "audit",
            peer = %self.peer,
            user = self.user,
            cluster = self.cluster,
            method = self.method,
            path = self.path,
            status = self.status,
            bytes_in = self.bytes_in.load(Ordering::Relaxed),
            bytes_out = self.bytes_out,
            duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            %end,
            "request"
        );
    }
}

/// A text of a client as it may stand in a log.
fn clip(text: &str) -> String {
    text.escape_debug().take(MAX_PATH).collect()
}
