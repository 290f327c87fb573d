//! Pings: whether the peer is there, and how far away.

use core::time::Duration;

use super::{Config, Session, SessionError};
use crate::time::Time;

/// The ping under way, and when the next is due.
#[derive(Debug)]
pub(super) struct Keepalive {
    next: Time,
    /// The value of the last ping.
    value: u32,
    /// It waits to be sent.
    wanted: bool,
    /// It was sent then, and was not answered.
    sent: Option<Time>,
    /// When anything was heard last.
    heard: Time,
    rtt: Option<Duration>,
}

impl Keepalive {
    /// The first ping is due at once: it tells the round trip.
    pub(super) const fn new(now: Time) -> Self {
        Self {
            next: now,
            value: 0,
            wanted: true,
            sent: None,
            heard: now,
            rtt: None,
        }
    }

    pub(super) const fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(super) fn heard(&mut self, now: Time) {
        self.heard = self.heard.max(now);
    }

    pub(super) fn answered(&mut self, now: Time, value: u32) {
        if value == self.value
            && let Some(sent) = self.sent.take()
        {
            self.rtt = Some(now - sent);
        }
    }

    /// The value of a ping that is to be sent now.
    pub(super) fn take(&mut self, now: Time, period: Duration) -> Option<u32> {
        if !core::mem::take(&mut self.wanted) {
            return None;
        }
        self.sent = Some(now);
        self.next = now + period;
        Some(self.value)
    }

    pub(super) const fn wants(&self) -> bool {
        self.wanted
    }

    /// When the session counts as dead: an answer is overdue, and nothing else was heard either,
    /// behind which it may wait.
    fn dead(&self, config: &Config) -> Option<Time> {
        let sent = self.sent?;
        Some(sent.max(self.heard) + config.timeout)
    }

    fn deadline(&self, config: &Config) -> Option<Time> {
        match self.dead(config) {
            Some(at) => Some(at),
            None => (!self.wanted).then_some(self.next),
        }
    }
}

impl Session {
    /// When [`Self::tick`] is due; `None` once the session is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.live?;
        self.keepalive.deadline(&self.config)
    }

    /// Does what fell due until `now`.
    pub fn tick(&mut self, now: Time) {
        let keepalive = &mut self.keepalive;
        if self.live.is_none() {
            return;
        }
        if keepalive.dead(&self.config).is_some_and(|at| at <= now) {
            return self.end(SessionError::Timeout);
        }
        if keepalive.sent.is_none() && !keepalive.wanted && keepalive.next <= now {
            keepalive.value = keepalive.value.wrapping_add(1);
            keepalive.wanted = true;
        }
    }
}
