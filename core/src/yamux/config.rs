//! Bounds and periods of a session.

use core::time::Duration;

use super::INITIAL_WINDOW;

/// Bounds and periods of a [`Session`](super::Session). In bytes where nothing else is said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// What the window of a stream may grow to; 4 MiB. At least 256 KiB, where each begins.
    pub window: usize,
    /// Streams open at once, of both ends together; beyond it those of the peer are reset.
    pub streams: usize,
    /// Streams of either end that wait to be accepted; beyond it those of the peer are reset, and
    /// this end opens none. 256 (P-119).
    pub backlog: usize,
    /// Received and not consumed, over all streams; beyond it the stream that holds most is reset.
    pub recv_total: usize,
    /// Taken from a local end and not framed, per stream; beyond it `send` gives the data back.
    pub send_stream: usize,
    /// The same over all streams.
    pub send_total: usize,
    /// Answers queued, a count; beyond it the session ends.
    pub control: usize,
    /// Data per frame.
    pub chunk: usize,
    /// Between two pings; 30 s.
    pub keepalive: Duration,
    /// For a ping to be answered; 30 s.
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: 4 << 20,
            streams: 1024,
            backlog: 256,
            recv_total: 64 << 20,
            send_stream: 256 << 10,
            send_total: 64 << 20,
            control: 256,
            chunk: 32 << 10,
            keepalive: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// The same with bounds that a session can work with.
    pub(super) fn checked(self) -> Self {
        let second = Duration::from_secs(1);
        Self {
            window: self.window.clamp(INITIAL_WINDOW, u32::MAX as usize / 2),
            streams: self.streams.max(1),
            backlog: self.backlog.max(1),
            send_total: self.send_total.max(1),
            control: self.control.max(1),
            chunk: self.chunk.clamp(1, u32::MAX as usize),
            keepalive: self.keepalive.max(second),
            timeout: self.timeout.max(second),
            ..self
        }
    }
}
