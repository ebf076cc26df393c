//! Values as Go writes them: flags and variables are read as Kaniko reads them.

use std::time::Duration;

/// Go's `strconv.ParseBool`.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `time.ParseDuration`, without a sign: `336h`, `1h30m`, `1.5s`, `0`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (digits, after) = rest.split_at(number);
        let unit = after.find(|character: char| character.is_ascii_digit() || character == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let nanoseconds: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(digits, nanoseconds)?)?;
        rest = after;
    }
    Some(total)
}

/// A decimal number of units.
fn scaled(digits: &str, nanoseconds: u64) -> Option<Duration> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(nanoseconds)?;
    let mut place = nanoseconds;
    for digit in fraction.bytes() {
        place /= 10;
        total = total.checked_add(place * u64::from(digit - b'0'))?;
    }
    Some(Duration::from_nanos(total))
}

/// `key=value`; the key is not empty.
pub(crate) fn pair(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').filter(|(key, _)| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boolean_is_what_go_takes_for_one() {
        for (text, expected) in [
            ("1", Some(true)),
            ("t", Some(true)),
            ("TRUE", Some(true)),
            ("False", Some(false)),
            ("yes", None),
            ("", None),
        ] {
            assert_eq!(boolean(text), expected, "{text}");
        }
    }

    #[test]
    fn a_duration_is_what_go_takes_for_one() {
        for (text, seconds) in [
            ("0", Some(0.0)),
            ("336h", Some(1_209_600.0)),
            ("6h", Some(21_600.0)),
            ("1h30m", Some(5_400.0)),
            ("1.5s", Some(1.5)),
            (".5s", Some(0.5)),
            ("1.s", Some(1.0)),
            ("250ms", Some(0.25)),
            ("1h0.5m3s", Some(3_633.0)),
            ("10", None),
            ("", None),
            ("h", None),
            (".s", None),
            ("1..5s", None),
            ("1d", None),
            ("1h30", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(duration(text).map(|duration| duration.as_secs_f64()), seconds, "{text}");
        }
    }

    #[test]
    fn a_pair_is_split_at_its_first_equals_sign() {
        assert_eq!(pair("a=b=c"), Some(("a", "b=c")));
        assert_eq!(pair("a="), Some(("a", "")));
        assert_eq!(pair("a"), None);
        assert_eq!(pair("=b"), None);
    }
}
