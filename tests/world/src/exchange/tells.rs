//! How Kubernetes' subprotocols tell a client how its command ended: stated here once more, so that
//! a mistake in the core's own statement shows.

use controlplane_core::Kind;

use crate::message::unbase64;

/// What a client learns of the result of its command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tells {
    /// Failures, as text on the error channel: without a word it succeeded.
    Failures {
        /// Messages are text: the channel as a digit, then base64.
        base64: bool,
    },
    /// Nothing but the close.
    Nothing,
    /// Both: without a word nothing is known.
    Results {
        /// As above.
        base64: bool,
    },
}

impl Tells {
    /// On a stream to `path` with this subprotocol, empty for none.
    #[must_use]
    pub fn of(path: &str, protocol: &str) -> Self {
        if !path.ends_with("/exec") && !path.ends_with("/attach") {
            return Self::Nothing;
        }
        match protocol {
            "v5.channel.k8s.io" | "v4.channel.k8s.io" => Self::Results { base64: false },
            "v4.base64.channel.k8s.io" => Self::Results { base64: true },
            "v3.channel.k8s.io" | "v2.channel.k8s.io" | "channel.k8s.io" | "" => {
                Self::Failures { base64: false }
            }
            "base64.channel.k8s.io" => Self::Failures { base64: true },
            _ => Self::Nothing,
        }
    }

    /// Whether a success needs a word.
    #[must_use]
    pub const fn results(self) -> bool {
        matches!(self, Self::Results { .. })
    }

    /// Whether messages are texts.
    #[must_use]
    pub const fn is_base64(self) -> bool {
        matches!(
            self,
            Self::Results { base64: true } | Self::Failures { base64: true }
        )
    }

    /// First byte of what belongs to this channel.
    #[must_use]
    pub const fn channel(self, number: u8) -> Option<u8> {
        match self {
            Self::Nothing => None,
            _ if self.is_base64() => Some(b'0' + number),
            _ => Some(number),
        }
    }

    /// Whether a message tells how the command ended.
    #[must_use]
    pub fn is_result(self, data: &[u8]) -> bool {
        let channel = self.channel(3);
        data.len() > 1 && channel.is_some() && data.first().copied() == channel
    }

    /// Whether a message looks like one that the controller makes up for this failure.
    #[must_use]
    pub fn is_made_up(self, kind: Kind, data: &[u8], text: &str) -> bool {
        if !self.is_result(data) || (kind == Kind::Text) != self.is_base64() {
            return false;
        }
        let told = &data[1..];
        let told = match self.is_base64() {
            false => Some(told.to_vec()),
            true => std::str::from_utf8(told).ok().and_then(unbase64),
        };
        let Some(told) = told else {
            return false;
        };
        if !self.results() {
            return told == text.as_bytes();
        }
        let expected = serde_json::json!({
            "metadata": {},
            "status": "Failure",
            "message": text,
            "reason": "InternalError",
            "code": 500,
        });
        serde_json::from_slice::<serde_json::Value>(&told).is_ok_and(|told| told == expected)
    }
}
