//! What must hold after every step: bounds, exact accounts, clean tables, windows that are kept and
//! no work for nobody (design, invariants 2, 4, 5 and 7).

mod causes;

use std::time::Duration;

use controlplane_core::{Limits, Machine as _, Stats, StreamEnd};

use super::World;
use crate::{
    exchange::Check,
    link::Side,
    plan::{MAX_PIECE, Manners},
};

impl World {
    pub(super) fn look(&mut self) -> Check {
        if self.agent.up {
            self.look_at_agent()?;
        }
        if self.controller.up {
            self.look_at_controller()?;
        }
        Ok(())
    }

    fn look_at_agent(&mut self) -> Check {
        let limits = self.agent.limits();
        // What the agent announces.
        let window = (1 << 20).min(limits.recv_stream / 2);
        let closing = self.agent.closing().max(self.controller.closing());
        // A link that fails may do so more than once before an end of it knows.
        let link = if self.weather.is_storm() {
            Self::patience() * 2
        } else {
            Duration::from_secs(5)
        };
        let (mut charged, mut spent) = (0, false);
        for n in self.agent.streams.values().flatten() {
            let Some(exchange) = self.exchanges.get_mut(n) else {
                continue;
            };
            charged += exchange.body.charge;
            let stream = exchange.talk.is_some();
            if self.manners.keep_window(stream) && !exchange.is_strangers() {
                spent |= stream && exchange.body.charge >= window;
                exchange.within(&exchange.body, window)?;
            }
            if exchange.is_forgotten(self.now, closing, link) {
                return Err(format!(
                    "request {n} is worked on long after its client left"
                ));
            }
        }
        if spent {
            self.count("window to the upstream spent");
        }
        let connected = self.agent.machine.phase().open().is_some();
        let stats = self.agent.machine.stats();
        let open = self.agent.streams.len() + self.agent.tunnels.len() + self.agent.fast.len();
        let charged = charged + self.tunnels_charge().0;
        match self.is_fast() {
            true => self.look_at_fasts(Side::Agent, &stats, charged)?,
            false => exact("the agent", &stats, charged)?,
        }
        account("the agent", &stats, open)?;
        if !connected && !is_empty(&stats) {
            return Err("the agent keeps streams without a connection".into());
        }
        bounds("the agent", &stats, &limits, self.is_fast())
    }

    fn look_at_controller(&mut self) -> Check {
        let limits = self.controller.limits();
        let window = limits.recv_stream / 2;
        let (mut charged, mut spent, mut complete) = (0, false, true);
        for n in self.controller.streams.values() {
            let Some(exchange) = self.exchanges.get(n) else {
                continue;
            };
            if exchange.discarded.is_some() {
                return Err(format!("request {n} goes on with a hole in its answer"));
            }
            charged += exchange.answer.charge;
            complete &= exchange.tainted || exchange.is_complete();
            if self.manners == Manners::Ours {
                spent |= exchange.talk.is_some() && exchange.answer.charge >= window;
                exchange.within(&exchange.answer, window)?;
            }
        }
        if spent {
            self.count("window to a client spent");
        }
        for n in self.controller.tunnels.values() {
            if let Some(tunnel) = self.tunnels.get(n) {
                complete &= tunnel.service_ended == Some(StreamEnd::Clean);
                if tunnel.discarded.is_some() {
                    return Err(format!("tunnel {n} goes on with a hole in it"));
                }
            }
        }
        let connected = self.controller.machine.joined().is_some();
        let stats = self.controller.machine.stats();
        let host = &self.controller;
        let open = host.streams.len() + host.tunnels.len() + host.fast.len();
        let charged = charged + self.tunnels_charge().1;
        match self.is_fast() {
            true => self.look_at_fasts(Side::Controller, &stats, charged)?,
            false => exact("the controller", &stats, charged)?,
        }
        account("the controller", &stats, open)?;
        let clean = stats.held_out == 0 && stats.streams_open == open && complete;
        if !connected && !clean {
            return Err("the controller keeps streams without a connection".into());
        }
        bounds("the controller", &stats, &limits, self.is_fast())
    }
}

/// The machine holds for local ends exactly what they have not taken.
fn exact(who: &str, stats: &Stats, charged: usize) -> Check {
    match stats.held_in {
        held if held == charged => Ok(()),
        held => Err(format!(
            "{who} counts {held} bytes, its ends hold {charged}"
        )),
    }
}

/// The machine knows every stream that its ends know, and how each other one ended.
fn account(who: &str, stats: &Stats, open: usize) -> Check {
    if stats.streams_open < open {
        return Err(format!("{who} forgot a stream that goes on"));
    }
    let closed: u64 = stats.streams_closed.iter().sum();
    if stats.streams_opened != closed + stats.streams_open as u64 {
        return Err(format!("{who} counts streams wrongly: {stats:?}"));
    }
    Ok(())
}

pub(super) const fn is_empty(stats: &Stats) -> bool {
    stats.streams_open == 0 && stats.held_in == 0 && stats.held_out == 0
}

fn bounds(who: &str, stats: &Stats, limits: &Limits, fast: bool) -> Check {
    // Streams of the fast mode have the same bounds beside those of JSON.
    let modes = 1 + usize::from(fast);
    // Of each stream, what is not data: a head, an end or an error.
    let per_stream = limits.head + 4 * Limits::MIN_CHARGE;
    let piece = MAX_PIECE.max(limits.message);
    let whole = limits.buffered_total + limits.streams * per_stream;
    let out = (limits.send_total + piece) * modes + whole;
    for (what, is, may) in [
        ("streams", stats.streams_open, limits.streams * modes),
        (
            "bytes for local ends",
            stats.held_in,
            limits.recv_total * modes,
        ),
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
    use controlplane_core::Ending;

    use super::*;

    #[test]
    fn an_account_that_is_wrong_by_one_byte_is_seen() {
        let mut stats = Stats::default();
        stats.held_in = 1000;
        (stats.streams_opened, stats.streams_open) = (3, 2);
        Ending::Lost.count(&mut stats.streams_closed);
        assert_eq!(exact("it", &stats, 1000), Ok(()));
        assert!(exact("it", &stats, 1001).is_err());
        assert_eq!(account("it", &stats, 2), Ok(()));
        assert!(account("it", &stats, 3).is_err());
        Ending::Lost.count(&mut stats.streams_closed);
        assert!(account("it", &stats, 2).is_err());
    }

    #[test]
    fn one_above_a_bound_is_seen() {
        let limits = Limits::agent();
        let mut stats = Stats::default();
        stats.streams_open = limits.streams;
        stats.held_in = limits.recv_total;
        assert_eq!(bounds("it", &stats, &limits, false), Ok(()));
        stats.held_in += 1;
        assert!(bounds("it", &stats, &limits, false).is_err());
        assert_eq!(bounds("it", &stats, &limits, true), Ok(()));
    }
}
