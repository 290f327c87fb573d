//! One stream: its queue toward the socket and what its local end has not consumed.

use alloc::{boxed::Box, collections::VecDeque, string::String, sync::Arc, vec::Vec};

use bytes::Bytes;

use crate::{
    config::Limits,
    input::{Kind, RequestHead, ResponseHead, StreamClose, Tunnel},
    stats::Ending,
    wire::encode::TunnelEnd,
};

/// One frame, or for data one or more frames, that a stream has to send.
#[derive(Debug)]
pub(crate) enum Item {
    /// The answer failed after or before its head.
    Abort(String),
    /// A WebSocket stream broke; its close follows.
    Broke(String),
    /// The request is given up.
    Cancel,
    /// The last of a WebSocket stream.
    Close(StreamClose),
    /// Part of a body or of a TCP tunnel; cut into chunks.
    Data(Bytes),
    /// The body is complete.
    End,
    /// A UDP client's flow is over, and why if not by silence.
    FlowOver(Option<String>),
    /// The reader here has taken so much of what the peer sent.
    Grant(usize),
    /// The request failed, to a peer that did not ask for a streamed answer.
    Error(String),
    /// Head of a streamed answer.
    Head(ResponseHead),
    /// A message of a WebSocket stream, or a datagram; never cut.
    Message(Kind, Bytes),
    /// A request; a body follows in pieces, or is part of it.
    Request {
        head: Box<RequestHead>,
        body_follows: bool,
        body: Vec<Bytes>,
    },
    /// The start of a TCP tunnel.
    Tunnel(Box<Tunnel>),
    /// The last of a TCP tunnel.
    TunnelClose(Box<TunnelEnd>),
    /// A request for a WebSocket stream, with the subprotocols it offers.
    Upgrade(Box<RequestHead>, Vec<String>),
    /// A whole answer in one message.
    Whole(ResponseHead, Vec<Bytes>),
}

impl Item {
    /// What it is charged. The body of a whole message is charged by the machine that held it
    /// back until it was whole, and until it is framed.
    pub(crate) fn charge(&self) -> usize {
        let len = match self {
            Self::Abort(text) | Self::Broke(text) | Self::Error(text) => text.len(),
            Self::Cancel | Self::End | Self::Grant(_) => 0,
            Self::FlowOver(text) => text.as_ref().map_or(0, String::len),
            Self::Tunnel(tunnel) => tunnel_len(tunnel),
            Self::TunnelClose(end) => end.error.as_ref().map_or(0, String::len),
            Self::Close(close) => close.reason.len(),
            Self::Data(data) | Self::Message(_, data) => data.len(),
            Self::Head(head) => headers_len(&head.headers),
            Self::Request { head, .. } => head_len(head),
            Self::Upgrade(head, protocols) => {
                head_len(head) + protocols.iter().map(String::len).sum::<usize>()
            }
            Self::Whole(head, _) => headers_len(&head.headers),
        };
        Limits::charge(len)
    }
}

/// What headers are charged.
pub(crate) fn headers_len(headers: &[(String, String)]) -> usize {
    headers.iter().map(|(n, v)| n.len() + v.len() + 8).sum()
}

fn tunnel_len(tunnel: &Tunnel) -> usize {
    let texts = [
        &tunnel.tunnel_id,
        &tunnel.gateway_name,
        &tunnel.gateway_namespace,
        &tunnel.service_name,
        &tunnel.service_namespace,
        &tunnel.client_addr,
    ];
    texts.into_iter().map(String::len).sum()
}

/// Bytes of method, path, query and headers.
pub(crate) fn head_len(head: &RequestHead) -> usize {
    let query = head.query.as_ref().map_or(0, String::len);
    head.method.len() + head.path.len() + query + headers_len(&head.headers)
}

/// One stream of the table.
#[derive(Debug)]
pub(crate) struct Stream<T> {
    /// Shared with the table of names.
    pub(crate) name: Arc<str>,
    pub(crate) state: T,
    /// What waits for the socket; with room for one where nothing does.
    pub(super) out: VecDeque<Item>,
    pub(super) held_out: usize,
    pub(super) held_in: usize,
    /// It has its turn to come.
    pub(super) queued: bool,
    /// What may be framed of its data until the peer grants more, each piece as it is charged;
    /// `None` without such a limit.
    pub(super) credit: Option<i64>,
    /// What ended it first.
    pub(super) ending: Option<Ending>,
}

impl<T> Stream<T> {
    pub(super) const fn new(name: Arc<str>, state: T) -> Self {
        Self {
            name,
            state,
            out: VecDeque::new(),
            held_out: 0,
            held_in: 0,
            queued: false,
            credit: None,
            ending: None,
        }
    }

    /// Whether anything of it waits for the socket.
    pub(crate) fn owes_frames(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether no more of its data may be framed before the peer grants it.
    pub(super) fn is_spent(&self) -> bool {
        self.credit.is_some_and(|credit| credit <= 0)
    }

    /// Whether its queue takes a piece of `len` bytes. An empty one takes any, so that no size of
    /// piece can wait for ever; but what would wait for the peer is not to take the room of others.
    pub(super) fn takes(&self, len: usize, limits: &Limits) -> bool {
        !self.is_spent() && (self.held_out == 0 || self.held_out + len <= self.room(limits))
    }

    /// How much may wait for the socket, of what the peer has granted.
    pub(super) fn room(&self, limits: &Limits) -> usize {
        let granted = self.credit.map(|credit| usize::try_from(credit.max(0)));
        let granted = granted.and_then(Result::ok).unwrap_or(usize::MAX);
        granted.min(limits.send_stream)
    }

    /// Whether it has something that may be framed now.
    pub(super) fn is_sendable(&self) -> bool {
        match self.out.front() {
            None => false,
            Some(Item::Data(_) | Item::Message(..)) => !self.is_spent(),
            Some(_) => true,
        }
    }

    /// Whether its local end has taken all that was delivered.
    pub(crate) const fn is_consumed(&self) -> bool {
        self.held_in == 0
    }

    /// Takes the first item, or of data at most `chunk` bytes and what the peer has granted; with
    /// what that releases.
    pub(super) fn take(&mut self, chunk: usize) -> Option<(Item, usize)> {
        let credit = self.credit.and_then(|credit| usize::try_from(credit).ok());
        let chunk = credit.map_or(chunk, |credit| chunk.min(credit).max(1));
        let (item, released) = self.part(chunk)?;
        if let Item::Data(data) | Item::Message(_, data) = &item
            && let Some(credit) = &mut self.credit
        {
            *credit = credit.saturating_sub_unsigned(Limits::charge(data.len()) as u64);
        }
        Some((item, released))
    }

    fn part(&mut self, chunk: usize) -> Option<(Item, usize)> {
        if let Some(Item::Data(data)) = self.out.front_mut()
            && data.len() > chunk
        {
            let before = Limits::charge(data.len());
            let part = data.split_to(chunk);
            let released = before - Limits::charge(data.len());
            return Some((Item::Data(part), released));
        }
        let item = self.out.pop_front()?;
        if self.out.is_empty() && self.out.capacity() > 1 {
            // Most streams are idle most of the time, and there may be many.
            self.out = VecDeque::new();
        }
        let released = item.charge();
        Some((item, released))
    }

    /// Adds a grant to one that waits, so that a peer which reads none of them makes them no more.
    pub(super) fn unless_joined(&mut self, item: Item) -> Option<Item> {
        match (item, self.out.front_mut()) {
            (Item::Grant(more), Some(Item::Grant(waiting))) => {
                *waiting = waiting.saturating_add(more);
                None
            }
            (item, _) => Some(item),
        }
    }

    /// Puts an item where it belongs: a grant alone goes before what waits.
    pub(super) fn put(&mut self, item: Item) {
        if self.out.capacity() == 0 {
            self.out.reserve_exact(1);
        }
        match item {
            Item::Grant(_) => self.out.push_front(item),
            item => self.out.push_back(item),
        }
    }
}
