//! The two ends of a TCP or UDP tunnel, as a user of [`crate::Hub`] and the agent's relay see them.

use bytes::Bytes;
use controlplane_core::{Failure, Kind, ResponseHead, StreamEnd, Transport};

use crate::body::{Broken, Event, Inflow, Outflow, Piece};

/// Where the data of a tunnel comes out.
///
/// Read it until it ends: dropped earlier, what still comes is dropped as well.
#[derive(Debug)]
pub struct TunnelReader {
    flow: Outflow,
    over: bool,
}

impl TunnelReader {
    pub(crate) const fn new(flow: Outflow) -> Self {
        Self { flow, over: false }
    }

    /// The next piece of a byte stream, whose boundaries mean nothing, or the next datagram, which
    /// may be empty; `None` once the other side has ended in order. Taking one makes room for the
    /// next; nothing is lost where the future is dropped.
    ///
    /// # Errors
    ///
    /// The tunnel broke, was never open, or was ended by this side's [`TunnelWriter`]
    /// ([`Failure::Cancelled`]): what came before need not be all.
    pub async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        if self.over {
            return None;
        }
        let failure = match self.flow.next().await {
            Some(Piece::Data(_, data)) => return Some(Ok(data)),
            Some(Piece::End) => None,
            Some(Piece::Failed(failure)) => Some(failure),
            None => Some(Failure::Cancelled),
            Some(Piece::Closed(..) | Piece::Head(_)) => Some(Failure::Disconnected),
        };
        self.over = true;
        failure.map(Err)
    }
}

/// Where data goes into a tunnel. Dropped, it ends the tunnel at once.
#[derive(Debug)]
#[must_use]
pub struct TunnelWriter {
    inflow: Option<Inflow>,
    kind: Kind,
}

impl TunnelWriter {
    pub(crate) const fn new(inflow: Inflow, transport: Transport) -> Self {
        let kind = match transport {
            Transport::Tcp => Kind::Bytes,
            Transport::Udp => Kind::Datagram,
        };
        Self {
            inflow: Some(inflow),
            kind,
        }
    }

    /// Sends a piece of a byte stream, or one datagram; returns when there is room for the next.
    ///
    /// # Errors
    ///
    /// The tunnel is over: see [`TunnelReader::next`] for why.
    pub async fn write(&mut self, data: Bytes) -> Result<(), Broken> {
        let inflow = self.inflow.as_mut().ok_or(Broken)?;
        inflow.write(self.kind, data).await
    }

    /// This side has ended: what was written before still arrives. In the fast mode the way back stays
    /// open; JSON has no half-close (P-123), and there this ends it as well.
    pub fn finish(mut self) {
        self.end(StreamEnd::Clean);
    }

    /// This side broke; the text reaches the other.
    pub(crate) fn abort(mut self, text: impl Into<String>) {
        self.end(StreamEnd::Broken(text.into()));
    }

    /// The service was reached.
    pub(crate) fn opened(&self) {
        if let Some(inflow) = &self.inflow {
            inflow.tell(Event::Head(ResponseHead::default()));
        }
    }

    fn end(&mut self, end: StreamEnd) {
        if let Some(mut inflow) = self.inflow.take() {
            inflow.end(end);
        }
    }
}

impl Drop for TunnelWriter {
    fn drop(&mut self) {
        self.end(StreamEnd::Broken("the tunnel was dropped".into()));
    }
}
