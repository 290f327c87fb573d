//! One agent's machine in virtual time, on a network that does what a script says. What the agent
//! does is shown to the model at every step.

use std::{collections::BTreeMap, time::Duration};

use controlplane_core::{
    Action, Agent, AgentConfig, ConnId, Down, Endpoint, Frame, Input, Machine as _, OutFrame,
    Phase, Socket, Start, Time,
};
use serde_json::{Value, json};

use super::{
    model::{Check, Model},
    network::{Answer, Dial, End, Noise, Script, Session, TRIP},
};

/// More steps than any script can need.
const STEPS: usize = 200_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// What is to happen to a connection, if it still is there.
#[derive(Clone, Debug)]
enum Event {
    Connected,
    Down(Down),
    InProgress,
    Answer(Answer),
    Forgotten,
    End(End),
}

/// A connection, or the dial of one.
struct Conn {
    session: Session,
    gateway: bool,
    /// It answers pings.
    talks: bool,
    /// It takes messages.
    takes: bool,
}

pub(super) struct Bench {
    agent: Agent,
    now: Time,
    script: Script,
    model: Model,
    conns: BTreeMap<ConnId, Conn>,
    events: BTreeMap<(Time, u64), (ConnId, Event)>,
    numbered: u64,
    /// A `register` waits for its answer: its connection and id.
    asked: Option<(ConnId, String)>,
    steps: usize,
}

impl Bench {
    pub(super) fn new(script: Script, nonce: [u8; 16]) -> Self {
        let mut config = AgentConfig::new("agent-1", "prod");
        config.gateways = Vec::from([".gw.test".to_string()]);
        config.encrypted = true;
        let start = Start {
            now: Time::ZERO,
            unix: Duration::from_secs(1_795_412_045),
            nonce,
        };
        let model = Model::new(config.backoff, config.periods);
        Self {
            agent: Agent::new(config, start).unwrap(),
            now: Time::ZERO,
            script,
            model,
            conns: BTreeMap::new(),
            events: BTreeMap::new(),
            numbered: 0,
            asked: None,
            steps: 0,
        }
    }

    /// Plays the script to its end, and on a good network until the agent is registered for good;
    /// then it is shut down.
    pub(super) fn run(mut self) -> Check {
        self.drain()?;
        while !self.is_settled() {
            self.step()?;
        }
        self.model.is_allowed_to_stop = true;
        self.agent.handle(self.now, Input::Shutdown(Duration::ZERO));
        self.drain()?;
        match self.agent.phase() {
            Phase::Stopped => Ok(()),
            phase => Err(format!("{phase:?} after the shutdown")),
        }
    }

    fn is_settled(&self) -> bool {
        let link = self.agent.phase().open();
        let for_good = link.and_then(|conn| self.conns.get(&conn));
        let for_good = for_good.is_some_and(|c| {
            let goes_on = matches!(c.session.end, End::Never) && c.session.forgotten.is_none();
            let moves = self.script.names_gateway && !c.gateway;
            goes_on && c.talks && c.takes && !moves
        });
        for_good && matches!(self.agent.phase(), Phase::Ready(_))
    }

    /// Whatever comes next: an event, or one of the agent's deadlines.
    fn step(&mut self) -> Check {
        self.steps += 1;
        if self.steps > STEPS {
            return Err("it does not come to rest".into());
        }
        let due = self.agent.deadline().ok_or("nothing wakes it any more")?;
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        // A deadline goes first, so that each step has one cause.
        if let Some(at) = event.filter(|at| *at < due) {
            self.now = at;
            self.model.now = at;
            let Some((_, (conn, event))) = self.events.pop_first() else {
                return Ok(());
            };
            self.happens(conn, event)?;
        } else {
            self.now = due;
            self.input(Input::Tick)?;
        }
        if self.steps.is_multiple_of(3)
            && let Some(noise) = self.script.noise.pop()
        {
            self.noise(noise)?;
        }
        Ok(())
    }

    fn after(&mut self, span: Duration, conn: ConnId, event: Event) {
        self.numbered += 1;
        self.events
            .insert((self.now + span, self.numbered), (conn, event));
    }

    fn input(&mut self, input: Input<'_>) -> Check {
        self.model.now = self.now;
        self.model.input(&input);
        self.agent.handle(self.now, input);
        self.drain()?;
        if self.agent.deadline().is_none_or(|at| at <= self.now) {
            return Err("no deadline, or one that is past".into());
        }
        self.model.settled(self.agent.phase())
    }

    // ------------------------------------------------------------ what happens

    fn happens(&mut self, conn: ConnId, event: Event) -> Check {
        match event {
            Event::Connected => {
                self.input(Input::Connected(conn))?;
                let gateway = self.conns.get(&conn).is_some_and(|c| c.gateway);
                if gateway && self.agent.phase() == Phase::Ready(conn) {
                    self.lives(conn);
                }
                Ok(())
            }
            Event::Down(down) => self.input(Input::Disconnected(conn, down)),
            Event::InProgress => self.frame(conn, &json!({"type": "register_in_progress"})),
            Event::Answer(answer) => self.answer(conn, answer),
            Event::Forgotten => {
                self.model.forgotten(conn);
                let error =
                    json!({"type": "error", "payload": {"error": "cluster not registered"}});
                self.frame(conn, &error)
            }
            Event::End(end) => self.ends(conn, end),
        }
    }

    fn frame(&mut self, conn: ConnId, frame: &Value) -> Check {
        let text = frame.to_string();
        self.input(Input::Frame(conn, Frame::Text(&text)))
    }

    fn answer(&mut self, conn: ConnId, answer: Answer) -> Check {
        let Some((_, id)) = self.asked.take_if(|(asked, _)| *asked == conn) else {
            return Ok(());
        };
        let success =
            |payload| json!({"type": "register_success", "request_id": id, "payload": payload});
        match answer {
            Answer::Nothing => Ok(()),
            Answer::Refusal => {
                let error = json!({"type": "error", "request_id": id, "payload": {"error": "no"}});
                self.frame(conn, &error)
            }
            Answer::NoCluster => self.frame(conn, &success(json!({}))),
            Answer::Cluster(n) => {
                let named = self.script.names_gateway;
                let gateway = if named { "wss://a.gw.test/ws" } else { "" };
                let cluster = format!("cluster-{n}");
                self.model.cluster = self
                    .model
                    .would_register(conn)
                    .then(|| cluster.clone())
                    .or(self.model.cluster.take());
                let payload = json!({"cluster_id": cluster, "gateway_ws_url": gateway});
                self.frame(conn, &success(payload))?;
                if self.agent.phase() == Phase::Ready(conn) {
                    self.lives(conn);
                }
                Ok(())
            }
        }
    }

    /// The connection is of use from now on, until it ends.
    fn lives(&mut self, conn: ConnId) {
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        let (up, end) = (c.session.up, c.session.end);
        let forgotten = c.session.forgotten.take();
        if let Some(span) = forgotten.filter(|span| *span < up || matches!(end, End::Never)) {
            self.after(span, conn, Event::Forgotten);
        }
        if !matches!(end, End::Never) {
            self.after(up, conn, Event::End(end));
        }
    }

    fn ends(&mut self, conn: ConnId, end: End) -> Check {
        let Some(c) = self.conns.get_mut(&conn) else {
            return Ok(());
        };
        match end {
            End::Silent => c.talks = false,
            End::Stuck => c.takes = false,
            End::Never => {}
            End::Closed(code) => {
                let reason = "so it is".to_string();
                return self.input(Input::Disconnected(conn, Down::Closed { code, reason }));
            }
            End::Lost => return self.input(Input::Disconnected(conn, Down::Lost("cut".into()))),
            End::TooBig => return self.input(Input::Disconnected(conn, Down::TooBig)),
        }
        Ok(())
    }

    fn noise(&mut self, noise: Noise) -> Check {
        match noise {
            Noise::Clock(seconds) => self.input(Input::Clock(Duration::from_secs(seconds))),
            Noise::Tick => self.input(Input::Tick),
            Noise::Backwards => {
                self.agent.handle(Time::ZERO, Input::Tick);
                self.drain()
            }
            Noise::Late(future, what) => {
                let old = self.conns.keys().find(|conn| !self.model.knows(**conn));
                let old = old.copied().unwrap_or(ConnId(0));
                let conn = if future { ConnId(u64::MAX) } else { old };
                let stale = self.agent.stats().stale_inputs;
                let phase = self.agent.phase();
                self.input(match what % 5 {
                    0 => Input::Connected(conn),
                    1 => Input::Disconnected(conn, Down::Lost("late".into())),
                    2 => Input::Disconnected(conn, refused(401)),
                    3 => Input::Alive(conn),
                    _ => Input::Frame(conn, Frame::Text(r#"{"type":"ping"}"#)),
                })?;
                let counted = self.agent.stats().stale_inputs == stale + 1;
                if counted && self.agent.phase() == phase {
                    return Ok(());
                }
                Err(format!("an input about {conn:?} has an effect"))
            }
        }
    }

    // ------------------------------------------------------------ what the agent does

    /// Does what the agent says until it has no more to say.
    fn drain(&mut self) -> Check {
        loop {
            let link = self.agent.phase().open();
            let ready = link.filter(|conn| self.conns.get(conn).is_some_and(|c| c.takes));
            let socket = ready.map_or(Socket::Blocked, Socket::Ready);
            let Some(action) = self.agent.poll(socket) else {
                return Ok(());
            };
            self.model.now = self.now;
            self.model.action(&action)?;
            match action {
                Action::Connect(conn, endpoint) => self.dialled(conn, &endpoint),
                Action::Send(conn, OutFrame::Ping)
                    if self.conns.get(&conn).is_some_and(|c| c.talks) =>
                {
                    self.agent.handle(self.now, Input::Alive(conn));
                }
                Action::Send(conn, OutFrame::Text(text)) => self.sent(conn, &text)?,
                Action::ReconnectAfter { .. } if self.script.controller.is_empty() => {
                    self.model.network_is_good();
                }
                _ => {}
            }
        }
    }

    fn dialled(&mut self, conn: ConnId, endpoint: &Endpoint) {
        let gateway = matches!(endpoint, Endpoint::Gateway(_));
        let fates = match gateway {
            true => &mut self.script.gateway,
            false => &mut self.script.controller,
        };
        let session = match fates.pop_front().unwrap_or_else(Dial::good) {
            Dial::Fails(after, down) => {
                self.after(after, conn, Event::Down(down));
                None
            }
            Dial::Silent => None,
            Dial::Connects(after, session) => {
                self.after(after, conn, Event::Connected);
                Some(session)
            }
        };
        let Dial::Connects(_, unused) = Dial::good() else {
            return;
        };
        let c = Conn {
            session: session.unwrap_or(unused),
            gateway,
            talks: true,
            takes: true,
        };
        self.conns.insert(conn, c);
    }

    fn sent(&mut self, conn: ConnId, text: &str) -> Check {
        let message: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if message["type"] != "register" {
            return Ok(());
        }
        self.model
            .registers(conn, &message["payload"]["cluster_id"])?;
        let id = message["request_id"].as_str().unwrap_or_default();
        self.asked = Some((conn, id.into()));
        let Some(Conn { session, .. }) = self.conns.get(&conn) else {
            return Err(format!("{conn:?} was never dialled"));
        };
        let Session {
            in_progress,
            answer,
            ..
        } = *session;
        for n in 0..in_progress {
            self.after(PATIENCE * (n + 1), conn, Event::InProgress);
        }
        let after = PATIENCE * in_progress + TRIP;
        if !matches!(answer, Answer::Nothing) {
            self.after(after, conn, Event::Answer(answer));
        }
        Ok(())
    }
}

pub(super) const fn refused(status: u16) -> Down {
    Down::Refused {
        status,
        retry_after: None,
    }
}
