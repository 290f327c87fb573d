//! A connection that is lent to hyper, which gives none back that it has closed.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use futures_util::{AsyncRead, AsyncWrite};

use super::unread::Unsent;

/// Where a connection returns to.
pub(super) struct Place<T>(Arc<Mutex<Option<T>>>);

impl<T> Default for Place<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Place<T> {
    /// What has come back.
    pub(super) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A connection that returns to its place when it is dropped.
pub(super) struct Lent<T> {
    io: Option<T>,
    place: Arc<Mutex<Option<T>>>,
    unsent: Unsent,
}

impl<T> Lent<T> {
    pub(super) fn new(io: T, place: &Place<T>, unsent: Unsent) -> Self {
        Self {
            io: Some(io),
            place: place.0.clone(),
            unsent,
        }
    }

    /// The connection, which does not return.
    pub(super) fn keep(mut self) -> Option<T> {
        self.io.take()
    }

    fn io(&mut self) -> io::Result<&mut T> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        self.io.as_mut().ok_or_else(gone)
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        if let Some(io) = self.io.take() {
            let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
            *place = Some(io);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Lent<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.io()?).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Lent<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.io()?).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(self.io()?).poll_flush(cx))?;
        self.unsent.clear();
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io()?).poll_close(cx)
    }
}
