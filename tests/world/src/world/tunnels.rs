//! The clients and the services of tunnels.

mod service;

use std::time::Duration;

use controlplane_core::{
    Failure, Input, Kind, Machine as _, OpenError, SendError, StreamEnd, StreamId,
};

use super::{Event, World, clients::same};
use crate::{
    content::Way,
    exchange::Check,
    plan::Manners,
    tunnel::{Ended, PORTS, Plan, Tunnel},
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
