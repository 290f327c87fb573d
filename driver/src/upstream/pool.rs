//! HTTP/1.1 connections to the Kubernetes API: one request each at a time, kept for the next,
//! bounded in number. No HTTP/2: there, one response that nobody reads holds up the others.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};

use super::{Shared, hyper_io::HyperIo, progress::Waiting};
use crate::{
    body::Broken,
    dial::connect,
    handler::Body,
    links::chain,
    meter::Meter,
    runtime::{Runtime, timeout},
};

/// How long an unused connection is kept; API servers keep theirs longer.
const KEEP: Duration = Duration::from_secs(60);
/// Unused connections kept.
const IDLE: usize = 32;

pub(super) struct Pool<R> {
    limit: usize,
    used: AtomicUsize,
    idle: Mutex<VecDeque<(Instant, Wire)>>,
    runtime: std::marker::PhantomData<fn() -> R>,
}

/// One connection to the API.
struct Wire {
    sender: SendRequest<UpstreamBody>,
    meter: Meter,
}

/// One request's place in the pool, with a connection once there is one.
pub(super) struct Lease<'a> {
    wire: Wire,
    /// It came from the pool, so the API may have closed it meanwhile.
    kept: bool,
    _place: Place<'a>,
}

struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lease<'_> {
    pub(super) fn meter(&self) -> Meter {
        self.wire.meter.clone()
    }
}

impl<R: Runtime> Pool<R> {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            idle: Mutex::new(VecDeque::new()),
            runtime: std::marker::PhantomData,
        }
    }

    /// A connection, unless too many requests are under way.
    pub(super) async fn get<'a>(&'a self, shared: &Shared<R>) -> Result<Lease<'a>, String> {
        let used = self.used.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.used);
        if used >= self.limit {
            let limit = self.limit;
            return Err(format!(
                "too many requests at once: the agent has {limit} to the Kubernetes API under way"
            ));
        }
        if let Some(wire) = self.kept(shared.runtime.now()) {
            return Ok(Lease {
                wire,
                kept: true,
                _place: place,
            });
        }
        Ok(Lease {
            wire: open(shared).await?,
            kept: false,
            _place: place,
        })
    }

    fn kept(&self, now: Instant) -> Option<Wire> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, wire)| {
            now.saturating_duration_since(*since) < KEEP && !wire.sender.is_closed()
        });
        // The one used last is the likeliest to be open still. One that is not ready still sends
        // the rest of a body that was answered early.
        let ready = idle.iter().rposition(|(_, wire)| wire.sender.is_ready())?;
        idle.remove(ready).map(|(_, wire)| wire)
    }

    /// Sends a request; on a kept connection that turns out to be closed, a new one is tried.
    pub(super) async fn send(
        &self,
        lease: &mut Lease<'_>,
        shared: &Shared<R>,
        request: Request<UpstreamBody>,
    ) -> Result<Response<Incoming>, String> {
        let mut request = request;
        loop {
            let outcome = match lease.wire.sender.ready().await {
                Ok(()) => lease.wire.sender.try_send_request(request).await,
                Err(_) if lease.kept => {
                    lease.wire = open(shared).await?;
                    lease.kept = false;
                    continue;
                }
                Err(error) => return Err(chain(&error)),
            };
            match outcome {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if lease.kept => {
                        request = unsent;
                        lease.wire = open(shared).await?;
                        lease.kept = false;
                    }
                    _ => return Err(chain(&error.into_error())),
                },
            }
        }
    }

    /// Keeps the connection of a request whose answer was read to its end.
    pub(super) fn put(&self, lease: Lease<'_>, now: Instant) {
        if lease.wire.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= IDLE {
            idle.pop_front();
        }
        idle.push_back((now, lease.wire));
    }
}

async fn open<R: Runtime>(shared: &Shared<R>) -> Result<Wire, String> {
    let config = &shared.config;
    let runtime = &shared.runtime;
    let limit = config.limits.connect;
    let tls = match shared.endpoint.secure {
        true => Some(
            config
                .tls
                .client_config()
                .map_err(|e| e.to_string())?
                .into(),
        ),
        false => None,
    };
    let name = config.server_name.as_deref();
    let io = timeout(
        runtime,
        limit,
        connect(runtime, &shared.endpoint, tls, name),
    );
    let io = io
        .await
        .ok_or_else(|| format!("no connection within {} s", limit.as_secs()))??;
    let meter = Meter::new();
    let io = HyperIo::new(meter.wrap(io));
    let (sender, connection) = handshake(io).await.map_err(|e| chain(&e))?;
    runtime.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(
                error = chain(&error),
                "connection to the Kubernetes API ended"
            );
        }
    });
    Ok(Wire { sender, meter })
}

/// The body of an upstream request.
pub(super) enum UpstreamBody {
    Empty,
    Flow {
        /// Taken already, to see whether there is a body at all.
        first: Option<Bytes>,
        body: Body,
        waiting: Waiting,
    },
}

impl http_body::Body for UpstreamBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Self::Flow {
            first,
            body,
            waiting,
        } = self.get_mut()
        else {
            return Poll::Ready(None);
        };
        if let Some(data) = first.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let next = std::pin::pin!(body.next());
        let next = std::future::Future::poll(next, cx);
        waiting.set(next.is_pending());
        next.map(|piece| piece.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }
}
