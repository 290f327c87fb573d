//! An agent on threads and blocking sockets: `std::net` and rustls below the same core that the async
//! runtimes drive, and no async anywhere. It is here to be read.
//!
//! ```console
//! cargo run -p controlplane-core --example blocking -- --help
//! ```
//!
//! # How to write an adapter
//!
//! A machine of the core tells what to do, as [`Action`]s, and is told what happened, as [`Input`]s.
//! It does no I/O, reads no clock and makes no thread; all of that is yours. What you write:
//!
//! 1. **Make the machine** with the time and 16 random bytes: `Adapter::new`. Fix one origin of
//!    monotonic time, and count from there: `Adapter::now`.
//! 2. **Make one place where everything arrives**, because the machine has one owner. Here it is a
//!    channel of `Event`s, and the main thread, which never waits for anything else: `Adapter::run`.
//! 3. **Do what it wants** until it wants nothing: `poll` with [`Socket::Blocked`], then with
//!    [`Socket::Ready`] for each socket that can take a message *now*: `Adapter::next`. Messages are
//!    made late; do not queue them. Here a connection is ready when its writer has sent the last one.
//! 4. **Sleep** until something arrives or [`Machine::deadline`], whichever is first; then
//!    [`Input::Tick`]. There are no other timers: heartbeats, reconnects and time limits are
//!    the machine's.
//! 5. **Dial** for [`Action::Connect`], in the background: `link::dial`. Answer once, with
//!    [`Input::Connected`] or [`Input::Disconnected`]. [`Action::Close`] may come before: then forget it.
//! 6. **Read every socket always**, whatever else goes on: `link::read`. Report each message, each
//!    arrival of bytes in the middle of one ([`Input::Alive`]) and each byte that left
//!    ([`Input::Wrote`]), so that a long message over a slow line does not pass for silence: `Meter`.
//! 7. **Say how it ended**: refused with a status, closed with a code, or lost ([`Down`]). When to come
//!    back is the machine's business.
//! 8. **Open local ends** for [`Action::Open`], each beside the others: `local::open`. The rules for
//!    paths, headers and identities have been applied. Yours is what the
//!    [`Target`](controlplane_core::Target) says: an HTTP request (`http::exchange`), a WebSocket
//!    (`http::websocket`), a tunnel (`local::tcp`).
//! 9. **Keep the bounds.** Toward the tunnel: offer one piece and wait until [`Machine::send`] has
//!    taken it; what it refuses is kept and offered again at [`Action::Writable`]: `Adapter::offer`.
//!    From the tunnel: [`Input::Consumed`] only once the local end took a piece, not when it was
//!    queued for it: `local::carry`. That is all there is to backpressure.
//! 10. **End them.** [`Action::Finish`]: no more comes. [`Action::Closed`]: close the WebSocket, with
//!     this. [`Action::Reset`]: drop it now, whatever it waits for; here its connection is shut down,
//!     which wakes its threads (`local::Cut`). Report every end of your own by [`Input::Ended`].
//! 11. **Go on until** [`Action::Stopped`]; let what was written leave before: `Link::close`.
//!
//! Then play the test vectors (`tests/world/vectors`) against it.
//!
//! Here `main.rs` is the adapter, `wire.rs` and `link.rs` are its sockets, `local.rs` and `http.rs` its
//! local ends, and `settings.rs` is what it is told.
//!
//! What this one leaves out and the others have: the fast mode (it says so, `Cli::config`), a
//! pool of connections to the Kubernetes API, time limits and pings toward it.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an adapter has the clock, the threads and the locks that the core has not"
)]

mod http;
mod link;
mod local;
mod settings;
mod wire;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::Result;
use bytes::Bytes;
use controlplane_core::{
    Action, Agent, ConnId, Down, Frame, Input, Kind, Machine, SendError, Socket, Start, StreamId,
    Time,
};
use signal_hook::{consts, iterator::Signals};
use tungstenite::{Message, WebSocket};

use crate::{
    link::Link,
    local::{LocalEnd, Piece, Said},
    settings::Settings,
    wire::Wire,
};

/// How many events may wait for the main thread; whoever has more waits.
const EVENTS: usize = 64;
/// For requests that are under way when the process is told to end.
const GRACE: Duration = Duration::from_secs(25);

/// What happened, as the threads tell the main one.
enum Event {
    /// Bytes arrived.
    Alive(ConnId),
    Dialed(ConnId, Box<WebSocket<Wire>>),
    Down(ConnId, Down),
    Message(ConnId, Message),
    /// The socket has taken the last message.
    Ready(ConnId),
    Shutdown,
    Stream(StreamId, Said),
    /// Bytes left.
    Wrote(ConnId),
}

fn main() -> Result<()> {
    let (events, incoming) = mpsc::sync_channel(EVENTS);
    let adapter = Adapter::new(Settings::read()?, events.clone())?;
    let mut signals = Signals::new([consts::SIGINT, consts::SIGTERM])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            let _ = events.send(Event::Shutdown);
        }
    });
    adapter.run(&incoming);
    Ok(())
}

struct Adapter {
    machine: Agent,
    origin: Instant,
    settings: Arc<Settings>,
    events: SyncSender<Event>,
    /// `None` while it is dialled.
    links: BTreeMap<ConnId, Option<Link>>,
    /// Connections that are being closed.
    closing: Vec<JoinHandle<()>>,
    ends: BTreeMap<StreamId, LocalEnd>,
    /// Local ends that begin once all has been done: a request without a body has its end by then.
    starting: Vec<local::Run>,
    stopped: bool,
}

impl Adapter {
    fn new(settings: Settings, events: SyncSender<Event>) -> Result<Self> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)?;
        let start = Start {
            now: Time::ZERO,
            unix: unix(),
            nonce,
        };
        let mut machine = Agent::new(settings.config.clone(), start)?;
        machine.handle(Time::ZERO, Input::Status(settings.status.clone()));
        Ok(Self {
            machine,
            origin: Instant::now(),
            settings: Arc::new(settings),
            events,
            links: BTreeMap::new(),
            closing: Vec::new(),
            ends: BTreeMap::new(),
            starting: Vec::new(),
            stopped: false,
        })
    }

    fn now(&self) -> Time {
        Time::since_origin(self.origin.elapsed())
    }

    fn input(&mut self, input: Input<'_>) {
        let now = self.now();
        self.machine.handle(now, input);
    }

    fn run(mut self, incoming: &Receiver<Event>) {
        loop {
            self.act();
            if self.stopped {
                break;
            }
            let due = self.machine.deadline().map(|at| at - self.now());
            let event = incoming.recv_timeout(due.unwrap_or(Duration::MAX));
            // The wall clock may have been set meanwhile.
            self.input(Input::Clock(unix()));
            match event {
                Ok(event) => self.event(event),
                Err(_) => self.input(Input::Tick),
            }
        }
        for thread in self.closing {
            let _ = thread.join();
        }
    }

    /// Does everything that the machine wants now.
    fn act(&mut self) {
        while let Some(action) = self.next() {
            self.perform(action);
        }
        for run in self.starting.drain(..) {
            thread::spawn(run);
        }
    }

    /// What waits for no socket comes first.
    fn next(&mut self) -> Option<Action> {
        if let Some(action) = self.machine.poll(Socket::Blocked) {
            return Some(action);
        }
        let mut links = self.links.iter();
        links.find_map(|(conn, link)| match link {
            Some(link) if link.ready => self.machine.poll(Socket::Ready(*conn)),
            _ => None,
        })
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Connect(conn, endpoint) => {
                self.links.insert(conn, None);
                let (settings, events) = (self.settings.clone(), self.events.clone());
                thread::spawn(move || link::dial(conn, &endpoint, &settings, &events));
            }
            Action::Send(conn, frame) => {
                if let Some(Some(link)) = self.links.get_mut(&conn) {
                    link.send(frame);
                }
            }
            Action::Close(conn, code, reason) => {
                if let Some(Some(link)) = self.links.remove(&conn) {
                    self.closing.retain(|thread| !thread.is_finished());
                    self.closing.push(link.close(code, reason));
                }
            }
            Action::Open(id, target) => {
                let (settings, events) = (self.settings.clone(), self.events.clone());
                let (end, run) = local::open(id, target, settings, events);
                self.ends.insert(id, end);
                self.starting.push(run);
            }
            Action::Deliver(id, kind, data) => self.hand(id, Piece::Data(kind, data)),
            Action::Finish(id) => self.hand(id, Piece::End),
            Action::Closed(id, close, _) => self.hand(id, Piece::Close(close)),
            Action::Reset(id) => drop(self.ends.remove(&id)),
            Action::Writable(id) => {
                let end = self.ends.get_mut(&id);
                if let Some((kind, data)) = end.and_then(|end| end.held.take()) {
                    self.offer(id, kind, data);
                }
            }
            Action::Registered(to) => eprintln!("registered as {:?}", to.cluster_id),
            Action::ReconnectAfter { delay, reason, .. } => {
                eprintln!("no connection ({reason}); the next attempt is in {delay:?}");
            }
            Action::Notice(notice) => eprintln!("{notice:?}"),
            Action::Stopped => self.stopped = true,
            // Of the controller, or of the fast mode.
            _ => {}
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Alive(conn) => self.input(Input::Alive(conn)),
            Event::Dialed(conn, socket) => {
                // A dial that was given up has no place any more.
                if let Some(place) = self.links.get_mut(&conn) {
                    *place = Some(Link::start(conn, *socket, &self.events));
                    self.input(Input::Connected(conn));
                }
            }
            Event::Down(conn, down) => {
                self.links.remove(&conn);
                self.input(Input::Disconnected(conn, down));
            }
            Event::Message(conn, Message::Text(text)) => {
                self.input(Input::Frame(conn, Frame::Text(&text)));
            }
            Event::Message(conn, message) => {
                self.input(Input::Frame(conn, Frame::Binary(&message.into_data())));
            }
            Event::Ready(conn) => {
                if let Some(Some(link)) = self.links.get_mut(&conn) {
                    link.ready = true;
                }
            }
            Event::Shutdown => self.input(Input::Shutdown(GRACE)),
            Event::Stream(id, said) => self.said(id, said),
            Event::Wrote(conn) => self.input(Input::Wrote(conn)),
        }
    }

    // ------------------------------------------------------------ streams

    fn said(&mut self, id: StreamId, said: Said) {
        match said {
            Said::Opened(cut) => {
                // Dropped, it ends what was opened too late.
                if let Some(end) = self.ends.get_mut(&id) {
                    end.cut = Some(cut);
                }
            }
            Said::Head(head) => self.input(Input::Head(id, head)),
            Said::Data(kind, data) => self.offer(id, kind, data),
            Said::Consumed(len) => self.input(Input::Consumed(id, len)),
            Said::Ended(how) => {
                self.input(Input::Ended(id, how));
                self.ends.remove(&id);
            }
        }
    }

    /// Hands a piece to a local end. One that reads no more drops it, and is about to end.
    fn hand(&mut self, id: StreamId, piece: Piece) {
        let len = piece.len();
        let end = self.ends.get(&id);
        let dropped = end.is_some_and(|end| end.inbox.send(piece).is_err());
        if let Some(len) = len.filter(|_| dropped) {
            self.input(Input::Consumed(id, len));
        }
    }

    /// Offers what a local end sends, and lets it go on when it was taken.
    fn offer(&mut self, id: StreamId, kind: Kind, data: Bytes) {
        let taken = self.machine.send(id, kind, data);
        let Some(end) = self.ends.get_mut(&id) else {
            return;
        };
        match taken {
            Ok(()) => {
                let _ = end.taken.send(());
            }
            Err(SendError::Blocked(data)) => end.held = Some((kind, data)),
            // Nobody wants more of it; its end follows.
            Err(SendError::Closed(_)) => drop(self.ends.remove(&id)),
        }
    }
}

fn unix() -> Duration {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default()
}
