//! HTTP/1.1 connections to the Kubernetes API: one request each at a time, kept for the next,
//! bounded in number. No HTTP/2: there, one response that nobody reads holds up the others.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Method, Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};

use super::{Shared, body::UpstreamBody, relay::NO_ANSWER};
use crate::{
    dial::connect,
    hyper_io::HyperIo,
    links::chain,
    meter::{Meter, while_moving},
    runtime::{Runtime, timeout},
};

/// How long an unused connection is kept; API servers and load balancers keep theirs longer.
const KEEP: Duration = Duration::from_secs(45);
/// Unused connections kept.
const IDLE: usize = 32;

pub(super) struct Pool<R> {
    limit: usize,
    used: AtomicUsize,
    idle: Mutex<VecDeque<(Instant, Wire)>>,
    runtime: std::marker::PhantomData<fn() -> R>,
}

/// One connection to the API.
pub(super) struct Wire {
    pub(super) sender: SendRequest<UpstreamBody>,
    pub(super) meter: Meter,
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

/// For a connection to see that its answer is complete.
const SETTLING: Duration = Duration::from_millis(100);

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
            wire: open(shared, Meter::new()).await?,
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

    /// Sends a request. A kept connection may turn out to be closed: then a request that was not
    /// sent, or that may be sent twice and was not answered, is sent on a new one.
    pub(super) async fn send(
        &self,
        lease: &mut Lease<'_>,
        shared: &Shared<R>,
        request: Request<UpstreamBody>,
    ) -> Result<Response<Incoming>, String> {
        let read = lease.meter().read();
        let again = repeatable(&request).filter(|_| lease.kept);
        let (text, unsent) = match lease.wire.sender.ready().await {
            Err(error) => (chain(&error), Some(request)),
            Ok(()) => match lease.wire.sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => {
                    let unsent = error.take_message();
                    (chain(&error.into_error()), unsent)
                }
            },
        };
        let again = again.filter(|_| lease.meter().read() == read);
        let Some(request) = unsent.or(again).filter(|_| lease.kept) else {
            return Err(text);
        };
        lease.wire = open(shared, lease.meter()).await?;
        lease.kept = false;
        let sent = lease.wire.sender.send_request(request).await;
        sent.map_err(|error| chain(&error))
    }

    /// Keeps the connection of a request whose answer was read to its end. The request counts as
    /// under way until its connection has seen that, too, so that the next one finds it ready; but
    /// not for long, because the rest of a body may go on after an early answer.
    pub(super) async fn put(&self, shared: &Shared<R>, mut lease: Lease<'_>) {
        let ready = timeout(&shared.runtime, SETTLING, lease.wire.sender.ready()).await;
        if matches!(ready, Some(Err(_))) || lease.wire.sender.is_closed() {
            return;
        }
        let now = shared.runtime.now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= IDLE {
            idle.pop_front();
        }
        idle.push_back((now, lease.wire));
    }
}

/// A copy of a request that changes nothing and has no body.
fn repeatable(request: &Request<UpstreamBody>) -> Option<Request<UpstreamBody>> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    if !safe || !matches!(request.body(), UpstreamBody::Empty) {
        return None;
    }
    let mut copy = Request::new(UpstreamBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Sends a request on a connection of its own, and waits for the head of the answer.
pub(super) async fn ask_alone<R: Runtime>(
    shared: &Shared<R>,
    request: Request<UpstreamBody>,
) -> Result<(Wire, Response<Incoming>), String> {
    let mut wire = open(shared, Meter::new()).await?;
    let limit = shared.config.limits.head;
    let sent = wire.sender.send_request(request);
    let response = while_moving(&shared.runtime, &wire.meter, || limit, sent).await;
    let response = response.ok_or(NO_ANSWER)?.map_err(|e| chain(&e))?;
    Ok((wire, response))
}

/// A new connection, counted by `meter`: that of the one it replaces, if it does.
pub(super) async fn open<R: Runtime>(shared: &Shared<R>, meter: Meter) -> Result<Wire, String> {
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
    let io = HyperIo::new(meter.wrap(io));
    let (sender, connection) = handshake(io).await.map_err(|e| chain(&e))?;
    runtime.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(
                error = chain(&error),
                "connection to the Kubernetes API ended"
            );
        }
    });
    Ok(Wire { sender, meter })
}
