//! The half of the suite that tests an agent: in this process, or a command.

mod clock;
mod far;
mod here;
mod pace;
mod paced;
mod player;
mod server;
mod stage;
mod upstream;

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use controlplane_driver::Runtime;
use controlplane_world::vectors::{Role, Step, Vector};
use tokio::sync::mpsc;

use self::{clock::Clock, here::Start, pace::Pace, paced::Names, player::Player, stage::Stage};
use super::{
    Options,
    report::{Outcome, Report},
    vectors,
};

/// The agent's id in the vectors.
const AGENT_ID: &str = "agent-1f2e";
/// The cluster's name in the vectors.
const NAME: &str = "prod";
/// What the agent presents to controller and gateways.
const TOKEN: &str = "agent-token";
/// The token of the agent's service account.
const OWN: &str = "service-account-token";

/// Who is tested.
pub struct Subject(Kind);

enum Kind {
    Here(Box<dyn Start>),
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl Subject {
    /// This project's agent in this process, on a runtime; its time is the tester's.
    pub fn here<R: Runtime>(runtime: R) -> Self {
        Self(Kind::Here(Box::new(runtime)))
    }

    fn name(&self) -> String {
        match &self.0 {
            Kind::Here(start) => format!("agent in this process, on {}", start.name()),
        }
    }
}

/// Tests an agent.
///
/// # Errors
///
/// The vectors cannot be read, or none is wanted. What the agent does wrong stands in the report.
pub async fn run(subject: &Subject, options: &Options) -> Result<Report> {
    let lines = vectors::selected(Role::Agent, options)?;
    let mut report = Report::new(subject.name());
    let play = |line| one(subject, line, options);
    report.checks = vectors::play(&lines, options, |line| play(&line.vector)).await;
    vectors::something(&report.checks, options)?;
    Ok(report)
}

async fn one(subject: &Subject, vector: &Vector, options: &Options) -> Outcome {
    match converse(subject, vector, options).await {
        Ok(()) => Outcome::Pass,
        Err(why) => Outcome::Fail(why),
    }
}

async fn converse(subject: &Subject, vector: &Vector, options: &Options) -> Result<(), String> {
    let stage = Stage::start(&vector.config.gateways).await;
    let stage = stage.map_err(|e| format!("the tester cannot start: {e}"))?;
    let (connects, connecting) = mpsc::unbounded_channel();
    let url = stage.url(is_plain(vector));
    match &subject.0 {
        Kind::Here(start) => {
            let pace = Pace::new();
            let addresses = (stage.controller.address, stage.api.address);
            let names = Names::new(addresses, vector.config.gateways.clone(), connects);
            let tester = (pace.clone(), Arc::new(names));
            let agent = start.start(url, &stage, &vector.config, tester)?;
            let clock = Clock::Paced(pace.clone(), pace.now());
            let mut player = Player::new(stage, clock, connecting, options.patience);
            let outcome = player.play(vector).await;
            drop((player, agent));
            // What it waits for in the end is over at once.
            for _ in 0..3 {
                pace.advance(pace.now() + Duration::from_secs(3600));
            }
            outcome
        }
    }
}

/// Whether the link may not be encrypted, since the vector leads to a gateway that is not.
fn is_plain(vector: &Vector) -> bool {
    vector
        .steps
        .iter()
        .any(|step| matches!(step, Step::Dial(dial) if dial.to.starts_with("ws://")))
}
