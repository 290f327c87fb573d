//! Follows a stream of opaque bytes by its frames, without a copy, to know how it ended, and what
//! can still be said to its client where it breaks: a client must not take a break for a success.
//!
//! ```text
//! whole frame passed ──▶ at a boundary: last words can be written
//! part of a frame    ──▶ nothing can be written: the client's connection is cut
//! ```

mod spdy;
#[cfg(test)]
mod tests;
mod websocket;

use alloc::vec::Vec;

use self::{spdy::Spdy, websocket::WebSocket};
use super::Channels;
use crate::input::StreamClose;

/// What passes on a stream that was switched to WebSocket or SPDY/3.1.
///
/// It holds a few dozen bytes, and for SPDY up to 4096 numbers of streams.
#[derive(Debug)]
pub struct Follower(Protocol);

#[derive(Debug)]
enum Protocol {
    Spdy(Spdy),
    WebSocket(WebSocket),
}

/// Who closed a stream in order, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Closed {
    /// The client did.
    Client(StreamClose),
    /// The cluster did.
    Cluster(StreamClose),
}

impl Follower {
    /// Of a WebSocket to `path` with the negotiated subprotocol, empty for none. Where an extension
    /// was negotiated, what a message holds is not known (`extended`).
    #[must_use]
    pub fn websocket(path: &str, protocol: &str, extended: bool) -> Self {
        let channels = match extended {
            true => Channels::None,
            false => Channels::of(path, protocol),
        };
        Self(Protocol::WebSocket(WebSocket::new(channels)))
    }

    /// Of a SPDY/3.1 connection to `path`, whose streams speak the negotiated protocol.
    #[must_use]
    pub fn spdy(path: &str, protocol: &str) -> Self {
        Self(Protocol::Spdy(Spdy::new(Channels::of(path, protocol))))
    }

    /// These bytes go to the cluster.
    pub fn up(&mut self, data: &[u8]) {
        match &mut self.0 {
            Protocol::Spdy(spdy) => spdy.up(data),
            Protocol::WebSocket(socket) => socket.up(data),
        }
    }

    /// These bytes go to the client.
    pub fn down(&mut self, data: &[u8]) {
        match &mut self.0 {
            Protocol::Spdy(spdy) => spdy.down(data),
            Protocol::WebSocket(socket) => socket.down(data),
        }
    }

    /// Who closed the stream first, where a close frame has passed. SPDY has none.
    #[must_use]
    pub fn closed(&self) -> Option<Closed> {
        match &self.0 {
            Protocol::Spdy(_) => None,
            Protocol::WebSocket(socket) => socket.closed(),
        }
    }

    /// Whether the cluster has said all it had to say: when its side ends now, it ends in order.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        match &self.0 {
            Protocol::Spdy(spdy) => spdy.is_complete(),
            Protocol::WebSocket(socket) => socket.is_complete(),
        }
    }

    /// What to write to the client when the stream is ended with `code` of WebSocket for `cause`:
    /// the failure of its command, where there was no result yet, and the end of the connection.
    /// `None` in the middle of a frame, where nothing can be said.
    #[must_use]
    pub fn last_words(&self, code: u16, cause: &str) -> Option<Vec<u8>> {
        match &self.0 {
            Protocol::Spdy(spdy) => spdy.last_words(cause),
            Protocol::WebSocket(socket) => socket.last_words(code, cause),
        }
    }
}
