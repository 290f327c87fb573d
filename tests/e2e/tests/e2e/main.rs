//! End-to-end tests, in one binary because linking dominates.

mod bench;
mod hub;
mod upstream;
