//! Connections between the two hosts: dialled, written to, read from, hung up.

use std::time::Duration;

use controlplane_core::{
    Backoff, CloseCode, ConnId, Down, Endpoint, Frame, Input, OutFrame, Socket,
};

use super::{Event, World, agent::Dialing, fast::is_yamux};
use crate::{
    exchange::Check,
    link::{Link, Side, Wire},
};

impl World {
    pub(super) fn agent_dials(&mut self, conn: ConnId, endpoint: &Endpoint) -> Check {
        self.count("dials");
        let gateway = match endpoint {
            Endpoint::Controller => false,
            Endpoint::Gateway(url) => {
                self.count("dials of the gateway");
                let known = url.starts_with("wss://gw.example/ws?");
                if !known || !url.contains("&cluster_uuid=cluster-1&") {
                    return Err(format!("a gateway that nobody named: {url}"));
                }
                true
            }
        };
        let host = &mut self.agent;
        // Beside its link it dials nothing but the gateway (P-180).
        if host.dialing.is_some() || (host.link.is_some() && !gateway) {
            return Err("the agent has two connections at once".into());
        }
        if host.last_conn.is_some_and(|last| conn <= last) {
            return Err("the agent used a connection's id again".into());
        }
        if host.link.is_none() && self.now < host.next_dial {
            return Err("the agent dials earlier than it said".into());
        }
        host.last_conn = Some(conn);
        host.dialing = Some(Dialing { conn, gateway });
        let generation = host.generation;
        let hangs = self.rng.chance(40) && self.weather.is_storm() && !self.calm;
        if !hangs {
            let delay = self.rng.millis(1, 1500);
            self.after(delay, Event::Dialed(generation, conn));
        }
        Ok(())
    }

    pub(super) fn dialed(&mut self, generation: u64, conn: ConnId) -> Check {
        let host = &mut self.agent;
        let known = host.generation == generation;
        let dialing = host.dialing.take_if(|dial| known && dial.conn == conn);
        let Some(Dialing { gateway, .. }) = dialing else {
            return Ok(());
        };
        if let Some(down) = self.dial_fails(gateway) {
            if gateway {
                self.gateway_asks(&down);
            }
            return self.tell_agent(Input::Disconnected(conn, down));
        }
        let rough = self.weather.is_storm() && !self.calm;
        let id = self.new_link(conn);
        match self.agent.link {
            None => self.agent.link = Some(id),
            Some(_) => self.agent.next_link = Some(id),
        }
        if rough && self.rng.chance(80) {
            // Of the two directions, one works.
            self.hold_side(id, Side::Controller);
        }
        self.accept(id)?;
        if gateway {
            // It knows from the URL who comes (P-009).
            self.registers_for_agent(id)?;
        }
        self.tell_agent(Input::Connected(conn))
    }

    /// What a gateway asks for holds for it, also where the controller is dialled first.
    fn gateway_asks(&mut self, down: &Down) {
        let Down::Refused { retry_after, .. } = down else {
            return;
        };
        if let Some(asked) = retry_after.filter(|asked| *asked > Duration::from_secs(60)) {
            let asked = asked.min(Backoff::default().retry_after_max);
            let longest = asked + asked / 2;
            self.excused_until = self.excused_until.max(self.now + longest);
        }
    }

    fn dial_fails(&mut self, gateway: bool) -> Option<Down> {
        let rough = self.weather.is_storm() && !self.calm;
        let refused = |status, retry_after| {
            Some(Down::Refused {
                status,
                retry_after,
            })
        };
        if !self.controller.up || self.controller.stopping {
            return Some(Down::Lost("connection refused".into()));
        }
        if let Err(left) = self.controller.machine.admit(self.now)
            && !gateway
        {
            self.count("not admitted");
            return refused(409, Some(left));
        }
        if !rough {
            return None;
        }
        match self.rng.below(20) {
            0 | 1 => Some(Down::Lost("no route".into())),
            2 => refused(401, None),
            3 => {
                let retry_after = self.rng.millis(0, 30_000);
                refused(503, Some(retry_after))
            }
            4 if self.rng.chance(100) => refused(429, Some(Duration::MAX)),
            _ => None,
        }
    }

    /// A connection that its dialler calls so.
    pub(super) fn new_link(&mut self, conn: ConnId) -> u64 {
        let latency = self.rng.millis(1, 200);
        let per_byte = Duration::from_nanos(self.rng.within(10, 3000));
        let most = if self.rng.chance(300) { 3000 } else { 64_000 };
        let window = self.rng.len(500, most);
        let id = self.next_link;
        self.next_link += 1;
        let link = Link::new(conn, latency, per_byte, window);
        self.links.insert(id, link);
        id
    }

    pub(super) fn agent_closes(&mut self, conn: ConnId, code: CloseCode) -> Check {
        self.count("closed by the agent");
        let dial = self.agent.dialing.take_if(|dial| dial.conn == conn);
        if dial.is_some() {
            return Ok(());
        }
        let links = [self.agent.link, self.agent.next_link];
        let link = links.into_iter().flatten().find(|id| {
            let link = self.links.get(id);
            link.is_some_and(|link| link.conn(Side::Agent) == Some(conn))
        });
        let Some(link) = link else {
            return Err("the agent closes a connection that it has not".into());
        };
        self.transmit(link, Side::Agent, Wire::Close(code as u16));
        self.hang_up(link, Side::Agent);
        Ok(())
    }

    pub(super) fn agent_sends(&mut self, conn: ConnId, frame: OutFrame, socket: Socket) -> Check {
        if socket != Socket::Ready(conn) {
            return Err("the agent sends on a socket that is not ready".into());
        }
        let Some(link) = self.agent.link else {
            return Err("the agent sends without a connection".into());
        };
        let wire = match self.wire(frame, Side::Agent)? {
            Wire::Text(text) => Wire::Text(self.overhear_agent(text)?),
            Wire::Binary(data) if is_yamux(&data) => {
                self.overhear_yamux(link, Side::Agent, &data)?;
                self.transmit_cut(link, Side::Agent, data);
                return Ok(());
            }
            Wire::Binary(data) => Wire::Binary(self.overhear_answer(data)?),
            wire => wire,
        };
        self.transmit(link, Side::Agent, wire);
        Ok(())
    }

    /// A message as it travels.
    pub(super) fn wire(&mut self, frame: OutFrame, from: Side) -> Result<Wire, String> {
        let now = self.now.as_duration().as_nanos() as u64;
        let (wire, len) = match frame {
            OutFrame::Ping => {
                self.note(&[now, 20], b"");
                (Wire::Ping, 0)
            }
            OutFrame::Text(text) => {
                self.note(&[now, 21], text.as_bytes());
                let len = text.len();
                (Wire::Text(text), len)
            }
            OutFrame::Binary(data) if from == Side::Agent || is_yamux(&data) => {
                self.note(&[now, 22], &data);
                if !is_yamux(&data) {
                    self.count("binary answers");
                }
                let len = data.len();
                (Wire::Binary(data.into()), len)
            }
            other => return Err(format!("an unexpected message: {other:?}")),
        };
        let limits = [self.agent.limits(), self.controller.limits()];
        if limits.iter().any(|limits| len > limits.frame) {
            return Err(format!("a message of {len} bytes"));
        }
        Ok(wire)
    }

    /// Hands a message to the machine that it is for.
    pub(super) fn deliver(&mut self, link: u64, to: Side, conn: ConnId, wire: Wire) -> Check {
        if self.rng.chance(30) {
            self.tell(to, Input::Alive(conn))?;
        }
        match wire {
            Wire::Binary(data) => self.tell(to, Input::Frame(conn, Frame::Binary(&data))),
            Wire::Close(code) => {
                self.hang_up(link, to);
                let reason = String::new();
                self.tell(to, Input::Disconnected(conn, Down::Closed { code, reason }))
            }
            Wire::Ping => {
                self.transmit(link, to, Wire::Pong);
                self.tell(to, Input::Alive(conn))
            }
            Wire::Pong => self.tell(to, Input::Pong(conn)),
            Wire::Text(text) if !self.is_fast() && self.rng.chance(20) => {
                self.tell(to, Input::Frame(conn, Frame::Binary(text.as_bytes())))
            }
            Wire::Text(text) => self.tell(to, Input::Frame(conn, Frame::Text(&text))),
        }
    }

    /// Puts a message of `from` under way.
    pub(super) fn transmit(&mut self, link: u64, from: Side, wire: Wire) {
        let wires = match &mut self.tamperer {
            Some(tamperer) => tamperer.pass(from, wire),
            None => [wire].into(),
        };
        let to = from.other();
        for wire in wires {
            if let Some(l) = self.links.get_mut(&link) {
                let at = l.send(self.now, to, wire);
                self.at(at, Event::Arrive(link, to));
            }
        }
    }

    /// The same with bytes of yamux, whose boundaries mean nothing.
    pub(super) fn transmit_cut(&mut self, link: u64, from: Side, mut data: Vec<u8>) {
        if data.len() > 1 && self.rng.chance(50) {
            let at = self.rng.len(1, data.len() - 1);
            let rest = data.split_off(at);
            self.transmit(link, from, Wire::Binary(data));
            data = rest;
        }
        self.transmit(link, from, Wire::Binary(data));
    }

    pub(super) fn arrive(&mut self, id: u64, to: Side) -> Check {
        loop {
            let Some(link) = self.links.get_mut(&id) else {
                return Ok(());
            };
            let wire = match link.arrive(self.now, to) {
                Ok(wire) => wire,
                Err(None) => return Ok(()),
                Err(Some(at)) => {
                    self.at(at, Event::Arrive(id, to));
                    return Ok(());
                }
            };
            if let Some(conn) = link.conn(to.other()) {
                self.tell(to.other(), Input::Wrote(conn))?;
            }
            let receiver = self.links.get(&id).and_then(|link| link.conn(to));
            let last = self.last_word(to, &wire);
            if let Some(conn) = receiver {
                self.deliver(id, to, conn, wire)?;
            }
            self.settle()?;
            if let (Some(n), Some(_)) = (last, receiver) {
                self.waits_no_more(n)?;
            }
        }
    }

    pub(super) fn told(&mut self, id: u64, side: Side) -> Check {
        let Some(link) = self.links.get_mut(&id) else {
            return Ok(());
        };
        let Some(conn) = link.conn(side) else {
            return Ok(());
        };
        // The beginning of a message may have come through.
        let busy = link.is_busy(side);
        self.hang_up(id, side);
        if busy {
            self.tell(side, Input::Alive(conn))?;
        }
        let down = controlplane_core::Down::Lost("cut".into());
        self.tell(side, Input::Disconnected(conn, down))
    }

    /// `side` has the socket no longer.
    pub(super) fn hang_up(&mut self, id: u64, side: Side) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let conn = link.conn(side);
        link.set_conn(side, None);
        if Side::BOTH.iter().all(|side| link.conn(*side).is_none()) {
            self.links.remove(&id);
        }
        match (side, conn) {
            (Side::Agent, Some(_)) if self.agent.link == Some(id) => {
                self.agent.link = self.agent.next_link.take();
            }
            (Side::Agent, Some(_)) => self.agent.next_link = None,
            (Side::Controller, Some(conn)) => {
                self.controller.conns.remove(&conn);
            }
            (_, None) => {}
        }
    }
}
