//! Reads what an original agent compressed: one gzip member (RFC 1952), bounded after inflation.

use alloc::{boxed::Box, vec, vec::Vec};

use miniz_oxide::inflate::{
    TINFLStatus,
    core::{
        DecompressorOxide, decompress, inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
    },
};

use crate::error::PeerFault;

/// With what a gzip member begins.
pub(crate) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What `data` was before it was compressed.
///
/// # Errors
///
/// [`PeerFault::Gzip`]: not one gzip member, damaged, or followed by anything.
/// [`PeerFault::Overrun`]: longer than `limit`.
pub(crate) fn inflate(data: &[u8], limit: usize) -> Result<Vec<u8>, PeerFault> {
    let member = skip_head(data).and_then(|rest| rest.split_last_chunk());
    let (deflated, trailer): (_, &[u8; 8]) = member.ok_or(PeerFault::Gzip)?;
    let inflated = inflate_all(deflated, limit)?;
    let [c0, c1, c2, c3, l0, l1, l2, l3] = *trailer;
    let sum = u32::from_le_bytes([c0, c1, c2, c3]);
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    // The length is told modulo 2^32.
    if sum != crc32fast::hash(&inflated) || len != inflated.len() as u32 {
        return Err(PeerFault::Gzip);
    }
    Ok(inflated)
}

/// What the whole of `deflated` stands for. The crate's own function stops at the first end and
/// does not tell where that was, and leaves its buffer as long as it had to become.
fn inflate_all(mut deflated: &[u8], limit: usize) -> Result<Vec<u8>, PeerFault> {
    let mut inflater = Box::<DecompressorOxide>::default();
    let mut out = vec![0; deflated.len().saturating_mul(2).min(limit)];
    let mut len = 0;
    loop {
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, read, written) = decompress(&mut inflater, deflated, &mut out, len, flags);
        deflated = deflated.get(read..).unwrap_or_default();
        len += written;
        match status {
            TINFLStatus::Done if deflated.is_empty() => break,
            TINFLStatus::HasMoreOutput if out.len() >= limit => return Err(PeerFault::Overrun),
            TINFLStatus::HasMoreOutput => {
                out.resize(out.len().saturating_mul(2).max(1).min(limit), 0);
            }
            _ => return Err(PeerFault::Gzip),
        }
    }
    out.truncate(len);
    // What is held is what is charged.
    out.shrink_to_fit();
    Ok(out)
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
    fn what_follows_the_member_is_never_left_out() {
        // As a second member of equal content ends, whose sum and length are right as well.
        let twice = [BY_GZIP, BY_GZIP].concat();
        assert_eq!(inflate(&twice, 100), Err(PeerFault::Gzip));
        let (deflated, trailer) = BY_GZIP.split_last_chunk::<8>().unwrap();
        let padded = [deflated, b"more", trailer].concat();
        assert_eq!(inflate(&padded, 100), Err(PeerFault::Gzip));
    }

    #[test]
    fn p148_no_more_is_held_than_there_is() {
        // Empty blocks, stored, and a last one: much to read and nothing in it.
        let mut data = Vec::from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        for _ in 0..10_000 {
            data.extend([0, 0, 0, 0xff, 0xff]);
        }
        data.extend(deflate(b"x").get(10..).unwrap());
        let inflated = inflate(&data, 1 << 20).unwrap();
        assert_eq!((&*inflated, inflated.capacity()), (&b"x"[..], 1));
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
