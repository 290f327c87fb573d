//! Datagrams on a stream: each behind its length where both ends said so (P-205), else each frame
//! one, as the first gateways have it (P-121).

use alloc::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::{config::Limits, rules::MAX_DATAGRAM};

/// So much is handed to the local end before it has taken any of it, in charged bytes.
const AHEAD: usize = 64 << 10;
/// Bytes of a length.
const PREFIX: usize = 2;

/// The datagrams of one stream.
pub(super) struct Datagrams {
    /// Each is behind its length.
    pub(super) prefixed: bool,
    /// What has arrived and was not cut into datagrams.
    pending: BytesMut,
    /// What has arrived where each frame is one.
    frames: VecDeque<Bytes>,
    /// Charged for what the local end has not taken.
    ahead: usize,
    /// Pieces of the stream that are not consumed yet, so that the peer waits.
    owed: VecDeque<usize>,
    /// The peer has no more to send, and the local end was not told so yet.
    pub(super) finished: bool,
}

/// A datagram as it stands on a stream. It fits: [`MAX_DATAGRAM`] is below what a length can say.
pub(super) fn prefixed(datagram: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX + datagram.len());
    bytes.extend_from_slice(&(datagram.len() as u16).to_be_bytes());
    bytes.extend_from_slice(datagram);
    bytes.freeze()
}

impl Datagrams {
    pub(super) fn new(prefixed: bool) -> Self {
        Self {
            prefixed,
            pending: BytesMut::new(),
            frames: VecDeque::new(),
            ahead: 0,
            owed: VecDeque::new(),
            finished: false,
        }
    }

    /// A piece of the stream has arrived.
    pub(super) fn push(&mut self, piece: Bytes) {
        self.owed.push_back(piece.len());
        match self.prefixed {
            true => self.pending.extend_from_slice(&piece),
            false => self.frames.push_back(piece),
        }
    }

    /// The next datagram for the local end, if it is whole and wanted; one that is longer than
    /// UDP can carry is among them.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        if self.ahead >= AHEAD {
            return None;
        }
        let datagram = match self.prefixed {
            true => self.cut()?,
            false => self.frame()?,
        };
        self.ahead += Limits::charge(datagram.len());
        Some(datagram)
    }

    fn cut(&mut self) -> Option<Bytes> {
        let (len, rest) = self.pending.split_first_chunk()?;
        let len = usize::from(u16::from_be_bytes(*len));
        if rest.len() < len {
            return None;
        }
        self.pending.advance(PREFIX);
        Some(self.pending.split_to(len).freeze())
    }

    fn frame(&mut self) -> Option<Bytes> {
        let frame = self.frames.front_mut()?;
        if frame.len() > MAX_DATAGRAM {
            return Some(frame.split_to(MAX_DATAGRAM));
        }
        self.frames.pop_front()
    }

    /// Whether the local end was handed everything, and the peer has no more to send: true once.
    pub(super) fn ends(&mut self) -> bool {
        let whole = |pending: &[u8]| {
            let len = pending.split_first_chunk();
            len.is_some_and(|(len, rest)| rest.len() >= usize::from(u16::from_be_bytes(*len)))
        };
        let waits = !self.frames.is_empty() || whole(&self.pending);
        !waits && core::mem::take(&mut self.finished)
    }

    /// Whether what is left is the beginning of a datagram.
    pub(super) fn is_cut(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The local end took a datagram, or it was dropped.
    pub(super) fn taken(&mut self, len: usize) {
        self.ahead = self.ahead.saturating_sub(Limits::charge(len));
    }

    /// A piece of the stream that is consumed now: while the local end keeps up all are, because a
    /// datagram may come in many.
    pub(super) fn release(&mut self) -> Option<usize> {
        match self.ahead < AHEAD {
            true => self.owed.pop_front(),
            false => None,
        }
    }
}
