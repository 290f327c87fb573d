//! What only the controller's loop does: it takes connections in and opens requests.

use std::{sync::Arc, task::Context, time::Duration};

use controlplane_core::{
    Action, ConnId, Controller as Machine, Down, Input, Joined, Machine as _, Notice, OpenError,
    Reason, RequestHead, Time, Tunnel, rules::IdentityPolicy,
};
use futures_channel::oneshot;
use tokio::sync::watch;

use super::{Answer, RequestBody, client::Dialled};
use crate::{
    body::Piece,
    ends::{Ends, Shape},
    links::{BoxSocket, Links},
    meter::Meter,
    run::Side,
    runtime::Runtime,
    tunnel::{TunnelReader, TunnelWriter},
    websocket::Upgrade,
};

pub(super) type Opened = Result<(RequestBody, Answer), OpenError>;

/// A tunnel's two ends.
pub(super) type Tunneled = Result<(TunnelReader, TunnelWriter), OpenError>;

pub(super) enum Command {
    Accept(BoxSocket, Meter),
    Admit(oneshot::Sender<Result<(), Duration>>),
    Cut,
    /// A connection for HTTP, to an agent with this policy where one is given.
    Http(Option<IdentityPolicy>, oneshot::Sender<Dialled>),
    Open(RequestHead, Option<IdentityPolicy>, Opening),
    Shutdown(Duration),
    Tunnel(Box<Tunnel>, oneshot::Sender<Tunneled>),
}

/// What is opened, and who waits for it. Who has gone meanwhile drops what was opened, which gives
/// it up.
pub(super) enum Opening {
    /// With whether it has a body.
    Request(bool, oneshot::Sender<Opened>),
    /// With the subprotocols it offers.
    WebSocket(Vec<String>, oneshot::Sender<Result<Upgrade, OpenError>>),
}

impl Opening {
    fn refuse(self, error: OpenError) {
        match self {
            Self::Request(_, reply) => drop(reply.send(Err(error))),
            Self::WebSocket(_, reply) => drop(reply.send(Err(error))),
        }
    }

    fn open(self, machine: &mut Machine, now: Time, head: RequestHead, ends: &mut Ends) {
        match self {
            Self::Request(has_body, reply) => {
                let opened = machine.open(now, head, has_body).map(|id| {
                    let (flow, mut inflow) = ends.open(id, false);
                    inflow.over = !has_body;
                    (RequestBody::json(inflow), Answer::json(flow))
                });
                drop(reply.send(opened));
            }
            Self::WebSocket(protocols, reply) => {
                let opened = machine.open_websocket(now, head, protocols).map(|id| {
                    let (flow, inflow) = ends.open(id, true);
                    Upgrade::new(flow, inflow)
                });
                drop(reply.send(opened));
            }
        }
    }
}

pub(super) struct HubSide<R> {
    runtime: std::marker::PhantomData<R>,
    /// Of the cluster, for logs.
    name: String,
    joined: watch::Sender<Option<Arc<Joined>>>,
    conns: u64,
}

impl<R> HubSide<R> {
    pub(super) fn new(name: String, joined: watch::Sender<Option<Arc<Joined>>>) -> Self {
        Self {
            runtime: std::marker::PhantomData,
            name,
            joined,
            conns: 0,
        }
    }

    fn http(
        &self,
        policy: Option<IdentityPolicy>,
        machine: &mut Machine,
        now: Time,
        ends: &mut Ends,
    ) -> Dialled {
        if !has_policy(machine, policy) {
            return Err(OpenError::Policy);
        }
        let joined = self.joined.borrow().clone().ok_or(OpenError::Away)?;
        let id = machine.open_http(now)?;
        Ok((ends.open_duplex(id), joined))
    }

    fn note(&self, notice: &Notice) {
        let cluster = &self.name;
        match notice {
            Notice::PeerError(text) => {
                tracing::warn!(?cluster, ?text, "the agent reports an error")
            }
            Notice::UnknownType(name) => {
                tracing::info!(?cluster, ?name, "a message of an unknown type");
            }
            Notice::Tolerated(stream, fault) => {
                let stream = stream.map(|s| s.0);
                tracing::warn!(?cluster, stream, %fault, "the agent broke the protocol");
            }
            Notice::Heartbeat => tracing::debug!(?cluster, "heartbeat"),
            _ => {}
        }
    }
}

/// Whether the agent has this policy, where one is asked for and it is there at all.
fn has_policy(machine: &Machine, policy: Option<IdentityPolicy>) -> bool {
    let Some(joined) = machine.joined().filter(|_| policy.is_some()) else {
        return true;
    };
    joined.policy == policy
}

impl<R: Runtime> Side for HubSide<R> {
    type Runtime = R;
    type Machine = Machine;
    type Command = Command;
    const ENDED_IS_LAST: bool = false;

    fn act(&mut self, action: Action, _: &Machine, ends: &mut Ends) {
        match action {
            Action::Failed(id, failure) => {
                ends.hand(id, Piece::Failed(failure));
                ends.forget(id);
            }
            Action::Finish(id) => {
                ends.hand(id, Piece::End);
                ends.forget(id);
            }
            Action::Head(id, head) => ends.hand(id, Piece::Head(head)),
            Action::Joined(_, joined) => {
                tracing::info!(
                    cluster = ?self.name,
                    agent_id = ?joined.info.agent_id,
                    agent_version = ?joined.info.agent_version,
                    fast = joined.http_streams,
                    "agent registered"
                );
                self.joined.send_replace(Some(Arc::new(joined)));
            }
            Action::Left(reason) => {
                let cluster = &self.name;
                match &reason {
                    Reason::Shutdown
                    | Reason::Closed {
                        code: 1000 | 1001, ..
                    } => tracing::info!(?cluster, %reason, "agent let go"),
                    _ => tracing::warn!(?cluster, %reason, "agent gone"),
                }
                self.joined.send_replace(None);
            }
            Action::Notice(notice) => self.note(&notice),
            _ => {}
        }
    }

    fn command(
        &mut self,
        command: Command,
        machine: &mut Machine,
        now: Time,
        ends: &mut Ends,
        links: &mut Links,
    ) {
        match command {
            Command::Accept(socket, meter) => {
                self.conns += 1;
                let conn = ConnId(self.conns);
                links.add(conn, socket, meter);
                machine.handle(now, Input::Accepted(conn));
            }
            Command::Admit(reply) => drop(reply.send(machine.admit(now))),
            Command::Cut => {
                for conn in links.cut() {
                    let down = Down::Lost("disconnected on demand".into());
                    machine.handle(now, Input::Disconnected(conn, down));
                }
            }
            Command::Http(policy, reply) => {
                // Who has gone meanwhile drops the stream, which resets it.
                drop(reply.send(self.http(policy, machine, now, ends)));
            }
            Command::Open(head, policy, opening) => {
                if !has_policy(machine, policy) {
                    return opening.refuse(OpenError::Policy);
                }
                opening.open(machine, now, head, ends);
            }
            Command::Shutdown(grace) => machine.handle(now, Input::Shutdown(grace)),
            Command::Tunnel(tunnel, reply) => {
                let transport = tunnel.transport;
                // By a stream of its own where there are such.
                let opened = match machine.open_service(now, (*tunnel).clone()) {
                    Err(OpenError::Mode) => machine
                        .open_tunnel(now, *tunnel)
                        .map(|id| (id, Shape::Socket)),
                    opened => opened.map(|id| (id, Shape::Duplex)),
                };
                let opened = opened.map(|(id, shape)| {
                    let (flow, inflow) = ends.open_as(id, shape);
                    let writer = TunnelWriter::new(inflow, transport);
                    (TunnelReader::new(flow), writer)
                });
                // Who has gone meanwhile drops the ends, which closes it.
                drop(reply.send(opened));
            }
        }
    }

    fn poll(&mut self, _: &mut Context<'_>, _: &mut Links) -> Option<Input<'static>> {
        None
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Command")
    }
}
