//! The streams of the fast mode: their clients at the controller, and what serves them at the agent.

mod causes;
pub(super) mod tap;
mod told;

use std::time::Duration;

use controlplane_core::{
    Input, Kind, Machine as _, OpenError, ResponseHead, SendError, StreamEnd, StreamId,
};

pub(super) use self::{
    tap::{Tap, is_yamux},
    told::ALIEN,
};
use super::{Event, World, clients::same};
use crate::{
    exchange::Check,
    fast::{Carries, Fast, Finish, Over, Plan},
    link::Side,
    plan::Manners,
    tunnel::Dial,
};

/// Connections whose client nobody is: see [`World::fasts_without_client_end`].
const NOBODYS: u64 = u64::MAX;

/// What an end does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Act {
    /// It breaks off.
    Breaks,
    /// It takes a delivery.
    Reads,
    /// It says something, or ends.
    Says,
}

impl World {
    /// Whether both ends are willing, so that a link that lasts is in the fast mode.
    pub(super) fn is_fast(&self) -> bool {
        let offered = matches!(self.manners, Manners::Ours | Manners::Buffering);
        offered && self.agent.has_yamux() && self.controller.has_yamux()
    }

    /// A client wants a stream.
    pub(super) fn fast(&mut self, plan: Plan) -> Check {
        if !self.controller.up {
            return Ok(());
        }
        let n = self.next_fast;
        self.next_fast += 1;
        let session = self.tap.as_ref().map_or(0, Tap::number);
        let mut fast = Fast::new(n, plan, session);
        let unknown = self.fasts.values().filter(|other| other.is_unknown());
        let begun: Vec<u8> = unknown.map(Fast::first_byte).collect();
        fast.begin_apart(&begun);
        let before = self.controller.machine.stats();
        let (now, machine) = (self.now, &mut self.controller.machine);
        let opened = match fast.plan.carries {
            Carries::Http => machine.open_http(now),
            Carries::Tcp | Carries::Udp => machine.open_service(now, fast.named()),
        };
        let id = match opened {
            Ok(id) => id,
            Err(error) => return self.fast_refused(n, error, &before),
        };
        if self.controller.last_stream.is_some_and(|last| id <= last) {
            return Err("the controller used a stream's id again".into());
        }
        let Some(tap) = &mut self.tap else {
            return Err(format!("stream {n} was opened without a session"));
        };
        tap.opened(n);
        // Its frames may be taken for the rest of one that is not there.
        fast.tainted |= tap.broken;
        self.controller.last_stream = Some(id);
        self.controller.fast.insert(id, n);
        fast.end(Side::Controller).id = Some(id);
        self.count(match fast.plan.carries {
            Carries::Http => "fast: HTTP",
            Carries::Tcp => "fast: TCP",
            Carries::Udp => "fast: UDP",
        });
        let breaks = fast.plan.breaks;
        self.fasts.insert(n, fast);
        if let Some((side, delay)) = breaks {
            self.after(delay, Event::Fast(n, side, Act::Breaks));
        }
        self.fast_on(n, Side::Controller, Act::Says);
        Ok(())
    }

    /// Every refusal has a cause.
    fn fast_refused(
        &mut self,
        n: u64,
        error: OpenError,
        before: &controlplane_core::Stats,
    ) -> Check {
        let limits = self.controller.limits();
        let joined = self.controller.machine.joined();
        let leaves = self.agent.stopping || self.tap.as_ref().is_some_and(Tap::is_left);
        let right = match error {
            OpenError::Away => joined.is_none() || self.controller.stopping || leaves,
            OpenError::Mode => joined.is_some_and(|joined| !joined.yamux || !joined.http_streams),
            OpenError::TooManyStreams => {
                before.streams_open >= limits.streams || before.held_out >= limits.send_total
            }
            _ => false,
        };
        if !right {
            return Err(format!("stream {n} was refused: {error}"));
        }
        self.count(match error {
            OpenError::Away => "fast: refused, away",
            OpenError::Mode => "fast: refused, JSON alone",
            _ => "fast: refused, too many",
        });
        Ok(())
    }

    /// Lets an end go on, some time from now.
    pub(super) fn fast_on(&mut self, n: u64, side: Side, act: Act) {
        let Some(fast) = self.fasts.get_mut(&n) else {
            return;
        };
        let voice = fast.plan.voices[side as usize];
        let end = fast.end(side);
        let (busy, pace) = match act {
            Act::Reads => (&mut end.reader.busy, voice.reads),
            Act::Says | Act::Breaks => (&mut end.busy, voice.pace),
        };
        if !std::mem::replace(busy, true) {
            let pace = self.pace(pace);
            self.after(pace, Event::Fast(n, side, act));
        }
    }

    pub(super) fn fast_event(&mut self, n: u64, side: Side, act: Act) -> Check {
        let calm = self.calm;
        if n == NOBODYS {
            self.fasts_without_client_end();
        }
        let Some(fast) = self.fasts.get_mut(&n) else {
            return Ok(());
        };
        let tainted = fast.tainted;
        let end = fast.end(side);
        match act {
            Act::Breaks => {}
            Act::Reads => end.reader.busy = false,
            Act::Says => end.busy = false,
        }
        let Some(id) = end.id.filter(|_| end.is_open()) else {
            return Ok(());
        };
        match act {
            // After a lie one end may wait for ever for what the other takes to be over.
            Act::Breaks if calm && !tainted => Ok(()),
            Act::Breaks => self.fast_breaks(n, side, id),
            Act::Reads => self.fast_reads(n, side, id),
            Act::Says => self.fast_says(n, side, id),
        }
    }

    /// Nobody is slow any more.
    pub(super) fn fasts_calm_down(&mut self) {
        let all: Vec<u64> = self.fasts.keys().copied().collect();
        let silence = Duration::from_secs(90);
        self.after(silence, Event::Fast(NOBODYS, Side::Agent, Act::Breaks));
        for n in all {
            for side in Side::BOTH {
                for act in [Act::Says, Act::Reads, Act::Breaks] {
                    self.after(Duration::ZERO, Event::Fast(n, side, act));
                }
            }
        }
    }

    // ------------------------------------------------------------ an end

    fn fast_breaks(&mut self, n: u64, side: Side, id: StreamId) -> Check {
        if let Some(fast) = self.fasts.get_mut(&n) {
            fast.end(side).ends(Over::Reset);
        }
        self.forget_fast(side, id);
        self.count("fast: broken off");
        match self.rng.chance(500) {
            true => self.tell(side, Input::Cancel(id)),
            false => self.tell(side, Input::Ended(id, StreamEnd::Broken("reset".into()))),
        }
    }

    pub(super) fn forget_fast(&mut self, side: Side, id: StreamId) {
        match side {
            Side::Agent => _ = self.agent.fast.remove(&id),
            Side::Controller => _ = self.controller.fast.remove(&id),
        }
    }

    fn fast_reads(&mut self, n: u64, side: Side, id: StreamId) -> Check {
        let (calm, now) = (self.calm, self.now);
        let Some(fast) = self.fasts.get_mut(&n) else {
            return Ok(());
        };
        let sated = fast.plan.voices[side as usize].sated;
        let end = fast.end(side);
        let enough = sated.is_some_and(|most| end.taken >= most) && !calm;
        if enough {
            if !end.reader.waiting.is_empty() {
                self.count("fast: reads no more");
            }
            return Ok(());
        }
        let Some(len) = end.reader.take() else {
            return Ok(());
        };
        end.taken += len;
        let more = !end.reader.waiting.is_empty();
        if side == Side::Agent {
            fast.active = now;
        }
        if more {
            self.fast_on(n, side, Act::Reads);
        }
        self.tell(side, Input::Consumed(id, len))
    }

    fn fast_says(&mut self, n: u64, side: Side, id: StreamId) -> Check {
        let Some(fast) = self.fasts.get_mut(&n) else {
            return Ok(());
        };
        if side == Side::Agent && fast.plan.carries != Carries::Http && !fast.accepted {
            return self.fast_dial(n, id);
        }
        let end = &fast.ends[side as usize];
        if end.blocked || end.finished {
            return Ok(());
        }
        if fast.is_said(side) {
            return self.fast_finishes(n, side, id);
        }
        let kind = match fast.plan.carries {
            Carries::Udp => Kind::Datagram,
            Carries::Http | Carries::Tcp => Kind::Bytes,
        };
        let data = fast.next(side, &mut self.rng);
        let sent = match side {
            Side::Agent => self.agent.machine.send(id, kind, data.clone()),
            Side::Controller => self.controller.machine.send(id, kind, data.clone()),
        };
        if side == Side::Agent {
            fast.active = self.now;
        }
        match sent {
            Ok(()) => {
                fast.said(side, data.len());
                self.fast_on(n, side, Act::Says);
                Ok(())
            }
            Err(SendError::Blocked(back)) => {
                fast.end(side).blocked = true;
                self.count("fast: waited for room");
                same(&back, &data)
            }
            Err(SendError::Closed(_)) => Err(format!("stream {n}: data is not taken: {fast:?}")),
        }
    }

    fn fast_dial(&mut self, n: u64, id: StreamId) -> Check {
        let Some(fast) = self.fasts.get_mut(&n) else {
            return Ok(());
        };
        match fast.plan.dial {
            Dial::Accepts => {
                fast.accepted = true;
                fast.active = self.now;
                self.fast_on(n, Side::Agent, Act::Says);
                self.tell_agent(Input::Head(id, ResponseHead::default()))
            }
            Dial::Silent if !self.calm => Ok(()),
            _ => {
                fast.end(Side::Agent).ends(Over::Reset);
                self.forget_fast(Side::Agent, id);
                let end = StreamEnd::Broken("refused".into());
                self.tell_agent(Input::Ended(id, end))
            }
        }
    }

    fn fast_finishes(&mut self, n: u64, side: Side, id: StreamId) -> Check {
        let calm = self.calm && !self.ending;
        let Some(fast) = self.fasts.get_mut(&n) else {
            return Ok(());
        };
        let voice = fast.plan.voices[side as usize];
        let end = fast.end(side);
        if voice.last && !end.heard_end && !calm {
            return Ok(());
        }
        match voice.finish {
            Finish::Reset => return self.fast_breaks(n, side, id),
            Finish::Never if !calm || self.idle_fast == Some(n) => return Ok(()),
            Finish::Never | Finish::Clean => end.finished = true,
        }
        self.count("fast: half closed");
        self.tell(side, Input::Ended(id, StreamEnd::Clean))
    }

    // ------------------------------------------------------------ all

    /// Whether every stream is over for everybody.
    pub(super) fn fasts_are_quiet(&self) -> bool {
        self.agent.fast.is_empty() && self.controller.fast.is_empty()
    }

    /// What became of those from `first` on: each carried everything.
    pub(super) fn fasts_went_well(&self, first: u64) -> Check {
        for (n, fast) in self.fasts.range(first..) {
            let over = Side::BOTH.map(|side| {
                let end = &fast.ends[side as usize];
                end.over == Some(Over::Order) && fast.is_whole(side)
            });
            let said = Side::BOTH.iter().all(|side| fast.is_said(*side));
            if over != [true; 2] || !said {
                return Err(format!("stream {n} in the calm: {fast:?}"));
            }
        }
        Ok(())
    }

    /// The process of a side is gone.
    pub(super) fn fasts_gone(&mut self, side: Side) {
        match side {
            Side::Agent => self.agent.fast.clear(),
            Side::Controller => self.controller.fast.clear(),
        }
        for fast in self.fasts.values_mut() {
            let end = fast.end(side);
            if end.is_open() {
                end.ends(Over::Gone);
            }
        }
    }
}
