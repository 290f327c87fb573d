//! The controller's adapter in this world.

use std::{collections::BTreeMap, time::Duration};

use controlplane_core::{
    Action, CloseCode, ConnId, Controller, ControllerConfig, Failure, Input, Limits, Machine as _,
    OutFrame, Socket, Start, StreamId, Time,
};

use super::{Event, World, fast::Tap};
use crate::{
    exchange::{Check, Outcome},
    link::{Side, Wire},
    rng::Rng,
    tunnel::Ended,
};

/// The controller and what its adapter keeps.
#[derive(Debug)]
pub(super) struct ControllerHost {
    pub(super) machine: Controller,
    config: ControllerConfig,
    /// It runs.
    pub(super) up: bool,
    /// It was told to stop.
    pub(super) stopping: bool,
    /// The link of each connection.
    pub(super) conns: BTreeMap<ConnId, u64>,
    /// Never used twice, not even by another machine.
    next_conn: u64,
    /// The requests by stream.
    pub(super) streams: BTreeMap<StreamId, u64>,
    /// The tunnels by stream.
    pub(super) tunnels: BTreeMap<StreamId, u64>,
    /// The streams of the fast mode.
    pub(super) fast: BTreeMap<StreamId, u64>,
    pub(super) last_stream: Option<StreamId>,
    /// Requests that failed for a lost connection whose loss was not told yet.
    orphans: usize,
}

impl ControllerHost {
    pub(super) fn new(rng: &mut Rng, config: ControllerConfig) -> Self {
        let start = Start {
            now: Time::ZERO,
            unix: super::UNIX,
            nonce: u128::from(rng.word()).to_le_bytes(),
        };
        Self {
            machine: machine(&config, start),
            config,
            up: true,
            stopping: false,
            conns: BTreeMap::new(),
            next_conn: 0,
            streams: BTreeMap::new(),
            tunnels: BTreeMap::new(),
            fast: BTreeMap::new(),
            last_stream: None,
            orphans: 0,
        }
    }

    pub(super) const fn limits(&self) -> Limits {
        self.config.limits
    }

    pub(super) const fn has_yamux(&self) -> bool {
        self.config.yamux
    }

    /// The streams of the fast mode that it has.
    pub(super) fn fast_numbers(&self) -> Vec<Option<u64>> {
        self.fast.values().copied().map(Some).collect()
    }

    pub(super) const fn closing(&self) -> Duration {
        self.config.periods.closing
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.machine.deadline().filter(|_| self.up)
    }
}

fn machine(config: &ControllerConfig, start: Start) -> Controller {
    match Controller::new(config.clone(), start) {
        Ok(controller) => controller,
        Err(error) => panic!("{error}"),
    }
}

impl World {
    pub(super) fn start_controller(&mut self) -> Check {
        if self.controller.up {
            return Ok(());
        }
        self.count("controller started");
        let start = self.start();
        let host = &mut self.controller;
        host.machine = machine(&host.config, start);
        (host.up, host.stopping) = (true, false);
        host.last_stream = None;
        Ok(())
    }

    /// The controller's process is gone, with all it knew.
    pub(super) fn crash_controller(&mut self) {
        self.controller.up = false;
        let streams = std::mem::take(&mut self.controller.streams);
        for n in streams.into_values() {
            if let Some(exchange) = self.exchanges.get_mut(&n) {
                exchange.client_over(Outcome::HostGone);
            }
        }
        let tunnels: Vec<StreamId> = self.controller.tunnels.keys().copied().collect();
        for id in tunnels {
            self.tunnel_client_over(id, Ended::Client);
        }
        self.fasts_gone(Side::Controller);
        self.tap = None;
        let links: Vec<u64> = self.controller.conns.values().copied().collect();
        for link in links {
            self.abandon(link, Side::Controller);
        }
    }

    pub(super) fn tell_controller(&mut self, input: Input<'_>) -> Check {
        if !self.controller.up {
            return Ok(());
        }
        self.log_input("  > controller", &input);
        self.controller.machine.handle(self.now, input);
        if self.controller.deadline().is_some_and(|at| at <= self.now) {
            return Err("the controller: a timer that is due survived".into());
        }
        Ok(())
    }

    /// The agent's connection arrives.
    pub(super) fn accept(&mut self, link: u64) -> Check {
        let conn = ConnId(self.controller.next_conn);
        self.controller.next_conn += 1;
        if let Some(link) = self.links.get_mut(&link) {
            link.set_conn(Side::Controller, Some(conn));
        }
        self.controller.conns.insert(conn, link);
        self.tell_controller(Input::Accepted(conn))
    }

    pub(super) fn poll_controller(&mut self) -> Result<bool, String> {
        if !self.controller.up {
            return Ok(false);
        }
        let ready = self.controller.conns.iter().filter_map(|(conn, link)| {
            let room = self.links.get(link)?.has_room(Side::Agent);
            room.then_some(Socket::Ready(*conn))
        });
        let sockets: Vec<Socket> = [Socket::Blocked].into_iter().chain(ready).collect();
        for socket in sockets {
            if !self.controller.up {
                break;
            }
            if let Some(action) = self.controller.machine.poll(socket) {
                return self.controller_says(action, socket).map(|()| true);
            }
        }
        if self.controller.orphans > 0 {
            return Err("requests failed as disconnected, and the agent was not lost".into());
        }
        Ok(false)
    }

    fn controller_says(&mut self, action: Action, socket: Socket) -> Check {
        self.log_action("controller", &action);
        let now = self.now.as_duration().as_nanos() as u64;
        match action {
            Action::Close(conn, code, text) => {
                self.note(&[now, 31, conn.0], text.as_bytes());
                self.controller_closes(conn, code)
            }
            Action::Closed(id, close, failure) => {
                let text = format!("{close:?} {failure:?}");
                self.note(&[now, 41, id.0], text.as_bytes());
                self.orphaned(failure.as_ref());
                self.client_closed(id, &close, failure)
            }
            Action::Deliver(id, kind, data) => {
                self.note(&[now, 32, id.0, kind as u64], &data);
                if let Some(n) = self.controller.tunnels.get(&id) {
                    return self.tunnel_answer(*n, kind, &data);
                }
                if let Some(n) = self.fast_of(Side::Controller, id) {
                    return self.fast_data(Side::Controller, id, n, (kind, &data));
                }
                self.client_data(id, kind, &data)
            }
            Action::Discard(id) => {
                self.note(&[now, 42, id.0], b"");
                self.client_discards(id)
            }
            Action::Failed(id, failure) => {
                self.note(&[now, 33, id.0], format!("{failure:?}").as_bytes());
                self.orphaned(Some(&failure));
                if let Some(n) = self.controller.tunnels.get(&id) {
                    return self.tunnel_failed(*n, id, &failure);
                }
                if let Some(n) = self.fast_of(Side::Controller, id) {
                    return self.fast_failed(id, n, &failure);
                }
                self.client_failed(id, failure)
            }
            Action::Finish(id) => {
                self.note(&[now, 34, id.0], b"");
                if let Some(n) = self.controller.tunnels.get(&id) {
                    return self.tunnel_finished(*n, id);
                }
                self.client_finish(id)
            }
            Action::HalfClosed(id) => {
                self.note(&[now, 43, id.0], b"");
                match self.fast_of(Side::Controller, id) {
                    Some(n) => self.fast_half_closed(Side::Controller, id, n),
                    None => Err(format!("the controller half-closes {id:?}, which is over")),
                }
            }
            Action::Over(id) => {
                self.note(&[now, 44, id.0], b"");
                match self.fast_of(Side::Controller, id) {
                    Some(n) => self.fast_over(Side::Controller, id, n),
                    None => Err(format!("the controller ends {id:?} twice")),
                }
            }
            Action::Head(id, head) => {
                self.note(&[now, 35, id.0], format!("{head:?}").as_bytes());
                self.client_head(id, head)
            }
            Action::Joined(conn, joined) => {
                self.note(&[now, 36, conn.0], joined.info.agent_id.as_bytes());
                self.count("joined");
                let Some(link) = self.controller.conns.get(&conn).copied() else {
                    return Err("an agent joined on a connection that is gone".into());
                };
                if joined.yamux && self.tap.as_ref().is_none_or(|tap| tap.conn != conn) {
                    self.count("fast: sessions");
                    self.sessions += 1;
                    self.tap = Some(Tap::new(self.sessions, conn, link));
                }
                Ok(())
            }
            Action::Left(reason) => {
                self.note(&[now, 37], format!("{reason:?}").as_bytes());
                self.count("left");
                self.controller.orphans = 0;
                self.tap = None;
                let fair = !self.weather.is_storm();
                if fair && !self.agent.stopping && !self.controller.stopping {
                    return Err(format!("a sound link ended: {reason}"));
                }
                Ok(())
            }
            Action::Notice(notice) => {
                self.note(&[now, 38], format!("{notice:?}").as_bytes());
                Ok(())
            }
            Action::Send(conn, frame) => self.controller_sends(conn, frame, socket),
            Action::Stopped => {
                self.note(&[now, 39], b"");
                self.controller_stopped()
            }
            Action::Writable(id) => {
                self.note(&[now, 40, id.0], b"");
                if let Some(n) = self.controller.tunnels.get(&id) {
                    return self.tunnel_writable(*n, true);
                }
                if let Some(n) = self.fast_of(Side::Controller, id) {
                    return self.fast_writable(Side::Controller, n);
                }
                self.client_writable(id)
            }
            other => Err(format!(
                "the controller said what only agents say: {other:?}"
            )),
        }
    }

    /// Why a request failed: that the agent is lost has to be told behind it.
    fn orphaned(&mut self, failure: Option<&Failure>) {
        if failure == Some(&Failure::Disconnected) {
            self.controller.orphans += 1;
        }
    }

    fn controller_closes(&mut self, conn: ConnId, code: CloseCode) -> Check {
        self.count("closed by the controller");
        let Some(link) = self.controller.conns.get(&conn).copied() else {
            return Err("the controller closes a connection that it has not".into());
        };
        if code == CloseCode::Superseded {
            self.count("superseded");
        }
        self.transmit(link, Side::Controller, Wire::Close(code as u16));
        self.hang_up(link, Side::Controller);
        Ok(())
    }

    fn controller_sends(&mut self, conn: ConnId, frame: OutFrame, socket: Socket) -> Check {
        if socket != Socket::Ready(conn) {
            return Err("the controller sends on a socket that is not ready".into());
        }
        let Some(link) = self.controller.conns.get(&conn).copied() else {
            return Err("the controller sends without a connection".into());
        };
        let text = match self.wire(frame, Side::Controller)? {
            Wire::Text(text) => text,
            Wire::Binary(data) => {
                self.overhear_yamux(link, Side::Controller, &data)?;
                self.transmit_cut(link, Side::Controller, data);
                return Ok(());
            }
            wire => {
                self.transmit(link, Side::Controller, wire);
                return Ok(());
            }
        };
        self.overhear_controller(&text)?;
        for wire in self.as_others_say(link, text) {
            self.transmit(link, Side::Controller, wire);
        }
        Ok(())
    }

    fn controller_stopped(&mut self) -> Check {
        if !self.controller.stopping {
            return Err("the controller stopped without being told to".into());
        }
        let host = &self.controller;
        if !host.streams.is_empty() || !host.tunnels.is_empty() || !host.fast.is_empty() {
            return Err("the controller stopped, a request goes on".into());
        }
        if !self.controller.conns.is_empty() {
            return Err("the controller stopped, a connection goes on".into());
        }
        self.controller.up = false;
        if !self.calm {
            let delay = self.rng.millis(100, 30_000);
            self.after(delay, Event::Start(Side::Controller));
        }
        Ok(())
    }
}
