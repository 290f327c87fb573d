//! The half of the suite that tests an agent: in this process, or a command.

mod clock;
mod command;
mod far;
mod here;
mod pace;
mod paced;
mod player;
mod server;
mod stage;
mod upstream;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use controlplane_driver::Runtime;
use controlplane_world::vectors::{Role, Step, Vector};
use tokio::sync::mpsc;

pub use self::command::{Command, Setting};
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
    Command(Command),
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

    /// A command, whose time is real.
    #[must_use]
    pub const fn command(command: Command) -> Self {
        Self(Kind::Command(command))
    }

    fn name(&self) -> String {
        match &self.0 {
            Kind::Command(command) => format!("agent {}", command.line),
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
    if let Kind::Command(command) = &subject.0
        && let Some(why) = lacks(command, vector, options)
    {
        return Outcome::NotApplicable(why);
    }
    match converse(subject, vector, options).await {
        Ok(()) => Outcome::Pass,
        Err(why) => Outcome::Fail(why),
    }
}

async fn converse(subject: &Subject, vector: &Vector, options: &Options) -> Result<(), String> {
    let stage = Stage::start(&vector.config.gateways).await;
    let stage = stage.map_err(|e| format!("the tester cannot start: {e}"))?;
    match &subject.0 {
        Kind::Here(start) => here(&**start, stage, vector, options).await,
        Kind::Command(command) => elsewhere(command, stage, vector, options).await,
    }
}

/// With an agent in this process.
async fn here(
    start: &dyn Start,
    stage: Stage,
    vector: &Vector,
    options: &Options,
) -> Result<(), String> {
    let (connects, connecting) = mpsc::unbounded_channel();
    let pace = Pace::new();
    let addresses = (stage.controller.address, stage.api.address);
    let names = Names::new(addresses, vector.config.gateways.clone(), connects);
    let tester = (pace.clone(), Arc::new(names));
    let url = stage.url(is_plain(vector));
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

/// With an agent in a process of its own.
async fn elsewhere(
    command: &Command,
    stage: Stage,
    vector: &Vector,
    options: &Options,
) -> Result<(), String> {
    let process = command.start(&stage.url(false), &stage, &vector.config);
    let mut process = process.await.map_err(|e| format!("{e:#}"))?;
    let (_, connecting) = mpsc::unbounded_channel();
    let clock = Clock::Real(Instant::now());
    let mut player = Player::new(stage, clock, connecting, options.patience);
    let outcome = tokio::select! {
        outcome = player.play(vector) => outcome,
        why = process.ended() => Err(why),
    };
    let said = process.end().await;
    outcome.map_err(|why| match said.is_empty() {
        true => why,
        false => format!("{why}\nit said last:\n{said}"),
    })
}

/// Why a conversation cannot be had with a command.
fn lacks(command: &Command, vector: &Vector, options: &Options) -> Option<String> {
    let needs = command::needs(&vector.config);
    if let Some(setting) = needs.intersection(&command.without).next() {
        return Some(format!(
            "the command cannot be set up with {}",
            setting.name()
        ));
    }
    if is_plain(vector) {
        return Some("it needs a link that is not encrypted".into());
    }
    if needs.contains(&Setting::Gateways) {
        return Some("a command cannot be made to find a gateway".into());
    }
    let connects = |step: &Step| matches!(step, Step::ExpectConnect(_));
    if vector.steps.iter().any(connects) {
        return Some("a command cannot be made to find a service".into());
    }
    let longest = options.longest;
    (clock::span(vector) > longest)
        .then(|| format!("it takes more than {} s", longest.as_secs_f32()))
}

/// Whether the link may not be encrypted: it leads to a gateway that is not, or shows what travels
/// in clear.
fn is_plain(vector: &Vector) -> bool {
    let to_plain = |step: &Step| matches!(step, Step::Dial(dial) if dial.to.starts_with("ws://"));
    let secrets = vector.config.info.contains_key("monitoring");
    !vector.config.encrypted && (secrets || vector.steps.iter().any(to_plain))
}
