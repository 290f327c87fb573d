//! Frames of SPDY on a connection: on its bytes, or on those of the messages of a WebSocket, which
//! cut them anywhere.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::frame::{self, BINARY, FrameWriter};
use crate::standin::spdy::{self, Decoder, Encoder, Frame, HeadersError};

/// How much is read at once.
const CHUNK: usize = 32 * 1024;

/// What the bytes are carried by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// The connection itself.
    Connection,
    /// The messages of a WebSocket.
    WebSocket,
}

/// Why a connection cannot be used on.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    #[error("the connection broke: {0}")]
    Connection(#[from] io::Error),
    #[error("the client sends no SPDY: {0}")]
    Spdy(#[from] spdy::Error),
    #[error("cannot write a frame: {0}")]
    Frame(#[from] HeadersError),
    #[error("the client sends a WebSocket frame that is not masked")]
    Unmasked,
    #[error("the client does not open the streams that it asked for")]
    Streams,
}

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Frame(Frame),
    /// A ping of the WebSocket.
    Ping(Vec<u8>),
    /// The client has ended its side.
    End,
}

/// Reads frames.
#[derive(Debug)]
pub(super) struct Reader<R> {
    pub(super) io: R,
    carrier: Carrier,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads from `io`.
    pub(super) fn new(io: R, carrier: Carrier) -> Self {
        Self {
            io,
            carrier,
            decoder: Decoder::new(),
            buffer: vec![0; CHUNK],
        }
    }

    /// The next of them. Not to be given up, for what has been read of it is lost then.
    pub(super) async fn receive(&mut self) -> Result<Received, LinkError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Received::Frame(frame));
            }
            if self.carrier == Carrier::Connection {
                match self.io.read(&mut self.buffer).await? {
                    0 => return Ok(Received::End),
                    count => self.decoder.push(&self.buffer[..count]),
                }
                continue;
            }
            match frame::receive(&mut self.io).await? {
                frame::Received::Message(bytes) => self.decoder.push(&bytes),
                frame::Received::Ping(payload) => return Ok(Received::Ping(payload)),
                frame::Received::Pong => {}
                frame::Received::Close => return Ok(Received::End),
                frame::Received::Unmasked => return Err(LinkError::Unmasked),
            }
        }
    }
}

/// Writes frames. A write that is given up leaves nothing half done: the next one goes on with it.
#[derive(Debug)]
pub(super) struct Writer<W> {
    io: FrameWriter<W>,
    carrier: Carrier,
    encoder: Encoder,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes to `io`.
    pub(super) fn new(io: W, carrier: Carrier) -> Result<Self, LinkError> {
        Ok(Self {
            io: FrameWriter::new(io),
            carrier,
            encoder: Encoder::new()?,
        })
    }

    /// Writes bytes before the first frame.
    pub(super) async fn raw(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        Ok(self.io.raw(bytes).await?)
    }

    /// Writes frames, in one message if it is messages.
    pub(super) async fn frames(&mut self, frames: &[Frame]) -> Result<(), LinkError> {
        let mut bytes = Vec::new();
        for frame in frames {
            self.encoder.encode(frame, &mut bytes)?;
        }
        match self.carrier {
            Carrier::Connection => self.io.raw(&bytes).await?,
            Carrier::WebSocket => self.io.message(BINARY, &bytes).await?,
        }
        Ok(())
    }

    /// Writes a piece of what a stream carries.
    pub(super) async fn data(&mut self, stream: u32, data: &[u8]) -> Result<(), LinkError> {
        let data = data.to_vec();
        let fin = false;
        self.frames(&[Frame::Data { stream, fin, data }]).await
    }

    /// Ends this side of streams.
    pub(super) async fn fin(&mut self, stream: u32) -> Result<(), LinkError> {
        self.frames(&[end_of(stream)]).await
    }

    /// Answers a ping of the WebSocket.
    pub(super) async fn pong(&mut self, payload: &[u8]) -> Result<(), LinkError> {
        Ok(self.io.pong(payload).await?)
    }

    /// Writes the close frame of a WebSocket, if it is one.
    pub(super) async fn close(&mut self, code: u16) -> Result<(), LinkError> {
        match self.carrier {
            Carrier::Connection => Ok(()),
            Carrier::WebSocket => Ok(self.io.close(code).await?),
        }
    }

    /// Ends the writing side; what is still to be written is dropped.
    pub(super) async fn shutdown(&mut self) -> Result<(), LinkError> {
        Ok(self.io.shutdown().await?)
    }
}

/// The frame that ends this side of a stream.
pub(super) fn end_of(stream: u32) -> Frame {
    Frame::Data {
        stream,
        fin: true,
        data: Vec::new(),
    }
}

/// The frame that takes a stream.
pub(super) fn reply_to(stream: u32) -> Frame {
    Frame::SynReply {
        stream,
        fin: false,
        headers: Vec::new(),
    }
}

/// The value of a header. Go writes the names in lower case.
pub(super) fn value<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    let found = headers.iter().find(|(key, _)| key == name);
    found.map_or("", |(_, value)| value)
}
