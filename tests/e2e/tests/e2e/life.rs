//! The life of a link, step by step, and what may happen to it at each: on both runtimes, and alike.

mod certificates;
mod faults;
mod half_open;
mod leap;
mod many;
mod scene;
mod shutdown;
