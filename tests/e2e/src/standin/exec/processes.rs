//! exec and attach over SPDY: each channel is a stream.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::Mutex;

use super::attached::{self, Attached, Keys};
use super::channel::{ERROR, RESIZE, STDERR, STDIN, STDOUT, Subprotocol};
use super::gate::Gate;
use super::link::{Carrier, LinkError, Reader, Received, Writer, end_of, reply_to, value};
use super::process::Output;
use super::session::TerminalSize;
use super::status::Outcome;
use super::takeover::{Hold, linger};
use super::{Ask, Cut};
use crate::standin::cluster::Cluster;
use crate::standin::spdy::{CANCEL, Frame};

/// How long a client may take to open its streams; that of the real server.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many frames may come before all streams are there.
const EARLY: usize = 64;

/// A session to be served on a connection that was HTTP until now.
#[derive(Debug)]
pub(super) struct Processes {
    pub(super) cluster: Arc<Cluster>,
    pub(super) head: Vec<u8>,
    pub(super) ask: Ask,
    pub(super) hold: Hold,
}

/// Why the client is no longer listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It went away: it is told nothing.
    Gone,
    /// It has ended its keys, which ends an attach.
    Detached,
}

/// The streams by their channels.
#[derive(Debug, Default)]
struct Streams {
    numbers: BTreeMap<u8, u32>,
    /// The latest.
    last: u32,
    /// What came on them before all were there.
    early: VecDeque<Frame>,
}

impl Streams {
    fn channel(&self, stream: u32) -> Option<u8> {
        let mut numbers = self.numbers.iter();
        numbers.find_map(|(channel, number)| (*number == stream).then_some(*channel))
    }
}

impl Processes {
    /// Serves it. `early` came behind the request.
    pub(super) async fn run<I>(self, io: I, early: Bytes)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let gate = Gate::new(io, self.hold.frozen.clone());
        let (reader, writer) = tokio::io::split(gate);
        let reader = io::Cursor::new(early).chain(reader);
        let mut reader = Reader::new(reader, Carrier::Connection);
        let Ok(writer) = Writer::new(writer, Carrier::Connection) else {
            return;
        };
        let writer = Mutex::new(writer);
        // What goes wrong with the connection is the client's to notice.
        let cut = self.hold.unless_cut(self.serve(&mut reader, &writer)).await;
        if cut == Some(Cut::ApiServer) {
            return;
        }
        drop(writer.into_inner().shutdown().await);
        drop(self.hold.open);
        linger(&mut reader.io).await;
    }

    async fn serve<R, W>(
        &self,
        reader: &mut Reader<R>,
        writer: &Mutex<Writer<W>>,
    ) -> Result<(), LinkError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        writer.lock().await.raw(&self.head).await?;
        let opening = tokio::time::timeout(PATIENCE, self.streams(reader, writer));
        let mut streams = opening.await.map_err(|_| LinkError::Streams)??;
        // Before the last answer: who has it sees all that is written from then on.
        let attached = attached::start(&self.cluster, &self.ask);
        let last = [reply_to(streams.last)];
        writer.lock().await.frames(&last).await?;
        let early = std::mem::take(&mut streams.early);
        let mut open: Vec<u8> = streams.numbers.keys().copied().collect();
        let outcome = match attached {
            Err(outcome) => outcome,
            Ok(Attached { keys, output, end }) => tokio::select! {
                outcome = tell(&streams, writer, output, end) => {
                    open.retain(|channel| *channel != STDOUT && *channel != STDERR);
                    outcome?
                }
                left = self.hear(reader, writer, &streams, early, keys) => match left {
                    Left::Gone => return Ok(()),
                    Left::Detached => Outcome::Ended,
                },
            },
        };
        self.finish(&mut *writer.lock().await, &streams, &open, &outcome)
            .await
    }

    /// The streams that this client has to open.
    fn wanted(&self) -> Vec<u8> {
        let Ask {
            stdin,
            stdout,
            stderr,
            tty,
            ..
        } = self.ask;
        let channels = [
            (ERROR, true),
            (STDIN, stdin),
            (STDOUT, stdout),
            (STDERR, stderr),
            (RESIZE, tty),
        ];
        let wanted = channels.into_iter().filter(|(_, wanted)| *wanted);
        wanted.map(|(channel, _)| channel).collect()
    }

    /// Takes the streams, and answers all but the last.
    async fn streams<R, W>(
        &self,
        reader: &mut Reader<R>,
        writer: &Mutex<Writer<W>>,
    ) -> Result<Streams, LinkError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let wanted = self.wanted();
        let mut streams = Streams::default();
        loop {
            match reader.receive().await? {
                Received::Frame(Frame::SynStream {
                    stream, headers, ..
                }) => {
                    let channel = channel_of(value(&headers, "streamtype"));
                    let channel = channel.filter(|channel| wanted.contains(channel));
                    let taken = channel.filter(|channel| !streams.numbers.contains_key(channel));
                    let Some(channel) = taken.filter(|_| stream > streams.last) else {
                        return Err(LinkError::Streams);
                    };
                    streams.numbers.insert(channel, stream);
                    streams.last = stream;
                    if streams.numbers.len() == wanted.len() {
                        return Ok(streams);
                    }
                    writer.lock().await.frames(&[reply_to(stream)]).await?;
                }
                Received::Frame(Frame::Ping(number)) => {
                    writer.lock().await.frames(&[Frame::Ping(number)]).await?;
                }
                Received::Frame(frame) if streams.early.len() < EARLY => {
                    streams.early.push_back(frame);
                }
                Received::Frame(_) | Received::Ping(_) | Received::End => {
                    return Err(LinkError::Streams);
                }
            }
        }
    }

    /// Carries what the client sends. While the process does not read, neither is the connection
    /// read: so it is with the real server.
    async fn hear<R, W>(
        &self,
        reader: &mut Reader<R>,
        writer: &Mutex<Writer<W>>,
        streams: &Streams,
        mut early: VecDeque<Frame>,
        mut keys: Keys,
    ) -> Left
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            let frame = match early.pop_front() {
                Some(frame) => frame,
                None => match reader.receive().await {
                    Ok(Received::Frame(frame)) => frame,
                    Ok(Received::Ping(_) | Received::End) | Err(_) => return Left::Gone,
                },
            };
            let (channel, data, fin) = match frame {
                Frame::Data { stream, fin, data } => (streams.channel(stream), data, fin),
                // As the end of it, for what is typed.
                Frame::RstStream { stream, .. } => (streams.channel(stream), Vec::new(), true),
                Frame::Ping(number) => {
                    let answer = [Frame::Ping(number)];
                    if writer.lock().await.frames(&answer).await.is_err() {
                        return Left::Gone;
                    }
                    continue;
                }
                _ => continue,
            };
            match channel {
                Some(STDIN) => {
                    keys.write(&data).await;
                    if fin && keys.end() {
                        return Left::Detached;
                    }
                }
                Some(RESIZE) => {
                    if let Ok(size) = serde_json::from_slice::<TerminalSize>(&data) {
                        keys.resize(size.width, size.height).await;
                    }
                }
                _ => {}
            }
        }
    }

    /// Says how it ended, and tears down the streams that are still open.
    async fn finish<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut Writer<W>,
        streams: &Streams,
        open: &[u8],
        outcome: &Outcome,
    ) -> Result<(), LinkError> {
        let number = |channel| streams.numbers.get(&channel).copied().unwrap_or_default();
        if let Some(report) = outcome.report(Subprotocol::V4, &self.ask.argv) {
            writer.data(number(ERROR), &report).await?;
        }
        let resets = open.iter().map(|channel| Frame::RstStream {
            stream: number(*channel),
            status: CANCEL,
        });
        let go_away = Frame::GoAway {
            last_stream: streams.last,
            status: 0,
        };
        let frames: Vec<_> = resets.chain([go_away]).collect();
        writer.frames(&frames).await
    }
}

/// Carries what is written to the client, up to the end.
async fn tell<W: AsyncWrite + Unpin>(
    streams: &Streams,
    writer: &Mutex<Writer<W>>,
    mut output: BoxStream<'static, io::Result<Output>>,
    end: BoxFuture<'static, Outcome>,
) -> Result<Outcome, LinkError> {
    while let Some(output) = output.next().await {
        let Output { channel, data } = output?;
        if let Some(stream) = streams.numbers.get(&channel) {
            writer.lock().await.data(*stream, &data).await?;
        }
    }
    let ends = [STDOUT, STDERR].into_iter();
    let ends = ends.filter_map(|channel| streams.numbers.get(&channel));
    let ends: Vec<_> = ends.map(|stream| end_of(*stream)).collect();
    writer.lock().await.frames(&ends).await?;
    Ok(end.await)
}

fn channel_of(name: &str) -> Option<u8> {
    match name {
        "error" => Some(ERROR),
        "stdin" => Some(STDIN),
        "stdout" => Some(STDOUT),
        "stderr" => Some(STDERR),
        "resize" => Some(RESIZE),
        _ => None,
    }
}
