//! The counters of the machine in Prometheus' text format.

use std::fmt::Write;

use controlplane_driver::Stats;

use crate::VERSION;

/// Metrics of an agent. There are no labels whose number could grow.
#[must_use]
pub fn metrics(runtime: &str, registered: bool, stats: &Stats) -> String {
    let mut out = String::new();
    let mut add = |name: &str, kind: &str, help: &str, labels: &str, value: u64| {
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "# HELP pipeops_agent_{name} {help}\n# TYPE pipeops_agent_{name} {kind}\n\
             pipeops_agent_{name}{labels} {value}"
        );
    };
    let labels = format!("{{version=\"{VERSION}\",runtime=\"{runtime}\"}}");
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    add("info", "gauge", "Version and async runtime.", &labels, 1);
    let gauges = [
        (
            "registered",
            "Whether requests are served.",
            u64::from(registered),
        ),
        (
            "streams_open",
            "Streams open now.",
            wide(stats.streams_open),
        ),
        (
            "held_in_bytes",
            "Bytes held for the Kubernetes API.",
            wide(stats.held_in),
        ),
        (
            "held_out_bytes",
            "Bytes held for the control plane.",
            wide(stats.held_out),
        ),
    ];
    for (name, help, value) in gauges {
        add(name, "gauge", help, "", value);
    }
    let counters = [
        (
            "registrations_total",
            "Connections that registered.",
            stats.registrations,
        ),
        (
            "streams_opened_total",
            "Streams opened.",
            stats.streams_opened,
        ),
        (
            "in_bytes_total",
            "Payload bytes delivered to the Kubernetes API.",
            stats.bytes_in,
        ),
        (
            "out_bytes_total",
            "Payload bytes framed for the control plane.",
            stats.bytes_out,
        ),
        (
            "stale_inputs_total",
            "Events about things already gone.",
            stats.stale_inputs,
        ),
        (
            "stale_frames_total",
            "Frames about ids that name nothing.",
            stats.stale_frames,
        ),
        (
            "peer_faults_total",
            "Faults of the control plane.",
            stats.peer_faults,
        ),
        (
            "coalesced_total",
            "Answers left out as an equal one waited.",
            stats.coalesced,
        ),
    ];
    for (name, help, value) in counters {
        add(name, "counter", help, "", value);
    }
    out
}
