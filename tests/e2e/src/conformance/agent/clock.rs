//! The time of a conversation, and how the agent's links come and go in it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use controlplane_world::vectors::{Step, Vector, matching, step::Dial};
use http::{
    Response,
    header::{CONNECTION, HOST, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE},
};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use super::{
    pace::{Counts, Pace},
    player::Player,
    server::{Asked, Piece},
};
use crate::conformance::link::Link;

/// Path of the controller's endpoint (P-001).
pub(super) const PATH: &str = "/api/v1/clusters/agent/ws";
/// Longest time in which an agent dials.
const LONGEST: Duration = Duration::from_secs(600);
/// How much later than it should an agent may do something where its time is real: that the
/// machine is slow is not the agent's fault.
const LATE: Duration = Duration::from_secs(2);
/// How much earlier: clocks are read at both ends of a connection.
const EARLY: Duration = Duration::from_millis(50);

/// The time of a conversation.
#[derive(Clone, Debug)]
pub(super) enum Clock {
    /// It passes by itself.
    Real(Instant),
    /// It passes when the tester says so.
    Paced(Arc<Pace>, Instant),
}

impl Clock {
    /// Since the beginning.
    pub(super) fn now(&self) -> Duration {
        match self {
            Self::Real(start) => start.elapsed(),
            Self::Paced(pace, start) => pace.now() - *start,
        }
    }

    fn pace(&self) -> Option<(Arc<Pace>, Instant)> {
        match self {
            Self::Real(_) => None,
            Self::Paced(pace, start) => Some((pace.clone(), *start)),
        }
    }
}

/// How long a conversation takes at most by what it says.
pub(super) fn span(vector: &Vector) -> Duration {
    let millis = vector.steps.iter().map(|step| match step {
        Step::Pass(millis) => *millis,
        Step::Dial(dial) => dial.after_ms.map_or(0, |[_, until]| until),
        _ => 0,
    });
    Duration::from_millis(millis.sum())
}

impl Player {
    /// Lets time pass.
    pub(super) async fn pass(&mut self, span: Duration) -> Result<(), String> {
        let Some((pace, start)) = self.clock.pace() else {
            tokio::time::sleep(span).await;
            return Ok(());
        };
        let end = start + self.clock.now() + span;
        self.settle().await?;
        while pace.now() < end {
            pace.advance(pace.due().unwrap_or(end).min(end));
            self.settle_said().await?;
        }
        Ok(())
    }

    /// Returns once the agent has read all that was sent, and has done all that it has to do until
    /// something comes or time passes; where its time is real, at once.
    pub(super) async fn settle(&mut self) -> Result<(), String> {
        if let Clock::Paced(..) = self.clock {
            self.rests().await?;
            self.barriers().await?;
            self.settle_said().await?;
        }
        Ok(())
    }

    /// The same where nothing was sent to it since it settled.
    async fn settle_said(&mut self) -> Result<(), String> {
        loop {
            let counts = self.rests().await?;
            if counts.said == self.said {
                return Ok(());
            }
            self.said = counts.said;
            self.barriers().await?;
        }
    }

    /// Returns once the agent has nothing to do, and all its dials have arrived.
    async fn rests(&mut self) -> Result<Counts, String> {
        let Some((pace, _)) = self.clock.pace() else {
            return Ok(Counts::default());
        };
        pace.idle(self.patience).await?;
        while self.arrived < pace.counts().begun {
            self.arrives(self.patience).await?;
            pace.idle(self.patience).await?;
        }
        Ok(pace.counts())
    }

    /// Returns once the agent has read all that it was sent over WebSockets, and what the tester's
    /// ends have answered to what it has said.
    pub(super) async fn barriers(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            for far in &mut self.fars {
                far.barrier().await?;
            }
            for link in self.link.iter_mut().chain(&mut self.old) {
                link.barrier().await?;
            }
        }
        Ok(())
    }

    /// Returns once the agent holds no link that the tester has not.
    pub(super) async fn settled_links(&mut self) -> Result<(), String> {
        let Some((pace, _)) = self.clock.pace() else {
            return Ok(());
        };
        let links = self.link.iter().chain(&self.old);
        let held = links.filter(|link| link.is_open()).count();
        let what = "the agent holds a link that is over";
        pace.until(self.patience, what, |counts| counts.links <= held)
            .await?;
        pace.idle(self.patience).await
    }

    /// Returns once the agent has the connections to services that were taken.
    pub(super) async fn settled_connections(&mut self) -> Result<(), String> {
        let Some((pace, _)) = self.clock.pace() else {
            return Ok(());
        };
        let connected = self.connected;
        let what = "the agent does not see that it is connected";
        pace.until(self.patience, what, |counts| counts.connected >= connected)
            .await?;
        pace.idle(self.patience).await
    }

    /// A dial arrives.
    pub(super) async fn arrives(&mut self, patience: Duration) -> Result<(), String> {
        let asked = timeout(patience, self.stage.controller.asks.recv()).await;
        let asked = asked.ok().flatten().ok_or("a dial does not arrive")?;
        self.arrived += 1;
        self.dials.push_back((asked, self.clock.now()));
        Ok(())
    }

    /// Waits for a dial, and takes or refuses it.
    pub(super) async fn dial(&mut self, dial: &Dial) -> Result<(), String> {
        let latest = dial.after_ms.map_or(0, |[_, until]| until);
        let (asked, at) = self.next_dial(Duration::from_millis(latest)).await?;
        let to = self.dialled(&asked);
        if !matching::same_url(&dial.to, &to) {
            return Err(format!("expected a dial of {}, saw one of {to}", dial.to));
        }
        if let Some([from, until]) = dial.after_ms {
            let (mut from, mut until) = (Duration::from_millis(from), Duration::from_millis(until));
            if matches!(self.clock, Clock::Real(_)) {
                from = from.saturating_sub(EARLY);
                until += LATE;
            }
            let after = at.saturating_sub(self.lost);
            // The bounds are whole milliseconds.
            let after = Duration::from_millis(after.as_millis() as u64);
            if !(from..=until).contains(&after) {
                return Err(format!("dialled after {} ms", after.as_millis()));
            }
        }
        match dial.refused {
            Some(status) => self.refuse(asked, status, dial.retry_after).await,
            None => self.take(asked).await,
        }
    }

    /// The next dial, which may come as late as `latest`.
    async fn next_dial(&mut self, latest: Duration) -> Result<(Asked, Duration), String> {
        let Some((pace, _)) = self.clock.pace() else {
            if let Some(next) = self.dials.pop_front() {
                return Ok(next);
            }
            self.arrives(latest + self.patience).await?;
            return self.dials.pop_front().ok_or("no dial".into());
        };
        let start = pace.now();
        self.settle().await?;
        loop {
            self.settle_said().await?;
            if let Some(next) = self.dials.pop_front() {
                return Ok(next);
            }
            let due = pace
                .due()
                .ok_or("no dial, and nothing that is waited for")?;
            if due > start + LONGEST {
                return Err("no dial".into());
            }
            pace.advance(due);
        }
    }

    /// Where the dial leads: `controller`, or the URL of a gateway.
    fn dialled(&self, asked: &Asked) -> String {
        let uri = &asked.head.uri;
        let host = asked.head.headers.get(HOST);
        let host = host.and_then(|h| h.to_str().ok()).unwrap_or_default();
        if uri.path() == PATH && host == self.stage.controller.address.to_string() {
            return "controller".into();
        }
        let scheme = if asked.secure { "wss" } else { "ws" };
        format!("{scheme}://{host}{uri}")
    }

    async fn refuse(
        &mut self,
        asked: Asked,
        status: u16,
        retry_after: Option<u64>,
    ) -> Result<(), String> {
        let mut head = Response::builder().status(status);
        if let Some(seconds) = retry_after {
            head = head.header(RETRY_AFTER, seconds);
        }
        self.lost = self.clock.now();
        let out = asked.reply.answer(head)?;
        let _ = out.send(Piece::End);
        self.answered_dial().await
    }

    /// Takes a dial.
    pub(super) async fn take(&mut self, asked: Asked) -> Result<(), String> {
        let key = asked.head.headers.get(SEC_WEBSOCKET_KEY);
        let key = key.ok_or("the dial asks for no WebSocket")?;
        let head = Response::builder()
            .status(101)
            .header(UPGRADE, "websocket")
            .header(CONNECTION, "Upgrade")
            .header(SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()));
        let upgrade = timeout(self.patience, asked.reply.switch(head)?).await;
        let io = upgrade.map_err(|_| "the upgrade is not read".to_string())?;
        let io = io.map_err(|e| format!("the agent leaves in the upgrade: {e}"))?;
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, None).await;
        let link = Link::new(socket, true, self.patience);
        if let Some(old) = self.link.replace(link)
            && old.is_open()
        {
            self.old = Some(old);
        }
        self.answered_dial().await
    }

    /// Returns once the agent has seen the answer to its dial.
    async fn answered_dial(&mut self) -> Result<(), String> {
        self.replied += 1;
        let Some((pace, _)) = self.clock.pace() else {
            return Ok(());
        };
        let replied = self.replied;
        let what = "the agent does not see the answer to its dial";
        pace.until(self.patience, what, |counts| counts.dialled >= replied)
            .await?;
        pace.idle(self.patience).await
    }
}
