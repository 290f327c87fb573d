//! The one event loop: reports to a machine of the core what happened, and does what it says.
//!
//! What is particular to the agent or the controller is a [`Side`]; both read their sockets, feed
//! their streams and keep their timers here.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use controlplane_core::{
    Action, ConnId, Input, Kind, Machine, SendError, Socket, Start, Stats, StreamEnd, StreamId,
    Time,
};
use futures_channel::mpsc;
use futures_util::StreamExt;

use crate::{
    body::{Event, Piece},
    ends::{Ends, Shape},
    links::Links,
    runtime::{Runtime, Timer},
};

/// Rounds per wake-up before other tasks get a turn.
const BUDGET: u32 = 128;
/// Between two looks at the wall clock.
const CLOCK: Duration = Duration::from_secs(1);

/// What one of the two roles does beside what both do.
pub(crate) trait Side: Send + 'static {
    type Runtime: Runtime;
    type Machine: Machine + Send + 'static;
    type Command: Send + 'static;
    /// The local end's [`StreamEnd`] is the last that is heard of a stream.
    const ENDED_IS_LAST: bool;

    /// Does what concerns this role alone.
    fn act(&mut self, action: Action, machine: &Self::Machine, ends: &mut Ends);

    fn command(
        &mut self,
        command: Self::Command,
        machine: &mut Self::Machine,
        now: Time,
        ends: &mut Ends,
        links: &mut Links,
    );

    /// Works on what is under way; an input where something came of it.
    fn poll(&mut self, cx: &mut Context<'_>, links: &mut Links) -> Option<Input<'static>>;
}

/// When a loop began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    instant: Instant,
    pub(crate) start: Start,
}

impl Origin {
    /// Now; an error where the system has no randomness.
    pub(crate) fn new<R: Runtime>(runtime: &R) -> Result<Self, getrandom::Error> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)?;
        Ok(Self {
            instant: runtime.now(),
            start: Start {
                now: Time::ZERO,
                unix: unix(),
                nonce,
            },
        })
    }

    pub(crate) fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.instant)
    }

    pub(crate) fn instant(&self, at: Time) -> Option<Instant> {
        self.instant.checked_add(at.as_duration())
    }
}

fn unix() -> Duration {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default()
}

pub(crate) type SharedStats = Arc<Mutex<Stats>>;

pub(crate) fn stats(shared: &SharedStats) -> Stats {
    *shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A loop around a machine.
pub(crate) struct Loop<S: Side> {
    pub(crate) machine: S::Machine,
    pub(crate) side: S,
    pub(crate) runtime: S::Runtime,
    pub(crate) origin: Origin,
    pub(crate) commands: mpsc::UnboundedReceiver<S::Command>,
    pub(crate) stats: SharedStats,
}

impl<S: Side> Loop<S> {
    /// Runs until the machine has stopped and its connections are closed.
    pub(crate) async fn run(self) {
        let timer = self.runtime.timer(self.origin.instant);
        let mut timer = pin!(timer);
        let mut state = State {
            inner: self,
            ends: Ends::new(),
            links: Links::default(),
            armed: None,
            clock: Time::ZERO,
            abandoned: false,
            stopped: false,
        };
        poll_fn(|cx| state.poll(cx, timer.as_mut())).await;
    }
}

struct State<S: Side> {
    inner: Loop<S>,
    ends: Ends,
    links: Links,
    /// What the timer is set to.
    armed: Option<Instant>,
    /// When the wall clock was told last.
    clock: Time,
    /// Nobody can send commands any more.
    abandoned: bool,
    stopped: bool,
}

impl<S: Side> State<S> {
    fn now(&self) -> Time {
        let Loop {
            runtime, origin, ..
        } = &self.inner;
        Time::since_origin(origin.since(runtime.now()))
    }

    fn input(&mut self, input: Input<'_>) {
        let now = self.now();
        self.inner.machine.handle(now, input);
    }

    fn poll(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut TimerOf<S>>) -> Poll<()> {
        self.tell_clock();
        for _ in 0..BUDGET {
            self.act(cx);
            let closed = self.links.poll_closing(cx);
            if self.stopped && closed {
                self.publish();
                return Poll::Ready(());
            }
            // Each source gets one turn a round, so none can starve another.
            let progress = self.poll_side(cx)
                | self.poll_links(cx)
                | self.poll_events(cx)
                | self.poll_commands(cx)
                | self.poll_timer(cx, timer.as_mut());
            if !progress {
                self.publish();
                return Poll::Pending;
            }
        }
        self.publish();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The wall clock may be set at any time.
    fn tell_clock(&mut self) {
        let now = self.now();
        if now - self.clock >= CLOCK {
            self.clock = now;
            self.input(Input::Clock(unix()));
        }
    }

    fn publish(&self) {
        let mut stats = self
            .inner
            .stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *stats = self.inner.machine.stats();
    }

    /// Does everything the machine wants done now, and writes all that the sockets take.
    fn act(&mut self, cx: &mut Context<'_>) {
        loop {
            while let Some(action) = self.inner.machine.poll(Socket::Blocked) {
                self.perform(action);
            }
            let mut again = false;
            for conn in self.links.conns() {
                again |= self.write(conn, cx);
            }
            if again {
                continue;
            }
            for conn in self.links.conns() {
                if self.links.poll_flush(conn, cx) {
                    self.input(Input::Wrote(conn));
                    // Like every input it may leave something to do, and nothing else comes to
                    // remind of that: a deadline may have passed by now.
                    again = true;
                }
            }
            if !again {
                return;
            }
        }
    }

    fn write(&mut self, conn: ConnId, cx: &mut Context<'_>) -> bool {
        match self.links.poll_ready(conn, cx) {
            Ok(false) => return false,
            Ok(true) => {}
            Err(down) => {
                self.input(Input::Disconnected(conn, down));
                return true;
            }
        }
        match self.inner.machine.poll(Socket::Ready(conn)) {
            None => false,
            Some(action) => {
                self.perform(action);
                true
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send(conn, frame) => {
                if let Err(down) = self.links.send(conn, frame) {
                    self.input(Input::Disconnected(conn, down));
                }
            }
            Action::Deliver(id, kind, data) => self.ends.hand(id, Piece::Data(kind, data)),
            Action::Closed(id, close, failure) => {
                self.ends.hand(id, Piece::Closed(close, failure));
                if !S::ENDED_IS_LAST {
                    // Who waits for room learns that nobody wants more.
                    self.ends.forget(id);
                }
            }
            Action::Discard(id) => {
                if let Some(end) = self.ends.by_id.get(&id) {
                    end.pieces.discard();
                }
            }
            // The peer has no more to send; the stream goes on until this end has none either.
            Action::HalfClosed(id) => self.ends.hand(id, Piece::End),
            // What was handed before can still be read.
            Action::Over(id) => self.ends.forget(id),
            Action::Writable(id) => self.writable(id),
            Action::Reset(id) => self.ends.reset(id),
            Action::Close(conn, code, reason) => {
                self.links.close(conn, code, reason, &self.inner.runtime);
                self.side_act(Action::Close(conn, code, reason));
            }
            Action::Stopped => {
                self.stopped = true;
                self.side_act(Action::Stopped);
            }
            action => self.side_act(action),
        }
    }

    fn side_act(&mut self, action: Action) {
        // Whoever learns of it finds the counters up to date.
        self.publish();
        let Loop { side, machine, .. } = &mut self.inner;
        side.act(action, machine, &mut self.ends);
    }

    // ------------------------------------------------------------ streams

    fn writable(&mut self, id: StreamId) {
        let end = self.ends.by_id.get_mut(&id);
        if let Some((kind, data)) = end.and_then(|end| end.held.take()) {
            self.offer(id, kind, data);
        }
    }

    fn offer(&mut self, id: StreamId, kind: Kind, data: Bytes) {
        let outcome = self.inner.machine.send(id, kind, data);
        let Some(end) = self.ends.by_id.get_mut(&id) else {
            return;
        };
        match outcome {
            Ok(()) => {
                let _ = end.taken.unbounded_send(());
                if let Some(how) = end.ending.take() {
                    self.ended(id, how);
                }
            }
            Err(SendError::Blocked(data)) => end.held = Some((kind, data)),
            Err(SendError::Closed(_)) => end.taken.close_channel(),
        }
    }

    fn poll_events(&mut self, cx: &mut Context<'_>) -> bool {
        let Poll::Ready(Some((id, event))) = self.ends.incoming.poll_next_unpin(cx) else {
            return false;
        };
        match event {
            Event::Cancel => {
                self.ends.forget(id);
                self.input(Input::Cancel(id));
            }
            Event::Consumed(len) => self.input(Input::Consumed(id, len)),
            Event::Data(kind, data) => self.offer(id, kind, data),
            Event::Ended(end) => self.ended(id, end),
            Event::Head(head) => self.input(Input::Head(id, head)),
        }
        true
    }

    fn ended(&mut self, id: StreamId, how: StreamEnd) {
        let in_order = !matches!(how, StreamEnd::Broken(_));
        let end = self.ends.by_id.get_mut(&id);
        let shape = end.as_ref().map_or(Shape::Request, |end| end.shape);
        if let Some(end) = end.filter(|end| in_order && end.held.is_some()) {
            end.ending = Some(how);
            return;
        }
        self.input(Input::Ended(id, how));
        let is_last = match shape {
            Shape::Duplex => !in_order,
            Shape::Request => S::ENDED_IS_LAST,
            Shape::Socket => true,
        };
        if is_last {
            self.ends.forget(id);
        }
    }

    // ------------------------------------------------------------ the other sources

    fn poll_side(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(input) = self.inner.side.poll(cx, &mut self.links) else {
            return false;
        };
        self.input(input);
        true
    }

    fn poll_links(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        for conn in self.links.conns() {
            if let Some(received) = self.links.poll_read(conn, &self.inner.runtime, cx) {
                self.input(received.input(conn));
                any = true;
            }
        }
        any
    }

    fn poll_commands(&mut self, cx: &mut Context<'_>) -> bool {
        if self.abandoned {
            return false;
        }
        match self.inner.commands.poll_next_unpin(cx) {
            Poll::Pending => false,
            Poll::Ready(None) => {
                self.abandoned = true;
                self.input(Input::Shutdown(Duration::ZERO));
                true
            }
            Poll::Ready(Some(command)) => {
                let now = self.now();
                let Loop { side, machine, .. } = &mut self.inner;
                side.command(command, machine, now, &mut self.ends, &mut self.links);
                true
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut TimerOf<S>>) -> bool {
        let at = self.inner.machine.deadline();
        let Some(at) = at.and_then(|at| self.inner.origin.instant(at)) else {
            return false;
        };
        if self.armed != Some(at) {
            timer.as_mut().reset(at);
            self.armed = Some(at);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        // A timer that has fired is not asked again before it was set again.
        self.armed = None;
        self.input(Input::Tick);
        true
    }
}

type TimerOf<S> = <<S as Side>::Runtime as Runtime>::Timer;
