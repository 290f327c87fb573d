//! Legal content of every kind, out of a fuzzer's bytes.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use controlplane_core::{Kind, RequestHead, ResponseHead, StreamClose};

type Headers = Vec<(String, String)>;

/// Any text of at most `most` bytes.
pub(super) fn text(input: &mut Unstructured<'_>, most: usize) -> Result<String> {
    let len = input.int_in_range(0..=most)?.min(input.len());
    let bytes = input.bytes(len)?;
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    while text.len() > most {
        text.pop();
    }
    Ok(text)
}

/// A text of these characters.
fn of(input: &mut Unstructured<'_>, letters: &[u8], least: usize, most: usize) -> Result<String> {
    let len = input.int_in_range(least..=most)?;
    (0..len)
        .map(|_| Ok(char::from(*input.choose(letters)?)))
        .collect()
}

const TOKEN: &[u8] = b"abcXYZ019!#$%&'*+-.^_`|~";
const PATH: &[u8] = b"abcXYZ019-._~!$&'()*+,;=:@";
const QUERY: &[u8] = b"abcXYZ019-._~!$&'()*+,;=:@/?%[]{}|\\^`";

/// Some are names that mean something.
fn headers(input: &mut Unstructured<'_>) -> Result<Headers> {
    let count = input.int_in_range(0..=6u8)?;
    (0..count)
        .map(|_| {
            let known = [
                "Accept",
                "accept",
                "ACCEPT",
                "Content-Type",
                "Authorization",
                "Cookie",
                "Connection",
                "Impersonate-User",
                "Set-Cookie",
                "X-Remote-User",
                "Te",
            ];
            let name = match input.arbitrary()? {
                true => (*input.choose(&known)?).to_string(),
                false => of(input, TOKEN, 1, 12)?,
            };
            let mut value = text(input, 60)?;
            value.retain(|c| c == '\t' || (c >= ' ' && c != '\u{7f}'));
            Ok((name, value))
        })
        .collect()
}

pub(super) fn request(input: &mut Unstructured<'_>) -> Result<RequestHead> {
    let methods = [
        "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "M-SEARCH",
    ];
    let mut path = String::from("/api");
    for _ in 0..input.int_in_range(0..=4u8)? {
        let escape = ["", "%20", "%2F", "%c3%a4"][usize::from(input.int_in_range(0..=3u8)?)];
        path += &format!("/{}{escape}x", of(input, PATH, 0, 10)?);
    }
    // Those that ask for an upgrade are for WebSockets.
    let mut headers = headers(input)?;
    headers.retain(|(name, _)| !name.to_ascii_lowercase().starts_with("sec-websocket"));
    Ok(RequestHead {
        method: (*input.choose(&methods)?).into(),
        path,
        query: match input.arbitrary()? {
            true => Some(of(input, QUERY, 1, 30)?),
            false => None,
        },
        headers,
    })
}

pub(super) fn head(input: &mut Unstructured<'_>) -> Result<ResponseHead> {
    Ok(ResponseHead {
        status: input.int_in_range(200..=599)?,
        headers: headers(input)?,
    })
}

/// Pieces of a body: none, few and many bytes, of few and of all values.
pub(super) fn pieces(input: &mut Unstructured<'_>) -> Result<Vec<Bytes>> {
    let count = input.int_in_range(0..=4u8)?;
    (0..count).map(|_| data(input)).collect()
}

/// Not like the beginning of gzip: that one an answer may be taken for (P-040).
fn data(input: &mut Unstructured<'_>) -> Result<Bytes> {
    let len = input.int_in_range(0..=300usize)?.min(input.len());
    let mut data = input.bytes(len)?.to_vec();
    let times = *input.choose(&[1, 1, 1, 40, 200])?;
    data = data.repeat(times);
    if let Some(first) = data.first_mut().filter(|first| **first == 0x1f) {
        *first = 0x1e;
    }
    Ok(data.into())
}

/// Messages with whether the client says them.
pub(super) fn said(input: &mut Unstructured<'_>) -> Result<Vec<(bool, Kind, Bytes)>> {
    let count = input.int_in_range(0..=6u8)?;
    (0..count)
        .map(|_| {
            let from_client = input.arbitrary()?;
            let kind = *input.choose(&[Kind::Binary, Kind::Text, Kind::Bytes, Kind::Datagram])?;
            let data = match kind {
                Kind::Text => text(input, 300)?.into(),
                _ => data(input)?,
            };
            Ok((from_client, kind, data))
        })
        .collect()
}

pub(super) fn protocols(input: &mut Unstructured<'_>) -> Result<Vec<String>> {
    let known = [
        "v5.channel.k8s.io",
        "channel.k8s.io",
        "portforward.k8s.io",
        "x",
        "SPDY/3.1+portforward",
    ];
    let from = input.int_in_range(0..=4usize)?;
    let count = input.int_in_range(0..=2usize)?;
    let some = known.iter().skip(from).take(count);
    Ok(some.map(ToString::to_string).collect())
}

pub(super) fn close(input: &mut Unstructured<'_>) -> Result<StreamClose> {
    let codes = [1000, 1001, 1005, 1011, 3000, 4999];
    let code = match input.arbitrary()? {
        true => *input.choose(&codes)?,
        false => input.arbitrary()?,
    };
    Ok(StreamClose::new(code, &text(input, 150)?))
}

pub(super) fn is_length(name: &str) -> bool {
    name.eq_ignore_ascii_case("content-length")
}

/// The same names, each with the same values in the same order; on the wire equal names are one
/// (P-037), written as the first of them.
pub(super) fn assert_same(got: &Headers, expected: &Headers) {
    let grouped = |headers: &Headers| {
        let mut groups: std::collections::BTreeMap<String, (String, Vec<String>)> =
            std::collections::BTreeMap::new();
        for (name, value) in headers {
            let group = groups.entry(name.to_ascii_lowercase());
            let (_, values) = group.or_insert_with(|| (name.clone(), Vec::new()));
            values.push(value.clone());
        }
        groups
    };
    assert_eq!(grouped(got), grouped(expected));
}
