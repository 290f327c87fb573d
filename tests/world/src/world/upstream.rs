//! The Kubernetes API at the agent.

mod talk;

use std::time::Duration;

use bytes::Bytes;
use controlplane_core::{Input, Kind, Machine as _, RequestHead, SendError, StreamEnd, StreamId};

use super::{Event, World, clients::same};
use crate::{
    content::{Way, piece},
    exchange::{Check, Exchange},
    plan::Dial,
};

/// The number of the request that asks for this path.
pub(super) fn number(path: &str) -> Option<u64> {
    let rest = path.strip_prefix("/api/r")?;
    rest.split('/').next()?.parse().ok()
}

impl World {
    fn upstream_pace(&mut self, n: u64) -> Duration {
        let pace = self
            .exchanges
            .get(&n)
            .map_or((0, 0), |e| e.plan.upstream_pace);
        self.pace(pace)
    }

    pub(super) fn upstream_open(&mut self, id: StreamId, head: &RequestHead) -> Check {
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
        let script = exchange.plan.script.as_ref();
        if script.is_some_and(|script| script.dial != Dial::Refuses) {
            return self.upstream_talks(n, id);
        }
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
        let now = self.now;
        let Some(exchange) = self.exchanges.get_mut(&n).filter(|e| e.is_served()) else {
            return Ok(());
        };
        exchange.body.busy = false;
        let (Some(len), Some(id)) = (exchange.body.take(), exchange.upstream) else {
            return Ok(());
        };
        exchange.read_at = now;
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
        let talks = exchange.talk.is_some();
        let takes = !read && exchange.is_read(self.calm);
        if takes && !std::mem::replace(&mut exchange.body.busy, true) {
            let pace = self.upstream_pace(n);
            self.after(pace, Event::UpstreamReads(n));
        }
        let begun = self.exchanges.get(&n).is_some_and(|e| e.answered);
        if (enough && !begun) || talks {
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

    pub(super) fn upstream_data(&mut self, id: StreamId, kind: Kind, data: &[u8]) -> Check {
        let Some(exchange) = self.served(id)? else {
            return Ok(());
        };
        if exchange.talk.is_some() {
            return self.upstream_message(id, kind, data);
        }
        if kind != Kind::Bytes {
            return Err("the agent delivered a message as part of a body".into());
        }
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
        if let Some(exchange) = self.served(id)? {
            exchange.overrun |= overrun;
            let n = exchange.n;
            self.explain_reset(n)?;
        }
        if let Some(exchange) = self.served(id)? {
            exchange.upstream_gone();
        }
        self.agent.streams.remove(&id);
        self.count("reset");
        if self.rng.chance(100) {
            // An adapter that crosses it: without effect.
            self.tell_agent(Input::Ended(id, StreamEnd::Clean))?;
        }
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

    /// The Kubernetes API ends its part of a stream.
    pub(super) fn upstream_ends(&mut self, id: StreamId, end: StreamEnd) -> Check {
        if let Some(Some(n)) = self.agent.streams.remove(&id)
            && let Some(exchange) = self.exchanges.get_mut(&n)
        {
            exchange.upstream_gone();
        }
        self.agent.fast.remove(&id);
        self.tell_agent(Input::Ended(id, end))
    }
}
