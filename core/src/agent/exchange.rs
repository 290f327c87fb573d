//! State of one request, stream or tunnel of the agent.

use alloc::{boxed::Box, vec::Vec};

use bytes::Bytes;

use super::{sockets::Socket, tunnels::Tunnel};
use crate::{
    input::{RequestHead, ResponseHead},
    time::Time,
};

/// State of one request.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The controller takes the answer in pieces (P-042).
    pub(super) streamed: bool,
    /// More of the request's body is to come.
    pub(super) body_open: bool,
    /// The local end answered; kept here until the end where the answer is not streamed.
    pub(super) head: Option<ResponseHead>,
    pub(super) answered: bool,
    /// The whole answer of a request that is not streamed.
    pub(super) whole: Vec<Bytes>,
    pub(super) whole_len: usize,
    /// The local end is over, only frames are left.
    pub(super) ended: bool,
    pub(super) due: Option<Time>,
    /// What was taken of the body or of messages since the controller was last told; `None`
    /// toward one that keeps no window.
    pub(super) taken: Option<usize>,
    /// Its local end is opened when its body has come, in a binary frame (P-061).
    pub(super) unopened: Option<Box<Unopened>>,
    /// It asked for a WebSocket.
    pub(super) socket: Option<Socket>,
    /// It is a TCP or UDP tunnel.
    pub(super) tunnel: Option<Box<Tunnel>>,
}

/// A request whose local end is not open yet.
#[derive(Debug)]
pub(super) struct Unopened {
    pub(super) head: RequestHead,
    /// Its time limit once it is.
    pub(super) due: Option<Time>,
}

impl Exchange {
    /// One with nothing but its time limit.
    pub(super) const fn new(due: Option<Time>) -> Self {
        Self {
            streamed: false,
            body_open: false,
            head: None,
            answered: false,
            whole: Vec::new(),
            whole_len: 0,
            ended: false,
            due,
            taken: None,
            unopened: None,
            socket: None,
            tunnel: None,
        }
    }

    /// It has messages, or nothing yet but the errors of such a stream.
    pub(super) fn is_socket(&self) -> bool {
        self.socket.as_ref().is_some_and(Socket::has_messages)
    }

    /// It began with `proxy_websocket_start`.
    pub(super) fn is_bare(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.bare)
    }

    /// The upstream accepted the upgrade, so that what follows are messages.
    pub(super) fn is_upgraded(&self) -> bool {
        self.socket.as_ref().is_some_and(Socket::is_open)
    }

    /// A refusal of what has no answer of its own is told later, and kept for that.
    pub(super) fn answered_with(&mut self, head: &ResponseHead) {
        self.answered = true;
        self.head = (head.status != 101).then(|| head.clone());
    }

    pub(super) const fn answered_head(&self) -> Option<&ResponseHead> {
        self.head.as_ref()
    }
}
