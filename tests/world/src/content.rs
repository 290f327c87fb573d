//! What bodies and messages consist of: every byte follows from its request, its direction and
//! its place, so that a receiver can check it without anybody having kept it.

use bytes::Bytes;
use controlplane_core::Kind;

use crate::rng::mix;

/// Which way a body or a message goes.
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

/// What makes one message of a stream differ from another, beside its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Said {
    /// As it has to arrive.
    pub kind: Kind,
    /// Its first byte, where that matters.
    pub lead: Option<u8>,
    /// Its length.
    pub len: usize,
}

/// Message number `place` of a stream. A text is ASCII.
#[must_use]
pub fn message(request: u64, way: Way, place: usize, said: Said) -> Bytes {
    let data = piece(request, way, place << 24, said.len);
    let text = said.kind == Kind::Text;
    if !text && said.lead.is_none() {
        return data;
    }
    let mut data = Vec::from(data);
    for byte in data.iter_mut().filter(|_| text) {
        *byte = b' ' + *byte % 95;
    }
    if let (Some(lead), Some(first)) = (said.lead, data.first_mut()) {
        *first = lead;
    }
    data.into()
}

const fn word_at(request: u64, way: Way, word: usize) -> u64 {
    let salt = match way {
        Way::Request => 0,
        Way::Answer => 1 << 63,
    };
    mix(mix(request | salt).wrapping_add(word as u64))
}
