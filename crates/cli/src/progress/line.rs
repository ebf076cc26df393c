//! One line of the log, in the three forms of logrus (<https://github.com/sirupsen/logrus>), which Kaniko writes and
//! people's scripts read: `text`, `color` and `json`.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

/// How much a line matters. The order is from the loudest to the quietest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Nothing but what ends the program.
    Fatal,
    Error,
    Warning,
    Info,
    Debug,
    Trace,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `INFO[0003] message`: `--log-format=color`.
    Short {
        /// Whether the level is coloured.
        colour: bool,
    },
    /// `time="…" level=info msg="message"`.
    Text,
    /// `{"level":"info","msg":"message","time":"…"}`.
    Json,
}

/// What is told and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogOptions {
    pub(crate) format: Format,
    pub(crate) verbosity: Verbosity,
    /// Tell the time in the short form, too.
    pub(crate) timestamp: bool,
    /// Tell why a step is not in the cache.
    pub(crate) explain_cache: bool,
}

impl Verbosity {
    /// A value of `--verbosity`.
    pub(crate) fn named(word: &str) -> Self {
        match word {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "warn" | "warning" => Self::Warning,
            "error" => Self::Error,
            "fatal" | "panic" => Self::Fatal,
            _ => Self::Info,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Fatal => "fatal",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The terminal's number for its colour: red, yellow, blue, grey.
    fn colour(self) -> u8 {
        match self {
            Self::Fatal | Self::Error => 31,
            Self::Warning => 33,
            Self::Info => 36,
            Self::Debug | Self::Trace => 37,
        }
    }
}

/// The line, with its end.
pub(crate) fn line(
    options: LogOptions,
    verbosity: Verbosity,
    message: &str,
    now: SystemTime,
    since_start: Duration,
) -> String {
    let message = message.strip_suffix('\n').unwrap_or(message);
    let time = rfc3339(now);
    match options.format {
        Format::Short { colour } => {
            let level = &verbosity.word().to_uppercase()[..4];
            let place = if options.timestamp { time } else { format!("{:04}", since_start.as_secs()) };
            if colour {
                // logrus leaves room for fields behind the message, though there are none.
                format!("\x1b[{}m{level}\x1b[0m[{place}] {message:<44} \n", verbosity.colour())
            } else {
                format!("{level}[{place}] {message}\n")
            }
        }
        Format::Text => {
            let message = if needs_quotes(message) { quoted(message) } else { message.to_owned() };
            format!("time=\"{time}\" level={} msg={message}\n", verbosity.word())
        }
        Format::Json => {
            let line = serde_json::json!({"level": verbosity.word(), "msg": message, "time": time});
            // Go's encoder also escapes what a browser would stumble over.
            let line = line.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
            format!("{}\n", line.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"))
        }
    }
}

/// To the second, in UTC: the executor's image knows no other time zone.
fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH).strftime("%FT%TZ").to_string()
}

/// logrus leaves only these characters without quotes.
fn needs_quotes(text: &str) -> bool {
    !text.chars().all(|character| character.is_ascii_alphanumeric() || "-._/@^+".contains(character))
}

/// Go's `strconv.Quote`.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            character if character.is_ascii_control() => {
                write!(quoted, "\\x{:02x}", u32::from(character)).expect("a string takes everything");
            }
            character if character.is_control() => {
                write!(quoted, "\\u{:04x}", u32::from(character)).expect("a string takes everything");
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(format: Format, timestamp: bool, verbosity: Verbosity, message: &str) -> String {
        let options = LogOptions { format, verbosity: Verbosity::Trace, timestamp, explain_cache: false };
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(490_896);
        line(options, verbosity, message, now, Duration::from_millis(3_900))
    }

    #[test]
    fn the_short_form_is_that_of_logrus_on_a_terminal() {
        let short = |colour, timestamp, verbosity, message: &str| {
            shown(Format::Short { colour }, timestamp, verbosity, message)
        };
        assert_eq!(short(false, false, Verbosity::Info, "msg"), "INFO[0003] msg\n");
        assert_eq!(short(false, true, Verbosity::Warning, "msg\n"), "WARN[2026-01-01T00:00:00Z] msg\n");
        assert_eq!(
            short(true, false, Verbosity::Debug, "msg"),
            format!("\x1b[37mDEBU\x1b[0m[0003] msg{} \n", " ".repeat(41))
        );
        assert!(short(true, false, Verbosity::Error, "x").starts_with("\x1b[31mERRO\x1b[0m[0003] x"));
    }

    #[test]
    fn the_text_form_quotes_what_logrus_quotes() {
        let text = |message: &str| shown(Format::Text, false, Verbosity::Info, message);
        assert_eq!(text("debian"), "time=\"2026-01-01T00:00:00Z\" level=info msg=debian\n");
        assert_eq!(text("a b"), "time=\"2026-01-01T00:00:00Z\" level=info msg=\"a b\"\n");
        assert!(text("a \"b\"\n\tc\\ \x1b é").ends_with("msg=\"a \\\"b\\\"\\n\\tc\\\\ \\x1b é\"\n"));
        assert!(shown(Format::Text, false, Verbosity::Warning, "x").contains("level=warning"));
    }

    #[test]
    fn the_json_form_has_the_keys_in_order_and_one_line() {
        assert_eq!(
            shown(Format::Json, false, Verbosity::Info, "a \"b\" <c> & \n d"),
            "{\"level\":\"info\",\"msg\":\"a \\\"b\\\" \\u003cc\\u003e \\u0026 \\n d\",\"time\":\"2026-01-01T00:00:00Z\"}\n"
        );
    }

    #[test]
    fn words_for_how_much_is_told_are_those_of_logrus() {
        assert_eq!(Verbosity::named("warn"), Verbosity::Warning);
        assert_eq!(Verbosity::named("panic"), Verbosity::Fatal);
        assert!(
            Verbosity::named("trace") > Verbosity::named("debug")
                && Verbosity::named("error") < Verbosity::named("info")
        );
    }
}
