//! The public face of the agent: a [`Builder`], and an [`Agent`] that connects, registers, sends
//! heartbeats and reconnects by itself until it is told to stop.

mod relay;
mod side;

use std::{sync::Arc, time::Duration};

use controlplane_core::{
    AgentConfig, AgentInfo, Backoff, ConfigError, HeartbeatStatus, Limits, Periods, Reason,
    Registration, Stats,
    rules::{IdentityPolicy, TunnelTarget},
};
use futures_channel::mpsc;
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tokio::sync::watch;

use self::side::{AgentSide, Command};
use crate::{
    answers::Answers,
    dial::{Dial, Endpoint, UrlError},
    handler::{Handler, SharedHandler},
    proxy::Proxies,
    run::{self, Loop, Origin, SharedStats},
    runtime::Runtime,
    secret::{TokenError, TokenSource},
    tls::{TlsError, TlsOptions, TlsSource},
    tls_io::SeenCertificate,
    upstream::{Kubernetes, KubernetesConfig, UpstreamError},
};

/// A running agent. Clones are handles to the same one; when the last is dropped, it stops.
#[derive(Clone, Debug)]
pub struct Agent<R> {
    commands: mpsc::UnboundedSender<Command>,
    state: watch::Receiver<State>,
    stats: SharedStats,
    answers: Arc<Answers>,
    seen: SeenCertificate,
    runtime: R,
}

/// Where the link to the controller stands.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum State {
    /// Dialling.
    Connecting,
    /// Connected; waiting for the controller's answer to `register`.
    Registering,
    /// Requests are answered.
    Registered(Registration),
    /// Waiting for the next attempt.
    Waiting {
        /// When it comes.
        until: std::time::Instant,
        /// Failures in a row.
        attempt: u32,
        /// The last one.
        reason: Reason,
    },
    /// Shutting down: open requests may end.
    Draining,
    /// Over.
    Stopped,
}

/// The agent has stopped.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the agent has stopped")]
pub struct Stopped;

/// The agent, or the controller's end, cannot start.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings contradict themselves.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no usable token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The Kubernetes API cannot be used.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The controller's URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
}

impl<R: Runtime> Agent<R> {
    /// An agent that will dial `url` and present `token`.
    pub fn builder(
        url: impl Into<String>,
        token: impl Into<TokenSource>,
        info: AgentInfo,
    ) -> Builder<R> {
        let mut config = AgentConfig::new("", "");
        config.info = info;
        Builder {
            url: url.into(),
            token: token.into(),
            config,
            tls: TlsOptions::default().into(),
            proxies: Proxies::none(),
            allow_plaintext: false,
            handler: None,
            runtime: R::default(),
        }
    }

    /// Where the link stands now.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// The state as soon as it is another than `seen`; at once where it already is, and for ever
    /// [`State::Stopped`] in the end.
    pub async fn changed(&self, seen: &State) -> State {
        let mut state = self.state.clone();
        match state.wait_for(|now| now != seen).await {
            Ok(now) => now.clone(),
            Err(_) => State::Stopped,
        }
    }

    /// What the controller answered to the registration, as soon as there is one.
    ///
    /// # Errors
    ///
    /// The agent has stopped. As long as it runs it keeps trying: watch [`Self::changed`] to see
    /// why it takes long.
    pub async fn registered(&self) -> Result<Registration, Stopped> {
        let mut state = self.state.clone();
        let over = |s: &State| matches!(s, State::Registered(_) | State::Stopped);
        match state.wait_for(over).await.as_deref() {
            Ok(State::Registered(registration)) => Ok(registration.clone()),
            _ => Err(Stopped),
        }
    }

    /// What the next heartbeats say.
    pub fn set_status(&self, status: HeartbeatStatus) {
        // An agent that has stopped has no heartbeats.
        let _ = self.commands.unbounded_send(Command::Status(status));
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.answers.add_to(run::stats(&self.stats))
    }

    /// The certificate that the controller, or gateway, showed at the last dial, in DER; `None`
    /// before the first and without TLS.
    #[must_use]
    pub fn controller_certificate(&self) -> Option<CertificateDer<'static>> {
        self.seen.get()
    }

    /// Stops: new requests are refused, open ones may end for at most `grace`, then the
    /// connection is closed with 1001. Returns when all is over.
    pub async fn shutdown(&self, grace: Duration) {
        let _ = self.commands.unbounded_send(Command::Shutdown(grace));
        self.stopped().await;
    }

    /// Returns once the agent has stopped.
    pub async fn stopped(&self) {
        let mut state = self.state.clone();
        // Stopped is the last state; the loop ends when its farewell was said.
        while state.changed().await.is_ok() {}
    }

    /// The runtime it runs on.
    #[must_use]
    pub const fn runtime(&self) -> &R {
        &self.runtime
    }
}

/// Settings of an agent, before it starts.
#[must_use]
pub struct Builder<R> {
    url: String,
    token: TokenSource,
    config: AgentConfig,
    tls: TlsSource,
    proxies: Proxies,
    allow_plaintext: bool,
    handler: Option<SharedHandler>,
    runtime: R,
}

impl<R: Runtime> Builder<R> {
    /// Another runtime than the default one of its kind.
    pub fn runtime(mut self, runtime: R) -> Self {
        self.runtime = runtime;
        self
    }

    /// TLS toward the controller; by default the system's authorities and no client certificate.
    pub fn tls(mut self, tls: impl Into<TlsSource>) -> Self {
        self.tls = tls.into();
        self
    }

    /// HTTP proxies on the way to the controller and its gateways; by default none, whatever the
    /// environment says: see [`Proxies::from_env`].
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Whether `http` and `ws` URLs are dialled: token and traffic are then readable to anyone on
    /// the way.
    pub fn allow_plaintext(mut self, allow: bool) -> Self {
        self.allow_plaintext = allow;
        self
    }

    /// Whose rights requests have at the Kubernetes API.
    pub fn identity(mut self, policy: IdentityPolicy) -> Self {
        self.config.policy = policy;
        self
    }

    /// Whether terminals are translated to text for controllers that expect that, on streams whose
    /// start names no subprotocol (P-106). kubectl cannot work with it; off by default.
    pub fn terminal_translation(mut self, translate: bool) -> Self {
        self.config.terminal_translation = translate;
        self
    }

    /// For controllers that are known to read them: long answers that are sent whole go as binary
    /// frames (P-039). Off by default.
    pub fn binary_answers(mut self, binary: bool) -> Self {
        self.config.binary_answers = binary;
        self
    }

    /// Whether the fast mode is offered: streams with a window each, in binary messages (P-118). On
    /// by default; without it every request goes as JSON.
    pub fn yamux(mut self, offer: bool) -> Self {
        self.config.yamux = offer;
        self
    }

    /// Where TCP and UDP tunnels may lead (P-197); by default nowhere, so that each is refused.
    pub fn tunnels(mut self, targets: impl IntoIterator<Item = TunnelTarget>) -> Self {
        self.config.tunnels = targets.into_iter().collect();
        self
    }

    /// Hosts that the controller may send the agent to, its gateways (P-007): names, or with a
    /// leading dot all names below one. The token is presented to them. By default none.
    pub fn gateways(mut self, hosts: impl IntoIterator<Item = String>) -> Self {
        self.config.gateways = hosts.into_iter().collect();
        self
    }

    /// What answers requests; by default [`Kubernetes`] with the files of a pod.
    pub fn handler(mut self, handler: impl Handler) -> Self {
        self.handler = Some(Arc::new(handler));
        self
    }

    /// Periods and patience.
    pub fn periods(mut self, periods: Periods) -> Self {
        self.config.periods = periods;
        self
    }

    /// Delays between attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.config.backoff = backoff;
        self
    }

    /// Bounds on what the controller can make the agent hold.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Starts it; call this inside the runtime. It dials at once and keeps trying.
    ///
    /// # Errors
    ///
    /// The URL, token, certificate files or settings cannot be used. Afterwards such problems
    /// only delay the next attempt.
    pub fn start(mut self) -> Result<Agent<R>, StartError> {
        let endpoint = Endpoint::parse(&self.url, self.allow_plaintext)?;
        self.token.read()?;
        if endpoint.secure || self.proxies.need_tls() {
            self.tls.config()?;
        }
        self.config.encrypted = endpoint.secure;
        let handler = match self.handler {
            Some(handler) => handler,
            None => {
                let config = KubernetesConfig::in_cluster()?;
                Arc::new(Kubernetes::new(self.runtime.clone(), config)?)
            }
        };
        let dial = Dial {
            endpoint,
            tls: self.tls,
            proxies: self.proxies,
            token: self.token,
            limits: self.config.limits,
            seen: SeenCertificate::default(),
        };
        let seen = dial.seen.clone();
        let answers = Arc::<Answers>::default();
        let origin = Origin::new(&self.runtime).map_err(|_| StartError::Random)?;
        let machine = controlplane_core::Agent::new(self.config, origin.start)?;
        let (commands, receiver) = mpsc::unbounded();
        let (watched, state) = watch::channel(State::Connecting);
        let stats = SharedStats::default();
        let side = AgentSide::new(
            self.runtime.clone(),
            origin,
            dial,
            handler,
            answers.clone(),
            watched,
        );
        let run = Loop {
            machine,
            side,
            runtime: self.runtime.clone(),
            origin,
            commands: receiver,
            stats: stats.clone(),
        };
        self.runtime.spawn(run.run());
        Ok(Agent {
            commands,
            state,
            stats,
            answers,
            seen,
            runtime: self.runtime,
        })
    }
}
