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
//! ```
//!
//! What a peer can make it hold: of each stream no more than its window, which is 256 KiB at first
//! and grows up to [`Config::window`] only while all windows together fit [`Config::recv_total`];
//! over all streams `recv_total`, above which the stream that holds most is reset; answers up to
//! [`Config::control`], above which the session ends.

mod config;
mod frame;
mod incoming;
mod keepalive;
mod outgoing;
mod stream;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::fmt;

use bytes::Bytes;
use thiserror::Error;

pub use self::{
    config::Config,
    frame::{Code, INITIAL_WINDOW},
};
use self::{incoming::Reader, keepalive::Keepalive, outgoing::Control, stream::Stream};
use crate::{config::Limits, error::SendError, hidden::Hidden, time::Time};

/// Which end of the connection a session is. The roles differ in their stream ids only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Opens streams with odd ids; the agent.
    Client,
    /// Opens streams with even ids; the controller or gateway.
    Server,
}

/// What happened on a session. `Debug` tells only how long data is.
#[derive(Eq, PartialEq)]
pub enum Event {
    /// The peer opened this stream: [`Session::accept`] or [`Session::reset`] it.
    Opened(u32),
    /// Bytes of the peer; return their room with [`Session::consumed`].
    Data(u32, Bytes),
    /// The peer has no more to send on this stream; all it sent came before.
    Finished(u32),
    /// Both ends have finished, and everything was consumed: the stream is gone.
    Over(u32),
    /// The stream is gone; what was on its way in either direction is lost.
    Reset(u32, ResetBy),
    /// The stream takes data again, after [`SendError::Blocked`].
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
    /// This end, because of all streams this one held most when [`Config::recv_total`] was reached.
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
    /// A stream of the peer has an id that only this end may give, or one that was used before.
    #[error("the peer opened a yamux stream with an id that it may not use")]
    Id,
    /// More answers than [`Config::control`] were demanded and not taken.
    #[error("too many yamux answers are waiting to be read")]
    Flood,
    /// The peer gave the session up, with this code.
    #[error("the peer gave the yamux session up: {0}")]
    GoneAway(Code),
    /// No answer to a ping in [`Config::timeout`].
    #[error("a yamux ping was not answered in time")]
    Timeout,
}

/// A stream could not be opened.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum OpenError {
    /// [`Config::streams`] are open, or [`Config::backlog`] wait for the peer to accept them.
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
    /// Streams of the peer that were refused at a limit.
    pub refused: u64,
    /// Streams that were reset, by either end.
    pub resets: u64,
    /// Times that a stream with data to send found its window used up.
    pub stalls: u64,
    /// Frames about streams that are gone.
    pub stale: u64,
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
    /// The last id of the peer.
    last: u32,
    /// Streams of the peer that were not accepted yet.
    backlog: usize,
    /// Streams of this end that the peer did not accept yet.
    unacknowledged: usize,
    reader: Reader,
    control: Control,
    keepalive: Keepalive,
    events: VecDeque<Event>,
    /// Streams with something to send and a window for it, each once: round robin.
    turn: VecDeque<u32>,
    /// Streams whose data was refused.
    blocked: BTreeSet<u32>,
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
            last: 0,
            backlog: 0,
            unacknowledged: 0,
            reader: Reader::default(),
            control: Control::default(),
            keepalive: Keepalive::new(now),
            events: VecDeque::new(),
            turn: VecDeque::new(),
            blocked: BTreeSet::new(),
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

    fn begin(&mut self, id: u32, stream: Stream) {
        self.stats.opened += 1;
        self.windows += stream.window as usize;
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
            self.blocked.insert(id);
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
            self.blocked.remove(&id);
            Self::queue(&mut self.turn, id, stream);
        }
    }

    /// Ends the stream at once: what is on its way in either direction is lost.
    pub fn reset(&mut self, id: u32) {
        if self.streams.contains_key(&id) {
            self.remove(id);
            self.stats.resets += 1;
            self.control.reset(id);
        }
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
        self.deliver(id);
    }

    /// Takes no more streams of the peer, and opens none. Those that are open go on.
    pub fn go_away(&mut self) {
        if let Some(live) = &mut self.live
            && !core::mem::replace(&mut live.leaves, true)
        {
            self.control.go_away(Code::Normal);
        }
    }

    /// What happened next, if anything.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| self.unblock())
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

    fn remove(&mut self, id: u32) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        self.held_in -= stream.held_in();
        self.held_out -= stream.held_out;
        self.windows -= stream.window as usize;
        self.backlog -= usize::from(stream.waits);
        self.unacknowledged -= usize::from(stream.unacknowledged);
        self.blocked.remove(&id);
        if stream.queued {
            self.turn.retain(|other| *other != id);
        }
    }

    /// Removes a stream that both ends are done with.
    fn settle(&mut self, id: u32) {
        if self.streams.get(&id).is_some_and(Stream::is_over) {
            self.remove(id);
            self.events.push_back(Event::Over(id));
        }
    }

    /// One stream that was refused and has room now.
    fn unblock(&mut self) -> Option<Event> {
        if self.held_out >= self.config.send_total {
            return None;
        }
        let half = self.config.send_stream / 2;
        let roomy = |id: &&u32| {
            let stream = self.streams.get(*id);
            stream.is_none_or(|stream| stream.held_out <= half)
        };
        let id = *self.blocked.iter().find(roomy)?;
        self.blocked.remove(&id);
        Some(Event::Writable(id))
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
        self.streams = BTreeMap::new();
        self.turn = VecDeque::new();
        self.blocked = BTreeSet::new();
        (self.held_in, self.held_out, self.windows) = (0, 0, 0);
        (self.backlog, self.unacknowledged) = (0, 0);
        self.events.push_back(Event::Ended(error));
    }
}
