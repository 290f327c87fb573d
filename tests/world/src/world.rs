//! The world: who is in it, what happens next, and what is checked after it.

mod agent;
mod clients;
mod connections;
mod controller;
mod fast;
mod faults;
mod lies;
mod oracle;
mod others;
mod phases;
mod setup;
mod trace;
mod tunnels;
mod upstream;
mod wires;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use controlplane_core::{ConnId, Input, Start, StreamEnd, StreamId, Time};

use self::{agent::AgentHost, controller::ControllerHost, fast::Tap, trace::Trace};
pub use self::{
    setup::{Setup, Source},
    trace::Violation,
};
use crate::{
    exchange::{Check, Exchange},
    fast::Fast,
    link::{Link, Side},
    plan::{self, Manners, Weather},
    rng::Rng,
    tamper::Tamperer,
    tunnel::Tunnel,
};

/// What a simulation was like.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Of all that the machines said, and when.
    pub hash: u64,
    /// Rows of [`controlplane_core::TRANSITIONS`] that were taken.
    pub transitions: BTreeSet<usize>,
    /// How often which kind of thing happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// The tamperer found something to tamper with.
    pub tampered: bool,
}

/// Something that is going to happen.
#[derive(Debug)]
enum Event {
    /// A message, or several, may have arrived.
    Arrive(u64, Side),
    /// The client of a request gives up.
    Cancel(u64),
    /// The client of a request takes a delivery.
    ClientReads(u64),
    /// The client of a request goes on with its body.
    ClientSends(u64),
    /// A dial comes to its end.
    Dialed(u64, ConnId),
    /// An end of a stream of the fast mode goes on.
    Fast(u64, Side, fast::Act),
    /// Something goes wrong.
    Fault,
    /// Somebody wants something of the cluster.
    Request,
    /// A host comes (back) to life.
    Start(Side),
    /// A side hears that its connection is gone.
    Told(u64, Side),
    /// An end of a tunnel goes on.
    Tunnel(u64, tunnels::Side),
    /// The Kubernetes API goes on with its answer.
    UpstreamAnswers(u64),
    /// The Kubernetes API takes a delivery.
    UpstreamReads(u64),
}

/// So many actions in a row are no work but a loop.
const BUDGET: usize = 20_000;
/// So many events in one simulation likewise.
const MAX_EVENTS: usize = 2_000_000;
/// The origin of virtual time, since the UNIX epoch.
const UNIX: Duration = Duration::from_secs(1_795_412_045);

#[derive(Debug)]
struct World {
    rng: Rng,
    now: Time,
    weather: Weather,
    manners: Manners,
    /// Nothing goes wrong any more.
    calm: bool,
    /// What stops now stays so.
    ending: bool,
    queue: BTreeMap<(Time, u64), Event>,
    scheduled: u64,
    links: BTreeMap<u64, Link>,
    next_link: u64,
    agent: AgentHost,
    controller: ControllerHost,
    exchanges: BTreeMap<u64, Exchange>,
    /// Names on the wire.
    names: BTreeMap<u64, String>,
    /// The other way round.
    numbers: BTreeMap<String, u64>,
    /// What the agent said of itself, as the controller read it.
    features: String,
    /// Streams at the agent that nobody in this world asked for; ended at once.
    aliens: Vec<StreamId>,
    next_request: u64,
    tunnels: BTreeMap<u64, Tunnel>,
    next_tunnel: u64,
    /// Those from this one on began in the calm.
    calm_tunnels: u64,
    /// Streams of the fast mode.
    fasts: BTreeMap<u64, Fast>,
    next_fast: u64,
    /// That one only a shutdown ends.
    idle_fast: Option<u64>,
    /// The session under way, as somebody hears it who taps the wire.
    tap: Option<Tap>,
    /// How many there were.
    sessions: u64,
    /// The controller names a gateway.
    gateway: bool,
    /// Connections of others with the agent's credential.
    second_agents: BTreeSet<u64>,
    /// When the agent was told last that it is not known.
    disowned: Option<Time>,
    /// A refused dial came with permission to stay away until then.
    excused_until: Time,
    tamperer: Option<Tamperer>,
    /// How long things go wrong.
    storm: Duration,
    trace: Trace,
    report: Report,
}

/// Simulates one world to its end.
///
/// # Errors
///
/// The first rule that did not hold, with what happened before.
pub fn run(setup: &Setup) -> Result<Report, Violation> {
    let outcome = simulate(setup, false);
    match outcome {
        // The same again, with somebody who writes down what happens.
        Err(_) => simulate(setup, true),
        report => report,
    }
}

fn simulate(setup: &Setup, traced: bool) -> Result<Report, Violation> {
    let mut world = World::new(setup, traced);
    let outcome = world.live();
    world.report.counts.insert("events", world.scheduled);
    let bytes = world
        .exchanges
        .values()
        .map(|e| (e.body.got + e.answer.got) as u64)
        .sum();
    world.report.counts.insert("bytes", bytes);
    let ends = world.fasts.values().flat_map(|fast| &fast.ends);
    let bytes = ends.map(|end| end.reader.got as u64).sum();
    world.report.counts.insert("fast: bytes", bytes);
    let tampered = world.tamperer.as_ref().is_some_and(|t| t.done);
    world.report.tampered = tampered;
    match outcome {
        Ok(()) => Ok(world.report),
        Err(text) => Err(Violation {
            source: setup.source.clone(),
            at: world.now,
            text,
            tampered,
            trace: world.trace.lines(),
        }),
    }
}

impl World {
    fn new(setup: &Setup, traced: bool) -> Self {
        let mut rng = match &setup.source {
            Source::Bytes(bytes) => Rng::of_bytes(bytes),
            Source::Seed(seed) => Rng::new(*seed),
        };
        // Others have no messages of the types that are tampered with.
        let manners = match setup.tamper {
            None => Manners::new(&mut rng),
            Some(_) => Manners::Ours,
        };
        let gateway = setup.weather.is_storm() && rng.chance(200);
        let mut configs = plan::configs(&mut rng, setup.weather, manners);
        if setup.tamper.is_some_and(|(tamper, _)| tamper.is_yamux()) {
            (configs.0.yamux, configs.1.yamux) = (true, true);
        }
        if gateway {
            configs.0.gateways = Vec::from(["gw.example".into()]);
        }
        let agent = AgentHost::new(&mut rng, configs.0);
        let controller = ControllerHost::new(&mut rng, configs.1);
        Self {
            manners,
            rng,
            now: Time::ZERO,
            weather: setup.weather,
            calm: false,
            ending: false,
            queue: BTreeMap::new(),
            scheduled: 0,
            links: BTreeMap::new(),
            next_link: 0,
            agent,
            controller,
            exchanges: BTreeMap::new(),
            names: BTreeMap::new(),
            numbers: BTreeMap::new(),
            features: String::new(),
            aliens: Vec::new(),
            next_request: 0,
            tunnels: BTreeMap::new(),
            next_tunnel: 0,
            calm_tunnels: u64::MAX,
            fasts: BTreeMap::new(),
            next_fast: 0,
            idle_fast: None,
            tap: None,
            sessions: 0,
            gateway,
            second_agents: BTreeSet::new(),
            disowned: None,
            excused_until: Time::ZERO,
            tamperer: setup
                .tamper
                .map(|(tamper, skip)| Tamperer::new(tamper, skip)),
            storm: setup.storm,
            trace: Trace::new(traced, setup.verbose),
            report: Report::default(),
        }
    }

    fn count(&mut self, what: &'static str) {
        self.log("", what);
        *self.report.counts.entry(what).or_default() += 1;
    }

    /// Adds something that a machine said to the hash of all that was said.
    fn note(&mut self, words: &[u64], text: &[u8]) {
        let mut hash = self.report.hash;
        let mut add =
            |word: u64| hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x51_7C_C1_B7_27_22_0A_95);
        words.iter().for_each(|word| add(*word));
        add(text.len() as u64);
        for chunk in text.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            add(u64::from_le_bytes(word));
        }
        self.report.hash = hash;
    }

    // ------------------------------------------------------------ time

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: Time, event: Event) {
        self.scheduled += 1;
        self.queue.insert((at.max(self.now), self.scheduled), event);
    }

    fn start(&mut self) -> Start {
        let nonce = (u128::from(self.rng.word()) << 64) | u128::from(self.rng.word());
        Start {
            now: self.now,
            unix: UNIX + self.now.as_duration(),
            nonce: nonce.to_be_bytes(),
        }
    }

    /// Lives on until `end`, or until `enough`.
    fn until(&mut self, end: Time, enough: impl Fn(&Self) -> bool) -> Check {
        self.settle()?;
        while !enough(self) {
            if self.scheduled as usize > MAX_EVENTS {
                return Err("the world does not come to rest".into());
            }
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let agent = self.agent.deadline();
            let controller = self.controller.deadline();
            let next = [event, agent, controller].into_iter().flatten().min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.now = end;
                return Ok(());
            };
            self.now = self.now.max(next);
            if agent.is_some_and(|at| at <= self.now) {
                self.tell_agent(Input::Tick)?;
            }
            if controller.is_some_and(|at| at <= self.now) {
                self.tell_controller(Input::Tick)?;
            }
            self.settle()?;
            if event.is_some_and(|at| at <= self.now)
                && let Some((_, event)) = self.queue.pop_first()
            {
                self.happen(event)?;
                self.settle()?;
            }
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Check {
        match event {
            Event::Arrive(link, side) => self.arrive(link, side),
            Event::Cancel(n) => self.client_cancels(n),
            Event::ClientReads(n) => self.client_reads(n),
            Event::ClientSends(n) => self.client_sends(n),
            Event::Dialed(generation, conn) => self.dialed(generation, conn),
            Event::Fast(n, side, act) => self.fast_event(n, side, act),
            Event::Fault => self.fault(),
            Event::Request => self.request_event(),
            Event::Start(side) => self.start_host(side),
            Event::Told(link, side) => self.told(link, side),
            Event::Tunnel(n, side) => self.tunnel_event(n, side),
            Event::UpstreamAnswers(n) => self.upstream_answers(n),
            Event::UpstreamReads(n) => self.upstream_reads(n),
        }
    }

    /// Does what the machines say until they have no more to say, then looks at everything.
    fn settle(&mut self) -> Check {
        for _ in 0..BUDGET {
            let agent = self.poll_agent()?;
            let controller = self.poll_controller()?;
            if agent || controller {
                continue;
            }
            let Some(alien) = self.aliens.pop() else {
                return self.look();
            };
            self.upstream_ends(alien, StreamEnd::Broken("nobody asked".into()))?;
        }
        Err("the machines do not come to rest".into())
    }

    fn tell(&mut self, side: Side, input: Input<'_>) -> Check {
        match side {
            Side::Agent => self.tell_agent(input),
            Side::Controller => self.tell_controller(input),
        }
    }

    fn start_host(&mut self, side: Side) -> Check {
        match side {
            _ if self.ending => Ok(()),
            Side::Agent => self.start_agent(),
            Side::Controller => self.start_controller(),
        }
    }
}
