//! SPDY/3.1 as Kubernetes speaks it, for tests: the frames, and the bytes that they come in.
//!
//! As in the library that kubectl, API server and kubelet use (moby/spdystream), windows are not
//! kept: who cannot take more of one stream stops reading the connection, and with it all streams.

mod decode;
mod dictionary;
mod frame;
mod headers;
#[cfg(test)]
mod tests;

pub use self::decode::{Decoder, Error};
pub use self::frame::{CANCEL, Encoder, Frame, PROTOCOL_ERROR, REFUSED_STREAM};
pub use self::headers::{Headers, HeadersError};
