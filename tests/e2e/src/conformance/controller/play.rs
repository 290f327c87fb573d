//! One conversation: the tester is the agent and the clients.

use std::time::Duration;

use controlplane_world::vectors::{
    Beginning, Era, Role, Step, Vector,
    load::{Line, greeting},
    matching::Saved,
};
use serde_json::json;

use super::{Known, clients::Clients, dial::Place};
use crate::conformance::{Options, link::Link};

/// Code of a close in order.
const NORMAL: u16 = 1000;

/// Plays it; what is left of it at the end is gone when this returns.
pub(super) async fn play(line: &Line, known: &Known, options: &Options) -> Result<(), String> {
    let vector = known.mapped(line)?;
    let mut player = Player::start(&vector, known, options).await?;
    let played = player.all(&vector).await;
    // The next conversation finds the cluster without an agent.
    drop(player.clients);
    let ended = match player.link.is_open() {
        true => player.link.close(NORMAL).await,
        false => Ok(()),
    };
    played.and(ended.map_err(|e| format!("after the end: {e}")))
}

struct Player {
    link: Link,
    clients: Clients,
    saved: Saved,
}

impl Player {
    async fn start(vector: &Vector, known: &Known, options: &Options) -> Result<Self, String> {
        let era = vector.era.ok_or("no era")?;
        let link = dial(&known.agent, options).await?;
        let mut player = Self {
            link,
            clients: Clients::new(known.client.clone(), options.patience),
            saved: Saved::new(),
        };
        if vector.start == Beginning::Registered {
            player.register(era).await?;
        }
        Ok(player)
    }

    async fn register(&mut self, era: Era) -> Result<(), String> {
        self.link.send_text(greeting(Role::Controller, era)?)?;
        let success = json!({"type": "register_success", "request_id": "reg",
            "payload": {"$more": true}});
        self.link.expect(&success, &mut self.saved).await.map(drop)
    }

    async fn all(&mut self, vector: &Vector) -> Result<(), String> {
        for (i, step) in vector.steps.iter().enumerate() {
            let done = self.step(step).await;
            done.map_err(|error| format!("step {}: {error}", i + 1))?;
        }
        let left = self.nothing_left().await;
        left.map_err(|error| format!("at the end: {error}"))
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        if let Step::Pass(millis) = step {
            tokio::time::sleep(Duration::from_millis(*millis)).await;
            return Ok(());
        }
        if let Some(done) = self.link.step(step, &mut self.saved).await {
            done?;
            return match step {
                Step::Quiet(_) => self.clients.nothing_left(),
                _ => Ok(()),
            };
        }
        self.clients.step(step, &mut self.saved).await
    }

    /// The controller has worked off what was said, and nothing came of it that nobody looked at.
    async fn nothing_left(&mut self) -> Result<(), String> {
        self.link.barrier().await?;
        self.link.nothing_left().await?;
        self.clients.nothing_left()
    }
}

/// The WebSocket of an agent that has said nothing yet.
pub(super) async fn dial(agent: &Place, options: &Options) -> Result<Link, String> {
    let socket = agent.agent().await.map_err(|e| format!("{e:#}"))?;
    Ok(Link::new(socket, false, options.patience))
}
