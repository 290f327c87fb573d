//! What a world is made of: its weather, the configurations, and what each request's two ends
//! intend to do.

use std::time::Duration;

use controlplane_core::{AgentConfig, ControllerConfig, Limits, RequestHead, ResponseHead};

use crate::rng::Rng;

/// What goes wrong before the calm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Weather {
    /// Nothing: every request has to succeed that its own ends do not break.
    Fair,
    /// The link is sound, but somebody puts messages into it that the peer never sent.
    Hostile,
    /// The same, and no end breaks anything either: every request has to succeed.
    Still,
    /// Everything, and one thing more than the others.
    Storm(Most),
}

/// What a storm is made of most.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Most {
    /// Many requests, and an agent that takes few.
    Crowd,
    /// Nothing in particular.
    Everything,
    /// Connections that break without the controller hearing of it.
    Flaps,
    /// Clients that take their time.
    SlowClients,
    /// A Kubernetes API that takes its time.
    SlowUpstream,
}

impl Weather {
    /// The weather of a seed.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        match seed % 8 {
            0 => Self::Fair,
            1 => Self::Hostile,
            2 => Self::Storm(Most::Crowd),
            3 => Self::Storm(Most::Flaps),
            4 => Self::Storm(Most::SlowClients),
            5 => Self::Storm(Most::SlowUpstream),
            _ => Self::Storm(Most::Everything),
        }
    }

    /// Whether the link and the hosts fail too.
    #[must_use]
    pub const fn is_storm(self) -> bool {
        matches!(self, Self::Storm(_))
    }
}

/// Longest piece that an end of this world hands over at once.
pub const MAX_PIECE: usize = 6000;

/// Small bounds, so that they are reached.
fn limits(rng: &mut Rng, weather: Weather) -> Limits {
    let roomy = !weather.is_storm();
    let recv_stream = if roomy {
        1 << 20
    } else {
        rng.len(16_000, 64_000)
    };
    Limits {
        frame: if roomy { 4 << 20 } else { 256 << 10 },
        streams: if roomy { 256 } else { rng.len(6, 40) },
        recv_stream,
        recv_total: if roomy {
            64 << 20
        } else {
            rng.len(recv_stream, recv_stream * 2)
        },
        send_stream: rng.len(8_000, 32_000),
        send_total: if roomy {
            64 << 20
        } else {
            rng.len(32_000, 100_000)
        },
        control: 16,
        chunk: rng.len(500, 4000),
        buffered: if roomy { 1 << 20 } else { 32_000 },
        buffered_total: if roomy { 64 << 20 } else { 36_000 },
        head: 4096,
        ..Limits::agent()
    }
}

/// The agent's configuration in this world.
pub fn agent(rng: &mut Rng, weather: Weather) -> AgentConfig {
    let mut config = AgentConfig::new("agent-1", "world");
    config.limits = limits(rng, weather);
    if weather == Weather::Storm(Most::Crowd) {
        config.limits.streams = 6;
    }
    config.policy = controlplane_core::rules::IdentityPolicy::Impersonate;
    config
}

/// The controller's. Where there is room for everything, only the window makes answers wait.
pub fn controller(rng: &mut Rng, weather: Weather, foreign: bool) -> ControllerConfig {
    let mut config = ControllerConfig::new("cluster-1", "world");
    config.limits = limits(rng, weather);
    if !weather.is_storm() && !foreign {
        config.limits.recv_stream = rng.len(4000, 40_000);
    }
    config
}

/// What one request is and how its ends behave.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The request as the controller is asked for it.
    pub head: RequestHead,
    /// Length of its body, if it has one.
    pub body: Option<usize>,
    /// Where the client breaks its body off.
    pub body_breaks: Option<usize>,
    /// When the client gives up.
    pub cancel: Option<Duration>,
    /// Between two steps of the client.
    pub client_pace: (u64, u64),
    /// Between two steps of the Kubernetes API.
    pub upstream_pace: (u64, u64),
    /// How much of the body the Kubernetes API waits for.
    pub answer_after: usize,
    /// What it answers, if it answers.
    pub answer: Option<ResponseHead>,
    /// Length of the answer's body.
    pub length: usize,
    /// Where the answer breaks off.
    pub answer_breaks: Option<usize>,
    /// The answer does not go on before the calm.
    pub hangs: bool,
    /// Longest piece either end hands over at once.
    pub piece: usize,
}

impl Plan {
    /// What request `n` does in this weather.
    pub fn new(rng: &mut Rng, n: u64, weather: Weather) -> Self {
        let size = |rng: &mut Rng| match rng.below(10) {
            0 => 0,
            1..=6 => rng.len(1, 3000),
            7 | 8 => rng.len(3000, 20_000),
            _ => rng.len(20_000, 90_000),
        };
        let body = rng.chance(500).then(|| size(rng));
        let length = size(rng);
        let slow = |rng: &mut Rng, most: Most| match rng.below(20) {
            2..=9 if weather == Weather::Storm(most) => (2000, 60_000),
            0 if weather.is_storm() => (2000, 60_000),
            1 if weather.is_storm() => (500, 4000),
            2..=9 => (1, 400),
            _ => (0, 10),
        };
        let breaks = |rng: &mut Rng, len: usize| rng.chance(60).then(|| rng.len(0, len));
        let mut plan = Self {
            head: request(rng, n),
            body,
            body_breaks: body.and_then(|len| breaks(rng, len)),
            cancel: rng.chance(80).then(|| rng.millis(0, 20_000)),
            client_pace: slow(rng, Most::SlowClients),
            upstream_pace: slow(rng, Most::SlowUpstream),
            answer_after: match rng.below(4) {
                0 => 0,
                1 => rng.len(0, 5000),
                _ => usize::MAX,
            },
            answer: (!rng.chance(40)).then(|| response(rng)),
            length,
            answer_breaks: breaks(rng, length),
            hangs: rng.chance(50),
            piece: rng.len(200, MAX_PIECE),
        };
        if body.is_none() {
            plan.head.method = "GET".into();
        }
        if weather == Weather::Still {
            plan = plan.sound(rng);
        }
        plan
    }

    /// The same without anything that could make the request fail, however large it is.
    fn sound(mut self, rng: &mut Rng) -> Self {
        self.body_breaks = None;
        self.cancel = None;
        self.answer_after = usize::MAX;
        self.answer = Some(response(rng));
        self.answer_breaks = None;
        self.hangs = false;
        self
    }

    /// The same without anything that could make the request fail, or last.
    #[must_use]
    pub fn calm(mut self, rng: &mut Rng) -> Self {
        self.body = self.body.map(|len| len.min(3000));
        self.length = self.length.min(3000);
        self.piece = MAX_PIECE;
        self.client_pace = (0, 10);
        self.upstream_pace = (0, 10);
        self.sound(rng)
    }
}

/// Headers that pass both ways unchanged, sorted as the wire sorts them.
fn headers(rng: &mut Rng) -> Vec<(String, String)> {
    let count = rng.below(3);
    let header = |i: u64| {
        let value = format!("värde \"{i}\" \\ {:x}", rng.next());
        (format!("X-World-{i}"), value)
    };
    (0..count).map(header).collect()
}

fn request(rng: &mut Rng, n: u64) -> RequestHead {
    let methods = ["POST", "PUT", "PATCH", "DELETE"];
    RequestHead {
        method: methods[rng.below(4) as usize].into(),
        path: format!("/api/r{n}"),
        query: rng.chance(500).then(|| format!("q={:x}&a%2Fb", rng.next())),
        headers: headers(rng),
    }
}

fn response(rng: &mut Rng) -> ResponseHead {
    let status = [200, 201, 204, 301, 404, 500, 599];
    ResponseHead {
        status: status[rng.below(7) as usize],
        headers: headers(rng),
    }
}
