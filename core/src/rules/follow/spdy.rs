//! The frames of SPDY/3.1, as far as they begin and end streams. Headers are compressed and not
//! looked into.
//!
//! kubectl's library takes every end of a stream for its regular end, a reset and the loss of the
//! connection, too, and a command whose error stream ends without a word for one that succeeded.

use alloc::{collections::BTreeSet, vec::Vec};

use crate::{rules::Channels, wire::base64::Base64};

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
/// The sender of the frame has no more to send on the stream.
const FIN: u8 = 1;
/// The other side has none.
const UNIDIRECTIONAL: u8 = 2;
/// In [`RST_STREAM`]; and in [`GOAWAY`], which has its own numbers.
const INTERNAL_ERROR: u32 = 6;
const BROKEN: u32 = 2;
/// Streams that are followed at once. kubectl has two for each forwarded connection.
const MAX_STREAMS: usize = 4096;
/// Longest rest of a frame that is made up.
const MAX_REST: usize = 1 << 20;

/// Both directions of a SPDY connection.
#[derive(Debug)]
pub(super) struct Spdy {
    channels: Channels,
    up: Frames,
    down: Frames,
    /// Streams of the client that the cluster has not ended.
    open: BTreeSet<u32>,
    /// The first that the client opened: for a command it is the error stream.
    first: Option<u32>,
    last: u32,
    /// The result of the command has passed.
    result: bool,
    goaway: bool,
    /// More than [`MAX_STREAMS`] were open.
    overflow: bool,
}

impl Spdy {
    pub(super) fn new(channels: Channels) -> Self {
        Self {
            channels,
            up: Frames::default(),
            down: Frames::default(),
            open: BTreeSet::new(),
            first: None,
            last: 0,
            result: false,
            goaway: false,
            overflow: false,
        }
    }

    pub(super) fn up(&mut self, mut data: &[u8]) {
        while let Some(frame) = self.up.next(&mut data) {
            match frame.kind {
                Some(SYN_STREAM) => self.opened(frame),
                Some(RST_STREAM) => {
                    self.open.remove(&frame.stream);
                }
                _ => {}
            }
        }
    }

    fn opened(&mut self, frame: Frame) {
        self.first.get_or_insert(frame.stream);
        self.last = self.last.max(frame.stream);
        if self.open.len() >= MAX_STREAMS {
            self.overflow = true;
        } else if frame.flags & UNIDIRECTIONAL == 0 {
            self.open.insert(frame.stream);
        }
    }

    pub(super) fn down(&mut self, mut data: &[u8]) {
        while let Some(frame) = self.down.next(&mut data) {
            let ends = frame.flags & FIN != 0;
            match frame.kind {
                None => {
                    if Some(frame.stream) == self.first {
                        self.result |= frame.len > 0 || ends;
                    }
                    self.ends(frame.stream, ends);
                }
                Some(SYN_REPLY | HEADERS) => self.ends(frame.stream, ends),
                Some(RST_STREAM) => self.ends(frame.stream, true),
                Some(GOAWAY) => self.goaway = true,
                _ => {}
            }
        }
    }

    fn ends(&mut self, stream: u32, ends: bool) {
        if ends {
            self.open.remove(&stream);
        }
    }

    /// A command is over with its result, anything else with the last stream or a farewell.
    pub(super) fn is_complete(&self) -> bool {
        let ended = self.goaway || (self.open.is_empty() && !self.overflow);
        let told = self.result || self.first.is_none();
        self.down.is_at_boundary() && if self.is_command() { told } else { ended }
    }

    fn is_command(&self) -> bool {
        self.channels != Channels::None
    }

    pub(super) fn last_words(&self, cause: &str) -> Option<Vec<u8>> {
        let mut words = self.rest()?;
        let error = self.first.filter(|id| self.open.contains(id));
        if let Some(id) = error.filter(|_| !self.result) {
            // There is no base64 in SPDY.
            if let Some((_, message)) = self.channels.failure(cause, &Base64::new()) {
                let document = message.get(1..).unwrap_or_default();
                data(id, document, &mut words);
            }
        }
        let told = error.filter(|_| !self.result && self.is_command());
        for id in self.open.iter().filter(|id| Some(**id) != told) {
            control(RST_STREAM, [*id, INTERNAL_ERROR], &mut words);
        }
        if !self.goaway {
            control(GOAWAY, [self.last, BROKEN], &mut words);
        }
        Some(words)
    }

    /// What completes the frame that was begun. For a command a piece of output is made up, because
    /// an error after it is better than a cut that looks like a success; for all else it is not.
    fn rest(&self) -> Option<Vec<u8>> {
        if self.down.is_at_boundary() {
            return Some(Vec::new());
        }
        let left = self.down.left_of_data()?;
        (self.is_command() && left <= MAX_REST).then(|| alloc::vec![0; left])
    }
}

/// The last frame of data on a stream.
fn data(stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let len = u32::try_from(payload.len()).unwrap_or_default();
    out.extend(stream.to_be_bytes());
    out.extend((u32::from(FIN) << 24 | len).to_be_bytes());
    out.extend_from_slice(payload);
}

fn control(kind: u16, payload: [u32; 2], out: &mut Vec<u8>) {
    out.extend(0x8003_u16.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(8_u32.to_be_bytes());
    out.extend(payload.iter().flat_map(|word| word.to_be_bytes()));
}

/// A frame that has passed.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// Nothing for data.
    kind: Option<u16>,
    flags: u8,
    stream: u32,
    len: usize,
}

/// The frames of one direction: a head of eight bytes each, and in those about a stream its number
/// first.
#[derive(Debug, Default)]
struct Frames {
    /// What has come of the head and of the four bytes after it.
    start: [u8; 12],
    has: usize,
    /// What is missing of the rest.
    left: usize,
}

impl Frames {
    fn is_at_boundary(&self) -> bool {
        self.has == 0
    }

    /// What is missing of a frame of data whose head is whole.
    fn left_of_data(&self) -> Option<usize> {
        let data = self.start[0] & 0x80 == 0;
        (data && self.has >= 8).then_some(self.left)
    }

    /// Takes what completes a frame off `data`; nothing where there is no more.
    fn next(&mut self, data: &mut &[u8]) -> Option<Frame> {
        loop {
            if self.has >= 8 && self.left == 0 {
                return Some(self.end());
            }
            let (byte, rest) = data.split_first()?;
            if self.has < self.start.len() {
                if let Some(slot) = self.start.get_mut(self.has) {
                    *slot = *byte;
                }
                *data = rest;
                self.has += 1;
                match self.has {
                    ..8 => {}
                    8 => self.left = self.len(),
                    _ => self.left -= 1,
                }
                continue;
            }
            let now = self.left.min(data.len());
            *data = data.get(now..).unwrap_or_default();
            self.left -= now;
        }
    }

    fn len(&self) -> usize {
        let [_, _, _, _, _, a, b, c, ..] = self.start;
        u32::from_be_bytes([0, a, b, c]) as usize
    }

    fn end(&mut self) -> Frame {
        let [a, b, c, d, flags, _, _, _, e, f, g, h] = self.start;
        let control = a & 0x80 != 0;
        let stream = match control {
            true if self.has < 12 => [0; 4],
            true => [e, f, g, h],
            false => [a, b, c, d],
        };
        let frame = Frame {
            kind: control.then_some(u16::from_be_bytes([c, d])),
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
            len: self.len(),
        };
        self.has = 0;
        frame
    }
}
