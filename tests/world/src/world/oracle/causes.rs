//! A cause for everything that fails (design, invariant 3): in its own request, its own connection
//! or a limit, and nowhere else.

use controlplane_core::{
    Failure, Limits, Machine as _, PeerFault, StreamClose, StreamEnd, StreamId,
};

use super::World;
use crate::{
    exchange::{Check, Exchange, Outcome, Talk},
    plan::{Choice, Dial, Manners, Script},
};

/// What the agent says of an upstream that accepts no stream, before the reason.
const REFUSED: &str = "failed to connect to K8s API: ";

impl World {
    /// Whether so much waits for the Kubernetes API that something had to end.
    pub(in super::super) fn agent_is_full(&self, id: StreamId) -> bool {
        let limits = self.agent.limits();
        let peer = self.controller.limits();
        let exchange = match self.agent.streams.get(&id) {
            Some(Some(n)) => self.exchanges.get(n),
            _ => None,
        };
        let own = exchange.map_or(0, |e| e.body.charge);
        // A controller that was told a window keeps to it; only that of all may be full.
        let windowed = exchange
            .is_some_and(|e| self.manners.keep_window(e.talk.is_some()) && !e.is_strangers());
        let excused = exchange.is_none_or(|e| e.tainted);
        let more = self.largest_delivery(&peer);
        let all = self.agent.machine.stats().held_in + own;
        let stream_full = own + more > limits.recv_stream && (excused || !windowed);
        stream_full || all + more > limits.recv_total
    }

    /// Whether so much waits for clients that something had to end.
    fn controller_is_full(&self, exchange: &Exchange) -> bool {
        let limits = self.controller.limits();
        let more = self.largest_delivery(&self.agent.limits());
        let own = exchange.discarded.unwrap_or(exchange.answer.charge);
        let all = self.controller.machine.stats().held_in + own;
        let windowed = self.manners == Manners::Ours;
        (own + more > limits.recv_stream && !windowed) || all + more > limits.recv_total
    }

    /// The longest delivery that a peer with these limits can cause.
    pub(in super::super) const fn largest_delivery(&self, peer: &Limits) -> usize {
        let piece = if self.manners.are_whole() {
            peer.buffered
        } else {
            Limits::charge(peer.chunk)
        };
        if piece > peer.message {
            piece
        } else {
            peer.message
        }
    }

    /// Every failure has a cause.
    pub(in super::super) fn explain(&self, n: u64, failure: &Failure) -> Check {
        let Some(exchange) = self.exchanges.get(&n) else {
            return Ok(());
        };
        let storm = self.weather.is_storm();
        let stream = exchange.stream();
        let explained = exchange.tainted
            || match failure {
                Failure::Agent(text) => match stream {
                    Some(_) if self.explain_anywhere(exchange, text) => true,
                    Some((script, talk)) => self.explain_stream(exchange, script, talk, text),
                    None => self.explain_text(exchange, text),
                },
                Failure::Cancelled => exchange.broken_off,
                // That the agent is lost is told right behind: see `poll_controller`.
                Failure::Disconnected => true,
                Failure::Fault(fault) => {
                    stream.is_some_and(|(script, talk)| self.explain_fault(script, talk, *fault))
                }
                Failure::MessageTooLong => {
                    stream.is_some_and(|(script, _)| script.client.too_long.is_some())
                }
                Failure::Overrun => {
                    exchange.discarded.is_some() && self.controller_is_full(exchange)
                }
                Failure::Refused { status, text } => {
                    let answer = exchange.plan.answer.as_ref().map(|head| head.status);
                    let end = format!("(status: {status})");
                    let bare = stream.is_some_and(|(_, talk)| talk.bare);
                    let said = text.starts_with(REFUSED) && text.ends_with(&end);
                    bare && said && exchange.answered && answer == Some(*status)
                }
                Failure::RequestTooLarge => exchange.whole && storm,
                Failure::Shutdown => self.controller.stopping,
                _ => false,
            };
        if explained {
            Ok(())
        } else {
            Err(format!("request {n} failed without a cause: {failure}"))
        }
    }

    fn explain_text(&self, exchange: &Exchange, text: &str) -> bool {
        let storm = self.weather.is_storm();
        match text {
            "connection reset" | "no answer" | "the request was not answered" => {
                exchange.answer_end == Some(false)
            }
            _ if self.explain_anywhere(exchange, text) => true,
            "the request took longer than its time limit" => exchange.whole,
            "the request body is too large to be sent in one message" => storm && exchange.whole,
            _ => storm && exchange.whole && text.contains("answer"),
        }
    }

    /// What may happen to any request.
    fn explain_anywhere(&self, exchange: &Exchange, text: &str) -> bool {
        let storm = self.weather.is_storm();
        match text {
            "more data arrives than the Kubernetes API takes in time" => exchange.overrun,
            "the agent is shutting down" => storm || self.agent.stopping,
            "too many requests at once" => storm,
            _ => false,
        }
    }

    /// The end of a stream is told after everything that was said before it, in its own words.
    fn explain_stream(
        &self,
        exchange: &Exchange,
        script: &Script,
        talk: &Talk,
        text: &str,
    ) -> bool {
        let refused = script.dial == Dial::Refuses;
        let too_long = |lane: &crate::exchange::Lane, limit: usize| {
            let next = lane.said.get(lane.heard);
            next.is_some_and(|said| said.len > limit)
        };
        match &talk.ended {
            // As any answer, or by its status alone, as long as it tells of an error.
            _ if refused && talk.bare => {
                let status = exchange.plan.answer.as_ref().map_or(0, |head| head.status);
                let end = format!("(status: {status})");
                let said = text.starts_with(REFUSED) && text.ends_with(&end);
                said && exchange.answered && status < 400
            }
            _ if refused => self.explain_text(exchange, text),
            None if text == "message of a stream too long" => {
                too_long(&talk.up, self.agent.limits().message)
            }
            None if text.starts_with("the Kubernetes API sent a message of more than") => {
                script.upstream.too_long.is_some()
            }
            None => text == "the request took longer than its time limit" && exchange.whole,
            Some(end) if talk.accepted.is_none() => {
                let text = match talk.bare {
                    true => text.strip_prefix(REFUSED),
                    false => Some(text),
                };
                let clean = match talk.bare {
                    true => "websocket: bad handshake",
                    false => "the request was not answered",
                };
                match end {
                    StreamEnd::Broken(why) => text == Some(why),
                    _ => text == Some(clean),
                }
            }
            Some(_) if !talk.down.is_whole() => false,
            Some(StreamEnd::Broken(why)) => text == why,
            Some(_) if talk.in_order().is_some() => {
                let results = talk.tells(&exchange.plan.head.path).results();
                match talk.protocol {
                    None => text == "the cluster's agent closed the stream before it was open",
                    Some(_) => {
                        let unknown = "the stream ended before the command's result was known";
                        text == unknown && results && !talk.result
                    }
                }
            }
            Some(StreamEnd::Closed(close)) => text == closed_with(close),
            Some(_) => false,
        }
    }

    fn explain_fault(&self, script: &Script, talk: &Talk, fault: PeerFault) -> bool {
        let next = talk.down.said.get(talk.down.heard);
        match fault {
            PeerFault::MessageTooLong => {
                next.is_some_and(|said| said.len > self.controller.limits().message)
            }
            PeerFault::Subprotocol => script.dial == Dial::Accepts(Choice::Unasked),
            _ => false,
        }
    }

    /// The agent drops an upstream only where nobody wants it, or it cannot go on.
    pub(in super::super) fn explain_reset(&mut self, n: u64) -> Check {
        let (now, closing) = (self.now, self.agent.closing());
        let moved = self.agent.moved == Some(now);
        let gone = self.agent.machine.phase().open().is_none() || self.agent.stopping || moved;
        let limit = self.agent.limits().message;
        let Some(exchange) = self.exchanges.get(&n) else {
            return Ok(());
        };
        let mut late = false;
        let given_up = exchange.outcome.is_some() && exchange.outcome != Some(Outcome::Finished);
        let explained = exchange.tainted
            || gone
            || exchange.overrun
            || match exchange.stream() {
                None => given_up || exchange.whole,
                Some((script, talk)) => {
                    late = talk
                        .told
                        .as_ref()
                        .is_some_and(|(at, _)| now >= *at + closing);
                    let next = talk.up.said.get(talk.up.heard);
                    late || script.upstream.too_long.is_some()
                        || next.is_some_and(|said| said.len > limit)
                        // Who does not know that it is open cannot close it.
                        || (given_up && !talk.is_open() && !talk.stranger)
                        || (exchange.whole && talk.accepted.is_none())
                        // Somebody closed it before it was open.
                        || (talk.stranger && talk.left.is_some() && talk.accepted.is_none())
                }
            };
        if !explained {
            return Err(format!("request {n} was dropped without a cause"));
        }
        if late && !gone {
            self.count("closing time over at the agent");
        }
        Ok(())
    }
}

/// The agent's words for a close that is no normal one.
fn closed_with(close: &StreamClose) -> String {
    let StreamClose { code, reason } = close;
    match (*code, &**reason) {
        (StreamClose::NO_CODE, _) => "the Kubernetes API closed the stream without a code".into(),
        (code, "") => format!("the Kubernetes API closed the stream with code {code}"),
        (code, reason) => {
            format!("the Kubernetes API closed the stream with code {code}: {reason}")
        }
    }
}
