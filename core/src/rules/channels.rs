//! Kubernetes' channel subprotocols, as far as the tunnel has to know them: how the result of a
//! command travels, so that a stream that breaks never passes for a success.
//!
//! A client that sees a close with code 1000 and nothing on the error channel takes the command to
//! have succeeded.

use alloc::{format, string::String, vec::Vec};

use bytes::Bytes;

use crate::{input::Kind, wire::base64::Base64};

/// The error channel: number and, in the base64 variants, digit.
const ERROR: u8 = 3;

/// Whether a subprotocol is one of Kubernetes' channels (P-106).
pub(crate) fn is_channel_protocol(protocol: &str) -> bool {
    protocol == "channel.k8s.io" || protocol.ends_with(".channel.k8s.io")
}

/// How a stream tells its result.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Channels {
    /// By its close only.
    None,
    /// The error channel says why a command failed, as text; without a word it succeeded.
    Text {
        /// Messages are text: the channel as a digit, then base64.
        base64: bool,
    },
    /// The error channel has a `Status`, also for success.
    Status {
        /// As above.
        base64: bool,
    },
}

impl Channels {
    /// Of a stream to `path` with the negotiated subprotocol, empty for none.
    pub(crate) fn of(path: &str, protocol: &str) -> Self {
        let last = path.rsplit('/').find(|segment| !segment.is_empty());
        if !matches!(last, Some("exec" | "attach")) {
            return Self::None;
        }
        let base64 = protocol
            .split('.')
            .any(|part| part.eq_ignore_ascii_case("base64"));
        match protocol {
            "" => Self::Text { base64: false },
            _ if !is_channel_protocol(protocol) => Self::None,
            _ if version(protocol) >= 4 => Self::Status { base64 },
            _ => Self::Text { base64 },
        }
    }

    /// Whether a message that goes to the client is the result of the command.
    pub(crate) fn is_result(self, data: &[u8]) -> bool {
        let channel = match self {
            Self::None => return false,
            Self::Status { base64: false } | Self::Text { base64: false } => ERROR,
            Self::Status { base64: true } | Self::Text { base64: true } => b'0' + ERROR,
        };
        // The first message of a stream may be an empty one of any channel.
        data.len() > 1 && data.first() == Some(&channel)
    }

    /// Whether a command that succeeds says so.
    pub(crate) const fn tells_success(self) -> bool {
        matches!(self, Self::Status { .. })
    }

    /// The message that tells the client that its command failed, and why.
    pub(crate) fn failure(self, text: &str, encoder: &Base64) -> Option<(Kind, Bytes)> {
        let (document, base64) = match self {
            Self::None => return None,
            Self::Text { base64 } => (String::from(text), base64),
            Self::Status { base64 } => (status(text), base64),
        };
        if !base64 {
            let mut data = Vec::with_capacity(1 + document.len());
            data.push(ERROR);
            data.extend_from_slice(document.as_bytes());
            return Some((Kind::Binary, data.into()));
        }
        let mut data = String::new();
        data.push(char::from(b'0' + ERROR));
        encoder.encode_into(document.as_bytes(), &mut data);
        Some((Kind::Text, data.into()))
    }
}

/// `N` of `vN.channel.k8s.io`; 1 where it has none.
fn version(protocol: &str) -> u32 {
    let first = protocol.split('.').next().unwrap_or_default();
    let number = first.strip_prefix('v').and_then(|n| n.parse().ok());
    number.unwrap_or(1)
}

/// A `metav1.Status` as the API server writes it on the error channel.
fn status(text: &str) -> String {
    let message = serde_json::to_string(text).unwrap_or_default();
    format!(
        r#"{{"metadata":{{}},"status":"Failure","message":{message},"reason":"InternalError","code":500}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXEC: &str = "/api/v1/namespaces/n/pods/p/exec";

    #[test]
    fn each_subprotocol_has_its_way_to_tell_a_result() {
        for (protocol, channels) in [
            ("v5.channel.k8s.io", Channels::Status { base64: false }),
            ("v4.channel.k8s.io", Channels::Status { base64: false }),
            (
                "v4.base64.channel.k8s.io",
                Channels::Status { base64: true },
            ),
            ("v3.channel.k8s.io", Channels::Text { base64: false }),
            ("channel.k8s.io", Channels::Text { base64: false }),
            ("base64.channel.k8s.io", Channels::Text { base64: true }),
            ("", Channels::Text { base64: false }),
            ("binary.k8s.io", Channels::None),
            ("SPDY/3.1+portforward.k8s.io", Channels::None),
        ] {
            assert_eq!(Channels::of(EXEC, protocol), channels, "{protocol}");
        }
        let forward = "/api/v1/namespaces/n/pods/exec/portforward";
        let v4 = "v4.channel.k8s.io";
        assert_eq!(Channels::of(forward, v4), Channels::None);
        let attach = "/api/v1/namespaces/n/pods/p/attach/";
        assert_ne!(Channels::of(attach, v4), Channels::None);
    }

    #[test]
    fn an_empty_message_is_no_result() {
        let plain = Channels::Status { base64: false };
        assert!(plain.is_result(b"\x03{}"));
        assert!(!plain.is_result(b"\x03"));
        assert!(!plain.is_result(b"\x01{}"));
        assert!(!plain.is_result(b""));
        let base64 = Channels::Text { base64: true };
        assert!(base64.is_result(b"3e30="));
        assert!(!base64.is_result(b"\x03{}"));
        assert!(!Channels::None.is_result(b"\x03{}"));
    }

    #[test]
    fn a_failure_has_the_form_of_its_subprotocol() {
        let base64 = Base64::new();
        let of = |channels: Channels| channels.failure("a \"b\"", &base64);
        let document = r#"{"metadata":{},"status":"Failure","message":"a \"b\"","reason":"InternalError","code":500}"#;
        let (kind, data) = of(Channels::Status { base64: false }).unwrap();
        assert_eq!(kind, Kind::Binary);
        assert_eq!(data, [b"\x03", document.as_bytes()].concat());
        let (kind, data) = of(Channels::Status { base64: true }).unwrap();
        assert_eq!(kind, Kind::Text);
        let text = core::str::from_utf8(&data).unwrap();
        let decoded = base64.decode(text.strip_prefix('3').unwrap()).unwrap();
        assert_eq!(decoded, document.as_bytes());
        let (kind, data) = of(Channels::Text { base64: false }).unwrap();
        assert_eq!((kind, &data[..]), (Kind::Binary, &b"\x03a \"b\""[..]));
        assert_eq!(of(Channels::None), None);
    }
}
