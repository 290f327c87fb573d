//! The client, and the handlers that the tests share.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use controlplane_driver::{
    BodyWriter, Handler, IdentityPolicy, Request, Responder, ResponseHead, Runtime, rules::Gate,
    serve,
};
use futures_util::{AsyncRead, AsyncWrite};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

/// Longest head that is let in.
pub(super) const HEAD: usize = 16 << 10;
/// What the pipe holds in each direction.
pub(super) const PIPE: usize = 4096;

/// The client's end, and what serves the other.
pub(super) struct Client {
    pub(super) io: DuplexStream,
    pub(super) serving: JoinHandle<()>,
    /// Whether the connection was closed in order.
    pub(super) closed: Arc<AtomicBool>,
}

impl Client {
    pub(super) fn new<R: Runtime>(runtime: R, handler: impl Handler) -> Self {
        Self::with(runtime, handler, IdentityPolicy::ServiceAccount)
    }

    pub(super) fn with<R: Runtime>(
        runtime: R,
        handler: impl Handler,
        policy: IdentityPolicy,
    ) -> Self {
        let (io, served) = tokio::io::duplex(PIPE);
        let closed = Arc::new(AtomicBool::new(false));
        let served = Watched(served.compat(), closed.clone());
        let gate = Gate::new(policy, HEAD);
        Self {
            io,
            serving: tokio::spawn(serve(runtime, served, gate, Arc::new(handler))),
            closed,
        }
    }

    pub(super) async fn write(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
    }

    pub(super) async fn read_until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            let byte = self.io.read_u8().await;
            let so_far = String::from_utf8_lossy(&read);
            read.push(byte.unwrap_or_else(|error| panic!("{error} after {so_far:?}")));
        }
        String::from_utf8(read).unwrap()
    }

    /// The head of an answer: its first line, and the others sorted.
    pub(super) async fn head(&mut self) -> (String, Vec<String>) {
        let head = self.read_until("\r\n\r\n").await;
        let mut lines = head.trim_end().lines().map(String::from);
        let first = lines.next().unwrap();
        let mut lines: Vec<_> = lines.collect();
        lines.sort_unstable();
        (first, lines)
    }

    /// The body of an answer that has this length.
    pub(super) async fn body(&mut self, length: usize) -> String {
        let mut body = vec![0; length];
        self.io.read_exact(&mut body).await.unwrap();
        String::from_utf8(body).unwrap()
    }

    /// An answer that declares its length.
    pub(super) async fn answer(&mut self) -> (String, Vec<String>, String) {
        let (first, lines) = self.head().await;
        let length = lines
            .iter()
            .find_map(|l| l.strip_prefix("content-length: "));
        let length = length.unwrap_or_else(|| panic!("{first}: no length in {lines:?}"));
        let body = self.body(length.parse().unwrap()).await;
        (first, lines, body)
    }

    /// What comes until the connection ends.
    pub(super) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.io.read_to_end(&mut rest).await.unwrap();
        String::from_utf8(rest).unwrap()
    }

    pub(super) fn was_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

/// Tells whether it was closed, which a pipe in memory does not.
pub(super) struct Watched(Compat<DuplexStream>, Arc<AtomicBool>);

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.1.store(true, Ordering::SeqCst);
        Pin::new(&mut self.0).poll_close(cx)
    }
}

pub(super) fn ok(headers: &[(&str, &str)]) -> ResponseHead {
    let headers = headers.iter().map(|(n, v)| (n.to_string(), v.to_string()));
    ResponseHead {
        status: 200,
        headers: headers.collect(),
    }
}

/// Answers with the request's body.
pub(super) async fn echo(mut request: Request, responder: Responder) {
    let length = request.head.headers.iter();
    let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let mut body = responder.respond(ResponseHead {
        status: 200,
        headers: length.cloned().collect(),
    });
    while let Some(piece) = request.body.next().await {
        let Ok(piece) = piece else {
            return;
        };
        if body.write(piece).await.is_err() {
            return;
        }
    }
    body.finish();
}

/// Answers with what the request says of itself.
pub(super) async fn mirror(request: Request, responder: Responder) {
    let head = &request.head;
    let query = head.query.as_deref().unwrap_or("-");
    let mut text = format!("{} {} {query}\n", head.method, head.path);
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {value}\n"));
    }
    let length = text.len().to_string();
    say(responder.respond(ok(&[("Content-Length", &length)])), &text).await;
}

pub(super) async fn say(mut body: BodyWriter, text: &str) {
    if body.write(text.to_string().into()).await.is_ok() {
        body.finish();
    }
}
