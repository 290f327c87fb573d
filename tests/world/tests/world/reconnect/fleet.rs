//! Ten thousand agents that lose their controller at the same moment.
//!
//! Every agent is a real machine; the network and the controller are a queue of events in virtual
//! time. The agents were registered for longer than [`Backoff::stable`] when the outage begins, and
//! each loses its connection in the same instant, which is the worst that jitter has to undo.
//!
//! *Success* is the moment at which an agent is registered. The *mean* is the fleet divided by the
//! time from the first success to the last; the *peak* is the most successes in any second,
//! wherever it begins. [`Backoff::stable`]: controlplane_core::Backoff::stable

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use controlplane_core::{
    Action, Agent, AgentConfig, ConnId, Down, Frame, Input, Machine as _, OutFrame, Socket, Start,
    Time,
};
use controlplane_world::{
    message::{field, message},
    rng::{Rng, mix},
};

const AGENTS: usize = 10_000;
/// Longest delay without `Retry-After`, and what dial and registration take at most here.
const CAP: Duration = Duration::from_secs(60);
const HANDSHAKE: Duration = Duration::from_millis(500);

/// What a dial meets while the controller is away.
#[derive(Clone, Copy, Debug)]
enum Away {
    /// It is refused at once.
    Refused,
    /// It is not answered.
    Silent,
}

struct Fleet {
    agents: Vec<Agent>,
    now: Time,
    rng: Rng,
    /// What happens to which agent: its dial is answered, or its deadline has come.
    events: BTreeMap<(Time, u64), (usize, Option<ConnId>)>,
    numbered: u64,
    away: Away,
    back: Time,
    bucket: Option<Bucket>,
    successes: Vec<Time>,
    refused: usize,
}

/// As the controller's own: `rate` a second, up to a quarter of that at once.
struct Bucket {
    rate: f64,
    most: f64,
    level: f64,
    at: Time,
}

impl Bucket {
    fn take(&mut self, now: Time) -> bool {
        let passed = (now - self.at).as_secs_f64();
        self.level = (self.level + passed * self.rate).min(self.most);
        self.at = now;
        let admitted = self.level >= 1.0;
        if admitted {
            self.level -= 1.0;
        }
        admitted
    }
}

impl Fleet {
    /// All registered for long, and cut off at once.
    fn new(seed: u64, outage: Duration, away: Away, limit: Option<u32>) -> Self {
        let mut fleet = Self {
            agents: Vec::new(),
            now: Time::ZERO,
            rng: Rng::new(seed),
            events: BTreeMap::new(),
            numbered: 0,
            away,
            back: Time::ZERO,
            bucket: None,
            successes: Vec::new(),
            refused: 0,
        };
        let config = AgentConfig::new("agent", "prod");
        for n in 0..AGENTS as u64 {
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&mix(seed ^ mix(n)).to_be_bytes());
            let start = Start {
                now: Time::ZERO,
                unix: Duration::from_secs(1_795_412_045),
                nonce,
            };
            fleet
                .agents
                .push(Agent::new(config.clone(), start).unwrap());
        }
        for n in 0..AGENTS {
            let conn = fleet.dialled(n).unwrap();
            fleet.shake_hands(n, conn);
        }
        // Longer than a link has to be good, in steps that keep it alive.
        for seconds in [25, 50, 75] {
            fleet.now = Time::since_origin(Duration::from_secs(seconds));
            for n in 0..AGENTS {
                let conn = fleet.agents[n].phase().open().unwrap();
                fleet.agents[n].handle(fleet.now, Input::Alive(conn));
                fleet.drain(n);
            }
        }
        fleet.successes.clear();
        fleet.back = fleet.now + outage;
        fleet.bucket = limit.map(|rate| {
            let rate = f64::from(rate);
            let most = (rate / 4.0).max(2.0).min(rate);
            Bucket {
                rate,
                most,
                level: most,
                at: fleet.back,
            }
        });
        for n in 0..AGENTS {
            let conn = fleet.agents[n].phase().open().unwrap();
            fleet.down(n, conn, Down::Lost("the controller is gone".into()));
        }
        fleet
    }

    fn run(mut self) -> Figures {
        while let Some((at, (n, answered))) = self.events.pop_first() {
            self.now = at.0;
            match answered {
                Some(conn) => self.answers(n, conn),
                None => self.wakes(n),
            }
        }
        Figures::of(&self)
    }

    fn event(&mut self, at: Time, n: usize, answered: Option<ConnId>) {
        self.numbered += 1;
        self.events.insert((at, self.numbered), (n, answered));
    }

    /// Does what the agent says; a dial that it begins.
    fn drain(&mut self, n: usize) -> Option<ConnId> {
        let mut dialled = None;
        loop {
            let ready = self.agents[n].phase().open();
            let socket = ready.map_or(Socket::Blocked, Socket::Ready);
            match self.agents[n].poll(socket) {
                None => return dialled,
                Some(Action::Connect(conn, _)) => dialled = Some(conn),
                Some(Action::Registered(_)) => self.successes.push(self.now),
                Some(Action::Send(_, OutFrame::Text(text))) if text.contains("\"register\"") => {
                    let id = field(&text, "request_id").unwrap_or_default();
                    let success = message("register_success", id, r#"{"cluster_id":"c"}"#);
                    if let Some(conn) = ready {
                        let frame = Input::Frame(conn, Frame::Text(&success));
                        self.agents[n].handle(self.now, frame);
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn dialled(&mut self, n: usize) -> Option<ConnId> {
        self.drain(n)
    }

    fn down(&mut self, n: usize, conn: ConnId, down: Down) {
        self.agents[n].handle(self.now, Input::Disconnected(conn, down));
        self.goes_on(n);
    }

    /// A deadline of an agent that waits for its dial, or to dial.
    fn wakes(&mut self, n: usize) {
        if self.agents[n].deadline().is_some_and(|at| at <= self.now) {
            self.agents[n].handle(self.now, Input::Tick);
            self.goes_on(n);
        }
    }

    /// Arranges for what comes next; an agent that is registered is left alone.
    fn goes_on(&mut self, n: usize) {
        let dialled = self.drain(n);
        if self.agents[n].phase().open().is_some() {
            return;
        }
        if let Some(conn) = dialled {
            let silent = matches!(self.away, Away::Silent) && self.now < self.back;
            if !silent {
                let trip = self.rng.millis(20, 200);
                self.event(self.now + trip, n, Some(conn));
            }
        }
        if let Some(at) = self.agents[n].deadline() {
            self.event(at, n, None);
        }
    }

    fn answers(&mut self, n: usize, conn: ConnId) {
        if self.agents[n].phase().conn() != Some(conn) {
            return;
        }
        if self.now < self.back {
            return self.down(n, conn, Down::Lost("connection refused".into()));
        }
        if !self
            .bucket
            .as_mut()
            .is_none_or(|bucket| bucket.take(self.now))
        {
            self.refused += 1;
            // As the controller spreads them.
            let retry_after = Some(Duration::from_secs(self.rng.within(1, 5)));
            let status = 503;
            return self.down(
                n,
                conn,
                Down::Refused {
                    status,
                    retry_after,
                },
            );
        }
        self.shake_hands(n, conn);
    }

    fn shake_hands(&mut self, n: usize, conn: ConnId) {
        self.agents[n].handle(self.now, Input::Connected(conn));
        self.drain(n);
    }
}

#[derive(Debug)]
#[allow(dead_code, reason = "printed when a test fails")]
struct Figures {
    registered: usize,
    /// After the controller was back.
    first: Duration,
    last: Duration,
    mean: f64,
    peak: usize,
    ratio: f64,
    refused: usize,
}

impl Figures {
    fn of(fleet: &Fleet) -> Self {
        let mut window = VecDeque::new();
        let mut peak = 0;
        for at in &fleet.successes {
            window.push_back(*at);
            while window
                .front()
                .is_some_and(|first| *at - *first >= Duration::from_secs(1))
            {
                window.pop_front();
            }
            peak = peak.max(window.len());
        }
        let since = |at: Option<&Time>| at.map_or(Duration::MAX, |at| *at - fleet.back);
        let (first, last) = (
            since(fleet.successes.first()),
            since(fleet.successes.last()),
        );
        let registered = fleet.successes.len();
        let mean = registered as f64 / (last - first).as_secs_f64();
        Self {
            registered,
            first,
            last,
            mean,
            peak,
            ratio: peak as f64 / mean,
            refused: fleet.refused,
        }
    }
}

/// Peak below three times the mean, and all registered in time.
#[track_caller]
fn comes_back(outage: u64, away: Away, limit: Option<u32>) {
    let outage = Duration::from_secs(outage);
    let figures = Fleet::new(1, outage, away, limit).run();
    let bound = bound(away, limit);
    let fine = figures.ratio < 3.0 && figures.registered == AGENTS && figures.last <= bound;
    let case = format!("{outage:?}, {away:?}, {limit:?} a second");
    assert!(
        fine,
        "{case}: all by {bound:?} and below 3 wanted, got {figures:#?}"
    );
}

/// When all have to be registered, from the end of the outage on.
///
/// Every agent dials within the longest delay, or is hanging in a dial and does after that. Where so
/// many are admitted a second, every agent that is left tries once in each such round of 60 s, and
/// jitter spreads these over half of it at least: so 30 s worth of admissions are used in each round,
/// and the last one takes in the rest.
fn bound(away: Away, limit: Option<u32>) -> Duration {
    let hanging = match away {
        Away::Refused => Duration::ZERO,
        Away::Silent => Duration::from_secs(30),
    };
    let rounds = limit.map_or(0, |limit| (AGENTS as u32).div_ceil(limit * 30));
    hanging + (CAP + HANDSHAKE) * (rounds + 1)
}

#[test]
fn after_a_minute_jitter_alone_spreads_the_fleet() {
    comes_back(60, Away::Refused, None);
}

#[test]
fn after_ten_minutes_jitter_alone_spreads_the_fleet() {
    comes_back(600, Away::Refused, None);
    comes_back(600, Away::Silent, None);
}

/// 100 is what the controller admits by default. Half of that makes the fleet wait longer than its
/// own delays do, twice as much hardly limits it.
#[test]
fn after_a_minute_a_controller_that_admits_few_gets_them_evenly() {
    for limit in [50, 100, 200] {
        comes_back(60, Away::Refused, Some(limit));
    }
}

#[test]
fn after_ten_minutes_a_controller_that_admits_few_gets_them_evenly() {
    for limit in [50, 100, 200] {
        comes_back(600, Away::Refused, Some(limit));
        comes_back(600, Away::Silent, Some(limit));
    }
}

/// Dials that hang end together, a dial's time limit after they began together: then it is the
/// controller's limit that spreads the fleet, with what it says of when to come again.
#[test]
fn after_a_minute_of_silence_a_controller_that_admits_few_gets_them_evenly() {
    for limit in [50, 100, 200] {
        comes_back(60, Away::Silent, Some(limit));
    }
}
