//! Errors, in three families: the configuration's, the caller's and the peer's.
//!
//! A fault of the peer is never an `Err`: it comes out of `poll` as an action or a notice.

use alloc::string::String;
use core::fmt;

use bytes::Bytes;
use thiserror::Error;

use crate::{hidden::Hidden, yamux::SessionError};

/// The configuration contradicts itself.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// Backoff needs a base above zero that is not above its maximum.
    #[error("backoff: the base must be above zero and not above the maximum")]
    Backoff,
    /// Chunks must be non-empty and fit the send queue.
    #[error("limits: the chunk size must be between 1 and the send queue of a stream")]
    Chunk,
    /// An agent without an id cannot be told from another.
    #[error("the agent id is empty")]
    EmptyAgentId,
    /// A cluster without an id cannot be addressed.
    #[error("the cluster id is empty")]
    EmptyClusterId,
    /// A listed gateway is no host, so that none would ever match it.
    #[error(
        "gateways: each must be a host without scheme, port and path, or a dot and the name that \
         all permitted hosts are below"
    )]
    Gateway,
    /// The link would be declared dead before a lost ping shows.
    #[error("periods: the idle limit must be at least twice the ping period")]
    IdleBelowTwicePing,
    /// A limit of zero.
    #[error("limits: a limit is zero")]
    ZeroLimit,
    /// A period of zero.
    #[error("periods: a period is zero")]
    ZeroPeriod,
}

/// Data was not taken; it comes back with the error. `Debug` tells only how long it is.
#[derive(Eq, Error, PartialEq)]
pub enum SendError {
    /// No room: wait for [`crate::Action::Writable`].
    #[error("no room in the send queue")]
    Blocked(Bytes),
    /// The stream is over: drop the data.
    #[error("the stream is closed")]
    Closed(Bytes),
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, data) = match self {
            Self::Blocked(data) => ("Blocked", data),
            Self::Closed(data) => ("Closed", data),
        };
        f.debug_tuple(name).field(&Hidden(data)).finish()
    }
}

/// A request could not be opened.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum OpenError {
    /// No agent is registered.
    #[error("the cluster's agent is not connected")]
    Away,
    /// This client has a stream of this UDP tunnel already.
    #[error("the client has a stream of this tunnel already")]
    Busy,
    /// Longer than [`crate::Limits::head`].
    #[error("the request's path and headers are too long")]
    HeadTooLong,
    /// The agent and this controller are not in the fast mode, or speak no such protocol in it.
    #[error("the cluster's agent has no such streams")]
    Mode,
    /// The request needs another identity policy than the agent has (P-194).
    #[error("the agent's identity policy is not the one that the request needs")]
    Policy,
    /// More than [`crate::Limits::streams`], of which clients of UDP tunnels get half.
    #[error("too many requests at once to this cluster")]
    TooManyStreams,
    /// The agent opens no TCP or UDP tunnels, as far as it said.
    #[error("the cluster's agent opens no tunnels")]
    Tunnel,
    /// The agent opens no WebSocket streams, as it said.
    #[error("the cluster's agent opens no WebSocket streams")]
    WebSocket,
}

/// Why a request of the controller failed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Failure {
    /// The agent reported an error, before or in the middle of the answer.
    #[error("{0}")]
    Agent(String),
    /// The request's body was broken off where it came from.
    #[error("the client broke off the request")]
    Cancelled,
    /// The connection to the agent ended.
    #[error("the connection to the cluster's agent was lost")]
    Disconnected,
    /// The agent broke the protocol on this stream.
    #[error("the cluster's agent broke the protocol: {0}")]
    Fault(PeerFault),
    /// A message of a WebSocket stream, or a datagram, is longer than [`crate::Limits::message`] or
    /// than UDP can carry.
    #[error("a message is longer than the permitted amount")]
    MessageTooLong,
    /// The client reads more slowly than the cluster answers, beyond [`crate::Limits`].
    #[error("the client reads too slowly: more than the permitted amount is waiting for it")]
    Overrun,
    /// The Kubernetes API refused a WebSocket with this status, as far as an agent tells that does
    /// not relay the whole answer (P-102).
    #[error("{text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What the agent said.
        text: String,
    },
    /// The agent reset a stream of the fast mode, which can carry no text.
    #[error(
        "the cluster's agent reset the stream: its connection to the Kubernetes API, or to the \
         service, broke"
    )]
    Reset,
    /// The agent cannot take the body in pieces, and it is above [`crate::Limits::buffered`].
    #[error("the request body is too large for this agent")]
    RequestTooLarge,
    /// The controller shuts down.
    #[error("the controller is shutting down")]
    Shutdown,
}

/// Why a connection ended.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// The peer closed the WebSocket.
    #[error("closed by the peer: code {code} {reason:?}")]
    Closed {
        /// Its code.
        code: u16,
        /// Its reason.
        reason: String,
    },
    /// The dial took too long.
    #[error("the connection took too long to establish")]
    DialTimeout,
    /// Nothing was heard for too long.
    #[error("nothing was heard from the peer for too long")]
    Idle,
    /// The network failed.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The peer broke the protocol.
    #[error("protocol broken by the peer: {0}")]
    Peer(PeerFault),
    /// The upgrade was answered with this status.
    #[error("the server refused the connection with HTTP status {0}")]
    Refused(u16),
    /// The registration was answered with an error.
    #[error("registration refused: {0}")]
    RegisterRefused(String),
    /// The registration was not answered.
    #[error("the registration was not answered in time")]
    RegisterTimeout,
    /// [`crate::Input::Shutdown`].
    #[error("shutting down")]
    Shutdown,
    /// The session of the fast mode ended.
    #[error("the streams of the connection broke: {0}")]
    Session(SessionError),
    /// A write made no progress for too long.
    #[error("a write made no progress for too long")]
    Stalled,
    /// A newer connection of the same agent took over.
    #[error("superseded by a newer connection of the same agent")]
    Superseded,
    /// The credentials were refused (401 or 403).
    #[error("the server refused the agent's token (HTTP status {0})")]
    Unauthorized(u16),
}

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum PeerFault {
    /// A payload is not base64 (P-027).
    #[error("payload is not base64")]
    Base64,
    /// More than [`crate::Limits::control`] answers were demanded and not taken.
    #[error("too many answers are waiting to be read")]
    ControlFlood,
    /// A request id was used twice.
    #[error("duplicate request id")]
    DuplicateId,
    /// Longer than [`crate::Limits::frame`].
    #[error("message too long")]
    FrameTooLong,
    /// A URL of a gateway that is none, or would send the token unencrypted (P-193).
    #[error("invalid URL of a gateway")]
    Gateway,
    /// The body of an answer is declared to be compressed, and is damaged.
    #[error("body is not gzip")]
    Gzip,
    /// Longer than [`crate::Limits::head`].
    #[error("head too long")]
    HeadTooLong,
    /// A header name or value cannot stand in HTTP.
    #[error("invalid header")]
    Header,
    /// Longer than [`crate::Limits::message`], or a datagram longer than UDP can carry.
    #[error("message of a stream too long")]
    MessageTooLong,
    /// Not JSON, or not of the expected shape.
    #[error("malformed message")]
    Malformed,
    /// Not a method HTTP could carry.
    #[error("invalid method")]
    Method,
    /// A message of a stream is of no type of WebSocket message, or contradicts its own
    /// `message_type` (P-155).
    #[error("invalid opcode")]
    Opcode,
    /// A required field is missing or of another type.
    #[error("missing field {0}")]
    Missing(&'static str),
    /// A host or target that is not on an allow-list of the agent's configuration (P-197).
    #[error("not permitted by the agent's configuration")]
    NotPermitted,
    /// More than [`crate::Limits::recv_stream`] or `recv_total` without waiting.
    #[error("more data than the receive queue holds")]
    Overrun,
    /// The path is not relayed (P-163, P-201).
    #[error("invalid path")]
    Path,
    /// A yamux session broke, with a peer that has JSON to fall back to (P-150).
    #[error("yamux session broken")]
    Session,
    /// A subprotocol that cannot be offered, or that was not.
    #[error("invalid subprotocol")]
    Subprotocol,
    /// The target of a tunnel is no service and no port (P-140).
    #[error("invalid target of a tunnel")]
    Target,
    /// More than [`crate::Limits::streams`], of which clients of UDP tunnels get half.
    #[error("too many requests at once")]
    TooManyStreams,
    /// A message of type text that is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// An id that names nothing.
    #[error("unknown request id")]
    UnknownId,
    /// A feature this version does not have.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_in_the_table_of_what_it_costs() {
        let table = include_str!("faults.md");
        // A new fault does not compile here before it is added below.
        let is_listed = |fault: PeerFault| match fault {
            PeerFault::Base64
            | PeerFault::ControlFlood
            | PeerFault::DuplicateId
            | PeerFault::FrameTooLong
            | PeerFault::Gateway
            | PeerFault::Gzip
            | PeerFault::HeadTooLong
            | PeerFault::Header
            | PeerFault::Malformed
            | PeerFault::MessageTooLong
            | PeerFault::Method
            | PeerFault::Missing(_)
            | PeerFault::NotPermitted
            | PeerFault::Opcode
            | PeerFault::Overrun
            | PeerFault::Path
            | PeerFault::Session
            | PeerFault::Subprotocol
            | PeerFault::Target
            | PeerFault::TooManyStreams
            | PeerFault::UnknownId
            | PeerFault::Unsupported(_)
            | PeerFault::Utf8 => {
                let name = alloc::format!("{fault:?}");
                let name = name.split('(').next().unwrap_or_default();
                table.contains(&alloc::format!("`{name}`"))
            }
        };
        for fault in [
            PeerFault::Base64,
            PeerFault::ControlFlood,
            PeerFault::DuplicateId,
            PeerFault::FrameTooLong,
            PeerFault::Gateway,
            PeerFault::Gzip,
            PeerFault::HeadTooLong,
            PeerFault::Header,
            PeerFault::Malformed,
            PeerFault::MessageTooLong,
            PeerFault::Method,
            PeerFault::Missing(""),
            PeerFault::NotPermitted,
            PeerFault::Opcode,
            PeerFault::Overrun,
            PeerFault::Path,
            PeerFault::Session,
            PeerFault::Subprotocol,
            PeerFault::Target,
            PeerFault::TooManyStreams,
            PeerFault::UnknownId,
            PeerFault::Unsupported(""),
            PeerFault::Utf8,
        ] {
            assert!(is_listed(fault), "not in the table: {fault:?}");
        }
    }
}
