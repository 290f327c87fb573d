//! The controller over real sockets: an agent that speaks the protocol by hand on one side,
//! HTTP clients on the other; and the program as a process.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod agents;
mod audit;
mod fast;
mod health;
mod limits;
mod program;
mod refusals;
mod requests;
mod socket;
mod spdy;
mod stream_limits;
mod streams;
mod upgrade_rules;
mod upgrades;
mod world;
