//! STOPSIGNAL: the signal that asks the container to stop: a name with or without `SIG`, or a number. Kept as written.

use super::error::Fault;
use super::{Instruction, InstructionError, Step, one_argument};
use crate::settings::Settings;
use crate::syntax::Line;

pub(super) const KEYWORD: &str = "STOPSIGNAL";

/// The names of Linux's signals, `signal(7)`; the real-time ones are made of numbers.
const SIGNALS: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

#[derive(Debug)]
struct StopSignal {
    signal: String,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    Ok(Box::new(StopSignal { signal: one_argument(line, KEYWORD)? }))
}

impl Instruction for StopSignal {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        let signal = settings.expand(&self.signal)?;
        if !is_signal(&signal) {
            return Err(InstructionError::Signal { signal });
        }
        let created_by = format!("{KEYWORD} {signal}");
        settings.config_mut().config.stop_signal = Some(signal);
        Ok(Step::metadata(created_by))
    }
}

fn is_signal(text: &str) -> bool {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.bytes().any(|byte| byte != b'0');
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, last: u32| {
        name.strip_prefix(prefix).is_some_and(|digits| {
            !digits.starts_with('0')
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && digits.parse::<u32>().is_ok_and(|number| (1..=last).contains(&number))
        })
    };
    // 34 is the first real-time signal that programs can use, 64 the last: they meet at 49 and 50.
    SIGNALS.contains(&name) || matches!(name, "RTMIN" | "RTMAX") || real_time("RTMIN+", 15) || real_time("RTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use crate::instruction::testing::{Stage, refused};

    #[test]
    fn names_and_numbers_are_kept_as_written() {
        let mut stage = Stage::scratch();
        stage.run("ENV s=TERM");
        for (text, signal) in [
            ("STOPSIGNAL SIGTERM", "SIGTERM"),
            ("STOPSIGNAL sigquit", "sigquit"),
            ("STOPSIGNAL USR1", "USR1"),
            ("STOPSIGNAL 9", "9"),
            // No signal of today: BuildKit takes any number but 0.
            ("STOPSIGNAL 99999999999", "99999999999"),
            ("STOPSIGNAL SIG$s", "SIGTERM"),
            ("STOPSIGNAL RTMIN", "RTMIN"),
            ("STOPSIGNAL SIGRTMIN+3", "SIGRTMIN+3"),
            ("STOPSIGNAL rtmax-14", "rtmax-14"),
        ] {
            assert_eq!(stage.run(text).created_by, Some(format!("STOPSIGNAL {signal}")), "{text}");
            assert_eq!(stage.settings.config().config.stop_signal.as_deref(), Some(signal));
        }
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        let mut stage = Stage::scratch();
        for signal in ["FOO", "0", "00", "-1", "SIGTERM x", "RTMIN+16", "RTMAX-15", "RTMIN+", "RTMIN+01", "$none"] {
            let shown = if signal == "$none" { "" } else { signal };
            assert_eq!(stage.fails(&format!("STOPSIGNAL {signal}")), format!("`{shown}` is not a signal"));
        }
        assert_eq!(refused("STOPSIGNAL"), "STOPSIGNAL needs an argument");
    }
}
