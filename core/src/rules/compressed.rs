//! Whether the body of a binary answer was compressed without saying so (P-040).

use alloc::string::String;

use crate::wire::gzip::MAGIC;

/// Whether `body` is to be inflated: it begins as gzip does, and the headers do not explain that.
///
/// The headers are the upstream's and describe the plain body. Where they tell its length, that
/// decides; otherwise an encoding of the upstream's own explains it, and so does a type that the
/// original never compresses (P-038).
pub(crate) fn is_compressed_unsaid(headers: &[(String, String)], body: &[u8]) -> bool {
    let value = |name: &str| {
        let header = headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        header.map(|(_, value)| value.trim())
    };
    if !body.starts_with(&MAGIC) {
        return false;
    }
    if let Some(length) = value("content-length").and_then(|v| v.parse::<usize>().ok()) {
        return length != body.len();
    }
    let encoded = value("content-encoding").is_some_and(|v| !v.eq_ignore_ascii_case("identity"));
    !encoded && compressible(value("content-type").unwrap_or_default())
}

/// P-038.
fn compressible(content_type: &str) -> bool {
    let packed = ["gzip", "compress", "zip", "image/", "video/", "audio/"];
    let plain = ["text/", "json", "javascript", "xml", "html", "yaml"];
    !packed.iter().any(|part| content_type.contains(part))
        && plain.iter().any(|part| content_type.contains(part))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const GZIP: &[u8] = b"\x1f\x8b and so on";

    fn unsaid(headers: &[(&str, &str)], body: &[u8]) -> bool {
        let pair = |(n, v): &(&str, &str)| (String::from(*n), String::from(*v));
        let headers: Vec<_> = headers.iter().map(pair).collect();
        is_compressed_unsaid(&headers, body)
    }

    #[test]
    fn p040_the_magic_counts_only_where_nothing_explains_it() {
        let text = ("content-type", "text/plain");
        assert!(unsaid(&[text], GZIP));
        assert!(unsaid(&[text, ("Content-Length", "20000")], GZIP));
        assert!(unsaid(&[text, ("Content-Encoding", "identity")], GZIP));
        assert!(!unsaid(&[text], b"plain"));
        assert!(!unsaid(&[text, ("Content-Length", "12")], GZIP));
        assert!(!unsaid(&[text, ("Content-Encoding", "gzip")], GZIP));
        assert!(!unsaid(&[("Content-Type", "application/gzip")], GZIP));
        assert!(!unsaid(&[("Content-Type", "image/svg+xml")], GZIP));
        assert!(!unsaid(&[], GZIP));
    }

    #[test]
    fn p040_a_length_decides_what_was_encoded_twice() {
        let twice = [("Content-Encoding", "gzip"), ("Content-Length", "20000")];
        assert!(unsaid(&twice, GZIP));
    }
}
