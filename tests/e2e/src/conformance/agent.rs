//! The half of the suite that tests an agent: in this process, or a command.

mod clock;
mod command;
mod far;
mod here;
mod pace;
mod paced;
mod player;
mod scenarios;
mod server;
mod stage;
mod upstream;

use std::{sync::Arc, time::Instant};

use anyhow::Result;
use controlplane_driver::Runtime;
use controlplane_world::vectors::{Config, Role, Step, Vector};
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

/// How often a conversation is had at most that depends on more than the agent, until it holds.
const ATTEMPTS: u32 = 3;

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
            Kind::Command(command) => {
                let words: Vec<&str> = command.line.split_whitespace().collect();
                format!("agent {}", words.join(" "))
            }
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
    report.checks = scenarios::play(subject, options).await;
    let played = vectors::play(&lines, options, |line| one(subject, &line.vector, options));
    report.checks.extend(played.await);
    vectors::something(&report.checks, options)?;
    Ok(report)
}

async fn one(subject: &Subject, vector: &Vector, options: &Options) -> Outcome {
    if let Kind::Command(command) = &subject.0
        && let Some(why) = lacks(command, vector, options)
    {
        return Outcome::NotApplicable(why);
    }
    let scene = Scene {
        config: &vector.config,
        plain: is_plain(vector),
        trusted: true,
    };
    // A machine that is late lets more time pass than it should, and a network may cut bytes so short
    // that a window holds fewer of them: neither is the agent's fault.
    let real = matches!(subject.0, Kind::Command(_)) && !clock::span(vector).is_zero();
    let cut = |step: &Step| matches!(step, Step::ExpectPieces(_));
    let again = real || vector.steps.iter().any(cut);
    let mut attempts = if again { ATTEMPTS } else { 1 };
    loop {
        let play = async |player: &mut Player| player.play(vector).await;
        attempts -= 1;
        match converse(subject, &scene, options, play).await {
            Ok(()) => return Outcome::Pass,
            Err(why) if attempts == 0 => return Outcome::Fail(why),
            Err(_) => {}
        }
    }
}

/// How an agent is set up.
struct Scene<'a> {
    config: &'a Config,
    /// Its link is not encrypted.
    plain: bool,
    /// It knows the tester's authority, and not only that of a stranger.
    trusted: bool,
}

/// Has a conversation with an agent that is started for it.
async fn converse(
    subject: &Subject,
    scene: &Scene<'_>,
    options: &Options,
    play: impl AsyncFnOnce(&mut Player) -> Result<(), String>,
) -> Result<(), String> {
    let stage = Stage::start(&scene.config.gateways, scene.trusted).await;
    let stage = stage.map_err(|e| format!("the tester cannot start: {e}"))?;
    let (connects, connecting) = mpsc::unbounded_channel();
    let url = stage.url(scene.plain);
    match &subject.0 {
        Kind::Here(start) => {
            let pace = Pace::new();
            let addresses = (stage.controller.address, stage.api.address);
            let names = Names::new(addresses, scene.config.gateways.clone(), connects);
            let tester = (pace.clone(), Arc::new(names));
            let agent = start.start(url, &stage, scene.config, tester)?;
            let clock = Clock::Paced(pace.clone(), pace.now());
            let mut player = Player::new(stage, clock, connecting, options.patience);
            let outcome = play(&mut player).await;
            drop(player);
            let left = match &outcome {
                Ok(()) => here::emptied(&*agent, options.patience).await,
                Err(_) => Ok(()),
            };
            drop(agent);
            pace.finish();
            outcome.and(left)
        }
        Kind::Command(command) => {
            let process = command.start(&url, &stage, scene.config).await;
            let mut process = process.map_err(|e| format!("{e:#}"))?;
            let clock = Clock::Real(Instant::now());
            let mut player = Player::new(stage, clock, connecting, options.patience);
            let outcome = tokio::select! {
                outcome = play(&mut player) => outcome,
                why = process.ended() => Err(why),
            };
            let said = process.end().await;
            outcome.map_err(|why| match said.is_empty() {
                true => why,
                false => format!("{why}\nit said last:\n{said}"),
            })
        }
    }
}

/// Why a conversation cannot be had with a command.
fn lacks(command: &Command, vector: &Vector, options: &Options) -> Option<String> {
    let needs = command::needs(vector);
    if let Some(setting) = needs.intersection(&command.without).next() {
        return Some(match setting {
            Setting::FastMode => "the command has no fast mode".into(),
            setting => format!("the command cannot be set up with {}", setting.name()),
        });
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
