//! The services that tunnels lead to.

use std::time::Duration;

use controlplane_core::{
    Input, Kind, Machine as _, ResponseHead, SendError, StreamEnd, StreamId, Time,
};

use super::{DIAL, IDLE, Side, World, same};
use crate::{
    content::Way,
    exchange::Check,
    tunnel::{Dial, Ended, FIRST_PORT, PORTS},
};

impl World {
    pub(in super::super) fn tunnel_dialed(
        &mut self,
        id: StreamId,
        udp: bool,
        host: &str,
        port: u16,
    ) -> Check {
        let now = self.now;
        let number = |n: u64| (port - FIRST_PORT) == (n % u64::from(PORTS)) as u16;
        let known = (FIRST_PORT..FIRST_PORT + PORTS).contains(&port) && host == "pg.db.svc";
        let tunnel = self.tunnels.values_mut().rev();
        let mut tunnel = tunnel.filter(|t| number(t.n) && t.plan.udp == udp);
        let Some(tunnel) = tunnel.next().filter(|_| known) else {
            return Err(format!("a tunnel to {host}:{port}, which nobody asked for"));
        };
        if tunnel.service.is_some() || tunnel.plan.forbidden {
            return Err(format!("tunnel {} is dialled twice, or at all", tunnel.n));
        }
        if tunnel.service_ended.is_some() && !udp {
            return Err(format!("tunnel {} is dialled again", tunnel.n));
        }
        (tunnel.service, tunnel.dialed, tunnel.active) = (Some(id), now, now);
        (tunnel.accepted, tunnel.service_blocked) = (false, false);
        (tunnel.told, tunnel.overrun) = (None, false);
        tunnel.fresh = true;
        let n = tunnel.n;
        self.agent.tunnels.insert(id, n);
        self.count("tunnels: dialled");
        self.tunnel_on(n, Side::Service);
        Ok(())
    }

    pub(super) fn tunnel_service(&mut self, n: u64) -> Check {
        let calm = self.calm;
        let Some(tunnel) = self.tunnels.get_mut(&n) else {
            return Ok(());
        };
        let (Some(id), false) = (tunnel.service, tunnel.service_blocked) else {
            return Ok(());
        };
        if !tunnel.accepted {
            return match tunnel.plan.dial {
                Dial::Accepts => {
                    tunnel.accepted = true;
                    self.tunnel_on(n, Side::Service);
                    self.tell_agent(Input::Head(id, ResponseHead::default()))
                }
                Dial::Silent if !calm => Ok(()),
                _ => self.tunnel_service_ends(n, id, StreamEnd::Broken("refused".into())),
            };
        }
        if tunnel.told.is_some() {
            let read = tunnel.up.reader.waiting.is_empty();
            return match read && (!tunnel.plan.deaf || calm) {
                true => self.tunnel_service_ends(n, id, StreamEnd::Clean),
                false => Ok(()),
            };
        }
        if tunnel.is_said(Way::Answer) {
            let heard = tunnel.is_said(Way::Request) && tunnel.is_whole(Way::Request);
            let whole = heard && tunnel.up.reader.waiting.is_empty();
            let end = tunnel.plan.service_end.clone();
            let waits = end.is_some() && !tunnel.plan.udp;
            return match end {
                Some(end) if whole => self.tunnel_service_ends(n, id, end),
                // What never ends, or waits for datagrams that are lost, ends with the storm.
                _ if calm && !waits && self.old_tunnel(n) => {
                    self.tunnel_service_ends(n, id, StreamEnd::Clean)
                }
                _ => Ok(()),
            };
        }
        let kind = if tunnel.plan.udp {
            Kind::Datagram
        } else {
            Kind::Bytes
        };
        let data = tunnel.next(Way::Answer, &mut self.rng);
        let answer = self.agent.machine.send(id, kind, data.clone());
        let Some(tunnel) = self.tunnels.get_mut(&n) else {
            return Ok(());
        };
        tunnel.active = self.now;
        match answer {
            Ok(()) => {
                tunnel.said(Way::Answer, data.len());
                self.tunnel_on(n, Side::Service);
                Ok(())
            }
            Err(SendError::Blocked(back)) => {
                tunnel.service_blocked = true;
                same(&back, &data)
            }
            Err(SendError::Closed(_)) => Err(format!("tunnel {n}: an answer is not taken")),
        }
    }

    fn tunnel_service_ends(&mut self, n: u64, id: StreamId, end: StreamEnd) -> Check {
        self.agent.tunnels.remove(&id);
        if let Some(tunnel) = self.tunnels.get_mut(&n) {
            tunnel.service_ended = Some(end.clone());
            tunnel.service_over();
        }
        self.count("tunnels: ended by the service");
        self.tell_agent(Input::Ended(id, end))
    }

    pub(in super::super) fn tunnel_data(&mut self, n: u64, kind: Kind, data: &[u8]) -> Check {
        let Some(tunnel) = self.tunnels.get_mut(&n) else {
            return Ok(());
        };
        // What came before this flow began may be lost; empty ones cannot be told from each other.
        let fresh = tunnel.fresh;
        tunnel.fresh &= data.is_empty();
        tunnel.heard(Way::Request, kind, data, fresh)?;
        tunnel.active = self.now;
        self.tunnel_reads_on(n, Way::Request);
        Ok(())
    }

    /// No more comes: the client ended it in order, and all that it said is there.
    pub(in super::super) fn tunnel_told(&mut self, n: u64) -> Check {
        let now = self.now;
        let Some(tunnel) = self.tunnels.get_mut(&n) else {
            return Ok(());
        };
        let in_order = tunnel.left.is_some() && !tunnel.broken;
        if tunnel.told.is_some() || !in_order || !tunnel.is_whole(Way::Request) {
            return Err(format!(
                "tunnel {n}: an end that is none, or overtook what was said"
            ));
        }
        tunnel.told = Some(now);
        self.count("tunnels: closes told");
        self.tunnel_on(n, Side::Service);
        Ok(())
    }

    /// The agent drops the service.
    pub(in super::super) fn tunnel_reset(&mut self, n: u64, id: StreamId) -> Check {
        let (now, closing, limits) = (self.now, self.agent.closing(), self.agent.limits());
        let gone = self.agent.machine.phase().open().is_none()
            || self.agent.stopping
            || self.agent.moved == Some(now);
        let more = self.largest_delivery(&self.controller.limits());
        let held = self.agent.machine.stats().held_in;
        self.agent.tunnels.remove(&id);
        let Some(tunnel) = self.tunnels.get_mut(&n) else {
            return Ok(());
        };
        let own = tunnel.up.reader.charge;
        let full = own + more > limits.recv_stream || held + own + more > limits.recv_total;
        let due = |since: Time, limit: Duration| now >= since + limit;
        let explained = gone
            || full
            || (!tunnel.accepted && due(tunnel.dialed, DIAL))
            || (!tunnel.accepted && tunnel.ended.is_some())
            // Something is missing of what the client said, or may be.
            || tunnel.broken
            || tunnel.ended == Some(Ended::Failed)
            || tunnel.left.is_some_and(|at| due(at, self.controller.closing()))
            || tunnel.told.is_some_and(|at| due(at, closing))
            || due(tunnel.active, IDLE);
        if !explained {
            return Err(format!(
                "tunnel {n} was dropped without a cause: {tunnel:?}"
            ));
        }
        tunnel.overrun |= full;
        tunnel.service_over();
        self.count("tunnels: dropped");
        Ok(())
    }

    pub(in super::super) fn tunnel_writable(&mut self, n: u64, client: bool) -> Check {
        let Some(tunnel) = self.tunnels.get_mut(&n) else {
            return Ok(());
        };
        let (blocked, side) = match client {
            true => (&mut tunnel.client_blocked, Side::Client),
            false => (&mut tunnel.service_blocked, Side::Service),
        };
        if !std::mem::take(blocked) {
            return Err(format!("tunnel {n}: who was not refused is called"));
        }
        self.count("tunnels: waited for room");
        self.tunnel_on(n, side);
        Ok(())
    }
}
