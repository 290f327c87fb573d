//! The metrics of machines: what [`Stats`] counts, by name.

use controlplane_core::{CodeClass, Disconnect, Ending, Stats};

use crate::page::{Labels, Page};

/// Whose machines they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// The agent's one.
    Agent,
    /// The controller's, one for each cluster.
    Controller,
}

type Machines = [(Labels, Stats)];

/// Adds the metrics of machines, each with its labels.
pub fn machines(page: &mut Page, role: Role, machines: &Machines) {
    link(page, role, machines);
    streams(page, machines);
    payload(page, machines);
    for (name, help, count) in FAULTS {
        page.counters(name, help, plain(machines, count));
    }
}

type Count = fn(&Stats) -> u64;

/// Counters of what is not in order.
const FAULTS: [(&str, &str, Count); 4] = [
    ("peer_faults", "Faults of the peer.", |s| s.peer_faults),
    ("stale_inputs", "Events about things already gone.", |s| {
        s.stale_inputs
    }),
    (
        "stale_frames",
        "Messages about ids that name nothing, as late answers do.",
        |s| s.stale_frames,
    ),
    (
        "coalesced",
        "Answers left out because an equal one was waiting.",
        |s| s.coalesced,
    ),
];

fn link(page: &mut Page, role: Role, machines: &Machines) {
    page.counters(
        "registrations",
        "Connections that registered.",
        plain(machines, |s| s.registrations),
    );
    let (name, help) = match role {
        Role::Agent => (
            "reconnects",
            "Connections lost and attempts that failed, each followed by another attempt, by cause.",
        ),
        Role::Controller => ("disconnects", "Connections of agents that ended, by cause."),
    };
    let disconnects = by_label(machines, "cause", |s| {
        Disconnect::ALL
            .into_iter()
            .map(|cause| (cause.as_str(), cause.of(&s.disconnects)))
            .collect()
    });
    page.counters(name, help, disconnects);
    page.round_trips(
        "ping_round_trip_seconds",
        "From a WebSocket ping to its pong.",
        plain(machines, |s| s.pings),
    );
    if role == Role::Agent {
        page.round_trips(
            "heartbeat_round_trip_seconds",
            "From a heartbeat to its acknowledgement, where the control plane sends any.",
            plain(machines, |s| s.heartbeats),
        );
    }
}

fn streams(page: &mut Page, machines: &Machines) {
    page.gauges(
        "streams_open",
        "Streams open now, idle connections of the fast mode among them.",
        plain(machines, |s| wide(s.streams_open)),
    );
    page.counters(
        "streams_opened",
        "Streams opened, those that were refused among them.",
        plain(machines, |s| s.streams_opened),
    );
    let closed = by_label(machines, "reason", |s| {
        Ending::ALL
            .into_iter()
            .map(|ending| (ending.as_str(), ending.of(&s.streams_closed)))
            .collect()
    });
    page.counters("streams_closed", "Streams that ended, by reason.", closed);
    page.counters(
        "streams_reset",
        "Streams of the fast mode that were reset, by either end.",
        plain(machines, |s| s.resets),
    );
    page.counters(
        "stream_stalls",
        "Times that a stream of the fast mode had data to send and no window left.",
        plain(machines, |s| s.stalls),
    );
    let answers = by_label(machines, "code", |s| {
        CodeClass::ALL
            .into_iter()
            .map(|class| (class.as_str(), class.of(&s.answers)))
            .collect()
    });
    page.counters(
        "requests",
        "Requests through the tunnel, by how the Kubernetes API answered.",
        answers,
    );
}

fn payload(page: &mut Page, machines: &Machines) {
    let bytes = by_label(machines, "direction", |s| {
        vec![("in", s.bytes_in), ("out", s.bytes_out)]
    });
    page.counters(
        "payload_bytes",
        "Payload taken from the tunnel (in) and put into it (out).",
        bytes,
    );
    let held = by_label(machines, "direction", |s| {
        vec![("in", wide(s.held_in)), ("out", wide(s.held_out))]
    });
    page.gauges(
        "buffered_bytes",
        "Bytes held now for local ends (in) and for the tunnel (out).",
        held,
    );
}

fn plain<T>(machines: &Machines, value: impl Fn(&Stats) -> T) -> Vec<(Labels, T)> {
    let each = machines.iter();
    each.map(|(labels, stats)| (labels.clone(), value(stats)))
        .collect()
}

/// A sample for each value of one more label.
fn by_label<T>(
    machines: &Machines,
    name: &'static str,
    values: impl Fn(&Stats) -> Vec<(&'static str, T)>,
) -> Vec<(Labels, T)> {
    let each = machines.iter();
    let samples = each.flat_map(|(labels, stats)| {
        values(stats).into_iter().map(|(value, count)| {
            let mut labels = labels.clone();
            labels.push((name, value.to_owned()));
            (labels, count)
        })
    });
    samples.collect()
}

fn wide(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_of_a_label_has_a_sample_from_the_start() {
        let mut stats = Stats::default();
        Ending::Cancelled.count(&mut stats.streams_closed);
        (stats.streams_opened, stats.held_out) = (1, 5);
        let mut page = Page::new("it");
        machines(
            &mut page,
            Role::Controller,
            &[
                (vec![("cluster", "a".into())], stats),
                (vec![("cluster", "b".into())], Stats::default()),
            ],
        );
        let text = page.text();
        for line in [
            r#"it_streams_closed_total{cluster="a",reason="cancelled"} 1"#,
            r#"it_streams_closed_total{cluster="b",reason="cancelled"} 0"#,
            r#"it_streams_opened_total{cluster="a"} 1"#,
            r#"it_buffered_bytes{cluster="a",direction="out"} 5"#,
            r#"it_requests_total{cluster="b",code="none"} 0"#,
            r#"it_disconnects_total{cluster="b",cause="silence"} 0"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let types = text
            .lines()
            .filter(|l| l.contains("# TYPE it_streams_closed "));
        assert_eq!(types.count(), 1);
        assert!(!text.contains("heartbeat"), "the controller has none");
    }
}
