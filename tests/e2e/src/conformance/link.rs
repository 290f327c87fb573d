//! The WebSocket between tester and subject, as the steps of the vectors see it. The tester may be
//! its server or its client, over whatever it runs.

use std::{collections::VecDeque, time::Duration};

use controlplane_driver::WebSocket;
use controlplane_world::vectors::{
    Step,
    data::{hex, to_hex},
    matching::{self, Saved},
    step, wire,
};
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_tungstenite::tungstenite::Message;

use super::socket::{self, Command, Event, carry};

/// How long is waited for what should not come. A subject that needs longer for it escapes; one that
/// is right passes, however slow it is.
pub(super) const MOMENT: Duration = Duration::from_millis(15);
/// One connection. It is read all the time, so pings are answered whatever the tester waits for.
#[derive(Debug)]
pub struct Link {
    out: mpsc::UnboundedSender<Command>,
    events: mpsc::UnboundedReceiver<Event>,
    /// Read, and not yet looked at.
    ahead: VecDeque<Event>,
    task: JoinHandle<()>,
    /// The subject is an agent.
    of_agent: bool,
    patience: Duration,
    pings: u32,
    open: bool,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// A connection to an agent, or to a controller, that has `patience` for what it has to say.
    pub fn new<S: WebSocket>(socket: S, of_agent: bool, patience: Duration) -> Self {
        let (out, commands) = mpsc::unbounded_channel();
        let (told, events) = mpsc::unbounded_channel();
        let task = tokio::spawn(carry(socket, commands, move |event| {
            // The link may be gone before its connection.
            let _ = told.send(event);
        }));
        Self {
            out,
            events,
            ahead: VecDeque::new(),
            task,
            of_agent,
            patience,
            pings: 0,
            open: true,
        }
    }

    /// Whether neither side has ended it.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Does a step, where it is one of the link's own; `None` for others.
    pub async fn step(&mut self, step: &Step, saved: &mut Saved) -> Option<Result<(), String>> {
        Some(match step {
            Step::Send(raw) => match matching::filled(raw.get(), saved) {
                Ok(text) => self.send_text(text),
                Err(error) => Err(error),
            },
            Step::SendText(text) => match matching::filled(text, saved) {
                Ok(text) => self.send_text(text),
                Err(error) => Err(error),
            },
            Step::SendBinary(digits) => match hex(digits) {
                Ok(data) => self.send_binary(data),
                Err(error) => Err(error),
            },
            Step::SendFrame(frame) => match matching::filled(&frame.request_id, saved) {
                Ok(id) => self.send_binary(wire::frame(frame, &id)),
                Err(error) => Err(error),
            },
            Step::Expect(pattern) => self.expect(pattern, saved).await.map(drop),
            Step::ExpectPieces(pieces) => self.expect_pieces(pieces, saved).await,
            Step::ExpectBinary(digits) => match hex(digits) {
                Ok(wanted) => self.expect_binary(&wanted).await,
                Err(error) => Err(error),
            },
            Step::ExpectFrame(frame) => self.expect_frame(frame, saved).await,
            Step::Quiet(_) => self.quiet(saved).await,
            Step::Close(code) => self.close(*code).await,
            Step::Drop(_) => self.cut().await,
            Step::ExpectClose(code) => self.expect_close(*code).await,
            _ => return None,
        })
    }

    // ------------------------------------------------------------ the tester speaks

    /// Sends a text message.
    ///
    /// # Errors
    ///
    /// The connection is over, by what the tester did.
    pub fn send_text(&mut self, text: String) -> Result<(), String> {
        self.say(Message::text(text))
    }

    /// Sends a binary message.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn send_binary(&mut self, data: Vec<u8>) -> Result<(), String> {
        self.say(Message::binary(data))
    }

    fn say(&mut self, message: Message) -> Result<(), String> {
        if !self.open {
            return Err("the connection is closed".into());
        }
        // Whether the subject has gone shows by what it says.
        let _ = self.out.send(Command::Say(message));
        Ok(())
    }

    /// Closes the connection with a code, and waits for the end of it. What the subject says
    /// meanwhile is lost.
    ///
    /// # Errors
    ///
    /// It is over, or the subject does not end it.
    pub async fn close(&mut self, code: u16) -> Result<(), String> {
        self.say(socket::close(code, ""))?;
        self.ended().await
    }

    /// Returns once the connection is gone; what comes meanwhile is lost.
    async fn ended(&mut self) -> Result<(), String> {
        self.open = false;
        let ended = async { while self.events.recv().await.is_some() {} };
        let ended = timeout(self.patience, ended).await;
        self.ahead.clear();
        ended.map_err(|_| "the close is not answered".into())
    }

    /// Cuts the connection; it is gone when this returns.
    ///
    /// # Errors
    ///
    /// It is over.
    pub async fn cut(&mut self) -> Result<(), String> {
        if !self.open {
            return Err("the connection is closed".into());
        }
        // Whether the subject has gone shows by what it says.
        let _ = self.out.send(Command::Cut);
        self.ended().await
    }

    // ------------------------------------------------------------ the subject speaks

    /// What comes next, with patience.
    async fn event(&mut self) -> Result<Event, String> {
        if let Some(event) = self.ahead.pop_front() {
            return Ok(event);
        }
        match timeout(self.patience, self.events.recv()).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err("the connection is over".into()),
            Err(_) => Err(format!(
                "nothing was said within {} s",
                self.patience.as_secs_f32()
            )),
        }
    }

    /// The next message, those of the background left out unless one is wanted.
    async fn next(&mut self, wanted: &str) -> Result<Event, String> {
        loop {
            let event = self.event().await?;
            if !self.skips(&event, wanted)? {
                return Ok(event);
            }
        }
    }

    fn skips(&self, event: &Event, wanted: &str) -> Result<bool, String> {
        Ok(match event {
            Event::Pong(_) => true,
            Event::Text(text) => {
                let message = wire::parsed(text, self.of_agent)?;
                wire::is_background(wire::kind(&message), wanted)
            }
            _ => false,
        })
    }

    /// The next message, which has to be this.
    ///
    /// # Errors
    ///
    /// Something else is said, or nothing.
    pub async fn expect(&mut self, pattern: &Value, saved: &mut Saved) -> Result<Value, String> {
        let event = self.next(wire::kind(pattern)).await;
        match event.map_err(|e| format!("expected {pattern}: {e}"))? {
            Event::Text(text) => {
                let seen = wire::parsed(&text, self.of_agent)?;
                let outcome = matching::message(pattern, &seen, saved);
                outcome.map_err(|e| format!("{e}\n    in {seen}"))?;
                Ok(seen)
            }
            other => Err(format!("expected {pattern}, saw {other}")),
        }
    }

    async fn expect_pieces(
        &mut self,
        pieces: &step::ExpectPieces,
        saved: &mut Saved,
    ) -> Result<(), String> {
        let wanted = &pieces.bytes.0;
        let mut seen = Vec::new();
        while seen.len() < wanted.len() {
            let message = self.expect(&pieces.message, saved).await?;
            seen.extend(wire::piece(&message, pieces)?);
        }
        match seen == *wanted {
            true => Ok(()),
            false => Err(format!("other bytes, {} in all", seen.len())),
        }
    }

    async fn binary(&mut self) -> Result<Vec<u8>, String> {
        match self.next("").await? {
            Event::Binary(data) => Ok(data),
            other => Err(format!("expected a binary message, saw {other}")),
        }
    }

    async fn expect_binary(&mut self, wanted: &[u8]) -> Result<(), String> {
        let seen = self.binary().await?;
        match seen == wanted {
            true => Ok(()),
            false => Err(format!("saw {}", to_hex(&seen))),
        }
    }

    async fn expect_frame(
        &mut self,
        pattern: &step::ExpectFrame,
        saved: &mut Saved,
    ) -> Result<(), String> {
        let seen = self.binary().await?;
        wire::compare(pattern, &seen, saved)
    }

    /// The subject closes the connection with this code, and says nothing before.
    ///
    /// # Errors
    ///
    /// Something else comes, or nothing.
    pub async fn expect_close(&mut self, code: u16) -> Result<(), String> {
        let event = self.next("").await;
        match event.map_err(|e| format!("expected a close with {code}: {e}"))? {
            Event::Closed(seen, _) if seen == code => {
                self.open = false;
                Ok(())
            }
            other => Err(format!("expected a close with {code}, saw {other}")),
        }
    }

    // ------------------------------------------------------------ nothing more is said

    /// Nothing is said, and the connection stands: a moment passes, then a ping is answered by its
    /// pong and by nothing before it.
    ///
    /// # Errors
    ///
    /// What is said.
    pub async fn quiet(&mut self, saved: &mut Saved) -> Result<(), String> {
        if !self.open {
            return Err("the connection is closed".into());
        }
        self.nothing_left().await?;
        self.pings += 1;
        let (ping, pong) = wire::ping(self.pings);
        self.send_text(ping.to_string())?;
        self.expect(&pong, saved).await.map(drop)
    }

    /// Nothing was said within a moment that nobody looked at.
    ///
    /// # Errors
    ///
    /// What was said.
    pub async fn nothing_left(&mut self) -> Result<(), String> {
        let until = tokio::time::Instant::now() + MOMENT;
        loop {
            let event = match self.ahead.pop_front() {
                Some(event) => event,
                None => match tokio::time::timeout_at(until, self.events.recv()).await {
                    Ok(Some(event)) => event,
                    Ok(None) | Err(_) => return Ok(()),
                },
            };
            self.is_nothing(&event)?;
        }
    }

    /// The same without waiting: what is here already counts.
    ///
    /// # Errors
    ///
    /// What was said.
    pub fn nothing_here(&mut self) -> Result<(), String> {
        while let Ok(event) = self.events.try_recv() {
            self.ahead.push_back(event);
        }
        while let Some(event) = self.ahead.pop_front() {
            self.is_nothing(&event)?;
        }
        Ok(())
    }

    /// Whether an event says nothing that somebody would have to look at.
    fn is_nothing(&self, event: &Event) -> Result<(), String> {
        // Of a connection that is closed in order the end is left.
        let over = !self.open && matches!(event, Event::Lost(_));
        match over || self.skips(event, "")? {
            true => Ok(()),
            false => Err(format!("saw {event}")),
        }
    }

    /// Returns once the subject has read all that was sent, and what it had to say until then is
    /// here; at once where the connection is over.
    ///
    /// # Errors
    ///
    /// It does not answer pings.
    pub async fn barrier(&mut self) -> Result<(), String> {
        if !self.open {
            return Ok(());
        }
        self.pings += 1;
        let mark = self.pings.to_be_bytes();
        self.say(Message::Ping(mark.to_vec().into()))?;
        let answered = async {
            while let Some(event) = self.events.recv().await {
                if event == Event::Pong(mark.to_vec()) {
                    return;
                }
                self.ahead.push_back(event);
            }
        };
        let answered = timeout(self.patience, answered).await;
        answered.map_err(|_| "a WebSocket ping is not answered".into())
    }
}
