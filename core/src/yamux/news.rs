//! What the local end is told, and when: it asks, and until then the streams keep it.

use alloc::collections::VecDeque;

use super::{
    Event, Session,
    stream::{News, Stream},
};

impl Session {
    /// What happened next, if anything. Ask until there is nothing more after each call of another
    /// method: sending makes room too. What is not asked for waits within the bounds of
    /// [`Config`](super::Config).
    pub fn event(&mut self) -> Option<Event> {
        let gone = self.events.pop_front();
        gone.or_else(|| self.tell()).or_else(|| self.unblock())
    }

    /// The local end will hear of the stream, if there is something to tell.
    pub(super) fn news(ready: &mut VecDeque<u32>, id: u32, stream: &mut Stream) {
        if !stream.ready && stream.has_news() {
            stream.ready = true;
            ready.push_back(id);
        }
    }

    /// The local end will hear that the stream takes data, if it was refused and has room.
    pub(super) fn room(roomy: &mut VecDeque<u32>, id: u32, stream: &mut Stream, most: usize) {
        if !stream.roomy && stream.has_room(most) {
            stream.roomy = true;
            roomy.push_back(id);
        }
    }

    /// What is to be told of the stream that is next.
    fn tell(&mut self) -> Option<Event> {
        let id = self.ready.pop_front()?;
        let stream = self.streams.get_mut(&id)?;
        stream.ready = false;
        let news = stream.tell()?;
        Self::news(&mut self.ready, id, stream);
        self.settle(id);
        Some(match news {
            News::Opened => Event::Opened(id),
            News::Data(data) => Event::Data(id, data),
            News::Finished => Event::Finished(id),
        })
    }

    /// One stream that was refused and has room now.
    fn unblock(&mut self) -> Option<Event> {
        while self.held_out < self.config.send_total {
            let id = self.roomy.pop_front()?;
            let stream = self.streams.get_mut(&id)?;
            stream.roomy = false;
            if stream.has_room(self.config.send_stream) {
                stream.refused = None;
                return Some(Event::Writable(id));
            }
        }
        None
    }
}
