//! The TCP and UDP tunnels of the controller (P-051, P-052, P-071, P-123 to P-126).
//!
//! ```text
//! open_tunnel ──▶ open ── the agent closes ──▶ Finish, or Failed where it gives an error
//!                   └──── the client ends ───▶ tcp_tunnel_close behind what it sent
//! ```
//!
//! Success is not told. A UDP tunnel has a stream for each client, no message for its start and
//! none for its end.

use alloc::boxed::Box;

use bytes::Bytes;

use super::{Controller, Life, exchange::Exchange};
use crate::{
    error::{OpenError, PeerFault, SendError},
    input::{ConnId, Kind, StreamEnd, StreamId, Transport, Tunnel},
    notices::clip,
    rules::MAX_DATAGRAM,
    stats::Ending,
    streams::Item,
    wire::{decode::Fields, encode::TunnelEnd},
};

/// One client of a UDP tunnel.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Flow {
    tunnel_id: Box<str>,
    client_addr: Box<str>,
    client_port: u16,
}

impl Flow {
    pub(super) fn of(tunnel: &Tunnel) -> Self {
        Self {
            tunnel_id: tunnel.tunnel_id.as_str().into(),
            client_addr: tunnel.client_addr.as_str().into(),
            client_port: tunnel.client_port,
        }
    }
}

/// How a tunnel ends whose client is gone.
pub(super) const fn client_closed() -> TunnelEnd {
    TunnelEnd {
        reason: "client_closed",
        error: None,
        counts: None,
    }
}

/// The last of one whose client's data did not all leave.
pub(super) fn cut_off() -> Item {
    last(Some("not all that the client sent got through"))
}

/// The last of a tunnel. With an error the service is not to take what it got for all there was.
fn last(error: Option<&str>) -> Item {
    Item::TunnelClose(Box::new(TunnelEnd {
        error: error.map(clip),
        ..client_closed()
    }))
}

impl Controller {
    pub(super) fn open_tunnel_stream(&mut self, tunnel: Tunnel) -> Result<StreamId, OpenError> {
        let joined = self.joined.as_ref().filter(|_| self.life == Life::Running);
        if !joined.ok_or(OpenError::Away)?.opens_tunnels {
            return Err(OpenError::Tunnel);
        }
        let udp = tunnel.transport == Transport::Udp;
        let first = (!udp).then(|| Item::Tunnel(Box::new(tunnel.clone())));
        let flow = udp.then(|| Flow::of(&tunnel));
        if flow
            .as_ref()
            .is_some_and(|flow| self.flows.contains_key(flow))
        {
            return Err(OpenError::Busy);
        }
        if udp && self.flows.len() >= self.config.limits.flows() {
            return Err(OpenError::TooManyStreams);
        }
        let mut exchange = Exchange::new(false, None, None);
        exchange.tunnel = Some(Box::new(tunnel));
        // Success is not told: it can be written to at once.
        exchange.answered = true;
        let id = self.begin(exchange, first)?;
        self.flows.extend(flow.map(|flow| (flow, id)));
        Ok(id)
    }

    fn is_udp(&self, id: StreamId) -> bool {
        let tunnel = self.streams.get(id).and_then(|s| s.state.tunnel.as_ref());
        tunnel.is_some_and(|t| t.transport == Transport::Udp)
    }

    // ------------------------------------------------------------ from the client

    pub(super) fn tunnel_takes(&mut self, id: StreamId, data: Bytes) -> Result<(), SendError> {
        let limits = self.config.limits;
        let live = |s: &Exchange| s.is_live() && s.until.is_none();
        if !self.streams.get(id).is_some_and(|s| live(&s.state)) {
            return Err(SendError::Closed(data));
        }
        if !self.is_udp(id) {
            return match data.is_empty() {
                true => Ok(()),
                false => self.streams.enqueue(id, Kind::Bytes, data, &limits),
            };
        }
        if data.len() > limits.message.min(MAX_DATAGRAM) {
            self.give_up(id, crate::Failure::MessageTooLong);
            return Err(SendError::Closed(data));
        }
        self.streams.enqueue(id, Kind::Datagram, data, &limits)
    }

    /// The client has no more to send, or is gone: both end the tunnel, for there is no half-close
    /// (P-123).
    pub(super) fn tunnel_ended(&mut self, id: StreamId, end: &StreamEnd) {
        let error = match end {
            StreamEnd::Broken(text) => Some(&**text),
            StreamEnd::Clean | StreamEnd::Closed(_) => None,
        };
        let Some(stream) = self.streams.get(id).filter(|s| !s.state.over) else {
            return self.stale();
        };
        let live = stream.state.is_live();
        let ending = match error {
            Some(_) => Ending::Cancelled,
            None => Ending::Complete,
        };
        self.streams.ends(id, ending);
        if !live {
            self.local_over(id);
        } else if self.is_udp(id) {
            self.close_behind(id, Item::FlowOver(None));
        } else {
            self.close_behind(id, last(error));
        }
        self.tidy(id);
    }

    // ------------------------------------------------------------ from the agent

    pub(super) fn tunnel_data(&mut self, id: StreamId, fields: &Fields<'_>) {
        let tunnel = self.streams.get(id).and_then(|s| s.state.tunnel.as_ref());
        let Some(tunnel) = tunnel else {
            return self.break_off(id, PeerFault::Malformed);
        };
        let kind = match tunnel.transport {
            Transport::Tcp => Kind::Bytes,
            Transport::Udp => Kind::Datagram,
        };
        let data = fields.data.as_deref().ok_or(PeerFault::Missing("data"));
        match data.and_then(|data| self.base64.decode(data)) {
            Ok(data) if data.is_empty() && kind == Kind::Bytes => {}
            Ok(data) => self.deliver(id, kind, data.into()),
            Err(fault) => self.break_off(id, fault),
        }
    }

    /// In order, unless it says what went wrong.
    pub(super) fn tunnel_closed(&mut self, id: StreamId, fields: &Fields<'_>) {
        if self
            .streams
            .get(id)
            .is_none_or(|s| s.state.tunnel.is_none())
        {
            return self.break_off(id, PeerFault::Malformed);
        }
        let reason = fields.reason.as_deref().unwrap_or_default();
        let failed = matches!(
            reason,
            "connection_failed" | "registration_failed" | "write_error"
        );
        let error = fields.error.as_deref().filter(|error| !error.is_empty());
        match error {
            Some(error) => self.answer_failed(id, error),
            None if failed => self.answer_failed(id, reason),
            None => self.complete(id),
        }
    }

    /// Datagrams name a client of a tunnel, and no stream (P-052).
    pub(super) fn datagram(&mut self, conn: ConnId, fields: &Fields<'_>) {
        let port = fields.client_port.filter(|p| (1.0..=65_535.0).contains(p));
        let flow = Flow {
            tunnel_id: fields.tunnel_id.as_deref().unwrap_or_default().into(),
            client_addr: fields.client_addr.as_deref().unwrap_or_default().into(),
            client_port: port.map_or(0, |p| p as u16),
        };
        let id = self.flows.get(&flow).copied();
        let id = id.filter(|id| self.current == Some(conn) && self.is_live(*id));
        match id {
            Some(id) => self.tunnel_data(id, fields),
            // UDP promises nothing: a flow that is over is no fault.
            None => self.stats.stale_frames += 1,
        }
    }
}
