//! Counters for metrics.

/// Counters of one machine since its start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that registered.
    pub registrations: u64,
    /// Streams opened.
    pub streams_opened: u64,
    /// Streams open now.
    pub streams_open: usize,
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
