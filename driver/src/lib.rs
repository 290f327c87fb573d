//! Drives the protocol core over any async runtime.
//!
//! One event loop serves both sides of the tunnel: [`Agent`] dials out and hands requests to a
//! [`Handler`], by default [`Kubernetes`]; [`Hub`] is the controller's end toward one agent.
//! What a runtime has to offer is the trait [`Runtime`]; the crates `controlplane-tokio` and
//! `controlplane-async-std` implement it. Every decision of the protocol is made by
//! [`controlplane_core`]; here bytes are moved.
//!
//! # Logs
//!
//! What this crate logs, by [`tracing`], holds no secret at any level. Below it, tungstenite logs
//! whole requests and frames by the `log` crate at TRACE, the agent's token among them: keep
//! dependencies at DEBUG, as the programs of this project do, or below.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "in a test a panic is the message")
)]

mod agent;
mod answers;
mod body;
mod both_ways;
mod dial;
mod duplex;
mod ends;
mod front;
mod handler;
mod hub;
mod hyper_io;
mod links;
mod meter;
mod pieces;
mod proxy;
mod run;
mod runtime;
mod secret;
mod tls;
mod tls_io;
mod tunnel;
mod upgrade;
mod upstream;
mod websocket;

pub use controlplane_core as core;
pub use controlplane_core::{
    AgentInfo, Backoff, CodeClass, ConfigError, ControllerConfig, Disconnect, Ending, Failure,
    HeartbeatStatus, Joined, Kind, Limits, Monitoring, MonitoringService, OpenError, PeerFault,
    Periods, Reason, Registration, RequestHead, ResponseHead, RoundTrips, ServerSpecs, Stats,
    StreamClose, Transport, Tunnel,
    rules::{self, IdentityPolicy, TunnelTarget},
};

pub use self::{
    agent::{Agent, Builder, StartError, State, Stopped},
    body::Broken,
    dial::UrlError,
    duplex::ByteStream,
    front::serve,
    handler::{Body, BodyWriter, BoxFuture, Handler, Request, Responder},
    hub::{Answer, Hub, RequestBody, Switch, Switched},
    links::websocket_config,
    meter::{Meter, Metered},
    proxy::{Proxies, ProxyError},
    runtime::{Datagrams, Runtime, Timer, WebSocket, sleep, timeout, tune, unspecified},
    secret::{Token, TokenError, TokenSource},
    tls::{Roots, TlsError, TlsOptions, TlsSource},
    tls_io::TlsIo,
    tunnel::{TunnelReader, TunnelWriter},
    upgrade::{ClientIo, UpgradeRequest, UpgradeResponder},
    upstream::{Kubernetes, KubernetesConfig, UpstreamError, UpstreamLimits},
    websocket::{
        Incoming, Message, MessageReader, MessageWriter, Upgrade, Upgraded, WebSocketRequest,
        WebSocketResponder,
    },
};
