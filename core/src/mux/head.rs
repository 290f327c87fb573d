//! The header at the start of each stream (P-120).

use alloc::{string::String, vec::Vec};

use bytes::Bytes;

use crate::{error::PeerFault, input::Tunnel};

/// Longest string that is read; names of services are no longer (P-140).
const MAX_TEXT: usize = 256;
/// Version, protocol and port.
const FIXED: usize = 4;
/// The version that is written; none is checked.
const VERSION: u8 = 1;

/// What a stream carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Protocol {
    /// A byte stream to a service.
    Tcp = 1,
    /// Datagrams of a service without boundaries between them: a frame each, as far as that goes.
    Udp = 2,
    /// An HTTP/1.1 connection to the Kubernetes API. An extension of ours.
    Http = 16,
    /// Datagrams of a service, each behind its length in two bytes (P-205). An extension of ours.
    Datagrams = 17,
}

/// A header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) service: String,
    pub(crate) namespace: String,
    pub(crate) tunnel_id: String,
}

impl Head {
    /// That of a connection to the Kubernetes API.
    pub(crate) const fn http() -> Self {
        Self {
            protocol: Protocol::Http,
            port: 0,
            service: String::new(),
            namespace: String::new(),
            tunnel_id: String::new(),
        }
    }

    /// That of a tunnel to a service.
    ///
    /// # Errors
    ///
    /// A name is longer than any is.
    pub(crate) fn of(tunnel: Tunnel, protocol: Protocol) -> Result<Self, PeerFault> {
        let names = [
            &tunnel.service_name,
            &tunnel.service_namespace,
            &tunnel.tunnel_id,
        ];
        if names.iter().any(|name| name.len() > MAX_TEXT) {
            return Err(PeerFault::Target);
        }
        Ok(Self {
            protocol,
            port: tunnel.service_port,
            service: tunnel.service_name,
            namespace: tunnel.service_namespace,
            tunnel_id: tunnel.tunnel_id,
        })
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend([VERSION, self.protocol as u8]);
        bytes.extend(self.port.to_be_bytes());
        for text in [&self.service, &self.namespace, &self.tunnel_id] {
            // No longer than `MAX_TEXT`.
            bytes.extend((text.len() as u16).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.into()
    }
}

/// A header of which a part has arrived.
#[derive(Default)]
pub(super) struct Heading(pub(super) Vec<u8>);

/// What has become of it.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Parsed {
    /// More is to come.
    More,
    /// It is whole; so many bytes of the last piece were of it.
    Whole(Head, usize),
    /// It is none.
    Fault(PeerFault),
}

impl Heading {
    /// Reads on. No more is kept than a header can have.
    pub(super) fn push(&mut self, piece: &[u8]) -> Parsed {
        let before = self.0.len();
        let room = FIXED + 3 * (2 + MAX_TEXT) - before;
        self.0.extend(piece.iter().take(room));
        match parse(&self.0) {
            Ok(Some((head, len))) => Parsed::Whole(head, len - before),
            Ok(None) => Parsed::More,
            Err(fault) => Parsed::Fault(fault),
        }
    }
}

/// The header at the start of `bytes` and its length; `None` where it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, PeerFault> {
    let Some((fixed, mut rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(None);
    };
    let [_, protocol, high, low] = *fixed;
    let protocol = match protocol {
        1 => Protocol::Tcp,
        2 => Protocol::Udp,
        16 => Protocol::Http,
        17 => Protocol::Datagrams,
        _ => return Err(PeerFault::Unsupported("this protocol of a stream")),
    };
    let mut texts = [String::new(), String::new(), String::new()];
    for text in &mut texts {
        let Some((len, after)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes(*len));
        if len > MAX_TEXT {
            return Err(PeerFault::Target);
        }
        let Some((name, after)) = after.split_at_checked(len) else {
            return Ok(None);
        };
        let name = core::str::from_utf8(name).map_err(|_| PeerFault::Target)?;
        *text = name.into();
        rest = after;
    }
    let [service, namespace, tunnel_id] = texts;
    let head = Head {
        protocol,
        port: u16::from_be_bytes([high, low]),
        service,
        namespace,
        tunnel_id,
    };
    Ok(Some((head, bytes.len() - rest.len())))
}
