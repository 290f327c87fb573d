//! One stream from its answer to its end.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, WriteHalf};
use tokio::sync::Mutex;

use super::attached::{self, Attached, Keys};
use super::channel::{ERROR, Meaning, RESIZE, STDERR, STDIN, STDOUT, Subprotocol};
use super::frame::{self, FrameWriter, Received};
use super::gate::Gate;
use super::handshake::Agreement;
use super::process::Output;
use super::status::Outcome;
use super::takeover::{Hold, linger};
use super::{Ask, Cut};
use crate::standin::cluster::Cluster;

/// The codes of close frames.
pub(super) const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;

/// A stream to be served on a connection that was HTTP until now.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) cluster: Arc<Cluster>,
    pub(super) agreement: Agreement,
    pub(super) ask: Ask,
    pub(super) hold: Hold,
}

/// Why the client is no longer listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It closed, went away or broke the rules of the channels: it is told nothing.
    Gone,
    /// It sent a frame that it may not send.
    Unmasked,
    /// It has ended its keys, which ends an attach.
    Detached,
}

/// A size of a terminal as kubectl sends it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TerminalSize {
    pub(super) width: u16,
    pub(super) height: u16,
}

type Writer<I> = FrameWriter<WriteHalf<Gate<I>>>;

impl Session {
    /// Serves it. `early` came behind the request.
    pub(super) async fn run<I>(self, io: I, early: Bytes)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (reader, writer) = tokio::io::split(Gate::new(io, self.hold.frozen.clone()));
        let mut reader = io::Cursor::new(early).chain(reader);
        let writer = Mutex::new(FrameWriter::new(writer));
        // What goes wrong with the connection is the client's to notice.
        let cut = self.hold.unless_cut(self.serve(&mut reader, &writer)).await;
        let mut writer = writer.into_inner();
        match cut {
            // As of a process that is killed: the connection ends, and that is all.
            Some(Cut::ApiServer) => return,
            // Recorded: v5 takes the end of the backend for that of the command.
            Some(Cut::Runtime) if self.agreement.subprotocol == Subprotocol::V5 => {
                drop(self.finish(&mut writer, Some(Outcome::Ended)).await);
            }
            Some(Cut::Kubelet | Cut::Runtime) | None => {}
        }
        drop(writer.shutdown().await);
        drop(self.hold.open);
        linger(&mut reader).await;
    }

    async fn serve<I>(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &Mutex<Writer<I>>,
    ) -> io::Result<()>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send,
    {
        // Before the answer: who has it sees all that is written from then on.
        let attached = attached::start(&self.cluster, &self.ask);
        let mut answer = writer.lock().await;
        answer.raw(&self.agreement.head).await?;
        // Says that the stream is open; empty, on the first channel that can say something.
        self.send(&mut answer, self.ask.first_channel(), b"")
            .await?;
        drop(answer);
        let outcome = match attached {
            Err(outcome) => Some(outcome),
            Ok(Attached { keys, output, end }) => tokio::select! {
                outcome = self.tell(writer, output, end) => Some(outcome?),
                left = self.hear(reader, writer, keys) => match left {
                    Left::Gone => None,
                    Left::Unmasked => {
                        writer.lock().await.close(PROTOCOL_ERROR).await?;
                        None
                    }
                    Left::Detached => Some(Outcome::Ended),
                },
            },
        };
        self.finish(&mut *writer.lock().await, outcome).await
    }

    /// Carries what is written to the client, up to the end.
    async fn tell<I>(
        &self,
        writer: &Mutex<Writer<I>>,
        mut output: BoxStream<'static, io::Result<Output>>,
        end: BoxFuture<'static, Outcome>,
    ) -> io::Result<Outcome>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send,
    {
        while let Some(output) = output.next().await {
            let Output { channel, data } = output?;
            if self.ask.wants(channel) {
                self.send(&mut *writer.lock().await, channel, &data).await?;
            }
        }
        Ok(end.await)
    }

    /// Carries what the client sends. While the process does not read, neither is the connection
    /// read, and a ping is not answered: so it is with the real server.
    async fn hear<I>(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &Mutex<Writer<I>>,
        mut keys: Keys,
    ) -> Left
    where
        I: AsyncRead + AsyncWrite + Unpin + Send,
    {
        loop {
            let message = match frame::receive(reader).await {
                Err(_) | Ok(Received::Close) => return Left::Gone,
                Ok(Received::Unmasked) => return Left::Unmasked,
                Ok(Received::Pong) => continue,
                Ok(Received::Ping(payload)) => {
                    if writer.lock().await.pong(&payload).await.is_err() {
                        return Left::Gone;
                    }
                    continue;
                }
                Ok(Received::Message(message)) => message,
            };
            match self.agreement.subprotocol.meaning(message) {
                Meaning::Data(STDIN, data) if self.ask.stdin => keys.write(&data).await,
                Meaning::HalfClose(STDIN) if self.ask.stdin => {
                    if keys.end() {
                        return Left::Detached;
                    }
                }
                Meaning::Data(RESIZE, data) if self.ask.tty => {
                    if let Ok(size) = serde_json::from_slice::<TerminalSize>(&data) {
                        keys.resize(size.width, size.height).await;
                    }
                }
                Meaning::Violation => return Left::Gone,
                Meaning::Data(..) | Meaning::HalfClose(_) | Meaning::Nothing => {}
            }
        }
    }

    /// Says how it ended, if that is known, and closes.
    async fn finish<I>(&self, writer: &mut Writer<I>, outcome: Option<Outcome>) -> io::Result<()>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let report =
            outcome.and_then(|outcome| outcome.report(self.agreement.subprotocol, &self.ask.argv));
        if let Some(report) = report {
            self.send(writer, ERROR, &report).await?;
        }
        writer.close(NORMAL).await
    }

    async fn send<I>(&self, writer: &mut Writer<I>, channel: u8, data: &[u8]) -> io::Result<()>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (opcode, payload) = self.agreement.subprotocol.message(channel, data);
        writer.message(opcode, &payload).await
    }
}

impl Ask {
    const fn first_channel(&self) -> u8 {
        match (self.stdout, self.stderr) {
            (true, _) => STDOUT,
            (false, true) => STDERR,
            (false, false) => ERROR,
        }
    }

    const fn wants(&self, channel: u8) -> bool {
        match channel {
            STDOUT => self.stdout,
            _ => self.stderr,
        }
    }
}
