//! An agent and a controller with nothing between them.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use controlplane_core::{
    Action, Agent, AgentConfig, Controller, ControllerConfig, Frame, Input, Kind, Machine,
    OutFrame, ResponseHead, Socket, StreamEnd, StreamId, Time, rules::IdentityPolicy,
};
use serde_json::Value;

use super::things::text;
use crate::fuzz::{BUDGET, CONN, START, targets};

/// Time stands still: nothing here waits.
pub(super) const NOW: Time = Time::ZERO;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Agent,
    Controller,
}

pub(super) struct Pair {
    agent: Agent,
    pub(super) controller: Controller,
    pub(super) now: Time,
    /// What each side was told to do for its local ends.
    told: [Vec<Action>; 2],
    pub(super) answers_upgrades: bool,
}

impl Pair {
    /// Registered; what the agent said of itself arrived as it was, but for features that an agent
    /// of the original does not have.
    pub(super) fn new(input: &mut Unstructured<'_>) -> Result<Self> {
        let features: u8 = input.arbitrary()?;
        let mut config = AgentConfig::new("agent-1", text(input, 100)?);
        // What JSON carries; the world has the fast mode.
        config.yamux = false;
        config.policy = IdentityPolicy::Caller;
        config.tunnels = targets();
        config.limits.chunk = [1000, 32 << 10][usize::from(features & 1)];
        config.binary_answers = features & 2 > 0;
        let info = &mut config.info;
        info.region = text(input, 100)?;
        info.hostname = text(input, 100)?;
        info.labels.insert(text(input, 50)?, text(input, 50)?);
        info.metadata.insert(text(input, 50)?, text(input, 50)?);
        info.server_specs.cpu_cores = input.arbitrary()?;
        info.server_specs.os = text(input, 50)?;
        let info = info.clone();
        let mut of_controller = ControllerConfig::new("cluster-1", text(input, 100)?);
        of_controller.limits.chunk = config.limits.chunk;
        // Larger ones a number of JSON does not hold.
        of_controller.workspace_id = Some(input.int_in_range(-(1 << 53)..=1 << 53)?);
        let name = of_controller.name.clone();
        let workspace_id = of_controller.workspace_id;
        let (Ok(agent), Ok(controller)) = (
            Agent::new(config, START),
            Controller::new(of_controller, START),
        ) else {
            panic!("the configuration is refused")
        };
        let mut pair = Self {
            agent,
            controller,
            now: NOW,
            told: [Vec::new(), Vec::new()],
            answers_upgrades: features & 4 == 0,
        };
        pair.agent.handle(NOW, Input::Connected(CONN));
        pair.controller.handle(NOW, Input::Accepted(CONN));
        pair.register(features);
        assert_eq!(pair.controller.joined().map(|j| &j.info), Some(&info));
        let registered = pair.take(Side::Agent).into_iter().find_map(|a| match a {
            Action::Registered(registration) => Some(registration),
            _ => None,
        });
        let Some(registered) = registered else {
            panic!("not registered")
        };
        assert_eq!(registered.cluster_id, "cluster-1");
        assert_eq!(
            (registered.name, registered.workspace_id),
            (name, workspace_id)
        );
        pair.forget();
        Ok(pair)
    }

    /// Passes `register` on, perhaps with fewer features.
    fn register(&mut self, features: u8) {
        while let Some(action) = self.agent.poll(Socket::Ready(CONN)) {
            let Action::Send(_, frame) = action else {
                continue;
            };
            let mut text = match checked(frame) {
                Some(Message::Text(text)) => text,
                _ => continue,
            };
            for (bit, feature) in [
                (4, "upgrade_answer"),
                (8, "supports_streaming"),
                (16, "supports_response_streaming"),
                (32, "response_window"),
            ] {
                if features & bit > 0 {
                    let (yes, no) = (
                        format!("\"{feature}\":true"),
                        format!("\"{feature}\":false"),
                    );
                    text = text.replace(&yes, &no);
                }
            }
            self.controller
                .handle(NOW, Input::Frame(CONN, Frame::Text(&text)));
        }
        self.pump();
    }

    pub(super) fn machine(&mut self, side: Side) -> &mut dyn Machine {
        match side {
            Side::Agent => &mut self.agent,
            Side::Controller => &mut self.controller,
        }
    }

    /// Passes messages on until there are no more.
    pub(super) fn pump(&mut self) {
        let mut quiet = 0;
        for turn in 0..BUDGET {
            let (from, to) = match turn % 2 {
                0 => (Side::Agent, Side::Controller),
                _ => (Side::Controller, Side::Agent),
            };
            let mut said = false;
            while let Some(action) = self.machine(from).poll(Socket::Ready(CONN)) {
                said = true;
                self.act(from, to, action);
            }
            quiet = if said { 0 } else { quiet + 1 };
            if quiet == 2 {
                return;
            }
        }
        panic!("the machines do not come to rest");
    }

    fn act(&mut self, from: Side, to: Side, action: Action) {
        match action {
            Action::Send(_, frame) => match checked(frame) {
                Some(Message::Text(text)) => {
                    let input = Input::Frame(CONN, Frame::Text(&text));
                    self.machine(to).handle(NOW, input);
                }
                Some(Message::Binary(data)) => {
                    let input = Input::Frame(CONN, Frame::Binary(&data));
                    self.machine(to).handle(NOW, input);
                }
                None => {}
            },
            Action::Deliver(id, kind, data) => {
                let len = data.len();
                self.told[from as usize].push(Action::Deliver(id, kind, data));
                self.machine(from).handle(NOW, Input::Consumed(id, len));
            }
            Action::Notice(_) | Action::Writable(_) | Action::Connect(..) => {}
            action => self.told[from as usize].push(action),
        }
    }

    pub(super) fn send(&mut self, from: Side, id: StreamId, kind: Kind, data: &Bytes) {
        let taken = self.machine(from).send(id, kind, data.clone());
        // One that is over takes no more, which shows in what the other end was told.
        drop(taken);
        self.pump();
    }

    pub(super) fn answer(&mut self, id: StreamId, head: ResponseHead) {
        self.agent.handle(NOW, Input::Head(id, head));
        self.pump();
    }

    pub(super) fn ended(&mut self, side: Side, id: StreamId, end: StreamEnd) {
        self.machine(side).handle(NOW, Input::Ended(id, end));
        self.pump();
    }

    /// What a side was told since it was asked last.
    pub(super) fn take(&mut self, side: Side) -> Vec<Action> {
        std::mem::take(&mut self.told[side as usize])
    }

    pub(super) fn forget(&mut self) {
        self.told = [Vec::new(), Vec::new()];
    }

    /// Streams that are open on either side.
    pub(super) fn open(&self) -> (usize, usize) {
        let (agent, controller) = (self.agent.stats(), self.controller.stats());
        (agent.streams_open, controller.streams_open)
    }
}

enum Message {
    Text(String),
    Binary(Bytes),
}

/// What is sent is one line of JSON, or the binary frame of P-039.
fn checked(frame: OutFrame) -> Option<Message> {
    match frame {
        OutFrame::Text(text) => {
            let line = text.strip_suffix('\n').unwrap_or_default();
            assert!(!line.contains('\n'), "not one line");
            let value: Result<Value, _> = serde_json::from_str(line);
            assert!(value.is_ok_and(|v| v.is_object()), "not JSON: {line:?}");
            Some(Message::Text(text))
        }
        OutFrame::Binary(data) => {
            assert!(is_answer(&data), "not a binary answer");
            Some(Message::Binary(data))
        }
        _ => None,
    }
}

fn is_answer(frame: &[u8]) -> bool {
    let parse = || {
        let (len, rest) = frame.split_first_chunk::<2>()?;
        let (id, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
        let (status, rest) = rest.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let (headers, body) = rest.split_at_checked(len)?;
        let headers: Value = serde_json::from_slice(headers).ok()?;
        let status = (200..600).contains(&u32::from_be_bytes(*status));
        let fine = std::str::from_utf8(id).is_ok() && (headers.is_object() || headers.is_null());
        Some(fine && status && body.len() >= 10_240)
    };
    parse().unwrap_or_default()
}
