//! The table of streams: names to ids, what each holds in either direction, and whose frame is
//! sent next. Shared by both machines; what differs between them is the state `T` of a stream.

mod stream;
#[cfg(test)]
mod tests;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

pub(crate) use self::stream::{Item, Stream, head_len, headers_len};
use crate::{
    config::Limits,
    error::{PeerFault, SendError},
    input::{Kind, StreamId},
    stats::{self, Ending, Stats},
};

/// Every open stream, and the order in which those with frames get to send.
#[derive(Debug)]
pub(crate) struct Streams<T> {
    next: u64,
    /// Boxed, because a tree keeps room for about as many again as it has.
    by_id: BTreeMap<StreamId, Box<Stream<T>>>,
    by_name: BTreeMap<Arc<str>, StreamId>,
    /// Streams with something to frame, each once: round robin.
    turn: VecDeque<StreamId>,
    /// Streams whose data was refused, with its length.
    blocked: BTreeMap<StreamId, usize>,
    /// Those of them to which something happened since they were found to have no room.
    changed: BTreeSet<StreamId>,
    /// Those from this one on are the next to be woken.
    woken: StreamId,
    /// Charged for data that waits for the socket, over all streams.
    held_out: usize,
    /// Charged for data that local ends have not consumed, over all streams.
    held_in: usize,
    opened: u64,
    closed: [u64; Ending::COUNT],
}

/// What [`Streams::framed`] took from the stream whose turn it was.
pub(crate) struct Turn {
    pub(crate) id: StreamId,
    pub(crate) item: Item,
}

impl<T> Streams<T> {
    pub(crate) const fn new() -> Self {
        Self {
            next: 0,
            by_id: BTreeMap::new(),
            by_name: BTreeMap::new(),
            turn: VecDeque::new(),
            blocked: BTreeMap::new(),
            changed: BTreeSet::new(),
            woken: StreamId(0),
            held_out: 0,
            held_in: 0,
            opened: 0,
            closed: [0; Ending::COUNT],
        }
    }

    /// Adds a stream called `name` on the wire; one without a name is found by its id alone.
    pub(crate) fn open(
        &mut self,
        name: &str,
        state: T,
        limits: &Limits,
    ) -> Result<StreamId, PeerFault> {
        if self.by_name.contains_key(name) {
            return Err(PeerFault::DuplicateId);
        }
        if self.by_id.len() >= limits.streams {
            return Err(PeerFault::TooManyStreams);
        }
        let id = StreamId(self.next);
        self.next += 1;
        self.opened += 1;
        let name: Arc<str> = name.into();
        if !name.is_empty() {
            self.by_name.insert(name.clone(), id);
        }
        self.by_id.insert(id, Box::new(Stream::new(name, state)));
        Ok(id)
    }

    /// An id for a stream that is kept elsewhere.
    pub(crate) fn spare(&mut self) -> StreamId {
        let id = StreamId(self.next);
        self.next += 1;
        id
    }

    pub(crate) fn find(&self, name: &str) -> Option<StreamId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&self, id: StreamId) -> Option<&Stream<T>> {
        self.by_id.get(&id).map(|stream| &**stream)
    }

    pub(crate) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream<T>> {
        self.by_id.get_mut(&id).map(|stream| &mut **stream)
    }

    /// Notes what ends a stream, unless something else does already.
    pub(crate) fn ends(&mut self, id: StreamId, ending: Ending) {
        if let Some(stream) = self.by_id.get_mut(&id) {
            stream.ending.get_or_insert(ending);
        }
    }

    /// Forgets a stream and all it holds. One of which nothing else was noted broke.
    pub(crate) fn remove(&mut self, id: StreamId) -> Option<Stream<T>> {
        let stream = self.by_id.remove(&id)?;
        let ending = stream.ending.unwrap_or(Ending::Failed);
        ending.count(&mut self.closed);
        self.by_name.remove(&*stream.name);
        self.unblocked(id);
        if stream.queued {
            self.turn.retain(|t| *t != id);
        }
        self.held_out -= stream.held_out;
        self.held_in -= stream.held_in;
        Some(*stream)
    }

    pub(crate) fn first(&self) -> Option<StreamId> {
        Some(*self.by_id.first_key_value()?.0)
    }

    pub(crate) fn ids(&self) -> alloc::vec::Vec<StreamId> {
        self.by_id.keys().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Adds what was counted, and what is held now.
    pub(crate) fn add_to(&self, mut stats: Stats) -> Stats {
        stats.streams_opened += self.opened;
        stats::add_all(&mut stats.streams_closed, &self.closed);
        stats.streams_open += self.len();
        stats.held_in += self.held_in;
        stats.held_out += self.held_out;
        stats
    }

    pub(crate) const fn held_out(&self) -> usize {
        self.held_out
    }

    // ------------------------------------------------------------ toward the local end

    /// Charges `len` bytes that are about to be delivered. Over a limit, the stream that has to
    /// end comes back: this one, or the one that holds most.
    pub(crate) fn received(
        &mut self,
        id: StreamId,
        len: usize,
        limits: &Limits,
    ) -> Result<(), StreamId> {
        let Some(stream) = self.by_id.get_mut(&id) else {
            return Ok(());
        };
        let charge = Limits::charge(len);
        stream.held_in += charge;
        self.held_in += charge;
        if stream.held_in > limits.recv_stream {
            return Err(id);
        }
        if self.held_in > limits.recv_total {
            let most = self.by_id.iter().max_by_key(|(_, s)| s.held_in);
            return Err(most.map_or(id, |(id, _)| *id));
        }
        Ok(())
    }

    /// Returns the charge of one delivery of `len` bytes, and tells it: no more than is charged, so
    /// that what a local end tells twice grants the peer nothing. `None` without such a stream.
    pub(crate) fn consumed(&mut self, id: StreamId, len: usize) -> Option<usize> {
        let stream = self.by_id.get_mut(&id)?;
        let charge = Limits::charge(len).min(stream.held_in);
        stream.held_in -= charge;
        self.held_in -= charge;
        Some(charge)
    }

    /// The local end is gone, and with it what it held; it is not called upon to send any more.
    pub(crate) fn local_over(&mut self, id: StreamId) {
        if let Some(stream) = self.by_id.get_mut(&id) {
            self.held_in -= core::mem::take(&mut stream.held_in);
        }
        self.unblocked(id);
    }

    // ------------------------------------------------------------ toward the socket

    /// Queues data, or gives it back.
    pub(crate) fn enqueue(
        &mut self,
        id: StreamId,
        kind: Kind,
        data: Bytes,
        limits: &Limits,
    ) -> Result<(), SendError> {
        let Some(stream) = self.by_id.get_mut(&id) else {
            return Err(SendError::Closed(data));
        };
        if !stream.takes(data.len(), limits) || self.held_out >= limits.send_total {
            self.blocked.insert(id, data.len());
            self.changed.insert(id);
            return Err(SendError::Blocked(data));
        }
        self.push(
            id,
            match kind {
                Kind::Bytes => Item::Data(data),
                Kind::Binary | Kind::Datagram | Kind::Text => Item::Message(kind, data),
            },
        );
        Ok(())
    }

    /// Queues an item behind all that the stream has queued. A grant alone goes before it: two ends
    /// whose data waits for grants would wait for ever if these waited behind the data.
    pub(crate) fn push(&mut self, id: StreamId, item: Item) {
        let Some(stream) = self.by_id.get_mut(&id) else {
            return;
        };
        let Some(item) = stream.unless_joined(item) else {
            return;
        };
        let charge = item.charge();
        stream.held_out += charge;
        self.held_out += charge;
        stream.put(item);
        Self::queue(&mut self.turn, id, stream);
    }

    /// Gives the stream its turn, if it has something that may be framed.
    fn queue(turn: &mut VecDeque<StreamId>, id: StreamId, stream: &mut Stream<T>) {
        if !stream.queued && stream.is_sendable() {
            stream.queued = true;
            turn.push_back(id);
        }
    }

    /// Limits what may be framed of the stream's data to what is granted, `window` at first.
    pub(crate) fn limit(&mut self, id: StreamId, window: usize) {
        if let Some(stream) = self.by_id.get_mut(&id) {
            stream.credit = Some(i64::try_from(window).unwrap_or(i64::MAX));
        }
    }

    /// Lets so much more data of the stream be framed.
    pub(crate) fn grant(&mut self, id: StreamId, bytes: usize) {
        if let Some(stream) = self.by_id.get_mut(&id)
            && let Some(credit) = &mut stream.credit
        {
            *credit = credit.saturating_add_unsigned(bytes as u64);
            Self::queue(&mut self.turn, id, stream);
            self.may_have_room(id);
        }
    }

    /// Drops all that the stream has queued; true if data of it was refused.
    pub(crate) fn clear(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.by_id.get_mut(&id) else {
            return false;
        };
        self.held_out -= stream.held_out;
        stream.held_out = 0;
        stream.out = VecDeque::new();
        if stream.queued {
            stream.queued = false;
            self.turn.retain(|t| *t != id);
        }
        self.unblocked(id)
    }

    /// Whether a stream has anything to frame.
    pub(crate) fn wants_send(&self) -> bool {
        !self.turn.is_empty()
    }

    /// Takes the next item, one message, or at most one chunk of data, of the stream whose turn it is.
    pub(crate) fn framed(&mut self, limits: &Limits) -> Option<Turn> {
        let id = self.turn.pop_front()?;
        let stream = self.by_id.get_mut(&id)?;
        let (item, released) = stream.take(limits.chunk)?;
        stream.held_out -= released;
        self.held_out -= released;
        stream.queued = false;
        Self::queue(&mut self.turn, id, stream);
        self.may_have_room(id);
        Some(Turn { id, item })
    }

    // ------------------------------------------------------------ who was refused

    /// Something happened to a stream that gives it room, if it was refused.
    fn may_have_room(&mut self, id: StreamId) {
        if self.blocked.contains_key(&id) {
            self.changed.insert(id);
        }
    }

    /// True if data of the stream was refused, which from now on is not.
    fn unblocked(&mut self, id: StreamId) -> bool {
        self.changed.remove(&id);
        self.blocked.remove(&id).is_some()
    }

    /// Takes one stream that was refused and has room now.
    pub(crate) fn unblock(&mut self, limits: &Limits) -> Option<StreamId> {
        if self.held_out >= limits.send_total {
            return None;
        }
        // Each that has no room is looked at once, until something happens to it again.
        loop {
            let next = self.changed.range(self.woken..).next();
            let id = *next.or_else(|| self.changed.first())?;
            self.changed.remove(&id);
            let refused = self.blocked.get(&id).copied().unwrap_or_default();
            let roomy = self.by_id.get(&id).is_none_or(|s| {
                // Half of it, so that nobody is woken for every frame.
                !s.is_spent()
                    && (s.held_out == 0 || s.held_out <= s.room(limits) / 2)
                    && s.takes(refused, limits)
            });
            if roomy {
                self.blocked.remove(&id);
                self.woken = StreamId(id.0 + 1);
                return Some(id);
            }
        }
    }
}
