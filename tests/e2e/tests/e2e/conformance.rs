//! The conformance suite, played against this project's own programs and against broken ones.

mod agent;
mod flawed;
mod program;
