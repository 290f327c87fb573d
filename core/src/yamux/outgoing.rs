//! What is sent next: answers and windows first, then one chunk of each stream in turn.

use alloc::collections::{BTreeMap, VecDeque, btree_map::Entry};

use bytes::{Bytes, BytesMut};

use super::{
    Session,
    frame::{ACK, Code, FIN, HEADER, Header, Kind, RST, SYN},
};
use crate::time::Time;

/// So many frames without data go out at once at most.
const BATCH: usize = 64;

/// Frames without data that wait.
#[derive(Debug, Default)]
pub(super) struct Control {
    go_away: Option<Code>,
    pongs: VecDeque<u32>,
    resets: VecDeque<u32>,
    /// Streams that are to be opened, accepted or granted something, each once, in that order.
    updates: VecDeque<u32>,
    /// What is told beside the window.
    flags: BTreeMap<u32, u16>,
}

impl Control {
    /// Answers that the peer can force.
    pub(super) fn len(&self) -> usize {
        self.pongs.len() + self.resets.len()
    }

    fn is_empty(&self) -> bool {
        self.go_away.is_none() && self.len() == 0 && self.updates.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn go_away(&mut self, code: Code) {
        self.go_away = Some(code);
    }

    pub(super) fn pong(&mut self, value: u32) {
        self.pongs.push_back(value);
    }

    /// The peer learns of a stream of this end.
    pub(super) fn begin(&mut self, id: u32) {
        self.flags.insert(id, SYN);
        self.updates.push_back(id);
    }

    /// The peer learns that its stream was accepted.
    pub(super) fn accept(&mut self, id: u32) {
        self.update(id);
        if let Some(flags) = self.flags.get_mut(&id) {
            *flags |= ACK;
        }
    }

    /// Whether the stream's window is about to be told anyway.
    pub(super) fn updates(&self, id: u32) -> bool {
        self.flags.contains_key(&id)
    }

    /// The peer is granted what is due.
    pub(super) fn update(&mut self, id: u32) {
        if let Entry::Vacant(entry) = self.flags.entry(id) {
            entry.insert(0);
            self.updates.push_back(id);
        }
    }

    /// Nothing more is told of a stream that is gone; returns the flags that were not told.
    pub(super) fn forget(&mut self, id: u32) -> Option<u16> {
        let flags = self.flags.remove(&id)?;
        self.updates.retain(|other| *other != id);
        Some(flags)
    }

    /// The peer learns that a stream is gone.
    pub(super) fn reset(&mut self, id: u32) {
        self.resets.push_back(id);
    }
}

impl Session {
    /// Whether [`Self::transmit`] has anything.
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        let ping = self.live.is_some() && self.keepalive.wants();
        ping || !self.control.is_empty() || !self.turn.is_empty()
    }

    /// The bytes that go out next: what waits of answers and windows, and at most one chunk of data.
    /// Call it when the connection can take them; what is not asked for is decided later.
    pub fn transmit(&mut self, now: Time) -> Option<Bytes> {
        let mut frame = BytesMut::new();
        // What waits may prove to be nothing, such as a grant to a peer that has finished since.
        while frame.is_empty() && self.wants_transmit() {
            let full = self.answers(now, &mut frame);
            // A stream is opened before there is data of it.
            if !full {
                self.chunk(&mut frame);
            }
        }
        (!frame.is_empty()).then(|| frame.freeze())
    }

    /// Frames without data; true if some are left.
    fn answers(&mut self, now: Time, frame: &mut BytesMut) -> bool {
        let mut put = |kind, flags, stream, length| {
            let header = Header {
                kind,
                flags,
                stream,
                length,
            };
            frame.extend_from_slice(&header.encode());
        };
        let control = &mut self.control;
        if self.live.is_some()
            && let Some(value) = self.keepalive.take(now, self.config.keepalive)
        {
            put(Kind::Ping, SYN, 0, value);
        }
        for _ in 0..BATCH {
            if let Some(value) = control.pongs.pop_front() {
                put(Kind::Ping, ACK, 0, value);
            } else if let Some(id) = control.resets.pop_front() {
                put(Kind::Update, RST, id, 0);
            } else if let Some(id) = control.updates.pop_front() {
                let flags = control.flags.remove(&id).unwrap_or_default();
                let stream = self.streams.get_mut(&id);
                let grant = stream.map_or(0, |stream| stream.grant());
                if flags != 0 || grant != 0 {
                    put(Kind::Update, flags, id, grant);
                }
            } else if let Some(code) = control.go_away.take() {
                put(Kind::GoAway, 0, 0, code.number());
            } else {
                return false;
            }
        }
        !control.is_empty()
    }

    /// One chunk of the stream whose turn it is, and its FIN where that was the last.
    fn chunk(&mut self, frame: &mut BytesMut) {
        let Some(id) = self.turn.pop_front() else {
            return;
        };
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.queued = false;
        let len = stream.next_len(self.config.chunk);
        frame.reserve(len + 2 * HEADER);
        let header = |flags, length| Header {
            kind: Kind::Data,
            flags,
            stream: id,
            length,
        };
        if len > 0 {
            frame.extend_from_slice(&header(0, len as u32).encode());
            self.held_out -= stream.take(len, frame);
            Self::room(&mut self.roomy, id, stream, self.config.send_stream);
        }
        if stream.has_data() && stream.credit == 0 && !stream.stalled {
            stream.stalled = true;
            self.stats.stalls += 1;
        }
        if stream.finished && !stream.has_data() && !stream.told {
            // On its own: some implementations take a FIN for the end before the data beside it.
            stream.told = true;
            frame.extend_from_slice(&header(FIN, 0).encode());
        }
        Self::queue(&mut self.turn, id, stream);
        self.settle(id);
    }
}
