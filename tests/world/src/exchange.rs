//! One request as its two ends saw it, and what must hold between them (design, invariant 1).

use controlplane_core::{Failure, Limits, OpenError, RequestHead, ResponseHead, StreamId};

use crate::{
    content::{Way, is_piece},
    plan::Plan,
};

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
    /// It was never opened.
    Refused(OpenError),
}

/// What one end holds of what it was delivered.
#[derive(Debug, Default)]
pub struct Reader {
    /// All that came.
    pub got: usize,
    /// Lengths of the deliveries that it has not taken yet.
    pub waiting: std::collections::VecDeque<usize>,
    /// The same in bytes as the limits count them.
    pub charge: usize,
    /// It was told that this is all.
    pub finished: bool,
    /// It is going to take the next one.
    pub busy: bool,
}

impl Reader {
    fn deliver(&mut self, request: u64, way: Way, data: &[u8], sent: usize) -> Check {
        let at = self.got;
        self.got += data.len();
        self.waiting.push_back(data.len());
        self.charge += Limits::charge(data.len());
        let fault = if self.finished {
            "goes on after its end".to_string()
        } else if data.is_empty() {
            "has an empty delivery".to_string()
        } else if self.got > sent {
            "has more than was sent".to_string()
        } else if !is_piece(request, way, at, data) {
            format!("differs from byte {at} on")
        } else {
            return Ok(());
        };
        Err(format!("request {request}: {way:?} {fault}"))
    }

    /// Takes the oldest delivery.
    pub fn take(&mut self) -> Option<usize> {
        let len = self.waiting.pop_front()?;
        self.charge -= Limits::charge(len);
        Some(len)
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.charge = 0;
    }
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
            head: None,
            answer: Reader::default(),
            upstream: None,
            upstream_over: false,
            body: Reader::default(),
            answered: false,
            answer_sent: 0,
            answer_end: None,
            upstream_blocked: false,
            answering: false,
            overrun: false,
            broken_off: false,
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

    /// Whether the client has been given the whole answer.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.answer_end == Some(true) && self.answer.got == self.answer_sent
    }

    /// The answer is complete, and taken but for what is cut short by the end of the controller.
    pub fn client_finish(&mut self, stopping: bool) -> Check {
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
