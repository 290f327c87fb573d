//! The conformance suite: plays the protocol's vectors, and whole life cycles, against an agent or a
//! controller that it reaches over TLS only. The subject may be this project's on either runtime, or
//! anybody's in any language.

pub mod agent;
pub mod controller;
pub mod link;
pub mod report;
mod socket;
pub mod vectors;

use std::time::Duration;

/// How to play.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only what has this in its title, its file's name or its statements.
    pub only: Option<String>,
    /// Longest time that a conversation may let pass where its time is real; what needs more is not
    /// applicable.
    pub longest: Duration,
    /// How long the subject may take for what is expected next.
    pub patience: Duration,
    /// How many conversations are played at once.
    pub jobs: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            only: None,
            longest: Duration::from_secs(5),
            patience: Duration::from_secs(10),
            jobs: 4,
        }
    }
}
