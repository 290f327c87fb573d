//! The bytes of the protocol: JSON envelopes in and out, and what stands inside their strings.
//! Frames are borrowed on the way in; payload never passes through the JSON serializer.

pub(crate) mod base64;
pub(crate) mod binary;
pub(crate) mod decode;
pub(crate) mod duration;
pub(crate) mod encode;
pub(crate) mod frame;
pub(crate) mod gzip;
pub(crate) mod rfc3339;
#[cfg(test)]
mod tests;
