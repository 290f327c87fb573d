//! Reads the frames that one end writes, and sees to it that each is legal where it stands (P-119).

use std::collections::BTreeMap;

use controlplane_core::yamux::INITIAL_WINDOW;

/// What a frame is, as it stands in the header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Bytes of a stream.
    Data,
    /// More may be sent.
    Update,
    /// Is anybody there?
    Ping,
    /// No more streams.
    GoAway,
}

/// Flags of a header.
mod flag {
    /// The first frame of a stream.
    pub(super) const SYN: u16 = 1;
    /// The stream is accepted.
    pub(super) const ACK: u16 = 2;
    /// No more data.
    pub(super) const FIN: u16 = 4;
    /// The stream is gone.
    pub(super) const RST: u16 = 8;
}

/// A header, and for data what comes with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// 1 SYN, 2 ACK, 4 FIN, 8 RST.
    pub flags: u16,
    /// Whose it is; 0 for the session's.
    pub stream: u32,
    /// Length, window, value or code.
    pub length: u32,
}

/// The bytes of a frame.
#[must_use]
pub fn encode(kind: u8, flags: u16, stream: u32, length: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, kind];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Cuts bytes into frames, and nothing more.
#[derive(Debug, Default)]
pub struct Plain {
    header: Vec<u8>,
    skip: usize,
}

impl Plain {
    /// The frames whose header is complete with these bytes.
    ///
    /// # Panics
    ///
    /// If a header cannot be read.
    pub fn frames(&mut self, mut bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            if self.skip > 0 {
                let len = self.skip.min(bytes.len());
                self.skip -= len;
                bytes = &bytes[len..];
                continue;
            }
            let len = (12 - self.header.len()).min(bytes.len());
            self.header.extend(&bytes[..len]);
            bytes = &bytes[len..];
            if self.header.len() == 12 {
                let frame = read(&self.header);
                self.header.clear();
                if frame.kind == Kind::Data {
                    self.skip = frame.length as usize;
                }
                frames.push(frame);
            }
        }
        frames
    }

    /// Whether nothing was cut off.
    #[must_use]
    pub(super) const fn is_between(&self) -> bool {
        self.skip == 0 && self.header.is_empty()
    }
}

fn read(header: &[u8]) -> Frame {
    assert_eq!(header[0], 0, "the version");
    let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|n| header[at + n]));
    Frame {
        kind: match header[1] {
            0 => Kind::Data,
            1 => Kind::Update,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            other => panic!("a frame of type {other}"),
        },
        flags: u16::from_be_bytes([header[2], header[3]]),
        stream: word(4),
        length: word(8),
    }
}

/// What one end wrote about a stream.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Bytes of data.
    pub data: u64,
    /// Windows, beyond the first.
    pub granted: u64,
    /// It said so.
    pub acked: bool,
    /// It has no more.
    pub fin: bool,
    /// It gave the stream up.
    pub rst: bool,
}

/// Reads one direction.
#[derive(Debug)]
pub struct Observer {
    plain: Plain,
    /// 1 where the writer gives odd ids.
    parity: u32,
    /// The last id it gave.
    last: u32,
    /// Of each stream.
    pub streams: BTreeMap<u32, Seen>,
    /// Values of pings that it asked, and that it answered.
    pub pings: [Vec<u32>; 2],
    /// It said that it leaves, with this code.
    pub left: Option<u32>,
    /// Its peer may open a stream again that was refused, which is refused again.
    pub refuses: bool,
}

impl Observer {
    /// Of an end whose ids are odd, or even.
    #[must_use]
    pub fn new(odd: bool) -> Self {
        Self {
            plain: Plain::default(),
            parity: u32::from(odd),
            last: 0,
            streams: BTreeMap::new(),
            pings: [Vec::new(), Vec::new()],
            left: None,
            refuses: false,
        }
    }

    /// Reads on.
    ///
    /// # Panics
    ///
    /// If a frame may not stand where it does.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let frames = self.plain.frames(bytes);
        for frame in &frames {
            match frame.kind {
                Kind::Data | Kind::Update => self.stream(frame),
                Kind::Ping => {
                    assert!(frame.stream == 0 && matches!(frame.flags, flag::SYN | flag::ACK));
                    let answer = usize::from(frame.flags == flag::ACK);
                    self.pings[answer].push(frame.length);
                }
                Kind::GoAway => {
                    assert!(frame.stream == 0 && frame.flags == 0, "{frame:?}");
                    self.left = Some(frame.length);
                }
            }
        }
        frames
    }

    /// Whether it wrote whole frames.
    #[must_use]
    pub(super) const fn is_between(&self) -> bool {
        self.plain.is_between()
    }

    fn stream(&mut self, frame: &Frame) {
        let has = |flag| frame.flags & flag != 0;
        let ours = frame.stream % 2 == self.parity;
        assert!(frame.stream != 0 && frame.flags < 16, "{frame:?}");
        if has(flag::SYN) {
            assert!(ours && frame.stream > self.last, "opened twice: {frame:?}");
            self.last = frame.stream;
        }
        assert!(!ours || frame.stream <= self.last, "not open: {frame:?}");
        let seen = self.streams.entry(frame.stream).or_default();
        let again = self.refuses && !ours && frame.flags == flag::RST;
        assert!(!seen.rst || again, "after its reset: {frame:?}");
        if has(flag::ACK) {
            assert!(!ours && !seen.acked, "{frame:?}");
            seen.acked = true;
        }
        match frame.kind {
            Kind::Data => {
                assert!(frame.length == 0 || !seen.fin, "after its end: {frame:?}");
                assert!(frame.length > 0 || frame.flags != 0, "empty: {frame:?}");
                seen.data += u64::from(frame.length);
            }
            _ => seen.granted += u64::from(frame.length),
        }
        assert!(!(has(flag::FIN) && seen.fin), "ended twice: {frame:?}");
        seen.fin |= has(flag::FIN);
        seen.rst |= has(flag::RST);
    }

    /// What may be sent to it on a stream, as far as it said so.
    #[must_use]
    pub fn window(&self, stream: u32) -> u64 {
        let granted = self.streams.get(&stream).map_or(0, |seen| seen.granted);
        INITIAL_WINDOW as u64 + granted
    }

    /// What it sent on a stream.
    #[must_use]
    pub fn data(&self, stream: u32) -> u64 {
        self.streams.get(&stream).map_or(0, |seen| seen.data)
    }
}
