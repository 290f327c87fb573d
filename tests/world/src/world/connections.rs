//! Connections between the two hosts: dialled, written to, read from, hung up.

use std::time::Duration;

use controlplane_core::{CloseCode, ConnId, Down, Frame, Input, OutFrame, Socket};

use super::{Event, World};
use crate::{
    exchange::Check,
    link::{Link, Side, Wire},
};

impl World {
    pub(super) fn agent_dials(&mut self, conn: ConnId) -> Check {
        self.count("dials");
        let host = &mut self.agent;
        if host.link.is_some() || host.dialing.is_some() {
            return Err("the agent has two connections at once".into());
        }
        if host.last_conn.is_some_and(|last| conn <= last) {
            return Err("the agent used a connection's id again".into());
        }
        if self.now < host.next_dial {
            return Err("the agent dials earlier than it said".into());
        }
        host.last_conn = Some(conn);
        host.dialing = Some(conn);
        let generation = host.generation;
        let hangs = self.rng.chance(40) && self.weather.is_storm() && !self.calm;
        if !hangs {
            let delay = self.rng.millis(1, 1500);
            self.after(delay, Event::Dialed(generation, conn));
        }
        Ok(())
    }

    pub(super) fn dialed(&mut self, generation: u64, conn: ConnId) -> Check {
        if self.agent.generation != generation || self.agent.dialing != Some(conn) {
            return Ok(());
        }
        self.agent.dialing = None;
        let rough = self.weather.is_storm() && !self.calm;
        let refused = |status, retry_after| Down::Refused {
            status,
            retry_after,
        };
        let admitted = self.controller.machine.admit(self.now);
        let down = if !self.controller.up || self.controller.stopping {
            Some(Down::Lost("connection refused".into()))
        } else if let Err(left) = admitted {
            self.count("not admitted");
            Some(refused(409, Some(left)))
        } else if !rough {
            None
        } else {
            match self.rng.below(20) {
                0 | 1 => Some(Down::Lost("no route".into())),
                2 => Some(refused(401, None)),
                3 => Some(refused(503, Some(self.rng.millis(0, 30_000)))),
                4 if self.rng.chance(100) => Some(refused(429, Some(Duration::MAX))),
                _ => None,
            }
        };
        if let Some(down) = down {
            return self.tell_agent(Input::Disconnected(conn, down));
        }
        let latency = self.rng.millis(1, 200);
        let per_byte = Duration::from_nanos(self.rng.within(10, 3000));
        let most = if self.rng.chance(300) { 3000 } else { 64_000 };
        let window = self.rng.len(500, most);
        let id = self.next_link;
        self.next_link += 1;
        let link = Link::new(conn, latency, per_byte, window);
        self.links.insert(id, link);
        self.agent.link = Some(id);
        if rough && self.rng.chance(80) {
            // Of the two directions, one works.
            self.hold_side(id, Side::Controller);
        }
        self.accept(id)?;
        self.tell_agent(Input::Connected(conn))
    }

    pub(super) fn agent_closes(&mut self, conn: ConnId, code: CloseCode) -> Check {
        self.count("closed by the agent");
        if self.agent.dialing.take_if(|dial| *dial == conn).is_some() {
            return Ok(());
        }
        let link = self.agent.link.filter(|id| {
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
        let wire = self.wire(frame)?;
        let wire = match wire {
            Wire::Text(text) => Wire::Text(self.overhear_agent(text)?),
            wire => wire,
        };
        self.transmit(link, Side::Agent, wire);
        Ok(())
    }

    /// A message as it travels.
    pub(super) fn wire(&mut self, frame: OutFrame) -> Result<Wire, String> {
        let now = self.now.as_duration().as_nanos() as u64;
        match frame {
            OutFrame::Ping => {
                self.trace(&[now, 20], b"");
                Ok(Wire::Ping)
            }
            OutFrame::Text(text) => {
                self.trace(&[now, 21], text.as_bytes());
                let limit = self
                    .agent
                    .limits()
                    .frame
                    .min(self.controller.limits().frame);
                if text.len() > limit {
                    return Err(format!("a message of {} bytes", text.len()));
                }
                Ok(Wire::Text(text))
            }
            other => Err(format!("an unexpected message: {other:?}")),
        }
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
            Wire::Pong => self.tell(to, Input::Alive(conn)),
            Wire::Text(text) if self.rng.chance(20) => {
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
            (Side::Agent, Some(_)) => self.agent.link = None,
            (Side::Controller, Some(conn)) => {
                self.controller.conns.remove(&conn);
            }
            (_, None) => {}
        }
    }
}
