//! A world in virtual time: one agent's machine and one controller's, a link between them that
//! the weather plays with, clients and a Kubernetes API that behave as their plans say, and an
//! oracle that looks at everything after every step.
//!
//! Every decision is read from a row of bytes: those of a fuzzer, or such as are made from a seed. A
//! failure shows what happened last, and names all that is needed to see it again:
//! `WORLD_SEED=n cargo test -p controlplane-world --test world every_invariant`, or `WORLD_FILE` for
//! bytes.

pub mod content;
pub mod exchange;
pub mod fast;
pub mod fuzz;
pub mod link;
pub mod message;
pub mod mux;
pub mod plan;
pub mod rng;
pub mod tamper;
pub mod tunnel;
pub mod vectors;
pub mod world;

pub use tamper::Tamper;
pub use world::{Report, Setup, Violation, run};
