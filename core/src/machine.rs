//! What both machines have in common, so that one event loop can drive either.

use bytes::Bytes;

use crate::{
    action::Action,
    error::SendError,
    input::{Input, Kind, Socket, StreamId},
    stats::Stats,
    time::Time,
};

/// A machine of the protocol: [`Agent`](crate::Agent) or [`Controller`](crate::Controller).
///
/// An adapter does three things, in any order and as often as it likes:
///
/// 1. report what happened, with [`handle`](Self::handle) and [`send`](Self::send);
/// 2. do what [`poll`](Self::poll) returns, until it returns `None`;
/// 3. call `handle` with [`Input::Tick`] no later than [`deadline`](Self::deadline).
///
/// No order of calls is an error and none panics: an input about a connection or stream that is
/// gone has no effect. Time that runs backwards is taken to stand still.
pub trait Machine {
    /// Takes in what happened at `now`, then everything that fell due until `now`.
    ///
    /// Infallible: what a peer does wrong comes out of [`poll`](Self::poll), never as an error
    /// that an adapter could forget to act on.
    fn handle(&mut self, now: Time, input: Input<'_>);

    /// Offers data from the local end of a stream.
    ///
    /// The data is kept as it is, without a copy, and framed when the socket can take it.
    ///
    /// # Errors
    ///
    /// Gives the data back: [`SendError::Blocked`] until [`Action::Writable`], and
    /// [`SendError::Closed`] for good.
    fn send(&mut self, stream: StreamId, kind: Kind, data: Bytes) -> Result<(), SendError>;

    /// The next thing to do, if any.
    ///
    /// Everything but [`Action::Send`] is returned first and whatever the socket's state, so a
    /// blocked socket never holds up a delivery. Frames are built on demand: control frames
    /// first, then one chunk of each stream in turn.
    fn poll(&mut self, socket: Socket) -> Option<Action>;

    /// When to call [`handle`](Self::handle) at the latest. Always after the `now` of the last
    /// `handle`; free to ask.
    fn deadline(&self) -> Option<Time>;

    /// Counters since the start.
    fn stats(&self) -> Stats;
}
