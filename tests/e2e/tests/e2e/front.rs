//! The agent's front end for HTTP/1.1 over a pipe in memory, with a client that plays byte by byte:
//! what reaches a handler, and what becomes of its answer.

mod bodies;
mod client;
mod ends;
mod rules;
mod upgrades;
mod upstream;
