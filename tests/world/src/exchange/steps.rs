//! What the two ends of a stream do next, from what they intend and what they have heard.

use super::{Exchange, Talk, Tells};
use crate::plan::{Dial, Ending, Script};

/// What the end of a stream does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Accepts it.
    Accept,
    /// Says how the command ended.
    Conclude,
    /// Ends it.
    End,
    /// Says something.
    Say,
    /// Nothing.
    Wait,
}

impl Exchange {
    /// The plan and the state of a stream.
    #[must_use]
    pub const fn stream(&self) -> Option<(&Script, &Talk)> {
        match (&self.plan.script, &self.talk) {
            (Some(script), Some(talk)) => Some((script, talk)),
            _ => None,
        }
    }

    /// What the client of a stream does next.
    #[must_use]
    pub fn client_step(&self) -> Step {
        let Some((script, talk)) = self.stream() else {
            return Step::Wait;
        };
        let patient = script.patient && talk.down.heard < script.upstream.messages;
        match &script.client_end {
            _ if !talk.is_open() => Step::Wait,
            Some(_) if self.client_blocked && script.hasty => Step::End,
            _ if self.client_blocked => Step::Wait,
            _ if talk.up.said.len() < script.client.messages => Step::Say,
            Some(_) if !patient => Step::End,
            _ => Step::Wait,
        }
    }

    /// What the Kubernetes API does next with a stream that it does not refuse.
    #[must_use]
    pub fn upstream_step(&self, calm: bool) -> Step {
        let Some((script, talk)) = self.stream() else {
            return Step::Wait;
        };
        let said = talk.down.said.len();
        let more = said < script.upstream.messages;
        let hangs = self.plan.hangs && !calm && said >= script.upstream.messages / 2;
        // Where silence does not tell that it is open, the client waits for the first word.
        let patient = script.patient
            && talk.up.heard < script.client.messages
            && (!talk.bare || script.upstream.messages > 0);
        let accepted = match &talk.accepted {
            _ if talk.told.is_some() && script.deaf && !calm => return Step::Wait,
            _ if talk.told.is_some() => return Step::End,
            Some(protocol) => Tells::of(&self.plan.head.path, protocol),
            None => {
                return match script.dial {
                    Dial::Accepts(_) => Step::Accept,
                    Dial::Silent if !calm => Step::Wait,
                    _ => Step::End,
                };
            }
        };
        match &script.upstream_end {
            _ if hangs => Step::Wait,
            _ if more => Step::Say,
            Ending::Never => Step::Wait,
            Ending::Waits if !calm => Step::Wait,
            _ if patient => Step::Wait,
            Ending::Result | Ending::Waits if accepted.results() && !talk.concluded => {
                Step::Conclude
            }
            _ => Step::End,
        }
    }

    /// Whether the Kubernetes API takes what it is given.
    #[must_use]
    pub fn is_read(&self, calm: bool) -> bool {
        let sated = |(script, talk): (&Script, &Talk)| {
            let left = script.sated.is_some_and(|most| talk.up.heard > most);
            left && !calm
        };
        !self.stream().is_some_and(sated)
    }
}
