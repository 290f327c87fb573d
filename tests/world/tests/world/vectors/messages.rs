//! What the subject says, compared with what it has to say.

use controlplane_core::OutFrame;
use controlplane_world::vectors::{data::to_hex, matching, step, wire};
use serde_json::Value;

use super::player::{Player, Subject};

impl Player {
    /// The next message, those of the background left out unless one is wanted.
    fn next(&mut self, wanted: &str) -> Result<OutFrame, String> {
        loop {
            let frame = self.sent.pop_front().ok_or("nothing was said")?;
            let kind = match &frame {
                OutFrame::Text(text) => String::from(wire::kind(&self.parsed(text)?)),
                _ => return Ok(frame),
            };
            if !wire::is_background(&kind, wanted) {
                return Ok(frame);
            }
        }
    }

    fn parsed(&self, text: &str) -> Result<Value, String> {
        wire::parsed(text, matches!(self.subject, Subject::Agent(_)))
    }

    pub(super) fn expect(&mut self, pattern: &Value) -> Result<(), String> {
        self.expected(pattern).map(|_| ())
    }

    /// The next message, which has to be this.
    fn expected(&mut self, pattern: &Value) -> Result<Value, String> {
        let frame = self
            .next(wire::kind(pattern))
            .map_err(|e| format!("expected {pattern}: {e}"))?;
        match frame {
            OutFrame::Text(text) => {
                let seen = self.parsed(&text)?;
                let outcome = matching::message(pattern, &seen, &mut self.saved);
                outcome.map_err(|e| format!("{e}\n    in {seen}"))?;
                Ok(seen)
            }
            other => Err(format!("expected {pattern}, saw {other:?}")),
        }
    }

    /// The next message, those of the background left out.
    pub(super) fn message(&mut self) -> Result<Value, String> {
        match self.next("")? {
            OutFrame::Text(text) => self.parsed(&text),
            other => Err(format!("saw {other:?}")),
        }
    }

    pub(super) fn expect_pieces(&mut self, pieces: &step::ExpectPieces) -> Result<(), String> {
        let wanted = &pieces.bytes.0;
        let mut seen = Vec::new();
        while seen.len() < wanted.len() {
            let message = self.expected(&pieces.message)?;
            seen.extend(wire::piece(&message, pieces)?);
        }
        match seen == *wanted {
            true => Ok(()),
            false => Err(format!("other bytes, {} in all", seen.len())),
        }
    }

    pub(super) fn expect_binary(&mut self, wanted: &[u8]) -> Result<(), String> {
        match self.next("")? {
            OutFrame::Binary(frame) if frame == wanted => Ok(()),
            OutFrame::Binary(frame) => Err(format!("saw {}", to_hex(&frame))),
            other => Err(format!("expected a binary message, saw {}", shown(&other))),
        }
    }

    pub(super) fn expect_frame(&mut self, pattern: &step::ExpectFrame) -> Result<(), String> {
        let frame = match self.next("")? {
            OutFrame::Binary(frame) => frame,
            other => {
                let seen = shown(&other);
                return Err(format!("expected a binary message, saw {seen}"));
            }
        };
        wire::compare(pattern, &frame, &mut self.saved)
    }

    pub(super) fn quiet(&mut self) -> Result<(), String> {
        self.open_conn()?;
        self.quiets += 1;
        let (ping, pong) = wire::ping(self.quiets);
        self.nothing_left()?;
        self.text(&ping.to_string())?;
        self.expect(&pong)
    }

    /// Nothing happened that nobody looked at.
    pub(super) fn nothing_left(&mut self) -> Result<(), String> {
        if let Ok(frame) = self.next("") {
            return Err(format!("saw {}", shown(&frame)));
        }
        if let Some(code) = self.closes.front() {
            return Err(format!("the connection was closed with {code}"));
        }
        if let Some((_, target)) = self.opens.front() {
            return Err(format!("the upstream was asked: {target:?}"));
        }
        let left = self
            .locals
            .values()
            .find(|local| !local.inbox.is_empty() || local.head.is_some() || local.end.is_some());
        match left {
            Some(local) => Err(format!("saw {local:?}")),
            None => Ok(()),
        }
    }
}

/// A message as a failure shows it, whose `Debug` would not.
fn shown(frame: &OutFrame) -> String {
    match frame {
        OutFrame::Text(text) => text.trim_end().into(),
        other => format!("{other:?}"),
    }
}
