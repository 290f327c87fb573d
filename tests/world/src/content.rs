//! What bodies consist of: every byte follows from its request, its direction and its offset, so
//! that a receiver can check it without anybody having kept it.

use bytes::Bytes;

use crate::rng::mix;

/// Which way a body goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// From the client to the Kubernetes API.
    Request,
    /// Back.
    Answer,
}

/// `len` bytes of a body from `offset`.
#[must_use]
pub fn piece(request: u64, way: Way, offset: usize, len: usize) -> Bytes {
    let mut data = Vec::with_capacity(len + 16);
    let mut word = offset / 8;
    while data.len() < len + offset % 8 {
        data.extend_from_slice(&word_at(request, way, word).to_le_bytes());
        word += 1;
    }
    data.truncate(len + offset % 8);
    Bytes::from(data).slice(offset % 8..)
}

/// Whether `data` is what a body holds from `offset`.
#[must_use]
pub fn is_piece(request: u64, way: Way, offset: usize, data: &[u8]) -> bool {
    piece(request, way, offset, data.len()) == data
}

const fn word_at(request: u64, way: Way, word: usize) -> u64 {
    let salt = match way {
        Way::Request => 0,
        Way::Answer => 1 << 63,
    };
    mix(mix(request | salt).wrapping_add(word as u64))
}
