//! End-to-end tests, in one binary because linking dominates.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod adapters;
mod bench;
mod blocking;
mod cable;
mod configured;
mod conformance;
mod conformance_controller;
mod demo;
mod docs;
mod edges;
mod foreign;
mod front;
mod gateway;
mod hub;
mod kube_crate;
mod kube_exec;
mod kubectl;
mod life;
mod memory;
mod metrics;
mod names;
mod played;
mod proxies;
mod replay;
mod tunnel;
mod tunnels;
mod upstream;
mod upstream_websocket;
