//! Both machines, connected to each other and registered, with streams of either kind.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::time::Duration;

use bytes::Bytes;
use controlplane_core::{
    Action, Agent, AgentConfig, ConnId, Controller, ControllerConfig, Frame, Input, Kind, Limits,
    Machine, OutFrame, RequestHead, ResponseHead, Socket, Start, StreamId, Time,
};

/// The moment everything happens in.
pub(crate) const NOW: Time = Time::ZERO;
/// The controller's number of the connection.
const ACCEPTED: ConnId = ConnId(1);

/// An agent and a controller that talk to each other.
pub(crate) struct Pair {
    pub(crate) agent: Agent,
    pub(crate) controller: Controller,
    dialled: ConnId,
    /// Streams that the agent was told to open.
    opened: Vec<StreamId>,
}

/// One stream, as either end calls it.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) at_agent: StreamId,
    pub(crate) at_controller: StreamId,
}

/// What a stream is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sort {
    /// A request with a body, and an answer, both in pieces.
    Upload,
    /// A request without a body, and an answer in pieces, such as a watch.
    Watch,
    /// A WebSocket, such as that of `kubectl exec`.
    WebSocket,
}

impl Pair {
    /// Connected and registered, with the limits that both have by default.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same with windows of half this size.
    pub(crate) fn with_queues(recv_stream: usize) -> Self {
        Self::with(|limits| limits.recv_stream = recv_stream)
    }

    fn with(change: impl Fn(&mut Limits)) -> Self {
        let start = Start {
            now: NOW,
            unix: Duration::from_secs(1_795_412_045),
            nonce: [7; 16],
        };
        let mut config = AgentConfig::new("agent-1f2e", "prod");
        change(&mut config.limits);
        let mut agent = Agent::new(config, start).expect("valid");
        let mut config = ControllerConfig::new("c-1", "prod");
        change(&mut config.limits);
        let mut controller = Controller::new(config, start).expect("valid");
        let Some(Action::Connect(dialled, _)) = agent.poll(Socket::Blocked) else {
            panic!("the agent does not dial")
        };
        agent.handle(NOW, Input::Connected(dialled));
        controller.handle(NOW, Input::Accepted(ACCEPTED));
        let mut pair = Self {
            agent,
            controller,
            dialled,
            opened: Vec::new(),
        };
        pair.talk();
        assert!(pair.controller.joined().is_some(), "not registered");
        pair
    }

    /// The agent's end of the connection.
    pub(crate) const fn at_agent(&self) -> ConnId {
        self.dialled
    }

    /// The controller's end of the connection.
    pub(crate) const fn at_controller(&self) -> ConnId {
        ACCEPTED
    }

    /// Carries frames until neither has more to say.
    fn talk(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(action) = self.agent.poll(Socket::Ready(self.dialled)) {
                quiet = false;
                match action {
                    Action::Send(_, frame) => carry(&mut self.controller, ACCEPTED, &frame),
                    Action::Open(id, _) => self.opened.push(id),
                    Action::Deliver(id, _, data) => {
                        self.agent.handle(NOW, Input::Consumed(id, data.len()));
                    }
                    _ => {}
                }
            }
            while let Some(action) = self.controller.poll(Socket::Ready(ACCEPTED)) {
                quiet = false;
                match action {
                    Action::Send(_, frame) => carry(&mut self.agent, self.dialled, &frame),
                    Action::Deliver(id, _, data) => {
                        let taken = Input::Consumed(id, data.len());
                        self.controller.handle(NOW, taken);
                    }
                    _ => {}
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// Opens a stream and lets the answer begin.
    pub(crate) fn open(&mut self, sort: Sort) -> Ends {
        let path = match sort {
            Sort::Upload | Sort::Watch => "/api/v1/namespaces/default/pods",
            Sort::WebSocket => "/api/v1/namespaces/default/pods/web-0/exec",
        };
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        let head = RequestHead {
            method: if sort == Sort::Upload { "POST" } else { "GET" }.into(),
            path: path.into(),
            query: Some("watch=true&command=sh&stdin=true&stdout=true".into()),
            headers: vec![
                pair("Accept", "application/json"),
                pair(
                    "User-Agent",
                    "kubectl/v1.33.1 (linux/amd64) kubernetes/8adc0f0",
                ),
            ],
        };
        let protocol = "v5.channel.k8s.io";
        let at_controller = match sort {
            Sort::WebSocket => self
                .controller
                .open_websocket(NOW, head, vec![protocol.into()]),
            _ => self.controller.open(NOW, head, sort == Sort::Upload),
        };
        let at_controller = at_controller.expect("the agent is there");
        self.talk();
        let at_agent = self.opened.pop().expect("the agent opens the stream");
        let (status, header) = match sort {
            Sort::WebSocket => (101, pair("Sec-WebSocket-Protocol", protocol)),
            _ => (200, pair("Content-Type", "application/json")),
        };
        let headers = vec![header, pair("Date", "Tue, 24 Nov 2026 00:00:00 GMT")];
        let head = ResponseHead { status, headers };
        self.agent.handle(NOW, Input::Head(at_agent, head));
        self.talk();
        Ends {
            at_agent,
            at_controller,
        }
    }

    /// Lets `data` go from the agent to the controller and, where it can, the other way.
    pub(crate) fn speak(&mut self, ends: Ends, sort: Sort, data: &Bytes) {
        let kind = kind_of(sort);
        let sent = self.agent.send(ends.at_agent, kind, data.clone());
        sent.expect("there is room");
        self.talk();
        if sort != Sort::Watch {
            let sent = self.controller.send(ends.at_controller, kind, data.clone());
            sent.expect("there is room");
            self.talk();
        }
    }

    /// Opens many.
    pub(crate) fn open_all(&mut self, sort: Sort, count: usize) -> Vec<Ends> {
        (0..count).map(|_| self.open(sort)).collect()
    }
}

/// What the data of a stream is.
pub(crate) const fn kind_of(sort: Sort) -> Kind {
    match sort {
        Sort::Upload | Sort::Watch => Kind::Bytes,
        Sort::WebSocket => Kind::Binary,
    }
}

fn carry(to: &mut impl Machine, conn: ConnId, frame: &OutFrame) {
    match frame {
        OutFrame::Text(text) => to.handle(NOW, Input::Frame(conn, Frame::Text(text))),
        OutFrame::Binary(bytes) => to.handle(NOW, Input::Frame(conn, Frame::Binary(bytes))),
        _ => {}
    }
}
