//! What to simulate.

use std::time::Duration;

use crate::{plan::Weather, tamper::Tamper};

/// What decides everything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// Bytes, as a fuzzer gives them.
    Bytes(Vec<u8>),
    /// Bytes that are made from this.
    Seed(u64),
}

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Decides everything.
    pub source: Source,
    /// What goes wrong.
    pub weather: Weather,
    /// For how long, before the calm.
    pub storm: Duration,
    /// A link that breaks its promises, and how many messages it lets pass before.
    pub tamper: Option<(Tamper, u64)>,
    /// Tells on standard error what the machines do.
    pub verbose: bool,
}

impl Setup {
    /// The world of a seed: ten minutes, and what it takes to end in order.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        Self {
            source: Source::Seed(seed),
            weather: Weather::of(seed),
            storm: Duration::from_secs(600),
            tamper: None,
            verbose: false,
        }
    }

    /// The world of some bytes. It is shorter, so that a fuzzer sees more of them.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let (weather, rest) = bytes.split_first().unwrap_or((&0, &[]));
        Self {
            source: Source::Bytes(rest.into()),
            weather: Weather::of((*weather).into()),
            storm: Duration::from_secs(60),
            tamper: None,
            verbose: false,
        }
    }
}
