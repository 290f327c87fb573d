//! End-to-end tests, in one binary because linking dominates.

mod bench;
mod demo;
mod docs;
mod hub;
mod kube_crate;
mod kubectl;
mod tunnel;
mod upstream;
