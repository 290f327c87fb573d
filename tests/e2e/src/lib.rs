//! What the demo and the end-to-end tests are made of. Nothing here is shipped to a user.

pub mod client;
pub mod conformance;
pub mod metrics;
pub mod standin;
pub mod tour;
pub mod world;
pub mod wrapping;
