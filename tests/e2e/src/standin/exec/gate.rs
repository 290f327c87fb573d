//! A connection that a test can freeze: no byte passes either way, and nothing ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

/// A connection with its gate.
pub(super) struct Gate<I> {
    io: I,
    reading: Thaw,
    writing: Thaw,
}

impl<I> Gate<I> {
    /// Closed while `frozen` is true.
    pub(super) fn new(io: I, frozen: watch::Receiver<bool>) -> Self {
        Self {
            io,
            reading: Thaw::new(frozen.clone()),
            writing: Thaw::new(frozen),
        }
    }
}

/// The waiting of one side, which has a waker of its own.
struct Thaw {
    frozen: watch::Receiver<bool>,
    waiting: Option<BoxFuture<'static, ()>>,
}

impl Thaw {
    fn new(frozen: watch::Receiver<bool>) -> Self {
        Self {
            frozen,
            waiting: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            if !*self.frozen.borrow() {
                return Poll::Ready(());
            }
            let mut frozen = self.frozen.clone();
            self.waiting = Some(Box::pin(async move {
                // An error says that the server is gone, and the connection goes with it.
                drop(frozen.wait_for(|frozen| !frozen).await);
            }));
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Gate<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.reading.poll(cx));
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Gate<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.writing.poll(cx));
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.writing.poll(cx));
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.writing.poll(cx));
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn nothing_passes_while_it_is_frozen() {
        let frozen = watch::Sender::new(false);
        let (near, mut far) = tokio::io::duplex(16);
        let mut gate = Gate::new(near, frozen.subscribe());
        far.write_all(b"ab").await.unwrap();
        assert_eq!(gate.read_u8().await.unwrap(), b'a');
        frozen.send_replace(true);
        assert!(gate.read_u8().now_or_never().is_none());
        assert!(gate.write_all(b"c").now_or_never().is_none());
        assert!(far.read_u8().now_or_never().is_none());
        let (read, thawed) = tokio::join!(gate.read_u8(), async {
            tokio::task::yield_now().await;
            frozen.send_replace(false)
        });
        assert_eq!((read.unwrap(), thawed), (b'b', true));
        gate.write_all(b"c").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'c');
    }
}
