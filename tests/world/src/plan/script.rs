//! What the two ends of a WebSocket stream intend to do.

use controlplane_core::{StreamClose, StreamEnd};

use super::{Most, Weather};
use crate::rng::Rng;

/// What a stream is, beside the request that asks for it.
#[derive(Clone, Debug)]
pub struct Script {
    /// Subprotocols that the client offers.
    pub offered: Vec<String>,
    /// How the Kubernetes API answers the upgrade.
    pub dial: Dial,
    /// What the client says.
    pub client: Voice,
    /// What the Kubernetes API says.
    pub upstream: Voice,
    /// How the client ends it, unless it waits for the other end to do so.
    pub client_end: Option<StreamEnd>,
    /// How the Kubernetes API ends it.
    pub upstream_end: Ending,
    /// Who ends it has heard all that the other intends to say.
    pub patient: bool,
    /// A client that ends it does so as soon as it would have to wait for room.
    pub hasty: bool,
    /// So many messages after which the Kubernetes API takes no more before the calm.
    pub sated: Option<usize>,
    /// The Kubernetes API does not answer a close.
    pub deaf: bool,
}

/// How the Kubernetes API answers the upgrade.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dial {
    /// With 101.
    Accepts(Choice),
    /// Not: it cannot be reached.
    Breaks,
    /// With an answer as to any request.
    Refuses,
    /// Not at all.
    Silent,
}

/// Which subprotocol it chooses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Choice {
    /// None.
    Nothing,
    /// One of those that are offered.
    One(u64),
    /// One that nobody offered.
    Unasked,
}

/// What one end says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Voice {
    /// So many messages.
    pub messages: usize,
    /// This one is longer than is permitted.
    pub too_long: Option<usize>,
}

/// How the Kubernetes API ends a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ending {
    /// Not at all.
    Never,
    /// Without a word about a result.
    Plain(StreamEnd),
    /// With the result of the command, where the subprotocol has one, and code 1000.
    Result,
    /// The same, but not before the calm: the client is to end it.
    Waits,
}

/// Subprotocols as clients offer them.
const OFFERS: [&[&str]; 12] = [
    &["v5.channel.k8s.io", "v4.channel.k8s.io"],
    &["v5.channel.k8s.io", "v4.channel.k8s.io"],
    &["v5.channel.k8s.io"],
    &["v5.channel.k8s.io"],
    &["v4.channel.k8s.io", "v3.channel.k8s.io", "channel.k8s.io"],
    &["v4.channel.k8s.io", "channel.k8s.io"],
    &["v4.base64.channel.k8s.io", "base64.channel.k8s.io"],
    &["v4.base64.channel.k8s.io", "v4.channel.k8s.io"],
    &["v3.channel.k8s.io"],
    &["base64.channel.k8s.io"],
    &["chat.example"],
    &[],
];

/// What stands behind the number in the path of a request for a stream.
const PATHS: [&str; 8] = [
    "exec",
    "exec",
    "exec",
    "exec",
    "attach",
    "attach",
    "log",
    "portforward",
];

impl Script {
    /// What a stream does in this weather.
    pub(super) fn new(rng: &mut Rng, weather: Weather) -> Self {
        let offers = OFFERS[rng.below(OFFERS.len() as u64) as usize];
        let mut script = Self {
            offered: offers.iter().map(ToString::to_string).collect(),
            dial: dial(rng),
            client: Voice::new(rng, weather),
            upstream: Voice::new(rng, weather),
            client_end: rng.chance(350).then(|| client_end(rng)),
            upstream_end: ending(rng),
            patient: rng.chance(500),
            hasty: rng.chance(700),
            sated: rng.chance(70).then(|| rng.len(0, 10)),
            deaf: rng.chance(100),
        };
        if script.sated.is_some() {
            script.client.messages = rng.len(60, 150);
            script.client_end.get_or_insert_with(|| client_end(rng));
        }
        if weather == Weather::Still {
            return script.sound(rng);
        }
        script
    }

    /// The same without anything that could make the stream fail: one end closes it, when it has
    /// heard everything.
    pub(super) fn sound(mut self, rng: &mut Rng) -> Self {
        self.dial = Dial::Accepts(Choice::One(rng.word()));
        self.client.too_long = None;
        self.upstream.too_long = None;
        // By its first word the client of another agent learns that it is open.
        self.upstream.messages = self.upstream.messages.max(1);
        self.patient = true;
        self.sated = None;
        self.hasty = false;
        self.deaf = false;
        let by_client = rng.chance(400);
        self.client_end = by_client.then(|| client_end(rng));
        self.upstream_end = if by_client {
            Ending::Waits
        } else {
            Ending::Result
        };
        self
    }

    /// The same with few words.
    pub(super) fn short(mut self) -> Self {
        self.client.messages = self.client.messages.min(5);
        self.upstream.messages = self.upstream.messages.min(5);
        self
    }

    /// The same with two ends that wait for each other.
    #[must_use]
    pub fn idle(mut self) -> Self {
        self.client.messages = 0;
        self.upstream.messages = 2;
        self.client_end = None;
        self.upstream_end = Ending::Never;
        self
    }
}

impl Voice {
    fn new(rng: &mut Rng, weather: Weather) -> Self {
        // Where the listener is slow, there is more to wait for.
        let slow = [Most::SlowClients, Most::SlowUpstream];
        let long = slow.iter().any(|most| weather == Weather::Storm(*most));
        let messages = match rng.below(20) {
            _ if long && rng.chance(300) => rng.len(60, 150),
            0 => 0,
            1..=12 => rng.len(1, 8),
            13..=17 => rng.len(8, 40),
            _ => rng.len(60, 150),
        };
        Self {
            messages,
            too_long: rng.chance(30).then(|| rng.len(0, messages)),
        }
    }
}

/// What stands behind the number in the path.
pub(super) fn path(rng: &mut Rng) -> &'static str {
    PATHS[rng.below(PATHS.len() as u64) as usize]
}

fn dial(rng: &mut Rng) -> Dial {
    match rng.below(100) {
        0..=5 => Dial::Breaks,
        6..=13 => Dial::Refuses,
        14..=19 => Dial::Silent,
        20 | 21 => Dial::Accepts(Choice::Unasked),
        22..=25 => Dial::Accepts(Choice::Nothing),
        _ => Dial::Accepts(Choice::One(rng.word())),
    }
}

/// Codes with which either end closes; those of [`StreamClose::NO_CODE`] have none.
fn close(rng: &mut Rng) -> StreamClose {
    let codes = [1000, 1000, 1001, 1005, 1008, 1011, 3000, 4999];
    let code = codes[rng.below(8) as usize];
    let reason = if rng.chance(500) { "so it is" } else { "" };
    StreamClose::new(code, reason)
}

fn client_end(rng: &mut Rng) -> StreamEnd {
    match rng.below(4) {
        0 => StreamEnd::Broken("the browser is gone".into()),
        1 => StreamEnd::Clean,
        _ => StreamEnd::Closed(close(rng)),
    }
}

fn ending(rng: &mut Rng) -> Ending {
    match rng.below(20) {
        0 | 1 => Ending::Plain(StreamEnd::Broken("connection reset".into())),
        2 => Ending::Plain(StreamEnd::Clean),
        3..=5 => Ending::Plain(StreamEnd::Closed(close(rng))),
        6..=9 => Ending::Waits,
        _ => Ending::Result,
    }
}
