//! The clients at the controller.

mod talk;

use std::time::Duration;

use bytes::Bytes;
use controlplane_core::{
    Failure, Input, Kind, Machine as _, OpenError, PeerFault, ResponseHead, SendError, StreamClose,
    StreamEnd, StreamId,
};

use super::{Event, World};
use crate::{
    content::{Way, piece},
    exchange::{Check, Exchange, GONE, Outcome},
    fast,
    plan::{Manners, Most, Plan, Weather},
    tunnel,
};

/// Of a thousand requests, so many are for WebSocket streams.
pub(super) const STREAMS: u64 = 333;

impl World {
    pub(super) fn pace(&mut self, (low, high): (u64, u64)) -> Duration {
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

    pub(super) fn request_event(&mut self) -> Check {
        if self.calm {
            return Ok(());
        }
        let crowd = self.weather == Weather::Storm(Most::Crowd);
        let longest = if crowd { 1000 } else { 5000 };
        let next = self.rng.millis(50, longest);
        self.after(next, Event::Request);
        if self.rng.chance(100) {
            let plan = match self.weather {
                Weather::Still => tunnel::Plan::sound(&mut self.rng),
                _ => tunnel::Plan::new(&mut self.rng, self.weather.is_storm()),
            };
            return self.tunnel(plan);
        }
        if self.rng.chance(180) {
            let plan = match self.weather {
                Weather::Still => fast::Plan::sound(&mut self.rng, 20_000),
                _ => fast::Plan::new(&mut self.rng, self.weather.is_storm()),
            };
            return self.fast(plan);
        }
        let plan = Plan::new(&mut self.rng, self.next_request, self.weather, STREAMS);
        self.request(plan)
    }

    /// A client asks for something.
    pub(super) fn request(&mut self, plan: Plan) -> Check {
        let n = self.next_request;
        self.next_request += 1;
        let mut exchange = Exchange::new(n, plan, self.manners.are_whole());
        if !self.controller.up {
            return Ok(());
        }
        let open = self.controller.machine.stats().streams_open;
        match self.ask(&mut exchange) {
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
                    OpenError::WebSocket => self.manners == Manners::Deaf,
                    _ => false,
                };
                if !right {
                    return Err(format!("request {n} was refused: {error}"));
                }
                self.count(match error {
                    OpenError::TooManyStreams => "refused: too many",
                    OpenError::WebSocket => "refused: no streams",
                    _ => "refused: away",
                });
                exchange.outcome = Some(Outcome::Refused(error));
                return Ok(());
            }
        }
        let cancel = exchange.plan.cancel;
        let has_body = exchange.plan.body.is_some();
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
        if exchange.talk.is_some() {
            return self.client_talks(n);
        }
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
                exchange.client_waits = true;
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
        let now = self.now;
        let Some(exchange) = self.exchanges.get_mut(&n).filter(|e| e.is_open()) else {
            return Ok(());
        };
        let Some(id) = exchange.client else {
            return Ok(());
        };
        let talk = exchange.talk.as_mut();
        let (stream, open) = match talk {
            Some(talk) if talk.is_open() => {
                talk.left = Some((now, StreamClose::new(StreamClose::GOING_AWAY, GONE)));
                (true, true)
            }
            talk => (talk.is_some(), false),
        };
        if stream {
            self.count(if open { "streams left" } else { "dials left" });
        }
        self.count("cancelled");
        self.client_is_over(id, Outcome::Cancelled);
        if stream && !open && self.rng.chance(300) {
            return self.tell_controller(Input::Ended(id, StreamEnd::Clean));
        }
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
        // It may have waited for this word.
        self.talk_on(n);
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
        let exchange = self.asked(id)?;
        if head.status != 101 {
            return exchange.client_head(head);
        }
        exchange.client_opened(&head)?;
        let n = exchange.n;
        self.count("streams open");
        self.talk_on(n);
        Ok(())
    }

    pub(super) fn client_data(&mut self, id: StreamId, kind: Kind, data: &Bytes) -> Check {
        let exchange = self.asked(id)?;
        if kind != Kind::Bytes {
            return self.client_message(id, kind, data);
        }
        exchange.client_data(data)?;
        let n = exchange.n;
        self.read_on(n);
        Ok(())
    }

    /// There is no room for what the client has not taken.
    pub(super) fn client_discards(&mut self, id: StreamId) -> Check {
        if let Some(n) = self.controller.tunnels.get(&id)
            && let Some(tunnel) = self.tunnels.get_mut(n)
        {
            tunnel.discarded = Some(tunnel.down.reader.charge);
            tunnel.down.reader.clear();
            return Ok(());
        }
        let exchange = self.asked(id)?;
        exchange.discarded = Some(exchange.answer.charge);
        exchange.answer.clear();
        self.count("discarded");
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
        let exchange = self.asked(id)?;
        let n = exchange.n;
        if exchange.has_socket() {
            return Err(format!("request {n} failed, and was not closed"));
        }
        self.explain(n, &failure)?;
        self.count(name(&failure));
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
        exchange.client_waits = false;
        let (n, talks) = (exchange.n, exchange.talk.is_some());
        if talks {
            self.talk_on(n);
        } else {
            self.after(Duration::ZERO, Event::ClientSends(n));
        }
        Ok(())
    }
}

/// What a failure is counted as.
fn name(failure: &Failure) -> &'static str {
    match failure {
        Failure::Agent(text) if text.contains("shutting down") => "failed: agent stops",
        Failure::Agent(text) if text.contains("takes in time") => "failed: upstream too slow",
        Failure::Agent(text) if text.contains("time limit") => "failed: time limit",
        Failure::Agent(text) if text.contains("longer than") => "failed: answer too long",
        Failure::Agent(text) if text.contains("too many answers") => "failed: answers too long",
        Failure::Agent(text) if text.contains("result was known") => "failed: no result",
        Failure::Agent(text) if text.contains("before it was open") => "failed: closed unopened",
        Failure::Agent(text) if text.contains("with code") => "failed: closed with a code",
        Failure::Agent(text) if text.contains("without a code") => "failed: closed with a code",
        Failure::Agent(text) if text.contains("message of") => "failed: message too long",
        Failure::Agent(text) if text.contains("at once") => "failed: too many for the agent",
        Failure::Agent(_) => "failed: upstream",
        Failure::Cancelled => "failed: broken off",
        Failure::Disconnected => "failed: disconnected",
        Failure::Fault(PeerFault::MessageTooLong) => "failed: message too long",
        Failure::Fault(PeerFault::Subprotocol) => "failed: subprotocol",
        Failure::Fault(_) => "failed: lied about",
        Failure::MessageTooLong => "failed: message too long",
        Failure::Overrun => "failed: client too slow",
        Failure::Refused { .. } => "failed: refused",
        Failure::RequestTooLarge => "failed: request too large",
        Failure::Shutdown => "failed: controller stops",
        _ => "failed: otherwise",
    }
}

/// What a machine refuses has to come back as it was.
pub(super) fn same(back: &Bytes, data: &Bytes) -> Check {
    if back == data {
        Ok(())
    } else {
        Err("refused data came back changed".into())
    }
}
