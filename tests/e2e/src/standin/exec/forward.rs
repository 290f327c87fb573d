//! Port forwarding: a pair of SPDY streams for each TCP connection, one for its bytes and one for
//! what goes wrong with it.
//!
//! As with the real server, a connection whose pod does not read holds up the others once what may
//! wait for it has come: SPDY has no windows here. What is reset makes way at once.

mod relay;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use self::relay::{Pair, Relay};
use super::Cut;
use super::gate::Gate;
use super::link::{Carrier, LinkError, Reader, Received, Writer, reply_to, value};
use super::session::NORMAL;
use super::takeover::{Hold, linger};
use crate::standin::spdy::{CANCEL, Frame, PROTOCOL_ERROR, REFUSED_STREAM};

/// How many streams may be open at once.
const STREAMS: usize = 1024;

/// How many frames may wait for the pod before the connection is no longer read; about 2 MiB as
/// kubectl sends them.
const QUEUE: usize = 64;

/// The ports of the pods that lead somewhere.
#[derive(Debug, Clone, Default)]
pub(super) struct Ports(Arc<Mutex<BTreeMap<(String, u16), u16>>>);

impl Ports {
    /// Leads a port of a pod to one of 127.0.0.1, or nowhere.
    pub(super) fn set(&self, pod: &str, port: u16, local: Option<u16>) {
        let key = (pod.to_owned(), port);
        match local {
            Some(local) => self.lock().insert(key, local),
            None => self.lock().remove(&key),
        };
    }

    fn get(&self, pod: &str, port: u16) -> Option<SocketAddr> {
        let local = *self.lock().get(&(pod.to_owned(), port))?;
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, local)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, u16), u16>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session to be served on a connection that was HTTP until now.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) pod: String,
    pub(super) ports: Ports,
    pub(super) head: Vec<u8>,
    pub(super) carrier: Carrier,
    pub(super) hold: Hold,
}

type SharedWriter<W> = Arc<tokio::sync::Mutex<Writer<W>>>;

/// A stream whose other half may still be to come.
#[derive(Debug)]
struct Half {
    error: bool,
    port: u16,
    request: String,
    /// Of a data stream: what comes on it.
    line: Option<Line>,
}

/// The connection's end of a data stream.
#[derive(Debug)]
struct Line {
    pieces: mpsc::Receiver<Vec<u8>>,
    reset: oneshot::Receiver<()>,
}

/// What leads to the task of a data stream.
#[derive(Debug)]
struct Lead {
    /// `None` once the client has ended its side.
    pieces: Option<mpsc::Sender<Vec<u8>>>,
    /// Dropped with the rest when the client resets the stream.
    reset: oneshot::Sender<()>,
}

/// The streams of a connection.
struct Table<W> {
    writer: SharedWriter<W>,
    /// The latest stream.
    last: u32,
    halves: BTreeMap<u32, Half>,
    leads: BTreeMap<u32, Lead>,
    relays: JoinSet<()>,
}

impl Forward {
    /// Serves it. `early` came behind the request.
    pub(super) async fn run<I>(self, io: I, early: Bytes)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let gate = Gate::new(io, self.hold.frozen.clone());
        let (reader, writer) = tokio::io::split(gate);
        let mut reader = Reader::new(io::Cursor::new(early).chain(reader), self.carrier);
        let Ok(writer) = Writer::new(writer, self.carrier) else {
            return;
        };
        let writer = Arc::new(tokio::sync::Mutex::new(writer));
        let table = Table {
            writer: Arc::clone(&writer),
            last: 0,
            halves: BTreeMap::new(),
            leads: BTreeMap::new(),
            relays: JoinSet::new(),
        };
        // What goes wrong with the connection is the client's to notice.
        let cut = self.hold.unless_cut(self.serve(&mut reader, table)).await;
        let mut writer = writer.lock().await;
        match cut {
            Some(Cut::ApiServer) => return,
            Some(Cut::Kubelet | Cut::Runtime) => {}
            None => drop(writer.close(NORMAL).await),
        }
        drop(writer.shutdown().await);
        drop(self.hold.open);
        linger(&mut reader.io).await;
    }

    /// Reads until the client has left. The connections end with it.
    async fn serve<R, W>(
        &self,
        reader: &mut Reader<R>,
        mut table: Table<W>,
    ) -> Result<(), LinkError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        table.writer.lock().await.raw(&self.head).await?;
        loop {
            match reader.receive().await? {
                Received::End => return Ok(()),
                Received::Ping(payload) => table.writer.lock().await.pong(&payload).await?,
                Received::Frame(frame) => self.frame(&mut table, frame).await?,
            }
        }
    }

    async fn frame<W>(&self, table: &mut Table<W>, frame: Frame) -> Result<(), LinkError>
    where
        W: AsyncWrite + Unpin + Send + 'static,
    {
        match frame {
            Frame::SynStream {
                stream,
                fin,
                headers,
            } => self.open(table, stream, fin, &headers).await,
            Frame::Data { stream, fin, data } => {
                table.data(stream, fin, data).await;
                Ok(())
            }
            Frame::RstStream { stream, .. } => {
                table.halves.remove(&stream);
                table.leads.remove(&stream);
                Ok(())
            }
            Frame::Ping(_) => table.writer.lock().await.frames(&[frame]).await,
            // What a client can say beside that changes nothing.
            _ => Ok(()),
        }
    }

    /// Takes a stream, or says why not.
    async fn open<W>(
        &self,
        table: &mut Table<W>,
        stream: u32,
        fin: bool,
        headers: &[(String, String)],
    ) -> Result<(), LinkError>
    where
        W: AsyncWrite + Unpin + Send + 'static,
    {
        table.forget();
        let refusal = if stream <= table.last || stream.is_multiple_of(2) {
            Some(PROTOCOL_ERROR)
        } else if table.halves.len() + table.leads.len() >= STREAMS {
            Some(REFUSED_STREAM)
        } else {
            None
        };
        table.last = table.last.max(stream);
        // Without its headers, no one could tell what it is for.
        let half = half(headers).ok_or(CANCEL);
        let (half, lead) = match refusal.map_or(half, Err) {
            Ok(found) => found,
            Err(status) => {
                let reset = [Frame::RstStream { stream, status }];
                return table.writer.lock().await.frames(&reset).await;
            }
        };
        table
            .writer
            .lock()
            .await
            .frames(&[reply_to(stream)])
            .await?;
        if let Some(lead) = lead {
            table.leads.insert(stream, lead);
        }
        if fin {
            table.data(stream, true, Vec::new()).await;
        }
        if let Some(pair) = table.pair(stream, half) {
            let relay = Relay {
                writer: Arc::clone(&table.writer),
                to: self.ports.get(&self.pod, pair.port),
                pair,
            };
            table.relays.spawn(relay.run());
        }
        Ok(())
    }
}

/// What a stream is, by its headers.
fn half(headers: &[(String, String)]) -> Option<(Half, Option<Lead>)> {
    let error = match value(headers, "streamtype") {
        "error" => true,
        "data" => false,
        _ => return None,
    };
    let half = Half {
        error,
        port: value(headers, "port")
            .parse()
            .ok()
            .filter(|port| *port != 0)?,
        request: value(headers, "requestid").to_owned(),
        line: None,
    };
    if error {
        return Some((half, None));
    }
    let (send, pieces) = mpsc::channel(QUEUE);
    let (reset, is_reset) = oneshot::channel();
    let line = Some(Line {
        pieces,
        reset: is_reset,
    });
    let pieces = Some(send);
    Some((Half { line, ..half }, Some(Lead { pieces, reset })))
}

impl<W> Table<W> {
    /// Gives data to the task of its stream. That of an error stream, or of one that has ended,
    /// is nobody's.
    async fn data(&mut self, stream: u32, fin: bool, data: Vec<u8>) {
        let Some(lead) = self.leads.get_mut(&stream) else {
            return;
        };
        if let Some(pieces) = lead.pieces.as_ref().filter(|_| !data.is_empty()) {
            // The task may have ended: then nobody wants it.
            drop(pieces.send(data).await);
        }
        if fin {
            lead.pieces = None;
        }
    }

    /// Forgets the streams whose tasks have ended.
    fn forget(&mut self) {
        while self.relays.try_join_next().is_some() {}
        self.leads.retain(|_, lead| !lead.reset.is_closed());
    }

    /// The pair that is complete with this half; else the half is kept.
    fn pair(&mut self, stream: u32, half: Half) -> Option<Pair> {
        let mut halves = self.halves.iter();
        let other = halves.find_map(|(number, other)| {
            (other.request == half.request && other.error != half.error).then_some(*number)
        });
        let Some((number, other)) = other.and_then(|number| self.halves.remove_entry(&number))
        else {
            self.halves.insert(stream, half);
            return None;
        };
        let ((data, half), error) = match half.error {
            true => ((number, other), stream),
            false => ((stream, half), number),
        };
        let Line { pieces, reset } = half.line?;
        Some(Pair {
            error,
            data,
            port: half.port,
            pieces,
            reset,
        })
    }
}
