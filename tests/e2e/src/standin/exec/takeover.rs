//! A connection that is no longer HTTP.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::session::Session;

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
pub(in crate::standin) struct Stream(pub(super) Session);

impl Takeover {
    /// Carries on with the connection to its end. `early` came behind the request.
    pub(in crate::standin) async fn run<I>(self, io: I, early: Bytes)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send,
    {
        match self {
            // What goes wrong with the connection is the client's to notice.
            Self::Answer(answer) => drop(end_with(io, &answer).await),
            Self::Stream(stream) => stream.0.run(io, early).await,
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
