//! Header blocks: pairs of text, compressed with what both sides remember of all earlier blocks.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use thiserror::Error;

use super::dictionary::DICTIONARY;

/// The largest block, uncompressed. Those of Kubernetes have three short pairs.
const LIMIT: usize = 16 * 1024;

/// Names, in lower case, and values, in the order in which they were sent.
pub type Headers = Vec<(String, String)>;

/// Why a header block cannot be read, or not be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeadersError {
    /// Not what a compressor with the dictionary of SPDY/3 makes.
    #[error("a header block is not compressed as SPDY/3 has it: {0}")]
    Compression(String),
    /// More than anyone has to say.
    #[error("a header block is longer than {LIMIT} bytes")]
    TooLong,
    /// It ends in the middle of a pair, or goes on behind the last.
    #[error("the lengths in a header block do not fit it")]
    Lengths,
    /// A name or a value is not UTF-8.
    #[error("a header block has text that is no UTF-8")]
    Text,
}

/// Compresses the blocks of one direction of a connection.
#[derive(Debug)]
pub(super) struct Compressor(Compress);

impl Compressor {
    /// At the start of a connection.
    pub(super) fn new() -> Result<Self, HeadersError> {
        let mut zlib = Compress::new(Compression::best(), true);
        let set = zlib.set_dictionary(&DICTIONARY);
        set.map_err(|error| HeadersError::Compression(error.to_string()))?;
        Ok(Self(zlib))
    }

    /// Appends a block.
    pub(super) fn compress(
        &mut self,
        headers: &[(String, String)],
        out: &mut Vec<u8>,
    ) -> Result<(), HeadersError> {
        let block = plain(headers)?;
        let start = self.0.total_in();
        let mut buffer = [0; 1024];
        loop {
            let taken = usize::try_from(self.0.total_in() - start).unwrap_or(usize::MAX);
            let rest = block.get(taken..).unwrap_or_default();
            let before = self.0.total_out();
            let done = self.0.compress(rest, &mut buffer, FlushCompress::Sync);
            done.map_err(|error| HeadersError::Compression(error.to_string()))?;
            let made = usize::try_from(self.0.total_out() - before).unwrap_or(usize::MAX);
            out.extend(buffer.iter().take(made));
            // A buffer with room left says that all is flushed.
            if made < buffer.len() {
                return Ok(());
            }
        }
    }
}

/// Takes the blocks of one direction of a connection apart.
#[derive(Debug)]
pub(super) struct Decompressor(Decompress);

impl Decompressor {
    /// At the start of a connection.
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// The pairs of a block.
    pub(super) fn decompress(&mut self, block: &[u8]) -> Result<Headers, HeadersError> {
        let mut text = Vec::new();
        let mut buffer = [0; 1024];
        let start = self.0.total_in();
        loop {
            let taken = usize::try_from(self.0.total_in() - start).unwrap_or(usize::MAX);
            let rest = block.get(taken..).unwrap_or_default();
            let before = self.0.total_out();
            match self.0.decompress(rest, &mut buffer, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => {
                    return Err(HeadersError::Compression("it ends".to_owned()));
                }
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.0.set_dictionary(&DICTIONARY);
                    set.map_err(|error| HeadersError::Compression(error.to_string()))?;
                    continue;
                }
                Err(error) => return Err(HeadersError::Compression(error.to_string())),
            }
            let made = usize::try_from(self.0.total_out() - before).unwrap_or(usize::MAX);
            text.extend(buffer.iter().take(made));
            if text.len() > LIMIT {
                return Err(HeadersError::TooLong);
            }
            // A buffer with room left says that nothing more can be made of it.
            if made < buffer.len() {
                return pairs(&text);
            }
        }
    }
}

fn plain(headers: &[(String, String)]) -> Result<Vec<u8>, HeadersError> {
    let number = |length: usize| u32::try_from(length).map_err(|_| HeadersError::TooLong);
    let mut block = number(headers.len())?.to_be_bytes().to_vec();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        block.extend(number(text.len())?.to_be_bytes());
        block.extend(text.as_bytes());
    }
    match block.len() {
        ..=LIMIT => Ok(block),
        _ => Err(HeadersError::TooLong),
    }
}

fn pairs(mut block: &[u8]) -> Result<Headers, HeadersError> {
    let count = number(&mut block)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        headers.push((text(&mut block)?, text(&mut block)?));
    }
    match block {
        [] => Ok(headers),
        _ => Err(HeadersError::Lengths),
    }
}

fn number(block: &mut &[u8]) -> Result<u32, HeadersError> {
    let (number, rest) = block.split_first_chunk().ok_or(HeadersError::Lengths)?;
    *block = rest;
    Ok(u32::from_be_bytes(*number))
}

fn text(block: &mut &[u8]) -> Result<String, HeadersError> {
    let length = usize::try_from(number(block)?).map_err(|_| HeadersError::Lengths)?;
    let (text, rest) = block
        .split_at_checked(length)
        .ok_or(HeadersError::Lengths)?;
    *block = rest;
    String::from_utf8(text.to_vec()).map_err(|_| HeadersError::Text)
}
