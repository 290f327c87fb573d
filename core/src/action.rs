//! What a machine tells its adapter to do.

use alloc::{string::String, vec::Vec};
use core::{fmt, time::Duration};

use bytes::Bytes;

use crate::{
    config::AgentInfo,
    error::{Failure, PeerFault, Reason},
    hidden::Hidden,
    input::{ConnId, Kind, RequestHead, ResponseHead, StreamClose, StreamId},
    rules::{Credentials, Gate, IdentityPolicy},
};

/// Something the adapter is to do.
///
/// `Debug` tells of data and messages only how long they are: they may hold secrets.
#[derive(Eq, PartialEq)]
#[must_use]
#[non_exhaustive]
pub enum Action {
    /// Close the socket, or give up the dial; no later action names the connection.
    Close(ConnId, CloseCode, &'static str),
    /// The peer closed this WebSocket stream, after all that was delivered: close the local end's
    /// with this. At the agent answer with [`crate::Input::Ended`] when that is done; at the
    /// controller the stream is over, and the failure says why where it did not end in order.
    Closed(StreamId, StreamClose, Option<Failure>),
    /// Agent: dial; answer with [`crate::Input::Connected`] or [`crate::Input::Disconnected`]. A
    /// gateway is dialled while the connection to the controller lives on.
    Connect(ConnId, Endpoint),
    /// Hand data to the local end; answer with [`crate::Input::Consumed`] when it took it.
    Deliver(StreamId, Kind, Bytes),
    /// Controller: drop what was delivered on this stream and not taken yet: there is no room for
    /// it, and the stream is about to fail. No [`crate::Input::Consumed`] is expected for it.
    Discard(StreamId),
    /// Controller: the request failed, or the WebSocket was not opened; nothing follows on it.
    Failed(StreamId, Failure),
    /// The peer has no more to send on this stream, all of it was delivered. For the controller
    /// the stream is over; there it comes once the local end has taken all deliveries
    /// ([`crate::Input::Consumed`]), so that what slow clients hold counts until they took it.
    Finish(StreamId),
    /// Fast mode: the peer has no more to send on this stream, and all of it was delivered. This end
    /// may go on.
    HalfClosed(StreamId),
    /// Controller: the answer has begun. 101 opens a WebSocket: from then on it has messages and
    /// ends with [`Self::Closed`].
    Head(StreamId, ResponseHead),
    /// For logs and metrics; ignoring it changes nothing.
    Notice(Notice),
    /// Agent: open the local end; answer with [`crate::Input::Head`] or [`crate::Input::Ended`].
    Open(StreamId, Target),
    /// Fast mode: both directions of the stream have ended in order, and everything was taken.
    /// Nothing follows on it.
    Over(StreamId),
    /// Agent: the connection is over and the next [`Connect`](Self::Connect) is `delay` away.
    ///
    /// The core holds the timer; the adapter need not start one.
    ReconnectAfter {
        /// Until the next attempt.
        delay: Duration,
        /// Failures in a row, from 1.
        attempt: u32,
        /// Why.
        reason: Reason,
    },
    /// Agent: registered; streams may open.
    Registered(Registration),
    /// Controller: an agent is registered on this connection; streams may open.
    Joined(ConnId, Joined),
    /// Controller: no agent is registered any more. Its streams have failed before this, except
    /// those whose answer is complete.
    Left(Reason),
    /// Agent: drop the local end; nothing more will be taken from it.
    Reset(StreamId),
    /// Write this message. Only ever returned for a socket that was said to be ready.
    Send(ConnId, OutFrame),
    /// The machine has stopped; nothing follows but, at the controller, the close of a
    /// connection that is accepted nevertheless.
    Stopped,
    /// A stream whose data was refused has room.
    Writable(StreamId),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tuple = |f: &mut fmt::Formatter<'_>, name: &str, fields: &[&dyn fmt::Debug]| {
            let mut tuple = f.debug_tuple(name);
            fields.iter().for_each(|field| {
                tuple.field(field);
            });
            tuple.finish()
        };
        match self {
            Self::Close(conn, code, text) => tuple(f, "Close", &[conn, code, text]),
            Self::Closed(id, close, failure) => tuple(f, "Closed", &[id, close, failure]),
            Self::Connect(conn, endpoint) => tuple(f, "Connect", &[conn, endpoint]),
            Self::Deliver(id, kind, data) => tuple(f, "Deliver", &[id, kind, &Hidden(data)]),
            Self::Discard(id) => tuple(f, "Discard", &[id]),
            Self::Failed(id, failure) => tuple(f, "Failed", &[id, failure]),
            Self::Finish(id) => tuple(f, "Finish", &[id]),
            Self::HalfClosed(id) => tuple(f, "HalfClosed", &[id]),
            Self::Over(id) => tuple(f, "Over", &[id]),
            Self::Head(id, head) => tuple(f, "Head", &[id, head]),
            Self::Notice(notice) => tuple(f, "Notice", &[notice]),
            Self::Open(id, target) => tuple(f, "Open", &[id, target]),
            Self::ReconnectAfter {
                delay,
                attempt,
                reason,
            } => tuple(f, "ReconnectAfter", &[delay, attempt, reason]),
            Self::Registered(registration) => tuple(f, "Registered", &[registration]),
            Self::Joined(conn, joined) => tuple(f, "Joined", &[conn, joined]),
            Self::Left(reason) => tuple(f, "Left", &[reason]),
            Self::Reset(id) => tuple(f, "Reset", &[id]),
            Self::Send(conn, frame) => tuple(f, "Send", &[conn, frame]),
            Self::Stopped => f.write_str("Stopped"),
            Self::Writable(id) => tuple(f, "Writable", &[id]),
        }
    }
}

/// A message to write. `Debug` tells only how long it is.
#[derive(Eq, PartialEq)]
#[non_exhaustive]
pub enum OutFrame {
    /// Binary.
    Binary(Bytes),
    /// A WebSocket ping without payload (P-016).
    Ping,
    /// Text; handed over without copy.
    Text(String),
}

impl fmt::Debug for OutFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binary(data) => f.debug_tuple("Binary").field(&Hidden(data)).finish(),
            Self::Ping => f.write_str("Ping"),
            Self::Text(text) => f
                .debug_tuple("Text")
                .field(&Hidden(text.as_bytes()))
                .finish(),
        }
    }
}

/// Whom the agent dials. `Debug` leaves out the query of a URL, which may hold a secret.
#[derive(Clone, Eq, PartialEq)]
pub enum Endpoint {
    /// The controller, at the URL that the adapter was given.
    Controller,
    /// A gateway, at this URL, which is permitted and complete: `wss` or `ws`, with path and query
    /// (P-007). The token goes into the header, as for the controller.
    Gateway(String),
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller => f.write_str("Controller"),
            Self::Gateway(url) => {
                let shown = url.split('?').next().unwrap_or_default();
                f.debug_tuple("Gateway").field(&shown).finish()
            }
        }
    }
}

/// The local end that a stream is to be connected to.
///
/// `Debug` tells only how many subprotocols there are: one may be a credential.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// An HTTP request to the Kubernetes API. Header, path and identity rules have been applied;
    /// the body follows as [`Action::Deliver`] up to [`Action::Finish`].
    Http {
        /// The request.
        head: RequestHead,
        /// Which credentials the upstream request carries.
        credentials: Credentials,
        /// The body is still to come (P-060): the request does not wait for it. Otherwise all of
        /// it, or the news that there is none, comes at once.
        streams: bool,
    },
    /// An HTTP/1.1 connection whose client is the controller and whose server the adapter: each
    /// request goes through the gate, and then to the Kubernetes API. A stream of the fast mode:
    /// bytes both ways, until both ends have ended.
    Http1(Gate),
    /// A TCP connection to an address that is on the allow-list. Answer with
    /// [`crate::Input::Head`] when it is open.
    Tcp {
        /// Name to resolve.
        host: String,
        /// Port.
        port: u16,
        /// A stream of the fast mode: the end of one direction leaves the other open, and
        /// [`Action::HalfClosed`] comes instead of [`Action::Finish`].
        half_close: bool,
    },
    /// A UDP socket of its own for one client of a tunnel (P-198), to an address that is on the
    /// allow-list. Each delivery is a datagram, and each `send`.
    Udp {
        /// Name to resolve.
        host: String,
        /// Port.
        port: u16,
    },
    /// A WebSocket to the Kubernetes API. The same rules have been applied; the handshake's own
    /// headers are the adapter's. Messages may follow before it is open.
    WebSocket {
        /// The request, a `GET` without a body.
        head: RequestHead,
        /// Subprotocols to offer, in this order; with none the header is left out.
        protocols: Vec<String>,
        /// Which credentials the upstream request carries.
        credentials: Credentials,
    },
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, head, protocols) = match self {
            Self::Http1(_) => return f.write_str("Http1"),
            Self::Tcp { host, port, .. } => return write!(f, "Tcp({host}:{port})"),
            Self::Udp { host, port } => return write!(f, "Udp({host}:{port})"),
            Self::Http { head, .. } => ("Http", head, 0),
            Self::WebSocket {
                head, protocols, ..
            } => ("WebSocket", head, protocols.len()),
        };
        f.debug_struct(name)
            .field("head", head)
            .field("protocols", &protocols)
            .finish_non_exhaustive()
    }
}

/// WebSocket close codes in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u16)]
#[non_exhaustive]
pub enum CloseCode {
    /// Normal end.
    Normal = 1000,
    /// This end shuts down.
    GoingAway = 1001,
    /// The peer made us queue too many answers.
    Policy = 1008,
    /// A message was too long.
    TooBig = 1009,
    /// A newer connection of the same agent took over.
    Superseded = 4001,
}

/// What `register_success` said (P-053). `token` is never adopted and not kept. `Debug` leaves out
/// the URLs, which may hold a secret.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Registration {
    /// Id of the cluster.
    pub cluster_id: String,
    /// Second id of the cluster, empty where the controller gave none.
    pub cluster_uuid: String,
    /// Name of the cluster.
    pub name: String,
    /// Status text.
    pub status: String,
    /// Workspace.
    pub workspace_id: Option<i64>,
    /// Tunnel URL; unused.
    pub tunnel_url: String,
    /// API server; unused.
    pub api_server: String,
    /// A gateway that the controller names. It is dialled where
    /// [`crate::AgentConfig::gateways`] permits.
    pub gateway_ws_url: String,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("cluster_id", &self.cluster_id)
            .field("cluster_uuid", &self.cluster_uuid)
            .field("name", &self.name)
            .field("status", &self.status)
            .field("workspace_id", &self.workspace_id)
            .finish_non_exhaustive()
    }
}

/// What `register` said of an agent, as far as the controller's embedder has use for it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Joined {
    /// The agent and its cluster.
    pub info: AgentInfo,
    /// The agent's identity policy, where it told one.
    pub policy: Option<IdentityPolicy>,
    /// Whether it answers with streamed messages (P-042).
    pub streams_responses: bool,
    /// Whether it sends no more of a streamed answer than the controller's reader has room for:
    /// an extension of ours, without which a slow reader loses a long answer.
    pub keeps_window: bool,
    /// Whether it takes request bodies in pieces (P-060).
    pub streams_requests: bool,
    /// How much of a request body or of a client's messages it takes before it grants more, in
    /// bytes: an extension of ours, without which more than it can hold fails.
    pub request_window: Option<usize>,
    /// Whether it opens WebSocket streams; assumed where it does not say.
    pub opens_websockets: bool,
    /// Whether it answers the start of a WebSocket stream with the API's own answer (P-192): an
    /// extension of ours, without which success shows with the first data only.
    pub answers_upgrades: bool,
    /// Whether the connection is in the fast mode: [`crate::Controller::open_service`] opens streams
    /// to services.
    pub yamux: bool,
    /// Whether [`crate::Controller::open_http`] opens connections to the Kubernetes API: an
    /// extension of ours to the fast mode.
    pub http_streams: bool,
    /// Whether it opens TCP and UDP tunnels: an extension of ours, without which an original agent
    /// that has them switched off ends (W-23).
    pub opens_tunnels: bool,
}

/// Facts for logs and metrics.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// Controller: a heartbeat arrived.
    Heartbeat,
    /// Agent: the link is to the gateway now; the one to the controller was closed.
    Gateway,
    /// Agent: the gateway cannot be reached; the link to the controller stays, and the next attempt
    /// is `delay` away.
    GatewayAway {
        /// Until the next attempt.
        delay: Duration,
        /// Why.
        reason: Reason,
    },
    /// Agent: the controller names a gateway that is not dialled, for this fault.
    GatewayRefused(PeerFault),
    /// The peer reported an error that concerns no stream.
    PeerError(String),
    /// A message of an unknown type was skipped; the agent reports each name once.
    UnknownType(String),
    /// The peer broke a rule; it cost at most the stream named.
    Tolerated(Option<StreamId>, PeerFault),
    /// The controller asks to wait for the registration.
    RegisterInProgress,
    /// Agent: the peer used to acknowledge heartbeats, and has left several in a row without an
    /// answer (P-209), although its end of the connection is alive.
    HeartbeatsUnanswered,
    /// The controller no longer knows this agent, which therefore registers again (P-182).
    Reregister,
}
