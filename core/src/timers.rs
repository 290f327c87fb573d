//! Deadlines of one link: at most one per [`Timer`].

use crate::time::Time;

/// What a deadline is for; the discriminant is its slot in [`Timers`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Timer {
    /// Give up on the dial.
    Dial,
    /// Let no more streams live: the grace of a shutdown is over.
    Drain,
    /// Dial the gateway again.
    Gateway,
    /// Send the next heartbeat.
    Heartbeat,
    /// Go on without the fast mode: the greeting was not answered.
    Hello,
    /// Declare the link dead: nothing was heard for too long.
    Idle,
    /// Close although frames are still waiting.
    Linger,
    /// Send the next WebSocket ping.
    Ping,
    /// Dial again.
    Reconnect,
    /// Give up on the registration.
    Register,
    /// Give up on a write that makes no progress.
    Stall,
}

impl Timer {
    const ALL: [Self; 11] = [
        Self::Dial,
        Self::Drain,
        Self::Gateway,
        Self::Heartbeat,
        Self::Hello,
        Self::Idle,
        Self::Linger,
        Self::Ping,
        Self::Reconnect,
        Self::Register,
        Self::Stall,
    ];
}

/// One optional deadline per [`Timer`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers([Option<Time>; Timer::ALL.len()]);

impl Timers {
    pub(crate) const fn set(&mut self, timer: Timer, at: Time) {
        self.0[timer as usize] = Some(at);
    }

    /// Sets the timer unless it is running.
    pub(crate) fn start(&mut self, timer: Timer, at: Time) {
        self.0[timer as usize].get_or_insert(at);
    }

    pub(crate) const fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(crate) const fn get(&self, timer: Timer) -> Option<Time> {
        self.0[timer as usize]
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.0.iter().flatten().min().copied()
    }

    /// Takes one timer that is due, earliest first.
    pub(crate) fn expire(&mut self, now: Time) -> Option<Timer> {
        let due = Timer::ALL
            .into_iter()
            .filter_map(|timer| Some((self.get(timer)?, timer)))
            .filter(|(at, _)| *at <= now)
            .min_by_key(|(at, _)| *at)?
            .1;
        self.stop(due);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time::since_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn the_earliest_due_timer_comes_first_and_only_once() {
        let mut timers = Timers::default();
        timers.set(Timer::Ping, at(2));
        timers.set(Timer::Idle, at(1));
        timers.set(Timer::Stall, at(9));
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.expire(at(2)), Some(Timer::Idle));
        assert_eq!(timers.expire(at(2)), Some(Timer::Ping));
        assert_eq!(timers.expire(at(2)), None);
        assert_eq!(timers.next(), Some(at(9)));
    }

    #[test]
    fn every_timer_has_its_own_slot() {
        for (slot, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, slot);
        }
    }

    #[test]
    fn a_timer_that_runs_is_set_anew_but_not_started_anew() {
        let mut timers = Timers::default();
        timers.start(Timer::Stall, at(3));
        timers.start(Timer::Stall, at(5));
        assert_eq!(timers.get(Timer::Stall), Some(at(3)));
        timers.set(Timer::Stall, at(7));
        assert_eq!(timers.get(Timer::Stall), Some(at(7)));
        timers.stop(Timer::Stall);
        assert_eq!((timers.get(Timer::Stall), timers.next()), (None, None));
        assert_eq!(timers.expire(at(9)), None);
    }
}
