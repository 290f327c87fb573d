//! The tester's HTTP servers: controller and gateways, and the Kubernetes API. Each request waits
//! until a step looks at it; how it is answered is the player's affair.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{
    Request, Response,
    header::{CONTENT_TYPE, UPGRADE},
    request::Parts,
};
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use super::far::Got;

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Asked {
    /// It came over TLS.
    pub(super) secure: bool,
    pub(super) head: Parts,
    /// What comes after the head.
    pub(super) inbox: mpsc::UnboundedReceiver<Got>,
    pub(super) reply: Reply,
}

/// The way back of a request. Dropped, the connection breaks.
#[derive(Debug)]
pub(super) struct Reply {
    answer: oneshot::Sender<Response<Answer>>,
    got: mpsc::UnboundedSender<Got>,
    breaker: Arc<Breaker>,
    upgrade: OnUpgrade,
}

impl Reply {
    /// Answers; the body comes by what is returned.
    pub(super) fn answer(self, head: http::response::Builder) -> Result<BodyOut, String> {
        let (out, pieces) = mpsc::unbounded_channel();
        self.reply(head, pieces, Standing::Goes)?;
        Ok(out)
    }

    /// Switches protocols.
    pub(super) fn switch(self, head: http::response::Builder) -> Result<OnUpgrade, String> {
        let (_, pieces) = mpsc::unbounded_channel();
        self.reply(head, pieces, Standing::Ended)
    }

    fn reply(
        self,
        head: http::response::Builder,
        pieces: mpsc::UnboundedReceiver<Piece>,
        standing: Standing,
    ) -> Result<OnUpgrade, String> {
        let answer = Answer {
            pieces,
            got: self.got,
            breaker: self.breaker,
            standing,
        };
        let response = head.body(answer).map_err(|e| e.to_string())?;
        // Where the connection is gone, the inbox says so.
        let _ = self.answer.send(response);
        Ok(self.upgrade)
    }

    /// Where what comes is told.
    pub(super) fn got(&self) -> mpsc::UnboundedSender<Got> {
        self.got.clone()
    }
}

/// Where the pieces of a body are put.
pub(super) type BodyOut = mpsc::UnboundedSender<Piece>;

/// A piece of a body.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    End,
    /// It breaks off, after all that came before has left.
    Break,
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pieces: mpsc::UnboundedReceiver<Piece>,
    got: mpsc::UnboundedSender<Got>,
    breaker: Arc<Breaker>,
    standing: Standing,
}

/// Where a body stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    Goes,
    Ended,
    /// Its connection will break.
    Breaks,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.standing {
            Standing::Goes => {}
            Standing::Ended => return Poll::Ready(None),
            Standing::Breaks => return Poll::Pending,
        }
        match std::task::ready!(self.pieces.poll_recv(cx)) {
            Some(Piece::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Piece::End) => {
                self.standing = Standing::Ended;
                Poll::Ready(None)
            }
            Some(Piece::Break) | None => {
                self.standing = Standing::Breaks;
                self.breaker.armed.store(true, Ordering::Relaxed);
                Poll::Pending
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.standing == Standing::Goes {
            let _ = self.got.send(Got::Broken);
        }
    }
}

/// Breaks a connection as soon as all that was written has left.
#[derive(Debug, Default)]
struct Breaker {
    armed: AtomicBool,
    broken: AtomicBool,
    reader: Mutex<Option<Waker>>,
}

struct Breakable<T> {
    io: T,
    breaker: Arc<Breaker>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Breakable<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.breaker.broken.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let reader = &self.breaker.reader;
        *reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Breakable<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        let breaker = &self.breaker;
        if breaker.armed.load(Ordering::Relaxed) && !breaker.broken.swap(true, Ordering::Relaxed) {
            let mut reader = breaker
                .reader
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(reader) = reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What an agent may ask of its own accord, and what it is told.
pub(super) const VERSION: &str = "/version";
const VERSION_TOLD: &[u8] = br#"{"major":"1","minor":"33","gitVersion":"v1.33.0"}"#;

/// What each connection of a server shares.
#[derive(Clone)]
struct Shared {
    asks: mpsc::UnboundedSender<Asked>,
    failed: mpsc::UnboundedSender<()>,
    tells_version: Arc<AtomicBool>,
}

/// A server of the tester's. Its connections end with it.
#[derive(Debug)]
pub(super) struct Server {
    /// It answers by itself who asks for its version.
    pub(super) tells_version: Arc<AtomicBool>,
    pub(super) address: SocketAddr,
    pub(super) asks: mpsc::UnboundedReceiver<Asked>,
    /// Handshakes of TLS that failed.
    pub(super) failed: mpsc::UnboundedReceiver<()>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start(tls: TlsAcceptor) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (out, asks) = mpsc::unbounded_channel();
        let (failures, failed) = mpsc::unbounded_channel();
        let tells_version = Arc::new(AtomicBool::new(true));
        let shared = Shared {
            asks: out,
            failed: failures,
            tells_version: tells_version.clone(),
        };
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((tcp, _)) = accepted {
                        connections.spawn(connection(tcp, tls.clone(), shared.clone()));
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self {
            tells_version,
            address,
            asks,
            failed,
            task,
        })
    }
}

/// Serves a connection, by TLS where it begins so.
async fn connection(tcp: TcpStream, tls: TlsAcceptor, shared: Shared) {
    const HANDSHAKE: u8 = 0x16;
    let _ = tcp.set_nodelay(true);
    let mut first = [0];
    match tcp.peek(&mut first).await {
        Ok(1) if first == [HANDSHAKE] => match tls.accept(tcp).await {
            Ok(io) => serve(io, true, shared).await,
            Err(_) => drop(shared.failed.send(())),
        },
        Ok(1) => serve(tcp, false, shared).await,
        _ => {}
    }
}

async fn serve<T>(io: T, secure: bool, shared: Shared)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let breaker = Arc::new(Breaker::default());
    let io = TokioIo::new(Breakable {
        io,
        breaker: breaker.clone(),
    });
    let service =
        service_fn(move |request| exchange(request, secure, breaker.clone(), shared.clone()));
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .serve_connection(io, service)
        .with_upgrades();
    // What went wrong is the subject's to notice, or was meant so.
    let _ = connection.await;
}

/// Says that a request broke, where it was not answered.
struct Unanswered(Option<mpsc::UnboundedSender<Got>>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(got) = self.0.take() {
            let _ = got.send(Got::Broken);
        }
    }
}

async fn exchange(
    mut request: Request<Incoming>,
    secure: bool,
    breaker: Arc<Breaker>,
    shared: Shared,
) -> io::Result<Response<Answer>> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let (got, inbox) = mpsc::unbounded_channel();
    if !head.headers.contains_key(UPGRADE) {
        tokio::spawn(read(body, got.clone()));
    }
    let mut unanswered = Unanswered(Some(got.clone()));
    let (answer, answered) = oneshot::channel();
    let reply = Reply {
        answer,
        got,
        breaker,
        upgrade,
    };
    if head.uri.path() == VERSION && shared.tells_version.load(Ordering::Relaxed) {
        tell_version(reply);
    } else {
        let _ = shared.asks.send(Asked {
            secure,
            head,
            inbox,
            reply,
        });
    }
    let answered = answered.await;
    unanswered.0 = None;
    answered.map_err(|_| io::ErrorKind::ConnectionReset.into())
}

fn tell_version(reply: Reply) {
    let head = Response::builder().header(CONTENT_TYPE, "application/json");
    if let Ok(out) = reply.answer(head) {
        let _ = out.send(Piece::Data(VERSION_TOLD.into()));
        let _ = out.send(Piece::End);
    }
}

async fn read(mut body: Incoming, got: mpsc::UnboundedSender<Got>) {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            let _ = got.send(Got::Broken);
            return;
        };
        if let Ok(data) = frame.into_data() {
            let _ = got.send(Got::Bytes(data.into()));
        }
    }
    let _ = got.send(Got::Complete);
}
