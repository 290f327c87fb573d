//! Periods, patience and bounds.

use core::time::Duration;

use crate::error::ConfigError;

/// Periods and patience. All must be above zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Periods {
    /// Between two heartbeats; 30 s.
    pub heartbeat: Duration,
    /// Between two WebSocket pings; 10 s.
    pub ping: Duration,
    /// Silence after which the link counts as dead; 30 s, at least twice `ping`.
    pub idle: Duration,
    /// For a write to make progress, and for the binary frame with a request's body to come (P-061);
    /// 30 s (P-020).
    pub write: Duration,
    /// For TCP, TLS and WebSocket handshake together (P-021), and for the service of a tunnel to
    /// answer (P-123); 30 s.
    pub dial: Duration,
    /// For the answer to `register`; 30 s (P-075).
    pub register: Duration,
    /// The same in all, however often the controller says `register_in_progress`; 120 s.
    pub register_total: Duration,
    /// For one buffered answer, which an endless response would never complete; 2 min.
    pub buffered: Duration,
    /// For the last frames to leave once all streams have ended; 2 s.
    pub linger: Duration,
    /// For a stream that one side closed to deliver what was sent before and to end; 10 s.
    pub closing: Duration,
    /// Without a byte or datagram in either direction, for a TCP or UDP tunnel; 5 min (P-123,
    /// P-125).
    pub tunnel_idle: Duration,
}

impl Default for Periods {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(30),
            ping: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            write: Duration::from_secs(30),
            dial: Duration::from_secs(30),
            register: Duration::from_secs(30),
            register_total: Duration::from_secs(120),
            buffered: Duration::from_secs(120),
            linger: Duration::from_secs(2),
            closing: Duration::from_secs(10),
            tunnel_idle: Duration::from_secs(300),
        }
    }
}

impl Periods {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let all = [
            self.heartbeat,
            self.ping,
            self.idle,
            self.write,
            self.dial,
            self.register,
            self.register_total,
            self.buffered,
            self.linger,
            self.closing,
            self.tunnel_idle,
        ];
        if all.contains(&Duration::ZERO) {
            return Err(ConfigError::ZeroPeriod);
        }
        if self.idle < self.ping.saturating_mul(2) {
            return Err(ConfigError::IdleBelowTwicePing);
        }
        Ok(())
    }
}

/// Bounds on what a peer, or the local end of a stream, can make the core hold. In bytes where
/// nothing else is said; each piece of data is charged at least [`Limits::MIN_CHARGE`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Longest message accepted; beyond it the connection is closed with 1009.
    pub frame: usize,
    /// Streams open at once; beyond it a start is refused.
    pub streams: usize,
    /// Delivered and not consumed, per stream; beyond it that stream ends with an error.
    pub recv_stream: usize,
    /// The same over all streams; beyond it the stream that holds most ends with an error.
    pub recv_total: usize,
    /// Taken from a local end and not framed, per stream; beyond it `send` gives the data back.
    pub send_stream: usize,
    /// The same over all streams.
    pub send_total: usize,
    /// Control answers queued, a count; beyond it the connection is closed with 1008.
    pub control: usize,
    /// Data of a byte stream per frame. WebSocket messages are never cut.
    pub chunk: usize,
    /// Longest message of a WebSocket stream, and longest datagram; beyond it that stream ends with
    /// an error. More than half of `recv_stream` cannot be relied upon.
    pub message: usize,
    /// A whole body held back for a peer that cannot stream it; beyond it the request fails.
    pub buffered: usize,
    /// The same over all requests.
    pub buffered_total: usize,
    /// Method, path, query and headers of one request together, and headers of one answer; beyond
    /// it, or with more than 4096 headers, the request fails.
    pub head: usize,
    /// What the window of a stream of the fast mode may grow to, from 256 KiB on; the peer waits
    /// for more. All windows together stay within `recv_total`, those of 256 KiB aside.
    pub window: usize,
}

impl Limits {
    /// What each piece of data is charged at least, so that empty ones are not free.
    pub const MIN_CHARGE: usize = 256;

    const MIB: usize = 1 << 20;

    /// The agent's defaults.
    pub const fn agent() -> Self {
        Self {
            frame: 16 * Self::MIB,
            streams: 1024,
            recv_stream: 4 * Self::MIB,
            recv_total: 64 * Self::MIB,
            send_stream: 256 << 10,
            send_total: 64 * Self::MIB,
            control: 256,
            chunk: 32 << 10,
            message: Self::MIB,
            buffered: 8 * Self::MIB,
            buffered_total: 64 * Self::MIB,
            head: 256 << 10,
            window: 4 * Self::MIB,
        }
    }

    /// The controller's defaults.
    ///
    /// Its receive bounds are wider than the agent's: an answer arrives at the pace of the
    /// cluster's network and leaves at the pace of the user's, and the JSON protocol has no
    /// window to hold it back.
    pub const fn controller() -> Self {
        Self {
            frame: 64 * Self::MIB,
            recv_stream: 32 * Self::MIB,
            recv_total: 256 * Self::MIB,
            ..Self::agent()
        }
    }

    /// How much of a request's body or of a client's messages may be under way to the Kubernetes
    /// API, as an agent with these limits tells its controller.
    pub(crate) fn request_window(&self) -> usize {
        Self::MIB.min(self.recv_stream / 2)
    }

    /// How many of the streams may be clients of UDP tunnels.
    pub(crate) const fn flows(&self) -> usize {
        self.streams.div_ceil(2)
    }

    /// What a piece of `len` bytes is charged.
    pub const fn charge(len: usize) -> usize {
        if len < Self::MIN_CHARGE {
            Self::MIN_CHARGE
        } else {
            len
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.chunk == 0 || self.chunk > self.send_stream {
            return Err(ConfigError::Chunk);
        }
        let all = [
            self.frame,
            self.streams,
            self.recv_stream,
            self.recv_total,
            self.send_total,
            self.control,
            self.message,
            self.buffered,
            self.buffered_total,
            self.head,
            self.window,
        ];
        if all.contains(&0) {
            return Err(ConfigError::ZeroLimit);
        }
        Ok(())
    }
}
