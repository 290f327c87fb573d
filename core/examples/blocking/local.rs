//! The local ends of streams: a thread that reads the service's side, and one that writes to it.

use std::{
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, ToSocketAddrs, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    thread,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use controlplane_core::{Kind, ResponseHead, StreamClose, StreamEnd, StreamId, Target};

use crate::{
    Event, http,
    settings::Settings,
    wire::{Wire, tcp as connect},
};

/// Read of a service at once.
pub(crate) const READ: usize = 32 << 10;
/// No datagram is longer.
const DATAGRAM: usize = 1 << 16;

/// What comes out of the tunnel for a local end.
pub(crate) enum Piece {
    Close(StreamClose),
    Data(Kind, Bytes),
    End,
}

impl Piece {
    /// How much of it is to be reported as consumed.
    pub(crate) fn len(&self) -> Option<usize> {
        match self {
            Self::Data(_, data) => Some(data.len()),
            Self::Close(_) | Self::End => None,
        }
    }
}

/// What a local end tells the main thread.
pub(crate) enum Said {
    Consumed(usize),
    Data(Kind, Bytes),
    Ended(StreamEnd),
    Head(ResponseHead),
    Opened(Cut),
}

/// Ends a connection when it is dropped, whoever waits for it.
pub(crate) struct Cut(socket2::Socket);

impl Drop for Cut {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// The main thread's hold on a local end.
pub(crate) struct LocalEnd {
    /// What it holds is bounded by the machine's limits.
    pub(crate) inbox: Sender<Piece>,
    /// Says that the last piece of data was taken.
    pub(crate) taken: Sender<()>,
    /// Refused by the machine for now.
    pub(crate) held: Option<(Kind, Bytes)>,
    pub(crate) cut: Option<Cut>,
}

/// The main thread wants nothing more of the stream.
#[derive(Debug, thiserror::Error)]
#[error("the stream is over")]
pub(crate) struct Over;

/// Speaks for a local end.
#[derive(Clone)]
pub(crate) struct Voice {
    id: StreamId,
    events: SyncSender<Event>,
}

impl Voice {
    pub(crate) fn say(&self, said: Said) -> Result<(), Over> {
        let event = Event::Stream(self.id, said);
        self.events.send(event).map_err(|_| Over)
    }
}

/// A local end's side of the channels.
pub(crate) struct Ends {
    pub(crate) inbox: Receiver<Piece>,
    pub(crate) voice: Voice,
    taken: Receiver<()>,
}

/// A local end, for a thread of its own.
pub(crate) type Run = Box<dyn FnOnce() + Send>;

/// A local end, and what is to run in its thread.
pub(crate) fn open(
    id: StreamId,
    target: Target,
    settings: Arc<Settings>,
    events: SyncSender<Event>,
) -> (LocalEnd, Run) {
    let (inbox, pieces) = mpsc::channel();
    let (taken, credit) = mpsc::channel();
    let voice = Voice { id, events };
    let ends = Ends {
        inbox: pieces,
        voice: voice.clone(),
        taken: credit,
    };
    let run = move || {
        let ended = match serve(target, &settings, ends) {
            Ok(end) => end,
            Err(error) => StreamEnd::Broken(format!("{error:#}")),
        };
        let _ = voice.say(Said::Ended(ended));
    };
    let end = LocalEnd {
        inbox,
        taken,
        held: None,
        cut: None,
    };
    (end, Box::new(run))
}

fn serve(target: Target, settings: &Settings, ends: Ends) -> Result<StreamEnd> {
    match target {
        Target::Http {
            head, credentials, ..
        } => http::exchange(settings, head, credentials, ends)
            .context("kubernetes API request failed"),
        Target::WebSocket {
            head,
            protocols,
            credentials,
        } => http::websocket(settings, head, &protocols, credentials, ends),
        Target::Tcp { host, port, .. } => tcp(&host, port, ends),
        Target::Udp { host, port } => udp(&host, port, ends),
        _ => bail!("this agent has no such streams"),
    }
}

/// Carries both ways until `read` returns an end. `write` gets each piece in another thread, after
/// `first`; where it fails, `stop` has to make `read` return.
pub(crate) fn carry(
    ends: Ends,
    first: Option<Piece>,
    mut read: impl FnMut() -> Result<(Kind, Bytes), StreamEnd>,
    mut write: impl FnMut(Piece) -> Result<()> + Send + 'static,
    stop: impl FnOnce() + Send + 'static,
) -> StreamEnd {
    let Ends {
        inbox,
        voice,
        taken,
    } = ends;
    let told = voice.clone();
    thread::spawn(move || {
        for piece in first.into_iter().chain(inbox) {
            let len = piece.len();
            if write(piece).is_err() {
                return stop();
            }
            if let Some(len) = len
                && told.say(Said::Consumed(len)).is_err()
            {
                return;
            }
        }
    });
    loop {
        let (kind, data) = match read() {
            Ok(piece) => piece,
            Err(end) => return end,
        };
        // One piece at a time: the service waits when the tunnel is slow.
        let said = voice.say(Said::Data(kind, data));
        if said.is_err() || taken.recv().is_err() {
            return StreamEnd::Clean;
        }
    }
}

pub(crate) fn broken(error: impl std::fmt::Display) -> StreamEnd {
    StreamEnd::Broken(error.to_string())
}

/// A tunnel to a service over TCP. The end of one direction ends both.
fn tcp(host: &str, port: u16, ends: Ends) -> Result<StreamEnd> {
    use std::io::{Read as _, Write as _};
    let tcp = connect(host, port).context("cannot reach the service")?;
    tcp.set_read_timeout(None)?;
    let (mut from, mut to, stop) = (tcp.try_clone()?, tcp.try_clone()?, tcp.try_clone()?);
    ends.voice.say(Said::Opened(Cut(tcp.into())))?;
    ends.voice.say(Said::Head(ResponseHead::default()))?;
    let mut buffer = vec![0; READ];
    let read = move || match from.read(&mut buffer) {
        Ok(0) => Err(StreamEnd::Clean),
        Ok(len) => Ok((Kind::Bytes, Bytes::copy_from_slice(&buffer[..len]))),
        Err(error) => Err(broken(error)),
    };
    let write = move |piece| {
        match piece {
            Piece::Data(_, data) => to.write_all(&data)?,
            Piece::Close(_) | Piece::End => to.shutdown(Shutdown::Write)?,
        }
        Ok(())
    };
    let stop = move || {
        let _ = stop.shutdown(Shutdown::Read);
    };
    Ok(carry(ends, None, read, write, stop))
}

/// A tunnel to a service over UDP, for one client.
fn udp(host: &str, port: u16, ends: Ends) -> Result<StreamEnd> {
    // Nothing tells which address answers: IPv4 first.
    let addresses = (host, port).to_socket_addrs()?;
    let address = addresses.min_by_key(SocketAddr::is_ipv6);
    let address = address.context("the service has no address")?;
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    let (from, to) = (socket.try_clone()?, socket.try_clone()?);
    let cut = socket.try_clone()?;
    ends.voice.say(Said::Opened(Cut(cut.into())))?;
    ends.voice.say(Said::Head(ResponseHead::default()))?;
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    let mut buffer = vec![0; DATAGRAM];
    let read = move || match from.recv(&mut buffer) {
        // It looks like an empty datagram.
        Ok(_) if ended.load(Ordering::Acquire) => Err(broken("writing to the service failed")),
        Ok(len) => Ok((Kind::Datagram, Bytes::copy_from_slice(&buffer[..len]))),
        Err(error) => Err(broken(error)),
    };
    let write = move |piece| {
        if let Piece::Data(_, data) = piece {
            to.send(&data)?;
        }
        Ok(())
    };
    let stop = move || {
        over.store(true, Ordering::Release);
        drop(Cut(socket.into()));
    };
    Ok(carry(ends, None, read, write, stop))
}

/// Tells the main thread how to end `wire`.
pub(crate) fn opened(voice: &Voice, wire: &Wire) -> Result<()> {
    Ok(voice.say(Said::Opened(Cut(wire.socket()?)))?)
}
