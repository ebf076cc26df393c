//! What a person developing zuwai types: `cargo xtask <command>`. Each command does all its set-up itself.

mod bench;
mod cargo;
mod conformance;
mod demo;
mod image;
mod test;

use std::process::ExitCode;

use anyhow::{Result, bail};

/// One command: its name, what it does in a line, and what does it.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "demo",
        about: "build the maven example in an unprivileged container, push it, pull it again and run it",
        run: demo::run,
    },
    Command {
        name: "test",
        about: "install what the tests need, make the base images, run all tests; further words go to the test runner",
        run: test::run,
    },
    Command {
        name: "conformance",
        about: "build all cases with Docker's daemon and with buildah too, and compare; a builder's name, a part of a case's",
        run: conformance::run,
    },
    Command {
        name: "bench",
        about: "measure beside the floors of this machine; a name measures one area, further words a part of it",
        run: bench::run,
    },
    Command {
        name: "image",
        about: "lay out the tree of the executor's image in target/image, the context of deploy/Dockerfile",
        run: image::run,
    },
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    match dispatch(&name, &rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(name: &str, rest: &[String]) -> Result<()> {
    if matches!(name, "" | "help" | "--help" | "-h") {
        print!("{}", help());
        return Ok(());
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        bail!("there is no command `{name}`\n{}", help());
    };
    (command.run)(rest)
}

fn help() -> String {
    let rows: Vec<_> =
        COMMANDS.iter().map(|command| format!("  cargo xtask {:11} {}\n", command.name, command.about)).collect();
    format!("commands:\n{}", rows.concat())
}

/// The error and its causes, without a backtrace: what failed here is mostly another program.
fn chain(error: &anyhow::Error) -> String {
    let causes: Vec<_> = error.chain().map(ToString::to_string).collect();
    causes.join("\n  caused by: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_is_told_what_there_is() {
        let error = dispatch("dmeo", &[]).unwrap_err().to_string();
        assert!(error.contains("`dmeo`") && error.contains("cargo xtask demo"), "{error}");
    }
}
