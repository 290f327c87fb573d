//! WebSocket frames as the real server treats them. It is built on golang.org/x/net/websocket,
//! which joins no fragments, looks at no reserved bit and takes text like binary, so that no
//! library that keeps to RFC 6455 can stand in for it.

use std::io;

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The longest message that the real server takes.
const LIMIT: u64 = 32 << 20;

/// How much of a ping comes back.
const CONTROL_LIMIT: usize = 125;

/// A binary message.
pub(super) const BINARY: u8 = 2;

/// A text message.
pub(super) const TEXT: u8 = 1;

const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What a client has sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The payload of a data frame. Each fragment of a message is one, too.
    Message(Vec<u8>),
    /// To be answered with the same.
    Ping(Vec<u8>),
    Pong,
    Close,
    /// The head of a frame that a client may not send like that; its rest is not read.
    Unmasked,
}

/// Reads the next frame. The end of the connection is an error.
pub(super) async fn receive(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Received> {
    let first = io.read_u8().await?;
    let second = io.read_u8().await?;
    let length = match second & 0x7f {
        126 => u64::from(io.read_u16().await?),
        127 => io.read_u64().await?,
        length => u64::from(length),
    };
    if second & 0x80 == 0 {
        return Ok(Received::Unmasked);
    }
    if length > LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "frame too large",
        ));
    }
    let mut mask = [0; 4];
    io.read_exact(&mut mask).await?;
    let mut payload = Vec::new();
    let read = io.take(length).read_to_end(&mut payload).await?;
    if read as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(match first & 0x0f {
        CLOSE => Received::Close,
        PING => {
            payload.truncate(CONTROL_LIMIT);
            Received::Ping(payload)
        }
        PONG => Received::Pong,
        _ => Received::Message(payload),
    })
}

/// Writes frames. A write that is given up leaves nothing half done: the next one goes on with it.
#[derive(Debug)]
pub(super) struct FrameWriter<W> {
    io: W,
    pending: BytesMut,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes to `io`.
    pub(super) fn new(io: W) -> Self {
        Self {
            io,
            pending: BytesMut::new(),
        }
    }

    /// Writes bytes that are no frame.
    pub(super) async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.put_slice(bytes);
        self.drain().await
    }

    /// Writes a message.
    pub(super) async fn message(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        encode(opcode, payload, &mut self.pending);
        self.drain().await
    }

    /// Answers a ping.
    pub(super) async fn pong(&mut self, payload: &[u8]) -> io::Result<()> {
        self.message(PONG, payload).await
    }

    /// Writes a close frame with that code and no reason.
    pub(super) async fn close(&mut self, code: u16) -> io::Result<()> {
        self.message(CLOSE, &code.to_be_bytes()).await
    }

    /// Ends the writing side; what is still to be written is dropped.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }

    async fn drain(&mut self) -> io::Result<()> {
        while self.pending.has_remaining() {
            let written = self.io.write(&self.pending).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.pending.advance(written);
        }
        self.io.flush().await
    }
}

/// A whole frame of a server: final and not masked.
fn encode(opcode: u8, payload: &[u8], out: &mut BytesMut) {
    out.put_u8(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..126), _) => out.put_u8(length),
        (_, Ok(length)) => {
            out.put_u8(126);
            out.put_u16(length);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(payload.len() as u64);
        }
    }
    out.put_slice(payload);
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures_util::FutureExt as _;

    use super::*;

    /// A frame of a client, under the mask 1 2 3 4.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = BytesMut::new();
        encode(first & 0x0f, payload, &mut frame);
        let mut frame = frame.to_vec();
        frame[0] = first;
        frame[1] |= 0x80;
        let start = frame.len() - payload.len();
        let data = frame.split_off(start);
        frame.extend([1, 2, 3, 4]);
        let mask = [1, 2, 3, 4].into_iter().cycle();
        frame.extend(data.into_iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn read(mut bytes: &[u8]) -> Vec<Result<Received, io::ErrorKind>> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let frame = receive(&mut bytes).now_or_never().unwrap();
            let failed = frame.is_err();
            frames.push(frame.map_err(|error| error.kind()));
            if failed {
                break;
            }
        }
        frames
    }

    #[test]
    fn reads_frames_as_the_real_server_does() {
        let message = |text: &[u8]| Ok(Received::Message(text.to_vec()));
        let cases = [
            (masked(0x82, b"\0a"), message(b"\0a")),
            (masked(0x81, b"text"), message(b"text")),
            // A first fragment and a last one, each by itself.
            (masked(0x02, b"\0part1"), message(b"\0part1")),
            (masked(0x80, b"\0part2"), message(b"\0part2")),
            // Reserved bits and opcodes.
            (masked(0xf3, b"x"), message(b"x")),
            (masked(0x82, &[7; 300]), message(&[7; 300])),
            (masked(0x82, &[7; 70_000]), message(&[7; 70_000])),
            (masked(0x89, b"abc"), Ok(Received::Ping(b"abc".to_vec()))),
            (masked(0x89, &[1; 130]), Ok(Received::Ping(vec![1; 125]))),
            (masked(0x8a, b""), Ok(Received::Pong)),
            (masked(0x88, b"\x03\xe8bye"), Ok(Received::Close)),
            (vec![0x82, 0], Ok(Received::Unmasked)),
            (
                masked(0x82, b"ab")[..6].to_vec(),
                Err(io::ErrorKind::UnexpectedEof),
            ),
            (
                [&[0x82, 0xff][..], &(LIMIT + 1).to_be_bytes()].concat(),
                Err(io::ErrorKind::InvalidData),
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(read(&bytes), [expected], "{bytes:?}");
        }
        let both = [masked(0x82, b"a"), masked(0x88, b"")].concat();
        assert_eq!(read(&both), [message(b"a"), Ok(Received::Close)]);
    }

    /// Takes three bytes at a time, and waits after each.
    #[derive(Default)]
    struct Slow {
        taken: Vec<u8>,
        ready: bool,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.ready = !self.ready;
            if !self.ready {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let count = data.len().min(3);
            self.taken.extend_from_slice(&data[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_write_that_was_given_up_is_finished_by_the_next() {
        let mut writer = FrameWriter::new(Slow::default());
        assert!(writer.message(BINARY, b"\x01abc").now_or_never().is_none());
        writer.close(1000).await.unwrap();
        assert_eq!(writer.io.taken, b"\x82\x04\x01abc\x88\x02\x03\xe8");
    }

    #[test]
    fn writes_all_lengths() {
        for (length, head) in [
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut frame = BytesMut::new();
            encode(BINARY, &vec![0; length], &mut frame);
            assert_eq!(frame[..head.len()], head);
            assert_eq!(frame.len(), head.len() + length);
        }
    }
}
