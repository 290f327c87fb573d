//! Requests to switch protocols as a [`crate::Handler`] sees them: a handshake, and then opaque
//! bytes both ways.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use controlplane_core::{
    RequestHead, ResponseHead,
    rules::{Credentials, UpgradeTo},
};
use futures_util::{AsyncRead, AsyncWrite};

use crate::{
    body::Broken,
    front::Reply,
    handler::{BodyWriter, BoxFuture, Headers},
};

/// A request to switch protocols, on a connection of its own. It has no body.
#[derive(Debug)]
pub struct UpgradeRequest {
    /// Method, path, query and headers, those of the handshake among them.
    pub head: RequestHead,
    /// The protocol.
    pub to: UpgradeTo,
    /// Whether the handler adds its own credentials, or those in the headers count.
    pub credentials: Credentials,
}

/// Answers an [`UpgradeRequest`]. Dropped, the request fails.
#[must_use]
pub struct UpgradeResponder {
    reply: Reply,
    switched: BoxFuture<'static, Option<ClientIo>>,
}

impl std::fmt::Debug for UpgradeResponder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpgradeResponder").finish_non_exhaustive()
    }
}

impl UpgradeResponder {
    pub(crate) const fn new(reply: Reply, switched: BoxFuture<'static, Option<ClientIo>>) -> Self {
        Self { reply, switched }
    }

    /// Switches protocols by a 101 with these headers, which are those of the handshake, and
    /// returns with the client's side of the connection once that was sent.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub async fn accept(self, headers: Headers) -> Result<ClientIo, Broken> {
        self.reply.switch(headers);
        self.switched.await.ok_or(Broken)
    }

    /// The upstream refused with this answer, which reaches the client.
    pub fn refuse(self, head: ResponseHead) -> BodyWriter {
        BodyWriter::http(self.reply.answer(head))
    }

    /// There was no answer; the text reaches the controller.
    pub fn fail(self, text: impl Into<String>) {
        self.reply.fail(text.into());
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The client's side of a connection that has switched protocols.
///
/// The end of what is read is the client's half-close, and closing it is the other one. Dropped
/// before both, the connection breaks.
pub struct ClientIo {
    io: Box<dyn Duplex>,
    /// Came right behind the request.
    read: Bytes,
}

impl std::fmt::Debug for ClientIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientIo").finish_non_exhaustive()
    }
}

impl ClientIo {
    pub(crate) fn new(
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        read: Bytes,
    ) -> Self {
        let io = Box::new(io);
        Self { io, read }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let len = self.read.len().min(buffer.len());
        if let Some(buffer) = buffer.get_mut(..len) {
            self.read.copy_to_slice(buffer);
        }
        Poll::Ready(Ok(len))
    }
}

impl AsyncWrite for ClientIo {
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

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
