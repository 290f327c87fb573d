//! The event loop's hold on its streams: channels to their readers and writers, and their tasks.

use std::collections::BTreeMap;

use bytes::Bytes;
use controlplane_core::{Kind, StreamEnd, StreamId};
use futures_channel::mpsc;
use futures_util::stream::AbortHandle;

use crate::{
    body::{Event, Events, Inflow, Outflow, Piece},
    duplex::ByteStream,
    pieces::{Pieces, pieces},
};

/// What is still heard of a stream whose local end has ended in order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    /// Of a byte stream: all, up to the end of the other direction.
    Duplex,
    /// Of a request: its answer at the controller, nothing at the agent.
    Request,
    /// Of a WebSocket or a tunnel in JSON messages: nothing.
    Socket,
}

/// The event loop's hold on one stream.
pub(crate) struct End {
    pub(crate) pieces: Pieces,
    pub(crate) taken: mpsc::UnboundedSender<()>,
    /// Refused by the machine for now.
    pub(crate) held: Option<(Kind, Bytes)>,
    /// How the stream ends once `held` was taken.
    pub(crate) ending: Option<StreamEnd>,
    pub(crate) shape: Shape,
    task: Option<AbortHandle>,
}

/// The ends of all streams.
pub(crate) struct Ends {
    pub(crate) by_id: BTreeMap<StreamId, End>,
    events: Events,
    pub(crate) incoming: mpsc::UnboundedReceiver<(StreamId, Event)>,
}

impl Ends {
    pub(crate) fn new() -> Self {
        let (events, incoming) = mpsc::unbounded();
        Self {
            by_id: BTreeMap::new(),
            events,
            incoming,
        }
    }

    /// Makes the ends of a new stream.
    pub(crate) fn open(&mut self, id: StreamId, socket: bool) -> (Outflow, Inflow) {
        let shape = match socket {
            true => Shape::Socket,
            false => Shape::Request,
        };
        self.open_as(id, shape)
    }

    /// Makes the local end of a new byte stream.
    pub(crate) fn open_duplex(&mut self, id: StreamId) -> ByteStream {
        let (outflow, inflow) = self.open_as(id, Shape::Duplex);
        ByteStream::new(outflow, inflow)
    }

    pub(crate) fn open_as(&mut self, id: StreamId, shape: Shape) -> (Outflow, Inflow) {
        let (pieces, out) = pieces();
        let (taken, credit) = mpsc::unbounded();
        let end = End {
            pieces,
            taken,
            held: None,
            ending: None,
            shape,
            task: None,
        };
        self.by_id.insert(id, end);
        let events = self.events.clone();
        let outflow = Outflow {
            id,
            pieces: out,
            events: events.clone(),
        };
        let inflow = Inflow {
            id,
            events,
            taken: credit,
            owed: false,
            over: false,
        };
        (outflow, inflow)
    }

    /// The task that ends with the stream.
    pub(crate) fn bind(&mut self, id: StreamId, task: AbortHandle) {
        if let Some(end) = self.by_id.get_mut(&id) {
            end.task = Some(task);
        }
    }

    /// Hands a piece to the stream's reader. Nobody may be reading any more: then the stream's
    /// own end is on its way.
    pub(crate) fn hand(&mut self, id: StreamId, piece: Piece) {
        if let Some(end) = self.by_id.get(&id)
            && let Err(Piece::Data(_, data)) = end.pieces.send(piece)
        {
            let _ = self
                .events
                .unbounded_send((id, Event::Consumed(data.len())));
        }
    }

    pub(crate) fn forget(&mut self, id: StreamId) {
        self.by_id.remove(&id);
    }

    /// Ends the stream's task.
    pub(crate) fn reset(&mut self, id: StreamId) {
        if let Some(End {
            task: Some(task), ..
        }) = self.by_id.remove(&id)
        {
            task.abort();
        }
    }
}
