//! The conformance suite, played against this project's own programs and against broken ones.

mod agent;
mod blocking;
mod flawed;
mod program;
