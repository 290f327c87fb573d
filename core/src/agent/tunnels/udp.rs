//! Datagrams of UDP tunnels: each client is a stream (P-198) that begins with its first datagram.

use alloc::format;

use bytes::Bytes;

use super::{Flow, port};
use crate::{
    agent::{
        Agent,
        asked::Refused,
        incoming::{MAX_ID, MAX_UNKNOWN},
        outgoing::{Form, refusal_while},
    },
    error::PeerFault,
    input::{Kind, StreamId},
    notices::clip,
    rules,
    wire::decode::Fields,
};

impl Agent {
    pub(in super::super) fn udp_data(&mut self, fields: &Fields<'_>) {
        let tunnel_id = fields.tunnel_id.as_deref().unwrap_or_default();
        let client_addr = fields.client_addr.as_deref().unwrap_or_default();
        if tunnel_id.is_empty() || tunnel_id.len() > MAX_ID || client_addr.len() > MAX_ID {
            return self.tolerated(None, PeerFault::Missing("tunnel_id"));
        }
        let flow = Flow {
            tunnel_id: tunnel_id.into(),
            client_addr: client_addr.into(),
            client_port: port(fields.client_port),
        };
        // Without data it is an empty datagram.
        let data = fields.data.as_deref().unwrap_or_default();
        let data = match self.base64.decode(data) {
            Ok(data) => Bytes::from(data),
            Err(fault) => return self.tolerated(None, fault),
        };
        if data.len() > rules::MAX_DATAGRAM {
            // It costs itself: UDP promises nothing.
            self.tolerated(None, PeerFault::MessageTooLong);
            let text = format!("a datagram is longer than {} bytes", rules::MAX_DATAGRAM);
            return self.refuse_udp(tunnel_id, &text);
        }
        let id = match self.flows.get(&flow) {
            Some(id) => *id,
            None if refusal_while(self.phase).is_some() => return,
            None => match self.open_flow(flow, fields) {
                Ok(id) => id,
                Err(Refused { fault, text }) => {
                    self.tolerated(None, fault);
                    return self.refuse_udp(tunnel_id, &text);
                }
            },
        };
        self.tunnel_takes(id, Kind::Datagram, data);
    }

    /// A client that was not heard before. Clients come with every datagram and stay until they
    /// have long been silent, so that they get no more than their part of the streams.
    fn open_flow(&mut self, flow: Flow, fields: &Fields<'_>) -> Result<StreamId, Refused> {
        let target = self.target(fields)?;
        if self.flows.len() >= self.config.limits.flows() {
            return Err(PeerFault::TooManyStreams.into());
        }
        Ok(self.open_tunnel("", Some(flow), &target)?)
    }

    /// Says once of a tunnel that it is refused (P-166): there is no message for it but an error
    /// that is about no stream.
    fn refuse_udp(&mut self, tunnel_id: &str, text: &str) {
        let known = self.refused_tunnels.contains(tunnel_id);
        if known || self.refused_tunnels.len() >= MAX_UNKNOWN {
            self.stats.coalesced += 1;
            return;
        }
        self.refused_tunnels.insert(tunnel_id.into());
        let text = format!("UDP tunnel {:?}: {text}", clip(tunnel_id));
        self.refuse(None, Form::Error, &text);
    }
}
