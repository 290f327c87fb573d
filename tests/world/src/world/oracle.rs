//! What must hold after every step: bounds, exact accounts, clean tables, and a cause for every
//! failure (design, invariants 2, 3, 5 and 7).

use controlplane_core::{Failure, Limits, Machine as _, Stats, StreamId};

use super::World;
use crate::{
    exchange::{Check, Exchange},
    plan::MAX_PIECE,
};

impl World {
    pub(super) fn look(&self) -> Check {
        if self.agent.up {
            let served = self.agent.streams.values().flatten();
            let charges = served.filter_map(|n| Some(self.exchanges.get(n)?.body.charge));
            let connected = self.agent.machine.phase().open().is_some();
            let stats = self.agent.machine.stats();
            let open = self.agent.streams.len();
            account("the agent", &stats, open, charges)?;
            if !connected && !is_empty(&stats) {
                return Err("the agent keeps streams without a connection".into());
            }
            bounds("the agent", &stats, &self.agent.limits())?;
        }
        if self.controller.up {
            let asked = self.controller.streams.values();
            let charges = asked.filter_map(|n| Some(self.exchanges.get(n)?.answer.charge));
            let connected = self.controller.machine.joined().is_some();
            let stats = self.controller.machine.stats();
            let open = self.controller.streams.len();
            account("the controller", &stats, open, charges)?;
            self.look_at_windows()?;
            let mut asked = self.controller.streams.values();
            let complete = |n: &u64| {
                let exchange = self.exchanges.get(n);
                exchange.is_some_and(|e| e.tainted || e.is_complete())
            };
            let only_complete = stats.streams_open == open && asked.all(complete);
            let clean = stats.held_out == 0 && only_complete;
            if !connected && !clean {
                return Err("the controller keeps streams without a connection".into());
            }
            bounds("the controller", &stats, &self.controller.limits())?;
        }
        Ok(())
    }

    /// What waits for a client never exceeds the window that the agent was given (design,
    /// invariant 7): but for the last piece of it, which counts as no less than the least charge.
    fn look_at_windows(&self) -> Check {
        if self.foreign {
            return Ok(());
        }
        let window = self.controller.limits().recv_stream / 2;
        for n in self.controller.streams.values() {
            let waiting = self.exchanges.get(n).map_or(0, |e| e.answer.charge);
            if waiting >= window + Limits::MIN_CHARGE {
                return Err(format!(
                    "request {n}: {waiting} bytes in a window of {window}"
                ));
            }
        }
        Ok(())
    }

    /// Whether so much waits for the Kubernetes API that something had to end.
    pub(super) fn agent_is_full(&self, id: StreamId) -> bool {
        let limits = self.agent.limits();
        let more = self.largest_delivery(&self.controller.limits());
        let own = match self.agent.streams.get(&id) {
            Some(Some(n)) => self.exchanges.get(n).map_or(0, |e| e.body.charge),
            _ => 0,
        };
        let all = self.agent.machine.stats().held_in + own;
        own + more > limits.recv_stream || all + more > limits.recv_total
    }

    /// Whether so much waits for clients that something had to end.
    fn controller_is_full(&self, exchange: &Exchange) -> bool {
        let limits = self.controller.limits();
        let more = self.largest_delivery(&self.agent.limits());
        let own = exchange.answer.charge;
        let all = self.controller.machine.stats().held_in + own;
        own + more > limits.recv_stream || all + more > limits.recv_total
    }

    /// The longest delivery that a peer with these limits can cause.
    const fn largest_delivery(&self, peer: &Limits) -> usize {
        if self.foreign {
            peer.buffered
        } else {
            Limits::charge(peer.chunk)
        }
    }

    /// Every failure has a cause in its own request, its own connection or a limit.
    pub(super) fn explain(&self, n: u64, failure: &Failure) -> Check {
        let Some(exchange) = self.exchanges.get(&n) else {
            return Ok(());
        };
        let storm = self.weather.is_storm();
        let explained = exchange.tainted
            || match failure {
                Failure::Agent(text) => self.explain_text(exchange, text),
                Failure::Cancelled => exchange.broken_off,
                // That the agent is lost is told right behind: see `poll_controller`.
                Failure::Disconnected => true,
                Failure::Overrun => self.controller_is_full(exchange),
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
            "the request body arrives faster than the Kubernetes API takes it" => exchange.overrun,
            "the request took longer than its time limit" => exchange.whole,
            "the agent is shutting down" => storm || self.agent.stopping,
            "too many requests at once" => storm,
            "the request body is too large to be sent in one message" => storm && exchange.whole,
            _ => storm && exchange.whole && text.contains("answer"),
        }
    }
}

/// The machine holds for local ends exactly what they have not taken, and knows every stream that
/// they know.
fn account(who: &str, stats: &Stats, open: usize, charges: impl Iterator<Item = usize>) -> Check {
    let charged: usize = charges.sum();
    if stats.held_in != charged {
        let held = stats.held_in;
        return Err(format!(
            "{who} counts {held} bytes, its ends hold {charged}"
        ));
    }
    if stats.streams_open < open {
        return Err(format!("{who} forgot a stream that goes on"));
    }
    Ok(())
}

pub(super) const fn is_empty(stats: &Stats) -> bool {
    stats.streams_open == 0 && stats.held_in == 0 && stats.held_out == 0
}

fn bounds(who: &str, stats: &Stats, limits: &Limits) -> Check {
    // Of each stream, what is not data: a head, an end or an error.
    let per_stream = limits.head + 4 * Limits::MIN_CHARGE;
    let out = limits.send_total + MAX_PIECE + limits.buffered_total + limits.streams * per_stream;
    for (what, is, may) in [
        ("streams", stats.streams_open, limits.streams),
        ("bytes for local ends", stats.held_in, limits.recv_total),
        ("bytes for the socket", stats.held_out, out),
    ] {
        if is > may {
            return Err(format!("{who} holds {is} {what} of {may}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_is_wrong_by_one_byte_is_seen() {
        let mut stats = Stats::default();
        stats.held_in = 1000;
        stats.streams_open = 2;
        assert_eq!(account("it", &stats, 2, [400, 600].into_iter()), Ok(()));
        assert!(account("it", &stats, 2, [400, 601].into_iter()).is_err());
        assert!(account("it", &stats, 3, [400, 600].into_iter()).is_err());
    }

    #[test]
    fn one_above_a_bound_is_seen() {
        let limits = Limits::agent();
        let mut stats = Stats::default();
        stats.streams_open = limits.streams;
        stats.held_in = limits.recv_total;
        assert_eq!(bounds("it", &stats, &limits), Ok(()));
        stats.held_in += 1;
        assert!(bounds("it", &stats, &limits).is_err());
    }
}
