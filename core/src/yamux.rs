//! yamux, sans-IO: many byte streams over one connection, each with a window of its own (P-118,
//! P-119).
//!
//! A [`Session`] is either end. It takes bytes as they arrive ([`Session::receive`]), tells what
//! they mean ([`Session::event`]), and builds what is to be written when the connection can take it
//! ([`Session::transmit`]). It reads no clock, holds no lock and allocates nothing per frame beyond
//! the payload.
//!
//! ```text
//!              open / peer's SYN
//!                     │
//!                     ▼
//!       finish ┌──────────────┐ peer's FIN
//!      ┌───────┤     Open     ├───────┐
//!      ▼       └──────────────┘       ▼
//!  ┌────────┐                    ┌─────────┐     reset, or the peer's RST,
//!  │ Closed │                    │ Closed  │     from any state: gone at once
//!  │  here  │                    │ by peer │
//!  └───┬────┘                    └────┬────┘
//!      │ peer's FIN            finish │
//!      └──────────►  Over  ◄──────────┘
//!                (a reset finds nothing; what came before is still told)
//! ```
//!
//! What a peer can make it hold: of each stream no more than its window, which is 256 KiB at first
//! and grows up to [`Config::window`] only while all windows together fit [`Config::recv_total`];
//! over all streams `recv_total`, above which the stream that holds most is reset; answers up to
//! [`Config::control`], above which the session ends. What happened is kept in the streams until it
//! is asked for, so that a session whose events nobody takes holds no more either.

mod config;
mod event;
mod frame;
mod ids;
mod incoming;
mod keepalive;
mod news;
mod outgoing;
mod stream;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, VecDeque};
use core::fmt;

use bytes::Bytes;

pub use self::{
    config::Config,
    event::{Event, OpenError, ResetBy, SessionError, SessionStats},
    frame::{Code, INITIAL_WINDOW},
};
use self::{
    frame::SYN, ids::PeerIds, incoming::Reader, keepalive::Keepalive, outgoing::Control,
    stream::Stream,
};
use crate::{config::Limits, error::SendError, time::Time};

/// Which end of the connection a session is. The roles differ in their stream ids only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Opens streams with odd ids; the agent.
    Client,
    /// Opens streams with even ids; the controller or gateway.
    Server,
}

/// One end of a yamux connection.
pub struct Session {
    role: Role,
    config: Config,
    /// `None` once the session is over.
    live: Option<Live>,
    streams: BTreeMap<u32, Stream>,
    /// The next id of this end.
    next: Option<u32>,
    /// The ids of the peer.
    ids: PeerIds,
    /// Streams of the peer that were not accepted yet.
    backlog: usize,
    /// Streams of this end that the peer did not accept yet.
    unacknowledged: usize,
    reader: Reader,
    control: Control,
    keepalive: Keepalive,
    /// What is told of streams that are gone and of the session: of each stream that the local end
    /// knows one.
    events: VecDeque<Event>,
    /// Streams with something to tell, each once: round robin.
    ready: VecDeque<u32>,
    /// Streams with something to send and a window for it, each once: round robin.
    turn: VecDeque<u32>,
    /// Streams whose data was refused and that have room now, each once.
    roomy: VecDeque<u32>,
    /// Charged for what was received and not consumed.
    held_in: usize,
    /// Charged for what waits to be sent.
    held_out: usize,
    /// All windows together.
    windows: usize,
    stats: SessionStats,
}

/// What a session that is not over can still do.
#[derive(Clone, Copy, Debug, Default)]
struct Live {
    /// The peer takes no more streams.
    peer_leaves: bool,
    /// This end takes no more streams.
    leaves: bool,
}

/// What it holds stays out: it may hold secrets.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("role", &self.role)
            .field("streams", &self.streams.len())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session that begins `now`. Bounds that make no sense are raised to ones that do.
    #[must_use]
    pub fn new(role: Role, config: Config, now: Time) -> Self {
        let config = config.checked();
        Self {
            role,
            live: Some(Live::default()),
            streams: BTreeMap::new(),
            next: Some(match role {
                Role::Client => 1,
                Role::Server => 2,
            }),
            ids: PeerIds::new(role),
            backlog: 0,
            unacknowledged: 0,
            reader: Reader::default(),
            control: Control::default(),
            keepalive: Keepalive::new(now),
            events: VecDeque::new(),
            ready: VecDeque::new(),
            turn: VecDeque::new(),
            roomy: VecDeque::new(),
            held_in: 0,
            held_out: 0,
            windows: 0,
            stats: SessionStats::default(),
            config,
        }
    }

    /// Opens a stream. It can be written to at once; nothing tells that the peer accepted it.
    ///
    /// # Errors
    ///
    /// A limit is reached, or the session takes no more streams.
    pub fn open(&mut self, now: Time) -> Result<u32, OpenError> {
        if self.live.is_none_or(|live| live.peer_leaves || live.leaves) {
            return Err(OpenError::Closed);
        }
        if self.streams.len() >= self.config.streams || self.unacknowledged >= self.config.backlog {
            return Err(OpenError::TooMany);
        }
        let id = self.next.ok_or(OpenError::Closed)?;
        self.next = id.checked_add(2);
        self.unacknowledged += 1;
        self.begin(id, Stream::opened(now));
        self.control.begin(id);
        Ok(id)
    }

    /// Tells the peer that its stream is accepted. Before that only so many may wait
    /// ([`Config::backlog`]).
    pub fn accept(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && core::mem::take(&mut stream.waits)
        {
            self.backlog -= 1;
            self.control.accept(id);
        }
    }

    fn begin(&mut self, id: u32, mut stream: Stream) {
        self.stats.opened += 1;
        self.windows += stream.window as usize;
        Self::news(&mut self.ready, id, &mut stream);
        self.streams.insert(id, stream);
    }

    /// Offers data. It is kept as it is and framed when the connection can take it.
    ///
    /// # Errors
    ///
    /// Gives the data back: [`SendError::Blocked`] until [`Event::Writable`], and
    /// [`SendError::Closed`] for good.
    pub fn send(&mut self, id: u32, data: Bytes) -> Result<(), SendError> {
        let Some(stream) = self.streams.get_mut(&id).filter(|s| !s.finished) else {
            return Err(SendError::Closed(data));
        };
        if data.is_empty() {
            return Ok(());
        }
        let charge = Limits::charge(data.len());
        // An empty queue takes any one piece, so that no size of piece waits for ever.
        let full = stream.held_out > 0 && stream.held_out + charge > self.config.send_stream;
        if full || self.held_out >= self.config.send_total {
            stream.refused = Some(charge);
            Self::room(&mut self.roomy, id, stream, self.config.send_stream);
            return Err(SendError::Blocked(data));
        }
        self.held_out += charge;
        stream.push(data, charge);
        if stream.credit == 0 && !core::mem::replace(&mut stream.stalled, true) {
            self.stats.stalls += 1;
        }
        Self::queue(&mut self.turn, id, stream);
        Ok(())
    }

    /// This end has no more to send on the stream; the other direction goes on.
    pub fn finish(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.finished = true;
            stream.refused = None;
            Self::queue(&mut self.turn, id, stream);
        }
    }

    /// Ends the stream at once: what is on its way in either direction is lost, except to a peer
    /// where both ends have finished. Nothing more is told of it, except that it was gone already.
    /// Returns whether there was one.
    pub fn reset(&mut self, id: u32) -> bool {
        let there = self.streams.contains_key(&id);
        if there {
            self.broken(id, None);
        }
        there
    }

    /// The local end took `len` bytes, one piece of [`Event::Data`].
    pub fn consumed(&mut self, now: Time, id: u32, len: usize) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        self.held_in -= stream.consumed(len);
        if stream.wants_update() && !self.control.updates(id) {
            let budget = self.config.recv_total.saturating_sub(self.windows);
            let rtt = self.keepalive.rtt();
            self.windows += stream.grow(now, rtt, self.config.window, budget);
            self.control.update(id);
        }
        Self::news(&mut self.ready, id, stream);
        self.settle(id);
    }

    /// Takes no more streams of the peer, and opens none. Those that are open go on.
    pub fn go_away(&mut self) {
        if let Some(live) = &mut self.live
            && !core::mem::replace(&mut live.leaves, true)
        {
            self.control.go_away(Code::Normal);
        }
    }

    /// How many streams there are.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Bytes charged for what was received and not consumed.
    #[must_use]
    pub const fn held_in(&self) -> usize {
        self.held_in
    }

    /// Bytes charged for what waits to be sent.
    #[must_use]
    pub const fn held_out(&self) -> usize {
        self.held_out
    }

    /// Counters since the start.
    #[must_use]
    pub const fn stats(&self) -> SessionStats {
        self.stats
    }

    /// Whether a stream whose queue is empty takes a piece: [`Config::send_total`] is not reached.
    #[must_use]
    pub(crate) const fn takes_data(&self) -> bool {
        self.held_out < self.config.send_total
    }

    /// Whether the session is over.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.live.is_none()
    }

    // ------------------------------------------------------------ within

    /// Gives the stream its turn, if it has something that may be framed.
    fn queue(turn: &mut VecDeque<u32>, id: u32, stream: &mut Stream) {
        if !stream.queued && stream.is_sendable() {
            stream.queued = true;
            turn.push_back(id);
        }
    }

    fn remove(&mut self, id: u32) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        self.held_in -= stream.held_in();
        self.held_out -= stream.held_out;
        self.windows -= stream.window as usize;
        self.backlog -= usize::from(stream.waits);
        self.unacknowledged -= usize::from(stream.unacknowledged);
        for (listed, list) in [
            (stream.queued, &mut self.turn),
            (stream.ready, &mut self.ready),
            (stream.roomy, &mut self.roomy),
        ] {
            if listed {
                list.retain(|other| *other != id);
            }
        }
        Some(stream)
    }

    /// Removes a stream that both ends are done with.
    fn settle(&mut self, id: u32) {
        if self.streams.get(&id).is_some_and(Stream::is_over) {
            self.remove(id);
            self.stats.finished += 1;
            self.control.forget(id);
            self.events.push_back(Event::Over(id));
        }
    }

    /// The stream breaks, by the local end where nothing else is said. Whoever did not do it is
    /// told, if it ever heard of the stream and is not done with it.
    fn broken(&mut self, id: u32, by: Option<ResetBy>) {
        let flags = self.control.forget(id);
        let Some(stream) = self.remove(id) else {
            return;
        };
        self.stats.count_reset(by);
        if by != Some(ResetBy::Peer) && flags != Some(SYN) && !stream.is_closed() {
            self.control.reset(id);
        }
        if let Some(by) = by
            && stream.known
        {
            self.events.push_back(Event::Reset(id, by));
        }
    }

    /// Ends the session: the peer is told, where it is at fault.
    fn end(&mut self, error: SessionError) {
        if self.live.take().is_none() {
            return;
        }
        self.control.clear();
        match error {
            SessionError::GoneAway(_) => {}
            SessionError::Timeout => self.control.go_away(Code::Internal),
            _ => self.control.go_away(Code::Protocol),
        }
        self.stats.lost += self.streams.len() as u64;
        self.streams = BTreeMap::new();
        self.turn = VecDeque::new();
        self.ready = VecDeque::new();
        self.roomy = VecDeque::new();
        (self.held_in, self.held_out, self.windows) = (0, 0, 0);
        (self.backlog, self.unacknowledged) = (0, 0);
        self.events.push_back(Event::Ended(error));
    }
}
