//! What a server is told at its start.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use controlplane_driver::{Limits, Periods};

use crate::tls::ServerTls;

/// Configuration of a [`crate::Server`].
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where to answer `/livez`, `/readyz` and `/metrics`, without TLS and to everybody who can
    /// reach it; port 0 takes a free one. By default nowhere.
    pub health_listen: Option<SocketAddr>,
    /// Certificate and key.
    pub tls: ServerTls,
    /// The credentials file, read anew when it changes.
    pub credentials: PathBuf,
    /// How requests travel to agents.
    pub mode: Mode,
    /// Bounds on connections and requests.
    pub limits: ServerLimits,
    /// Periods and patience toward agents.
    pub periods: Periods,
    /// Bounds on what one agent can make the controller hold. `message` holds for the messages of
    /// clients, too: a longer one ends their stream with 1009.
    pub agent_limits: Limits,
}

impl ServerConfig {
    /// A configuration with the default limits.
    pub fn new(listen: SocketAddr, tls: ServerTls, credentials: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            health_listen: None,
            tls,
            credentials: credentials.into(),
            mode: Mode::default(),
            limits: ServerLimits::default(),
            periods: Periods::default(),
            agent_limits: Limits::controller(),
        }
    }
}

/// How requests travel to agents.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// By HTTP/1.1 on streams with windows of their own, to every agent that offers it; to others
    /// as JSON.
    #[default]
    Fast,
    /// As JSON messages, to every agent.
    Json,
}

/// Bounds on connections and on how long each may do nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServerLimits {
    /// Connections at once; beyond it new ones are dropped. 8192.
    pub connections: usize,
    /// Connections of one address that have shown no token yet; beyond it they are answered
    /// with 503, beyond twice that dropped. 64.
    pub pending_per_address: usize,
    /// Agents that may connect in one second; beyond it they are answered with 503. 100.
    pub agent_handshakes_per_second: u32,
    /// Bytes of a request's line and headers, at least 8192; beyond it 431. 64 KiB.
    pub head: usize,
    /// For the TLS handshake; 10 s.
    pub tls_handshake: Duration,
    /// For a request's line and headers; 10 s.
    pub head_read: Duration,
    /// Between two requests on one connection; 90 s, as long as Go's clients keep one.
    pub idle: Duration,
    /// For a client to take something of what is written to it; 10 min.
    pub write: Duration,
    /// Between two pings to the client of a WebSocket stream; 20 s, below what proxies on the way
    /// make of an idle connection.
    pub stream_ping: Duration,
    /// Silence after which the client of a WebSocket stream counts as gone, as long as the
    /// cluster takes what it sends and nothing was sent to it meanwhile; 45 s, at least twice
    /// `stream_ping`. kubectl sends a ping every 5 s.
    pub stream_silence: Duration,
    /// The same where something was sent to it meanwhile, and for it to take something of what is
    /// written: a client whose reader pauses, as a pager does, answers no ping; 10 min.
    pub stream_write: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 8192,
            pending_per_address: 64,
            agent_handshakes_per_second: 100,
            head: 64 << 10,
            tls_handshake: Duration::from_secs(10),
            head_read: Duration::from_secs(10),
            idle: Duration::from_secs(90),
            write: Duration::from_secs(600),
            stream_ping: Duration::from_secs(20),
            stream_silence: Duration::from_secs(45),
            stream_write: Duration::from_secs(600),
        }
    }
}
