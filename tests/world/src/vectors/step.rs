//! The steps of a conversation.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::Data;

/// Headers as the tester sends them: name to values.
pub type Headers = BTreeMap<String, Vec<String>>;

/// One step: what the tester does, or what it has to see. Those of the Kubernetes API exist for an
/// agent only, those of a client for a controller only.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A text message: this JSON, as it stands in the file.
    Send(Box<RawValue>),
    /// A text message: exactly this.
    SendText(String),
    /// A binary message, in hexadecimal.
    SendBinary(String),
    /// An answer in a binary frame.
    SendFrame(Frame),
    /// The next message is this.
    Expect(Value),
    /// The next messages are these bytes, in pieces.
    ExpectPieces(ExpectPieces),
    /// The next message is binary, and exactly this, in hexadecimal.
    ExpectBinary(String),
    /// The next message is binary, and this answer.
    ExpectFrame(ExpectFrame),
    /// Nothing is said, and the connection stands.
    Quiet(bool),
    /// So many milliseconds pass.
    Pass(u64),
    /// The agent dials.
    Dial(Dial),
    /// The tester closes the connection with this code.
    Close(u16),
    /// The tester drops the connection.
    Drop(bool),
    /// The subject closes the connection with this code.
    ExpectClose(u16),

    /// The Kubernetes API is asked.
    ExpectRequest(ExpectRequest),
    /// The Kubernetes API is asked for a WebSocket.
    ExpectUpgrade(ExpectUpgrade),
    /// A service is connected to.
    ExpectConnect(ExpectConnect),
    /// The upstream answers.
    Answer(Answer),
    /// The upstream takes the upgrade or the connection.
    Accept(Accept),
    /// The upstream sends.
    UpstreamSends(Piece),
    /// The upstream ends.
    UpstreamEnds(End),
    /// The upstream gets.
    ExpectUpstreamGets(Piece),
    /// The upstream sees the end.
    ExpectUpstreamEnd(End),

    /// A client asks.
    ClientRequests(ClientRequest),
    /// A client asks for a WebSocket.
    ClientUpgrades(ClientUpgrade),
    /// A client of a tunnel connects.
    ClientConnects(ClientConnect),
    /// A client sends.
    ClientSends(Piece),
    /// A client ends.
    ClientEnds(End),
    /// A client gets the head of its answer.
    ExpectClientHead(ExpectHead),
    /// A client gets.
    ExpectClientGets(Piece),
    /// A client sees the end.
    ExpectClientEnd(End),
}

impl Step {
    /// Whether it expects something.
    #[must_use]
    pub const fn expects(&self) -> bool {
        matches!(
            self,
            Self::Expect(_)
                | Self::ExpectPieces(_)
                | Self::ExpectBinary(_)
                | Self::ExpectFrame(_)
                | Self::Quiet(_)
                | Self::Dial(_)
                | Self::ExpectClose(_)
                | Self::ExpectRequest(_)
                | Self::ExpectUpgrade(_)
                | Self::ExpectConnect(_)
                | Self::ExpectUpstreamGets(_)
                | Self::ExpectUpstreamEnd(_)
                | Self::ExpectClientHead(_)
                | Self::ExpectClientGets(_)
                | Self::ExpectClientEnd(_)
        )
    }
}

/// An answer in a binary frame (P-039).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// Id of the request.
    pub request_id: String,
    /// Status.
    pub status: u32,
    /// The JSON of the headers, as it stands in the file.
    pub headers: Box<RawValue>,
    /// Body.
    pub body: Data,
}

/// The same as it is expected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectFrame {
    /// Id of the request.
    pub request_id: String,
    /// Status.
    pub status: u32,
    /// Headers: a pattern.
    pub headers: Value,
    /// Body.
    pub body: Data,
}

/// Bytes that come in messages of one type, wherever they are cut.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectPieces {
    /// What each message is: a pattern.
    pub message: Value,
    /// `payload.data` of all of them, decoded and joined.
    pub bytes: Data,
    /// Longest piece, in bytes.
    pub longest: usize,
}

/// A dial of the agent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dial {
    /// `controller`, or the URL of a gateway.
    pub to: String,
    /// Earliest and latest, since the connection before it was over or refused.
    pub after_ms: Option<[u64; 2]>,
    /// Status with which it is refused.
    pub refused: Option<u16>,
    /// `Retry-After` of a refusal, in seconds.
    pub retry_after: Option<u64>,
}

/// What the Kubernetes API is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectRequest {
    /// What later steps call it.
    #[serde(rename = "as")]
    pub name: Option<String>,
    /// Method.
    pub method: String,
    /// Path, byte for byte.
    pub path: String,
    /// Query, byte for byte; none where it is left out.
    pub query: Option<String>,
    /// Headers by lower-case name: a pattern; others may be there.
    #[serde(default)]
    pub headers: BTreeMap<String, Value>,
    /// The whole body.
    #[serde(default)]
    pub body: Data,
    /// The body is looked at by later steps.
    #[serde(default)]
    pub more: bool,
}

/// For what WebSocket the Kubernetes API is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectUpgrade {
    /// What later steps call it.
    #[serde(rename = "as")]
    pub name: Option<String>,
    /// Path, byte for byte.
    pub path: String,
    /// Query, byte for byte; none where it is left out.
    pub query: Option<String>,
    /// Headers by lower-case name: a pattern; others may be there.
    #[serde(default)]
    pub headers: BTreeMap<String, Value>,
    /// Subprotocols that are offered, in this order.
    pub protocols: Vec<String>,
}

/// Where a tunnel leads.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectConnect {
    /// What later steps call it.
    #[serde(rename = "as")]
    pub name: Option<String>,
    /// `tcp` or `udp`.
    pub transport: Transport,
    /// Host and port.
    pub to: String,
}

/// What a tunnel carries.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// A byte stream.
    Tcp,
    /// Datagrams.
    Udp,
}

/// An answer of the Kubernetes API.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Which request; the latest where it is left out.
    pub on: Option<String>,
    /// Status.
    pub status: u16,
    /// Headers.
    #[serde(default)]
    pub headers: Headers,
    /// Body, or its beginning.
    #[serde(default)]
    pub body: Data,
    /// More of the body follows.
    #[serde(default)]
    pub more: bool,
}

/// The upstream takes an upgrade or a connection.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// Which; the latest where it is left out.
    pub on: Option<String>,
    /// The chosen subprotocol.
    pub protocol: Option<String>,
}

/// A piece of data; exactly one of the kinds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// Which; the latest where it is left out.
    pub on: Option<String>,
    /// Part of a byte stream.
    pub bytes: Option<Data>,
    /// A WebSocket message of type text.
    pub text: Option<Data>,
    /// A WebSocket message of type binary.
    pub binary: Option<Data>,
    /// A datagram.
    pub datagram: Option<Data>,
}

/// An end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Which; the latest where it is left out.
    pub on: Option<String>,
    /// How it ends.
    pub how: How,
    /// Code of a WebSocket's close.
    pub code: Option<u16>,
    /// Reason of a WebSocket's close.
    pub reason: Option<String>,
    /// Status of a failure, where it matters.
    pub status: Option<u16>,
}

/// How something ends.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// In order: it is complete.
    Complete,
    /// A WebSocket is closed.
    Closed,
    /// It breaks off, or fails.
    Broken,
}

/// A request of a client.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRequest {
    /// What later steps call it.
    #[serde(rename = "as")]
    pub name: Option<String>,
    /// Method.
    pub method: String,
    /// Path below the cluster's.
    pub path: String,
    /// Query.
    pub query: Option<String>,
    /// Headers.
    #[serde(default)]
    pub headers: Headers,
    /// Body, or its beginning.
    pub body: Option<Data>,
    /// More of the body follows.
    #[serde(default)]
    pub more: bool,
}

/// A client asks for a WebSocket.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientUpgrade {
    /// What later steps call it.
    #[serde(rename = "as")]
    pub name: Option<String>,
    /// Path below the cluster's.
    pub path: String,
    /// Query.
    pub query: Option<String>,
    /// Headers, without those of the handshake.
    #[serde(default)]
    pub headers: Headers,
    /// Subprotocols it offers.
    #[serde(default)]
    pub protocols: Vec<String>,
}

/// A client of a tunnel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConnect {
    /// What later steps call it.
    #[serde(rename = "as")]
    pub name: Option<String>,
    /// `tcp` or `udp`.
    pub transport: Transport,
    /// Fields of `tcp_tunnel_start` (P-071).
    pub tunnel: BTreeMap<String, Value>,
}

/// The head of an answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectHead {
    /// Which; the latest where it is left out.
    pub on: Option<String>,
    /// Status.
    pub status: u16,
    /// Headers by lower-case name: a pattern; others may be there.
    #[serde(default)]
    pub headers: BTreeMap<String, Value>,
}
