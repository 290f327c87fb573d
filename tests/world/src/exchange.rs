//! One request as its two ends saw it, and what must hold between them (design, invariant 1).

mod reader;
mod steps;
mod talk;
mod tells;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test a panic is the message")]
mod tests;

use std::time::Duration;

use controlplane_core::{Failure, Limits, OpenError, RequestHead, ResponseHead, StreamId, Time};

pub use self::{
    reader::Reader,
    steps::Step,
    talk::{GONE, Lane, Talk, chosen},
    tells::Tells,
};
use crate::{content::Way, plan::Plan};

/// A broken rule, in words.
pub type Check = Result<(), String>;

/// How a request ended for its client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The client gave up, or broke its body off.
    Cancelled,
    /// The machine said so.
    Failed(Failure),
    /// The whole answer was there.
    Finished,
    /// The controller itself went.
    HostGone,
    /// The client closed its WebSocket.
    Left,
    /// No client of this controller asked for it.
    Nobodys,
    /// It was never opened.
    Refused(OpenError),
}

/// One request.
#[derive(Debug)]
pub struct Exchange {
    /// Its number.
    pub n: u64,
    /// What its ends intend.
    pub plan: Plan,
    /// Somebody lied to one of the machines about it: what it carries is beyond checking.
    pub tainted: bool,
    /// The agent cannot stream: bodies are held back until they are whole.
    pub whole: bool,

    /// The stream at the controller.
    pub client: Option<StreamId>,
    /// How it ended there.
    pub outcome: Option<Outcome>,
    /// Bytes of the body that the controller took.
    pub sent: usize,
    /// The client said that this is all.
    pub body_ended: bool,
    /// The client waits for room.
    pub client_blocked: bool,
    /// It was told to wait, and not yet called.
    pub client_waits: bool,
    /// What was dropped of what it had not taken, as the limits count it.
    pub discarded: Option<usize>,
    /// What the client was answered.
    pub head: Option<ResponseHead>,
    /// The answer's body at the client.
    pub answer: Reader,

    /// The stream at the agent, once there was one.
    pub upstream: Option<StreamId>,
    /// It is over there.
    pub upstream_over: bool,
    /// The request's body there.
    pub body: Reader,
    /// When the Kubernetes API took something of it last.
    pub read_at: Time,
    /// The Kubernetes API sent its head.
    pub answered: bool,
    /// Bytes of the answer that the agent took.
    pub answer_sent: usize,
    /// How the Kubernetes API ended its answer: in order, or not.
    pub answer_end: Option<bool>,
    /// The Kubernetes API waits for room.
    pub upstream_blocked: bool,
    /// It is about to answer.
    pub answering: bool,
    /// The agent dropped it while so much was waiting that it had to.
    pub overrun: bool,
    /// The client broke its body off.
    pub broken_off: bool,
    /// Somebody granted what nobody took.
    pub granted: bool,
    /// Somebody used its name for a request of their own.
    pub doubled: bool,
    /// The agent said its last word about it.
    pub silent_agent: bool,
    /// So did the controller.
    pub silent_controller: bool,
    /// Since when the Kubernetes API works on it for nobody.
    pub orphaned: Option<Time>,
    /// It asks for a WebSocket.
    pub talk: Option<Talk>,
}

impl Exchange {
    /// Request `n` before it is opened.
    #[must_use]
    pub fn new(n: u64, plan: Plan, whole: bool) -> Self {
        Self {
            n,
            plan,
            tainted: false,
            whole,
            client: None,
            outcome: None,
            sent: 0,
            body_ended: false,
            client_blocked: false,
            client_waits: false,
            discarded: None,
            head: None,
            answer: Reader::default(),
            upstream: None,
            upstream_over: false,
            body: Reader::default(),
            read_at: Time::ZERO,
            answered: false,
            answer_sent: 0,
            answer_end: None,
            upstream_blocked: false,
            answering: false,
            overrun: false,
            broken_off: false,
            granted: false,
            doubled: false,
            silent_agent: false,
            silent_controller: false,
            orphaned: None,
            talk: None,
        }
    }

    fn wrong(&self, what: &str) -> String {
        format!("request {}: {what}", self.n)
    }

    // ------------------------------------------------------------ at the client

    /// Whether the client waits for something.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.client.is_some() && self.outcome.is_none()
    }

    /// Its client has a WebSocket, which ends with a close.
    #[must_use]
    pub fn has_socket(&self) -> bool {
        self.talk.as_ref().is_some_and(Talk::is_open)
    }

    /// The answer began.
    pub fn client_head(&mut self, head: ResponseHead) -> Check {
        if self.head.is_some() || self.answer.got > 0 {
            return Err(self.wrong("a second head, or one after data"));
        }
        let expected = self.plan.answer.as_ref();
        let as_told = self.answered && expected == Some(&head);
        if !self.tainted && !as_told {
            return Err(self.wrong("the head is not the one that was answered"));
        }
        self.head = Some(head);
        Ok(())
    }

    /// A piece of the answer.
    pub fn client_data(&mut self, data: &[u8]) -> Check {
        if self.head.is_none() {
            return Err(self.wrong("data before the head"));
        }
        let result = self
            .answer
            .deliver(self.n, Way::Answer, data, self.answer_sent);
        if self.tainted { Ok(()) } else { result }
    }

    /// Whether the client has been given the whole answer, or all that was said to it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        if let Some(talk) = self.talk.as_ref().filter(|talk| talk.is_open()) {
            return talk.is_complete();
        }
        self.answer_end == Some(true) && self.answer.got == self.answer_sent
    }

    /// The answer is complete, and taken but for what is cut short by the end of the controller.
    pub fn client_finish(&mut self, stopping: bool) -> Check {
        if self.has_socket() {
            return Err(self.wrong("finished, and not closed"));
        }
        if !self.tainted && !self.is_complete() {
            return Err(self.wrong("success, but the answer is not all there"));
        }
        if self.answer.charge > 0 && !stopping {
            return Err(self.wrong("finished before everything was taken"));
        }
        self.client_over(Outcome::Finished);
        Ok(())
    }

    /// It is over for the client in another way.
    pub fn client_over(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
        self.answer.clear();
    }

    // ------------------------------------------------------------ at the Kubernetes API

    /// Whether the Kubernetes API works on it.
    #[must_use]
    pub const fn is_served(&self) -> bool {
        self.upstream.is_some() && !self.upstream_over
    }

    /// The agent opened it.
    pub fn upstream_open(&mut self, id: StreamId, head: &RequestHead) -> Check {
        if self.upstream.is_some() {
            return Err(self.wrong("executed twice"));
        }
        let (lengths, headers): (Vec<_>, Vec<_>) = head
            .headers
            .iter()
            .cloned()
            .partition(|(name, _)| name == "Content-Length");
        let asked = &self.plan.head;
        let same = (&head.method, &head.path, &head.query, &headers)
            == (&asked.method, &asked.path, &asked.query, &asked.headers);
        if !same {
            return Err(self.wrong("the head is not the one that was asked"));
        }
        let streamed = self.plan.body.is_some() && !self.whole;
        let length = match (streamed, &*asked.method, self.sent) {
            (true, ..) | (_, "GET" | "DELETE", 0) => None,
            (false, _, sent) => Some(sent.to_string()),
        };
        if lengths.first().map(|(_, value)| value) != length.as_ref() {
            return Err(self.wrong("a wrong Content-Length"));
        }
        self.upstream = Some(id);
        Ok(())
    }

    /// No client of this controller asked for it.
    #[must_use]
    pub fn is_strangers(&self) -> bool {
        self.talk.as_ref().is_some_and(|talk| talk.stranger)
    }

    /// What waits for one of its ends keeps to a window, unless somebody lied about that.
    pub fn within(&self, waiting: &Reader, window: usize) -> Check {
        let over = match &self.talk {
            _ if self.granted => false,
            Some(_) => !self.tainted && waiting.charge_before_last() >= window,
            None => waiting.charge >= window + Limits::MIN_CHARGE,
        };
        if !over {
            return Ok(());
        }
        let charge = waiting.charge;
        Err(self.wrong(&format!("{charge} bytes in a window of {window}")))
    }

    /// How long the agent may go on with it for nobody: until it was told so, or has found out that
    /// it cannot be told, and as long as a close may take on either side.
    #[must_use]
    pub fn is_forgotten(&mut self, now: Time, closing: Duration, link: Duration) -> bool {
        let wanted = match &self.talk {
            // The controller of this world does not know it, and says so once it hears of it.
            Some(talk) if talk.stranger => talk.left.is_none() && talk.down.said.is_empty(),
            _ => self.outcome.is_none(),
        };
        if wanted || self.tainted || !self.is_served() {
            return false;
        }
        let since = *self.orphaned.get_or_insert(now);
        now > since + closing * 2 + link
    }

    /// A piece of the body.
    pub fn upstream_data(&mut self, data: &[u8]) -> Check {
        let result = self.body.deliver(self.n, Way::Request, data, self.sent);
        if self.tainted { Ok(()) } else { result }
    }

    /// The body is complete.
    pub fn upstream_finish(&mut self) -> Check {
        if self.body.finished {
            return Err(self.wrong("a second end of the body"));
        }
        self.body.finished = true;
        let ended = self.plan.body.is_none() || self.body_ended;
        let whole = ended && self.body.got == self.sent;
        if !self.tainted && !whole {
            return Err(self.wrong("the body ended, but is not all there"));
        }
        Ok(())
    }

    /// It is over there.
    pub fn upstream_gone(&mut self) {
        self.upstream_over = true;
        self.body.clear();
    }
}
