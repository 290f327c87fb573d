//! The frames, and how they are written.

use super::headers::{Compressor, Headers, HeadersError};

/// The reason of a reset: the stream was not taken.
pub const REFUSED_STREAM: u32 = 3;

/// The reason of a reset: the other side broke the rules.
pub const PROTOCOL_ERROR: u32 = 1;

/// The reason of a reset: the stream is no longer wanted.
pub const CANCEL: u32 = 5;

/// The types of control frames.
pub(super) const SYN_STREAM: u16 = 1;
pub(super) const SYN_REPLY: u16 = 2;
pub(super) const RST_STREAM: u16 = 3;
pub(super) const SETTINGS: u16 = 4;
pub(super) const PING: u16 = 6;
pub(super) const GOAWAY: u16 = 7;
pub(super) const HEADERS: u16 = 8;
pub(super) const WINDOW_UPDATE: u16 = 9;

/// The flag of the last frame of a stream, in its direction.
pub(super) const FIN: u8 = 1;

/// The bit that tells a control frame, with the version behind it.
pub(super) const CONTROL: u16 = 0x8003;

/// A frame. The numbers of streams are 31 bits; those of a client are odd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A stream begins.
    SynStream {
        /// Its number.
        stream: u32,
        /// Whether its sender has no more to send.
        fin: bool,
        /// What it is for.
        headers: Headers,
    },
    /// A stream is taken.
    SynReply {
        /// Its number.
        stream: u32,
        /// Whether its sender has no more to send.
        fin: bool,
        /// What there is to say about it: with Kubernetes, nothing.
        headers: Headers,
    },
    /// A stream ends at once, in both directions.
    RstStream {
        /// Its number.
        stream: u32,
        /// Why, such as [`CANCEL`].
        status: u32,
    },
    /// Identifiers, with their flags in the upper eight bits, and values.
    Settings(Vec<(u32, u32)>),
    /// To be answered with the same by the side that did not choose the number.
    Ping(u32),
    /// The sender takes no more streams.
    GoAway {
        /// The last stream that it has taken.
        last_stream: u32,
        /// Why; 0 is no error.
        status: u32,
    },
    /// More about a stream.
    Headers {
        /// Its number.
        stream: u32,
        /// Whether its sender has no more to send.
        fin: bool,
        /// The pairs.
        headers: Headers,
    },
    /// The sender can take so many bytes more.
    WindowUpdate {
        /// The stream; 0 for all of them together.
        stream: u32,
        /// How many bytes.
        delta: u32,
    },
    /// A piece of what a stream carries.
    Data {
        /// Its number.
        stream: u32,
        /// Whether it is the last.
        fin: bool,
        /// The bytes.
        data: Vec<u8>,
    },
}

/// Writes the frames of one direction of a connection.
#[derive(Debug)]
pub struct Encoder {
    headers: Compressor,
    /// The frame that is being made.
    body: Vec<u8>,
}

impl Encoder {
    /// At the start of a connection.
    ///
    /// # Errors
    ///
    /// [`HeadersError::Compression`], if the compressor does not take the dictionary.
    pub fn new() -> Result<Self, HeadersError> {
        Ok(Self {
            headers: Compressor::new()?,
            body: Vec::new(),
        })
    }

    /// Appends a frame.
    ///
    /// # Errors
    ///
    /// [`HeadersError::TooLong`]. Nothing is appended then.
    pub fn encode(&mut self, frame: &Frame, out: &mut Vec<u8>) -> Result<(), HeadersError> {
        self.body.clear();
        match frame {
            Frame::SynStream {
                stream,
                fin,
                headers,
            } => {
                // No stream that it belongs to, the highest priority, no slot.
                self.numbers(&[*stream, 0]);
                self.body.extend([0, 0]);
                self.block(headers)?;
                self.control(SYN_STREAM, *fin, out)?;
            }
            Frame::SynReply {
                stream,
                fin,
                headers,
            } => {
                self.numbers(&[*stream]);
                self.block(headers)?;
                self.control(SYN_REPLY, *fin, out)?;
            }
            Frame::RstStream { stream, status } => {
                self.numbers(&[*stream, *status]);
                self.control(RST_STREAM, false, out)?;
            }
            Frame::Settings(entries) => {
                let count = u32::try_from(entries.len()).map_err(|_| HeadersError::TooLong)?;
                self.numbers(&[count]);
                for (identifier, value) in entries {
                    self.numbers(&[*identifier, *value]);
                }
                self.control(SETTINGS, false, out)?;
            }
            Frame::Ping(number) => {
                self.numbers(&[*number]);
                self.control(PING, false, out)?;
            }
            Frame::GoAway {
                last_stream,
                status,
            } => {
                self.numbers(&[*last_stream, *status]);
                self.control(GOAWAY, false, out)?;
            }
            Frame::Headers {
                stream,
                fin,
                headers,
            } => {
                self.numbers(&[*stream]);
                self.block(headers)?;
                self.control(HEADERS, *fin, out)?;
            }
            Frame::WindowUpdate { stream, delta } => {
                self.numbers(&[*stream, *delta]);
                self.control(WINDOW_UPDATE, false, out)?;
            }
            Frame::Data { stream, fin, data } => {
                out.extend(stream.to_be_bytes());
                out.extend(length(data, *fin)?);
                out.extend(data);
            }
        }
        Ok(())
    }

    fn numbers(&mut self, numbers: &[u32]) {
        let bytes = numbers.iter().flat_map(|number| number.to_be_bytes());
        self.body.extend(bytes);
    }

    fn block(&mut self, headers: &Headers) -> Result<(), HeadersError> {
        self.headers.compress(headers, &mut self.body)
    }

    fn control(&self, kind: u16, fin: bool, out: &mut Vec<u8>) -> Result<(), HeadersError> {
        let length = length(&self.body, fin)?;
        out.extend(CONTROL.to_be_bytes());
        out.extend(kind.to_be_bytes());
        out.extend(length);
        out.extend(&self.body);
        Ok(())
    }
}

/// The flags, and the length in 24 bits.
fn length(body: &[u8], fin: bool) -> Result<[u8; 4], HeadersError> {
    let length = u32::try_from(body.len()).ok();
    let length = length.filter(|length| *length < 1 << 24);
    let [_, high, middle, low] = length.ok_or(HeadersError::TooLong)?.to_be_bytes();
    Ok([if fin { FIN } else { 0 }, high, middle, low])
}
