//! The twelve bytes before each frame (P-119).

use core::fmt;

/// Length of a header.
pub(super) const HEADER: usize = 12;

/// The window with which every stream begins, in bytes.
pub const INITIAL_WINDOW: usize = 256 << 10;

pub(super) const SYN: u16 = 1;
pub(super) const ACK: u16 = 2;
pub(super) const FIN: u16 = 4;
pub(super) const RST: u16 = 8;

/// What a frame is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Kind {
    Data = 0,
    Update = 1,
    Ping = 2,
    GoAway = 3,
}

/// Why an end gives the session up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Code {
    /// Nothing is wrong.
    Normal,
    /// The other end broke the protocol.
    Protocol,
    /// This end has a problem of its own, or a code that is not known.
    Internal,
}

impl Code {
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Normal => 0,
            Self::Protocol => 1,
            Self::Internal => 2,
        }
    }

    pub(super) const fn of(number: u32) -> Self {
        match number {
            0 => Self::Normal,
            1 => Self::Protocol,
            _ => Self::Internal,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal end",
            Self::Protocol => "protocol error",
            Self::Internal => "internal error",
        })
    }
}

/// A header. `length` counts the payload's bytes, or is a window, a ping's value or a [`Code`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) flags: u16,
    pub(super) stream: u32,
    pub(super) length: u32,
}

impl Header {
    pub(super) const fn encode(self) -> [u8; HEADER] {
        let [f1, f0] = self.flags.to_be_bytes();
        let [s3, s2, s1, s0] = self.stream.to_be_bytes();
        let [l3, l2, l1, l0] = self.length.to_be_bytes();
        [0, self.kind as u8, f1, f0, s3, s2, s1, s0, l3, l2, l1, l0]
    }

    /// Reads a header; what cannot be one comes back as the byte that is wrong.
    pub(super) const fn decode(bytes: [u8; HEADER]) -> Result<Self, Unreadable> {
        let [version, kind, f1, f0, s3, s2, s1, s0, l3, l2, l1, l0] = bytes;
        if version != 0 {
            return Err(Unreadable::Version(version));
        }
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Update,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            other => return Err(Unreadable::Type(other)),
        };
        Ok(Self {
            kind,
            flags: u16::from_be_bytes([f1, f0]),
            stream: u32::from_be_bytes([s3, s2, s1, s0]),
            length: u32::from_be_bytes([l3, l2, l1, l0]),
        })
    }

    pub(super) const fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// Why a header cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unreadable {
    Version(u8),
    Type(u8),
}
