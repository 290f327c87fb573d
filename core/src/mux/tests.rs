//! The fast mode of both machines, against each other and against peers that lack parts of it.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use bytes::Bytes;

use super::*;
use crate::{
    Action, Agent, AgentConfig, ConnId, Controller, ControllerConfig, Down, Failure, Frame, Input,
    Machine, Notice, OpenError, OutFrame, Reason, SendError, Socket, Start, StreamEnd, Target,
    Transport, Tunnel, rules::MAX_DATAGRAM, yamux::Event,
};

mod counts;
mod datagrams;
mod greeting;
mod leaks;
mod streams;
mod tunnels;

const A: ConnId = ConnId(1);
const C: ConnId = ConnId(7);

/// An agent and a controller, and a connection between them that takes no time.
struct Pair {
    agent: Agent,
    controller: Controller,
    now: Time,
    at_agent: Vec<Action>,
    at_controller: Vec<Action>,
    /// Texts that the agent and the controller said.
    said: Vec<String>,
    /// Nothing is carried.
    cut: bool,
}

fn start() -> Start {
    Start {
        now: Time::ZERO,
        unix: Duration::from_secs(1_795_412_045),
        nonce: [5; 16],
    }
}

impl Pair {
    fn new() -> Self {
        Self::with(|_| {}, |_| {})
    }

    fn with(
        agent: impl FnOnce(&mut AgentConfig),
        controller: impl FnOnce(&mut ControllerConfig),
    ) -> Self {
        let mut config = AgentConfig::new("agent-1f2e", "prod");
        config.tunnels = ["redis.cache:6379".parse().unwrap()].into();
        agent(&mut config);
        let agent = Agent::new(config, start()).unwrap();
        let mut config = ControllerConfig::new("6f1c", "prod");
        controller(&mut config);
        let controller = Controller::new(config, start()).unwrap();
        let mut pair = Self {
            agent,
            controller,
            now: Time::ZERO,
            at_agent: Vec::new(),
            at_controller: Vec::new(),
            said: Vec::new(),
            cut: false,
        };
        assert!(matches!(
            pair.agent.poll(Socket::Blocked),
            Some(Action::Connect(A, _))
        ));
        pair.controller.handle(pair.now, Input::Accepted(C));
        pair.agent.handle(pair.now, Input::Connected(A));
        pair.run();
        pair
    }

    /// Carries messages until nobody has any.
    fn run(&mut self) {
        let mut quiet = false;
        while !quiet {
            quiet = !self.agent_says() & !self.controller_says();
        }
    }

    fn agent_says(&mut self) -> bool {
        let frames = said(&mut self.agent, A, &mut self.at_agent);
        let any = !frames.is_empty();
        for frame in self.carried(frames) {
            if let Some(input) = heard(&frame) {
                self.controller.handle(self.now, Input::Frame(C, input));
            }
            self.note(frame);
        }
        any
    }

    fn controller_says(&mut self) -> bool {
        let frames = said(&mut self.controller, C, &mut self.at_controller);
        let any = !frames.is_empty();
        for frame in self.carried(frames) {
            if let Some(input) = heard(&frame) {
                self.agent.handle(self.now, Input::Frame(A, input));
            }
            self.note(frame);
        }
        any
    }

    /// What arrives of these. Both ends live as long as anything does.
    fn carried(&mut self, mut frames: Vec<OutFrame>) -> Vec<OutFrame> {
        frames.retain(|_| !self.cut);
        if !frames.is_empty() {
            self.agent.handle(self.now, Input::Alive(A));
            self.controller.handle(self.now, Input::Alive(C));
        }
        frames
    }

    fn note(&mut self, frame: OutFrame) {
        if let OutFrame::Text(text) = frame {
            self.said.push(text);
        }
    }

    fn agent_hears(&mut self, input: Input<'_>) {
        self.agent.handle(self.now, input);
        self.run();
    }

    fn controller_hears(&mut self, input: Input<'_>) {
        self.controller.handle(self.now, input);
        self.run();
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.agent.handle(self.now, Input::Tick);
        self.controller.handle(self.now, Input::Tick);
        self.run();
    }

    /// Passes time in steps, so that pings are answered on the way.
    fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        while self.now < until {
            self.pass(Duration::from_secs(1));
        }
    }

    fn joined(&self) -> Option<(bool, bool)> {
        let joined = self.controller.joined()?;
        Some((joined.yamux, joined.http_streams))
    }

    /// A connection to the Kubernetes API, by its id here and there.
    fn http(&mut self) -> (StreamId, StreamId) {
        let id = self.controller.open_http(self.now).unwrap();
        self.run();
        (id, self.opened())
    }

    fn opened(&mut self) -> StreamId {
        let open = self.at_agent.iter().rev().find_map(|action| match action {
            Action::Open(id, _) => Some(*id),
            _ => None,
        });
        open.unwrap()
    }

    /// What happened to a stream at the agent since the last look.
    fn agent_events(&mut self, id: StreamId) -> Vec<Action> {
        of(&mut self.at_agent, id)
    }

    fn controller_events(&mut self, id: StreamId) -> Vec<Action> {
        of(&mut self.at_controller, id)
    }
}

/// All that a machine sends now; what else it does is kept.
fn said(machine: &mut impl Machine, conn: ConnId, actions: &mut Vec<Action>) -> Vec<OutFrame> {
    let mut frames = Vec::new();
    while let Some(action) = machine.poll(Socket::Ready(conn)) {
        match action {
            Action::Send(_, frame) => frames.push(frame),
            action => actions.push(action),
        }
    }
    frames
}

fn heard(frame: &OutFrame) -> Option<Frame<'_>> {
    match frame {
        OutFrame::Text(text) => Some(Frame::Text(text)),
        OutFrame::Binary(bytes) => Some(Frame::Binary(bytes)),
        OutFrame::Ping => None,
    }
}

fn of(actions: &mut Vec<Action>, id: StreamId) -> Vec<Action> {
    let concerns = |action: &mut Action| {
        matches!(action,
            Action::Deliver(it, ..) | Action::HalfClosed(it) | Action::Over(it)
            | Action::Reset(it) | Action::Writable(it) | Action::Failed(it, _) if *it == id)
    };
    actions.extract_if(.., concerns).collect()
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}
