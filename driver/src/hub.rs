//! The controller's end toward one agent identity: a handle to an event loop around
//! [`controlplane_core::Controller`].

mod answer;
mod client;
mod side;
mod switch;

use std::{sync::Arc, time::Duration};

use controlplane_core::{
    ControllerConfig, Joined, OpenError, RequestHead, Stats, Tunnel, rules::IdentityPolicy,
};
use futures_channel::{mpsc, oneshot};
use tokio::sync::watch;

pub use self::{
    answer::{Answer, RequestBody},
    switch::{Switch, Switched},
};
use self::{
    client::{Client, Dial},
    side::{Command, HubSide, Opening},
};
use crate::{
    agent::StartError,
    meter::Meter,
    run::{self, Loop, Origin, SharedStats},
    runtime::{Runtime, WebSocket},
    tunnel::{TunnelReader, TunnelWriter},
    websocket::Upgrade,
};

/// The controller's end toward one agent. Clones are handles to the same one; when the last is
/// dropped, it stops.
#[derive(Clone)]
pub struct Hub {
    commands: mpsc::UnboundedSender<Command>,
    joined: watch::Receiver<Option<Arc<Joined>>>,
    stats: SharedStats,
    /// Of the fast mode.
    client: Arc<Client>,
}

impl Hub {
    /// Starts waiting for the agent; call this inside the runtime.
    ///
    /// # Errors
    ///
    /// The configuration contradicts itself, or the system gives no random numbers.
    pub fn start<R: Runtime>(runtime: R, config: ControllerConfig) -> Result<Self, StartError> {
        let origin = Origin::new(&runtime).map_err(|_| StartError::Random)?;
        let name = config.name.clone();
        let limit = config.limits.head;
        let machine = controlplane_core::Controller::new(config, origin.start)?;
        let (commands, receiver) = mpsc::unbounded();
        let (watched, joined) = watch::channel(None);
        let stats = SharedStats::default();
        let run = Loop {
            machine,
            side: HubSide::<R>::new(name, watched),
            runtime: runtime.clone(),
            origin,
            commands: receiver,
            stats: stats.clone(),
        };
        runtime.spawn(run.run());
        Ok(Self {
            client: Client::new(runtime, dial(commands.clone()), limit),
            commands,
            joined,
            stats,
        })
    }

    /// Whether another connection of this agent is welcome.
    ///
    /// # Errors
    ///
    /// For how long not, because two agents that share one credential keep taking over from each
    /// other: answer the upgrade with 409 and this `Retry-After`.
    pub async fn admit(&self) -> Result<(), Duration> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.unbounded_send(Command::Admit(reply));
        answer.await.unwrap_or(Ok(()))
    }

    /// Takes over the WebSocket of an authenticated agent. `meter` counts the bytes below it.
    pub fn accept(&self, socket: impl WebSocket, meter: Meter) {
        let command = Command::Accept(Box::pin(socket), meter);
        let _ = self.commands.unbounded_send(command);
    }

    /// What the registered agent said of itself; `None` while it is away.
    #[must_use]
    pub fn joined(&self) -> Option<Arc<Joined>> {
        self.joined.borrow().clone()
    }

    /// Returns what the agent said of itself, as soon as one is registered; `None` if this end
    /// stops before.
    pub async fn wait_joined(&self) -> Option<Arc<Joined>> {
        let mut joined = self.joined.clone();
        let found = joined.wait_for(Option::is_some).await.ok()?;
        found.clone()
    }

    /// Sends a request to the agent. The head is relayed as it is: apply
    /// [`crate::rules::client_headers`] first.
    ///
    /// # Errors
    ///
    /// The agent is away, or a limit is reached.
    pub async fn request(
        &self,
        head: RequestHead,
        has_body: bool,
    ) -> Result<(RequestBody, Answer), OpenError> {
        self.open(head, has_body, None).await
    }

    /// As [`Self::request`], but only to an agent that has this policy at that very moment: it
    /// may have come back with another since [`Self::joined`] was asked.
    ///
    /// # Errors
    ///
    /// As for [`Self::request`], and [`OpenError::Policy`].
    pub async fn request_under(
        &self,
        policy: IdentityPolicy,
        head: RequestHead,
        has_body: bool,
    ) -> Result<(RequestBody, Answer), OpenError> {
        self.open(head, has_body, Some(policy)).await
    }

    async fn open(
        &self,
        head: RequestHead,
        has_body: bool,
        policy: Option<IdentityPolicy>,
    ) -> Result<(RequestBody, Answer), OpenError> {
        let joined = self.joined().filter(|joined| joined.http_streams);
        if joined.is_some() {
            let sent = self.client.request(policy, joined.as_ref(), head, has_body);
            let (sink, exchange, arrival) = sent.await?;
            let body = RequestBody::fast(sink, exchange.clone());
            return Ok((body, Answer::fast(exchange, arrival)));
        }
        let (reply, answer) = oneshot::channel();
        let opening = Opening::Request(has_body, reply);
        let _ = self
            .commands
            .unbounded_send(Command::Open(head, policy, opening));
        answer.await.unwrap_or(Err(OpenError::Away))
    }

    /// Asks the Kubernetes API to switch protocols, to WebSocket or SPDY/3.1; only by an agent in
    /// the fast mode ([`Joined::http_streams`]), and one that has this policy at that very moment, where
    /// one is given. The head is relayed as it is, with the headers of the handshake, `Connection`
    /// and `Upgrade` among them.
    ///
    /// # Errors
    ///
    /// The agent is away, is not in the fast mode or has another policy, or a limit is reached.
    pub async fn upgrade(
        &self,
        policy: Option<IdentityPolicy>,
        head: RequestHead,
    ) -> Result<Switch, OpenError> {
        let (exchange, arrival) = self.client.upgrade(policy, head).await?;
        Ok(Switch::new(exchange, arrival))
    }

    /// Opens a WebSocket stream to the Kubernetes API in JSON messages; to an agent that has this policy at that
    /// very moment, where one is given. The head is relayed as it is, without the headers of the
    /// handshake: apply [`crate::rules::client_headers`] and
    /// [`crate::rules::without_handshake`] first.
    ///
    /// # Errors
    ///
    /// The agent is away, opens no such streams or has another policy, or a limit is reached.
    pub async fn open_websocket(
        &self,
        policy: Option<IdentityPolicy>,
        head: RequestHead,
        protocols: Vec<String>,
    ) -> Result<Upgrade, OpenError> {
        let (reply, answer) = oneshot::channel();
        let opening = Opening::WebSocket(protocols, reply);
        let _ = self
            .commands
            .unbounded_send(Command::Open(head, policy, opening));
        answer.await.unwrap_or(Err(OpenError::Away))
    }

    /// Opens a TCP or UDP tunnel to what `tunnel` names, of which the agent dials what its own
    /// configuration permits. It can be written to at once; that the service was not reached, or is
    /// not permitted, shows at the reader:
    ///
    /// ```
    /// # use controlplane_driver::{Hub, Transport, Tunnel};
    /// # async fn ask(hub: Hub) -> Result<(), Box<dyn std::error::Error>> {
    /// let tunnel = Tunnel {
    ///     transport: Transport::Tcp,
    ///     tunnel_id: "redis".into(),
    ///     service_name: "redis".into(),
    ///     service_namespace: "cache".into(),
    ///     service_port: 6379,
    ///     ..Tunnel::default()
    /// };
    /// let (mut reader, mut writer) = hub.open_tunnel(tunnel).await?;
    /// writer.write("PING\r\n".into()).await?;
    /// if let Some(piece) = reader.next().await {
    ///     println!("{:?}", piece?);
    /// }
    /// writer.finish();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// With an agent in the fast mode a tunnel to a service has a window, so that either side waits
    /// for the other, and half-close: the end of the writer leaves the way back open, and the
    /// tunnel is over when both have ended. What could not be reached shows as a reset.
    ///
    /// In JSON there is no window, so that what either side does not take in time ends the tunnel
    /// with an error, and no half-close: the end of the writer is the end of the tunnel (P-123).
    /// That the agent could not reach a UDP service is only logged.
    ///
    /// A UDP tunnel has one stream for each client, which the reader and the writer are of:
    /// datagrams keep their boundaries, may be lost, and those of other clients never come out here
    /// (P-198).
    ///
    /// # Errors
    ///
    /// The agent is away or opens no tunnels, this client has a stream of this UDP tunnel already,
    /// or a limit is reached.
    pub async fn open_tunnel(
        &self,
        tunnel: Tunnel,
    ) -> Result<(TunnelReader, TunnelWriter), OpenError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Tunnel(Box::new(tunnel), reply);
        let _ = self.commands.unbounded_send(command);
        answer.await.unwrap_or(Err(OpenError::Away))
    }

    /// Cuts every connection as a broken network would: for tests and for operators who have to.
    pub fn disconnect(&self) {
        let _ = self.commands.unbounded_send(Command::Cut);
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.client.answers.add_to(run::stats(&self.stats))
    }

    /// Streams of the fast mode that are kept open for the next request.
    #[must_use]
    pub fn streams_idle(&self) -> usize {
        self.client.idle()
    }

    /// Stops: new requests are refused, open ones may end for at most `grace`, then connections
    /// are closed with 1001. Returns when all is over.
    pub async fn shutdown(&self, grace: Duration) {
        self.client.close();
        let _ = self.commands.unbounded_send(Command::Shutdown(grace));
        let mut joined = self.joined.clone();
        while joined.changed().await.is_ok() {}
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("joined", &self.joined())
            .finish_non_exhaustive()
    }
}

/// How the client of the fast mode gets its streams.
fn dial(commands: mpsc::UnboundedSender<Command>) -> Dial {
    Box::new(move |policy| {
        let (reply, answer) = oneshot::channel();
        let _ = commands.unbounded_send(Command::Http(policy, reply));
        Box::pin(async move { answer.await.unwrap_or(Err(OpenError::Away)) })
    })
}
