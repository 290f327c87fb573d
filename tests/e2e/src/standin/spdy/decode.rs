//! Frames out of bytes that come in any pieces.

use bytes::BytesMut;
use thiserror::Error;

use super::frame::{
    CONTROL, FIN, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, SYN_REPLY, SYN_STREAM,
    WINDOW_UPDATE,
};
use super::headers::{Decompressor, HeadersError};

/// The longest frame. kubectl sends 32 KiB at most.
const LIMIT: usize = 1 << 20;

/// The length of the head of a frame.
const HEAD: usize = 8;

/// Why a connection cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// Not the version that was agreed on.
    #[error("a frame is of version {0} of SPDY, and not of version 3")]
    Version(u16),
    /// There is no such type.
    #[error("a control frame is of type {0}, which SPDY/3.1 does not have")]
    Type(u16),
    /// Too long to be held.
    #[error("a frame is {0} bytes long, more than {LIMIT}")]
    TooLong(usize),
    /// Its length does not fit its type.
    #[error("a control frame of type {0} has a wrong length")]
    Length(u16),
    /// Its headers cannot be read, and without them no later ones can.
    #[error(transparent)]
    Headers(#[from] HeadersError),
}

/// Reads the frames of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    headers: Decompressor,
    pending: BytesMut,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// At the start of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self {
            headers: Decompressor::new(),
            pending: BytesMut::new(),
        }
    }

    /// Takes bytes. To keep what is held small, take out all frames before the next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// How many bytes are held that are no whole frame, once there is no next one.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The next whole frame; `None` while there is none.
    ///
    /// # Errors
    ///
    /// What came is no frame. There is no way to go on after that.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        let Some(head) = self.pending.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [a, b, c, d, flags, length @ ..] = *head;
        let [high, middle, low] = length;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        if length > LIMIT {
            return Err(Error::TooLong(length));
        }
        if self.pending.len() < HEAD + length {
            return Ok(None);
        }
        let body = self.pending.split_to(HEAD + length).split_off(HEAD);
        let fin = flags & FIN != 0;
        if a & 0x80 == 0 {
            return Ok(Some(Frame::Data {
                stream: u32::from_be_bytes([a, b, c, d]),
                fin,
                data: body.into(),
            }));
        }
        let version = u16::from_be_bytes([a, b]);
        if version != CONTROL {
            return Err(Error::Version(version & 0x7fff));
        }
        self.control(u16::from_be_bytes([c, d]), fin, &body)
            .map(Some)
    }

    fn control(&mut self, kind: u16, fin: bool, body: &[u8]) -> Result<Frame, Error> {
        let mut body = Body { kind, rest: body };
        let frame = match kind {
            SYN_STREAM => {
                let stream = body.stream()?;
                // The stream that it belongs to, the priority and the slot.
                body.number()?;
                body.bytes::<2>()?;
                let headers = self.headers.decompress(body.block())?;
                Frame::SynStream {
                    stream,
                    fin,
                    headers,
                }
            }
            SYN_REPLY => Frame::SynReply {
                stream: body.stream()?,
                fin,
                headers: self.headers.decompress(body.block())?,
            },
            HEADERS => Frame::Headers {
                stream: body.stream()?,
                fin,
                headers: self.headers.decompress(body.block())?,
            },
            RST_STREAM => Frame::RstStream {
                stream: body.stream()?,
                status: body.number()?,
            },
            SETTINGS => {
                let count = body.number()?;
                let entries = (0..count).map(|_| Ok((body.number()?, body.number()?)));
                Frame::Settings(entries.collect::<Result<_, Error>>()?)
            }
            PING => Frame::Ping(body.number()?),
            GOAWAY => Frame::GoAway {
                last_stream: body.stream()?,
                status: body.number()?,
            },
            WINDOW_UPDATE => Frame::WindowUpdate {
                stream: body.stream()?,
                delta: body.stream()?,
            },
            other => return Err(Error::Type(other)),
        };
        match body.rest {
            [] => Ok(frame),
            _ => Err(Error::Length(kind)),
        }
    }
}

/// What is left of the body of a control frame.
struct Body<'a> {
    kind: u16,
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let split = self.rest.split_first_chunk();
        let (bytes, rest) = split.ok_or(Error::Length(self.kind))?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn number(&mut self) -> Result<u32, Error> {
        self.bytes().map(u32::from_be_bytes)
    }

    /// 31 bits; the one before them means nothing.
    fn stream(&mut self) -> Result<u32, Error> {
        Ok(self.number()? & 0x7fff_ffff)
    }

    /// All the rest.
    fn block(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}
