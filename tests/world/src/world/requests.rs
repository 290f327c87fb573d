//! The two ends of requests: clients at the controller, the Kubernetes API at the agent.

use std::time::Duration;

use bytes::Bytes;
use controlplane_core::{
    Failure, Input, Kind, Machine as _, OpenError, RequestHead, ResponseHead, SendError, StreamEnd,
    StreamId,
};

use super::{Event, World};
use crate::{
    content::{Way, piece},
    exchange::{Check, Exchange, Outcome},
    plan::Plan,
};

impl World {
    fn pace(&mut self, (low, high): (u64, u64)) -> Duration {
        if self.calm {
            self.rng.millis(0, 5)
        } else {
            self.rng.millis(low, high)
        }
    }

    fn client_pace(&mut self, n: u64) -> Duration {
        let pace = self
            .exchanges
            .get(&n)
            .map_or((0, 0), |e| e.plan.client_pace);
        self.pace(pace)
    }

    fn upstream_pace(&mut self, n: u64) -> Duration {
        let pace = self
            .exchanges
            .get(&n)
            .map_or((0, 0), |e| e.plan.upstream_pace);
        self.pace(pace)
    }

    // ------------------------------------------------------------ the client

    pub(super) fn request_event(&mut self) -> Check {
        if self.calm {
            return Ok(());
        }
        let next = self.rng.millis(50, 5000);
        self.after(next, Event::Request);
        let plan = Plan::new(&mut self.rng, self.next_request, self.weather);
        self.request(plan)
    }

    /// A client asks for something.
    pub(super) fn request(&mut self, plan: Plan) -> Check {
        let n = self.next_request;
        self.next_request += 1;
        let mut exchange = Exchange::new(n, plan, self.foreign);
        if !self.controller.up {
            return Ok(());
        }
        let open = self.controller.machine.stats().streams_open;
        let head = exchange.plan.head.clone();
        let has_body = exchange.plan.body.is_some();
        match self.controller.machine.open(self.now, head, has_body) {
            Ok(id) => {
                if self.controller.last_stream.is_some_and(|last| id <= last) {
                    return Err("the controller used a stream's id again".into());
                }
                self.controller.last_stream = Some(id);
                self.controller.streams.insert(id, n);
                exchange.client = Some(id);
                self.count("requests");
            }
            Err(error) => {
                let away = self.controller.machine.joined().is_none() || self.controller.stopping;
                let full = open >= self.controller.limits().streams;
                let right = match error {
                    OpenError::Away => away,
                    OpenError::TooManyStreams => full,
                    _ => false,
                };
                if !right {
                    return Err(format!("request {n} was refused: {error}"));
                }
                self.count(match error {
                    OpenError::TooManyStreams => "refused: too many",
                    _ => "refused: away",
                });
                exchange.outcome = Some(Outcome::Refused(error));
                return Ok(());
            }
        }
        let cancel = exchange.plan.cancel;
        self.exchanges.insert(n, exchange);
        if has_body {
            let pace = self.client_pace(n);
            self.after(pace, Event::ClientSends(n));
        }
        if let Some(delay) = cancel {
            self.after(delay, Event::Cancel(n));
        }
        Ok(())
    }

    pub(super) fn client_sends(&mut self, n: u64) -> Check {
        let wanted = self.exchanges.get(&n).filter(|e| e.is_open());
        let Some((exchange, id)) = wanted.and_then(|e| Some((e, e.client?))) else {
            return Ok(());
        };
        if exchange.body_ended || exchange.client_blocked {
            return Ok(());
        }
        let (sent, plan) = (exchange.sent, &exchange.plan);
        let total = plan.body.unwrap_or_default();
        let end = plan.body_breaks.unwrap_or(total);
        if sent >= end {
            let clean = plan.body_breaks.is_none();
            return self.client_ends(n, id, clean);
        }
        let len = self.rng.len(1, plan.piece).min(end - sent);
        let data = piece(n, Way::Request, sent, len);
        let answer = self.controller.machine.send(id, Kind::Bytes, data.clone());
        let Some(exchange) = self.exchanges.get_mut(&n) else {
            return Ok(());
        };
        match answer {
            Ok(()) => {
                exchange.sent += len;
                let pace = self.client_pace(n);
                self.after(pace, Event::ClientSends(n));
            }
            Err(SendError::Blocked(back)) => {
                exchange.client_blocked = true;
                self.count("client blocked");
                same(&back, &data)?;
            }
            // The request is over, or the answer is: nothing more of the body is wanted.
            Err(SendError::Closed(back)) => {
                exchange.client_blocked = true;
                same(&back, &data)?;
            }
        }
        Ok(())
    }

    fn client_ends(&mut self, n: u64, id: StreamId, clean: bool) -> Check {
        if let Some(exchange) = self.exchanges.get_mut(&n) {
            exchange.body_ended = clean;
            exchange.broken_off = !clean;
            exchange.client_blocked = true;
        }
        if clean {
            return self.tell_controller(Input::Ended(id, StreamEnd::Clean));
        }
        self.count("bodies broken off");
        // Without effect where the answer is complete already: then the client reads on.
        let end = StreamEnd::Broken("reset".into());
        self.tell_controller(Input::Ended(id, end))
    }

    pub(super) fn client_cancels(&mut self, n: u64) -> Check {
        let Some(exchange) = self.exchanges.get(&n).filter(|e| e.is_open()) else {
            return Ok(());
        };
        let Some(id) = exchange.client else {
            return Ok(());
        };
        self.count("cancelled");
        self.client_is_over(id, Outcome::Cancelled);
        self.tell_controller(Input::Cancel(id))
    }

    pub(super) fn client_reads(&mut self, n: u64) -> Check {
        let Some(exchange) = self.exchanges.get_mut(&n).filter(|e| e.is_open()) else {
            return Ok(());
        };
        exchange.answer.busy = false;
        let (Some(len), Some(id)) = (exchange.answer.take(), exchange.client) else {
            return Ok(());
        };
        self.read_on(n);
        self.tell_controller(Input::Consumed(id, len))
    }

    fn read_on(&mut self, n: u64) {
        let Some(exchange) = self.exchanges.get_mut(&n) else {
            return;
        };
        let more = !exchange.answer.waiting.is_empty();
        if more && !std::mem::replace(&mut exchange.answer.busy, true) {
            let pace = self.client_pace(n);
            self.after(pace, Event::ClientReads(n));
        }
    }

    fn client_is_over(&mut self, id: StreamId, outcome: Outcome) {
        if let Some(n) = self.controller.streams.remove(&id)
            && let Some(exchange) = self.exchanges.get_mut(&n)
        {
            exchange.client_over(outcome);
        }
    }

    /// The request of a stream about which the controller says something.
    fn asked(&mut self, id: StreamId) -> Result<&mut Exchange, String> {
        let n = self.controller.streams.get(&id);
        n.and_then(|n| self.exchanges.get_mut(n))
            .ok_or_else(|| format!("the controller speaks of {id:?}, which is over"))
    }

    pub(super) fn client_head(&mut self, id: StreamId, head: ResponseHead) -> Check {
        self.asked(id)?.client_head(head)
    }

    pub(super) fn client_data(&mut self, id: StreamId, data: &[u8]) -> Check {
        let exchange = self.asked(id)?;
        exchange.client_data(data)?;
        let n = exchange.n;
        self.read_on(n);
        Ok(())
    }

    pub(super) fn client_finish(&mut self, id: StreamId) -> Check {
        let stopping = self.controller.stopping;
        self.asked(id)?.client_finish(stopping)?;
        self.controller.streams.remove(&id);
        self.count("finished");
        Ok(())
    }

    pub(super) fn client_failed(&mut self, id: StreamId, failure: Failure) -> Check {
        let n = self.asked(id)?.n;
        self.explain(n, &failure)?;
        self.count(match &failure {
            Failure::Agent(text) if text.contains("shutting down") => "failed: agent stops",
            Failure::Agent(text) if text.contains("faster") => "failed: upstream too slow",
            Failure::Agent(text) if text.contains("time limit") => "failed: time limit",
            Failure::Agent(text) if text.contains("longer than") => "failed: answer too long",
            Failure::Agent(text) if text.contains("too many answers") => "failed: answers too long",
            Failure::Agent(text) if text.contains("at once") => "failed: too many for the agent",
            Failure::Agent(_) => "failed: upstream",
            Failure::Cancelled => "failed: broken off",
            Failure::Disconnected => "failed: disconnected",
            Failure::Fault(_) => "failed: lied about",
            Failure::Overrun => "failed: client too slow",
            Failure::RequestTooLarge => "failed: request too large",
            Failure::Shutdown => "failed: controller stops",
            _ => "failed: otherwise",
        });
        let outcome = match failure {
            Failure::Cancelled => Outcome::Cancelled,
            failure => Outcome::Failed(failure),
        };
        self.client_is_over(id, outcome);
        Ok(())
    }

    pub(super) fn client_writable(&mut self, id: StreamId) -> Check {
        let exchange = self.asked(id)?;
        if !std::mem::take(&mut exchange.client_blocked) {
            return Err("a client that was not refused is called".into());
        }
        let n = exchange.n;
        self.after(Duration::ZERO, Event::ClientSends(n));
        Ok(())
    }

    // ------------------------------------------------------------ the Kubernetes API

    pub(super) fn upstream_open(&mut self, id: StreamId, head: &RequestHead) -> Check {
        let number = |path: &str| path.strip_prefix("/api/r")?.parse::<u64>().ok();
        let Some(n) = number(&head.path) else {
            return self.alien(id, &head.path);
        };
        let Some(exchange) = self.exchanges.get_mut(&n) else {
            return Err(format!("the agent was never asked for {}", head.path));
        };
        exchange.upstream_open(id, head)?;
        self.agent.streams.insert(id, Some(n));
        let waits = exchange.plan.answer_after > 0;
        if !waits {
            self.answer_on(n);
        }
        Ok(())
    }

    /// A request that this world's clients never made: somebody put it into the link.
    fn alien(&mut self, id: StreamId, path: &str) -> Check {
        self.count("aliens");
        // It was taken for a new one because the one whose name it bears is over here.
        let n = path
            .strip_prefix("/api/alien/")
            .and_then(|n| n.parse().ok());
        let twin = n.and_then(|n: u64| self.exchanges.get_mut(&n));
        if let Some(twin) = twin {
            if twin.is_served() {
                return Err(format!("request {} was doubled", twin.n));
            }
            twin.tainted = true;
        }
        self.agent.streams.insert(id, None);
        self.aliens.push(id);
        Ok(())
    }

    fn answer_on(&mut self, n: u64) {
        let pace = self.upstream_pace(n);
        if let Some(exchange) = self.exchanges.get_mut(&n)
            && !std::mem::replace(&mut exchange.answering, true)
        {
            self.after(pace, Event::UpstreamAnswers(n));
        }
    }

    pub(super) fn upstream_answers(&mut self, n: u64) -> Check {
        let calm = self.calm;
        let Some(exchange) = self.exchanges.get_mut(&n).filter(|e| e.is_served()) else {
            return Ok(());
        };
        exchange.answering = false;
        let Some(id) = exchange.upstream.filter(|_| !exchange.upstream_blocked) else {
            return Ok(());
        };
        let plan = &exchange.plan;
        let Some(head) = plan.answer.clone() else {
            exchange.answer_end = Some(false);
            let end = if self.rng.chance(500) {
                StreamEnd::Clean
            } else {
                StreamEnd::Broken("no answer".into())
            };
            return self.upstream_ends(id, end);
        };
        if !exchange.answered {
            exchange.answered = true;
            self.answer_on(n);
            return self.tell_agent(Input::Head(id, head));
        }
        let end = plan.answer_breaks.unwrap_or(plan.length);
        if plan.hangs && !calm && exchange.answer_sent >= end / 2 {
            return Ok(());
        }
        if exchange.answer_sent >= end {
            let clean = plan.answer_breaks.is_none();
            exchange.answer_end = Some(clean);
            let end = if clean {
                StreamEnd::Clean
            } else {
                StreamEnd::Broken("connection reset".into())
            };
            return self.upstream_ends(id, end);
        }
        let at = exchange.answer_sent;
        let len = self.rng.len(1, plan.piece).min(end - at);
        let data = piece(n, Way::Answer, at, len);
        self.upstream_sends(n, id, data)
    }

    fn upstream_sends(&mut self, n: u64, id: StreamId, data: Bytes) -> Check {
        let answer = self.agent.machine.send(id, Kind::Bytes, data.clone());
        let Some(exchange) = self.exchanges.get_mut(&n) else {
            return Ok(());
        };
        match answer {
            Ok(()) => {
                exchange.answer_sent += data.len();
                self.answer_on(n);
                Ok(())
            }
            Err(SendError::Blocked(back)) => {
                exchange.upstream_blocked = true;
                self.count("upstream blocked");
                same(&back, &data)
            }
            Err(SendError::Closed(back)) => {
                // The machine gave it up; its reset is on its way.
                exchange.upstream_blocked = true;
                if !exchange.whole {
                    return Err(format!("request {n}: the answer is not taken"));
                }
                same(&back, &data)
            }
        }
    }

    pub(super) fn upstream_reads(&mut self, n: u64) -> Check {
        let Some(exchange) = self.exchanges.get_mut(&n).filter(|e| e.is_served()) else {
            return Ok(());
        };
        exchange.body.busy = false;
        let (Some(len), Some(id)) = (exchange.body.take(), exchange.upstream) else {
            return Ok(());
        };
        self.serve_on(n);
        self.tell_agent(Input::Consumed(id, len))
    }

    /// Reads on, and answers once enough was read.
    fn serve_on(&mut self, n: u64) {
        let Some(exchange) = self.exchanges.get_mut(&n) else {
            return;
        };
        let read = exchange.body.waiting.is_empty();
        let whole = exchange.body.finished && read;
        let enough = whole || exchange.body.got >= exchange.plan.answer_after;
        if !read && !std::mem::replace(&mut exchange.body.busy, true) {
            let pace = self.upstream_pace(n);
            self.after(pace, Event::UpstreamReads(n));
        }
        let begun = self.exchanges.get(&n).is_some_and(|e| e.answered);
        if enough && !begun {
            self.answer_on(n);
        }
    }

    /// The request of a stream about which the agent says something.
    fn served(&mut self, id: StreamId) -> Result<Option<&mut Exchange>, String> {
        match self.agent.streams.get(&id) {
            Some(Some(n)) => Ok(self.exchanges.get_mut(n)),
            Some(None) => Ok(None),
            None => Err(format!("the agent speaks of {id:?}, which is over")),
        }
    }

    pub(super) fn upstream_data(&mut self, id: StreamId, data: &[u8]) -> Check {
        let Some(exchange) = self.served(id)? else {
            return Ok(());
        };
        exchange.upstream_data(data)?;
        let n = exchange.n;
        self.serve_on(n);
        Ok(())
    }

    pub(super) fn upstream_finish(&mut self, id: StreamId) -> Check {
        let Some(exchange) = self.served(id)? else {
            return Ok(());
        };
        exchange.upstream_finish()?;
        let n = exchange.n;
        self.serve_on(n);
        Ok(())
    }

    pub(super) fn upstream_reset(&mut self, id: StreamId) -> Check {
        let overrun = self.agent_is_full(id);
        let exchange = self.served(id)?;
        if let Some(exchange) = exchange {
            exchange.overrun |= overrun;
            exchange.upstream_gone();
        }
        self.agent.streams.remove(&id);
        self.count("reset");
        Ok(())
    }

    pub(super) fn upstream_writable(&mut self, id: StreamId) -> Check {
        let Some(exchange) = self.served(id)? else {
            return Ok(());
        };
        if !std::mem::take(&mut exchange.upstream_blocked) {
            return Err("an answer that was not refused is called".into());
        }
        let n = exchange.n;
        self.answer_on(n);
        Ok(())
    }
}

fn same(back: &Bytes, data: &Bytes) -> Check {
    if back == data {
        Ok(())
    } else {
        Err("refused data came back changed".into())
    }
}
