//! The simulation, what proves that its oracle sees, the properties and the table of them, the
//! vectors, and the replay of the fuzzers' corpus.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test reports, and its panic is the message"
)]

mod conformance;
mod corpus;
mod mux;
mod oracle;
mod properties;
mod reconnect;
mod seeds;
mod simulation;
mod table;
mod vectors;
