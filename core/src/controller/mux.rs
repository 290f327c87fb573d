//! The fast mode of the controller (P-050, P-070, P-118 to P-122): it asks agents that offer it, and
//! opens streams to the Kubernetes API and to services.
//!
//! ```text
//! register, offers it ──▶ greeting ── acknowledged ──▶ Joined, with streams
//!                            │ declined, or not answered in time
//!                            └──────────▶ Joined, JSON alone
//! ```
//!
//! A registration is told only once the greeting is over, so that nobody sends by JSON what cannot
//! pass there. An agent that answers late is told as joined once more.

use alloc::boxed::Box;

use bytes::Bytes;

use super::{Controller, Life};
use crate::{
    action::{Action, CloseCode, Joined},
    error::{Failure, OpenError, PeerFault, Reason, SendError},
    input::{ConnId, Input, StreamId, Transport, Tunnel},
    mux::{Head, Heard, Mux, Protocol, Protocols},
    stats::Ending,
    timers::Timer,
    wire::decode::{Fields, YamuxConfig},
    yamux::{ResetBy, Role},
};

impl Controller {
    // ------------------------------------------------------------ greeting

    /// The agent of `conn` is registered: it is greeted where it offers the fast mode.
    pub(super) fn greet(&mut self, conn: ConnId, joined: Joined, offers: bool) {
        if !offers || !self.config.yamux {
            return self.tell_joined(conn, joined);
        }
        if self.mux.is_some() {
            // It registers anew on the same connection.
            let streams = self.mux.as_ref().map(|mux| mux.protocols);
            return self.tell_joined(conn, with_streams(joined, streams));
        }
        let until = self.now + self.config.periods.ping;
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if session.greeted && self.greeting.is_none() {
            // It declined, or did not answer. An original agent that is greeted again may take the
            // streams of one session for those of another (U-08).
            return self.tell_joined(conn, joined);
        }
        if !session.greeted {
            session.control.hello = true;
            session.greeted = true;
            session.timers.set(Timer::Hello, until);
        }
        // What was told of it before stays true meanwhile.
        self.greeting = Some(joined);
    }

    /// The greeting was answered.
    pub(super) fn acknowledged(&mut self, conn: ConnId, fields: &Fields<'_>) {
        let greeted = self.sessions.get(&conn).is_some_and(|s| s.greeted);
        if self.current != Some(conn) || !greeted || self.mux.is_some() {
            self.stats.stale_frames += 1;
            return;
        }
        let Some(joined) = self.greeting.take().or_else(|| self.joined.clone()) else {
            return;
        };
        let protocols = Protocols::of(&fields.stream_protocols);
        if fields.use_yamux {
            let (limits, asked) = (&self.config.limits, YamuxConfig::default());
            let mux = Mux::new(Role::Server, limits, asked, protocols, self.now);
            self.mux = Some(Box::new(mux));
        }
        let joined = with_streams(joined, fields.use_yamux.then_some(protocols));
        self.tell_joined(conn, joined);
    }

    /// The greeting was not answered in time.
    pub(super) fn unanswered(&mut self, conn: ConnId) {
        if let Some(joined) = self.greeting.take().filter(|_| self.current == Some(conn)) {
            self.tell_joined(conn, joined);
        }
    }

    fn tell_joined(&mut self, conn: ConnId, joined: Joined) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.timers.stop(Timer::Hello);
        }
        self.greeting = None;
        self.joined = Some(joined.clone());
        self.actions.push_back(Action::Joined(conn, joined));
    }

    // ------------------------------------------------------------ streams

    pub(super) fn open_stream(&mut self, head: &Head) -> Result<StreamId, OpenError> {
        let joined = self.joined.as_ref().filter(|_| self.life == Life::Running);
        let joined = joined.ok_or(OpenError::Away)?;
        let spoken = match head.protocol {
            Protocol::Http => joined.http_streams,
            Protocol::Tcp | Protocol::Udp | Protocol::Datagrams => joined.yamux,
        };
        let id = self.streams.spare();
        let mux = self.mux.as_mut().filter(|_| spoken);
        let opened = mux.ok_or(OpenError::Mode)?.open(self.now, id, head);
        opened.map_err(|error| match error {
            crate::yamux::OpenError::TooMany => OpenError::TooManyStreams,
            crate::yamux::OpenError::Closed => OpenError::Away,
        })?;
        Ok(id)
    }

    pub(super) fn open_service_stream(&mut self, tunnel: Tunnel) -> Result<StreamId, OpenError> {
        let datagrams = self.mux.as_ref().is_some_and(|mux| mux.protocols.datagrams);
        let protocol = match tunnel.transport {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp if datagrams => Protocol::Datagrams,
            Transport::Udp => Protocol::Udp,
        };
        if tunnel.service_name.is_empty() {
            return Err(OpenError::Mode);
        }
        let joined = self.joined.as_ref();
        if joined.is_some_and(|joined| joined.http_streams && !joined.opens_tunnels) {
            return Err(OpenError::Tunnel);
        }
        let head = Head::of(tunnel, protocol).map_err(|_| OpenError::HeadTooLong)?;
        self.open_stream(&head)
    }

    pub(super) fn owns(&self, id: StreamId) -> bool {
        self.mux.as_ref().is_some_and(|mux| mux.owns(id))
    }

    pub(super) fn local(&mut self, id: StreamId, input: &Input<'_>) {
        let now = self.now;
        if let Some(mux) = &mut self.mux {
            mux.local(now, id, input);
            self.pump();
        }
    }

    pub(super) fn stream_takes(&mut self, id: StreamId, data: Bytes) -> Result<(), SendError> {
        let now = self.now;
        let Some(mux) = &mut self.mux else {
            return Err(SendError::Closed(data));
        };
        let taken = mux.send(now, id, data);
        if matches!(taken, Err(SendError::Closed(_))) {
            self.pump();
        }
        taken
    }

    pub(super) fn mux_bytes(&mut self, bytes: &[u8]) {
        let now = self.now;
        if let Some(mux) = &mut self.mux {
            mux.receive(now, bytes);
            self.pump();
        }
    }

    /// Does what came out of the session.
    pub(super) fn pump(&mut self) {
        let (now, periods) = (self.now, self.config.periods);
        while let Some(heard) = self.mux.as_mut().and_then(|mux| mux.heard(now, &periods)) {
            match heard.action(|id, by| Action::Failed(id, failure(by))) {
                Ok(action) => self.actions.push_back(action),
                Err(Heard::Ended(error, streams)) => {
                    self.fail_streams(streams, &Failure::Disconnected);
                    if let Some(conn) = self.current {
                        let reason = Reason::Session(error);
                        self.end_session(conn, Some(CloseCode::Policy), reason);
                    }
                    return;
                }
                Err(Heard::Fault(fault)) => self.tolerated(None, fault),
                Err(Heard::TooLong(id)) => self.fail_streams([id], &Failure::MessageTooLong),
                // The agent opens none: the session has refused it.
                Err(_) => {}
            }
        }
    }

    fn fail_streams(&mut self, streams: impl IntoIterator<Item = StreamId>, failure: &Failure) {
        let failed = streams.into_iter();
        let failed = failed.map(|id| Action::Failed(id, failure.clone()));
        self.actions.extend(failed);
    }

    pub(super) fn expire_streams(&mut self) {
        let now = self.now;
        if let Some(mux) = &mut self.mux {
            let over = mux.tick(now);
            self.fail_streams(over, &Failure::Reset);
            self.pump();
        }
    }

    /// Streams, or frames of them, that a shutdown waits for.
    pub(super) fn has_session(&self) -> bool {
        self.mux.as_ref().is_some_and(|mux| mux.is_busy())
    }

    /// This end opens no more streams, while those that are open may end.
    pub(super) fn leave_session(&mut self) {
        if let Some(mux) = &mut self.mux {
            mux.go_away();
        }
    }

    /// Ends every stream, and tells the agent.
    pub(super) fn reset_all(&mut self, failure: &Failure) {
        if let Some(mux) = &mut self.mux {
            let streams = mux.reset_all();
            self.fail_streams(streams, failure);
        }
    }

    /// Ends the session with the connection, and what is open in this way.
    pub(super) fn drop_session(&mut self, left: Ending) {
        self.greeting = None;
        if let Some(mut mux) = self.mux.take() {
            self.stats = mux.add_last_to(self.stats, left);
            let streams = mux.clear();
            self.fail_streams(streams, &Failure::Disconnected);
        }
    }
}

fn with_streams(joined: Joined, protocols: Option<Protocols>) -> Joined {
    Joined {
        yamux: protocols.is_some(),
        http_streams: protocols.is_some_and(|protocols| protocols.http),
        ..joined
    }
}

fn failure(by: ResetBy) -> Failure {
    match by {
        ResetBy::Peer => Failure::Reset,
        ResetBy::Memory => Failure::Overrun,
        ResetBy::Window => Failure::Fault(PeerFault::Overrun),
        ResetBy::Fault => Failure::Fault(PeerFault::Malformed),
    }
}
