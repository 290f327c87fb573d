//! What the peer sends: headers and payloads, in pieces of any size.

use super::{
    Event, ResetBy, Session, SessionError,
    frame::{ACK, Code, FIN, HEADER, Header, Kind, RST, SYN, Unreadable},
    stream::Stream,
};
use crate::time::Time;

/// Where in the byte stream of the peer the session is.
#[derive(Debug, Default)]
pub(super) struct Reader {
    header: [u8; HEADER],
    /// So much of it has arrived.
    filled: usize,
    /// Of the payload that follows, with the stream whose it is; 0 where it is skipped.
    payload: Option<Payload>,
}

#[derive(Clone, Copy, Debug)]
struct Payload {
    stream: u32,
    left: u32,
    fin: bool,
}

impl Session {
    /// Takes the next bytes of the peer, as many as there are: a frame may come in pieces, and many
    /// at once.
    ///
    /// Infallible: what the peer does wrong comes out of [`Self::event`].
    pub fn receive(&mut self, now: Time, mut bytes: &[u8]) {
        if self.live.is_some() && !bytes.is_empty() {
            self.keepalive.heard(now);
        }
        while self.live.is_some() && !bytes.is_empty() {
            bytes = match self.reader.payload {
                Some(payload) => self.payload(payload, bytes),
                None => self.header(now, bytes),
            };
        }
    }

    /// Reads on in a header, and returns what is left.
    fn header<'a>(&mut self, now: Time, bytes: &'a [u8]) -> &'a [u8] {
        let reader = &mut self.reader;
        let missing = reader.header.get_mut(reader.filled..).unwrap_or_default();
        let len = missing.len().min(bytes.len());
        let (taken, rest) = bytes.split_at(len);
        for (to, from) in missing.iter_mut().zip(taken) {
            *to = *from;
        }
        reader.filled += len;
        if reader.filled == HEADER {
            reader.filled = 0;
            match Header::decode(reader.header) {
                Ok(header) => self.frame(now, header),
                Err(Unreadable::Version(version)) => self.end(SessionError::Version(version)),
                Err(Unreadable::Type(kind)) => self.end(SessionError::Type(kind)),
            }
        }
        rest
    }

    fn frame(&mut self, now: Time, header: Header) {
        match header.kind {
            Kind::Data => self.data(now, header),
            Kind::Update => self.update(now, header),
            Kind::Ping => self.ping(now, header),
            Kind::GoAway => self.leaves(header.length),
        }
        // As many streams as there may be can be reset at once without anybody's fault.
        if self.control.len() > self.config.control.saturating_add(self.config.streams) {
            self.end(SessionError::Flood);
        }
    }

    fn ping(&mut self, now: Time, header: Header) {
        if header.has(SYN) {
            self.control.pong(header.length);
        }
        if header.has(ACK) {
            self.keepalive.answered(now, header.length);
        }
    }

    fn leaves(&mut self, code: u32) {
        match Code::of(code) {
            Code::Normal => {
                if let Some(live) = &mut self.live
                    && !core::mem::replace(&mut live.peer_leaves, true)
                {
                    self.events.push_back(Event::GoAway);
                }
            }
            code => self.end(SessionError::GoneAway(code)),
        }
    }

    // ------------------------------------------------------------ streams

    /// Opens, acknowledges and resets, as the flags say; false where the frame means nothing more.
    fn flags(&mut self, now: Time, header: Header) -> bool {
        let id = header.stream;
        if header.has(SYN) && !self.syn(now, id) {
            return false;
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            self.stats.stale += 1;
            return false;
        };
        if header.has(ACK) && core::mem::take(&mut stream.unacknowledged) {
            self.unacknowledged -= 1;
        }
        if header.has(RST) {
            if stream.is_closed() {
                // To the peer it was gone already, and nothing of it is on its way.
                self.stats.stale += 1;
                return false;
            }
            self.broken(id, Some(ResetBy::Peer));
            return false;
        }
        true
    }

    /// The peer opens a stream; false where it cannot.
    fn syn(&mut self, now: Time, id: u32) -> bool {
        if !self.ids.may_be(id) || self.streams.contains_key(&id) {
            self.end(SessionError::Id);
            return false;
        }
        let fresh = self.ids.take(id);
        let leaves = self.live.is_some_and(|live| live.leaves);
        let full = self.streams.len() >= self.config.streams;
        if !fresh || leaves || full || self.backlog >= self.config.backlog {
            self.stats.refused += 1;
            self.control.reset(id);
            return false;
        }
        self.backlog += 1;
        self.begin(id, Stream::of_peer(now));
        true
    }

    fn update(&mut self, now: Time, header: Header) {
        let id = header.stream;
        if !self.flags(now, header) {
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(credit) = stream.credit.checked_add(header.length) else {
            return self.broken(id, Some(ResetBy::Fault));
        };
        stream.credit = credit;
        stream.stalled &= credit == 0;
        Self::queue(&mut self.turn, id, stream);
        if header.has(FIN) {
            self.fin(id);
        }
    }

    fn data(&mut self, now: Time, header: Header) {
        let id = header.stream;
        let mut payload = Payload {
            stream: 0,
            left: header.length,
            fin: header.has(FIN),
        };
        if self.flags(now, header)
            && let Some(stream) = self.streams.get_mut(&id)
        {
            if stream.peer_finished && header.length > 0 {
                self.broken(id, Some(ResetBy::Fault));
            } else if !stream.announced(header.length) {
                self.broken(id, Some(ResetBy::Window));
            } else {
                payload.stream = id;
            }
        }
        match payload.left {
            0 if payload.stream != 0 && payload.fin => self.fin(id),
            0 => {}
            _ => self.reader.payload = Some(payload),
        }
    }

    /// Reads on in a payload, and returns what is left.
    fn payload<'a>(&mut self, mut payload: Payload, bytes: &'a [u8]) -> &'a [u8] {
        let len = (payload.left as usize).min(bytes.len());
        let (data, rest) = bytes.split_at(len);
        payload.left -= len as u32;
        self.reader.payload = Some(payload).filter(|payload| payload.left > 0);
        self.arrived(payload.stream, data);
        if payload.left == 0 && payload.fin {
            self.fin(payload.stream);
        }
        rest
    }

    /// Keeps data until the local end is told.
    fn arrived(&mut self, id: u32, data: &[u8]) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        self.held_in += stream.received(data);
        Self::news(&mut self.ready, id, stream);
        if self.held_in > self.config.recv_total {
            let most = self.streams.iter().max_by_key(|(_, s)| s.held_in());
            let most = most.map_or(id, |(id, _)| *id);
            self.broken(most, Some(ResetBy::Memory));
        }
    }

    fn fin(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.peer_finished = true;
            Self::news(&mut self.ready, id, stream);
        }
    }
}
