//! One stream: what waits in either direction, and the windows.

use alloc::collections::VecDeque;
use core::time::Duration;

use bytes::{Bytes, BytesMut};

use super::INITIAL_WINDOW;
use crate::{config::Limits, time::Time};

/// So much is handed to the local end before it has taken any of it, in charged bytes. The rest
/// waits here, where small pieces are joined.
const AHEAD: usize = 128 << 10;

/// Pieces that wait are joined up to this size: few small ones, and none that is copied often.
const BLOCK: usize = 32 << 10;

/// What the local end is told of a stream that goes on.
pub(super) enum News {
    Opened,
    Data(Bytes),
    Finished,
}

/// State of a stream.
pub(super) struct Stream {
    // ---- toward the peer
    /// Waits to be framed.
    out: VecDeque<Bytes>,
    /// Charged for it.
    pub(super) held_out: usize,
    /// What may be sent before the peer grants more.
    pub(super) credit: u32,
    /// It had data and no credit, and was counted.
    pub(super) stalled: bool,
    /// The local end has no more to send.
    pub(super) finished: bool,
    /// The peer was told so.
    pub(super) told: bool,
    /// It is among those that have their turn.
    pub(super) queued: bool,
    /// What the piece is charged that was refused last, until the local end is told of room.
    pub(super) refused: Option<usize>,
    /// It is among those that were refused and have room.
    pub(super) roomy: bool,
    /// Opened here, and not accepted by the peer yet.
    pub(super) unacknowledged: bool,
    // ---- from the peer
    /// Opened by the peer, and not accepted yet.
    pub(super) waits: bool,
    /// The local end knows of it.
    pub(super) known: bool,
    /// It is among those that have something to tell.
    pub(super) ready: bool,
    /// What the window is at present.
    pub(super) window: u32,
    /// What of it the peer may still send.
    pub(super) left: u32,
    /// Announced by the peer and not consumed.
    unread: u32,
    /// Received, and not handed to the local end.
    pending: VecDeque<BytesMut>,
    /// Charged for that.
    waiting: usize,
    /// Charged for what was handed to it and is not consumed.
    ahead: usize,
    /// The peer has no more to send.
    pub(super) peer_finished: bool,
    /// The local end was told so.
    peer_told: bool,
    /// When the window was granted last.
    granted: Time,
}

impl Stream {
    fn new(now: Time) -> Self {
        Self {
            out: VecDeque::new(),
            held_out: 0,
            credit: INITIAL_WINDOW as u32,
            stalled: false,
            finished: false,
            told: false,
            queued: false,
            refused: None,
            roomy: false,
            unacknowledged: false,
            waits: false,
            known: true,
            ready: false,
            window: INITIAL_WINDOW as u32,
            left: INITIAL_WINDOW as u32,
            unread: 0,
            pending: VecDeque::new(),
            waiting: 0,
            ahead: 0,
            peer_finished: false,
            peer_told: false,
            granted: now,
        }
    }

    /// One that this end opens.
    pub(super) fn opened(now: Time) -> Self {
        Self {
            unacknowledged: true,
            ..Self::new(now)
        }
    }

    /// One that the peer opened.
    pub(super) fn of_peer(now: Time) -> Self {
        Self {
            waits: true,
            known: false,
            ..Self::new(now)
        }
    }

    /// Whether both ends have said that they have no more to send: on the wire there is nothing
    /// left of it to reset.
    pub(super) fn is_closed(&self) -> bool {
        self.told && self.peer_finished
    }

    /// Whether both ends are done with it, and with what it carried.
    pub(super) fn is_over(&self) -> bool {
        self.told && self.peer_told && self.unread == 0
    }

    // ------------------------------------------------------------ toward the peer

    pub(super) fn push(&mut self, data: Bytes, charge: usize) {
        self.held_out += charge;
        self.out.push_back(data);
    }

    /// Whether it has something that may be framed.
    pub(super) fn is_sendable(&self) -> bool {
        match self.out.is_empty() {
            true => self.finished && !self.told,
            false => self.credit > 0,
        }
    }

    /// Whether it has data, whatever its credit.
    pub(super) fn has_data(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether it was refused and has room for that, where its queue may hold `most`.
    pub(super) fn has_room(&self, most: usize) -> bool {
        self.refused.is_some_and(|charge| {
            let roomy = self.held_out <= most / 2 && self.held_out + charge <= most;
            self.held_out == 0 || roomy
        })
    }

    /// How much the next frame may hold.
    pub(super) fn next_len(&self, chunk: usize) -> usize {
        let room = chunk.min(self.credit as usize);
        let mut sum = 0;
        for piece in &self.out {
            sum += piece.len();
            if sum >= room {
                return room;
            }
        }
        sum
    }

    /// Moves `len` bytes into `frame`, and returns what they were charged.
    pub(super) fn take(&mut self, len: usize, frame: &mut BytesMut) -> usize {
        let mut left = len;
        let mut released = 0;
        while left > 0
            && let Some(first) = self.out.front_mut()
        {
            let charge = Limits::charge(first.len());
            if first.len() > left {
                frame.extend_from_slice(&first.split_to(left));
                released += charge - Limits::charge(first.len());
                break;
            }
            left -= first.len();
            frame.extend_from_slice(first);
            released += charge;
            self.out.pop_front();
        }
        self.credit -= len as u32;
        self.held_out -= released;
        released
    }

    // ------------------------------------------------------------ from the peer

    /// The peer announces so much data; false where it was not granted that.
    pub(super) fn announced(&mut self, len: u32) -> bool {
        let Some(left) = self.left.checked_sub(len) else {
            return false;
        };
        self.left = left;
        self.unread += len;
        true
    }

    /// Charged for what was received and is not consumed.
    pub(super) fn held_in(&self) -> usize {
        self.ahead + self.waiting
    }

    /// Keeps bytes that have arrived, and returns what they are charged.
    pub(super) fn received(&mut self, data: &[u8]) -> usize {
        let charge = match self.pending.back_mut() {
            Some(last) if last.len() + data.len() <= BLOCK => {
                let before = Limits::charge(last.len());
                last.extend_from_slice(data);
                Limits::charge(last.len()) - before
            }
            _ => {
                self.pending.push_back(data.into());
                Limits::charge(data.len())
            }
        };
        self.waiting += charge;
        charge
    }

    /// Whether the local end can be told something now.
    pub(super) fn has_news(&self) -> bool {
        let data = !self.pending.is_empty() && self.ahead < AHEAD;
        !self.known || data || self.has_end()
    }

    /// The peer has finished, the local end was handed everything, and was not told so yet.
    fn has_end(&self) -> bool {
        self.peer_finished && self.pending.is_empty() && !self.peer_told
    }

    /// What the local end is told next.
    pub(super) fn tell(&mut self) -> Option<News> {
        if !core::mem::replace(&mut self.known, true) {
            return Some(News::Opened);
        }
        if self.ahead < AHEAD
            && let Some(piece) = self.pending.pop_front()
        {
            let charge = Limits::charge(piece.len());
            self.waiting -= charge;
            self.ahead += charge;
            return Some(News::Data(piece.freeze()));
        }
        if self.has_end() {
            self.peer_told = true;
            return Some(News::Finished);
        }
        None
    }

    /// The local end took a piece; returns what it was charged.
    pub(super) fn consumed(&mut self, len: usize) -> usize {
        let charge = Limits::charge(len).min(self.ahead);
        self.ahead -= charge;
        self.unread -= u32::try_from(len).unwrap_or(u32::MAX).min(self.unread);
        charge
    }

    // ------------------------------------------------------------ window

    /// What the peer would be granted now.
    fn due(&self) -> u32 {
        self.window
            .saturating_sub(self.left)
            .saturating_sub(self.unread)
    }

    /// Whether half of the window or more has been consumed since it was granted.
    pub(super) fn wants_update(&self) -> bool {
        !self.peer_finished && self.due() >= self.window / 2
    }

    /// Doubles the window where half of it was used up within two round trips: then it is what
    /// holds the peer up. Returns by how much it grew.
    pub(super) fn grow(
        &mut self,
        now: Time,
        rtt: Option<Duration>,
        cap: usize,
        budget: usize,
    ) -> usize {
        let span = now - core::mem::replace(&mut self.granted, now);
        let fast = rtt.is_some_and(|rtt| span <= rtt.saturating_mul(2));
        let more = (self.window as usize).min(cap.saturating_sub(self.window as usize));
        if !fast || more > budget {
            return 0;
        }
        self.window += more as u32;
        more
    }

    /// Grants what is due, and returns it.
    pub(super) fn grant(&mut self) -> u32 {
        let due = match self.peer_finished {
            true => 0,
            false => self.due(),
        };
        self.left += due;
        due
    }
}
