//! Request line: what is relayed byte for byte (P-163) and what is refused (P-201).

use alloc::{string::String, vec::Vec};

use crate::error::PeerFault;

/// First segments of the paths that a Kubernetes API has.
const ROOTS: [&str; 7] = [
    "api", "apis", "healthz", "livez", "openapi", "readyz", "version",
];

/// Checks a method and puts it into upper case; empty means `GET`.
///
/// # Errors
///
/// [`PeerFault::Method`]: not a token of HTTP, or `CONNECT` or `TRACE`, which are not relayed.
pub fn check_method(method: &str) -> Result<String, PeerFault> {
    if method.is_empty() {
        return Ok("GET".into());
    }
    let method = method.to_ascii_uppercase();
    let token = method.len() <= 32 && method.bytes().all(is_token);
    if !token || method == "CONNECT" || method == "TRACE" {
        return Err(PeerFault::Method);
    }
    Ok(method)
}

/// Checks a path, escapes included: it begins with one of `/api`, `/apis`, `/version`,
/// `/healthz`, `/readyz`, `/livez` and `/openapi`, compared by whole segment.
///
/// # Errors
///
/// [`PeerFault::Path`]: another root, an empty or a dot segment (escaped ones too), or anything
/// that cannot stand in the path of a request line.
pub fn check_path(path: &str) -> Result<(), PeerFault> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(PeerFault::Path);
    };
    let mut segments = rest.split('/').peekable();
    let root = segments.peek().copied().unwrap_or_default();
    if !ROOTS.contains(&root) {
        return Err(PeerFault::Path);
    }
    while let Some(segment) = segments.next() {
        // Only the last may be empty: a path may end with a slash.
        if segment.is_empty() && segments.peek().is_some() {
            return Err(PeerFault::Path);
        }
        check_segment(segment)?;
    }
    Ok(())
}

fn check_segment(segment: &str) -> Result<(), PeerFault> {
    let decoded = unescape(segment)?;
    // An escaped slash is data to an API server, but not to everything behind it.
    let dots = decoded
        .split(|b| matches!(b, b'/' | b'\\'))
        .any(|part| matches!(part, b"." | b".."));
    let control = decoded.iter().any(|b| *b < 0x20 || *b == 0x7f);
    if dots || control {
        return Err(PeerFault::Path);
    }
    Ok(())
}

/// The bytes that a segment stands for.
fn unescape(segment: &str) -> Result<Vec<u8>, PeerFault> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let (Some(high), Some(low)) = (hex(bytes.next()), hex(bytes.next())) else {
                    return Err(PeerFault::Path);
                };
                high << 4 | low
            }
            byte if is_pchar(byte) => byte,
            _ => return Err(PeerFault::Path),
        });
    }
    Ok(decoded)
}

fn hex(byte: Option<u8>) -> Option<u8> {
    let digit = char::from(byte?).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// RFC 3986, section 3.3, without the escapes.
const fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
        )
}

/// Checks a query: what can stand in a request line after the `?`.
///
/// # Errors
///
/// [`PeerFault::Query`]: it cannot.
pub fn check_query(query: &str) -> Result<(), PeerFault> {
    let fine = |b: u8| b.is_ascii_graphic() && !matches!(b, b'#' | b'"' | b'<' | b'>');
    if query.bytes().all(fine) {
        Ok(())
    } else {
        Err(PeerFault::Query)
    }
}

/// RFC 9110, section 5.6.2.
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}
