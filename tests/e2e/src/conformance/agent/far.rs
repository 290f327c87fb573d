//! The tester's end of a request, of a WebSocket of the Kubernetes API, or of a connection to a
//! service: what came and nobody has looked at, and the way back.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use bytes::Bytes;
use controlplane_world::vectors::step::{How, Piece as Data, Transport};
use http::HeaderValue;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{
            Role,
            frame::{
                Frame,
                coding::{Data as Kind, OpCode},
            },
        },
    },
};

use super::{
    paced::{Connecting, Taken},
    server::{BodyOut, Piece, Reply},
};
use crate::conformance::socket::{self, Command, Event, carry};

/// What comes next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Got {
    Bytes(Vec<u8>),
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Datagram(Vec<u8>),
    Pong(Vec<u8>),
    Complete,
    Closed(u16, String),
    Broken,
}

impl From<Event> for Got {
    fn from(event: Event) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.into()),
            Event::Binary(data) => Self::Binary(data),
            Event::Pong(data) => Self::Pong(data),
            Event::Closed(code, reason) => Self::Closed(code, reason),
            Event::Lost(_) => Self::Broken,
        }
    }
}

/// The way back.
#[derive(Debug)]
pub(super) enum Out {
    /// A request that was not answered, or an upgrade that was neither taken nor refused.
    Asked(Reply),
    /// A connection that was not taken.
    Connecting(Connecting),
    Body(BodyOut),
    Socket(mpsc::UnboundedSender<Command>),
    Stream(mpsc::UnboundedSender<Piece>),
    Datagrams(mpsc::UnboundedSender<Vec<u8>>),
    /// The tester has ended it.
    Over,
}

/// One of the tester's ends.
#[derive(Debug)]
pub(super) struct Far {
    pub(super) name: String,
    /// The key of a WebSocket's handshake.
    pub(super) key: Option<HeaderValue>,
    inbox: mpsc::UnboundedReceiver<Got>,
    ahead: VecDeque<Got>,
    pub(super) out: Out,
    /// How the subject has ended it was seen.
    ended: bool,
    pub(super) patience: Duration,
    pings: u32,
}

impl Far {
    pub(super) fn new(
        name: Option<&String>,
        inbox: mpsc::UnboundedReceiver<Got>,
        out: Out,
        patience: Duration,
    ) -> Self {
        Self {
            name: name.cloned().unwrap_or_default(),
            key: None,
            inbox,
            ahead: VecDeque::new(),
            out,
            ended: false,
            patience,
            pings: 0,
        }
    }

    // ------------------------------------------------------------ what comes

    /// What comes next, with patience.
    pub(super) async fn next(&mut self) -> Result<Got, String> {
        if let Out::Connecting(connecting) = &mut self.out {
            let given_up = connecting.taken.closed();
            let given_up = timeout(self.patience, given_up).await;
            return match given_up {
                Ok(()) => Ok(Got::Broken),
                Err(_) => Err("the connection was not taken, and not given up".into()),
            };
        }
        loop {
            let got = match self.ahead.pop_front() {
                Some(got) => got,
                None => match timeout(self.patience, self.inbox.recv()).await {
                    Ok(Some(got)) => got,
                    Ok(None) => return Err("nothing more can come".into()),
                    Err(_) => {
                        let patience = self.patience.as_secs_f32();
                        return Err(format!("nothing came within {patience} s"));
                    }
                },
            };
            if !matches!(got, Got::Pong(_)) {
                return Ok(got);
            }
        }
    }

    /// The subject's end, which was looked at: nothing is expected after it.
    pub(super) fn saw_end(&mut self, got: &Got) {
        self.ended = matches!(got, Got::Closed(..) | Got::Broken);
        if let Out::Connecting(_) = self.out {
            self.out = Out::Over;
        }
    }

    /// What came and nobody has looked at. How the subject ends what has ended already says nothing.
    pub(super) fn left(&mut self) -> Option<Got> {
        if let Out::Connecting(connecting) = &self.out
            && connecting.taken.is_closed()
        {
            return Some(Got::Broken);
        }
        while let Ok(got) = self.inbox.try_recv() {
            self.ahead.push_back(got);
        }
        let over = self.ended || matches!(self.out, Out::Over);
        let idle = |got: &Got| match got {
            Got::Pong(_) => true,
            Got::Complete | Got::Closed(..) | Got::Broken => over,
            _ => false,
        };
        self.ahead.iter().find(|got| !idle(got)).cloned()
    }

    /// Returns once the subject has read all that was sent, where that can be known.
    pub(super) async fn barrier(&mut self) -> Result<(), String> {
        let Out::Socket(out) = &self.out else {
            return Ok(());
        };
        self.pings += 1;
        let mark = self.pings.to_be_bytes().to_vec();
        let _ = out.send(Command::Say(Message::Ping(mark.clone().into())));
        let answered = async {
            while let Some(got) = self.inbox.recv().await {
                if got == Got::Pong(mark.clone()) {
                    return;
                }
                self.ahead.push_back(got);
            }
        };
        let answered = timeout(self.patience, answered).await;
        answered.map_err(|_| "a WebSocket ping of the API is not answered".into())
    }

    // ------------------------------------------------------------ the way back

    pub(super) fn send(&self, piece: &Data) -> Result<(), String> {
        let bytes = |data: &Option<_>| {
            data.as_ref()
                .map(|d: &controlplane_world::vectors::Data| d.0.clone())
        };
        match &self.out {
            Out::Body(out) | Out::Stream(out) => {
                let data = bytes(&piece.bytes).ok_or("it takes bytes")?;
                let _ = out.send(Piece::Data(data.into()));
            }
            Out::Socket(out) => {
                let (kind, data) = match (bytes(&piece.text), bytes(&piece.binary)) {
                    (Some(text), _) => (Kind::Text, text),
                    (_, Some(binary)) => (Kind::Binary, binary),
                    _ => return Err("it takes messages".into()),
                };
                // Exactly this, even where it is no text.
                let frame = Frame::message(Bytes::from(data), OpCode::Data(kind), true);
                let _ = out.send(Command::Say(Message::Frame(frame)));
            }
            Out::Datagrams(out) => {
                let _ = out.send(bytes(&piece.datagram).ok_or("it takes datagrams")?);
            }
            Out::Asked(_) | Out::Connecting(_) => return Err("it was not answered".into()),
            Out::Over => return Err("it was ended".into()),
        }
        Ok(())
    }

    pub(super) fn end(&mut self, how: How, code: u16, reason: &str) -> Result<(), String> {
        match (std::mem::replace(&mut self.out, Out::Over), how) {
            (Out::Body(out) | Out::Stream(out), How::Complete) => drop(out.send(Piece::End)),
            (Out::Body(out) | Out::Stream(out), How::Broken) => drop(out.send(Piece::Break)),
            (Out::Socket(out), How::Closed) => {
                drop(out.send(Command::Say(socket::close(code, reason))));
                // The close is answered before the connection ends.
                self.keep(out);
            }
            (Out::Socket(out), How::Broken) => drop(out.send(Command::Cut)),
            (Out::Asked(_) | Out::Connecting(_) | Out::Datagrams(_), How::Broken) => {}
            (out, how) => return Err(format!("{out:?} cannot end so: {how:?}")),
        }
        Ok(())
    }

    /// Holds a WebSocket until the subject has answered its close.
    fn keep(&self, out: mpsc::UnboundedSender<Command>) {
        tokio::spawn(async move { out.closed().await });
    }
}

/// Takes an upgrade as a WebSocket.
pub(super) fn websocket(
    upgrade: OnUpgrade,
    got: mpsc::UnboundedSender<Got>,
) -> mpsc::UnboundedSender<Command> {
    let (out, commands) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let Ok(io) = upgrade.await else {
            let _ = got.send(Got::Broken);
            return;
        };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, None).await;
        carry(socket, commands, |event| {
            let _ = got.send(event.into());
        })
        .await;
    });
    out
}

/// Takes a connection to a service.
pub(super) async fn take(
    connecting: Connecting,
    got: mpsc::UnboundedSender<Got>,
) -> std::io::Result<Out> {
    let Connecting {
        transport, taken, ..
    } = connecting;
    let (held, gone) = oneshot::channel();
    let taken = |address| {
        let _ = taken.send(Taken { address, held });
    };
    match transport {
        Transport::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            taken(listener.local_addr()?);
            let (out, pieces) = mpsc::unbounded_channel();
            let (tcp, _) = listener.accept().await?;
            tokio::spawn(stream(tcp, pieces, got));
            Ok(Out::Stream(out))
        }
        Transport::Udp => {
            let udp = UdpSocket::bind("127.0.0.1:0").await?;
            taken(udp.local_addr()?);
            let (out, datagrams) = mpsc::unbounded_channel();
            tokio::spawn(self::datagrams(udp, datagrams, got, gone));
            Ok(Out::Datagrams(out))
        }
    }
}

/// A byte stream of a service.
async fn stream(
    tcp: TcpStream,
    mut pieces: mpsc::UnboundedReceiver<Piece>,
    got: mpsc::UnboundedSender<Got>,
) {
    let (mut from, mut to) = tcp.into_split();
    let reading = tokio::spawn(async move {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let seen = match from.read(&mut buffer).await {
                Ok(0) => Got::Complete,
                Ok(len) => Got::Bytes(buffer.get(..len).unwrap_or_default().into()),
                Err(_) => Got::Broken,
            };
            let more = matches!(seen, Got::Bytes(_));
            if got.send(seen).is_err() || !more {
                return from;
            }
        }
    });
    loop {
        match pieces.recv().await {
            Some(Piece::Data(data)) => drop(to.write_all(&data).await),
            Some(Piece::End) => {
                let _ = to.shutdown().await;
                let _ = reading.await;
                return;
            }
            Some(Piece::Break) | None => {
                // What is reset is no end in order.
                let _ = to.as_ref().set_zero_linger();
                // Dropped, it would say that it has ended.
                to.forget();
                reading.abort();
                return;
            }
        }
    }
}

/// Datagrams of a service, to and from the one who sent last.
async fn datagrams(
    udp: UdpSocket,
    mut out: mpsc::UnboundedReceiver<Vec<u8>>,
    got: mpsc::UnboundedSender<Got>,
    mut gone: oneshot::Receiver<()>,
) {
    let mut peer: Option<SocketAddr> = None;
    let mut buffer = vec![0; 64 << 10];
    loop {
        tokio::select! {
            seen = udp.recv_from(&mut buffer) => if let Ok((len, from)) = seen {
                peer = Some(from);
                let _ = got.send(Got::Datagram(buffer.get(..len).unwrap_or_default().into()));
            },
            datagram = out.recv() => match (datagram, peer) {
                (Some(datagram), Some(peer)) => drop(udp.send_to(&datagram, peer).await),
                (Some(_), None) => {}
                (None, _) => return,
            },
            _ = &mut gone => {
                let _ = got.send(Got::Broken);
                return;
            }
        }
    }
}
