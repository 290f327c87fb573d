//! The binary frames of the protocol: a request's body (P-061) and a whole answer (P-039).
//!
//! Both begin with the length of an id, in two bytes, and no id is longer than 256 bytes; JSON
//! begins with white space or a brace. So the first byte tells them apart, by the rules of both
//! and not by what a body happens to hold.

use alloc::{string::String, vec::Vec};

use bytes::Bytes;

use super::{decode, encode};
use crate::{error::PeerFault, input::ResponseHead};

/// Whether a binary message is one of these frames, and no JSON.
pub(crate) fn is_binary(frame: &[u8]) -> bool {
    frame.first().is_some_and(|byte| *byte < b'\t')
}

/// Id and rest of a frame.
///
/// # Errors
///
/// [`PeerFault::Malformed`]: too short, or an id that is empty or no text.
pub(crate) fn read(frame: &[u8]) -> Result<(&str, &[u8]), PeerFault> {
    let fault = PeerFault::Malformed;
    let (len, rest) = frame.split_first_chunk().ok_or(fault)?;
    let len = usize::from(u16::from_be_bytes(*len));
    let (id, rest) = rest.split_at_checked(len).ok_or(fault)?;
    let id = core::str::from_utf8(id).map_err(|_| fault)?;
    if id.is_empty() {
        return Err(fault);
    }
    Ok((id, rest))
}

/// Status, headers and body of an answer, from what follows its id.
///
/// # Errors
///
/// [`PeerFault::Malformed`]: too short, headers that are no JSON object, or a status that is none.
pub(crate) fn read_answer(rest: &[u8]) -> Result<(ResponseHead, &[u8]), PeerFault> {
    let fault = PeerFault::Malformed;
    let (status, rest) = rest.split_first_chunk().ok_or(fault)?;
    let (len, rest) = rest.split_first_chunk().ok_or(fault)?;
    let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| fault)?;
    let (headers, body) = rest.split_at_checked(len).ok_or(fault)?;
    let status = u16::try_from(u32::from_be_bytes(*status)).map_err(|_| fault)?;
    let headers = decode::headers(headers).ok_or(fault)?;
    Ok((ResponseHead { status, headers }, body))
}

/// Writes an answer, or nothing where a part of it is longer than the frame can tell.
pub(crate) fn answer(id: &str, head: &ResponseHead, body: &[Bytes]) -> Option<Bytes> {
    let headers: String = encode::headers_alone(&head.headers);
    let len: usize = body.iter().map(Bytes::len).sum();
    let mut frame = Vec::with_capacity(10 + id.len() + headers.len() + len);
    frame.extend_from_slice(&u16::try_from(id.len()).ok()?.to_be_bytes());
    frame.extend_from_slice(id.as_bytes());
    frame.extend_from_slice(&u32::from(head.status).to_be_bytes());
    frame.extend_from_slice(&u32::try_from(headers.len()).ok()?.to_be_bytes());
    frame.extend_from_slice(headers.as_bytes());
    body.iter().for_each(|piece| frame.extend_from_slice(piece));
    Some(frame.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &[u8] = b"\x00\x01r\x00\x00\x00\xc8\x00\x00\x00\x0b{\"A\":[\"b\"]}BODY";

    #[test]
    fn p039_the_example_is_read_and_written() {
        assert!(is_binary(EXAMPLE));
        let (id, rest) = read(EXAMPLE).unwrap();
        let (head, body) = read_answer(rest).unwrap();
        assert_eq!((id, head.status, body), ("r", 200, &b"BODY"[..]));
        assert_eq!(head.headers, [("A".into(), "b".into())]);
        let written = answer(id, &head, &[Bytes::from_static(b"BO"), "DY".into()]);
        assert_eq!(written.unwrap(), EXAMPLE);
    }

    #[test]
    fn p039_no_headers_are_the_four_bytes_null() {
        let head = ResponseHead {
            status: 204,
            headers: Vec::new(),
        };
        let frame = answer("r", &head, &[]).unwrap();
        assert_eq!(frame, &b"\0\x01r\0\0\0\xcc\0\0\0\x04null"[..]);
        let (_, rest) = read(&frame).unwrap();
        assert_eq!(read_answer(rest), Ok((head, &b""[..])));
    }

    #[test]
    fn p039_every_cut_is_told_from_a_whole_frame() {
        for end in 0..EXAMPLE.len() - 4 {
            let frame = EXAMPLE.get(..end).unwrap();
            let answer = read(frame).and_then(|(_, rest)| read_answer(rest));
            assert_eq!(answer, Err(PeerFault::Malformed), "{end} bytes");
        }
    }

    #[test]
    fn what_is_no_answer() {
        let bad: [&[u8]; 5] = [
            b"\0\0rest",
            b"\0\x01\xff\0\0\0\xc8\0\0\0\x04null",
            b"\0\x01r\0\0\0\xc8\0\0\0\x02[]",
            b"\0\x01r\0\0\0\xc8\0\0\0\x03{\"A",
            b"\0\x01r\0\x01\0\0\0\0\0\x04null",
        ];
        for frame in bad {
            let answer = read(frame).and_then(|(_, rest)| read_answer(rest));
            assert_eq!(answer, Err(PeerFault::Malformed), "{frame:?}");
        }
    }

    #[test]
    fn p012_json_is_told_from_a_frame_by_its_first_byte() {
        for json in ["{}", " {}", "\n{}", "\t{}", "\r{}"] {
            assert!(!is_binary(json.as_bytes()));
        }
        assert!(!is_binary(b""));
    }
}
