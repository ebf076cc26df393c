//! RUN: a command that changes the root filesystem.
//!
//! ```text
//! RUN [--mount=…]… [--network=default|none|host] [--security=sandbox] command for the shell
//! RUN ["program", "argument"]
//! RUN <<name
//! ```
//!
//! Its text is not expanded: the shell does that. It sees the image's environment and the declared arguments. A heredoc
//! that is all of the command is what the shell runs; one that begins with `#!` is a file that the shell starts. Any
//! other heredoc is handed to the shell as it stands.

use super::command::Command;
use super::error::Fault;
use super::flags::Flags;
use super::mount::{self, Mount, MountKind, Written};
use super::{Action, Instruction, InstructionError, RunAction, Step};
use crate::settings::Settings;
use crate::syntax::{Line, heredoc_alone, suggest};

pub(super) const KEYWORD: &str = "RUN";

#[derive(Debug)]
struct Run {
    command: Command,
    mounts: Vec<Written>,
    /// A heredoc that is a program of its own: its name and its content.
    script: Option<(String, String)>,
    network: Network,
    insecure: bool,
    devices: Vec<String>,
}

/// `--network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// That of the builder.
    Default,
    /// None but a loopback.
    None,
    /// That of the host.
    Host,
}

/// What a command asks for besides its files, known before anything starts.
#[derive(Debug)]
pub(crate) struct Demands<'a> {
    /// The network.
    pub(crate) network: Network,
    /// `--security=insecure`.
    pub(crate) insecure: bool,
    /// `--device`, as written.
    pub(crate) devices: &'a [String],
    /// The mounts whose options hold no variables.
    pub(crate) mounts: Vec<Mount>,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    let flags = Flags::read(line, KEYWORD)?;
    let mut mounts = Vec::new();
    for flag in &line.flags {
        let Some(text) = flag.word.strip_prefix("--mount=") else { continue };
        mounts.push(Written::read(text).map_err(|error| Fault::at(line.place(flag.offset), error))?);
    }
    let network = choice(&flags, "network", &["default", "none", "host"])?;
    let insecure = choice(&flags, "security", &["sandbox", "insecure"])? == "insecure";
    let network = match network {
        "none" => Network::None,
        "host" => Network::Host,
        _ => Network::Default,
    };
    let command = Command::parse(&line.rest).map_err(|error| Fault::at(line.place_of_rest(), error))?;
    let (command, script) = with_heredocs(command, line);
    Ok(Box::new(Run { command, mounts, script, network, insecure, devices: flags.values("device") }))
}

/// One of these words, the first of which is meant where the flag is not given.
fn choice(flags: &Flags, flag: &'static str, words: &'static [&'static str]) -> Result<&'static str, InstructionError> {
    let Some(value) = flags.value(flag) else { return Ok(words[0]) };
    words.iter().find(|word| **word == value).copied().ok_or_else(|| {
        let suggestion = suggest::nearest(&value, words.iter().copied());
        InstructionError::Choice { flag, value, words, suggestion }
    })
}

/// The command with its heredocs, as the shell gets it.
fn with_heredocs(command: Command, line: &Line) -> (Command, Option<(String, String)>) {
    let Command::Shell(text) = command else { return (command, None) };
    let Some(first) = line.heredocs.first() else { return (Command::Shell(text), None) };
    if heredoc_alone(&text).is_none() {
        let bodies = line.heredocs.iter().map(|heredoc| format!("\n{}{}", heredoc.content, heredoc.name));
        return (Command::Shell(std::iter::once(text).chain(bodies).collect()), None);
    }
    let body = first.body();
    if body.starts_with("#!") && !first.name.contains('/') {
        let path = format!("{}/{}", mount::SCRIPTS, first.name);
        return (Command::Shell(path), Some((first.name.clone(), body)));
    }
    (Command::Shell(body), None)
}

impl Instruction for Run {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        let arguments = self.command.arguments(settings.shell());
        let (env, deciding) = settings.run_environment();
        let created_by = created_by(&settings.arguments(), &arguments);
        let mut mounts = self.mounts.iter().map(|mount| mount.expand(settings)).collect::<Result<Vec<_>, _>>()?;
        mounts.extend(self.script.iter().map(|(name, content)| Mount {
            target: mount::SCRIPTS.to_owned(),
            kind: MountKind::Script { name: name.clone(), content: content.clone() },
        }));
        let action = RunAction {
            arguments,
            env,
            deciding,
            user: settings.config().config.user.clone(),
            working_dir: settings.working_dir().to_owned(),
            mounts,
            offline: self.network == Network::None,
            text: self.command.text(),
        };
        Ok(Step::of(created_by, Action::Run(action)))
    }

    fn uses(&self) -> Vec<&str> {
        self.mounts.iter().filter_map(Written::from).collect()
    }

    fn demands(&self) -> Option<Demands<'_>> {
        let mounts = self.mounts.iter().filter_map(Written::constant).collect();
        Some(Demands { network: self.network, insecure: self.insecure, devices: &self.devices, mounts })
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
    fn a_heredoc_is_what_the_shell_runs() {
        let mut stage = Stage::scratch();
        for (text, command) in [
            ("RUN <<EOF\necho $a\n\techo b\nEOF", "echo $a\n\techo b\n"),
            ("RUN <<-EOF\n\techo a\n\t\techo b\n\tEOF", "echo a\necho b\n"),
            ("RUN <<'EOF'\necho $a\nEOF", "echo $a\n"),
            ("RUN cat <<EOF > f\nx $a\nEOF", "cat <<EOF > f\nx $a\nEOF"),
            ("RUN cat <<-EOF | sh\n\tx\n\tEOF", "cat <<-EOF | sh\n\tx\nEOF"),
            ("RUN cat <<'A' <<B\n1\nA\n2\nB", "cat <<'A' <<B\n1\nA\n2\nB"),
            ("RUN <<EOF cat\nx\nEOF", "<<EOF cat\nx\nEOF"),
            ("RUN <<EOF\nEOF", ""),
        ] {
            let step = stage.run(text);
            assert_eq!(
                step.created_by.as_deref(),
                Some(format!("RUN /bin/sh -c {command} # buildkit").as_str()),
                "{text}"
            );
            assert_eq!(action(step).arguments[2], command, "{text}");
        }
    }

    #[test]
    fn a_heredoc_with_a_shebang_is_a_file_of_its_own() {
        let mut stage = Stage::scratch();
        let step = stage.run("RUN <<-EOF\n#!/usr/bin/env python3\n\tprint(1)\n\tEOF");
        assert_eq!(step.created_by.as_deref(), Some("RUN /bin/sh -c /dev/pipes/EOF # buildkit"));
        let mounts = action(step).mounts;
        let kind = MountKind::Script { name: "EOF".into(), content: "#!/usr/bin/env python3\nprint(1)\n".into() };
        assert_eq!(mounts, [Mount { target: "/dev/pipes".into(), kind }]);
    }

    #[test]
    fn what_a_command_asks_for_is_known_before_it_runs() {
        let source = crate::syntax::parse(
            b"RUN --network=none --security=insecure --device=gpu --mount=from=a,target=/x --mount=type=secret,id=$s b",
            "Dockerfile",
        );
        let source = source.unwrap();
        let read = read(&source.lines[0]).unwrap();
        let demands = read.demands().unwrap();
        assert_eq!((demands.network, demands.insecure, demands.devices.len()), (Network::None, true, 1));
        assert_eq!(demands.mounts.len(), 1);
        assert_eq!(read.uses(), ["a"]);
    }

    #[test]
    fn what_is_not_run_is_refused() {
        for (text, message) in [
            ("RUN --network=nome y", "--network is default, none or host, and not nome (did you mean none?)"),
            ("RUN --security=x y", "--security is sandbox or insecure, and not x"),
            ("RUN --moun=x y", "RUN has no flag --moun (did you mean --mount?)"),
            ("RUN --mount y", "--mount needs a value: --mount=…"),
            ("RUN [\"a\", 1]", "in the JSON form every element is a string in double quotes"),
        ] {
            assert_eq!(refused(text), message, "{text}");
        }
        assert_eq!(place_of("RUN  --mount=x y"), "Dockerfile:1:6");
    }
}
