//! Bytes as the vectors write them.

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

/// Bytes: a string is its UTF-8, an object names another way to write them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Data(pub Vec<u8>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Written {
    Hex(String),
    Repeat(String, usize),
}

impl Data {
    /// Reads the notation.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn read(value: &Value) -> Result<Self, String> {
        if let Value::String(text) = value {
            return Ok(Self(text.as_bytes().to_vec()));
        }
        match Written::deserialize(value).map_err(|e| e.to_string())? {
            Written::Hex(text) => hex(&text).map(Self),
            Written::Repeat(text, times) => Ok(Self(text.repeat(times).into_bytes())),
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Self::read(&Value::deserialize(input)?).map_err(D::Error::custom)
    }
}

/// Bytes of hexadecimal digits; blanks between them mean nothing.
///
/// # Errors
///
/// Something else, or an odd number of digits.
pub fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u32>> = text
        .chars()
        .filter(|c| *c != ' ')
        .map(|c| c.to_digit(16))
        .collect();
    let digits = digits.ok_or_else(|| format!("not hexadecimal: {text}"))?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(format!("an odd number of digits: {text}"));
    }
    let byte = |[high, low]: &[u32; 2]| (high << 4 | low) as u8;
    Ok(pairs.iter().map(byte).collect())
}

/// Bytes of base64, with padding and without anything else (P-027).
#[must_use]
pub fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let (mut out, mut held, mut bits) = (Vec::new(), 0, 0);
    for digit in digits.chars() {
        held = held << 6 | u32::try_from(ALPHABET.find(digit)?).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(out)
}

/// The same the other way.
#[must_use]
pub fn to_hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_have_three_notations() {
        let read = |value: Value| Data::read(&value).map(|data| data.0);
        assert_eq!(read(json!("gr\u{fc}n")), Ok("gr\u{fc}n".into()));
        assert_eq!(read(json!({"hex": "00 fF"})), Ok(vec![0, 255]));
        assert_eq!(read(json!({"repeat": ["ab", 2]})), Ok(b"abab".to_vec()));
        for bad in [
            json!(1),
            json!({"hex": "0"}),
            json!({"hex": "0g"}),
            json!({"oct": "1"}),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn base64_as_the_protocol_has_it() {
        for (text, data) in [("", ""), ("aA==", "h"), ("aGk=", "hi"), ("aGV5", "hey")] {
            assert_eq!(base64(text).as_deref(), Some(data.as_bytes()));
        }
        for text in ["a", "aGk", "-_==", "a===", "aG k"] {
            assert_eq!(base64(text), None, "{text}");
        }
    }
}
