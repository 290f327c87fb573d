//! Base64 as everywhere in the protocol: standard alphabet with padding, line breaks skipped on
//! the way in (P-027).

use alloc::{string::String, vec, vec::Vec};
use core::fmt;

use base64::Engine as _;
#[cfg(not(all(feature = "simd", any(target_arch = "x86_64", target_arch = "aarch64"))))]
use base64::engine::GeneralPurpose as Inner;
#[cfg(all(feature = "simd", any(target_arch = "x86_64", target_arch = "aarch64")))]
use base64::engine::Simd as Inner;

use crate::error::PeerFault;

/// Encoder and decoder; made once, because it asks the processor what it can do.
pub(crate) struct Base64(Inner);

impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Base64")
    }
}

impl Base64 {
    #[cfg(all(feature = "simd", any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(crate) fn new() -> Self {
        Self(Inner::standard(base64::engine::general_purpose::PAD))
    }

    #[cfg(not(all(feature = "simd", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    pub(crate) fn new() -> Self {
        let pad = base64::engine::general_purpose::PAD;
        Self(Inner::new(&base64::alphabet::STANDARD, pad))
    }

    /// Appends `data` to `out`, which should have room for it.
    pub(crate) fn encode_into(&self, data: &[u8], out: &mut String) {
        // Faster than `encode_string`, which goes through a small buffer.
        let mut text = core::mem::take(out).into_bytes();
        let (start, len) = (text.len(), encoded_len(data.len()));
        text.resize(start + len, 0);
        let room = text.get_mut(start..).unwrap_or_default();
        let written = self.0.encode_slice(data, room);
        debug_assert_eq!(written, Ok(len), "the room is exact");
        // It is: of ASCII what was added, and a text before.
        *out = String::from_utf8(text).unwrap_or_default();
    }

    pub(crate) fn decode(&self, text: &str) -> Result<Vec<u8>, PeerFault> {
        if let Some(data) = self.decode_strict(text) {
            return Ok(data);
        }
        // Rare, so the common way stays one pass.
        if !text.bytes().any(|b| matches!(b, b'\r' | b'\n')) {
            return Err(PeerFault::Base64);
        }
        let mut bytes = text.as_bytes().to_vec();
        bytes.retain(|b| !matches!(b, b'\r' | b'\n'));
        self.0.decode(bytes).map_err(|_| PeerFault::Base64)
    }

    /// What `text` encodes, if nothing but the alphabet and its padding is in it.
    ///
    /// With no room to spare, so that [`bytes::Bytes`] takes it over without another allocation.
    pub(crate) fn decode_strict(&self, text: &str) -> Option<Vec<u8>> {
        let padding = text.bytes().rev().take(2).take_while(|b| *b == b'=');
        let len = (text.len() / 4 * 3).checked_sub(padding.count())?;
        let mut data = vec![0; len];
        let written = self.0.decode_slice(text, &mut data).ok()?;
        (written == len).then_some(data)
    }
}

/// Characters of the encoding of `len` bytes.
pub(crate) const fn encoded_len(len: usize) -> usize {
    len.div_ceil(3).saturating_mul(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p027_line_breaks_are_skipped_everything_else_is_refused() {
        let base64 = Base64::new();
        assert_eq!(base64.decode("aGVs\r\nbG8=\n"), Ok(b"hello".to_vec()));
        assert_eq!(base64.decode(""), Ok(Vec::new()));
        for bad in ["aGVsbG8", "aGVsbG8==", "_-==", "aGVs bG8=", "a", "aGVsbG9="] {
            assert_eq!(base64.decode(bad), Err(PeerFault::Base64), "{bad}");
        }
    }

    #[test]
    fn what_is_encoded_decodes_at_every_length() {
        let base64 = Base64::new();
        for len in 0..300 {
            let data: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
            let mut text = String::new();
            base64.encode_into(&data, &mut text);
            assert_eq!(text.len(), encoded_len(data.len()));
            let decoded = base64.decode(&text).unwrap();
            assert_eq!(decoded.capacity(), data.len());
            assert_eq!(decoded, data);
        }
    }
}
