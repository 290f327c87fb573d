//! Sans-IO core of the control-plane tunnel: a Kubernetes API behind NAT, reached through one
//! WebSocket that an agent inside the cluster dials *out*.
//!
//! Two pure state machines, [`Agent`] and [`Controller`], speak the two sides of the protocol.
//! They consume frames and other [`Input`]s and emit [`Action`]s: connect, send, open, deliver,
//! close, reconnect after. They do no I/O, read no clock, draw no random numbers, take no locks
//! and do not log: time and entropy come in as arguments, so the same inputs always give the
//! same outputs. Numbers of the form P-nnn in this documentation name statements of the
//! protocol's specification.
//!
//! # The run loop
//!
//! An adapter does these, in any order and as often as it likes:
//!
//! 1. Make the machine: [`Agent::new`] or [`Controller::new`], with the present time and some
//!    entropy ([`Start`]).
//! 2. Do what [`Machine::poll`] returns, until that is `None`: first with [`Socket::Blocked`], then
//!    with [`Socket::Ready`] for each socket that can take a message now. Frames come only for
//!    those, and are built when they do.
//! 3. Report what happened: [`Machine::handle`] with an [`Input`] and, for data of local ends,
//!    [`Machine::send`], which may give it back until [`Action::Writable`].
//! 4. Call `handle` with [`Input::Tick`] at [`Machine::deadline`], if nothing else happens before.
//! 5. Go on with 2, until [`Action::Stopped`].
//!
//! The example `blocking` of this package is an adapter to be read, on threads and blocking sockets.
//! It begins with how to write one.
//!
//! ```
//! use controlplane_core::{
//!     Action, Agent, AgentConfig, Endpoint, Input, Frame, Machine, OutFrame, Socket, Start, Time,
//! };
//! use core::time::Duration;
//!
//! let start = Start { now: Time::ZERO, unix: Duration::from_secs(1_795_412_045), nonce: [7; 16] };
//! let mut agent = Agent::new(AgentConfig::new("agent-1f2e", "prod"), start)?;
//!
//! // It wants to connect at once.
//! let Some(Action::Connect(conn, Endpoint::Controller)) = agent.poll(Socket::Blocked) else { panic!() };
//! agent.handle(Time::ZERO, Input::Connected(conn));
//!
//! // Then it registers.
//! let Some(Action::Send(_, OutFrame::Text(register))) = agent.poll(Socket::Ready(conn)) else {
//!     panic!()
//! };
//! assert!(register.starts_with(r#"{"type":"register","request_id":"req_1795412045"#));
//!
//! // A connection that is lost comes back by itself.
//! agent.handle(Time::ZERO, Input::Disconnected(conn, controlplane_core::Down::Lost("cut".into())));
//! let Some(Action::ReconnectAfter { delay, attempt: 1, .. }) = agent.poll(Socket::Blocked) else {
//!     panic!()
//! };
//! assert!(delay >= Duration::from_millis(250) && delay <= Duration::from_millis(500));
//! assert_eq!(agent.deadline(), Some(Time::ZERO + delay));
//! # Ok::<(), controlplane_core::ConfigError>(())
//! ```
//!
//! # Both ends in memory
//!
//! The machines are values, so a test needs neither sockets nor clock. Here is all of it: a network that
//! takes every message at once, a request, its answer, and a network that breaks. Between the lines
//! there is room for everything that a network does: delay, cut, lie, and let time pass.
//!
//! ```
//! use bytes::Bytes;
//! use controlplane_core::{
//!     Action, Agent, AgentConfig, ConnId, Controller, ControllerConfig, Down, Failure, Frame, Input,
//!     Kind, Machine, OutFrame, RequestHead, ResponseHead, Socket, Start, Target, Time,
//! };
//! use core::time::Duration;
//!
//! /// Carries what one machine sends to the other; returns what else it wants.
//! fn carry(from: &mut dyn Machine, to: &mut dyn Machine, now: Time, conn: ConnId) -> Vec<Action> {
//!     let mut wanted = Vec::new();
//!     while let Some(action) = from.poll(Socket::Ready(conn)) {
//!         match action {
//!             Action::Send(_, OutFrame::Text(text)) => {
//!                 to.handle(now, Input::Frame(conn, Frame::Text(&text)));
//!             }
//!             Action::Send(_, OutFrame::Binary(data)) => {
//!                 to.handle(now, Input::Frame(conn, Frame::Binary(&data)));
//!             }
//!             Action::Send(..) => from.handle(now, Input::Pong(conn)),
//!             Action::Notice(_) => {}
//!             other => wanted.push(other),
//!         }
//!     }
//!     wanted
//! }
//!
//! let now = Time::ZERO;
//! let start = Start { now, unix: Duration::from_secs(1_795_412_045), nonce: [7; 16] };
//! let mut agent = Agent::new(AgentConfig::new("agent-1f2e", "prod"), start)?;
//! let mut controller = Controller::new(ControllerConfig::new("6f1c", "prod"), start)?;
//!
//! // The agent dials, and gets through.
//! let Some(Action::Connect(conn, _)) = agent.poll(Socket::Blocked) else { panic!() };
//! agent.handle(now, Input::Connected(conn));
//! controller.handle(now, Input::Accepted(conn));
//! // It registers, and the two agree on the fast mode.
//! for _ in 0..3 {
//!     carry(&mut agent, &mut controller, now, conn);
//!     carry(&mut controller, &mut agent, now, conn);
//! }
//! assert!(controller.joined().is_some_and(|joined| joined.yamux));
//!
//! // A client asks.
//! let head = RequestHead { method: "GET".into(), path: "/version".into(), ..Default::default() };
//! let asked = controller.open(now, head, false)?;
//! assert_eq!(carry(&mut controller, &mut agent, now, conn), []);
//! // The agent wants it opened at the Kubernetes API, and has no body to deliver.
//! let wanted = carry(&mut agent, &mut controller, now, conn);
//! let [Action::Open(id, Target::Http { head, .. }), Action::Finish(_)] = &wanted[..] else { panic!() };
//! assert_eq!(head.path, "/version");
//! // The API answers.
//! agent.handle(now, Input::Head(*id, ResponseHead { status: 200, headers: vec![] }));
//! agent.send(*id, Kind::Bytes, Bytes::from_static(b"v1.32.4"))?;
//! assert_eq!(carry(&mut agent, &mut controller, now, conn), []);
//! let answer = carry(&mut controller, &mut agent, now, conn);
//! let [Action::Head(_, head), Action::Deliver(_, Kind::Bytes, body)] = &answer[..] else { panic!() };
//! assert_eq!((head.status, &body[..]), (200, &b"v1.32.4"[..]));
//! controller.handle(now, Input::Consumed(asked, body.len()));
//!
//! // The network breaks before the API has said that this was all: no success is told.
//! controller.handle(now, Input::Disconnected(conn, Down::Lost("cut".into())));
//! let ends = carry(&mut controller, &mut agent, now, conn);
//! assert!(ends.contains(&Action::Failed(asked, Failure::Disconnected)), "{ends:?}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Backpressure, in four directions
//!
//! * Core to socket: nothing is encoded until the socket is ready.
//! * Local end to core: `send` refuses above [`Limits::send_stream`] and gives the data back;
//!   [`Action::Writable`] tells when to offer it again. A body that a peer takes only whole is held
//!   instead, and fails above [`Limits::buffered`].
//! * Core to local end: a [`Action::Deliver`] is charged until [`Input::Consumed`]. In the fast mode
//!   each stream has a window, and its peer waits. In JSON between our own ends both directions of
//!   a request or WebSocket have one. JSON tunnels have none, and other peers keep none: there,
//!   above [`Limits::recv_stream`], the stream ends with an error.
//! * Answers that a peer can force: slots and bounded queues; above [`Limits::control`] the
//!   connection ends.
//!
//! The socket is always read: no stream's reader can delay another stream, or a heartbeat.
//!
//! # Two modes
//!
//! Messages are JSON, in which data is base64 and nothing paces a stream: what every peer of this
//! protocol speaks. Where both ends offer it, binary messages become [`yamux`], many byte streams
//! with a window each, while text stays JSON (P-118):
//!
//! ```text
//! controller                                              agent
//!     │ ◀── register { features: { supports_yamux } } ──────│
//!     │ ─── register_success ───────────────────────────▶ │
//!     │ ─── gateway_hello { use_yamux, stream_protocols } ─▶ │
//!     │ ◀── gateway_hello_ack { use_yamux, stream_protocols } │   Action::Joined
//!     │ ═══ binary messages: yamux, both ways ════════════ │
//! ```
//!
//! [`Controller::open_http`] opens an HTTP/1.1 connection to the Kubernetes API (protocol 16), whose
//! server is the agent ([`Target::Http1`]): each request goes through [`rules::Gate`], and what it
//! switches to (WebSocket, SPDY) passes as bytes. [`Controller::open_service`] opens a stream to a
//! service: TCP (1), UDP (2), and datagrams with their lengths (17). A peer that lists no protocols
//! speaks 1 and 2. Both directions of such a stream end on their own ([`Action::HalfClosed`]), and
//! [`Input::Cancel`] resets it. Between our ends the end of the session is the end of the link; with
//! a foreign gateway binary messages mean again what they meant before (P-150).
//!
//! Frames that pace or answer go first, then JSON and streams in turn, and each stream one chunk: a
//! keystroke waits for at most one chunk of each other stream that is busy.
//!
//! # The link
//!
//! Every way in which the agent's link may change; a cause that is not listed changes nothing. At
//! the start it is `Dialing`.
//!
#![doc = include_str!("link.md")]
//!
//! # Limits
//!
//! What a peer, or a local end, can make a machine hold ([`Limits`]), by default:
//!
#![doc = include_str!("config/limits.md")]
//!
//! # Time
//!
//! How long a machine waits for what ([`Periods`], [`Backoff`]), by default. [`Machine::deadline`] is
//! the next of all of these.
//!
#![doc = include_str!("config/periods.md")]
//!
//! # What a fault of the peer costs
//!
//! A fault costs the least that keeps the promises to everybody else. Each is counted, and told as
//! [`Notice::Tolerated`] with its [`PeerFault`] or as the [`Reason`] for which a connection ended.
//!
#![doc = include_str!("faults.md")]
//!
//! # The properties that hold
//!
//! What the first implementation of this protocol gets wrong (W-nn), each with the property that
//! holds here instead, what holds it, and the tests that the first implementation would fail.
//!
#![doc = include_str!("properties.md")]
#![no_std]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "in a test a panic is the message")
)]

extern crate alloc;

mod action;
mod agent;
mod backoff;
mod config;
mod controller;
mod error;
mod hidden;
mod input;
mod link;
mod machine;
mod mux;
mod notices;
mod rng;
pub mod rules;
mod stats;
mod streams;
mod time;
mod timers;
mod wire;
pub mod yamux;

pub use action::{Action, CloseCode, Endpoint, Joined, Notice, OutFrame, Registration, Target};
pub use agent::Agent;
pub use backoff::Backoff;
pub use config::{
    AgentConfig, AgentInfo, ControllerConfig, HeartbeatStatus, Limits, Monitoring,
    MonitoringService, Periods, ServerSpecs,
};
pub use controller::Controller;
pub use error::{ConfigError, Failure, OpenError, PeerFault, Reason, SendError};
pub use input::{
    ConnId, Down, Frame, Input, Kind, RequestHead, ResponseHead, Socket, StreamClose, StreamEnd,
    StreamId, Transport, Tunnel,
};
pub use link::{At, Cause, Phase, TRANSITIONS};
pub use machine::Machine;
pub use stats::{CodeClass, Disconnect, Ending, RoundTrips, Stats};
pub use time::{Start, Time};
