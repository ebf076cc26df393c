//! `zuwai`: builds a container image from a Dockerfile, without a daemon and without privileges. Under the name
//! `executor` it takes the place of Kaniko's.
//!
//! This crate is the only one that knows a user: flags, environment, terminal, signals, exit codes. It decides nothing
//! about images.

mod allocator;
mod args;
mod builder_output;
mod cache_options;
mod credentials;
mod doctor;
mod environment;
mod error;
mod feature_flags;
mod flags;
mod git_options;
mod isolation;
mod login;
mod machine;
mod progress;
mod push;
mod registry_options;
mod request;
mod secrets;
mod signals;
mod tools;
mod user_namespace;
mod values;
mod version;
mod warmer;
mod work_place;

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::Mode;
use zuwai_builder::isolation::Cancel;
use zuwai_registry::Digest;

use crate::args::{Command, Values};
use crate::environment::Environment;
use crate::error::Failure;
use crate::isolation::{Asked, Facts};
use crate::progress::{Console, Format, LogOptions, Timings, Verbosity, processor};
use crate::signals::Signalled;
use crate::tools::{Container, Toolbox};

fn main() -> ExitCode {
    allocator::keep_freed();
    // Files get the modes they are meant to have, whatever the launcher's mask.
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    zuwai_registry::transport::install_crypto();
    let arguments: Vec<OsString> = env::args_os().collect();
    let program = args::program_name(&arguments);
    if program == user_namespace::MAPPER {
        return user_namespace::map_ids(&arguments);
    }
    let environment = Environment::capture();
    match Command::parse(&arguments, &environment) {
        Ok(Command::Version) => print(&version::version(&program)),
        Ok(Command::Help(text)) => print(text.trim_end()),
        Ok(Command::Doctor(values)) => examine(&program, &values, &environment),
        Ok(Command::Build(values)) => {
            run(&values, &environment, |console| build(&program, &values, &environment, console))
        }
        Ok(Command::Push(values, words)) => {
            run(&values, &environment, |console| push::push(&program, &values, &words, &environment, console))
        }
        Ok(Command::Login(login)) => {
            run(&login.values, &environment, |console| login::login(&program, &login, &environment, console))
        }
        Ok(Command::Logout(values, words)) => {
            run(&values, &environment, |console| login::logout(&program, &values, &words, &environment, console))
        }
        Ok(Command::Warm(values)) => {
            run(&values, &environment, |console| warmer::warm(&program, &values, &environment, console))
        }
        Err(misuse) => {
            let failure = Failure::new(format!("error: {misuse}"), misuse.hint.clone());
            let _ = writeln!(io::stderr(), "{}", failure.text());
            ExitCode::FAILURE
        }
    }
}

/// Prints an answer. Nobody may be reading to its end: that is their choice.
fn print(text: &str) -> ExitCode {
    let _ = writeln!(io::stdout(), "{text}");
    ExitCode::SUCCESS
}

fn examine(program: &str, values: &Values, environment: &Environment) -> ExitCode {
    let current_directory = env::current_dir().unwrap_or_else(|_| Path::new("/").to_owned());
    let page = doctor::report(&doctor::Patient {
        environment,
        own_folder: &current_directory.join(machine::own_folder(values.text("kaniko-dir"), environment, program)),
        named: values.text("kaniko-dir").or_else(|| environment.text("KANIKO_DIR")).is_some(),
        asked: Asked::named(values.text("isolation")),
        current_directory: &current_directory,
    });
    print(page.trim_end())
}

/// Does it, and tells how it went wrong.
fn run(values: &Values, environment: &Environment, command: impl FnOnce(&Console) -> Result<(), Failure>) -> ExitCode {
    let options = request::log_options(values, environment, io::stderr().is_terminal());
    let console = Console::new(options);
    match command(&console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell_failure(&failure, &console, options);
            ExitCode::from(failure.code)
        }
    }
}

/// Kaniko's last words are no line of the log; whoever reads JSON gets JSON all the same.
fn tell_failure(failure: &Failure, console: &Console, options: LogOptions) {
    if options.format == Format::Json {
        console.tell(Verbosity::Fatal, &failure.text());
    } else {
        let _ = writeln!(io::stderr(), "{}", failure.text());
    }
}

fn build(program: &str, values: &Values, environment: &Environment, console: &Console) -> Result<(), Failure> {
    let (current_directory, own_folder) =
        machine::folders(values.text("kaniko-dir"), environment, program, "error building image")?;
    let transport = machine::transport(environment, &own_folder);
    let wanted = request::wanted(values, environment, &current_directory, transport)
        .map_err(|misuse| Failure::new(format!("error: {misuse}"), misuse.hint))?;
    let cancel = Cancel::default();
    let transport = &wanted.client.transport;
    let (keychain, unread) =
        credentials::keychain(environment, &own_folder, &wanted.credential_helpers, transport, Some(&cancel));
    for warning in wanted.warnings.iter().chain(&unread) {
        console.tell(Verbosity::Warning, warning);
    }
    let facts = Facts::find(environment);
    let choice = facts.choose(wanted.isolation)?;
    let names = &wanted.build.context.transport;
    let container = Container {
        own_folder: &own_folder,
        named: values.text("kaniko-dir").or_else(|| environment.text("KANIKO_DIR")).is_some(),
        current_directory: &current_directory,
        force: wanted.force,
        cleanup: values.switch("cleanup") && !values.switch("preserve-context"),
        materialize: wanted.build.materialize,
        ignored: wanted.ignored,
        caches: values.text("cache-mounts-dir").map(|folder| current_directory.join(folder)),
        names: (names.resolv_conf.clone(), names.hosts.clone()),
    };
    if benchmark_file(environment).is_some() {
        processor::count();
    }
    let tools = Toolbox::new(&container, facts, choice, wanted.client, keychain, (environment, cancel))?;
    let signalled = Signalled::listen(tools.cancel())
        .map_err(|error| Failure::of("error building image: listen to signals", &error, None))?;
    let timings = Timings::new(console);
    let built = zuwai_builder::build(&wanted.build, &tools.lend(&timings)).map_err(|error| {
        let failure = Failure::build(&error);
        // Whatever the build stumbled over when it was told to stop, the signal is why.
        match signalled.exit_code() {
            Some(code) => failure.with_code(code),
            None => failure,
        }
    })?;
    tell_end(values, wanted.build.push, &built.digest, environment, console)?;
    write_timings(&timings, environment, console);
    Ok(())
}

/// Kaniko's `BENCHMARK_FILE`.
fn benchmark_file(environment: &Environment) -> Option<&Path> {
    environment.get("BENCHMARK_FILE").filter(|path| *path != "false").map(Path::new)
}

/// That it cannot be written is no reason to fail an image that is built and pushed.
fn write_timings(timings: &Timings<'_>, environment: &Environment, console: &Console) {
    let Some(path) = benchmark_file(environment) else { return };
    if let Err(error) = timings.write(path) {
        let path = path.display();
        console.tell(
            Verbosity::Warning,
            &format!("BENCHMARK_FILE: write {path}: {error}: name a file of a folder that exists"),
        );
    }
}

/// What follows a build that went well.
fn tell_end(
    values: &Values,
    pushed: bool,
    digest: &Digest,
    environment: &Environment,
    console: &Console,
) -> Result<(), Failure> {
    if !pushed {
        console.tell(Verbosity::Info, "Skipping push to container registry due to --no-push flag");
    } else if let Some(folder) = environment.get("BUILDER_OUTPUT") {
        builder_output::write(Path::new(folder), values.list("destination"), digest)
            .map_err(|error| Failure::of("error pushing image: write $BUILDER_OUTPUT/images", &error, None))?;
    }
    Ok(())
}
