//! The runtime's byte streams as hyper wants them.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{AsyncRead, AsyncWrite};
use hyper::rt::{Read, ReadBufCursor, Write};

const BUFFER: usize = 32 << 10;

/// A futures byte stream for hyper. It reads through a buffer of its own, because hyper's may be
/// uninitialised and only unsafe code could hand it on.
pub(crate) struct HyperIo<T> {
    io: T,
    buffer: Box<[u8]>,
}

impl<T> HyperIo<T> {
    pub(crate) fn new(io: T) -> Self {
        Self {
            io,
            buffer: vec![0; BUFFER].into(),
        }
    }

    pub(crate) fn into_inner(self) -> T {
        self.io
    }
}

impl<T: AsyncRead + Unpin> Read for HyperIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let room = out.remaining().min(this.buffer.len());
        let Some(buffer) = this.buffer.get_mut(..room) else {
            return Poll::Ready(Ok(()));
        };
        let len = ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
        out.put_slice(buffer.get(..len).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> Write for HyperIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
