//! The controller's machine: one per agent identity, so that it can fence a newer connection of
//! the same agent from an older one.
//!
//! ```text
//! Accepted ──▶ New ──register──▶ Registered (the current one) ──▶ gone
//!               │ time-out            │ a newer one registers: closed with 4001
//!               └─────────────────────┴──▶ its streams fail, none outlives it
//! ```
//!
//! This file is the public face; `sessions` is the life of the connections, `incoming` reads
//! what the agent sends, `exchange`, `sockets` and `tunnels` keep the requests, `ends` ends them,
//! `mux` keeps the streams of the fast mode, `outgoing` decides what is framed next.

mod ends;
mod exchange;
mod incoming;
mod mux;
mod outgoing;
mod sessions;
mod sockets;
#[cfg(test)]
mod tests;
mod tunnels;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::String,
    vec::Vec,
};
use core::{fmt, time::Duration};

use bytes::Bytes;

use self::{
    exchange::Exchange,
    sessions::{MAX_SWAPS, SWAP_WINDOW, Session},
    tunnels::Flow,
};
use crate::{
    action::{Action, Joined, Notice},
    config::ControllerConfig,
    error::{ConfigError, OpenError, PeerFault, SendError},
    input::{ConnId, Input, Kind, RequestHead, Socket, StreamId, Tunnel},
    machine::Machine,
    mux::{Head, Mux},
    notices::Notices,
    stats::Stats,
    streams::Streams,
    time::{Start, Time},
    timers::Timers,
    wire::base64::Base64,
};

/// The controller's side of the protocol toward one agent. See [`Machine`] for how it is driven.
pub struct Controller {
    config: ControllerConfig,
    start: Start,
    now: Time,
    sessions: BTreeMap<ConnId, Session>,
    /// The registered one.
    current: Option<ConnId>,
    joined: Option<Joined>,
    /// What the registered agent told, while it has not answered the greeting.
    greeting: Option<Joined>,
    /// The streams of the fast mode, while that is on.
    mux: Option<Box<Mux>>,
    /// When newer connections took over, at most [`MAX_SWAPS`].
    swaps: VecDeque<Time>,
    streams: Streams<Exchange>,
    /// The clients of UDP tunnels.
    flows: BTreeMap<Flow, StreamId>,
    /// Until when streams that their client closed may deliver what it sent before.
    closing: BTreeSet<(Time, StreamId)>,
    /// Requests named so far.
    names: u64,
    /// Bytes of bodies held for an agent that takes no others.
    buffered: usize,
    /// Since [`Input::Shutdown`]: until when streams may go on, and then until when their last
    /// frames may leave.
    drain: Timers,
    life: Life,
    base64: Base64,
    actions: VecDeque<Action>,
    notices: Notices,
    stats: Stats,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Life {
    Running,
    Draining,
    Stopped,
}

/// What it holds stays out: bodies, messages and heads may hold secrets.
impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller")
            .field("current", &self.current)
            .field("now", &self.now)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Controller {
    /// A controller that waits for its agent.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: the configuration contradicts itself, or names nobody; nothing else can fail.
    pub fn new(config: ControllerConfig, start: Start) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            config,
            start,
            now: Time::ZERO.advance(start.now),
            sessions: BTreeMap::new(),
            current: None,
            joined: None,
            greeting: None,
            mux: None,
            swaps: VecDeque::new(),
            streams: Streams::new(),
            flows: BTreeMap::new(),
            closing: BTreeSet::new(),
            names: 0,
            buffered: 0,
            drain: Timers::default(),
            life: Life::Running,
            base64: Base64::new(),
            actions: VecDeque::new(),
            notices: Notices::default(),
            stats: Stats::default(),
        })
    }

    /// Sends a request to the agent. Where `has_body`, data follows by [`Machine::send`] up to
    /// [`Input::Ended`]; the answer comes as [`Action::Head`], [`Action::Deliver`] and
    /// [`Action::Finish`], or [`Action::Failed`].
    ///
    /// The head is relayed as it is: apply [`crate::rules::client_headers`] first.
    ///
    /// # Errors
    ///
    /// No agent is registered ([`OpenError::Away`]), or a limit is reached
    /// ([`OpenError::TooManyStreams`], [`OpenError::HeadTooLong`]). No frame was made of it then.
    pub fn open(
        &mut self,
        now: Time,
        head: RequestHead,
        has_body: bool,
    ) -> Result<StreamId, OpenError> {
        self.now = self.now.advance(now);
        self.open_exchange(head, has_body)
    }

    /// Opens a WebSocket stream to the Kubernetes API; `head` is relayed as for [`Self::open`], and
    /// `protocols` are offered in this order.
    ///
    /// [`Action::Head`] with 101 says that it is open, and names the chosen subprotocol in its
    /// headers; then messages go both ways by [`Machine::send`] and [`Action::Deliver`], until
    /// [`Input::Ended`] or [`Action::Closed`]. Any other head is the API's refusal: an answer as
    /// to any request.
    ///
    /// Where the subprotocol is one in which Kubernetes tells the result of a command, a stream
    /// that ends without a result gets one that says so: a client never takes a broken stream for
    /// a success.
    ///
    /// # Errors
    ///
    /// As for [`Self::open`], and [`OpenError::WebSocket`]: the agent opens no such streams.
    pub fn open_websocket(
        &mut self,
        now: Time,
        head: RequestHead,
        protocols: Vec<String>,
    ) -> Result<StreamId, OpenError> {
        self.now = self.now.advance(now);
        self.open_socket(head, protocols)
    }

    /// Opens a TCP or UDP tunnel to what `tunnel` names, as far as the agent's configuration
    /// permits it. Data goes both ways by [`Machine::send`] and [`Action::Deliver`] at once, success
    /// is not told; [`Action::Finish`] or [`Action::Failed`] ends it.
    ///
    /// There is no window: what the service, or the client here, does not take in time ends the
    /// tunnel, and there is no half-close (P-123).
    ///
    /// # Errors
    ///
    /// No agent is registered ([`OpenError::Away`]), it opens no tunnels ([`OpenError::Tunnel`]), this
    /// UDP client has one ([`OpenError::Busy`]), or there are too many, of which UDP gets half
    /// ([`OpenError::TooManyStreams`]).
    pub fn open_tunnel(&mut self, now: Time, tunnel: Tunnel) -> Result<StreamId, OpenError> {
        self.now = self.now.advance(now);
        self.open_tunnel_stream(tunnel)
    }

    /// Opens an HTTP/1.1 connection to the Kubernetes API, whose server is the agent: a stream of the
    /// fast mode. Bytes go both ways at once by [`Machine::send`] and [`Action::Deliver`];
    /// [`Input::Ended`] and [`Action::HalfClosed`] end one direction each, [`Action::Over`] comes
    /// when both have, [`Input::Cancel`] and [`Action::Failed`] end both at once.
    ///
    /// # Errors
    ///
    /// No agent is registered ([`OpenError::Away`]), it has no such streams ([`OpenError::Mode`]), or
    /// there are too many ([`OpenError::TooManyStreams`]).
    pub fn open_http(&mut self, now: Time) -> Result<StreamId, OpenError> {
        self.now = self.now.advance(now);
        self.open_stream(&Head::http())
    }

    /// Opens a stream of the fast mode to a service, as far as the agent's configuration permits
    /// it, with a window and half-close; else like [`Self::open_tunnel`] and [`Self::open_http`].
    /// Datagrams keep their boundaries where the agent said that it keeps them.
    ///
    /// # Errors
    ///
    /// As for [`Self::open_http`]. Also [`OpenError::Tunnel`]: the agent opens none;
    /// [`OpenError::Mode`]: the tunnel names no service; [`OpenError::HeadTooLong`]: one of its names
    /// is longer than 256 bytes.
    pub fn open_service(&mut self, now: Time, tunnel: Tunnel) -> Result<StreamId, OpenError> {
        self.now = self.now.advance(now);
        self.open_service_stream(tunnel)
    }

    /// What the registered agent told, or `None` while it is away.
    #[must_use]
    pub const fn joined(&self) -> Option<&Joined> {
        self.joined.as_ref()
    }

    /// Whether another connection of this agent may be accepted at `now`.
    ///
    /// # Errors
    ///
    /// For how long not: two agents that share one credential have taken over from each other
    /// three times within five minutes. Answer the upgrade with 409 and this `Retry-After`.
    pub fn admit(&self, now: Time) -> Result<(), Duration> {
        let oldest = match self.swaps.front() {
            Some(oldest) if self.swaps.len() >= MAX_SWAPS && self.current.is_some() => *oldest,
            _ => return Ok(()),
        };
        let left = SWAP_WINDOW.saturating_sub(now.max(self.now) - oldest);
        if left.is_zero() { Ok(()) } else { Err(left) }
    }

    fn stale(&mut self) {
        self.stats.stale_inputs += 1;
    }

    fn tolerated(&mut self, stream: Option<StreamId>, fault: PeerFault) {
        self.stats.peer_faults += 1;
        self.notices.push(Notice::Tolerated(stream, fault));
    }

    /// The name of a request on the wire: never reused across connections or restarts (P-091).
    fn name(&mut self) -> String {
        self.names += 1;
        let nonce = u128::from_be_bytes(self.start.nonce);
        alloc::format!("{nonce:032x}-{}", self.names)
    }

    fn unix(&self) -> Duration {
        self.start.unix.saturating_add(self.now - self.start.now)
    }
}

impl Machine for Controller {
    fn handle(&mut self, now: Time, input: Input<'_>) {
        self.now = self.now.advance(now);
        match input {
            Input::Accepted(conn) => self.accepted(conn),
            Input::Alive(conn) => self.alive(conn),
            Input::Cancel(id) | Input::Consumed(id, _) | Input::Ended(id, _) if self.owns(id) => {
                self.local(id, &input);
            }
            Input::Cancel(id) => self.cancel(id),
            Input::Consumed(id, len) => self.consumed(id, len),
            Input::Disconnected(conn, down) => self.disconnected(conn, down),
            Input::Ended(id, end) => self.ended(id, end),
            Input::Pong(conn) => self.ponged(conn),
            Input::Frame(conn, frame) => self.frame(conn, frame),
            Input::Shutdown(grace) => self.shutdown(grace),
            Input::Clock(unix) => {
                (self.start.now, self.start.unix) = (self.now, unix);
            }
            Input::Tick => {}
            Input::Wrote(conn) => self.wrote(conn),
            Input::Connected(_) | Input::Head(..) | Input::Status(_) => self.stale(),
        }
        self.expire();
        self.expire_streams();
        self.settle(false);
    }

    fn send(&mut self, stream: StreamId, kind: Kind, data: Bytes) -> Result<(), SendError> {
        if self.owns(stream) {
            return self.stream_takes(stream, data);
        }
        self.body(stream, kind, data)
    }

    fn poll(&mut self, socket: Socket) -> Option<Action> {
        self.next_action(socket)
    }

    fn deadline(&self) -> Option<Time> {
        let sessions = self.sessions.values().filter_map(|s| s.timers.next());
        let closing = self.closing.first().map(|(at, _)| *at);
        let mux = self.mux.as_ref().and_then(|mux| mux.deadline());
        let all = sessions.chain(self.drain.next()).chain(closing);
        all.chain(mux).min()
    }

    fn stats(&self) -> Stats {
        let mut json = self.streams.add_to(self.stats);
        json.held_out += self.buffered;
        self.mux.as_ref().map_or(json, |mux| mux.add_to(json))
    }
}
