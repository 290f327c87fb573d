//! Where the agent's link stands, and every way it may change: a table that the code obeys and
//! that the state diagram in the documentation is rendered from.
//!
#![doc = include_str!("link.md")]

use crate::input::ConnId;

/// Where the link to the controller stands.
///
#[doc = include_str!("link.md")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// A dial is under way.
    Dialing(ConnId),
    /// Connected; `register` is on its way. Streams of an earlier registration go on.
    Registering(ConnId),
    /// Registered: streams may open.
    Ready(ConnId),
    /// Shutting down: open streams may end, new ones are refused.
    Draining(ConnId),
    /// Waiting to dial again.
    Waiting,
    /// Over.
    Stopped,
}

/// [`Phase`] without the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum At {
    /// [`Phase::Dialing`]
    Dialing,
    /// [`Phase::Registering`]
    Registering,
    /// [`Phase::Ready`]
    Ready,
    /// [`Phase::Draining`]
    Draining,
    /// [`Phase::Waiting`]
    Waiting,
    /// [`Phase::Stopped`]
    Stopped,
}

/// What changes the phase.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The dial succeeded.
    Connected,
    /// After a shutdown, the last stream ended and the last frame left, or time was up.
    Drained,
    /// The time to dial again has come.
    Due,
    /// The dial failed, or the connection ended or was given up.
    Lost,
    /// A gateway's link stands beside the controller's, and takes its place (P-082).
    Moved,
    /// The controller accepted the registration.
    Registered,
    /// The controller does not know this agent any more.
    Reregister,
    /// The dial of a gateway succeeded, which needs no registration (P-085).
    Resumed,
    /// [`crate::Input::Shutdown`].
    Shutdown,
}

/// Every transition of the agent's link: from, cause, to. The first phase is `Dialing`.
pub const TRANSITIONS: &[(At, Cause, At)] = &[
    (At::Dialing, Cause::Connected, At::Registering),
    (At::Dialing, Cause::Resumed, At::Ready),
    (At::Dialing, Cause::Lost, At::Waiting),
    (At::Dialing, Cause::Shutdown, At::Stopped),
    (At::Registering, Cause::Registered, At::Ready),
    (At::Registering, Cause::Lost, At::Waiting),
    (At::Registering, Cause::Shutdown, At::Draining),
    (At::Ready, Cause::Reregister, At::Registering),
    (At::Ready, Cause::Moved, At::Ready),
    (At::Ready, Cause::Lost, At::Waiting),
    (At::Ready, Cause::Shutdown, At::Draining),
    (At::Draining, Cause::Drained, At::Stopped),
    (At::Draining, Cause::Lost, At::Stopped),
    (At::Waiting, Cause::Due, At::Dialing),
    (At::Waiting, Cause::Shutdown, At::Stopped),
];

impl Phase {
    /// The connection that inputs may speak of.
    #[must_use]
    pub const fn conn(self) -> Option<ConnId> {
        match self {
            Self::Dialing(c) | Self::Registering(c) | Self::Ready(c) | Self::Draining(c) => Some(c),
            Self::Waiting | Self::Stopped => None,
        }
    }

    /// The connection that frames may be sent on.
    #[must_use]
    pub const fn open(self) -> Option<ConnId> {
        match self {
            Self::Registering(c) | Self::Ready(c) | Self::Draining(c) => Some(c),
            Self::Dialing(_) | Self::Waiting | Self::Stopped => None,
        }
    }

    /// The phase without its connection, as in [`TRANSITIONS`].
    #[must_use]
    pub const fn at(self) -> At {
        match self {
            Self::Dialing(_) => At::Dialing,
            Self::Registering(_) => At::Registering,
            Self::Ready(_) => At::Ready,
            Self::Draining(_) => At::Draining,
            Self::Waiting => At::Waiting,
            Self::Stopped => At::Stopped,
        }
    }

    /// The phase that `cause` leads to, or `None` where it changes nothing. A new connection is
    /// called `conn`; otherwise the connection stays.
    pub(crate) fn after(self, cause: Cause, conn: ConnId) -> Option<Self> {
        let (_, _, to) = TRANSITIONS
            .iter()
            .find(|(from, by, _)| *from == self.at() && *by == cause)?;
        let conn = match cause {
            Cause::Moved => conn,
            _ => self.conn().unwrap_or(conn),
        };
        Some(match to {
            At::Dialing => Self::Dialing(conn),
            At::Registering => Self::Registering(conn),
            At::Ready => Self::Ready(conn),
            At::Draining => Self::Draining(conn),
            At::Waiting => Self::Waiting,
            At::Stopped => Self::Stopped,
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::{
        format,
        string::{String, ToString},
        vec::Vec,
    };

    use super::*;

    /// The table as a diagram: from each state an arrow to each that it leads to.
    fn rendered() -> String {
        let all = [
            At::Dialing,
            At::Registering,
            At::Ready,
            At::Draining,
            At::Waiting,
            At::Stopped,
        ];
        let mut out = String::from("```text\n");
        for from in all {
            let edges: Vec<String> = all
                .into_iter()
                .filter_map(|to| {
                    let rows = TRANSITIONS
                        .iter()
                        .filter(|(f, _, t)| (*f, *t) == (from, to));
                    let causes: Vec<String> = rows.map(|(_, by, _)| format!("{by:?}")).collect();
                    let label = format!(" {} ", causes.join(", "));
                    (!causes.is_empty()).then(|| format!("─{label:─<17}▶ {to:?}"))
                })
                .collect();
            if edges.is_empty() {
                out += &format!("{from:?}\n");
            }
            for (i, edge) in edges.iter().enumerate() {
                let branch = match (i, edges.len() - 1) {
                    (0, 0) => '─',
                    (0, _) => '┬',
                    (i, last) if i == last => '└',
                    _ => '├',
                };
                let name = if i == 0 {
                    format!("{from:?}")
                } else {
                    String::new()
                };
                let space = if i == 0 { '─' } else { ' ' };
                out += &format!("{name:12}{space}{branch}{edge}\n");
            }
        }
        out + "```\n"
    }

    #[test]
    fn the_diagram_is_that_of_the_table() {
        let drawn = include_str!("link.md").to_string();
        assert!(
            drawn == rendered(),
            "core/src/link.md is stale; it has to be\n{}",
            rendered()
        );
    }

    #[test]
    fn a_phase_and_a_cause_lead_to_one_phase() {
        for (i, (from, by, _)) in TRANSITIONS.iter().enumerate() {
            let same = TRANSITIONS.iter().filter(|(f, b, _)| f == from && b == by);
            assert_eq!(same.count(), 1, "row {i}");
        }
    }

    #[test]
    fn nothing_leads_out_of_stopped_and_everything_leads_there() {
        assert!(TRANSITIONS.iter().all(|(from, ..)| *from != At::Stopped));
        let mut reached = alloc::vec![At::Stopped];
        for _ in 0..TRANSITIONS.len() {
            for (from, _, to) in TRANSITIONS {
                if reached.contains(to) && !reached.contains(from) {
                    reached.push(*from);
                }
            }
        }
        assert_eq!(reached.len(), 6);
    }
}
