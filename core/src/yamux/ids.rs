//! Ids that the peer may give: each once, and nearly in order.

use alloc::collections::VecDeque;

use super::Role;

/// So many gaps are remembered; ids in older ones count as used.
const GAPS: usize = 256;

/// The ids of the peer. Some implementations number their streams before they queue their first
/// frames, so that a higher id may come before a lower one.
#[derive(Debug)]
pub(super) struct PeerIds {
    /// Above every id that was used.
    next: u64,
    /// First and last of ids below that were not used, in order.
    gaps: VecDeque<(u32, u32)>,
}

impl PeerIds {
    /// Those of the peer of an end in this role.
    pub(super) const fn new(role: Role) -> Self {
        let next = match role {
            Role::Client => 2,
            Role::Server => 1,
        };
        Self {
            next,
            gaps: VecDeque::new(),
        }
    }

    /// Whether the peer may ever give this id.
    pub(super) fn may_be(&self, id: u32) -> bool {
        id != 0 && u64::from(id) % 2 == self.next % 2
    }

    /// Takes an id that [may be](Self::may_be); false where it was used before.
    pub(super) fn take(&mut self, id: u32) -> bool {
        if u64::from(id) < self.next {
            return self.take_late(id);
        }
        // Below the id, so it fits.
        if u64::from(id) > self.next {
            self.gaps.push_back((self.next as u32, id - 2));
        }
        self.next = u64::from(id) + 2;
        if self.gaps.len() > GAPS {
            self.gaps.pop_front();
        }
        true
    }

    fn take_late(&mut self, id: u32) -> bool {
        let at = self.gaps.partition_point(|(_, last)| *last < id);
        let Some(&(first, last)) = self.gaps.get(at).filter(|(first, _)| *first <= id) else {
            return false;
        };
        self.gaps.remove(at);
        if id < last {
            self.gaps.insert(at, (id + 2, last));
        }
        if first < id {
            self.gaps.insert(at, (first, id - 2));
        }
        if self.gaps.len() > GAPS {
            self.gaps.pop_front();
        }
        true
    }
}
