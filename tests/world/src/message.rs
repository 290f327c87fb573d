//! Messages as text: what those need who listen to the machines, or lie to them.

/// A message of this type about this request.
#[must_use]
pub fn message(kind: &str, id: &str, payload: &str) -> String {
    format!(r#"{{"type":"{kind}","request_id":"{id}","payload":{payload}}}"#)
}

/// The value of a text field in a message of our own machines, which write no escapes into those
/// that are asked for.
#[must_use]
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let key = format!("\"{name}\":\"");
    let rest = &text[text.find(&key)? + key.len()..];
    rest.split('"').next()
}

/// Standard base64 with padding; not the core's, so that each shows the other's mistakes.
#[must_use]
pub fn base64(data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in data.chunks(3) {
        let mut bytes = [0; 4];
        bytes[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bytes);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize % 64];
            text.push(if i > group.len() {
                '='
            } else {
                char::from(digit)
            });
        }
    }
    text
}

/// The bytes that [`base64`] encodes so.
#[must_use]
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let digits: Vec<u8> = group.iter().copied().filter(|b| *b != b'=').collect();
        let mut bits: u32 = 0;
        for i in 0..4 {
            let value = match digits.get(i) {
                None => 0,
                Some(b @ b'A'..=b'Z') => b - b'A',
                Some(b @ b'a'..=b'z') => b - b'a' + 26,
                Some(b @ b'0'..=b'9') => b - b'0' + 52,
                Some(b'+') => 62,
                Some(b'/') => 63,
                Some(_) => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let [_, bytes @ ..] = bits.to_be_bytes();
        data.extend_from_slice(bytes.get(..digits.len().saturating_sub(1))?);
    }
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_its_rfc() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let encoded = [
            "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy",
        ];
        assert_eq!(texts.map(|text| base64(text.as_bytes())), encoded);
        let decoded = encoded.map(|text| unbase64(text).unwrap_or_default());
        assert_eq!(decoded, texts.map(|text| text.as_bytes().to_vec()));
    }
}
