//! End-to-end tests, in one binary because linking dominates.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod bench;
mod demo;
mod docs;
mod edges;
mod hub;
mod kube_crate;
mod kubectl;
mod tunnel;
mod upstream;
