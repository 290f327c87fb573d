//! A world in virtual time: one agent's machine and one controller's, a link between them that
//! the weather plays with, clients and a Kubernetes API that behave as their plans say, and an
//! oracle that looks at everything after every step.
//!
//! Every decision comes from one seed, so that a failure names all that is needed to see it
//! again: `WORLD_SEED=n cargo test -p controlplane-world`.

pub mod content;
pub mod exchange;
pub mod fuzz;
pub mod link;
pub mod message;
pub mod plan;
pub mod rng;
pub mod tamper;
pub mod vectors;
pub mod world;

pub use tamper::Tamper;
pub use world::{Report, Setup, Violation, run};
