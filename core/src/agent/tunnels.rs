//! TCP and UDP tunnels in JSON messages (P-051, P-052, P-071, P-123 to P-126), to targets that the
//! configuration lists (P-197).
//!
//! ```text
//! start ──▶ Dialing ──open──▶ Open ── service closes, breaks, keeps silent ──▶ tcp_tunnel_close
//!             │                │
//!             │ close          └─ close ─▶ Closing ── service closes, or time is up ──▶ the same
//!             └──────▶ local end dropped, tcp_tunnel_close
//! ```
//!
//! A TCP tunnel is a stream with the name of its start, and exists from there on (P-154). A UDP
//! tunnel has a stream for each client (P-198); it begins with a datagram, ends by silence, and
//! has no message for either. Neither has a window: what a service does not take in time ends it.

mod udp;

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
};

use bytes::Bytes;

use super::{
    Agent,
    asked::Refused,
    exchange::Exchange,
    outgoing::{Form, refusal_while},
};
use crate::{
    action::{Action, Target},
    error::{PeerFault, SendError},
    input::{Kind, StreamEnd, StreamId},
    rules::{self, Named, TunnelTarget},
    stats::Ending,
    streams::Item,
    time::Time,
    wire::{
        decode::Fields,
        encode::{Counts, TunnelEnd},
    },
};

/// What a tunnel is beside a stream.
#[derive(Debug)]
pub(super) struct Tunnel {
    /// Whose datagrams it carries; `None` for TCP.
    pub(super) flow: Option<Flow>,
    stage: Stage,
    since: Time,
    /// When something passed last.
    active: Time,
    pub(super) sent: u64,
    received: u64,
}

/// One client of a UDP tunnel.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Flow {
    pub(super) tunnel_id: Box<str>,
    pub(super) client_addr: Box<str>,
    pub(super) client_port: u16,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Dialing,
    Open,
    /// The peer closed it.
    Closing,
}

impl Tunnel {
    fn counts(&self, now: Time) -> Counts {
        Counts {
            sent: self.sent,
            received: self.received,
            millis: u64::try_from((now - self.since).as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Agent {
    fn tunnel(&mut self, id: StreamId) -> Option<&mut Tunnel> {
        let stream = self.streams.get_mut(id)?;
        stream.state.tunnel.as_deref_mut()
    }

    /// A tunnel whose local end is alive and wanted.
    fn live_tunnel(&mut self, id: StreamId) -> Option<&mut Tunnel> {
        let stream = self.streams.get_mut(id).filter(|s| !s.state.ended)?;
        let tunnel = stream.state.tunnel.as_deref_mut()?;
        (tunnel.stage != Stage::Closing).then_some(tunnel)
    }

    fn named_tunnel(&self, id: Option<&str>) -> Option<StreamId> {
        let id = self.streams.find(id?)?;
        self.streams.get(id)?.state.tunnel.as_ref()?;
        Some(id)
    }

    // ------------------------------------------------------------ TCP

    pub(super) fn tcp_start(&mut self, id: Option<&str>, fields: &Fields<'_>) {
        let Some(name) = id else {
            return self.tolerated(None, PeerFault::Missing("request_id"));
        };
        if let Some(running) = self.streams.find(name) {
            return self.duplicate(running, name);
        }
        if let Some(text) = refusal_while(self.phase) {
            return self.refuse(id, Form::Tunnel("connection_failed"), &text);
        }
        let target = self.target(fields);
        let outcome = target.and_then(|target| Ok(self.open_tunnel(name, None, &target)?));
        if let Err(Refused { fault, text }) = outcome {
            self.tolerated(None, fault);
            let reason = match fault {
                PeerFault::TooManyStreams => "registration_failed",
                _ => "connection_failed",
            };
            self.refuse(id, Form::Tunnel(reason), &text);
        }
    }

    /// The target that is listed of those that a message names.
    fn target(&self, fields: &Fields<'_>) -> Result<TunnelTarget, Refused> {
        let text = |field: &Option<alloc::borrow::Cow<'_, str>>| {
            field.as_deref().map(String::from).unwrap_or_default()
        };
        let (service, namespace) = (text(&fields.service_name), text(&fields.service_namespace));
        let named = Named {
            service: &service,
            namespace: &namespace,
            service_port: port(fields.service_port),
            gateway_port: port(fields.gateway_port),
        };
        Ok(rules::tunnel_target(named, &self.config.tunnels)?)
    }

    fn open_tunnel(
        &mut self,
        name: &str,
        flow: Option<Flow>,
        target: &TunnelTarget,
    ) -> Result<StreamId, PeerFault> {
        let (host, port) = target.address();
        let target = match flow {
            None => Target::Tcp {
                host,
                port,
                half_close: false,
            },
            Some(_) => Target::Udp { host, port },
        };
        let due = self.now + self.config.periods.dial;
        let mut exchange = Exchange::new(Some(due));
        exchange.tunnel = Some(Box::new(Tunnel {
            flow: flow.clone(),
            stage: Stage::Dialing,
            since: self.now,
            active: self.now,
            sent: 0,
            received: 0,
        }));
        let id = self.streams.open(name, exchange, &self.config.limits)?;
        self.limits_due.insert((due, id));
        self.flows.extend(flow.map(|flow| (flow, id)));
        self.actions.push_back(Action::Open(id, target));
        Ok(id)
    }

    pub(super) fn tcp_data(&mut self, id: Option<&str>, fields: &Fields<'_>) {
        let Some(id) = self.named_tunnel(id) else {
            self.stats.stale_frames += 1;
            return;
        };
        if self.live_tunnel(id).is_none() {
            self.stats.stale_frames += 1;
            return;
        }
        let data = fields.data.as_deref().ok_or(PeerFault::Missing("data"));
        match data.and_then(|data| self.base64.decode(data)) {
            Ok(data) => self.tunnel_takes(id, Kind::Bytes, data.into()),
            Err(fault) => self.fail(id, fault, &fault.to_string()),
        }
    }

    fn tunnel_takes(&mut self, id: StreamId, kind: Kind, data: Bytes) {
        let now = self.now;
        let Some(tunnel) = self.live_tunnel(id) else {
            // The last datagrams of a flow that is over here.
            self.stats.stale_frames += 1;
            return;
        };
        tunnel.active = now;
        tunnel.received += data.len() as u64;
        // An empty datagram is one; an empty part of a stream is nothing.
        if kind == Kind::Datagram || !data.is_empty() {
            self.deliver(id, kind, data);
        }
    }

    /// The peer closed the tunnel: what it sent before reaches the service (P-152), what the
    /// service says has no reader. With an error something is missing, and the service is not to
    /// take what it got for all there was.
    pub(super) fn tcp_close(&mut self, id: Option<&str>, fields: Option<&Fields<'_>>) {
        let error = fields.and_then(|f| f.error.as_deref());
        let broken = error.is_some_and(|error| !error.is_empty());
        let id = self.named_tunnel(id);
        let until = self.now + self.config.periods.closing;
        let Some(id) = id.filter(|id| self.live_tunnel(*id).is_some()) else {
            self.stats.stale_frames += 1;
            return;
        };
        let dialing = self.tunnel(id).is_some_and(|t| {
            let before = core::mem::replace(&mut t.stage, Stage::Closing);
            before == Stage::Dialing
        });
        if self.streams.clear(id) {
            // Who waits for room learns that nobody wants more.
            self.actions.push_back(Action::Writable(id));
        }
        if dialing || broken {
            self.streams.ends(id, Ending::Cancelled);
            self.actions.push_back(Action::Reset(id));
            self.end_tunnel(id, None);
        } else {
            self.set_due(id, Some(until));
            self.actions.push_back(Action::Finish(id));
        }
        self.wake();
    }

    // ------------------------------------------------------------ from the local end

    pub(super) fn tunnel_open(&mut self, id: StreamId) {
        let idle = self.now + self.config.periods.tunnel_idle;
        let now = self.now;
        let Some(tunnel) = self.live_tunnel(id).filter(|t| t.stage == Stage::Dialing) else {
            return self.stale();
        };
        tunnel.stage = Stage::Open;
        tunnel.active = now;
        self.set_due(id, Some(idle));
    }

    pub(super) fn tunnel_answers(
        &mut self,
        id: StreamId,
        kind: Kind,
        data: Bytes,
    ) -> Result<(), SendError> {
        let (now, limits) = (self.now, self.config.limits);
        let Some(tunnel) = self.live_tunnel(id) else {
            // Nobody reads it any more.
            return Ok(());
        };
        tunnel.active = now;
        let kind = match (&tunnel.flow, kind) {
            (Some(_), _) => Kind::Datagram,
            (None, _) if data.is_empty() => return Ok(()),
            (None, _) => Kind::Bytes,
        };
        if kind == Kind::Datagram && data.len() > limits.message {
            let text = "the service sent a datagram that is too long";
            self.break_off(id, Ending::Limit, text);
            return Err(SendError::Closed(data));
        }
        self.streams.enqueue(id, kind, data, &limits)
    }

    pub(super) fn tunnel_ended(&mut self, id: StreamId, end: StreamEnd) {
        let failure = match end {
            StreamEnd::Broken(text) => Some(text),
            StreamEnd::Clean | StreamEnd::Closed(_) => None,
        };
        self.end_tunnel(id, failure);
    }

    /// Queues the last message of a tunnel behind all that it has sent.
    pub(super) fn end_tunnel(&mut self, id: StreamId, failure: Option<String>) {
        self.local_over(id);
        if failure.is_some() {
            self.streams.ends(id, Ending::Failed);
        }
        let now = self.now;
        let Some(tunnel) = self.tunnel(id) else {
            return;
        };
        if tunnel.flow.is_some() {
            // There is no close; an error says what is about no stream.
            let text = failure.map(|text| format!("UDP tunnel: {text}"));
            return self.streams.push(id, Item::FlowOver(text));
        }
        let (reason, error) = match (tunnel.stage, failure) {
            // That of G is answered by one, with this reason (P-123).
            (Stage::Closing, _) => ("service_closed", None),
            (Stage::Dialing, failure) => ("connection_failed", failure),
            (Stage::Open, Some(text)) => ("write_error", Some(text)),
            (Stage::Open, None) => ("service_closed", None),
        };
        let counts = Some(tunnel.counts(now));
        let end = TunnelEnd {
            reason,
            error,
            counts,
        };
        self.streams.push(id, Item::TunnelClose(Box::new(end)));
    }

    /// A time limit of a tunnel has come: of its dial, of its silence or of its close.
    pub(super) fn tunnel_due(&mut self, id: StreamId) {
        let periods = self.config.periods;
        let Some(tunnel) = self.tunnel(id) else {
            return;
        };
        let (stage, udp) = (tunnel.stage, tunnel.flow.is_some());
        let until = tunnel.active + periods.tunnel_idle;
        match stage {
            Stage::Open if until > self.now => self.set_due(id, Some(until)),
            Stage::Open if udp => self.drop_stream(id, Ending::Timeout),
            Stage::Open => {
                let seconds = periods.tunnel_idle.as_secs();
                let text = format!("nothing passed for {seconds} s");
                self.break_off(id, Ending::Timeout, &text);
            }
            Stage::Dialing => {
                self.break_off(id, Ending::Timeout, "the service did not answer in time");
            }
            Stage::Closing => {
                self.break_off(id, Ending::Timeout, "the service did not close in time");
            }
        }
    }
}

/// A port, or 0.
fn port(number: Option<f64>) -> u16 {
    // Only what is one comes back the same.
    let port = |n: f64| Some(n as u16).filter(|port| f64::from(*port) == n);
    number.and_then(port).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::port;

    #[test]
    fn p071_what_is_no_port_is_none() {
        for (number, expected) in [(1.0, 1), (65_535.0, 65_535), (53.5, 0), (-1.0, 0)] {
            assert_eq!(port(Some(number)), expected, "{number}");
        }
        for number in [0.0, 65_536.0, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(port(Some(number)), 0, "{number}");
        }
        assert_eq!(port(None), 0);
    }
}
