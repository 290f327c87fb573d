//! The `yamux` crate as a peer, on a pipe in memory, polled by hand.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use controlplane_world::{mux::content, rng::Rng};
use futures_util::io::{AsyncRead, AsyncWrite};
use yamux::{Config, Connection, Mode, Stream};

/// So much fits the pipe that leads away from the peer.
const PIPE: usize = 200_000;

/// The two directions of a pipe.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) to_peer: VecDeque<u8>,
    pub(super) from_peer: VecDeque<u8>,
}

/// The peer's end of the pipe.
pub(super) struct Socket(Rc<RefCell<Pipe>>);

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.borrow_mut();
        let len = buf.len().min(pipe.to_peer.len());
        if len == 0 {
            return Poll::Pending;
        }
        for (to, from) in buf.iter_mut().zip(pipe.to_peer.drain(..len)) {
            *to = from;
        }
        Poll::Ready(Ok(len))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.borrow_mut();
        let len = buf.len().min(PIPE - pipe.from_peer.len());
        if len == 0 {
            return Poll::Pending;
        }
        pipe.from_peer.extend(&buf[..len]);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A stream of the peer.
pub(super) struct Theirs {
    stream: Option<Stream>,
    pub(super) sent: usize,
    pub(super) received: usize,
    pub(super) closed: bool,
    /// It read to the end, or to a reset, which looks the same there.
    pub(super) eof: bool,
    pub(super) dropped: bool,
}

pub(super) struct Peer {
    pub(super) connection: Connection<Socket>,
    pub(super) pipe: Rc<RefCell<Pipe>>,
    pub(super) streams: BTreeMap<u32, Theirs>,
    pub(super) over: bool,
}

/// The side that the peer is in [`content`].
pub(super) const PEER: usize = 1;
/// The side that the core is.
pub(super) const OURS: usize = 0;

impl Peer {
    pub(super) fn new(mode: Mode) -> Self {
        let pipe = Rc::new(RefCell::new(Pipe::default()));
        Self {
            connection: Connection::new(Socket(pipe.clone()), Config::default(), mode),
            pipe,
            streams: BTreeMap::new(),
            over: false,
        }
    }

    fn add(&mut self, stream: Stream) {
        let theirs = Theirs {
            sent: 0,
            received: 0,
            closed: false,
            eof: false,
            dropped: false,
            stream: None,
        };
        let id = stream.id().val();
        let stream = Some(stream);
        let old = self.streams.insert(id, Theirs { stream, ..theirs });
        assert!(old.is_none());
    }

    /// Lets the connection do what it can.
    pub(super) fn poll(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while !self.over {
            match self.connection.poll_next_inbound(&mut cx) {
                Poll::Ready(Some(Ok(stream))) => self.add(stream),
                Poll::Ready(Some(Err(error))) => panic!("the peer finds fault: {error}"),
                Poll::Ready(None) => self.over = true,
                Poll::Pending => return,
            }
        }
    }

    pub(super) fn open(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(stream) = self.connection.poll_new_outbound(&mut cx) {
            self.add(stream.unwrap());
        }
    }

    /// Writes the next bytes; false where there is no room.
    pub(super) fn send(&mut self, id: u32, len: usize) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let theirs = self.streams.get_mut(&id).unwrap();
        let Some(stream) = theirs.stream.as_mut().filter(|_| !theirs.closed) else {
            return false;
        };
        let bytes = content(id, PEER, theirs.sent, len.max(1));
        match Pin::new(stream).poll_write(&mut cx, &bytes) {
            Poll::Ready(Ok(len)) => {
                theirs.sent += len;
                true
            }
            // It was reset.
            Poll::Ready(Err(_)) | Poll::Pending => false,
        }
    }

    /// Reads; false where there is nothing.
    pub(super) fn read(&mut self, id: u32, len: usize) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let theirs = self.streams.get_mut(&id).unwrap();
        let Some(stream) = theirs.stream.as_mut().filter(|_| !theirs.eof) else {
            return false;
        };
        let mut buf = vec![0; len.max(1)];
        match Pin::new(stream).poll_read(&mut cx, &mut buf) {
            Poll::Ready(Ok(0)) => theirs.eof = true,
            Poll::Ready(Ok(len)) => {
                let expected = content(id, OURS, theirs.received, len);
                assert!(buf[..len] == expected, "{id}: other bytes at the peer");
                theirs.received += len;
            }
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Pending => return false,
        }
        true
    }

    /// Ends its direction. It says nothing of a stream that it opened and never wrote to.
    pub(super) fn close(&mut self, id: u32) {
        let mut cx = Context::from_waker(Waker::noop());
        let theirs = self.streams.get_mut(&id).unwrap();
        if let Some(stream) = theirs.stream.as_mut()
            && !theirs.closed
            && Pin::new(stream).poll_close(&mut cx).is_ready()
        {
            theirs.closed = true;
        }
    }

    /// Drops a stream: it is reset, if nothing was closed before.
    pub(super) fn drop_stream(&mut self, id: u32) {
        let theirs = self.streams.get_mut(&id).unwrap();
        if !theirs.closed && !theirs.eof {
            theirs.dropped = true;
            theirs.stream = None;
        }
    }

    /// Streams that were not dropped.
    pub(super) fn ids(&self) -> Vec<u32> {
        let held = self.streams.iter().filter(|(_, s)| s.stream.is_some());
        held.map(|(id, _)| *id).collect()
    }

    pub(super) fn any(&self, rng: &mut Rng) -> Option<u32> {
        let ids = self.ids();
        let last = ids.len().checked_sub(1)?;
        Some(ids[rng.len(0, last)])
    }
}
