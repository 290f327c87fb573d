//! Who is let in how often: connections in all, connections of one address that have not shown
//! a token yet, and agents' handshakes per second.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{config::ServerLimits, reload::lock};

/// The counters of a server.
#[derive(Debug)]
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    /// How many places there are.
    all: usize,
    pending: Arc<Pending>,
    handshakes: Mutex<Bucket>,
}

/// Connections without a token yet, by address.
#[derive(Debug)]
struct Pending {
    limit: usize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place.
#[derive(Debug)]
pub(crate) struct Visit {
    address: IpAddr,
    pending: Arc<Pending>,
    /// It has shown a token.
    known: Mutex<bool>,
    /// Over the limit of its address: it is told so, and nothing else.
    pub(crate) refused: bool,
    _place: OwnedSemaphorePermit,
}

/// Why a connection is dropped without an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Full {
    /// Too many of its address, even to tell each that there are too many.
    Address,
    /// Too many in all.
    Server,
}

impl Admission {
    pub(crate) fn new(limits: &ServerLimits, now: Instant) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.connections)),
            all: limits.connections,
            pending: Arc::new(Pending {
                limit: limits.pending_per_address,
                by_address: Mutex::default(),
            }),
            handshakes: Mutex::new(Bucket::new(limits.agent_handshakes_per_second, now)),
        }
    }

    /// A place for a connection from `address`. One limit's worth of connections beyond the
    /// limit of the address gets a place to be refused in.
    pub(crate) fn enter(&self, address: IpAddr) -> Result<Visit, Full> {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| Full::Server)?;
        let address = network(address);
        let limit = self.pending.limit;
        let before = self.pending.add(address, limit * 2).ok_or(Full::Address)?;
        Ok(Visit {
            address,
            pending: self.pending.clone(),
            known: Mutex::new(false),
            refused: before >= limit,
            _place: place,
        })
    }

    /// Connections that have a place now.
    pub(crate) fn open(&self) -> usize {
        self.all.saturating_sub(self.places.available_permits())
    }

    /// Whether another agent may shake hands now.
    pub(crate) fn handshake(&self, now: Instant) -> bool {
        lock(&self.handshakes).take(now)
    }
}

impl Visit {
    /// The connection has shown a token that is known.
    pub(crate) fn authenticated(&self) {
        let mut known = lock(&self.known);
        if !*known {
            *known = true;
            self.pending.remove(self.address);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.authenticated();
    }
}

impl Pending {
    /// How many there were, or `None` where there are `most` already.
    fn add(&self, address: IpAddr, most: usize) -> Option<usize> {
        let mut counts = lock(&self.by_address);
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(*count - 1)
    }

    fn remove(&self, address: IpAddr) {
        let mut counts = lock(&self.by_address);
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

/// What counts as one address: one host has a whole /64 of IPv6 to itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

/// Refills at `rate` a second, up to one second's worth.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    /// So many at once: a quarter of a second's, so that a fleet that comes back at the same moment
    /// is let in evenly.
    most: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: u32, now: Instant) -> Self {
        let rate = f64::from(rate);
        let most = (rate / 4.0).max(2.0).min(rate);
        Self {
            rate,
            most,
            level: most,
            at: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * self.rate).min(self.most);
        self.at = now;
        if self.level < 1.0 {
            return false;
        }
        self.level -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn admission(connections: usize, pending: usize) -> Admission {
        let limits = ServerLimits {
            connections,
            pending_per_address: pending,
            agent_handshakes_per_second: 2,
            ..ServerLimits::default()
        };
        Admission::new(&limits, Instant::now())
    }

    #[test]
    fn an_address_is_refused_beyond_its_limit_and_dropped_beyond_twice_that() {
        let admission = admission(100, 2);
        let visits: Vec<Visit> = (0..4).map(|_| admission.enter(HERE).unwrap()).collect();
        let refused: Vec<bool> = visits.iter().map(|visit| visit.refused).collect();
        assert_eq!(refused, [false, false, true, true]);
        assert_eq!(admission.enter(HERE).unwrap_err(), Full::Address);
        assert!(!admission.enter(THERE).unwrap().refused);
        drop(visits);
        assert!(!admission.enter(HERE).unwrap().refused);
    }

    #[test]
    fn a_connection_with_a_token_is_not_pending() {
        let admission = admission(100, 1);
        let known: Vec<Visit> = (0..10)
            .map(|_| {
                let visit = admission.enter(HERE).unwrap();
                visit.authenticated();
                visit.authenticated();
                visit
            })
            .collect();
        assert!(known.iter().all(|visit| !visit.refused));
        assert!(lock(&admission.pending.by_address).is_empty());
    }

    #[test]
    fn there_is_a_limit_in_all() {
        let admission = admission(2, 10);
        let first = admission.enter(HERE).unwrap();
        first.authenticated();
        let _second = admission.enter(THERE).unwrap();
        assert_eq!(admission.enter(HERE).unwrap_err(), Full::Server);
        drop(first);
        assert!(admission.enter(HERE).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_and_mapped_ipv4_is_ipv4() {
        let parse = |text: &str| network(text.parse().unwrap());
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff:2"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
        assert_eq!(parse("::ffff:127.0.0.1"), HERE);
    }

    #[test]
    fn handshakes_are_limited_per_second() {
        let admission = admission(1, 1);
        let now = Instant::now();
        let later = now + Duration::from_millis(500);
        let outcomes = [now, now, now, later, later].map(|at| admission.handshake(at));
        assert_eq!(outcomes, [true, true, false, true, false]);
        let much_later = now + Duration::from_secs(100);
        let outcomes = [much_later; 3].map(|at| admission.handshake(at));
        assert_eq!(outcomes, [true, true, false]);
    }
}
