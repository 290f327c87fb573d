//! What the core holds for streams that are idle, and how often a frame allocates: every byte that
//! was asked of the allocator and not given back, tables and names included.
//!
//! ```console
//! cargo bench -p controlplane-core --bench memory
//! ```

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark that is wrong is to stop, and its output is a table"
)]

mod common;

use std::alloc::System;

use bytes::Bytes;
use controlplane_core::{Action, Frame, Input, Machine, OutFrame, Socket};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use self::common::{NOW, Pair, Sort, kind_of};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Streams that are open at once.
const STREAMS: usize = 1000;
/// What an idle stream may take.
const AIM: usize = 600;

fn main() {
    println!(
        "memory of the core for each of {STREAMS} idle streams, in bytes asked of the allocator\n"
    );
    println!("{:36} {:>10} {:>12}", "", "agent", "controller");
    for (label, sort, spoken) in [
        ("request, streamed answer", Sort::Watch, false),
        ("the same after 10 kB of answer", Sort::Watch, true),
        ("WebSocket", Sort::WebSocket, false),
        ("the same after 10 kB each way", Sort::WebSocket, true),
    ] {
        let (agent, controller) = idle(sort, spoken);
        println!(
            "{label:36} {agent:>10} {controller:>12}  aim <= {AIM}  {}",
            if agent.max(controller) <= AIM {
                "yes"
            } else {
                "NO"
            }
        );
    }
    println!("\nallocations for one frame of 32 KiB\n");
    println!("{:36} {:>10} {:>12}", "", "encode", "decode");
    for (label, sort) in [("body", Sort::Upload), ("WebSocket", Sort::WebSocket)] {
        let (encode, decode) = allocations(sort);
        println!("{label:36} {encode:>10} {decode:>12}");
    }
}

/// Bytes of one idle stream at the agent and at the controller, the machines themselves in shares.
fn idle(sort: Sort, spoken: bool) -> (usize, usize) {
    let mut pair = Pair::new();
    for ends in pair.open_all(sort, STREAMS) {
        if spoken {
            pair.speak(ends, sort, &Bytes::from_static(&[7; 10_000]));
        }
    }
    let Pair {
        agent, controller, ..
    } = pair;
    (held(agent), held(controller))
}

/// What a machine gives back when it is dropped, and itself.
fn held<M: Machine>(machine: M) -> usize {
    assert_eq!(machine.stats().streams_open, STREAMS);
    assert_eq!(machine.stats().held_in + machine.stats().held_out, 0);
    let region = Region::new(ALLOCATOR);
    drop(machine);
    let change = region.change();
    let given_back = change.bytes_deallocated - change.bytes_allocated;
    (given_back + size_of::<M>()).div_ceil(STREAMS)
}

/// Allocations to encode a frame, and to decode it.
fn allocations(sort: Sort) -> (usize, usize) {
    let mut pair = Pair::new();
    let ends = pair.open(sort);
    let data = Bytes::from_static(&[7; 32 << 10]);
    // Tables and queues have their size after the first.
    pair.speak(ends, sort, &data);
    let (from, to) = (pair.at_agent(), pair.at_controller());
    let kind = kind_of(sort);
    let region = Region::new(ALLOCATOR);
    pair.agent.send(ends.at_agent, kind, data).expect("room");
    let Some(Action::Send(_, OutFrame::Text(text))) = pair.agent.poll(Socket::Ready(from)) else {
        panic!("no message")
    };
    let encode = region.change();
    let region = Region::new(ALLOCATOR);
    let frame = Input::Frame(to, Frame::Text(&text));
    pair.controller.handle(NOW, frame);
    let delivered = pair.controller.poll(Socket::Blocked);
    let decode = region.change();
    assert!(matches!(delivered, Some(Action::Deliver(..))));
    let count = |change: stats_alloc::Stats| change.allocations + change.reallocations;
    (count(encode), count(decode))
}
