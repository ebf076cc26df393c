//! Values as Go prints them. The history that `BuildKit` writes is worded by Go's `%v`, `%q` and `%+v`, and scanners read
//! it; durations are written in Go's form too.

use std::fmt::Write;

/// `[a b]`: a list as `%v` prints it.
pub(super) fn list(values: &[String]) -> String {
    format!("[{}]", values.join(" "))
}

/// `["a" "b"]`: a list as `%q` prints it.
pub(super) fn quoted_list(values: &[String]) -> String {
    format!("[{}]", values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(" "))
}

/// A string as `strconv.Quote` prints it.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{7}' => text.push_str("\\a"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{b}' => text.push_str("\\v"),
            ' '..='~' => text.push(character),
            _ => push_escaped(&mut text, character),
        }
    }
    text.push('"');
    text
}

fn push_escaped(text: &mut String, character: char) {
    let code = u32::from(character);
    // What cannot be printed is escaped. A combining mark can be printed, behind a letter.
    let pair = format!("a{character}");
    let printable = pair.escape_debug().eq(pair.chars());
    let result = match code {
        0..=0x1f | 0x7f => write!(text, "\\x{code:02x}"),
        _ if printable => write!(text, "{character}"),
        0x1_0000.. => write!(text, "\\U{code:08x}"),
        _ => write!(text, "\\u{code:04x}"),
    };
    result.expect("writing to a string cannot fail");
}

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Nanoseconds of a duration such as `1h30m`, `1.5s`, `-2ms` or `0`.
pub(super) fn parse_duration(text: &str) -> Result<i64, &'static str> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err("there is no number in it");
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|part: char| !part.is_ascii_digit() && part != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err("a number is missing");
        }
        let end = behind.find(|part: char| part.is_ascii_digit() || part == '.').unwrap_or(behind.len());
        let (name, next) = behind.split_at(end);
        let unit = UNITS.iter().find(|(unit, _)| *unit == name).map(|(_, unit)| *unit);
        let unit =
            unit.ok_or(if name.is_empty() { "the unit is missing, as in 30s" } else { "the unit is not known" })?;
        total = part(whole, fraction, unit).and_then(|part| total.checked_add(part)).ok_or("it is too long")?;
        rest = next;
    }
    Ok(if negative { -total } else { total })
}

/// Bytes of a size such as `64m`, `1.5GiB` or `4096`, every unit a power of 1024, as docker's `units.RAMInBytes` has it.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    let end = text.find(|part: char| !part.is_ascii_digit() && part != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let letters = unit.strip_suffix('b').unwrap_or(&unit);
    let power = match letters.strip_suffix('i').unwrap_or(letters) {
        "" if letters.is_empty() => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || whole.is_empty() {
        return None;
    }
    let factor = 1024u64.pow(power);
    let mut bytes = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let (mut part, mut scale) = (0u128, 1u128);
    for digit in fraction.bytes().take(18) {
        part = part * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    bytes = bytes.checked_add(u64::try_from(part * u128::from(factor) / scale).ok()?)?;
    Some(bytes)
}

/// `whole.fraction` times `unit`; digits beyond a nanosecond do not count.
fn part(whole: &str, fraction: &str, unit: i64) -> Option<i64> {
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanoseconds = whole.checked_mul(unit)?;
    let mut scale: i128 = 1;
    let mut digits: i128 = 0;
    for digit in fraction.bytes().take(18) {
        digits = digits * 10 + i128::from(digit - b'0');
        scale *= 10;
    }
    nanoseconds = nanoseconds.checked_add(i64::try_from(digits * i128::from(unit) / scale).ok()?)?;
    Some(nanoseconds)
}

/// `1h0m0s`, `1.5s`, `20ms`: as Go prints a duration.
pub(super) fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let nanoseconds = nanoseconds.unsigned_abs();
    let text = match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanoseconds, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanoseconds, 1_000_000)),
        _ => {
            let minutes = nanoseconds / 60_000_000_000;
            let seconds = decimal(nanoseconds % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}

/// A quotient with as many decimal places as it needs.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{rest:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strings_are_quoted_as_go_quotes_them() {
        for (value, expected) in [
            ("a b", r#""a b""#),
            ("a\"b\\", r#""a\"b\\""#),
            ("\n\t\u{7}\u{1b}", r#""\n\t\a\x1b""#),
            ("é", "\"é\""),
            ("\u{301}", "\"\u{301}\""),
            ("\u{a0}", r#""\u00a0""#),
            ("\u{7f}", r#""\x7f""#),
            ("\u{80}", r#""\u0080""#),
            ("😀", "\"😀\""),
            ("\u{e0001}", r#""\U000e0001""#),
        ] {
            assert_eq!(quoted(value), expected);
        }
        assert_eq!(quoted_list(&["a".into(), "b c".into()]), r#"["a" "b c"]"#);
        assert_eq!(quoted_list(&[]), "[]");
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("5s", Ok(5_000_000_000)),
            ("1m30s", Ok(90_000_000_000)),
            ("1.5s", Ok(1_500_000_000)),
            (".5s", Ok(500_000_000)),
            ("1.s", Ok(1_000_000_000)),
            ("-2ms", Ok(-2_000_000)),
            ("+1us", Ok(1_000)),
            ("1h", Ok(3_600_000_000_000)),
            ("5", Err("the unit is missing, as in 30s")),
            ("5x", Err("the unit is not known")),
            ("", Err("there is no number in it")),
            ("s", Err("a number is missing")),
            (".s", Err("a number is missing")),
            ("1.2.3s", Err("a number is missing")),
            ("9999999h", Err("it is too long")),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (20_000_000, "20ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (3_661_000_000_000, "1h1m1s"),
            (-5_000_000_000, "-5s"),
        ] {
            assert_eq!(duration(nanoseconds), expected);
        }
    }

    proptest! {
        #[test]
        fn a_printed_duration_reads_as_itself(nanoseconds in -(1_i64 << 52)..(1_i64 << 52)) {
            prop_assert_eq!(parse_duration(&duration(nanoseconds)), Ok(nanoseconds));
        }
    }
}
