//! A byte stream of the tunnel as both of its users see one, hyper and whoever copies opaque bytes:
//! two directions that end on their own.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use controlplane_core::{Failure, Kind, ResponseHead, StreamEnd};
use futures_util::{AsyncRead, AsyncWrite};
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::body::{Broken, Event, Inflow, Outflow, Piece};

/// Longest piece that is handed over at once.
const PIECE: usize = 32 << 10;

/// A byte stream through the tunnel, which paces both directions on its own.
///
/// ```text
/// reading: Open ──the peer's end──▶ Ended      writing: Open ──poll_close──▶ Ended
///            └────the stream failed──▶ Failed             (both Ended: over)
/// ```
///
/// `poll_close` ends the writing half only. `poll_flush` returns once the tunnel has taken what was
/// written, which it does at the pace of the peer. Dropped before both halves have ended, the
/// stream is reset at once.
pub struct ByteStream {
    flow: Outflow,
    inflow: Inflow,
    /// What is left of the piece that is being read, and how long it was.
    rest: Bytes,
    owed: usize,
    reading: Reading,
    /// This end has said that it has no more to send.
    finished: bool,
    cause: Cause,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reading {
    Open,
    Ended,
    Failed,
}

/// Why a [`ByteStream`] failed. Clones are of the same stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cause(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    failure: OnceLock<Failure>,
    hung_up: AtomicBool,
}

impl Cause {
    /// Nothing where it did not fail, or nobody has seen it yet.
    pub(crate) fn get(&self) -> Option<Failure> {
        self.0.failure.get().cloned()
    }

    fn set(&self, failure: Failure) {
        let _ = self.0.failure.set(failure);
    }

    /// Whether something was written that nobody takes, while there is something left to be read.
    pub(crate) fn hung_up(&self) -> bool {
        self.0.hung_up.load(Ordering::Relaxed)
    }
}

impl ByteStream {
    pub(crate) fn new(flow: Outflow, inflow: Inflow) -> Self {
        Self {
            flow,
            inflow,
            rest: Bytes::new(),
            owed: 0,
            reading: Reading::Open,
            finished: false,
            cause: Cause::default(),
        }
    }

    /// Why the stream failed; nothing as long as no call has returned an error.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.cause.get()
    }

    /// The service that it leads to was reached.
    pub(crate) fn opened(&self) {
        self.inflow.tell(Event::Head(ResponseHead::default()));
    }

    /// The same, for when the stream is out of sight.
    pub(crate) fn cause(&self) -> Cause {
        self.cause.clone()
    }

    /// Gives back what was read too much: it is read next.
    pub(crate) fn unread(&mut self, data: Bytes) {
        if self.rest.is_empty() {
            self.rest = data;
        } else {
            self.rest = [data, std::mem::take(&mut self.rest)].concat().into();
        }
    }

    /// What can be read next: empty at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        while self.rest.is_empty() {
            match self.reading {
                Reading::Open => {}
                Reading::Ended => break,
                Reading::Failed => return Poll::Ready(Err(self.error())),
            }
            match ready!(self.flow.pieces.poll_next(cx)) {
                Some(Piece::Data(_, data)) => {
                    self.owed = data.len();
                    self.rest = data;
                    self.settle();
                }
                Some(Piece::End) => self.reading = Reading::Ended,
                Some(Piece::Failed(failure)) => self.fail(failure),
                Some(Piece::Closed(..) | Piece::Head(_)) | None => {
                    self.fail(Failure::Disconnected);
                }
            }
        }
        Poll::Ready(Ok(&self.rest))
    }

    fn consume(&mut self, len: usize) {
        self.rest.advance(len);
        self.settle();
    }

    /// Makes room at the peer for a piece that was read in full.
    fn settle(&mut self) {
        if self.rest.is_empty() {
            let owed = std::mem::take(&mut self.owed);
            if owed > 0 {
                self.inflow.tell(Event::Consumed(owed));
            }
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.cause.set(failure);
        self.reading = Reading::Failed;
    }

    /// Whether the peer has said its last, of which some is still to be read.
    fn hung_up(&self) -> bool {
        let hung_up = self.reading == Reading::Open && self.flow.pieces.has_ended();
        if hung_up {
            self.cause.0.hung_up.store(true, Ordering::Relaxed);
        }
        hung_up
    }

    /// What hyper's writing comes to: at an error hyper would not read on, and an answer that came
    /// early would be lost. How the stream ended shows to who reads it.
    fn unless_hung_up<T>(&self, written: Poll<io::Result<T>>, done: T) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(Err(_)) if self.hung_up() => Poll::Ready(Ok(done)),
            written => written,
        }
    }

    fn error(&self) -> io::Error {
        let failure = self.cause.get().unwrap_or(Failure::Disconnected);
        io::Error::new(io::ErrorKind::ConnectionReset, failure)
    }

    /// Nobody takes more. Why is said where data comes out, after all that came before.
    fn broken(&self, _: Broken) -> io::Error {
        if let Some(failure) = self.flow.pieces.failure() {
            self.cause.set(failure);
        }
        match self.cause.get() {
            Some(failure) => io::Error::new(io::ErrorKind::BrokenPipe, failure),
            None => io::ErrorKind::BrokenPipe.into(),
        }
    }

    /// Joins what was written to one piece.
    fn poll_send<'a>(
        &mut self,
        cx: &mut Context<'_>,
        parts: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Poll<io::Result<usize>> {
        if self.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_sent(cx))?;
        let len: usize = parts.clone().map(<[u8]>::len).sum();
        let len = len.min(PIECE);
        let mut piece = Vec::with_capacity(len);
        for part in parts {
            let room = len - piece.len();
            piece.extend_from_slice(part.get(..room).unwrap_or(part));
        }
        if len > 0 {
            self.inflow.offer(Kind::Bytes, piece.into());
        }
        Poll::Ready(Ok(len))
    }

    /// Waits until the tunnel has taken what was written.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.inflow.over && !self.finished {
            return Poll::Ready(Err(self.broken(Broken)));
        }
        let sent = ready!(self.inflow.poll_settled(cx));
        Poll::Ready(sent.map_err(|broken| self.broken(broken)))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            ready!(self.poll_sent(cx))?;
            self.finished = true;
            self.inflow.end(StreamEnd::Clean);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for ByteStream {
    fn drop(&mut self) {
        let over = match self.reading {
            Reading::Open => false,
            Reading::Ended => self.finished,
            Reading::Failed => true,
        };
        if !over {
            self.inflow.tell(Event::Cancel);
        }
        self.rest.clear();
        self.settle();
    }
}

/// What passes may be secret.
impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream")
            .field("id", &self.flow.id)
            .field("reading", &self.reading)
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let data = ready!(self.poll_fill(cx))?;
        let len = data.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..len), data.get(..len)) {
            to.copy_from_slice(from);
        }
        self.consume(len);
        Poll::Ready(Ok(len))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, std::iter::once(data))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_finish(cx)
    }
}

/// Without a buffer between: what came is copied once.
impl Read for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let data = ready!(self.poll_fill(cx))?;
        let len = data.len().min(out.remaining());
        out.put_slice(data.get(..len).unwrap_or_default());
        self.consume(len);
        Poll::Ready(Ok(()))
    }
}

/// For hyper as a client.
impl Write for ByteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.hung_up() {
            return Poll::Ready(Ok(data.len()));
        }
        let sent = self.poll_send(cx, std::iter::once(data));
        self.unless_hung_up(sent, data.len())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = parts.iter().map(|part| part.len()).sum();
        if self.hung_up() {
            return Poll::Ready(Ok(len));
        }
        let sent = self.poll_send(cx, parts.iter().map(|part| &**part));
        self.unless_hung_up(sent, len)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = self.poll_sent(cx);
        self.unless_hung_up(sent, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let finished = self.poll_finish(cx);
        self.unless_hung_up(finished, ())
    }
}

#[cfg(test)]
mod tests;
