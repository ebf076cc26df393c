//! The warmer, as `/kaniko/warmer` or `zuwai warmer`: base images are fetched into a folder that later builds name with
//! `--cache-dir`. Its flags are Kaniko's; those that a build has too mean the same.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Arg;
use clap::builder::Command as Parser;
use clap::error::ErrorKind;
use zuwai_builder::WarmRequest;
use zuwai_registry::Client;

use crate::args::{Command, UsageError, Values, argument, help, misuse};
use crate::environment::Environment;
use crate::error::Failure;
use crate::flags::{Flag, Group, Kind, State};
use crate::progress::{Console, Verbosity};
use crate::{cache_options, credentials, machine, registry_options, request};

/// The flags of its own.
static IMAGE: Flag = Flag {
    name: "image",
    short: Some('i'),
    kind: Kind::List("IMAGE"),
    state: State::Works,
    group: Group::Cache,
    help: "An image to fetch; may be given several times",
};

/// Those that a build has too, with their letters here.
const SHARED: [(&str, Option<char>); 22] = [
    ("dockerfile", Some('d')),
    ("build-arg", None),
    ("cache-dir", Some('c')),
    ("force", Some('f')),
    ("cache-ttl", None),
    ("custom-platform", None),
    ("customPlatform", None),
    ("insecure-pull", None),
    ("skip-tls-verify-pull", None),
    ("insecure-registry", None),
    ("skip-tls-verify-registry", None),
    ("registry-certificate", None),
    ("registry-client-cert", None),
    ("registry-map", None),
    ("registry-mirror", None),
    ("skip-default-registry-fallback", None),
    ("image-download-retry", None),
    ("credential-helpers", None),
    ("kaniko-dir", None),
    ("verbosity", Some('v')),
    ("log-format", None),
    ("log-timestamp", None),
];

/// Reads the arguments.
pub(crate) fn parse(arguments: &[OsString], program: &str, environment: &Environment) -> Result<Command, UsageError> {
    let mut parser = Parser::new(program.to_owned())
        .about("Fetches base images into the folder that a build names with --cache-dir")
        .override_usage(format!("{program} --image=IMAGE|--dockerfile=PATH [FLAGS]"))
        .term_width(100)
        .disable_help_flag(true)
        .arg(Arg::new("command").hide(true))
        .arg(argument(&IMAGE));
    for (name, letter) in SHARED {
        let flag = Flag::named(name);
        let mut argument = argument(flag).short(letter);
        argument = match name {
            "force" => argument.help("Fetch what is there, too").help_heading(Group::Cache.title()),
            "dockerfile" => argument.help("A Dockerfile whose images are fetched").help_heading(Group::Cache.title()),
            "cache-dir" => argument.help("Where images are kept [default: /cache]"),
            "cache-ttl" => argument.help("Accepted without effect: an image is found by its digest and never gets old"),
            _ => argument,
        };
        parser = parser.arg(argument);
    }
    let help_flag = Arg::new("help").long("help").short('h').action(clap::ArgAction::Help).help("Print this help");
    let mut parser = parser.arg(help_flag.help_heading(Group::Logging.title()));
    let matches = match parser.try_get_matches_from_mut(arguments) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return Ok(Command::Help(help(&mut parser))),
        Err(error) => return Err(misuse(&error)),
    };
    match matches.get_one::<String>("command").map(String::as_str) {
        None | Some("warmer" | "") => {}
        Some("version") => return Ok(Command::Version),
        Some(word) => return Err(UsageError::new(format!("unknown command {word:?} for {program:?}"))),
    }
    let mut values = Values::default();
    for flag in SHARED.iter().map(|(name, _)| Flag::named(name)).chain([&IMAGE]) {
        let given = matches.get_many::<String>(flag.name).into_iter().flatten().cloned();
        values.take(flag, given.collect())?;
    }
    values.take_environment(environment)?;
    Ok(Command::Warm(values))
}

/// Does it.
pub(crate) fn warm(
    program: &str,
    values: &Values,
    environment: &Environment,
    console: &Console,
) -> Result<(), Failure> {
    let (current_directory, own_folder) =
        machine::folders(values.text("kaniko-dir"), environment, program, "error warming the cache")?;
    let misuse = |misuse: UsageError| Failure::new(format!("error: {misuse}"), misuse.hint);
    let mut warnings = values.warnings.clone();
    let wanted = WarmRequest {
        images: values.list("image").iter().filter(|name| !name.is_empty()).cloned().collect(),
        dockerfile: values.text("dockerfile").map(|name| dockerfile(name, &current_directory)).transpose()?,
        build_args: request::build_args(values, environment, &mut warnings).map_err(misuse)?,
        platform: request::platform(values).map_err(misuse)?,
        folder: current_directory.join(values.text("cache-dir").unwrap_or(cache_options::FOLDER)),
        force: values.switch("force"),
    };
    let transport = machine::transport(environment, &own_folder);
    let options = registry_options::client(values, transport).map_err(misuse)?;
    let helpers = registry_options::credential_helpers(values).map_err(misuse)?;
    let (keychain, unread) = credentials::keychain(environment, &own_folder, &helpers, &options.transport, None);
    for warning in warnings.iter().chain(&unread) {
        console.tell(Verbosity::Warning, warning);
    }
    let client = Client::new(options, Arc::from(keychain))
        .map_err(|error| Failure::of("error warming the cache", &error, error.hint()))?;
    zuwai_builder::warm(&wanted, &client, console).map_err(|error| Failure::of("error warming the cache", &error, None))
}

/// The name and the text of a Dockerfile.
fn dockerfile(name: &str, current_directory: &Path) -> Result<(String, Vec<u8>), Failure> {
    let path: PathBuf = current_directory.join(name);
    let text = fs::read(&path)
        .map_err(|error| Failure::of(&format!("error warming the cache: read {}", path.display()), &error, None))?;
    Ok((name.to_owned(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(words: &[&str]) -> Values {
        let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        match Command::parse(&arguments, &Environment::of(&[])) {
            Ok(Command::Warm(values)) => values,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_warmers_letters_are_not_the_builders() {
        for start in [&["/kaniko/warmer"][..], &["zuwai", "warmer"]] {
            let words =
                ["-i", "a", "--image=b", "-d", "Dockerfile", "-c", "/kept", "-f", "--customPlatform=linux/arm64"];
            let values = values(&[start, &words].concat());
            assert_eq!(values.list("image"), ["a", "b"]);
            assert_eq!((values.text("dockerfile"), values.text("cache-dir")), (Some("Dockerfile"), Some("/kept")));
            assert!(values.switch("force"));
            assert_eq!(values.text("custom-platform"), Some("linux/arm64"));
        }
    }
}
