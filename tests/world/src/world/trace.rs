//! What happened before a rule did not hold, written so that a person can read it.

use std::{collections::VecDeque, fmt};

use controlplane_core::{Action, Frame, Input, OutFrame, Time};

use super::{Source, World};

/// So many lines are kept.
const LINES: usize = 120;
/// The longest line.
const LENGTH: usize = 240;

/// Who writes down what happens.
#[derive(Debug)]
pub(super) struct Trace {
    lines: VecDeque<String>,
    kept: bool,
    told: bool,
}

impl Trace {
    pub(super) const fn new(kept: bool, told: bool) -> Self {
        Self {
            lines: VecDeque::new(),
            kept,
            told,
        }
    }

    pub(super) fn lines(self) -> Vec<String> {
        self.lines.into()
    }

    const fn is_on(&self) -> bool {
        self.kept || self.told
    }

    fn line(&mut self, now: Time, who: &str, what: &str) {
        let what: String = what.chars().take(LENGTH).collect();
        let line = format!("{:>10.3} {who:<14} {what}", now.as_duration().as_secs_f64());
        if self.told {
            eprintln!("{line}");
        }
        if self.lines.len() >= LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

impl World {
    /// What the world does to somebody.
    pub(super) fn log(&mut self, who: &str, what: &str) {
        if self.trace.is_on() {
            self.trace.line(self.now, who, what);
        }
    }

    /// What a machine is told.
    pub(super) fn log_input(&mut self, who: &str, input: &Input<'_>) {
        if self.trace.is_on() {
            let text = match input {
                Input::Frame(conn, Frame::Text(text)) => format!("text on {}: {text}", conn.0),
                Input::Frame(conn, Frame::Binary(data)) => {
                    format!("binary on {}: {}", conn.0, data.escape_ascii())
                }
                other => format!("{other:?}"),
            };
            self.trace.line(self.now, who, &text);
        }
    }

    /// What a machine says.
    pub(super) fn log_action(&mut self, who: &str, action: &Action) {
        if self.trace.is_on() {
            let text = match action {
                Action::Send(conn, OutFrame::Text(text)) => {
                    format!("sends on {}: {}", conn.0, text.trim_end())
                }
                Action::Deliver(id, kind, data) => {
                    format!("delivers on {}: {} bytes, {kind:?}", id.0, data.len())
                }
                other => format!("{other:?}"),
            };
            self.trace.line(self.now, who, &text);
        }
    }
}

/// A rule that did not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Of the world.
    pub source: Source,
    /// Virtual time.
    pub at: Time,
    /// Which rule.
    pub text: String,
    /// The tamperer had been at work.
    pub tampered: bool,
    /// What happened last before.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, .. } = self;
        writeln!(f, "what happened last (seconds, who, what):")?;
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        let at = self.at.as_duration().as_secs_f64();
        writeln!(f, "{at:>10.3} VIOLATION      {text}")?;
        write!(f, "again, from the beginning: ")?;
        match &self.source {
            Source::Seed(seed) => write!(
                f,
                "WORLD_SEED={seed} cargo test -p controlplane-world --test world every_invariant"
            ),
            Source::Bytes(_) => write!(
                f,
                "WORLD_FILE=/path/to/the/bytes cargo test -p controlplane-world --test world every_invariant"
            ),
        }
    }
}
