//! How a stream ended, and what each side and the audit log are told of it.

use controlplane_driver::{Failure, MessageWriter, StreamClose};
use tokio_tungstenite::tungstenite::{
    Error as WsError,
    error::{CapacityError, ProtocolError},
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::proxy::{
    audit::{End, Side},
    grant::WITHDRAWN,
};

/// RFC 6455, section 7.4.1.
const PROTOCOL_ERROR: u16 = 1002;
const NO_UTF8: u16 = 1007;
pub(in crate::proxy) const POLICY: u16 = 1008;

const GONE: &str = "the client is gone";
const SILENT: &str = "nothing was heard of the client for too long";
pub(in crate::proxy) const STALLED: &str = "the client took nothing for too long";

/// Why a stream is over.
#[derive(Debug)]
pub(super) enum Ended {
    /// The client closed it.
    Client(StreamClose),
    /// The cluster closed it; a failure says why it did not end in order.
    Cluster(StreamClose, Option<Failure>),
    /// The client sent what it must not, and is closed with this.
    Fault(StreamClose),
    /// The client's connection ended without a close frame.
    Gone,
    /// Nothing was heard of the client.
    Silent,
    /// The client took nothing.
    Stalled,
    /// Its user may no longer reach the cluster.
    Withdrawn,
}

impl Ended {
    pub(super) fn by_client(frame: Option<CloseFrame>) -> Self {
        Self::Client(match frame {
            None => StreamClose::new(StreamClose::NO_CODE, ""),
            Some(frame) => StreamClose::new(frame.code.into(), &frame.reason),
        })
    }

    /// By an error of the client's WebSocket, whose messages may have `limit` bytes.
    pub(super) fn by_error(error: &WsError, limit: usize) -> Self {
        let (code, reason) = match error {
            WsError::Capacity(CapacityError::MessageTooLong { .. }) => {
                let reason = format!("a message of the client is longer than {limit} bytes");
                (StreamClose::TOO_BIG, reason)
            }
            WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return Self::Gone,
            WsError::Protocol(_) | WsError::AttackAttempt => {
                let reason = format!("the client broke the rules of WebSocket: {error}");
                (PROTOCOL_ERROR, reason)
            }
            WsError::Utf8(_) => (NO_UTF8, "a text message of the client is no UTF-8".into()),
            _ => return Self::Gone,
        };
        Self::Fault(StreamClose::new(code, &reason))
    }

    /// Tells the agent.
    pub(super) fn tell(&self, writer: MessageWriter) {
        match self {
            Self::Client(close) | Self::Fault(close) => writer.close(close.clone()),
            // It knows.
            Self::Cluster(..) => drop(writer),
            Self::Gone | Self::Silent => writer.abort(GONE),
            Self::Stalled => writer.abort(STALLED),
            Self::Withdrawn => writer.abort(WITHDRAWN),
        }
    }

    /// Whether there is a client that can be told anything.
    pub(super) const fn is_told(&self) -> bool {
        !matches!(self, Self::Gone | Self::Stalled)
    }

    /// The close frame that the client is sent; nothing where its own is answered.
    pub(super) fn frame(&self) -> Option<Option<CloseFrame>> {
        let policy = |reason| StreamClose::new(POLICY, reason);
        let close = match self {
            Self::Cluster(close, _) | Self::Fault(close) => close.clone(),
            Self::Silent => policy(SILENT),
            Self::Withdrawn => policy(WITHDRAWN),
            Self::Client(_) | Self::Gone | Self::Stalled => return None,
        };
        let coded = close.code != StreamClose::NO_CODE;
        Some(coded.then(|| CloseFrame {
            code: CloseCode::from(close.code),
            reason: close.reason.into(),
        }))
    }

    /// Whether messages can still be made out in what the client sends.
    pub(super) const fn is_legible(&self) -> bool {
        !matches!(self, Self::Fault(_))
    }

    pub(super) fn to_end(&self) -> End {
        match self {
            Self::Client(close) => End::Closed(Side::Client, close.clone()),
            Self::Cluster(close, None) => End::Closed(Side::Cluster, close.clone()),
            Self::Cluster(_, Some(failure)) => End::failed(failure, false),
            Self::Fault(close) => End::Failed(close.reason.clone()),
            Self::Gone => End::ClientGone,
            Self::Silent => End::Failed(SILENT.into()),
            Self::Stalled => End::Failed(STALLED.into()),
            Self::Withdrawn => End::Failed(WITHDRAWN.into()),
        }
    }
}
