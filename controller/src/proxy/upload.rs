//! The request's body on its way to the agent, at the pace of both.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use controlplane_driver::RequestBody;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::task::JoinHandle;

use super::grant::Grant;

/// A body that is being relayed; dropped, it is given up.
#[derive(Debug)]
pub(super) struct Upload {
    task: Option<JoinHandle<()>>,
    client_left: Arc<AtomicBool>,
}

impl Upload {
    /// Relays `body` in a task of its own, because the answer may come before its end.
    pub(super) fn start(
        body: Incoming,
        outgoing: RequestBody,
        grant: Grant,
        bytes: Arc<AtomicU64>,
    ) -> Self {
        if body.is_end_stream() {
            outgoing.finish();
            return Self::none();
        }
        let client_left = Arc::new(AtomicBool::new(false));
        let left = client_left.clone();
        let task = tokio::spawn(async move {
            if !relay(body, outgoing, grant, &bytes).await {
                left.store(true, Ordering::Relaxed);
            }
        });
        Self {
            task: Some(task),
            client_left,
        }
    }

    /// Of a request that has no body.
    pub(super) fn none() -> Self {
        Self {
            task: None,
            client_left: Arc::default(),
        }
    }

    /// Whether the body broke off because the client did.
    pub(super) fn client_left(&self) -> bool {
        self.client_left.load(Ordering::Relaxed)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// False if the client broke off; then the request is cancelled with `outgoing`.
async fn relay(
    mut body: Incoming,
    mut outgoing: RequestBody,
    mut grant: Grant,
    bytes: &AtomicU64,
) -> bool {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return false;
        };
        // Trailers are not relayed (P-201).
        if let Ok(data) = frame.into_data() {
            bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            if !grant.holds() || outgoing.write(data).await.is_err() {
                return true;
            }
        }
    }
    outgoing.finish();
    true
}
