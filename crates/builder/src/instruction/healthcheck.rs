//! HEALTHCHECK: how to see that the container is well. Its text is not expanded.
//!
//! ```text
//! HEALTHCHECK [--interval=30s] [--timeout=30s] [--start-period=0s] [--start-interval=5s] [--retries=3] CMD command
//! HEALTHCHECK NONE
//! ```
//!
//! An option that is not given, or 0, leaves the runtime's default.

use zuwai_registry::Healthcheck as Configuration;

use super::command::Command;
use super::error::Fault;
use super::flags::Flags;
use super::{Instruction, InstructionError, Step, go_text};
use crate::settings::Settings;
use crate::syntax::Line;

pub(super) const KEYWORD: &str = "HEALTHCHECK";

/// The shortest duration that Docker takes, a millisecond.
const SHORTEST: i64 = 1_000_000;

#[derive(Debug)]
struct Healthcheck {
    configuration: Configuration,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    let flags = Flags::read(line, KEYWORD)?;
    let at = |error| Fault::at(line.place_of_rest(), error);
    if line.rest.is_empty() {
        return Err(at(InstructionError::NoArgument { instruction: KEYWORD }));
    }
    let (kind, rest) = line.rest.split_at(line.rest.find(char::is_whitespace).unwrap_or(line.rest.len()));
    let rest = rest.trim_start();
    let test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() && flags.is_empty() => vec!["NONE".to_owned()],
        "NONE" => return Err(at(InstructionError::HealthcheckNone)),
        "CMD" => test(rest).map_err(at)?,
        _ => return Err(at(InstructionError::HealthcheckKind { kind: kind.to_owned() })),
    };
    let configuration = Configuration {
        test,
        interval: duration(&flags, "interval")?,
        timeout: duration(&flags, "timeout")?,
        start_period: duration(&flags, "start-period")?,
        start_interval: duration(&flags, "start-interval")?,
        retries: retries(&flags)?,
        ..Configuration::default()
    };
    Ok(Box::new(Healthcheck { configuration }))
}

fn test(command: &str) -> Result<Vec<String>, InstructionError> {
    let (kind, arguments) = match Command::parse(command)? {
        Command::Shell(text) if text.is_empty() => return Err(InstructionError::HealthcheckCommand),
        Command::Exec(arguments) if arguments.is_empty() => return Err(InstructionError::HealthcheckCommand),
        Command::Shell(text) => ("CMD-SHELL", vec![text]),
        Command::Exec(arguments) => ("CMD", arguments),
    };
    Ok(std::iter::once(kind.to_owned()).chain(arguments).collect())
}

fn duration(flags: &Flags, flag: &'static str) -> Result<Option<i64>, InstructionError> {
    let Some(value) = flags.value(flag) else { return Ok(None) };
    match go_text::parse_duration(&value) {
        Ok(0) => Ok(None),
        Ok(nanoseconds) if nanoseconds >= SHORTEST => Ok(Some(nanoseconds)),
        Ok(_) => Err(InstructionError::Duration { flag, value, reason: "1ms is the shortest" }),
        Err(reason) => Err(InstructionError::Duration { flag, value, reason }),
    }
}

fn retries(flags: &Flags) -> Result<Option<i64>, InstructionError> {
    let Some(value) = flags.value("retries") else { return Ok(None) };
    match value.parse::<i32>() {
        Ok(0) => Ok(None),
        Ok(number) if number > 0 => Ok(Some(number.into())),
        _ => Err(InstructionError::Retries { value }),
    }
}

impl Instruction for Healthcheck {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        settings.config_mut().config.healthcheck = Some(self.configuration.clone());
        Ok(Step::metadata(created_by(&self.configuration)))
    }
}

fn created_by(configuration: &Configuration) -> String {
    let duration = |value: Option<i64>| go_text::duration(value.unwrap_or(0));
    format!(
        "{KEYWORD} {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        go_text::list(&configuration.test),
        duration(configuration.interval),
        duration(configuration.timeout),
        duration(configuration.start_period),
        duration(configuration.start_interval),
        configuration.retries.unwrap_or(0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruction::testing::{Stage, refused};

    #[test]
    fn every_option_is_set_and_worded() {
        let mut stage = Stage::scratch();
        let text = "HEALTHCHECK --interval=5s --timeout=1m30s --start-period=500ms --start-interval=1.5s --retries=3 CMD curl $x";
        let expected = "HEALTHCHECK {Test:[CMD-SHELL curl $x] Interval:5s Timeout:1m30s StartPeriod:500ms \
                        StartInterval:1.5s Retries:3}";
        assert_eq!(stage.run(text).created_by.as_deref(), Some(expected));
        let set = stage.settings.config().config.healthcheck.clone().unwrap();
        assert_eq!(set.test, ["CMD-SHELL", "curl $x"]);
        assert_eq!((set.interval, set.timeout), (Some(5_000_000_000), Some(90_000_000_000)));
        assert_eq!((set.start_period, set.start_interval), (Some(500_000_000), Some(1_500_000_000)));
        assert_eq!(set.retries, Some(3));
    }

    #[test]
    fn zero_and_nothing_leave_the_default() {
        let mut stage = Stage::scratch();
        let text = "HEALTHCHECK --interval=0 --timeout=0s --retries=0 cmd [\"/bin/check\", \"a b\"]";
        let expected = "HEALTHCHECK {Test:[CMD /bin/check a b] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s \
                        Retries:0}";
        assert_eq!(stage.run(text).created_by.as_deref(), Some(expected));
        let set = stage.settings.config().config.healthcheck.clone().unwrap();
        assert_eq!(set, Configuration { test: set.test.clone(), ..Configuration::default() });
    }

    #[test]
    fn none_switches_it_off() {
        let mut stage = Stage::scratch();
        stage.run("HEALTHCHECK CMD a");
        stage.run("HEALTHCHECK none");
        assert_eq!(stage.settings.config().config.healthcheck.clone().unwrap().test, ["NONE"]);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (text, message) in [
            ("HEALTHCHECK", "HEALTHCHECK needs an argument"),
            ("HEALTHCHECK CMD", "HEALTHCHECK CMD needs a command"),
            ("HEALTHCHECK CMD []", "HEALTHCHECK CMD needs a command"),
            ("HEALTHCHECK RUN x", "HEALTHCHECK takes CMD or NONE, and not `RUN`"),
            ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes nothing more"),
            ("HEALTHCHECK --retries=1 NONE", "HEALTHCHECK NONE takes nothing more"),
            ("HEALTHCHECK --interval=5 CMD a", "--interval=5 is not a duration: the unit is missing, as in 30s"),
            ("HEALTHCHECK --timeout=1us CMD a", "--timeout=1us is not a duration: 1ms is the shortest"),
            ("HEALTHCHECK --timeout=-1s CMD a", "--timeout=-1s is not a duration: 1ms is the shortest"),
            ("HEALTHCHECK --retries=-1 CMD a", "--retries=-1 is not a number from 0 up"),
            ("HEALTHCHECK --retries=x CMD a", "--retries=x is not a number from 0 up"),
            ("HEALTHCHECK --retrie=1 CMD a", "HEALTHCHECK has no flag --retrie (did you mean --retries?)"),
        ] {
            assert_eq!(refused(text).as_str(), message, "{text}");
        }
    }
}
