//! The windows of a stream, as somebody counts who taps the wire (design, invariant 7).

use controlplane_core::Limits;

use super::{Carries, Fast};
use crate::{exchange::Check, link::Side};

impl Fast {
    /// Bytes of the wire that this side has not taken, as far as they were sent: its header is
    /// nobody's but the machine's.
    #[must_use]
    pub fn under_way(&self, side: Side) -> usize {
        self.framed[side.other() as usize]
            .sent
            .saturating_sub(self.consumed(side))
    }

    /// Bytes of the wire that are consumed at this side.
    fn consumed(&self, side: Side) -> usize {
        let header = match side {
            Side::Agent => self.header(),
            Side::Controller => 0,
        };
        header + self.ends[side as usize].taken
    }

    /// What the machine of this side may count for it at most.
    #[must_use]
    pub fn charge_at_most(&self, side: Side) -> usize {
        let (from, to) = (&self.ends[side.other() as usize], &self.ends[side as usize]);
        let charge = Limits::MIN_CHARGE;
        if self.plan.carries == Carries::Udp {
            // Those that were taken count until no more wait behind them.
            let sent = self.framed[side.other() as usize].sent;
            return sent + (from.datagrams.len() + 4) * charge;
        }
        self.under_way(side) + (to.reader.waiting.len() + 4) * charge
    }

    /// Whether `from` has sent all that it was granted.
    #[must_use]
    pub const fn is_spent(&self, from: Side, first: usize) -> bool {
        let framed = &self.framed[from as usize];
        framed.sent >= first + framed.granted
    }

    /// `from` sent a frame with so much data.
    ///
    /// # Errors
    ///
    /// It was not granted that, or comes after the end.
    pub fn frames(&mut self, from: Side, len: usize, fin: bool, first: usize) -> Check {
        let framed = &mut self.framed[from as usize];
        framed.sent += len;
        let late = framed.fin && (len > 0 || fin);
        framed.fin |= fin;
        let (granted, sent) = (first + framed.granted, framed.sent);
        if self.tainted {
            return Ok(());
        }
        if late {
            return Err(self.wrong("a frame behind the end"));
        }
        if sent > granted {
            return Err(self.wrong("more data than was granted"));
        }
        if fin && sent != self.wire_length(from) {
            return Err(self.wrong("an end before all was sent"));
        }
        if fin && !self.ends[from as usize].finished {
            return Err(self.wrong("an end that nobody wanted"));
        }
        Ok(())
    }

    /// Bytes of the wire that `from` made of what it said.
    fn wire_length(&self, from: Side) -> usize {
        let end = &self.ends[from as usize];
        let header = match from {
            Side::Controller => self.header(),
            Side::Agent => 0,
        };
        // Each datagram is behind its length.
        header + end.said + 2 * end.datagrams.len()
    }

    /// `to` grants so much more, and may have granted `window` beyond what it consumed.
    ///
    /// # Errors
    ///
    /// That is more than its window.
    pub fn grants(&mut self, to: Side, len: usize, first: usize, window: usize) -> Check {
        self.framed[to.other() as usize].granted += len;
        let granted = first + self.framed[to.other() as usize].granted;
        // What is cut into datagrams counts before its end takes them.
        let ahead = match self.plan.carries {
            Carries::Udp => (128 << 10) + 2 * self.ends[to as usize].heard,
            Carries::Http | Carries::Tcp => 0,
        };
        let fine = granted <= self.consumed(to) + window.max(first) + ahead;
        match fine || self.tainted {
            true => Ok(()),
            false => Err(self.wrong("a window that is too large")),
        }
    }
}
