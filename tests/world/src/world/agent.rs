//! The agent's adapter in this world.

mod opens;

use std::{collections::BTreeMap, time::Duration};

use controlplane_core::{
    Action, Agent, AgentConfig, At, Cause, ConnId, Input, Limits, Machine as _, Notice, Phase,
    Reason, Socket, Start, StreamId, TRANSITIONS, Time,
};

use super::{Event, World};
use crate::{exchange::Check, link::Side, rng::Rng};

/// A dial under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Dialing {
    pub(super) conn: ConnId,
    /// It is to the gateway.
    pub(super) gateway: bool,
}

/// The agent and what its adapter keeps.
#[derive(Debug)]
pub(super) struct AgentHost {
    pub(super) machine: Agent,
    config: AgentConfig,
    /// Counts its machines, one after the other.
    pub(super) generation: u64,
    /// It runs.
    pub(super) up: bool,
    /// It was told to stop.
    pub(super) stopping: bool,
    pub(super) dialing: Option<Dialing>,
    pub(super) link: Option<u64>,
    /// The link to the gateway, until the other one is closed.
    pub(super) next_link: Option<u64>,
    /// When its link was replaced by another.
    pub(super) moved: Option<Time>,
    pub(super) last_conn: Option<ConnId>,
    /// When it may dial again at the earliest.
    pub(super) next_dial: Time,
    /// It said goodbye before it stopped.
    goodbye: bool,
    /// It stopped out of `Draining`.
    drained: bool,
    /// Requests by stream; `None` for those that nobody in this world asked for.
    pub(super) streams: BTreeMap<StreamId, Option<u64>>,
    /// Tunnels by stream.
    pub(super) tunnels: BTreeMap<StreamId, u64>,
    /// Streams of the fast mode; `None` where their client has not spoken.
    pub(super) fast: BTreeMap<StreamId, Option<u64>>,
    last_stream: Option<StreamId>,
}

impl AgentHost {
    pub(super) fn new(rng: &mut Rng, config: AgentConfig) -> Self {
        let start = Start {
            now: Time::ZERO,
            unix: super::UNIX,
            nonce: u128::from(rng.word()).to_le_bytes(),
        };
        Self {
            machine: machine(&config, start),
            config,
            generation: 0,
            up: true,
            stopping: false,
            dialing: None,
            link: None,
            next_link: None,
            moved: None,
            last_conn: None,
            next_dial: Time::ZERO,
            goodbye: false,
            drained: false,
            streams: BTreeMap::new(),
            tunnels: BTreeMap::new(),
            fast: BTreeMap::new(),
            last_stream: None,
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
        self.fast.values().copied().collect()
    }

    pub(super) const fn closing(&self) -> Duration {
        self.config.periods.closing
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.machine.deadline().filter(|_| self.up)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.up && matches!(self.machine.phase(), Phase::Ready(_))
    }
}

fn machine(config: &AgentConfig, start: Start) -> Agent {
    match Agent::new(config.clone(), start) {
        Ok(agent) => agent,
        Err(error) => panic!("{error}"),
    }
}

impl World {
    pub(super) fn start_agent(&mut self) -> Check {
        if self.agent.up {
            return Ok(());
        }
        self.count("agent started");
        let start = self.start();
        let host = &mut self.agent;
        host.machine = machine(&host.config, start);
        host.generation += 1;
        (host.up, host.stopping) = (true, false);
        (host.goodbye, host.drained) = (false, false);
        (host.dialing, host.link, host.next_link) = (None, None, None);
        (host.last_conn, host.last_stream) = (None, None);
        host.next_dial = self.now;
        host.streams.clear();
        host.tunnels.clear();
        host.fast.clear();
        Ok(())
    }

    /// The agent's process is gone, with all it knew.
    pub(super) fn crash_agent(&mut self) {
        self.agent.up = false;
        self.agent.dialing = None;
        let streams = std::mem::take(&mut self.agent.streams);
        for n in streams.into_values().flatten() {
            if let Some(exchange) = self.exchanges.get_mut(&n) {
                exchange.upstream_gone();
            }
        }
        for n in std::mem::take(&mut self.agent.tunnels).into_values() {
            if let Some(tunnel) = self.tunnels.get_mut(&n) {
                tunnel.service_over();
            }
        }
        self.fasts_gone(Side::Agent);
        for link in [self.agent.link, self.agent.next_link]
            .into_iter()
            .flatten()
        {
            self.abandon(link, Side::Agent);
        }
    }

    pub(super) fn tell_agent(&mut self, input: Input<'_>) -> Check {
        if !self.agent.up {
            return Ok(());
        }
        self.log_input("  > agent", &input);
        let before = self.agent.machine.phase();
        self.agent.machine.handle(self.now, input);
        if self.agent.deadline().is_some_and(|at| at <= self.now) {
            return Err("the agent: a timer that is due survived".into());
        }
        self.observe(before)
    }

    /// Notes the transitions of one call.
    fn observe(&mut self, before: Phase) -> Check {
        let after = self.agent.machine.phase();
        if before == after {
            return Ok(());
        }
        if after.at() == At::Ready && before.at() == At::Ready {
            self.agent.moved = Some(self.now);
            self.count("moved to the gateway");
        }
        let (before, after) = (before.at(), after.at());
        let row = |from: At, to: At| {
            TRANSITIONS
                .iter()
                .position(|(f, _, t)| (*f, *t) == (from, to))
        };
        let rows = match (before, after) {
            // Two rows, told from each other by the goodbye: see `agent_stopped`.
            (At::Draining, At::Stopped) => {
                self.agent.drained = true;
                return Ok(());
            }
            // There was nothing to drain.
            (At::Registering | At::Ready, At::Stopped) => {
                self.agent.drained = true;
                row(before, At::Draining)
            }
            _ => row(before, after),
        };
        let Some(row) = rows else {
            return Err(format!("the agent went from {before:?} to {after:?}"));
        };
        self.report.transitions.insert(row);
        Ok(())
    }

    pub(super) fn poll_agent(&mut self) -> Result<bool, String> {
        if !self.agent.up {
            return Ok(false);
        }
        let ready = self.agent.link.and_then(|id| {
            let link = self.links.get(&id)?;
            link.conn(Side::Agent)
                .filter(|_| link.has_room(Side::Controller))
        });
        let socket = ready.map_or(Socket::Blocked, Socket::Ready);
        let before = self.agent.machine.phase();
        let action = self.agent.machine.poll(socket);
        self.observe(before)?;
        match action {
            Some(action) => self.agent_says(action, socket).map(|()| true),
            None => Ok(false),
        }
    }

    fn agent_says(&mut self, action: Action, socket: Socket) -> Check {
        self.log_action("agent", &action);
        let now = self.now.as_duration().as_nanos() as u64;
        match action {
            Action::Close(conn, code, text) => {
                self.note(&[now, 1, conn.0], text.as_bytes());
                self.agent.goodbye |= text == "the agent is shutting down";
                self.agent_closes(conn, code)
            }
            Action::Closed(id, close, failure) => {
                self.note(&[now, 12, id.0, close.code.into()], close.reason.as_bytes());
                if failure.is_some() {
                    return Err("the agent tells its end of a failure".into());
                }
                self.upstream_told(id, &close)
            }
            Action::Connect(conn, endpoint) => {
                self.note(&[now, 2, conn.0], b"");
                self.agent_dials(conn, &endpoint)
            }
            Action::Deliver(id, kind, data) => {
                self.note(&[now, 3, id.0, kind as u64], &data);
                if let Some(n) = self.agent.tunnels.get(&id) {
                    return self.tunnel_data(*n, kind, &data);
                }
                if let Some(n) = self.fast_of(Side::Agent, id) {
                    return self.fast_data(Side::Agent, id, n, (kind, &data));
                }
                self.upstream_data(id, kind, &data)
            }
            Action::Finish(id) => {
                self.note(&[now, 4, id.0], b"");
                if let Some(n) = self.agent.tunnels.get(&id) {
                    return self.tunnel_told(*n);
                }
                self.upstream_finish(id)
            }
            Action::HalfClosed(id) => {
                self.note(&[now, 16, id.0], b"");
                match self.fast_of(Side::Agent, id) {
                    Some(n) => self.fast_half_closed(Side::Agent, id, n),
                    None => Err(format!("the agent half-closes {id:?}, which is over")),
                }
            }
            Action::Over(id) => {
                self.note(&[now, 17, id.0], b"");
                match self.fast_of(Side::Agent, id) {
                    Some(n) => self.fast_over(Side::Agent, id, n),
                    None => Err(format!("the agent ends {id:?} twice")),
                }
            }
            Action::Notice(notice) => {
                self.note(&[now, 5], format!("{notice:?}").as_bytes());
                self.agent_notes(&notice)
            }
            Action::Open(id, target) => self.agent_opens(id, &target),
            Action::ReconnectAfter { delay, reason, .. } => {
                self.note(&[now, 7], format!("{delay:?} {reason:?}").as_bytes());
                self.agent.next_dial = self.now + delay;
                self.count(match &reason {
                    Reason::Closed { .. } => "link: closed",
                    Reason::DialTimeout => "link: dial timeout",
                    Reason::Idle => "link: idle",
                    Reason::Lost(_) => "link: lost",
                    Reason::Peer(_) => "link: peer's fault",
                    Reason::Refused(_) => "link: refused",
                    Reason::RegisterTimeout => "link: register timeout",
                    Reason::Session(_) => "link: session",
                    Reason::Stalled => "link: stalled",
                    Reason::Superseded => "link: superseded",
                    Reason::Unauthorized(_) => "link: unauthorized",
                    _ => "link: otherwise",
                });
                let granted =
                    matches!(reason, Reason::Refused(_)) && delay > Duration::from_secs(60);
                if granted {
                    self.excused_until = self.excused_until.max(self.now + delay);
                }
                if delay < Duration::from_millis(250) {
                    return Err(format!("the agent comes back after {delay:?} already"));
                }
                Ok(())
            }
            Action::Registered(registration) => {
                self.note(&[now, 8], registration.cluster_id.as_bytes());
                self.count("registered");
                Ok(())
            }
            Action::Reset(id) => {
                self.note(&[now, 9, id.0], b"");
                if let Some(n) = self.agent.tunnels.get(&id) {
                    return self.tunnel_reset(*n, id);
                }
                if let Some(n) = self.fast_of(Side::Agent, id) {
                    return self.fast_reset(id, n);
                }
                self.upstream_reset(id)
            }
            Action::Send(conn, frame) => self.agent_sends(conn, frame, socket),
            Action::Stopped => {
                self.note(&[now, 10], b"");
                self.agent_stopped()
            }
            Action::Writable(id) => {
                self.note(&[now, 11, id.0], b"");
                if let Some(n) = self.agent.tunnels.get(&id) {
                    return self.tunnel_writable(*n, false);
                }
                if let Some(n) = self.fast_of(Side::Agent, id) {
                    return self.fast_writable(Side::Agent, n);
                }
                self.upstream_writable(id)
            }
            other => Err(format!(
                "the agent said what only controllers say: {other:?}"
            )),
        }
    }

    fn agent_notes(&mut self, notice: &Notice) -> Check {
        match notice {
            Notice::Gateway => self.count("at the gateway"),
            Notice::GatewayAway { delay, .. } => {
                self.count("gateway away");
                if *delay > Duration::from_secs(60) {
                    self.excused_until = self.excused_until.max(self.now + *delay);
                }
            }
            Notice::GatewayRefused(fault) => {
                return Err(format!("a gateway that is permitted is refused: {fault}"));
            }
            _ => {}
        }
        Ok(())
    }

    fn agent_stopped(&mut self) -> Check {
        if !self.agent.stopping {
            return Err("the agent stopped without being told to".into());
        }
        let cause = if self.agent.goodbye {
            Cause::Drained
        } else {
            Cause::Lost
        };
        let row = |(from, by, _): &(At, Cause, At)| *from == At::Draining && *by == cause;
        if self.agent.drained {
            let row = TRANSITIONS.iter().position(row);
            self.report.transitions.extend(row);
        }
        let host = &self.agent;
        if !host.streams.is_empty() || !host.tunnels.is_empty() || !host.fast.is_empty() {
            return Err("the agent stopped, a stream goes on".into());
        }
        self.agent.up = false;
        if !self.calm {
            let delay = self.rng.millis(100, 30_000);
            self.after(delay, Event::Start(Side::Agent));
        }
        Ok(())
    }
}
