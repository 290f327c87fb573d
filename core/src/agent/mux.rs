//! The fast mode of the agent (P-050, P-070, P-118 to P-122): the peer asks for it, and opens streams
//! to the Kubernetes API and to what tunnels may lead to.

use alloc::boxed::Box;

use bytes::Bytes;

use super::{Agent, outgoing::refusal_while};
use crate::{
    action::{Action, CloseCode, Target},
    error::{PeerFault, Reason, SendError},
    input::{Input, StreamId},
    link::Phase,
    mux::{Head, Heard, Mux, Protocol, Protocols},
    rules::{self, Gate, Named},
    stats::Ending,
    wire::decode::Fields,
    yamux::{Role, SessionError},
};

impl Agent {
    /// A peer that greets is answered; from there on binary messages are yamux, of either side.
    pub(super) fn greeted(&mut self, fields: &Fields<'_>) {
        let open = matches!(self.phase, Phase::Registering(_) | Phase::Ready(_));
        if !fields.use_yamux || !open {
            return;
        }
        let running = self.mux.as_ref().is_some_and(|mux| !mux.is_over());
        if running {
            // A second session over the first would take its streams (U-08).
            return self.tolerated(None, PeerFault::Malformed);
        }
        self.drop_session(Ending::Lost);
        self.control.hello = Some(self.config.yamux);
        if self.config.yamux {
            let protocols = Protocols::of(&fields.stream_protocols);
            let (limits, asked) = (&self.config.limits, fields.yamux_config);
            let mux = Mux::new(Role::Client, limits, asked, protocols, self.now);
            self.mux = Some(Box::new(mux));
        }
    }

    /// Whether binary messages are yamux.
    pub(super) fn is_muxed(&self) -> bool {
        self.mux.as_ref().is_some_and(|mux| !mux.is_over())
    }

    pub(super) fn mux_bytes(&mut self, bytes: &[u8]) {
        let now = self.now;
        if let Some(mux) = &mut self.mux {
            mux.receive(now, bytes);
            self.pump();
        }
    }

    /// Does what came out of the session.
    pub(super) fn pump(&mut self) {
        let (now, periods) = (self.now, self.config.periods);
        while let Some(heard) = self.mux.as_mut().and_then(|mux| mux.heard(now, &periods)) {
            match heard.action(|id, _| Action::Reset(id)) {
                Ok(action) => self.actions.push_back(action),
                Err(Heard::Asked(wire, head)) => self.asked_stream(wire, &head),
                Err(Heard::Ended(error, streams)) => {
                    let resets = streams.into_iter().map(Action::Reset);
                    self.actions.extend(resets);
                    return self.session_ended(error);
                }
                Err(Heard::Fault(fault)) => self.tolerated(None, fault),
                Err(Heard::TooLong(id)) => self.actions.push_back(Action::Reset(id)),
                Err(_) => {}
            }
        }
    }

    fn asked_stream(&mut self, wire: u32, head: &Head) {
        let target = self.stream_target(head);
        let id = self.streams.spare();
        let (now, periods) = (self.now, self.config.periods);
        let Some(mux) = &mut self.mux else {
            return;
        };
        match target {
            Ok(target) => {
                self.actions.push_back(Action::Open(id, target));
                mux.admit(now, wire, id, head.protocol, &periods);
            }
            Err(fault) => {
                mux.refuse(wire);
                self.tolerated(None, fault);
            }
        }
    }

    /// Where a stream leads, if it may.
    fn stream_target(&self, head: &Head) -> Result<Target, PeerFault> {
        if refusal_while(self.phase).is_some() {
            return Err(PeerFault::Unsupported(
                "a stream while the agent shuts down",
            ));
        }
        let spoken = self.mux.as_ref().map(|mux| mux.protocols);
        let unspoken = Err(PeerFault::Unsupported("this protocol of a stream"));
        match head.protocol {
            Protocol::Http if !spoken.is_some_and(|it| it.http) => return unspoken,
            Protocol::Datagrams if !spoken.is_some_and(|it| it.datagrams) => return unspoken,
            Protocol::Http => {
                let (policy, limit) = (self.config.policy, self.config.limits.head);
                return Ok(Target::Http1(Gate::new(policy, limit)));
            }
            Protocol::Tcp | Protocol::Udp | Protocol::Datagrams => {}
        }
        let named = Named {
            service: &head.service,
            namespace: &head.namespace,
            service_port: head.port,
            gateway_port: 0,
        };
        let (host, port) = rules::tunnel_target(named, &self.config.tunnels)?.address();
        Ok(match head.protocol {
            Protocol::Tcp => Target::Tcp {
                host,
                port,
                half_close: true,
            },
            _ => Target::Udp { host, port },
        })
    }

    /// P-150: with a gateway that speaks JSON, binary messages mean again what they meant before.
    /// With a controller of ours everything went through the session.
    fn session_ended(&mut self, error: SessionError) {
        let ours = self.mux.as_ref().is_some_and(|mux| mux.protocols.http);
        if ours {
            return self.lose(Reason::Session(error), Some(CloseCode::Policy), None);
        }
        self.tolerated(None, PeerFault::Session);
        if !self.mux_wants() {
            self.drop_session(Ending::Lost);
        }
    }

    // ------------------------------------------------------------ from the local end

    pub(super) fn owns(&self, id: StreamId) -> bool {
        self.mux.as_ref().is_some_and(|mux| mux.owns(id))
    }

    pub(super) fn local(&mut self, id: StreamId, input: &Input<'_>) {
        let now = self.now;
        if let Some(mux) = &mut self.mux {
            mux.local(now, id, input);
            self.pump();
        }
    }

    pub(super) fn stream_takes(&mut self, id: StreamId, data: Bytes) -> Result<(), SendError> {
        let now = self.now;
        let Some(mux) = &mut self.mux else {
            return Err(SendError::Closed(data));
        };
        let taken = mux.send(now, id, data);
        if matches!(taken, Err(SendError::Closed(_))) {
            self.pump();
        }
        taken
    }

    /// Streams, or frames of them, that a shutdown waits for.
    pub(super) fn has_session(&self) -> bool {
        self.mux.as_ref().is_some_and(|mux| mux.is_busy())
    }

    /// The peer opens no more streams, while those that are open may end.
    pub(super) fn leave_session(&mut self) {
        if let Some(mux) = &mut self.mux {
            mux.go_away();
        }
    }

    /// Ends every stream, and tells the peer.
    pub(super) fn reset_all(&mut self) {
        if let Some(mux) = &mut self.mux {
            let resets = mux.reset_all().into_iter().map(Action::Reset);
            self.actions.extend(resets);
        }
    }

    pub(super) fn expire_streams(&mut self) {
        let now = self.now;
        if let Some(mux) = &mut self.mux {
            let over = mux.tick(now);
            self.actions.extend(over.into_iter().map(Action::Reset));
            self.pump();
        }
    }

    /// Ends the session with the connection, and what is open in this way.
    pub(super) fn drop_session(&mut self, left: Ending) {
        if let Some(mut mux) = self.mux.take() {
            self.stats = mux.add_last_to(self.stats, left);
            let resets = mux.clear().into_iter().map(Action::Reset);
            self.actions.extend(resets);
        }
    }
}
