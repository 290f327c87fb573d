//! A connection that is no longer HTTP.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

use super::forward::Forward;
use super::processes::Processes;
use super::session::Session;
use super::{Cut, Open};

/// How long a client that does not close its side is listened to after the end. The real server
/// closes at once, whereby a reset can overtake the last frames; tests are spared that.
const LINGER: Duration = Duration::from_secs(1);

/// What becomes of it.
#[derive(Debug)]
pub(in crate::standin) enum Takeover {
    /// It ends with this answer.
    Answer(Vec<u8>),
    /// It becomes a stream.
    Stream(Box<Stream>),
}

/// A stream that begins.
#[derive(Debug)]
pub(in crate::standin) struct Stream(pub(super) Kind);

/// What it is.
#[derive(Debug)]
pub(super) enum Kind {
    /// exec and attach over WebSocket.
    Channels(Session),
    /// exec and attach over SPDY.
    Processes(Processes),
    /// Port forwarding.
    Forward(Forward),
}

/// How a test gets at a stream.
#[derive(Debug)]
pub(super) struct Hold {
    /// How it is cut off.
    pub(super) cut: watch::Receiver<Cut>,
    pub(super) frozen: watch::Receiver<bool>,
    pub(super) open: Open,
}

impl Hold {
    /// Serves a stream to its end, or until it is cut off: then, what has died.
    pub(super) async fn unless_cut(&self, serve: impl Future) -> Option<Cut> {
        let mut cut = self.cut.clone();
        tokio::select! {
            biased;
            // The sender lives as long as the server.
            Ok(()) = cut.changed() => Some(*cut.borrow_and_update()),
            _ = serve => None,
        }
    }
}

impl Takeover {
    /// Carries on with the connection to its end. `early` came behind the request.
    pub(in crate::standin) async fn run<I>(self, io: I, early: Bytes)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self {
            // What goes wrong with the connection is the client's to notice.
            Self::Answer(answer) => drop(end_with(io, &answer).await),
            Self::Stream(stream) => match stream.0 {
                Kind::Channels(session) => session.run(io, early).await,
                Kind::Processes(processes) => processes.run(io, early).await,
                Kind::Forward(forward) => forward.run(io, early).await,
            },
        }
    }
}

async fn end_with<I>(mut io: I, answer: &[u8]) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    io.write_all(answer).await?;
    io.shutdown().await?;
    linger(&mut io).await;
    Ok(())
}

/// Waits for the client's end, with patience.
pub(super) async fn linger(io: &mut (impl AsyncRead + Unpin)) {
    let mut nowhere = [0; 4096];
    let drain = async { while matches!(io.read(&mut nowhere).await, Ok(1..)) {} };
    // Those who do not end are left.
    drop(tokio::time::timeout(LINGER, drain).await);
}
