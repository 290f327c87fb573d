//! Durations in the syntax of the original: `300ms`, `1m30s`, `1.5h` (P-058).

use core::time::Duration;

/// The duration that `text` stands for; `None` where it is none, negative or too long to count.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() || text.len() > 64 {
        return None;
    }
    let mut rest = text;
    let mut nanos = 0u128;
    while !rest.is_empty() {
        let (part, left) = term(rest)?;
        nanos = nanos.checked_add(part)?;
        rest = left;
    }
    Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
}

/// One number with its unit, in nanoseconds, and what follows it.
fn term(text: &str) -> Option<(u128, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let unit: u128 = match name {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let mut nanos = whole.bytes().try_fold(0u128, |sum, digit| {
        sum.checked_mul(10)?.checked_add(u128::from(digit - b'0'))
    })?;
    nanos = nanos.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        nanos = nanos.checked_add(place.checked_mul(u128::from(digit - b'0'))?)?;
    }
    Some((nanos, rest))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p058_durations_as_the_original_writes_them() {
        for (text, millis) in [
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("300ms", 300),
            (".5s", 500),
            ("1.s", 1000),
            ("0", 0),
            ("+2s", 2000),
            ("1h0m0.25s", 3_600_250),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("1µs"), Some(Duration::from_micros(1)));
    }

    #[test]
    fn what_is_no_duration() {
        for text in [
            "",
            "s",
            "1",
            "1x",
            "-1s",
            "1 s",
            ".s",
            "1e3s",
            "99999999999h",
            "1s2",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
