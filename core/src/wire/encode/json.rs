//! A writer of JSON objects that can only write well-formed ones.

use alloc::{collections::BTreeMap, string::String};
use core::fmt::Write as _;

use crate::wire::base64::Base64;

/// An envelope whose payload is being written.
pub(super) struct Message {
    out: String,
    /// Nothing was written yet into the innermost object.
    first: bool,
}

impl Message {
    pub(super) fn new(kind: &str, id: Option<&str>, capacity: usize) -> Self {
        let mut out = String::with_capacity(capacity);
        out.push_str("{\"type\":");
        quote(&mut out, kind);
        if let Some(id) = id {
            out.push_str(",\"request_id\":");
            quote(&mut out, id);
        }
        out.push_str(",\"payload\":{");
        Self { out, first: true }
    }

    pub(super) fn finish(mut self, timestamp: Option<&str>) -> String {
        self.out.push('}');
        if let Some(timestamp) = timestamp {
            self.out.push_str(",\"timestamp\":");
            quote(&mut self.out, timestamp);
        }
        self.out.push_str("}\n");
        self.out
    }

    /// The one value that `write` writes under some key, without the key.
    pub(super) fn value(write: impl FnOnce(&mut Self)) -> String {
        let mut m = Self {
            out: String::new(),
            first: true,
        };
        write(&mut m);
        let at = m.out.find(':').map_or(0, |colon| colon + 1);
        m.out.split_off(at)
    }

    fn key(&mut self, key: &str) {
        if !core::mem::take(&mut self.first) {
            self.out.push(',');
        }
        quote(&mut self.out, key);
        self.out.push(':');
    }

    pub(super) fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        quote(&mut self.out, text);
    }

    pub(super) fn number(&mut self, key: &str, number: i64) {
        self.key(key);
        // Writing to a string cannot fail.
        let _ = write!(self.out, "{number}");
    }

    pub(super) fn numbers(&mut self, key: &str, numbers: &[i64]) {
        self.key(key);
        self.out.push('[');
        for (i, number) in numbers.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let _ = write!(self.out, "{comma}{number}");
        }
        self.out.push(']');
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.key(key);
        self.out.push_str(if value { "true" } else { "false" });
    }

    pub(super) fn null(&mut self, key: &str) {
        self.key(key);
        self.out.push_str("null");
    }

    pub(super) fn array(&mut self, key: &str, texts: &[&str]) {
        self.key(key);
        self.out.push('[');
        for (i, text) in texts.iter().enumerate() {
            if i > 0 {
                self.out.push(',');
            }
            quote(&mut self.out, text);
        }
        self.out.push(']');
    }

    pub(super) fn object(&mut self, key: &str, write: impl FnOnce(&mut Self)) {
        self.key(key);
        self.out.push('{');
        self.first = true;
        write(self);
        self.out.push('}');
        self.first = false;
    }

    pub(super) fn texts(&mut self, pairs: &BTreeMap<String, String>) {
        for (key, text) in pairs {
            self.text(key, text);
        }
    }

    /// A byte and what follows it, as one string of base64.
    pub(super) fn base64_after(&mut self, key: &str, first: u8, data: &[u8], base64: &Base64) {
        self.key(key);
        self.out.push('"');
        // Three bytes are four characters, so what follows them can be encoded where it lies.
        match data.split_at_checked(2) {
            Some((&[second, third], rest)) => {
                base64.encode_into(&[first, second, third], &mut self.out);
                base64.encode_into(rest, &mut self.out);
            }
            _ => base64.encode_into(&[&[first], data].concat(), &mut self.out),
        }
        self.out.push('"');
    }

    /// The pieces as one string of base64.
    pub(super) fn base64(&mut self, key: &str, pieces: &[&[u8]], base64: &Base64) {
        self.key(key);
        self.out.push('"');
        match pieces {
            [piece] => base64.encode_into(piece, &mut self.out),
            _ => base64.encode_into(&pieces.concat(), &mut self.out),
        }
        self.out.push('"');
    }
}

/// Appends `text` as a JSON string.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c < ' ' || matches!(c, '"' | '\\')) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = special.chars();
        match chars.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(control) => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn every_text_survives_quoting() {
        let all: String = (0..0x250u32).filter_map(char::from_u32).collect();
        for text in [&*all, "", "\u{2028}</script>\u{10ffff}", "\"\"\\\\"] {
            let mut out = String::new();
            quote(&mut out, text);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn pieces_are_encoded_as_one() {
        let mut m = Message::new("t", None, 0);
        let pieces: Vec<&[u8]> = Vec::from([&b"h"[..], b"ell", b"", b"o"]);
        m.base64("d", &pieces, &Base64::new());
        assert_eq!(
            m.finish(None),
            "{\"type\":\"t\",\"payload\":{\"d\":\"aGVsbG8=\"}}\n"
        );
    }
}
