//! What only the agent's loop does: it dials, runs handlers, and tells how the link stands.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use controlplane_core::{
    Action, Agent as Machine, ConnId, Down, Endpoint, HeartbeatStatus, Input, Machine as _, Notice,
    PeerFault, Phase, Reason, StreamId, Target, Time, Transport,
};
use futures_util::{FutureExt, future::abortable};
use tokio::sync::watch;

use super::{State, relay};
use crate::{
    body::Piece,
    dial::Dial,
    ends::Ends,
    front,
    handler::{Body, BoxFuture, Request, Responder, SharedHandler},
    links::Links,
    meter::Meter,
    run::{Origin, Side},
    runtime::Runtime,
    tunnel::{TunnelReader, TunnelWriter},
    websocket::{MessageReader, WebSocketRequest, WebSocketResponder},
};

#[derive(Debug)]
pub(super) enum Command {
    Shutdown(Duration),
    Status(HeartbeatStatus),
}

type Dialed<R> = Result<(<R as Runtime>::Socket, Meter), Down>;

struct Dialing<R: Runtime> {
    conn: ConnId,
    /// Where nobody is asked to register.
    gateway: bool,
    outcome: BoxFuture<'static, Dialed<R>>,
}

pub(super) struct AgentSide<R: Runtime> {
    runtime: R,
    origin: Origin,
    dial: Dial,
    dialing: Option<Dialing<R>>,
    /// Scheme, host and path of the gateway that was dialled last, for logs.
    gateway: String,
    handler: SharedHandler,
    state: watch::Sender<State>,
    /// It shuts down: connections are to end with the answer that is under way.
    leaving: watch::Sender<bool>,
}

impl<R: Runtime> AgentSide<R> {
    pub(super) fn new(
        runtime: R,
        origin: Origin,
        dial: Dial,
        handler: SharedHandler,
        state: watch::Sender<State>,
    ) -> Self {
        Self {
            runtime,
            origin,
            dial,
            dialing: None,
            gateway: String::new(),
            handler,
            state,
            leaving: watch::channel(false).0,
        }
    }

    fn open(&mut self, id: StreamId, target: Target, ends: &mut Ends) {
        if let Target::Tcp { host, port, .. } | Target::Udp { host, port } = &target {
            tracing::debug!(stream = id.0, host, port, "a tunnel is opened");
        }
        let handler = self.handler.clone();
        let answer: BoxFuture<'static, ()> = match target {
            Target::Http {
                head,
                credentials,
                streams,
            } => {
                let (flow, inflow) = ends.open(id, false);
                let request = Request {
                    head,
                    credentials,
                    body: Body::json(flow, streams),
                };
                let responder = Responder::json(inflow);
                Box::pin(async move { handler.handle(request, responder).await })
            }
            Target::WebSocket {
                head,
                protocols,
                credentials,
            } => {
                let (flow, inflow) = ends.open(id, true);
                let request = WebSocketRequest {
                    head,
                    protocols,
                    credentials,
                    messages: MessageReader::new(flow),
                };
                let responder = WebSocketResponder::new(inflow);
                Box::pin(async move { handler.open(request, responder).await })
            }
            Target::Http1(gate) => {
                let io = ends.open_duplex(id);
                let leaving = self.leaving.subscribe();
                let runtime = self.runtime.clone();
                Box::pin(front::serve_until(runtime, io, gate, handler, leaving))
            }
            Target::Tcp {
                host,
                port,
                half_close: true,
            } => {
                let io = ends.open_duplex(id);
                Box::pin(relay::stream(self.runtime.clone(), (host, port), io))
            }
            Target::Tcp { host, port, .. } => {
                let (reader, writer) = tunnel(ends, id, Transport::Tcp);
                let to = (host, port);
                Box::pin(relay::tcp(self.runtime.clone(), to, reader, writer))
            }
            Target::Udp { host, port } => {
                let (reader, writer) = tunnel(ends, id, Transport::Udp);
                let to = (host, port);
                Box::pin(relay::udp(self.runtime.clone(), to, reader, writer))
            }
            _ => return,
        };
        // A handler that panics has dropped its responder, which tells the controller.
        let answer = AssertUnwindSafe(answer).catch_unwind();
        let (task, handle) = abortable(answer);
        ends.bind(id, handle);
        self.runtime.spawn(async move {
            if let Ok(Err(_)) = task.await {
                tracing::error!(stream = id.0, "the handler of a request panicked");
            }
        });
    }

    fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    /// States that no action announces.
    fn follow(&self, phase: Phase) {
        match phase {
            Phase::Dialing(_) => self.set(State::Connecting),
            Phase::Registering(_) => self.set(State::Registering),
            Phase::Draining(_) => self.set(State::Draining),
            Phase::Ready(_) | Phase::Waiting | Phase::Stopped => {}
        }
    }

    fn connect(&mut self, conn: ConnId, to: Endpoint) {
        let gateway = matches!(to, Endpoint::Gateway(_));
        if let Endpoint::Gateway(url) = &to {
            // What follows may be a secret of the peer's.
            let end = url.find(['?', '#']).unwrap_or(url.len());
            self.gateway = url.get(..end).unwrap_or_default().into();
        }
        let dial = self.dial.clone().run(self.runtime.clone(), to);
        self.dialing = Some(Dialing {
            conn,
            gateway,
            outcome: Box::pin(dial),
        });
    }

    fn waiting(&self, now: Time, delay: Duration, attempt: u32, reason: Reason) {
        let until = self.origin.instant(now + delay);
        let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(%reason, retry_in_ms = ms, attempt, "no connection to the controller");
        self.set(State::Waiting {
            until: until.unwrap_or_else(|| self.runtime.now()),
            attempt,
            reason,
        });
    }

    /// Texts of the peer are escaped.
    fn note(&self, notice: &Notice) {
        let gateway = &self.gateway;
        match notice {
            Notice::PeerError(text) => tracing::warn!(?text, "the controller reports an error"),
            Notice::UnknownType(name) => {
                tracing::info!(?name, "a message of an unknown type was skipped");
            }
            Notice::Tolerated(stream, fault) => {
                let stream = stream.map(|s| s.0);
                tracing::warn!(stream, %fault, "the controller broke the protocol");
            }
            Notice::RegisterInProgress => tracing::info!("the controller is still registering us"),
            Notice::Gateway => {
                tracing::info!(gateway, "working for the gateway that the controller named");
            }
            Notice::GatewayAway { delay, reason } => {
                let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(
                    gateway, %reason, retry_in_ms = ms,
                    "the gateway cannot be reached: staying with the controller"
                );
            }
            Notice::GatewayRefused(PeerFault::NotPermitted) => tracing::warn!(
                "the controller names a gateway that is not permitted (--allow-gateway): it is \
                 not dialled"
            ),
            Notice::GatewayRefused(fault) => {
                tracing::warn!(%fault, "the gateway that the controller names is not dialled");
            }
            Notice::HeartbeatsUnanswered => {
                tracing::warn!("the controller has stopped acknowledging heartbeats");
            }
            Notice::Reregister => {
                tracing::warn!("the controller does not know us: registering again");
            }
            _ => {}
        }
    }
}

fn tunnel(ends: &mut Ends, id: StreamId, transport: Transport) -> (TunnelReader, TunnelWriter) {
    let (flow, inflow) = ends.open(id, true);
    let writer = TunnelWriter::new(inflow, transport);
    (TunnelReader::new(flow), writer)
}

impl<R: Runtime> Side for AgentSide<R> {
    type Runtime = R;
    type Machine = Machine;
    type Command = Command;
    const ENDED_IS_LAST: bool = true;

    fn act(&mut self, action: Action, machine: &Machine, ends: &mut Ends) {
        match action {
            Action::Close(conn, ..) => {
                // A dial that was given up.
                self.dialing.take_if(|dialing| dialing.conn == conn);
            }
            Action::Connect(conn, to) => {
                self.connect(conn, to);
                self.follow(machine.phase());
            }
            Action::Finish(id) => ends.hand(id, Piece::End),
            Action::Notice(notice) => {
                self.note(&notice);
                self.follow(machine.phase());
            }
            Action::Open(id, target) => self.open(id, target, ends),
            Action::ReconnectAfter {
                delay,
                attempt,
                reason,
            } => {
                let now = self.runtime.now();
                let now = Time::since_origin(self.origin.since(now));
                self.waiting(now, delay, attempt, reason);
            }
            Action::Registered(registration) => {
                tracing::debug!(cluster_id = ?registration.cluster_id, "registered");
                self.set(State::Registered(registration));
            }
            Action::Stopped => self.set(State::Stopped),
            _ => {}
        }
    }

    fn command(
        &mut self,
        command: Command,
        machine: &mut Machine,
        now: Time,
        _: &mut Ends,
        _: &mut Links,
    ) {
        let input = match command {
            Command::Shutdown(grace) => {
                self.leaving.send_replace(true);
                Input::Shutdown(grace)
            }
            Command::Status(status) => Input::Status(status),
        };
        machine.handle(now, input);
        self.follow(machine.phase());
    }

    fn poll(&mut self, cx: &mut Context<'_>, links: &mut Links) -> Option<Input<'static>> {
        let dialing = self.dialing.as_mut()?;
        let (conn, gateway) = (dialing.conn, dialing.gateway);
        let Poll::Ready(outcome) = dialing.outcome.as_mut().poll(cx) else {
            return None;
        };
        self.dialing = None;
        Some(match outcome {
            Ok((socket, meter)) => {
                links.add(conn, Box::pin(socket) as Pin<Box<_>>, meter);
                if !gateway {
                    self.set(State::Registering);
                }
                Input::Connected(conn)
            }
            Err(down) => Input::Disconnected(conn, down),
        })
    }
}
