//! RUN: a command that changes the root filesystem.
//!
//! ```text
//! RUN command for the shell
//! RUN ["program", "argument"]
//! ```
//!
//! Its text is not expanded: the shell does that. It sees the image's environment and the declared arguments.

use super::command::Command;
use super::error::Fault;
use super::flags::Flags;
use super::{Action, Instruction, InstructionError, RunAction, Step};
use crate::settings::Settings;
use crate::syntax::Line;

pub(super) const KEYWORD: &str = "RUN";

#[derive(Debug)]
struct Run {
    command: Command,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    Flags::none(line, KEYWORD)?;
    let command = Command::parse(&line.rest).map_err(|error| Fault::at(line.place_of_rest(), error))?;
    Ok(Box::new(Run { command }))
}

impl Instruction for Run {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        let arguments = self.command.arguments(settings.shell());
        let (env, deciding) = settings.run_environment();
        let created_by = created_by(&settings.arguments(), &arguments);
        let action = RunAction {
            arguments,
            env,
            deciding,
            user: settings.config().config.user.clone(),
            working_dir: settings.working_dir().to_owned(),
            text: self.command.text(),
        };
        Ok(Step::of(created_by, Action::Run(action)))
    }

    fn runs(&self) -> bool {
        true
    }
}

/// `RUN |2 a=1 b=2 /bin/sh -c command # buildkit`; without the `|` part when no argument is declared.
fn created_by(declared: &[String], arguments: &[String]) -> String {
    let count = (!declared.is_empty()).then(|| format!("|{}", declared.len()));
    let words: Vec<&str> = std::iter::once(KEYWORD)
        .chain(count.as_deref())
        .chain(declared.iter().map(String::as_str))
        .chain(arguments.iter().map(String::as_str))
        .chain(["# buildkit"])
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruction::testing::{Stage, place_of, refused};

    fn action(step: Step) -> RunAction {
        match step.action {
            Some(Action::Run(action)) => action,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn history_lists_declared_arguments_and_the_whole_command() {
        let mut stage = Stage::with("FROM scratch", &[("b", "cli"), ("http_proxy", "http://p")]);
        assert_eq!(stage.run("RUN echo hi").created_by.as_deref(), Some("RUN /bin/sh -c echo hi # buildkit"));
        assert_eq!(stage.run("RUN [\"echo\", \"hi\"]").created_by.as_deref(), Some("RUN echo hi # buildkit"));
        stage.run("ARG a=1 b none");
        let expected = "RUN |3 a=1 b=cli none= /bin/sh -c x # buildkit";
        assert_eq!(stage.run("RUN x").created_by.as_deref(), Some(expected));
        stage.run("ENV a=env");
        stage.run("ARG none=now");
        let expected = "RUN |3 a=env b=cli none=now /bin/sh -c x # buildkit";
        assert_eq!(stage.run("RUN x").created_by.as_deref(), Some(expected));
    }

    #[test]
    fn the_later_of_arg_and_env_wins_inside_the_command() {
        let mut stage = Stage::with("FROM scratch", &[("a", "cli"), ("b", "cli")]);
        stage.run("ENV a=env");
        stage.run("ARG a");
        stage.run("ARG b");
        stage.run("ENV b=env");
        let env = action(stage.run("RUN x")).env;
        assert!(env.contains(&"a=cli".to_owned()) && env.contains(&"b=env".to_owned()), "{env:?}");
        assert_eq!(env.iter().filter(|entry| entry.starts_with("a=")).count(), 1);
        assert_eq!(stage.env(), ["a=env", "b=env"]);
    }

    #[test]
    fn a_command_gets_path_user_and_folder() {
        let mut stage = Stage::scratch();
        stage.run("USER u:g");
        stage.run("WORKDIR /w");
        let action = action(stage.run("RUN x"));
        assert_eq!(action.env, ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
        assert_eq!((action.user.as_str(), action.working_dir.as_str(), action.text.as_str()), ("u:g", "/w", "x"));
    }

    #[test]
    fn proxies_reach_the_command_undeclared_in_both_cases_and_do_not_decide() {
        let given = [("http_proxy", "http://p"), ("NO_PROXY", "upper"), ("no_proxy", "lower"), ("FTP_PROXY", "")];
        let mut stage = Stage::with("FROM scratch", &given);
        let action = action(stage.run("RUN x"));
        let expected = ["HTTP_PROXY=http://p", "http_proxy=http://p", "NO_PROXY=lower", "no_proxy=lower"];
        assert_eq!(action.env[action.deciding..], expected);
    }

    #[test]
    fn the_shell_is_the_one_of_the_image() {
        let mut stage = Stage::scratch();
        stage.run("SHELL [\"/bin/bash\", \"-xc\"]");
        assert_eq!(stage.run("RUN a").created_by.as_deref(), Some("RUN /bin/bash -xc a # buildkit"));
    }

    #[test]
    fn the_text_is_not_expanded() {
        let mut stage = Stage::scratch();
        stage.run("ENV a=1");
        assert_eq!(action(stage.run("RUN echo $a '${b' \\$c")).arguments[2], "echo $a '${b' \\$c");
    }

    #[test]
    fn what_is_not_built_yet_is_refused_by_name() {
        for (text, message) in [
            ("RUN --mount=type=cache,target=/x y", "RUN --mount is not supported yet"),
            ("RUN --network=none y", "RUN --network is not supported yet"),
            ("RUN --security=insecure y", "RUN --security is not supported yet"),
            ("RUN --device=x y", "RUN --device is not supported yet"),
            ("RUN --moun=x y", "RUN has no flag --moun (did you mean --mount?)"),
            ("RUN <<EOF\nx\nEOF", "a heredoc in RUN is not supported yet"),
            ("RUN [\"a\", 1]", "in the JSON form every element is a string in double quotes"),
        ] {
            assert_eq!(refused(text), message, "{text}");
        }
        assert_eq!(place_of("RUN  --mount=x y"), "Dockerfile:1:6");
    }
}
