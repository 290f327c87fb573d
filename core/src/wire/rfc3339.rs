//! Timestamps of RFC 3339: written in UTC with nanoseconds (P-024), read with any zone (P-058).

use alloc::{format, string::String};
use core::time::Duration;

/// `since_epoch` as `2026-11-23T05:34:05.943172792Z`, trailing zeros of the fraction left out.
pub(crate) fn format(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let time = seconds % 86_400;
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    let nanos = since_epoch.subsec_nanos();
    if nanos > 0 {
        let fraction = format!(".{nanos:09}");
        text.push_str(fraction.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Year, month and day of a day counted from 1970-01-01, by the proleptic Gregorian calendar
/// (Howard Hinnant, "chrono-compatible low-level date algorithms").
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + (month <= 2) as u64;
    (year, month, day)
}

/// The span since the UNIX epoch that `text` names; `None` where it is no RFC 3339 timestamp or
/// lies before the epoch.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        let digits = part.bytes().all(|b| b.is_ascii_digit());
        if digits { part.parse().ok() } else { None }
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| bytes.get(*at) != Some(mark)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let valid = (1..=12).contains(&month)
        && (1..=month_len(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid {
        return None;
    }
    let (nanos, zone) = fraction(text.get(19..)?)?;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = u64::try_from(seconds - offset(zone)?).ok()?;
    Some(Duration::new(seconds, nanos))
}

const fn month_len(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Nanoseconds of an optional fraction of any length, and what follows it.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(rest) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, zone) = rest.split_at(end);
    if digits.is_empty() {
        return None;
    }
    let padded = digits.bytes().chain(core::iter::repeat(b'0')).take(9);
    let nanos = padded.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some((nanos, zone))
}

/// Seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    let bytes = zone.as_bytes();
    if zone == "Z" {
        return Some(0);
    }
    let [sign, h1, h2, b':', m1, m2] = bytes else {
        return None;
    };
    let digit = |b: &u8| b.is_ascii_digit().then(|| i64::from(b - b'0'));
    let hours = digit(h1)? * 10 + digit(h2)?;
    let minutes = digit(m1)? * 10 + digit(m2)?;
    let seconds = hours * 3600 + minutes * 60;
    match sign {
        _ if hours > 23 || minutes > 59 => None,
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p024_timestamps_as_the_original_writes_them() {
        let written = |secs, nanos| format(Duration::new(secs, nanos));
        assert_eq!(written(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(
            written(1_795_412_045, 943_172_792),
            "2026-11-23T05:34:05.943172792Z"
        );
        assert_eq!(
            written(1_709_210_096, 500_000_000),
            "2024-02-29T12:34:56.5Z"
        );
        assert_eq!(written(4_102_444_800, 0), "2100-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_written_is_read() {
        for days in (0..60_000).step_by(13) {
            let at = Duration::new(days * 86_400 + days, days as u32);
            assert_eq!(parse(&format(at)), Some(at));
        }
    }

    #[test]
    fn zones_and_fractions() {
        let at = |s| parse(s).map(|d| d.as_nanos());
        assert_eq!(at("1970-01-01T02:00:00+02:00"), Some(0));
        assert_eq!(at("1969-12-31T23:59:59.25-00:01"), Some(59_250_000_000));
        assert_eq!(at("1970-01-01T00:00:00.1234567891234Z"), Some(123_456_789));
    }

    #[test]
    fn what_is_no_timestamp() {
        for text in [
            "",
            "2026",
            "2026-11-23",
            "2026-11-23T05:34:05",
            "2026-11-23t05:34:05Z",
            "2026-11-23T05:34:05z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T05:34:05.Z",
            "2026-11-23T05:34:05+2:00",
            "1969-12-31T23:59:59Z",
            "+026-11-23T05:34:05Z",
            "2026-11-23T05:34:05+24:00",
            "2026-11-23T05:34:05 02:00",
            "ä026-11-23T05:34:05Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
