//! Requests to switch protocols in the fast mode: after the 101 the stream is opaque bytes.

use std::fmt;

use controlplane_core::{Failure, PeerFault, ResponseHead};

use super::{
    answer::{Answer, Fast},
    client::{Arrival, Arrived, Exchange, response_head},
};
use crate::duplex::ByteStream;

/// A request to switch protocols that was sent. Dropped, it is given up.
#[must_use]
pub struct Switch(Fast);

/// The answer to a [`Switch`].
#[derive(Debug)]
pub enum Switched {
    /// The protocol was switched.
    Open {
        /// Status 101, and the headers of the handshake as the Kubernetes API sent them.
        head: ResponseHead,
        /// What follows, in both directions, beginning with its first byte.
        stream: ByteStream,
    },
    /// The Kubernetes API refused, with this answer.
    Refused(ResponseHead, Answer),
}

impl Switch {
    pub(super) fn new(exchange: Exchange, arrival: Arrival) -> Self {
        Self(Fast::new(exchange, arrival))
    }

    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// There was none.
    pub async fn answer(mut self) -> Result<Switched, Failure> {
        let arrived = self.0.response().await?;
        if arrived.response.status() != 101 {
            let head = self.0.begin(arrived);
            return Ok(Switched::Refused(head, Answer::begun(self.0)));
        }
        let Arrived { response, .. } = arrived;
        let head = response_head(&response);
        let malformed = Failure::Fault(PeerFault::Malformed);
        let Ok(upgraded) = hyper::upgrade::on(response).await else {
            return self.0.failed(Failure::Disconnected);
        };
        let Ok(parts) = upgraded.downcast::<ByteStream>() else {
            return self.0.failed(malformed);
        };
        let mut stream = parts.io;
        stream.unread(parts.read_buf);
        self.0.switched();
        Ok(Switched::Open { head, stream })
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").finish_non_exhaustive()
    }
}
