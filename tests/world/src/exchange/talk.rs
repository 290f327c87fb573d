//! A WebSocket stream as its two ends saw it: every message arrives as it was said, in order, and
//! nobody is told of an end that is not the end, least of all of a success.

use std::time::Duration;

use bytes::Bytes;
use controlplane_core::{
    Failure, Kind, RequestHead, ResponseHead, StreamClose, StreamEnd, StreamId, Time,
};

use super::{Check, Exchange, Outcome, Tells};
use crate::content::{Said, Way, message};

/// What a close says that is not the client's own.
pub const GONE: &str = "the client is gone";

/// Messages in one direction.
#[derive(Debug, Default)]
pub struct Lane {
    /// Those that the sender's machine took.
    pub said: Vec<Said>,
    /// How many the receiver was given.
    pub heard: usize,
}

impl Lane {
    /// Whether the receiver was given all of them.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.heard == self.said.len()
    }

    /// A message came, which has to be the next.
    fn hear(&mut self, request: u64, way: Way, kind: Kind, data: &[u8]) -> Check {
        let at = self.heard;
        let fault = match self.said.get(at) {
            None => "has more than was said".to_string(),
            Some(said) if said.kind != kind => format!("message {at} is of another kind"),
            Some(said) if message(request, way, at, *said) != data => {
                format!("message {at} differs")
            }
            Some(_) => {
                self.heard += 1;
                return Ok(());
            }
        };
        Err(format!("request {request}: {way:?} {fault}"))
    }
}

/// One stream.
#[derive(Debug, Default)]
pub struct Talk {
    /// Its start is not answered: success shows with the first message.
    pub bare: bool,
    /// Its agent does not say how it was closed.
    pub codeless: bool,
    /// A controller that is not in this world asked for it.
    pub stranger: bool,
    /// From the client.
    pub up: Lane,
    /// To the client.
    pub down: Lane,
    /// When the agent opened it.
    pub dialed: Time,
    /// The subprotocols that the Kubernetes API was offered.
    pub offered: Vec<String>,
    /// The subprotocol with which the Kubernetes API accepted it.
    pub accepted: Option<String>,
    /// The subprotocol that its client was told.
    pub protocol: Option<String>,
    /// The Kubernetes API said how the command ended.
    pub concluded: bool,
    /// The client was told how the command ended.
    pub result: bool,
    /// A message that nobody said.
    pub made_up: Option<(Kind, Bytes)>,
    /// When and with what the client closed it.
    pub left: Option<(Time, StreamClose)>,
    /// When and with what the Kubernetes API was told to close it.
    pub told: Option<(Time, StreamClose)>,
    /// How the Kubernetes API ended it.
    pub ended: Option<StreamEnd>,
    /// The client is about to say something.
    pub talking: bool,
}

impl Talk {
    /// Whether its client has a WebSocket.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.protocol.is_some()
    }

    /// How the client learns of the result.
    #[must_use]
    pub fn tells(&self, path: &str) -> Tells {
        let protocol = self.protocol.as_deref();
        protocol.map_or(Tells::Nothing, |protocol| Tells::of(path, protocol))
    }

    /// The Kubernetes API ended it in order, and the client was given all of it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.down.is_whole() && self.in_order().is_some()
    }

    /// How a client is told that the Kubernetes API closed it with `end`.
    fn as_told(&self, tells: Tells, end: &StreamClose) -> StreamClose {
        match self.codeless {
            false => end.clone(),
            true if tells.results() => StreamClose::new(StreamClose::NORMAL, ""),
            true => StreamClose::new(StreamClose::NO_CODE, ""),
        }
    }

    /// The close of a Kubernetes API that ended it in order.
    #[must_use]
    pub fn in_order(&self) -> Option<StreamClose> {
        match &self.ended {
            Some(StreamEnd::Clean) => Some(StreamClose::new(StreamClose::NORMAL, "")),
            Some(StreamEnd::Closed(close)) if close.code == StreamClose::NORMAL => {
                Some(close.clone())
            }
            _ => None,
        }
    }
}

/// The subprotocol that an answer with 101 names.
#[must_use]
pub fn chosen(head: &ResponseHead) -> String {
    let is_it = |name: &str| name.eq_ignore_ascii_case("sec-websocket-protocol");
    let mut names = head.headers.iter().filter(|(name, _)| is_it(name));
    names
        .next()
        .map_or(String::new(), |(_, value)| value.clone())
}

impl Exchange {
    // ------------------------------------------------------------ at the client

    /// Its WebSocket is open.
    pub fn client_opened(&mut self, head: &ResponseHead) -> Check {
        let answered = self.head.is_some() || self.answer.got > 0;
        let Some((script, talk)) = self.stream() else {
            return Err(self.wrong("switched protocols unasked"));
        };
        let told = chosen(head);
        let expected = match talk.bare {
            true => script.offered.first().cloned().unwrap_or_default(),
            false => talk.accepted.clone().unwrap_or_default(),
        };
        if answered || talk.is_open() {
            return Err(self.wrong("a second answer to the upgrade"));
        }
        if !told.is_empty() && !script.offered.contains(&told) {
            return Err(self.wrong("open with a subprotocol that its client did not offer"));
        }
        if !self.tainted && (talk.accepted.is_none() || told != expected) {
            return Err(self.wrong("open, and not as the Kubernetes API accepted it"));
        }
        if let Some(talk) = &mut self.talk {
            talk.protocol = Some(told);
        }
        Ok(())
    }

    /// A message for the client.
    pub fn client_message(&mut self, kind: Kind, data: &Bytes) -> Check {
        let Some(talk) = &mut self.talk else {
            return Err(self.wrong("a message without a stream"));
        };
        let tells = talk.tells(&self.plan.head.path);
        if !talk.is_open() {
            return Err(self.wrong("a message before it is open"));
        }
        if talk.made_up.is_some() && !self.tainted {
            return Err(self.wrong("a message behind one that the controller made up"));
        }
        let as_said = talk.down.hear(self.n, Way::Answer, kind, data);
        self.answer.keep(data.len());
        if as_said.is_err() && tells.is_result(data) && !talk.result {
            // Its close has to follow, and to say why.
            talk.made_up = Some((kind, data.clone()));
            return Ok(());
        }
        talk.result |= tells.is_result(data);
        if self.tainted { Ok(()) } else { as_said }
    }

    /// Its WebSocket is closed. What is checked before the lies are excused holds whoever lied.
    pub fn client_closed(
        &mut self,
        close: &StreamClose,
        failure: Option<&Failure>,
        stopping: bool,
    ) -> Check {
        let Some(talk) = self.talk.as_ref().filter(|talk| talk.is_open()) else {
            return Err(self.wrong("a close of what was not open"));
        };
        let tells = talk.tells(&self.plan.head.path);
        let normal = close.code == StreamClose::NORMAL;
        let Some(failure) = failure else {
            let known = talk.result || talk.made_up.is_some();
            let fault = match talk.in_order() {
                _ if normal && tells.results() && !known => "a false success",
                _ if self.tainted => return Ok(()),
                None => "success, but the Kubernetes API did not end it in order",
                _ if talk.made_up.is_some() || !talk.down.is_whole() => {
                    "success, but the answer is not all there"
                }
                Some(end) if talk.as_told(tells, &end) != *close => {
                    "closed otherwise than the Kubernetes API did"
                }
                _ if self.answer.charge > 0 && !stopping => "closed before everything was taken",
                _ => return Ok(()),
            };
            return Err(self.wrong(fault));
        };
        let text = failure.to_string();
        let told = talk.made_up.as_ref();
        let why = told.is_some_and(|(kind, data)| tells.is_made_up(*kind, data, &text));
        let fault = match tells {
            _ if normal && !(why && tells.results()) => "a failure that looks like a success",
            _ if self.tainted => return Ok(()),
            Tells::Nothing => return Ok(()),
            _ if talk.result && told.is_none() => return Ok(()),
            _ if talk.result => "the result was told twice",
            _ if !why => "nothing tells the client why it failed",
            _ => return Ok(()),
        };
        Err(self.wrong(fault))
    }

    // ------------------------------------------------------------ at the Kubernetes API

    /// The agent opened it.
    pub fn upstream_dialed(
        &mut self,
        id: StreamId,
        head: &RequestHead,
        offered: &[String],
    ) -> Check {
        if self.upstream.is_some() {
            return Err(self.wrong("executed twice"));
        }
        let Some((script, talk)) = self.stream() else {
            return Err(self.wrong("a WebSocket that nobody asked for"));
        };
        // A start names one; where it names none, the agent knows what terminals speak (P-138).
        let named = match talk.bare && !talk.stranger {
            true => script.offered.len().min(1),
            false => script.offered.len(),
        };
        let ends = ["/exec", "/attach", "/portforward"];
        let terminal = talk.bare && ends.iter().any(|end| head.path.ends_with(end));
        let as_asked = match named {
            0 if terminal => offered.len() == 4,
            _ => *offered == script.offered[..named],
        };
        if !as_asked || *head != self.plan.head {
            return Err(self.wrong("the stream is not the one that was asked for"));
        }
        self.upstream = Some(id);
        Ok(())
    }

    /// A message for the Kubernetes API.
    pub fn upstream_message(&mut self, kind: Kind, data: &[u8]) -> Check {
        let Some(talk) = &mut self.talk else {
            return Err(self.wrong("a message without a stream"));
        };
        if talk.told.is_some() {
            return Err(self.wrong("a message behind the close"));
        }
        let as_said = talk.up.hear(self.n, Way::Request, kind, data);
        self.body.keep(data.len());
        if self.tainted { Ok(()) } else { as_said }
    }

    /// The Kubernetes API is to close it; true where that is not the client's own close, behind all
    /// that it said, but what is left of it when its time is over.
    pub fn upstream_told(
        &mut self,
        now: Time,
        close: &StreamClose,
        closing: Duration,
    ) -> Result<bool, String> {
        let Some(talk) = &mut self.talk else {
            return Err(self.wrong("a close without a stream"));
        };
        if talk.told.is_some() || talk.accepted.is_none() {
            return Err(self.wrong("told twice to close, or before it is open"));
        }
        talk.told = Some((now, close.clone()));
        let gone = |reason| *close == StreamClose::new(StreamClose::GOING_AWAY, reason);
        let given_up = match &self.outcome {
            Some(Outcome::Failed(_)) => true,
            // Who does not know that it is open cannot close it.
            Some(Outcome::Cancelled) => talk.bare && !talk.is_open(),
            _ => false,
        };
        match &talk.left {
            _ if self.tainted => Ok(false),
            Some((_, left)) if talk.up.is_whole() && left == close => Ok(false),
            Some((at, _)) if gone(GONE) && now >= *at + closing => Ok(true),
            None if given_up && gone(GONE) => Ok(false),
            // This controller knows nothing of it.
            _ if talk.stranger && gone("") && !talk.down.said.is_empty() => Ok(false),
            _ => Err(self.wrong("told to close, and not as its client did")),
        }
    }
}
