//! The fast mode's requests: an HTTP/1.1 client whose connections are byte streams of the tunnel.
//!
//! ```text
//! request ──▶ an idle connection, or a new stream ──▶ head ──▶ answer complete ──▶ idle again
//!                      │ closed before anything was sent: once more on a new stream
//!                      └── any end but a complete answer resets the stream
//! ```

mod exchange;
mod head;
mod pool;
#[cfg(test)]
mod tests;
mod upload;

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use controlplane_core::{Failure, Joined, OpenError, RequestHead, rules::IdentityPolicy};
use futures_channel::oneshot;
use futures_util::future::abortable;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, SendRequest},
};

use self::pool::Pool;
pub(super) use self::{
    exchange::Exchange,
    head::{failure_of, pairs, response_head, take_failure, take_length, trailers},
    upload::{Sink, Upload},
};
use crate::{answers::Answers, duplex::ByteStream, handler::BoxFuture, runtime::Runtime};

/// Least room for what hyper reads and writes at once.
const BUFFER: usize = 64 << 10;

/// What the client needs of a runtime, whichever it is.
pub(super) trait Host: Send + Sync {
    fn spawn(&self, task: BoxFuture<'static, ()>);
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()>;
    fn now(&self) -> Instant;
}

impl<R: Runtime> Host for R {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        Runtime::spawn(self, task);
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        let runtime = self.clone();
        Box::pin(async move { crate::runtime::sleep(&runtime, span).await })
    }

    fn now(&self) -> Instant {
        Runtime::now(self)
    }
}

/// A new stream, and what the agent said of itself that it leads to.
pub(super) type Dialled = Result<(ByteStream, Arc<Joined>), OpenError>;

/// Opens a stream to an agent that has this policy, where one is given.
pub(super) type Dial =
    Box<dyn Fn(Option<IdentityPolicy>) -> BoxFuture<'static, Dialled> + Send + Sync>;

/// The client of one hub.
pub(super) struct Client {
    host: Box<dyn Host>,
    dial: Dial,
    pool: Pool,
    pub(super) answers: Arc<Answers>,
    /// Longest head, in bytes.
    limit: usize,
}

/// A connection, of which one request at a time makes use.
pub(super) struct Wire {
    sender: SendRequest<Upload>,
    joined: Arc<Joined>,
    held: exchange::Held,
}

/// An answer whose head has come, and the connection for when it is complete.
pub(super) struct Arrived {
    pub(super) response: Response<Incoming>,
    pub(super) wire: Wire,
    pub(super) client: Weak<Client>,
}

/// What comes of a request that is on its way.
pub(super) type Arrival = oneshot::Receiver<Result<Arrived, Failure>>;

impl Client {
    pub(super) fn new(host: impl Host + 'static, dial: Dial, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            host: Box::new(host),
            dial,
            pool: Pool::default(),
            answers: Arc::default(),
            limit,
        })
    }

    /// Sends a request, on a connection that was used before if there is one to this very agent.
    pub(super) async fn request(
        self: &Arc<Self>,
        policy: Option<IdentityPolicy>,
        now: Option<&Arc<Joined>>,
        head: RequestHead,
        has_body: bool,
    ) -> Result<(Sink, Exchange, Arrival), OpenError> {
        self.check(&head)?;
        let meets = |joined: &&Arc<Joined>| policy.is_none() || joined.policy == policy;
        let kept = now.filter(meets);
        let kept = kept.and_then(|joined| self.pool.get(self.host.now(), joined));
        let (wire, again) = match kept {
            Some(wire) => (wire, Some(policy)),
            None => (self.open(policy).await?, None),
        };
        Ok(self.send(wire, again, head::request(head, has_body), has_body))
    }

    /// Sends a request to switch protocols, with its headers as they are, on a new stream.
    pub(super) async fn upgrade(
        self: &Arc<Self>,
        policy: Option<IdentityPolicy>,
        head: RequestHead,
    ) -> Result<(Exchange, Arrival), OpenError> {
        self.check(&head)?;
        let wire = self.open(policy).await?;
        let (_, exchange, arrival) = self.send(wire, None, head::request(head, false), false);
        Ok((exchange, arrival))
    }

    /// Connections that wait for their next request.
    pub(super) fn idle(&self) -> usize {
        self.pool.len()
    }

    /// Keeps no connections any more: they would hold a shutdown up.
    pub(super) fn close(&self) {
        self.pool.close();
    }

    fn check(&self, head: &RequestHead) -> Result<(), OpenError> {
        match head::len(head) > self.limit {
            true => Err(OpenError::HeadTooLong),
            false => Ok(()),
        }
    }

    async fn open(&self, policy: Option<IdentityPolicy>) -> Result<Wire, OpenError> {
        let (stream, joined) = (self.dial)(policy).await?;
        let cause = stream.cause();
        let built = Builder::new()
            .max_buf_size(self.limit.max(BUFFER))
            .handshake(stream)
            .await;
        // It does not write or read yet.
        let (sender, connection) = built.map_err(|_| OpenError::Away)?;
        let (task, abort) = abortable(connection.with_upgrades());
        self.host.spawn(Box::pin(async {
            // Whoever waits for the answer learns of an error, too.
            let _ = task.await;
        }));
        let held = exchange::Held { abort, cause };
        Ok(Wire {
            sender,
            joined,
            held,
        })
    }

    /// Has the request sent, on a new stream if this one was kept and turns out to be closed.
    fn send(
        self: &Arc<Self>,
        wire: Wire,
        again: Option<Option<IdentityPolicy>>,
        request: Result<Request<()>, Failure>,
        has_body: bool,
    ) -> (Sink, Exchange, Arrival) {
        let exchange = Exchange::new(!has_body, self.answers.awaited());
        let (reply, arrival) = oneshot::channel();
        let (sink, request) = match request {
            Ok(request) => {
                let (sink, body) = upload::upload(&exchange, request.headers(), has_body);
                (sink, Ok(request.map(|()| body)))
            }
            Err(failure) => (Sink::closed(), Err(failure)),
        };
        let (client, shared) = (self.clone(), exchange.clone());
        self.host.spawn(Box::pin(async move {
            let arrived = match request {
                Ok(request) => client.attempts(wire, again, request, &shared).await,
                Err(failure) => Err(failure),
            };
            // Who does not wait any more has given up the connection.
            drop(reply.send(arrived));
        }));
        (sink, exchange, arrival)
    }

    async fn attempts(
        self: Arc<Self>,
        mut wire: Wire,
        again: Option<Option<IdentityPolicy>>,
        request: Request<Upload>,
        exchange: &Exchange,
    ) -> Result<Arrived, Failure> {
        let sent = wire.attempt(request, exchange).await;
        let response = match (sent, again) {
            (Ok(response), _) => response,
            (Err((_, Some(unsent))), Some(policy)) => {
                let open = self.open(policy).await;
                wire = open.map_err(|error| match error {
                    OpenError::Away => Failure::Disconnected,
                    error => Failure::Agent(error.to_string()),
                })?;
                let sent = wire.attempt(*unsent, exchange).await;
                sent.map_err(|(failure, _)| failure)?
            }
            (Err((failure, _)), _) => return Err(failure),
        };
        exchange.answered()?;
        Ok(Arrived {
            response,
            wire,
            client: Arc::downgrade(&self),
        })
    }

    /// Keeps the connection of a request whose answer and body are complete.
    fn keep(self: &Arc<Self>, wire: Wire) {
        if !self.pool.put(self.host.now(), wire) {
            return;
        }
        let client = Arc::downgrade(self);
        self.host.spawn(Box::pin(async move {
            while let Some(nap) = nap(&client) {
                nap.await;
            }
        }));
    }
}

/// Until the next idle connection is to be closed; nothing where none is left.
fn nap(client: &Weak<Client>) -> Option<BoxFuture<'static, ()>> {
    let client = client.upgrade()?;
    let span = client.pool.sweep(client.host.now())?;
    Some(client.host.sleep(span))
}

impl Wire {
    /// Sends the request, or returns why it failed, with the request where none of it was sent.
    async fn attempt(
        &mut self,
        request: Request<Upload>,
        exchange: &Exchange,
    ) -> Result<Response<Incoming>, (Failure, Option<Box<Request<Upload>>>)> {
        exchange.goes_by(&self.held);
        if let Err(error) = self.sender.ready().await {
            return Err((exchange.failure(&error), Some(Box::new(request))));
        }
        let sent = self.sender.try_send_request(request).await;
        sent.map_err(|mut error| {
            let unsent = error.take_message().map(Box::new);
            (exchange.failure(error.error()), unsent)
        })
    }
}

impl Arrived {
    /// Its answer was read to the end: keeps the connection, where the request is complete as well.
    pub(super) fn finished(wire: Wire, client: &Weak<Client>) {
        if let Some(client) = client.upgrade() {
            client.keep(wire);
        }
    }
}
