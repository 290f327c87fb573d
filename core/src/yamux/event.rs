//! What a session tells, and how it fails.

use core::fmt;

use bytes::Bytes;
use thiserror::Error;

use super::frame::Code;
use crate::hidden::Hidden;

/// What happened on a session. `Debug` tells only how long data is.
#[derive(Eq, PartialEq)]
pub enum Event {
    /// The peer opened this stream: [`Session::accept`](super::Session::accept) or [`Session::reset`](super::Session::reset) it.
    Opened(u32),
    /// Bytes of the peer; return their room with [`Session::consumed`](super::Session::consumed).
    Data(u32, Bytes),
    /// The peer has no more to send on this stream; all it sent came before.
    Finished(u32),
    /// Both ends have finished, and everything was consumed: the stream is gone.
    Over(u32),
    /// The stream is gone; what was on its way in either direction, and not told yet, is lost. A
    /// stream that was not told is not told gone either.
    Reset(u32, ResetBy),
    /// The stream takes data again, after [`SendError::Blocked`](crate::SendError::Blocked).
    Writable(u32),
    /// The peer opens no more streams and takes none; those that are open go on.
    GoAway,
    /// The session is over, and with it every stream, without an event of its own.
    Ended(SessionError),
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened(id) => write!(f, "Opened({id})"),
            Self::Data(id, data) => f
                .debug_tuple("Data")
                .field(id)
                .field(&Hidden(data))
                .finish(),
            Self::Finished(id) => write!(f, "Finished({id})"),
            Self::Over(id) => write!(f, "Over({id})"),
            Self::Reset(id, by) => write!(f, "Reset({id}, {by:?})"),
            Self::Writable(id) => write!(f, "Writable({id})"),
            Self::GoAway => f.write_str("GoAway"),
            Self::Ended(error) => write!(f, "Ended({error:?})"),
        }
    }
}

/// Who reset a stream, and why.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ResetBy {
    /// The peer.
    #[error("the peer reset the stream")]
    Peer,
    /// This end, because the peer sent more than the stream's window.
    #[error("the peer sent more than the window of the stream")]
    Window,
    /// This end, because of all streams this one held most when [`Config::recv_total`](super::Config::recv_total) was reached.
    #[error("more is waiting to be read than all streams may hold")]
    Memory,
    /// This end, because the peer sent data after its FIN, or granted more than a window can be.
    #[error("the peer broke the protocol on the stream")]
    Fault,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum SessionError {
    /// A frame of another version than 0: what follows cannot be read.
    #[error("a frame of yamux version {0}")]
    Version(u8),
    /// A frame of an unknown type: what follows cannot be read.
    #[error("a yamux frame of unknown type {0}")]
    Type(u8),
    /// A stream of the peer has an id that only this end may give, or that is open already.
    #[error("the peer opened a yamux stream with an id that it may not use")]
    Id,
    /// More answers than [`Config::control`](super::Config::control) were demanded and not taken.
    #[error("too many yamux answers are waiting to be read")]
    Flood,
    /// The peer gave the session up, with this code.
    #[error("the peer gave the yamux session up: {0}")]
    GoneAway(Code),
    /// No answer to a ping in [`Config::timeout`](super::Config::timeout).
    #[error("a yamux ping was not answered in time")]
    Timeout,
}

/// A stream could not be opened.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum OpenError {
    /// [`Config::streams`](super::Config::streams) are open, or [`Config::backlog`](super::Config::backlog) wait for the peer to accept them.
    #[error("too many yamux streams at once")]
    TooMany,
    /// The session is over, or the peer takes no more streams.
    #[error("the yamux session takes no more streams")]
    Closed,
}

/// Counters of a session.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct SessionStats {
    /// Streams opened by either end.
    pub opened: u64,
    /// Streams of the peer that were refused: at a limit, or because their id was used before.
    pub refused: u64,
    /// Streams that were reset, by either end.
    pub resets: u64,
    /// Those of them that the peer reset.
    pub resets_by_peer: u64,
    /// Those of them whose peer broke the protocol.
    pub resets_for_faults: u64,
    /// Those of them that held most when [`Config::recv_total`](super::Config::recv_total) was reached.
    pub resets_for_memory: u64,
    /// Streams that both ends finished.
    pub finished: u64,
    /// Streams that ended with the session.
    pub lost: u64,
    /// Times that a stream with data to send found its window used up.
    pub stalls: u64,
    /// Frames about streams that are gone.
    pub stale: u64,
}

impl SessionStats {
    /// Counts a stream that broke, by the local end where nothing else is said.
    pub(super) const fn count_reset(&mut self, by: Option<ResetBy>) {
        self.resets += 1;
        match by {
            None => {}
            Some(ResetBy::Peer) => self.resets_by_peer += 1,
            Some(ResetBy::Window | ResetBy::Fault) => self.resets_for_faults += 1,
            Some(ResetBy::Memory) => self.resets_for_memory += 1,
        }
    }
}
