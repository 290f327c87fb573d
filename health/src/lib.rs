//! Health checks and metrics of both programs: a small server for `/livez`, `/readyz` and
//! `/metrics`, and the page of metrics, in OpenMetrics text.
//!
//! What is counted is the core's and the driver's; here it gets its names. Labels are bounded: their
//! values are those of enums, or names of the configuration.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "in a test a panic is the message")
)]

mod certificate;
mod machine;
mod page;
mod server;

pub use self::{
    certificate::{not_after, not_after_pem},
    machine::{Role, machines},
    page::{Labels, Page},
    server::{Health, Server},
};
