//! The clients and the services of tunnels.

use std::time::Duration;

use controlplane_core::{
    Failure, Input, Kind, Machine as _, OpenError, ResponseHead, SendError, StreamEnd, StreamId,
    Time,
};

use super::{Event, World, clients::same};
use crate::{
    content::Way,
    exchange::Check,
    plan::Manners,
    tunnel::{Dial, Ended, FIRST_PORT, PORTS, Plan, Tunnel},
};

/// Silence after which a tunnel is over, and for how long a service may be dialled. What an end says
/// counts from the last time that its machine was told the time, which is at most a ping ago.
const IDLE: Duration = Duration::from_secs(300 - 10);
const DIAL: Duration = Duration::from_secs(30);

impl World {
    /// A client wants a tunnel.
    pub(super) fn tunnel(&mut self, plan: Plan) -> Check {
        let n = self.next_tunnel;
        self.next_tunnel += 1;
        let limits = [self.agent.limits(), self.controller.limits()];
        let longest = limits[0].message.min(limits[1].message);
        let piece = plan.piece.min(longest);
        let mut tunnel = Tunnel::new(n, Plan { piece, ..plan });
        if !self.controller.up {
            return Ok(());
        }
        let open = self.controller.machine.stats().streams_open;
        let named = tunnel.named();
        let id = match self.controller.machine.open_tunnel(self.now, named) {
            Ok(id) => id,
            Err(error) => {
                let away = self.controller.machine.joined().is_none() || self.controller.stopping;
                let right = match error {
                    OpenError::Away => away,
                    // Clients of datagrams leave half of them to others; some of those that
                    // left may not be gone yet.
                    OpenError::TooManyStreams => {
                        let most = self.controller.limits().streams;
                        open >= most || (tunnel.plan.udp && open >= most / 2)
                    }
                    OpenError::Tunnel => self.manners != Manners::Ours,
                    // The one before with the same number is still there.
                    OpenError::Busy => self
                        .tunnels
                        .values()
                        .any(|t| t.n % u64::from(PORTS) == n % u64::from(PORTS) && t.plan.udp),
                    _ => false,
                };
                if !right {
                    return Err(format!("tunnel {n} was refused: {error}"));
                }
                self.count("tunnels refused");
                return Ok(());
            }
        };
        if self.controller.last_stream.is_some_and(|last| id <= last) {
            return Err("the controller used a stream's id again".into());
        }
        self.controller.last_stream = Some(id);
        self.controller.tunnels.insert(id, n);
        tunnel.client = Some(id);
        self.count(if tunnel.plan.udp {
            "tunnels: UDP"
        } else {
            "tunnels: TCP"
        });
        self.tunnels.insert(n, tunnel);
        self.tunnel_on(n, Side::Client);
        Ok(())
    }

    /// Lets an end of a tunnel go on, some time from now.
    fn tunnel_on(&mut self, n: u64, side: Side) {
        let pace = self.tunnels.get(&n).map_or((0, 0), |t| match side {
            Side::Client | Side::ClientReads => t.plan.client_pace,
            Side::Service | Side::ServiceReads => t.plan.service_pace,
        });
        let pace = self.pace(pace);
        self.after(pace, Event::Tunnel(n, side));
    }

    pub(super) fn tunnel_event(&mut self, n: u64, side: Side) -> Check {
        match side {
            Side::Client => self.tunnel_client(n),
            Side::ClientReads => self.tunnel_reads(n, Way::Answer),
            Side::Service => self.tunnel_service(n),
            Side::ServiceReads => self.tunnel_reads(n, Way::Request),
        }
    }

    /// Nobody is slow any more.
    pub(super) fn tunnels_calm_down(&mut self) {
        let all: Vec<u64> = self.tunnels.keys().copied().collect();
        for n in all {
            self.after(Duration::ZERO, Event::Tunnel(n, Side::Client));
            self.after(Duration::ZERO, Event::Tunnel(n, Side::Service));
        }
    }

    // ------------------------------------------------------------ the client

    fn tunnel_client(&mut self, n: u64) -> Check {
        let Some(tunnel) = self.tunnels.get(&n).filter(|t| t.is_open()) else {
            return Ok(());
        };
        let (Some(id), false) = (tunnel.client, tunnel.client_blocked) else {
            return Ok(());
        };
        let udp = tunnel.plan.udp;
        if tunnel.is_said(Way::Request) {
            // A client of datagrams waits for answers, and ends it: nobody else does.
            let patient = udp && !self.calm && !tunnel.is_whole(Way::Answer);
            let ends = tunnel.plan.client_ends || (udp && self.calm);
            let heard = !udp || tunnel.plan.down <= tunnel.down.heard || self.old_tunnel(n);
            if !ends || patient || !heard {
                return Ok(());
            }
            let broken = self.rng.chance(300) && !self.calm;
            if let Some(tunnel) = self.tunnels.get_mut(&n) {
                (tunnel.left, tunnel.broken) = (Some(self.now), broken);
            }
            self.count("tunnels: ended by the client");
            self.tunnel_client_over(id, Ended::Client);
            return match (broken, self.rng.chance(500)) {
                (false, _) => self.tell_controller(Input::Ended(id, StreamEnd::Clean)),
                (true, false) => self.tell_controller(Input::Cancel(id)),
                (true, true) => {
                    let end = StreamEnd::Broken("reset".into());
                    self.tell_controller(Input::Ended(id, end))
                }
            };
        }
        let kind = if udp { Kind::Datagram } else { Kind::Bytes };
        let data = tunnel.next(Way::Request, &mut self.rng);
        let answer = self.controller.machine.send(id, kind, data.clone());
        let Some(tunnel) = self.tunnels.get_mut(&n) else {
            return Ok(());
        };
        match answer {
            Ok(()) => {
                tunnel.said(Way::Request, data.len());
                self.tunnel_on(n, Side::Client);
                Ok(())
            }
            Err(SendError::Blocked(back)) => {
                tunnel.client_blocked = true;
                same(&back, &data)
            }
            Err(SendError::Closed(back)) => {
                tunnel.client_blocked = true;
                let complete = tunnel.service_ended.is_some();
                same(&back, &data)?;
                match complete {
                    true => Ok(()),
                    false => Err(format!("tunnel {n}: data is not taken")),
                }
            }
        }
    }

    /// From before the calm, so that what it waits for may be lost.
    const fn old_tunnel(&self, n: u64) -> bool {
        n < self.calm_tunnels
    }

    pub(super) fn tunnel_client_over(&mut self, id: StreamId, how: Ended) {
        if let Some(n) = self.controller.tunnels.remove(&id)
            && let Some(tunnel) = self.tunnels.get_mut(&n)
        {
            tunnel.client_over(how);
        }
    }

    pub(super) fn tunnel_answer(&mut self, n: u64, kind: Kind, data: &[u8]) -> Check {
        let Some(tunnel) = self.tunnels.get_mut(&n) else {
            return Ok(());
        };
        tunnel.heard(Way::Answer, kind, data, false)?;
        self.tunnel_reads_on(n, Way::Answer);
        self.tunnel_on(n, Side::Client);
        Ok(())
    }

    pub(super) fn tunnel_finished(&mut self, n: u64, id: StreamId) -> Check {
        let stopping = self.controller.stopping;
        let Some(tunnel) = self.tunnels.get(&n) else {
            return Ok(());
        };
        let clean = tunnel.service_ended == Some(StreamEnd::Clean);
        let taken = tunnel.down.reader.charge == 0 || stopping;
        if tunnel.plan.udp || !clean || !tunnel.is_whole(Way::Answer) || !taken {
            return Err(format!("tunnel {n}: a false success"));
        }
        self.count("tunnels: finished");
        self.tunnel_client_over(id, Ended::Finished);
        Ok(())
    }

    pub(super) fn tunnel_failed(&mut self, n: u64, id: StreamId, failure: &Failure) -> Check {
        let Some(tunnel) = self.tunnels.get(&n) else {
            return Ok(());
        };
        let storm = self.weather.is_storm();
        let limits = self.controller.limits();
        let explained = match failure {
            Failure::Agent(text) => self.explain_tunnel(tunnel, text),
            Failure::Disconnected => true,
            Failure::Overrun => {
                let own = tunnel.discarded.unwrap_or_default();
                let more = self.largest_delivery(&self.agent.limits());
                let all = self.controller.machine.stats().held_in + own;
                own + more > limits.recv_stream || all + more > limits.recv_total
            }
            Failure::Shutdown => self.controller.stopping,
            _ => false,
        };
        if !explained {
            return Err(format!(
                "tunnel {n} failed without a cause: {failure} {tunnel:?} (storm: {storm})"
            ));
        }
        self.count("tunnels: failed");
        self.tunnel_client_over(id, Ended::Failed);
        Ok(())
    }

    fn explain_tunnel(&self, tunnel: &Tunnel, text: &str) -> bool {
        let storm = self.weather.is_storm();
        match text {
            "more data arrives than the service takes in time" => tunnel.overrun,
            "nothing passed for 300 s" => self.now >= tunnel.active + IDLE,
            "the agent is shutting down" => storm || self.agent.stopping,
            "the agent's configuration permits no tunnel to there" => tunnel.plan.forbidden,
            "the service did not answer in time" => {
                !tunnel.accepted && self.now >= tunnel.dialed + DIAL
            }
            "connection_failed" | "write_error" => tunnel.service_ended == Some(StreamEnd::Clean),
            "too many requests at once" => storm,
            _ => {
                let why = StreamEnd::Broken(text.into());
                tunnel.service_ended == Some(why) && tunnel.is_whole(Way::Answer)
            }
        }
    }

    // ------------------------------------------------------------ the service

    pub(super) fn tunnel_dialed(
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

    fn tunnel_service(&mut self, n: u64) -> Check {
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

    pub(super) fn tunnel_data(&mut self, n: u64, kind: Kind, data: &[u8]) -> Check {
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
    pub(super) fn tunnel_told(&mut self, n: u64) -> Check {
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
    pub(super) fn tunnel_reset(&mut self, n: u64, id: StreamId) -> Check {
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

    pub(super) fn tunnel_writable(&mut self, n: u64, client: bool) -> Check {
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

    // ------------------------------------------------------------ both

    fn tunnel_reads_on(&mut self, n: u64, way: Way) {
        let Some(tunnel) = self.tunnels.get_mut(&n) else {
            return;
        };
        let (reader, side) = match way {
            Way::Answer => (&mut tunnel.down.reader, Side::ClientReads),
            Way::Request => (&mut tunnel.up.reader, Side::ServiceReads),
        };
        if !reader.waiting.is_empty() && !std::mem::replace(&mut reader.busy, true) {
            self.tunnel_on(n, side);
        }
    }

    fn tunnel_reads(&mut self, n: u64, way: Way) -> Check {
        let Some(tunnel) = self.tunnels.get_mut(&n) else {
            return Ok(());
        };
        let (reader, id) = match way {
            Way::Answer => (&mut tunnel.down.reader, tunnel.client),
            Way::Request => (&mut tunnel.up.reader, tunnel.service),
        };
        reader.busy = false;
        let (Some(len), Some(id)) = (reader.take(), id) else {
            return Ok(());
        };
        self.tunnel_reads_on(n, way);
        match way {
            Way::Answer => {
                self.tunnel_on(n, Side::Client);
                self.tell_controller(Input::Consumed(id, len))
            }
            Way::Request => {
                self.tunnel_on(n, Side::Service);
                self.tell_agent(Input::Consumed(id, len))
            }
        }
    }

    /// What waits for the ends of tunnels, as the limits count it: at the agent, at the controller.
    pub(super) fn tunnels_charge(&self) -> (usize, usize) {
        self.tunnels.values().fold((0, 0), |(up, down), t| {
            (up + t.up.reader.charge, down + t.down.reader.charge)
        })
    }

    /// Whether every tunnel is over for everybody.
    pub(super) fn tunnels_are_quiet(&self) -> bool {
        let over = |t: &Tunnel| !t.is_open() && t.service.is_none();
        self.tunnels.values().all(over)
    }
}

/// Who goes on with a tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Client,
    ClientReads,
    Service,
    ServiceReads,
}
