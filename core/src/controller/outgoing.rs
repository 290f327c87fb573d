//! What the controller sends next on a connection: control frames first, then streams in turn.

use alloc::{boxed::Box, collections::VecDeque, string::String};

use super::{Controller, sessions::Session, tunnels};
use crate::{
    action::{Action, OutFrame},
    input::{ConnId, Socket, StreamClose, StreamId},
    mux::Protocols,
    streams::{Item, Turn},
    time::Time,
    timers::Timer,
    wire::{encode, rfc3339},
};

/// Control frames of one connection that wait for the socket: slots, so that no peer can make
/// them grow.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// Id of the `register` to answer; the newest wins.
    pub(super) success: Option<String>,
    /// The agent is to be greeted, for the fast mode.
    pub(super) hello: bool,
    /// The fast mode had its turn, JSON is next.
    json_next: bool,
    pub(super) ack: bool,
    pub(super) ping: bool,
    /// When the first ping left that was not answered.
    pub(super) ping_sent: Option<Time>,
    pub(super) pong: Option<Option<String>>,
    /// Errors to report, with the id they answer; bounded by `Limits::control`.
    pub(super) errors: VecDeque<(Option<String>, &'static str)>,
    /// Requests that are over here and answered all the same: they are to be given up.
    strays: VecDeque<Stray>,
}

/// A request that is over here; remembered for a while so that it is named once.
#[derive(Debug)]
struct Stray {
    id: Box<str>,
    what: What,
    told: bool,
}

/// What a stray is, which decides how it is given up.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Request,
    Socket,
    Tunnel,
}

/// Strays that are remembered.
const MAX_STRAYS: usize = 64;

impl Control {
    fn any(&self) -> bool {
        self.success.is_some()
            || self.hello
            || self.ack
            || self.ping
            || self.pong.is_some()
            || !self.errors.is_empty()
            || self.strays.iter().any(|stray| !stray.told)
    }

    /// Remembers that the agent is being told.
    fn cancelled(&mut self, id: &str, what: What) {
        self.stray(id, what);
        if let Some(stray) = self.strays.back_mut().filter(|stray| &*stray.id == id) {
            stray.told = true;
        }
    }

    /// Has the agent give up a request that is over here, unless it was told before.
    pub(super) fn stray(&mut self, id: &str, what: What) {
        if self.strays.iter().any(|stray| &*stray.id == id) {
            return;
        }
        if self.strays.len() >= MAX_STRAYS {
            self.strays.pop_front();
        }
        self.strays.push_back(Stray {
            id: id.into(),
            what,
            told: false,
        });
    }
}

impl Controller {
    pub(super) fn next_action(&mut self, socket: Socket) -> Option<Action> {
        self.settle(false);
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if let Some(notice) = self.notices.pop() {
            return Some(Action::Notice(notice));
        }
        self.watch_writes(socket);
        let Socket::Ready(conn) = socket else {
            return None;
        };
        let session = self.sessions.get_mut(&conn)?;
        session.timers.stop(Timer::Stall);
        if let Some(frame) = self.control_frame(conn) {
            return Some(Action::Send(conn, frame));
        }
        if self.current != Some(conn) {
            return None;
        }
        let frame = self.mux_or_json_frame(conn)?;
        Some(Action::Send(conn, frame))
    }

    /// Both modes in turn, where there is something of both.
    fn mux_or_json_frame(&mut self, conn: ConnId) -> Option<OutFrame> {
        let session = self.sessions.get_mut(&conn)?;
        session.control.json_next ^= true;
        if session.control.json_next {
            let frame = self.stream_frame(conn).map(OutFrame::Text);
            frame.or_else(|| self.mux_frame())
        } else {
            let frame = self.mux_frame();
            frame.or_else(|| self.stream_frame(conn).map(OutFrame::Text))
        }
    }

    fn mux_frame(&mut self) -> Option<OutFrame> {
        let now = self.now;
        let frame = self.mux.as_mut()?.transmit(now)?;
        self.pump();
        Some(OutFrame::Binary(frame))
    }

    /// A connection that has something to send and cannot is given limited time.
    fn watch_writes(&mut self, socket: Socket) {
        let until = self.now + self.config.periods.write;
        let mux = self.mux.as_ref().is_some_and(|mux| mux.wants_transmit());
        let streams = self.streams.wants_send() || mux;
        for (conn, session) in &mut self.sessions {
            let wants = session.control.any() || (streams && self.current == Some(*conn));
            if wants && socket != Socket::Ready(*conn) {
                session.timers.start(Timer::Stall, until);
            }
        }
    }

    fn control_frame(&mut self, conn: ConnId) -> Option<OutFrame> {
        let unix = self.unix();
        let Session { control, .. } = self.sessions.get_mut(&conn)?;
        if !control.any() {
            return None;
        }
        let timestamp = rfc3339::format(unix);
        let text = if let Some(id) = control.success.take() {
            let config = &self.config;
            encode::register_success(
                &id,
                &config.cluster_id,
                &config.name,
                config.workspace_id,
                &timestamp,
            )
        } else if core::mem::take(&mut control.hello) {
            encode::gateway_hello(self.config.limits.window, &Protocols::OURS)
        } else if let Some(id) = control.pong.take() {
            encode::pong(id.as_deref(), &timestamp)
        } else if core::mem::take(&mut control.ping) {
            control.ping_sent.get_or_insert(self.now);
            return Some(OutFrame::Ping);
        } else if core::mem::take(&mut control.ack) {
            encode::heartbeat_ack(&timestamp)
        } else if let Some((id, text)) = control.errors.pop_front() {
            encode::error(id.as_deref(), text)
        } else if let Some(stray) = control.strays.iter_mut().find(|stray| !stray.told) {
            stray.told = true;
            match stray.what {
                What::Request => encode::cancel(&stray.id),
                What::Socket => {
                    let close = StreamClose::new(StreamClose::GOING_AWAY, "");
                    encode::websocket_close(&stray.id, &close)
                }
                What::Tunnel => encode::tcp_close(&stray.id, &tunnels::client_closed()),
            }
        } else {
            return None;
        };
        Some(OutFrame::Text(text))
    }

    fn stream_frame(&mut self, conn: ConnId) -> Option<String> {
        loop {
            let Turn { id, item } = self.streams.framed(&self.config.limits)?;
            let frame = self.framed(conn, id, item);
            self.tidy(id);
            self.wake();
            // Otherwise the end of a UDP client's flow, of which nothing is told.
            if frame.is_some() {
                return frame;
            }
        }
    }

    fn framed(&mut self, conn: ConnId, id: StreamId, item: Item) -> Option<String> {
        self.note_framed(conn, id, &item);
        let stream = self.streams.get(id)?;
        let terms = stream.state.terms;
        let answers = stream.state.is_answered();
        let name = &*stream.name;
        let tunnel = stream.state.tunnel.as_deref();
        Some(match item {
            Item::Cancel => encode::cancel(name),
            Item::Close(close) => encode::websocket_close(name, &close),
            Item::Data(data) => match tunnel {
                None => encode::request_chunk(name, &data, &self.base64),
                Some(_) => encode::tcp_data(name, &data, true, &self.base64),
            },
            Item::End => encode::request_end(name),
            Item::Grant(bytes) => encode::grant(name, true, bytes),
            Item::Message(kind, data) => match tunnel {
                None => encode::websocket_data(name, kind, &data, &self.base64),
                Some(tunnel) => encode::udp_data(tunnel, &data, &self.base64),
            },
            Item::Request {
                head,
                body_follows,
                body,
            } => encode::proxy_request(name, &head, body_follows, &body, terms, &self.base64),
            Item::Tunnel(tunnel) => encode::tcp_start(name, &tunnel),
            Item::TunnelClose(end) => encode::tcp_close(name, &end),
            Item::Upgrade(head, protocols) if answers => {
                encode::upgrade_request(name, &head, &protocols, terms)
            }
            Item::Upgrade(head, protocols) => {
                let protocol = protocols.first().map(String::as_str);
                encode::websocket_start(name, &head, protocol)
            }
            // A UDP flow has no last word, and the others are the agent's.
            Item::FlowOver(_)
            | Item::Abort(_)
            | Item::Broke(_)
            | Item::Error(_)
            | Item::Head(_)
            | Item::Whole(..) => return None,
        })
    }

    /// What a request says of forms and windows to the agent that is registered.
    pub(super) fn terms(&self) -> encode::Terms {
        let joined = self.joined.as_ref();
        encode::Terms {
            stream_response: joined.is_some_and(|j| j.streams_responses),
            response_window: self.window(),
            request_window: joined.and_then(|j| j.request_window),
        }
    }

    /// Keeps account of what is about to be framed.
    fn note_framed(&mut self, conn: ConnId, id: StreamId, item: &Item) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let over = match item {
            Item::Cancel => Some(What::Request),
            Item::Close(_) => Some(What::Socket),
            Item::TunnelClose(_) => Some(What::Tunnel),
            _ => None,
        };
        if let (Some(what), Some(session)) = (over, self.sessions.get_mut(&conn)) {
            session.control.cancelled(&stream.name, what);
        }
        let state = &mut stream.state;
        let window = state.terms.response_window;
        match item {
            Item::Data(data) | Item::Message(_, data) => {
                self.stats.bytes_out += data.len() as u64;
            }
            Item::Request { body, .. } => {
                (state.asked, state.window) = (true, window);
                self.buffered -= core::mem::take(&mut state.charged);
                let len: usize = body.iter().map(bytes::Bytes::len).sum();
                self.stats.bytes_out += len as u64;
            }
            Item::Tunnel(_) => state.asked = true,
            Item::Upgrade(..) => {
                let answers = state.is_answered();
                (state.asked, state.window) = (true, window.filter(|_| answers));
            }
            _ => {}
        }
    }

    pub(super) fn wake(&mut self) {
        // No more than there is room for: each of the others would be refused again.
        let limits = self.config.limits;
        let room = limits.send_total.saturating_sub(self.streams.held_out());
        for _ in 0..room.div_ceil(limits.chunk) {
            let Some(id) = self.streams.unblock(&limits) else {
                break;
            };
            self.actions.push_back(Action::Writable(id));
        }
    }
}
