//! A connection that is TLS, over a TCP connection or over one that is TLS itself, as within the
//! tunnel of a proxy that is reached by TLS.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_util::{AsyncRead, AsyncWrite};
use rustls::{ClientConnection, pki_types::CertificateDer};

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// TLS over whatever a runtime lays it over.
pub struct TlsIo {
    io: Box<dyn Bytes>,
    certificate: Option<CertificateDer<'static>>,
}

impl TlsIo {
    /// A connection whose handshake is over; `wrap` makes it what the driver reads and writes.
    pub fn new<S, T>(
        stream: S,
        connection: impl FnOnce(&S) -> &ClientConnection,
        wrap: impl FnOnce(S) -> T,
    ) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shown = connection(&stream).peer_certificates();
        let certificate = shown.and_then(|chain| chain.first().cloned());
        Self {
            io: Box::new(wrap(stream)),
            certificate,
        }
    }

    /// The certificate that the server showed.
    #[must_use]
    pub const fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.certificate.as_ref()
    }
}

/// The certificate that the server showed at the last dial. Clones are of the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct SeenCertificate(Arc<Mutex<Option<CertificateDer<'static>>>>);

impl SeenCertificate {
    pub(crate) fn get(&self) -> Option<CertificateDer<'static>> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    pub(crate) fn set(&self, certificate: Option<CertificateDer<'static>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = certificate;
    }
}

impl fmt::Debug for TlsIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIo").finish_non_exhaustive()
    }
}

impl AsyncRead for TlsIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
