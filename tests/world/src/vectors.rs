//! The protocol's test vectors: their format, and how what was seen is compared with what they
//! expect. `vectors/README.md` describes both for players in any language.

pub mod data;
pub mod facts;
pub mod load;
pub mod matching;
pub mod step;
pub mod wire;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

pub use self::{data::Data, step::Step};

/// One line of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// What it shows.
    pub title: String,
    /// Statements of the specification.
    pub p: Vec<String>,
    /// What is tested.
    pub role: Role,
    /// Whose messages the tester's are; always there for a conversation.
    pub era: Option<Era>,
    /// Why it is as it is, above all where the original behaves otherwise.
    pub note: Option<String>,
    /// Where the conversation begins.
    #[serde(default)]
    pub start: Beginning,
    /// How the subject is set up.
    #[serde(default)]
    pub config: Config,
    /// The conversation.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Inputs and outputs of a pure function.
    #[serde(default)]
    pub cases: Vec<Case>,
}

/// What is tested.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The agent; the tester is its controller and its Kubernetes API.
    Agent,
    /// The controller; the tester is its agent and its client.
    Controller,
    /// Delays between attempts to connect.
    Backoff,
    /// Reading base64.
    Base64,
    /// Reading an answer in a binary frame.
    BinaryFrame,
    /// Headers that a controller passes on for a client.
    ClientHeaders,
    /// Reading durations.
    Duration,
    /// Methods that an agent relays.
    Method,
    /// Paths that an agent relays.
    Path,
    /// Queries that an agent relays.
    Query,
    /// Headers that reach the Kubernetes API.
    RequestHeaders,
    /// Headers that come back from it.
    ResponseHeaders,
    /// Reading timestamps.
    Timestamp,
    /// Writing timestamps.
    TimestampWritten,
}

impl Role {
    /// Whether it is tested in a conversation.
    #[must_use]
    pub const fn converses(self) -> bool {
        matches!(self, Self::Agent | Self::Controller)
    }
}

/// Whose messages the tester speaks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "kebab-case")]
pub enum Era {
    /// The original's of 2025-11: no timestamps, no features, no streams of answers.
    Seed,
    /// The original's of 2026-02.
    Later,
    /// This project's.
    Ours,
}

/// Where a conversation begins.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Beginning {
    /// The agent is registered.
    #[default]
    Registered,
    /// The WebSocket stands, nothing was said yet.
    Connected,
}

/// How the subject is set up, where it is not by its defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct Config {
    /// Agent: long answers go as binary frames.
    pub binary_answers: bool,
    /// Agent: the link is encrypted, as far as the subject knows.
    pub encrypted: bool,
    /// Agent: it does without the fast mode.
    pub no_yamux: bool,
    /// Agent: hosts of gateways that it follows.
    pub gateways: Vec<String>,
    /// Agent: its identity policy.
    pub identity: Option<String>,
    /// Agent: what it tells of itself beside its id and name.
    pub info: BTreeMap<String, Value>,
    /// Agent: channels become text.
    pub terminal_translation: bool,
    /// Agent: where tunnels may lead.
    pub tunnels: Vec<String>,
}

/// Input and output of a pure function.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Input.
    #[serde(rename = "in")]
    pub input: Value,
    /// Output, unless it is refused.
    pub out: Option<Value>,
    /// The input is refused or ignored, whichever the role says.
    #[serde(default)]
    pub refused: bool,
}
