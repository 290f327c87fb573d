//! What a world is made of: its weather, the configurations, and what each request's two ends
//! intend to do.

mod limits;
mod script;

use std::time::Duration;

use controlplane_core::{RequestHead, ResponseHead};

pub use self::{
    limits::{MAX_PIECE, configs},
    script::{Choice, Dial, Ending, Script, Voice},
};
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

/// What the agent says of itself when it registers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Manners {
    /// It takes and gives whole bodies only, and keeps no window toward the controller.
    Buffering,
    /// It opens no WebSocket streams either, nor answers upgrades.
    Deaf,
    /// Nothing, as the first agents did.
    Foreign,
    /// What our agent says.
    Ours,
}

impl Manners {
    /// Those of a world.
    pub fn new(rng: &mut Rng) -> Self {
        match rng.below(100) {
            0..=9 => Self::Foreign,
            10..=15 => Self::Buffering,
            16..=18 => Self::Deaf,
            _ => Self::Ours,
        }
    }

    /// Whether bodies travel in one message.
    #[must_use]
    pub const fn are_whole(self) -> bool {
        !matches!(self, Self::Ours)
    }

    /// Whether the agent tells how the Kubernetes API answered an upgrade.
    #[must_use]
    pub const fn answer_upgrades(self) -> bool {
        matches!(self, Self::Buffering | Self::Ours)
    }

    /// Whether no more comes of a body, or of what a client says on a `stream`, than is granted.
    #[must_use]
    pub const fn keep_window(self, stream: bool) -> bool {
        matches!(self, Self::Ours) || (stream && self.answer_upgrades())
    }
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
    /// It asks for a WebSocket stream; unless that is refused, what is said here of bodies means
    /// nothing.
    pub script: Option<Script>,
}

impl Plan {
    /// What request `n` does in this weather; `streams` of a thousand ask for a WebSocket.
    pub fn new(rng: &mut Rng, n: u64, weather: Weather, streams: u64) -> Self {
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
            script: None,
        };
        if rng.chance(streams) {
            plan.talk(rng, weather);
        }
        if plan.body.is_none() {
            plan.head.method = "GET".into();
        }
        if weather == Weather::Still {
            plan = plan.sound(rng);
        }
        plan
    }

    /// Makes it a request for a stream.
    fn talk(&mut self, rng: &mut Rng, weather: Weather) {
        self.body = None;
        self.body_breaks = None;
        self.head.path = format!("{}/{}", self.head.path, script::path(rng));
        let script = Script::new(rng, weather);
        match script.dial {
            Dial::Silent => self.cancel = Some(rng.millis(0, 40_000)),
            Dial::Refuses if rng.chance(300) => self.cancel = Some(rng.millis(0, 40_000)),
            _ => {}
        }
        // A refusal needs an answer.
        self.answer = Some(response(rng));
        self.answer_after = 0;
        if script.sated.is_some() {
            // Faster than the link, so that more waits than is granted.
            self.client_pace = (0, 1);
        }
        self.script = Some(script);
    }

    /// The same without anything that could make the request fail, however large it is.
    fn sound(mut self, rng: &mut Rng) -> Self {
        self.body_breaks = None;
        self.cancel = None;
        self.answer_after = usize::MAX;
        self.answer = Some(response(rng));
        self.answer_breaks = None;
        self.hangs = false;
        // Whole answers have a limit of time.
        self.piece = self.piece.max(1000);
        self.script = self.script.map(|script| script.sound(rng));
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
        self.script = self.script.map(Script::short);
        self.sound(rng)
    }
}

/// Headers that pass both ways unchanged, sorted as the wire sorts them.
fn headers(rng: &mut Rng) -> Vec<(String, String)> {
    let count = rng.below(3);
    let header = |i: u64| {
        let value = format!("värde \"{i}\" \\ {:x}", rng.word());
        (format!("X-World-{i}"), value)
    };
    (0..count).map(header).collect()
}

fn request(rng: &mut Rng, n: u64) -> RequestHead {
    let methods = ["POST", "PUT", "PATCH", "DELETE"];
    RequestHead {
        method: methods[rng.below(4) as usize].into(),
        path: format!("/api/r{n}"),
        query: rng.chance(500).then(|| format!("q={:x}&a%2Fb", rng.word())),
        headers: headers(rng),
    }
}

fn response(rng: &mut Rng) -> ResponseHead {
    let status = [200, 201, 204, 301, 404, 500, 599];
    let status = status[rng.below(7) as usize];
    let mut headers = headers(rng);
    if rng.chance(500) {
        // Such as the original's agents compress.
        let pair = ("Content-Type".into(), "text/plain; charset=utf-8".into());
        headers.insert(0, pair);
    }
    ResponseHead { status, headers }
}
