//! The simulation, what proves that its oracle sees, the properties, and the replay of the
//! fuzzers' corpus.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod corpus;
mod oracle;
mod properties;
mod reconnect;
mod seeds;
mod simulation;
