//! One conversation with an agent: the tester is its controller and gateway, its Kubernetes API and
//! the services of its tunnels, and does the steps one after the other.

use std::{collections::VecDeque, sync::atomic::Ordering, time::Duration};

use controlplane_world::vectors::{
    Beginning, Era, Role, Step, Vector, load,
    matching::{self, Saved},
    step,
};
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    clock::Clock,
    far::Far,
    paced::Connecting,
    server::{Asked, VERSION},
    stage::Stage,
};
use crate::conformance::link::{Link, MOMENT};

/// The tester in a conversation.
pub(super) struct Player {
    pub(super) patience: Duration,
    pub(super) saved: Saved,
    pub(super) stage: Stage,
    pub(super) clock: Clock,
    /// The connection that steps of the link are about.
    pub(super) link: Option<Link>,
    /// The one before it, which the agent has left for a gateway and has yet to close.
    pub(super) old: Option<Link>,
    /// Requests for a link that no step has answered, and when they came.
    pub(super) dials: VecDeque<(Asked, Duration)>,
    /// How many came.
    pub(super) arrived: usize,
    /// How many were answered.
    pub(super) replied: usize,
    /// When the link was lost, or the last dial refused.
    pub(super) lost: Duration,
    /// Connections to services that were taken.
    pub(super) connected: usize,
    /// What the agent had said over WebSockets when it had settled.
    pub(super) said: usize,
    pub(super) connects: mpsc::UnboundedReceiver<Connecting>,
    /// The latest last.
    pub(super) fars: Vec<Far>,
}

impl Player {
    pub(super) fn new(
        stage: Stage,
        clock: Clock,
        connects: mpsc::UnboundedReceiver<Connecting>,
        patience: Duration,
    ) -> Self {
        Self {
            patience,
            saved: Saved::from([("own".into(), super::OWN.into())]),
            stage,
            clock,
            link: None,
            old: None,
            dials: VecDeque::new(),
            arrived: 0,
            replied: 0,
            lost: Duration::ZERO,
            connected: 0,
            said: 0,
            connects,
            fars: Vec::new(),
        }
    }

    /// Plays the conversation of a vector, with an agent that was started.
    pub(super) async fn play(&mut self, vector: &Vector) -> Result<(), String> {
        let era = vector.era.ok_or("no era")?;
        let begun = self.begin(era, vector.start).await;
        begun.map_err(|e| format!("at the beginning: {e}"))?;
        let is_version = |step: &Step| matches!(step, Step::ExpectRequest(r) if r.path == VERSION);
        let told = !vector.steps.iter().any(is_version);
        self.stage.api.tells_version.store(told, Ordering::Relaxed);
        for (i, step) in vector.steps.iter().enumerate() {
            let outcome = self.step(step).await;
            outcome.map_err(|error| format!("step {}: {error}", i + 1))?;
        }
        let left = self.end().await;
        left.map_err(|e| format!("at the end: {e}"))
    }

    async fn begin(&mut self, era: Era, start: Beginning) -> Result<(), String> {
        self.dial(&step::Dial {
            to: "controller".into(),
            after_ms: None,
            refused: None,
            retry_after: None,
        })
        .await?;
        if start == Beginning::Registered {
            let register = json!({"type": "register", "request_id": "$save:register",
                "payload": {"$more": true}});
            let link = self.link.as_mut().ok_or("no link")?;
            link.expect(&register, &mut self.saved).await?;
            let success = load::greeting(Role::Agent, era)?;
            link.send_text(matching::filled(&success, &self.saved)?)?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Pass(millis) => self.pass(Duration::from_millis(*millis)).await,
            Step::Dial(dial) => self.dial(dial).await,
            Step::Quiet(_) => self.quiet().await,
            Step::ExpectClose(code) => self.expect_close(*code).await,
            Step::Close(_) | Step::Drop(_) => {
                self.lost = self.clock.now();
                self.on_link(step).await?;
                self.settled_links().await
            }
            step => self.on_link(step).await,
        }
    }

    /// A step of the link, or of what is behind the agent.
    async fn on_link(&mut self, step: &Step) -> Result<(), String> {
        if let Some(link) = &mut self.link
            && let Some(done) = link.step(step, &mut self.saved).await
        {
            return done;
        }
        self.upstream(step).await
    }

    /// The agent closes its link; that to the controller, where it has moved to a gateway.
    async fn expect_close(&mut self, code: u16) -> Result<(), String> {
        self.lost = self.clock.now();
        let link = self.old.as_mut().or(self.link.as_mut());
        let link = link.ok_or("there is no link")?;
        link.expect_close(code).await?;
        self.old = None;
        self.settled_links().await
    }

    // ------------------------------------------------------------ nothing happens

    async fn quiet(&mut self) -> Result<(), String> {
        self.settle().await?;
        let link = self.link.as_mut().ok_or("there is no link")?;
        link.quiet(&mut self.saved).await?;
        self.nothing_left()
    }

    async fn end(&mut self) -> Result<(), String> {
        if self.link.as_ref().is_some_and(Link::is_open) {
            return self.quiet().await;
        }
        self.settle().await?;
        tokio::time::sleep(MOMENT).await;
        self.nothing_left()
    }

    /// Nothing happened that nobody looked at.
    fn nothing_left(&mut self) -> Result<(), String> {
        for link in self.link.iter_mut().chain(&mut self.old) {
            link.nothing_here()?;
        }
        if let Ok(asked) = self.stage.api.asks.try_recv() {
            let head = &asked.head;
            return Err(format!("the API was asked: {} {}", head.method, head.uri));
        }
        if let Ok(connecting) = self.connects.try_recv() {
            let Connecting { transport, to, .. } = connecting;
            return Err(format!("a connection to {to} by {transport:?}"));
        }
        for far in &mut self.fars {
            if let Some(got) = far.left() {
                return Err(format!("the API or service saw {got:?}"));
            }
        }
        Ok(())
    }
}
