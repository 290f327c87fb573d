//! What to do with a message that the parser does not take: read it as the original does where it
//! is no Unicode, and tell whose it is, so that a request is answered (P-190) and a stream does not
//! go on with a hole in it (P-153).

use alloc::{string::String, vec::Vec};
use core::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};

use super::{Envelope, fill};
use crate::error::PeerFault;

/// Longest message that is mended: it takes several times its length while that is done.
const MAX_MENDED: usize = 1 << 20;

/// The message with U+FFFD for what is no UTF-8 and for every half of a surrogate pair that stands
/// alone, which well-formed JSON can have; the original reads both in that way.
pub(super) fn mend(frame: &[u8]) -> Option<Vec<u8>> {
    if frame.len() > MAX_MENDED {
        return None;
    }
    let text = String::from_utf8_lossy(frame);
    let mut out = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let (written, len) = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (escape.get(..12)?, 12),
            (Some(0xd800..=0xdfff), _) => ("\u{fffd}", 6),
            // Of an escaped backslash both, so that the second begins nothing.
            _ => {
                let len = escape.chars().take(2).map(char::len_utf8).sum();
                (escape.get(..len)?, len)
            }
        };
        out.push_str(written);
        rest = escape.get(len..)?;
    }
    out.push_str(rest);
    (out.as_bytes() != frame).then(|| out.into_bytes())
}

/// The UTF-16 code unit that an escape at the beginning of `text` stands for.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
    let unit = u32::from_str_radix(digits, 16).ok();
    unit.filter(|_| plain)
}

/// Type and id of a message of which nothing else can be said, up to where it ends to be JSON.
pub(super) fn names(frame: &[u8]) -> Option<Envelope<'_>> {
    let mut envelope = Envelope::default();
    let mut input = serde_json::Deserializer::from_slice(frame);
    // That it ends in an error is known.
    let _ = input.deserialize_map(Names(&mut envelope));
    envelope.fault = Some(PeerFault::Malformed);
    let named = envelope.id.is_some() && !envelope.kind.is_empty();
    named.then_some(envelope)
}

struct Names<'e, 'a>(&'e mut Envelope<'a>);

impl<'de> Visitor<'de> for Names<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        fill(self.0, &mut map, false)
    }
}
