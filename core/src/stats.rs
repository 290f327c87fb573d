//! Counters for metrics. Each is bounded: what they tell apart is one of a few values, never a name.

use core::time::Duration;

use crate::{
    error::{Failure, PeerFault, Reason},
    yamux::SessionError,
};

/// An enum whose values tell counters apart, with one counter for each.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $value:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $name {
            $($(#[$of])* $value,)+
        }

        impl $name {
            /// All of them, in the order of their counters.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$value),+];
            /// How many there are.
            pub const COUNT: usize = [$($label),+].len();

            /// As the value of a label.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $label,)+
                }
            }

            /// Its counter.
            #[must_use]
            pub const fn of(self, counts: &[u64; Self::COUNT]) -> u64 {
                counts[self as usize]
            }

            /// Counts one more.
            pub const fn count(self, counts: &mut [u64; Self::COUNT]) {
                self.add(counts, 1);
            }

            /// Counts `more`.
            pub const fn add(self, counts: &mut [u64; Self::COUNT], more: u64) {
                counts[self as usize] += more;
            }
        }
    };
}

labels! {
    /// How a stream ended. Where several things ended it, the first counts.
    Ending {
        /// In order: both ends had all there was, be it the refusal of the Kubernetes API.
        Complete = "complete",
        /// The client went away, or gave it up.
        Cancelled = "cancelled",
        /// The Kubernetes API, or the service, broke or could not be reached.
        Failed = "failed",
        /// It was asked for, and not permitted or not possible.
        Refused = "refused",
        /// The connection that it went by was lost.
        Lost = "lost",
        /// The peer broke the protocol on it.
        Fault = "fault",
        /// More was to be held for it than a limit permits.
        Limit = "limit",
        /// A time limit.
        Timeout = "timeout",
        /// This end shuts down.
        Shutdown = "shutdown",
    }
}

labels! {
    /// Why a connection ended, or none came to be.
    Disconnect {
        /// The peer closed it.
        Closed = "closed",
        /// A newer connection of the same agent took over.
        Superseded = "superseded",
        /// The network failed.
        Network = "network",
        /// Nothing was heard for too long: no answer to a ping either.
        Silence = "silence",
        /// A write made no progress for too long.
        Stalled = "stalled",
        /// The dial took too long.
        DialTimeout = "dial_timeout",
        /// The credentials were refused (401 or 403).
        Unauthorized = "unauthorized",
        /// The upgrade was answered with another status of 400 to 499.
        Refused4xx = "refused_4xx",
        /// The upgrade was answered with a status of 500 to 599.
        Refused5xx = "refused_5xx",
        /// The upgrade was answered with any other status.
        RefusedOther = "refused_other",
        /// The registration was answered with an error.
        RegisterRefused = "register_refused",
        /// The registration was not answered, or did not come.
        RegisterTimeout = "register_timeout",
        /// A ping of the fast mode was not answered.
        PingTimeout = "ping_timeout",
        /// The peer broke the protocol.
        Fault = "fault",
        /// This end shuts down.
        Shutdown = "shutdown",
    }
}

labels! {
    /// What a request was answered with.
    CodeClass {
        /// 101: the protocol was switched.
        Informational = "1xx",
        /// 200 to 299.
        Success = "2xx",
        /// 300 to 399.
        Redirection = "3xx",
        /// 400 to 499.
        ClientError = "4xx",
        /// 500 to 599.
        ServerError = "5xx",
        /// There was no answer, or with no such status.
        None = "none",
    }
}

impl Ending {
    /// That of a stream on which the peer did this.
    pub(crate) const fn of_fault(fault: PeerFault) -> Self {
        match fault {
            PeerFault::Overrun => Self::Limit,
            _ => Self::Fault,
        }
    }

    /// That of a request of the controller's which failed.
    pub(crate) const fn of_failure(failure: &Failure) -> Self {
        match failure {
            Failure::Agent(_) | Failure::Refused { .. } | Failure::Reset => Self::Failed,
            Failure::Cancelled => Self::Cancelled,
            Failure::Disconnected => Self::Lost,
            Failure::Fault(fault) => Self::of_fault(*fault),
            Failure::MessageTooLong | Failure::Overrun | Failure::RequestTooLarge => Self::Limit,
            Failure::Shutdown => Self::Shutdown,
        }
    }
}

impl Disconnect {
    /// What a reason amounts to.
    pub(crate) const fn of_reason(reason: &Reason) -> Self {
        match reason {
            Reason::Closed { .. } => Self::Closed,
            Reason::DialTimeout => Self::DialTimeout,
            Reason::Idle => Self::Silence,
            Reason::Lost(_) => Self::Network,
            Reason::Refused(400..=499) => Self::Refused4xx,
            Reason::Refused(500..=599) => Self::Refused5xx,
            Reason::Refused(_) => Self::RefusedOther,
            Reason::RegisterRefused(_) => Self::RegisterRefused,
            Reason::RegisterTimeout => Self::RegisterTimeout,
            Reason::Session(SessionError::Timeout) => Self::PingTimeout,
            Reason::Peer(_) | Reason::Session(_) => Self::Fault,
            Reason::Shutdown => Self::Shutdown,
            Reason::Stalled => Self::Stalled,
            Reason::Superseded => Self::Superseded,
            Reason::Unauthorized(_) => Self::Unauthorized,
        }
    }
}

impl CodeClass {
    /// That of a status code.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::None,
        }
    }
}

/// How long answers took: a histogram.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct RoundTrips {
    /// How many took as long as the bound of the same place in [`Self::BOUNDS`], or less, and more
    /// than the one before; in the last place those that took longer.
    pub buckets: [u64; 13],
    /// All of them together.
    pub total: Duration,
    /// The last one.
    pub last: Option<Duration>,
}

impl RoundTrips {
    /// Bounds of the buckets but the last, in milliseconds.
    pub const BOUNDS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 20_000];

    pub(crate) fn add(&mut self, took: Duration) {
        let within = |ms: &u64| took <= Duration::from_millis(*ms);
        let longer = Self::BOUNDS.len();
        let place = Self::BOUNDS.iter().position(within).unwrap_or(longer);
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket += 1;
        }
        self.total = self.total.saturating_add(took);
        self.last = Some(took);
    }
}

/// Counters of one machine since its start.
///
/// `streams_opened` is at all times the sum of `streams_closed`, and `streams_open`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that registered.
    pub registrations: u64,
    /// Connections that ended. Of the agent's those that another attempt followed, and the attempts
    /// that failed, but not the dials of a gateway beside a connection that serves on.
    pub disconnects: [u64; Disconnect::COUNT],
    /// From a heartbeat of the agent to its acknowledgement, which original control planes do not
    /// send. The controller has none.
    pub heartbeats: RoundTrips,
    /// From a WebSocket ping of this end to its pong.
    pub pings: RoundTrips,
    /// Streams opened, and those that were asked for by name and refused.
    pub streams_opened: u64,
    /// Streams that are not open any more.
    pub streams_closed: [u64; Ending::COUNT],
    /// Streams open now. In the fast mode a connection that waits for its next request is one.
    pub streams_open: usize,
    /// Requests by how the Kubernetes API answered; tunnels are none. The machine counts those in
    /// JSON; of the fast mode's, it sees nothing but bytes.
    pub answers: [u64; CodeClass::COUNT],
    /// Payload bytes delivered to local ends.
    pub bytes_in: u64,
    /// Payload bytes framed.
    pub bytes_out: u64,
    /// Bytes held for local ends now.
    pub held_in: usize,
    /// Bytes held for the socket now.
    pub held_out: usize,
    /// Inputs about things already gone.
    pub stale_inputs: u64,
    /// Frames about ids that name nothing, as late answers do.
    pub stale_frames: u64,
    /// Faults of the peer.
    pub peer_faults: u64,
    /// Pongs and refusals that were dropped because an equal one was waiting.
    pub coalesced: u64,
    /// Times that a stream of the fast mode had data to send and its window was used up.
    pub stalls: u64,
    /// Streams of the fast mode that were reset, by either end.
    pub resets: u64,
}

impl Stats {
    /// Counts a stream that was refused.
    pub(crate) const fn refused(&mut self) {
        self.streams_opened += 1;
        Ending::Refused.count(&mut self.streams_closed);
    }
}

/// Adds each counter of `more`.
pub(crate) fn add_all<const N: usize>(counts: &mut [u64; N], more: &[u64; N]) {
    for (count, more) in counts.iter_mut().zip(more) {
        *count += more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_in_the_first_bucket_that_has_room() {
        let mut trips = RoundTrips::default();
        for ms in [0, 1, 2, 3, 20_000, 20_001] {
            trips.add(Duration::from_millis(ms));
        }
        assert_eq!(trips.buckets, [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(trips.total, Duration::from_millis(40_007));
        assert_eq!(trips.last, Some(Duration::from_millis(20_001)));
    }

    #[test]
    fn each_value_of_a_label_has_a_counter_and_a_word_of_its_own() {
        let mut counts = [0; Ending::COUNT];
        for (place, ending) in Ending::ALL.into_iter().enumerate() {
            ending.add(&mut counts, 1 + place as u64);
            assert_eq!(ending.of(&counts), 1 + place as u64);
            let same = Ending::ALL.iter().filter(|o| o.as_str() == ending.as_str());
            assert_eq!(same.count(), 1);
        }
    }

    #[test]
    fn a_status_has_a_class() {
        for (status, class) in [(101, "1xx"), (200, "2xx"), (304, "3xx"), (404, "4xx")] {
            assert_eq!(CodeClass::of_status(status).as_str(), class);
        }
        assert_eq!(CodeClass::of_status(503), CodeClass::ServerError);
        assert_eq!(CodeClass::of_status(0), CodeClass::None);
        assert_eq!(CodeClass::of_status(600), CodeClass::None);
    }

    #[test]
    fn a_refused_connection_is_told_apart_by_the_class_of_its_status() {
        let of = |status| Disconnect::of_reason(&Reason::Refused(status)).as_str();
        let classes = [409, 503, 302].map(of);
        assert_eq!(classes, ["refused_4xx", "refused_5xx", "refused_other"]);
        let session = |error| Disconnect::of_reason(&Reason::Session(error));
        assert_eq!(session(SessionError::Timeout), Disconnect::PingTimeout);
        assert_eq!(session(SessionError::Flood), Disconnect::Fault);
    }
}
