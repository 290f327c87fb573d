//! The channels within the messages of a stream, in the forms that the subprotocols give them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::frame::{BINARY, TEXT};

/// The numbers of the channels.
pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;

/// How many channels there are.
const COUNT: u8 = 5;

/// The channel in whose place v5 says which channel ends.
const HALF_CLOSE: u8 = 255;

/// A subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subprotocol {
    V5,
    V4,
    V4Base64,
    V1,
    V1Base64,
    /// The client named none.
    Unnamed,
}

/// What a message of a client means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Data(u8, Vec<u8>),
    /// That channel ends.
    HalfClose(u8),
    /// Nothing that anyone acts on.
    Nothing,
    /// The connection ends over it.
    Violation,
}

impl Subprotocol {
    const ALL: [Self; 5] = [Self::V5, Self::V4, Self::V4Base64, Self::V1, Self::V1Base64];

    /// The name in the handshake.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V5 => "v5.channel.k8s.io",
            Self::V4 => "v4.channel.k8s.io",
            Self::V4Base64 => "v4.base64.channel.k8s.io",
            Self::V1 => "channel.k8s.io",
            Self::V1Base64 => "base64.channel.k8s.io",
            Self::Unnamed => "",
        }
    }

    /// The one that the real server takes: v5 wherever it stands, else the client's first that it
    /// knows.
    pub(super) fn choose<'a>(offered: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut offered = offered.peekable();
        if offered.peek().is_none() {
            return Some(Self::Unnamed);
        }
        let known = |name: &str| Self::ALL.into_iter().find(|known| known.name() == name);
        let known: Vec<_> = offered.filter_map(known).collect();
        match known.contains(&Self::V5) {
            true => Some(Self::V5),
            false => known.first().copied(),
        }
    }

    const fn base64(self) -> bool {
        matches!(self, Self::V4Base64 | Self::V1Base64)
    }

    /// Opcode and payload of a message.
    pub(super) fn message(self, channel: u8, data: &[u8]) -> (u8, Vec<u8>) {
        if self.base64() {
            let mut text = char::from(b'0' + channel).to_string();
            STANDARD.encode_string(data, &mut text);
            return (TEXT, text.into_bytes());
        }
        (BINARY, [&[channel], data].concat())
    }

    /// Takes a message apart.
    pub(super) fn meaning(self, mut message: Vec<u8>) -> Meaning {
        let Some(&first) = message.first() else {
            return Meaning::Nothing;
        };
        if self == Self::V5 && first == HALF_CLOSE {
            return match message.as_slice() {
                [_, channel @ ..COUNT] => Meaning::HalfClose(*channel),
                _ => Meaning::Violation,
            };
        }
        let data = message.split_off(1);
        if !self.base64() {
            return Meaning::Data(first, data);
        }
        let channel = first.wrapping_sub(b'0');
        let data = STANDARD.decode(data);
        data.map_or(Meaning::Nothing, |data| Meaning::Data(channel, data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_as_the_real_server() {
        let choose = |offer: &str| {
            let offered = offer.split(", ").filter(|name| !name.is_empty());
            Subprotocol::choose(offered).map(Subprotocol::name)
        };
        let cases = [
            ("", Some("")),
            ("v5.channel.k8s.io", Some("v5.channel.k8s.io")),
            (
                "v4.channel.k8s.io, v5.channel.k8s.io",
                Some("v5.channel.k8s.io"),
            ),
            ("foo.example, v5.channel.k8s.io", Some("v5.channel.k8s.io")),
            (
                "base64.channel.k8s.io, v4.channel.k8s.io",
                Some("base64.channel.k8s.io"),
            ),
            ("channel.k8s.io", Some("channel.k8s.io")),
            ("v4.base64.channel.k8s.io", Some("v4.base64.channel.k8s.io")),
            ("v3.channel.k8s.io", None),
            ("v9.channel.k8s.io", None),
        ];
        for (offer, chosen) in cases {
            assert_eq!(choose(offer), chosen, "{offer}");
        }
    }

    #[test]
    fn takes_messages_apart() {
        let data = |channel, text: &str| Meaning::Data(channel, text.into());
        let cases: [(Subprotocol, &[u8], Meaning); 13] = [
            (Subprotocol::V5, b"\0abc", data(STDIN, "abc")),
            (Subprotocol::V5, b"\0", data(STDIN, "")),
            (Subprotocol::V5, b"\x09abc", data(9, "abc")),
            (Subprotocol::V5, b"", Meaning::Nothing),
            (Subprotocol::V5, b"\xff\0", Meaning::HalfClose(STDIN)),
            (Subprotocol::V5, b"\xff\x04", Meaning::HalfClose(RESIZE)),
            (Subprotocol::V5, b"\xff\x05", Meaning::Violation),
            (Subprotocol::V5, b"\xff", Meaning::Violation),
            (Subprotocol::V5, b"\xff\0\0", Meaning::Violation),
            (Subprotocol::V4, b"\xff\0", data(255, "\0")),
            (Subprotocol::V4Base64, b"0YWJj", data(STDIN, "abc")),
            (Subprotocol::V1Base64, b"4e30=", data(RESIZE, "{}")),
            (Subprotocol::V1Base64, b"0???", Meaning::Nothing),
        ];
        for (subprotocol, message, meaning) in cases {
            assert_eq!(
                subprotocol.meaning(message.to_vec()),
                meaning,
                "{subprotocol:?} {message:?}"
            );
        }
    }

    #[test]
    fn puts_messages_together() {
        let binary = Subprotocol::V4.message(STDOUT, b"out\n");
        assert_eq!(binary, (BINARY, b"\x01out\n".to_vec()));
        let text = Subprotocol::V4Base64.message(STDOUT, b"out\n");
        assert_eq!(text, (TEXT, b"1b3V0Cg==".to_vec()));
        assert_eq!(Subprotocol::V1Base64.message(ERROR, b"").1, b"3");
    }
}
