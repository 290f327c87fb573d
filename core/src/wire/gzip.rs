//! Reads what an original agent compressed: one gzip member (RFC 1952), bounded after inflation.

use alloc::vec::Vec;

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};

use crate::error::PeerFault;

/// With what a gzip member begins.
pub(crate) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What `data` was before it was compressed.
///
/// # Errors
///
/// [`PeerFault::Gzip`]: no gzip member, or damaged. [`PeerFault::Overrun`]: longer than `limit`.
pub(crate) fn inflate(data: &[u8], limit: usize) -> Result<Vec<u8>, PeerFault> {
    let member = skip_head(data).and_then(|rest| rest.split_last_chunk());
    let (deflated, trailer): (_, &[u8; 8]) = member.ok_or(PeerFault::Gzip)?;
    let inflated =
        decompress_to_vec_with_limit(deflated, limit).map_err(|error| match error.status {
            TINFLStatus::HasMoreOutput => PeerFault::Overrun,
            _ => PeerFault::Gzip,
        })?;
    let [c0, c1, c2, c3, l0, l1, l2, l3] = *trailer;
    let sum = u32::from_le_bytes([c0, c1, c2, c3]);
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    // The length is told modulo 2^32.
    if sum != crc32fast::hash(&inflated) || len != inflated.len() as u32 {
        return Err(PeerFault::Gzip);
    }
    Ok(inflated)
}

/// What follows the head of a member: fixed fields, and those that its flags announce.
fn skip_head(data: &[u8]) -> Option<&[u8]> {
    const HEADER_CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let (head, mut rest) = data.split_first_chunk::<10>()?;
    let [m0, m1, method, flags, ..] = *head;
    if [m0, m1] != MAGIC || method != 8 || flags & 0xe0 != 0 {
        return None;
    }
    if flags & EXTRA != 0 {
        let (len, more) = rest.split_first_chunk()?;
        rest = more.get(usize::from(u16::from_le_bytes(*len))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

/// A gzip member of `data`, for tests.
#[cfg(test)]
pub(crate) fn deflate(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    out.extend(miniz_oxide::deflate::compress_to_vec(data, 6));
    out.extend(crc32fast::hash(data).to_le_bytes());
    out.extend((data.len() as u32).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    /// `printf 'hello hello hello\n' | gzip -9 --name`, of a file called `a`.
    const BY_GZIP: &[u8] = &[
        0x1f, 0x8b, 0x08, 0x08, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0x61, 0x00, 0xcb, 0x48, 0xcd,
        0xc9, 0xc9, 0x57, 0xc8, 0x40, 0x90, 0x5c, 0x00, 0x3b, 0x7c, 0x8a, 0xdf, 0x12, 0x00, 0x00,
        0x00,
    ];

    #[test]
    fn p038_what_gzip_wrote_is_read() {
        assert_eq!(
            inflate(BY_GZIP, 100).unwrap(),
            b"hello hello hello\n".as_slice()
        );
    }

    #[test]
    fn p148_a_bomb_ends_at_the_limit() {
        let bomb = deflate(&vec![0; 1 << 20]);
        assert!(bomb.len() < 2000);
        assert_eq!(inflate(&bomb, 1 << 20).unwrap().len(), 1 << 20);
        assert_eq!(inflate(&bomb, (1 << 20) - 1), Err(PeerFault::Overrun));
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_noticed() {
        for end in 0..BY_GZIP.len() {
            let cut = BY_GZIP.get(..end).unwrap();
            assert_eq!(inflate(cut, 100), Err(PeerFault::Gzip), "{end} bytes");
        }
        // Time, system, extra flags and the name say nothing about the content.
        let told = (0..BY_GZIP.len()).filter(|i| !(4..=10).contains(i));
        for i in told {
            let mut data = BY_GZIP.to_vec();
            data[i] ^= 0x55;
            assert!(inflate(&data, 100).is_err(), "byte {i}");
        }
    }

    #[test]
    fn optional_fields_are_skipped() {
        let plain = deflate(b"x");
        let rest = plain.get(10..).unwrap();
        let mut all = Vec::from([0x1f, 0x8b, 8, 2 | 4 | 8 | 16, 0, 0, 0, 0, 0, 255]);
        all.extend([3, 0, 1, 2, 3]);
        all.extend(b"name\0comment\0\xaa\xbb");
        all.extend(rest);
        assert_eq!(inflate(&all, 10).unwrap(), b"x");
        all[3] |= 0x20;
        assert_eq!(inflate(&all, 10), Err(PeerFault::Gzip));
    }
}
