//! What an adapter tells a machine.

use alloc::{string::String, vec::Vec};
use core::{fmt, time::Duration};

use crate::{config::HeartbeatStatus, hidden::Hidden};

/// One attempt to hold a connection; later attempts have other ids.
///
/// The agent's machine counts its own up; the controller's adapter numbers the connections that
/// it accepts, each with a number it has not used before toward that machine.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnId(pub u64);

/// One proxied stream; never reused within the life of a machine.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(pub u64);

/// Which socket, if any, can take another message at this moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Socket {
    /// None can, or there is none.
    Blocked,
    /// The socket of this connection can.
    Ready(ConnId),
}

/// Something that happened outside. Inputs about what is already gone, or that belong to the
/// other role, have no effect and are counted ([`crate::Stats::stale_inputs`]).
#[derive(Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// Controller: an authenticated agent has connected.
    Accepted(ConnId),
    /// Some byte arrived, be it in the middle of a message: the peer lives.
    Alive(ConnId),
    /// Controller: the client gave this stream up, whether or not it was open.
    Cancel(StreamId),
    /// The wall clock's present time since the UNIX epoch, which may have been set meanwhile. Only
    /// timestamps and absolute deadlines (P-058) follow it.
    Clock(Duration),
    /// Agent: the dial succeeded, TLS and WebSocket handshake included.
    Connected(ConnId),
    /// The local end took one delivery of this many bytes: one for each
    /// [`crate::Action::Deliver`], until the stream is over.
    Consumed(StreamId, usize),
    /// The dial failed or the connection ended.
    Disconnected(ConnId, Down),
    /// The local end has no more to send.
    Ended(StreamId, StreamEnd),
    /// A WebSocket message arrived. Borrowed: nothing of it is kept.
    Frame(ConnId, Frame<'a>),
    /// Agent: the local end answered with this head; the body follows by `send`. To a WebSocket
    /// 101 opens it, and any other answer refuses it. A tunnel is open with any.
    Head(StreamId, ResponseHead),
    /// The answer to [`crate::OutFrame::Ping`] arrived: the peer lives, and tells how far away it is.
    Pong(ConnId),
    /// Agent: what the next heartbeats say.
    Status(HeartbeatStatus),
    /// Stop: refuse new streams, let the open ones end for this long, say goodbye.
    Shutdown(Duration),
    /// Nothing but the passing of time.
    Tick,
    /// Some byte was written: the socket makes progress.
    Wrote(ConnId),
}

/// A message as it came off the socket. Pings are answered by the WebSocket layer; they reach the
/// core as [`Input::Alive`], and a pong as [`Input::Pong`]. `Debug` tells only how long it is.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Frame<'a> {
    /// Binary: JSON without the promise of UTF-8 (P-012), or a binary frame of the protocol.
    Binary(&'a [u8]),
    /// Text.
    Text(&'a str),
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, data) = match self {
            Self::Binary(data) => ("Binary", *data),
            Self::Text(text) => ("Text", text.as_bytes()),
        };
        f.debug_tuple(name).field(&Hidden(data)).finish()
    }
}

/// What one piece of stream data is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A WebSocket message of type binary.
    Binary,
    /// Part of a byte stream: boundaries mean nothing.
    Bytes,
    /// A datagram of a UDP tunnel; never cut or joined.
    Datagram,
    /// A WebSocket message of type text.
    Text,
}

impl Kind {
    /// What a piece is as a message of a WebSocket.
    pub(crate) const fn of_message(self) -> Self {
        match self {
            Self::Text => Self::Text,
            Self::Binary | Self::Bytes | Self::Datagram => Self::Binary,
        }
    }
}

/// Why a dial failed or a connection ended.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Down {
    /// The peer closed the WebSocket.
    Closed {
        /// Its code, 1005 where it gave none.
        code: u16,
        /// Its reason, for logs.
        reason: String,
    },
    /// The network failed; the text is for logs.
    Lost(String),
    /// The upgrade was answered with this status instead of 101 (P-005).
    Refused {
        /// HTTP status.
        status: u16,
        /// `Retry-After`, where there was one.
        retry_after: Option<Duration>,
    },
    /// A message was longer than [`crate::Limits::frame`].
    TooBig,
}

/// How the local end of a stream ended.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum StreamEnd {
    /// It broke, or could not be opened; the text reaches the peer.
    Broken(String),
    /// In order: all that `send` took is all there is.
    Clean,
    /// Its WebSocket was closed with this, after all that `send` took.
    Closed(StreamClose),
}

/// Code and reason with which the WebSocket of a stream is closed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamClose {
    /// Its code; [`Self::NO_CODE`] where the close frame has none.
    pub code: u16,
    /// Its reason: at most 123 bytes, empty without a code.
    pub reason: String,
}

impl StreamClose {
    /// Normal end.
    pub const NORMAL: u16 = 1000;
    /// The end that closes is going away.
    pub const GOING_AWAY: u16 = 1001;
    /// Stands for a close frame without a code, and is never written into one.
    pub const NO_CODE: u16 = 1005;
    /// A message was too long.
    pub const TOO_BIG: u16 = 1009;
    /// The stream broke.
    pub const BROKEN: u16 = 1011;

    /// Longest reason that fits a close frame (RFC 6455, section 5.5).
    const MAX_REASON: usize = 123;

    /// A close as it may stand in a frame: a code that may not (RFC 6455, section 7.4) becomes
    /// [`Self::NO_CODE`], and a long reason is cut.
    #[must_use]
    pub fn new(code: u16, reason: &str) -> Self {
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Self {
                code: Self::NO_CODE,
                reason: String::new(),
            };
        }
        let mut end = reason.len().min(Self::MAX_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            code,
            reason: reason.get(..end).unwrap_or_default().into(),
        }
    }
}

/// Method, path, query and headers of a request. `Debug` leaves out the query and the headers'
/// values, which may hold secrets.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct RequestHead {
    /// Method, in upper case.
    pub method: String,
    /// Path as it stands in the request line, escapes included, beginning with `/`.
    pub path: String,
    /// Query without the `?`, as it stands in the request line.
    pub query: Option<String>,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("headers", &names(&self.headers))
            .finish_non_exhaustive()
    }
}

fn names(headers: &[(String, String)]) -> Vec<&str> {
    headers.iter().map(|(name, _)| &**name).collect()
}

/// What a TCP or UDP tunnel is called and where it leads (P-071). Strings may be empty, and ports 0
/// where unknown; the agent dials the service, or the gateway's port on its own host, whichever its
/// configuration permits.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tunnel {
    /// TCP or UDP.
    pub transport: Transport,
    /// Id of the tunnel, shared by all its clients.
    pub tunnel_id: String,
    /// Name of the gateway.
    pub gateway_name: String,
    /// Namespace of the gateway.
    pub gateway_namespace: String,
    /// Port of the gateway.
    pub gateway_port: u16,
    /// Name of the service.
    pub service_name: String,
    /// Namespace of the service.
    pub service_namespace: String,
    /// Port of the service.
    pub service_port: u16,
    /// Address of the client: for TCP with its port, for UDP without.
    pub client_addr: String,
    /// Port of a UDP client.
    pub client_port: u16,
}

/// What a [`Tunnel`] carries.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Transport {
    /// A byte stream: [`Kind::Bytes`].
    #[default]
    Tcp,
    /// Datagrams: [`Kind::Datagram`].
    Udp,
}

/// Status and headers of a response. `Debug` leaves out the headers' values, which may hold
/// secrets.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct ResponseHead {
    /// Status code.
    pub status: u16,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for ResponseHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseHead")
            .field("status", &self.status)
            .field("headers", &names(&self.headers))
            .finish_non_exhaustive()
    }
}
