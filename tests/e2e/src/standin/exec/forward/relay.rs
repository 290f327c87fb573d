//! One TCP connection to a pod and its pair of streams.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::SharedWriter;
use crate::standin::exec::link::{LinkError, end_of};
use crate::standin::spdy::{CANCEL, Frame};

/// How much of what the pod sends goes in one frame; that of the real server.
const CHUNK: usize = 32 * 1024;

/// The sandbox of all pods, as the container runtime names it.
const SANDBOX: &str = "00000000000000000000000000000000000000000000000000000000000000ab";

/// Its network, likewise.
const NETWORK: &str = "/var/run/netns/cni-00000000-0000-0000-0000-000000000000";

/// Both streams.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) error: u32,
    pub(super) data: u32,
    pub(super) port: u16,
    /// What the client sends; ends when it has no more to send, and when it resets the stream.
    pub(super) pieces: mpsc::Receiver<Vec<u8>>,
    /// Resolves when the client resets the stream.
    pub(super) reset: oneshot::Receiver<()>,
}

/// A connection to be made and served.
pub(super) struct Relay<W> {
    pub(super) writer: SharedWriter<W>,
    /// Where the port leads; `None` is a port where nobody listens.
    pub(super) to: Option<SocketAddr>,
    pub(super) pair: Pair,
}

/// How it ended.
enum End {
    /// Both directions ended in order.
    Clean,
    /// The client reset it.
    Reset,
    /// It could not be made.
    Refused,
    /// The pod's end of it broke.
    Broken,
}

/// Why it is not served on.
enum Stop {
    /// The pod's end of it broke.
    Broken,
    /// The client is gone, as the reader of its connection will see.
    Link(LinkError),
}

impl From<LinkError> for Stop {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl<W: AsyncWrite + Unpin> Relay<W> {
    /// Serves it to its end.
    pub(super) async fn run(mut self) {
        let Ok(end) = self.relay().await else {
            return;
        };
        let Pair {
            error, data, port, ..
        } = self.pair;
        let mut frames = Vec::new();
        match end {
            End::Clean | End::Reset => {}
            // Not told in words: those would make kubectl give up all connections.
            End::Broken => frames.push(Frame::RstStream {
                stream: data,
                status: CANCEL,
            }),
            End::Refused => frames.extend([
                end_of(data),
                Frame::Data {
                    stream: error,
                    fin: false,
                    data: refused(port).into_bytes(),
                },
            ]),
        }
        frames.push(end_of(error));
        // Where that fails, the client is gone.
        drop(self.writer.lock().await.frames(&frames).await);
    }

    async fn relay(&mut self) -> Result<End, LinkError> {
        let Self { writer, to, pair } = self;
        let Pair { pieces, reset, .. } = pair;
        let Some(to) = *to else {
            return Ok(End::Refused);
        };
        let connected = tokio::select! {
            biased;
            // An error says that its sender is gone.
            _ = &mut *reset => return Ok(End::Reset),
            connected = TcpStream::connect(to) => connected,
        };
        let Ok(mut tcp) = connected else {
            return Ok(End::Refused);
        };
        // Only slower without it.
        drop(tcp.set_nodelay(true));
        let (from_pod, to_pod) = tcp.split();
        let both = async {
            tokio::try_join!(
                download(writer, pair.data, from_pod),
                upload(to_pod, pieces)
            )
        };
        let stopped = tokio::select! {
            biased;
            _ = reset => None,
            both = both => Some(both),
        };
        match stopped {
            Some(Ok(((), ()))) => Ok(End::Clean),
            Some(Err(Stop::Broken)) => Ok(End::Broken),
            Some(Err(Stop::Link(error))) => Err(error),
            None => {
                // The pod may not take what it got for all there was.
                drop(tcp.set_zero_linger());
                Ok(End::Reset)
            }
        }
    }
}

/// Carries what the pod sends, up to its end.
async fn download<W: AsyncWrite + Unpin>(
    writer: &SharedWriter<W>,
    stream: u32,
    mut from: ReadHalf<'_>,
) -> Result<(), Stop> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = from.read(&mut buffer).await.map_err(|_| Stop::Broken)?;
        let mut writer = writer.lock().await;
        if count == 0 {
            return Ok(writer.fin(stream).await?);
        }
        writer.data(stream, &buffer[..count]).await?;
    }
}

/// Carries what the client sends, up to its end. Where the pod takes no more, the rest goes
/// nowhere, so that the other connections go on.
async fn upload(mut to: WriteHalf<'_>, pieces: &mut mpsc::Receiver<Vec<u8>>) -> Result<(), Stop> {
    let mut taken = Ok(());
    while let Some(piece) = pieces.recv().await {
        if taken.is_ok() {
            taken = to.write_all(&piece).await;
        }
    }
    drop(to.shutdown().await);
    Ok(())
}

/// What the real server says when nobody listens at a port.
fn refused(port: u16) -> String {
    format!(
        "error forwarding port {port} to pod {SANDBOX}, uid : failed to execute portforward in \
         network namespace \"{NETWORK}\": failed to connect to localhost:{port} inside namespace \
         \"{SANDBOX}\", IPv4: dial tcp4 127.0.0.1:{port}: connect: connection refused IPv6 dial \
         tcp6: address localhost: no suitable address found "
    )
}
