//! What one end was delivered.

use std::collections::VecDeque;

use controlplane_core::Limits;

use super::Check;
use crate::content::{Way, is_piece};

/// What one end holds of what it was delivered.
#[derive(Debug, Default)]
pub struct Reader {
    /// All that came.
    pub got: usize,
    /// Lengths of the deliveries that it has not taken yet.
    pub waiting: VecDeque<usize>,
    /// The same in bytes as the limits count them.
    pub charge: usize,
    /// It was told that this is all.
    pub finished: bool,
    /// It is going to take the next one.
    pub busy: bool,
}

impl Reader {
    /// Part of a body.
    pub(crate) fn deliver(&mut self, request: u64, way: Way, data: &[u8], sent: usize) -> Check {
        let at = self.got;
        self.keep(data.len());
        let fault = if self.finished {
            "goes on after its end".to_string()
        } else if data.is_empty() {
            "has an empty delivery".to_string()
        } else if self.got > sent {
            "has more than was sent".to_string()
        } else if !is_piece(request, way, at, data) {
            format!("differs from byte {at} on")
        } else {
            return Ok(());
        };
        Err(format!("request {request}: {way:?} {fault}"))
    }

    /// Something of this length came.
    pub(crate) fn keep(&mut self, len: usize) {
        self.got += len;
        self.waiting.push_back(len);
        self.charge += Limits::charge(len);
    }

    /// The charge of all but the last delivery.
    #[must_use]
    pub fn charge_before_last(&self) -> usize {
        let last = self.waiting.back().map_or(0, |len| Limits::charge(*len));
        self.charge - last
    }

    /// Takes the oldest delivery.
    pub fn take(&mut self) -> Option<usize> {
        let len = self.waiting.pop_front()?;
        self.charge -= Limits::charge(len);
        Some(len)
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.charge = 0;
    }
}
