//! The plainest reading of a message: `serde_json::Value`, P-025 to P-028, and nothing of the core's.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use crate::message::base64;

/// Longer ids name nothing.
const MAX_ID: usize = 256;

/// A message as far as it could be read.
pub(super) struct Reading {
    pub(super) kind: String,
    /// `None` where absent, `null`, empty or too long.
    pub(super) id: Option<String>,
    /// `None` where absent or `null`.
    pub(super) payload: Option<Payload>,
    /// The envelope breaks a rule: the message costs itself.
    pub(super) fault: bool,
    /// Its id is longer than an agent takes; to a controller it is one that names nothing.
    pub(super) too_long: bool,
}

/// Fields in their order, for those whose order counts, and as they are written.
#[derive(Default)]
pub(super) struct Payload(Vec<(String, Value, String)>);

/// What the bytes amount to.
pub(super) enum Read {
    /// Not a JSON object.
    Nothing,
    /// JSON that `Value` cannot hold: numbers beyond 64-bit floats, more than 128 levels, strings that
    /// are no UTF-8, escapes that are no characters; and what only begins as an object. The machine may
    /// read around what it does not look at, and answers to the names that it finds.
    Beyond,
    Message(Reading),
}

pub(super) fn read(bytes: &[u8]) -> Read {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let first = values.next();
    let end = values.byte_offset();
    match first {
        Some(Ok(Value::Object(_))) => {}
        Some(Ok(_)) | None => return Read::Nothing,
        Some(Err(_)) => {
            return match bytes.trim_ascii_start().starts_with(b"{") {
                true => Read::Beyond,
                false => Read::Nothing,
            };
        }
    }
    let (Ok(Pairs(pairs)), rest) = (
        serde_json::from_slice::<Pairs>(&bytes[..end]),
        &bytes[end..],
    ) else {
        return Read::Beyond;
    };
    // The last of equal keys wins, whatever their case (P-025).
    let last = |name: &str| {
        let found = pairs
            .iter()
            .rfind(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or(Value::Null, |(_, raw)| value(raw))
    };
    let payload = pairs
        .iter()
        .rfind(|(key, _)| key.eq_ignore_ascii_case("payload"));
    let (id, wrong_id) = match last("request_id") {
        Value::Null => (None, false),
        Value::String(id) => (Some(id).filter(|id| !id.is_empty()), false),
        _ => (None, true),
    };
    let (payload, wrong_payload) = match (payload, last("payload")) {
        (Some((_, raw)), Value::Object(_)) => (Some(Payload::read(raw)), false),
        (_, Value::Null) => (None, false),
        _ => (None, true),
    };
    let too_long = id.as_ref().is_some_and(|id| id.len() > MAX_ID);
    let trails = !rest
        .iter()
        .all(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n'));
    Read::Message(Reading {
        kind: last("type").as_str().unwrap_or_default().into(),
        id: id.filter(|_| !too_long),
        payload,
        fault: wrong_id || wrong_payload || too_long || trails,
        too_long,
    })
}

fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

impl Payload {
    fn read(raw: &RawValue) -> Self {
        let pairs = serde_json::from_str(raw.get()).unwrap_or(Pairs(Vec::new()));
        let pairs = pairs.0.into_iter();
        Self(
            pairs
                .map(|(key, raw)| (key, value(&raw), raw.get().into()))
                .collect(),
        )
    }

    /// The last of equal keys wins.
    pub(super) fn get(&self, name: &str) -> &Value {
        let found = self.0.iter().rfind(|(key, ..)| key == name);
        found.map_or(&Value::Null, |(_, value, _)| value)
    }

    /// The same as it is written.
    pub(super) fn written(&self, name: &str) -> &str {
        let found = self.0.iter().rfind(|(key, ..)| key == name);
        found.map_or("", |(.., written)| written)
    }

    /// A text; of another type it counts as absent (P-028).
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).as_str()
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).as_bool().unwrap_or_default()
    }

    /// Fields with two names, of which any may say yes, however often it stands there.
    pub(super) fn any_flag(&self, names: [&str; 2]) -> bool {
        let mut of_name = self.0.iter().filter(|(key, ..)| names.contains(&&**key));
        of_name.any(|(_, value, _)| value.as_bool() == Some(true))
    }

    /// Of two names the last one counts.
    pub(super) fn last_of(&self, names: [&str; 2]) -> &Value {
        let found = self.0.iter().rfind(|(key, ..)| names.contains(&&**key));
        found.map_or(&Value::Null, |(_, value, _)| value)
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| !text.trim().is_empty())
    }

    /// Names with a text, or with the texts of a list (P-058).
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        for (name, values) in self.get("headers").as_object().into_iter().flatten() {
            let one = values.as_str().into_iter();
            let many = values.as_array().into_iter().flatten();
            let values = one.chain(many.filter_map(Value::as_str));
            headers.extend(values.map(|value| (name.clone(), value.to_string())));
        }
        headers
    }
}

/// Standard base64 with padding, line breaks skipped (P-027): whatever encodes to it again.
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let digit = |c: char| -> Option<u32> {
        Some(match c {
            'A'..='Z' => c as u32 - 'A' as u32,
            'a'..='z' => c as u32 - 'a' as u32 + 26,
            '0'..='9' => c as u32 - '0' as u32 + 52,
            '+' => 62,
            '/' => 63,
            _ => return None,
        })
    };
    let mut data = Vec::new();
    let (mut bits, mut held) = (0u32, 0);
    for c in text.trim_end_matches('=').chars() {
        bits = bits << 6 | digit(c)?;
        held += 6;
        if held >= 8 {
            held -= 8;
            data.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (base64(&data) == text).then_some(data)
}

/// An object's pairs in their order, values unread.
struct Pairs(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        input.deserialize_map(InOrder)
    }
}
