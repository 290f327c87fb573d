//! Where every decision of a world comes from: a row of bytes, of a fuzzer or made from a seed.

use std::time::Duration;

use arbitrary::Unstructured;

/// So many bytes are made at once.
const REFILL: usize = 512;

/// A row of bytes that decisions are read from. It has no end: behind those that are given come
/// such as are made from them.
#[derive(Clone, Debug)]
pub struct Rng {
    bytes: Vec<u8>,
    at: usize,
    /// What the bytes behind are made from.
    state: u64,
}

impl Rng {
    /// Bytes that are always the same for the same `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            bytes: Vec::new(),
            at: 0,
            state: seed,
        }
    }

    /// These bytes, and what follows from them.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let state = bytes
            .iter()
            .fold(1, |hash, byte| mix(hash ^ u64::from(*byte)));
        Self {
            bytes: bytes.into(),
            at: 0,
            state,
        }
    }

    /// SplitMix64: small, and good enough to make worlds differ.
    fn refill(&mut self) {
        self.bytes.drain(..self.at);
        self.at = 0;
        while self.bytes.len() < REFILL {
            self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            self.bytes.extend_from_slice(&mix(self.state).to_le_bytes());
        }
    }

    /// The next number.
    pub fn word(&mut self) -> u64 {
        self.within(0, u64::MAX)
    }

    /// A number below `n`, which must not be 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.within(0, n - 1)
    }

    /// A number from `low` to `high`, both included; no more bytes than that takes.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        if self.bytes.len() - self.at < size_of::<u64>() {
            self.refill();
        }
        let left = &self.bytes[self.at..];
        let mut input = Unstructured::new(left);
        let number = input.int_in_range(low..=high).unwrap_or(low);
        self.at = self.bytes.len() - input.len();
        number
    }

    /// The same as a length.
    pub fn len(&mut self, low: usize, high: usize) -> usize {
        self.within(low as u64, high as u64) as usize
    }

    /// Whether something happens that does `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// A span from `low` to `high` milliseconds.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.within(low, high))
    }

    /// So many bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

/// The finalizer of SplitMix64: near numbers become unlike ones.
#[must_use]
pub const fn mix(number: u64) -> u64 {
    let mut z = number;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_decide_as_far_as_there_are_any() {
        let (mut one, mut other) = (Rng::of_bytes(&[7, 1, 2]), Rng::of_bytes(&[7, 1, 3]));
        assert_eq!(one.below(256), 7);
        assert_eq!(other.below(256), 7);
        assert_eq!((one.below(256), other.below(256)), (1, 1));
        assert_eq!((one.below(256), other.below(256)), (2, 3));
        // Behind them each goes on, and always in the same way.
        let rest: Vec<u64> = (0..100).map(|_| one.word()).collect();
        let mut again = Rng::of_bytes(&[7, 1, 2]);
        (0..3).for_each(|_| _ = again.below(256));
        assert_eq!(rest, (0..100).map(|_| again.word()).collect::<Vec<_>>());
        assert_ne!(rest, (0..100).map(|_| other.word()).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_stay_in_their_range() {
        let mut rng = Rng::new(7);
        let drawn: Vec<u64> = (0..2000).map(|_| rng.within(3, 9)).collect();
        assert!((3..=9).all(|n| drawn.contains(&n)));
        assert!(drawn.iter().all(|n| (3..=9).contains(n)));
        assert_eq!(rng.within(5, 5), 5);
    }
}
