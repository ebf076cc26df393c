//! What was typed: which command, which flags, with which values. What it means is decided in [`request`](crate::request).
//!
//! The rules are those of pflag, which Kaniko uses: `--flag value`, `--flag=value`, `-f value`; a switch takes its value
//! only behind `=`; of a flag that is given twice the last one counts, unless it is a list; a list is not split at
//! commas. Arguments that are empty are passed over: shell plugins send them.

mod given;

use std::ffi::OsString;

use clap::builder::{Command as Parser, StyledStr};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction};

use crate::environment::Environment;
use crate::flags::{FLAGS, Flag, Group, Kind, State};
use crate::{values, warmer};

pub(crate) use given::Values;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Build an image.
    Build(Values),
    /// Push what was stored before: a path and names.
    Push(Values, Vec<String>),
    /// Keep a credential.
    Login(Login),
    /// Forget a credential: at most one registry.
    Logout(Values, Vec<String>),
    /// Fetch base images before anybody builds on them.
    Warm(Values),
    /// Tell what this place allows.
    Doctor(Values),
    /// Print the version.
    Version,
    /// Print this help.
    Help(String),
}

/// A command line that cannot be obeyed. Nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct UsageError {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl UsageError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl Command {
    /// Reads the arguments, the first of which is the program's own name. Variables that stand for a flag are taken
    /// from `environment`.
    pub(crate) fn parse(arguments: &[OsString], environment: &Environment) -> Result<Self, UsageError> {
        let program = program_name(arguments);
        if program == "warmer" || arguments.get(1).is_some_and(|word| word == "warmer") {
            return warmer::parse(arguments, &program, environment);
        }
        let is_login = arguments.get(1).is_some_and(|word| word == "login");
        let mut parser = parser(&program);
        if is_login {
            parser = parser.args(login_arguments());
        }
        let matches = match parser.try_get_matches_from_mut(arguments) {
            Ok(matches) => matches,
            Err(error) if error.kind() == ErrorKind::DisplayHelp => return Ok(Self::Help(help(&mut parser))),
            Err(error) => return Err(misuse(&error)),
        };
        let words: Vec<&String> =
            matches.get_many::<String>(WORDS).into_iter().flatten().filter(|word| !word.is_empty()).collect();
        let mut values = Values::default();
        for flag in FLAGS {
            let given = matches.get_many::<String>(flag.name).into_iter().flatten().cloned();
            values.take(flag, given.collect())?;
        }
        let mut words = words.into_iter();
        let command = words.next().map_or("build", String::as_str);
        match command {
            // As docker build has it: the context stands without a flag.
            "build" => {
                if let Some(context) = words.next() {
                    if values.text("context").is_some() {
                        return Err(stray(context, &program).hint("the context is given already, by --context"));
                    }
                    values.take(Flag::named("context"), vec![context.clone()])?;
                }
            }
            "push" => {
                values.check_belong("push", &[&LOGIN_FLAGS[..], &PUSH_FLAGS].concat())?;
                values.take_environment(environment)?;
                return Ok(Self::Push(values, words.cloned().collect()));
            }
            "login" if is_login => {
                values.check_belong("login", &LOGIN_FLAGS)?;
                let text = |name: &str| matches.get_one::<String>(name).cloned();
                return Ok(Self::Login(Login {
                    words: words.cloned().collect(),
                    username: text("username"),
                    password: text("password"),
                    password_stdin: matches.get_flag("password-stdin"),
                    values,
                }));
            }
            "logout" => {
                values.check_belong("logout", &LOGIN_FLAGS)?;
                return Ok(Self::Logout(values, words.cloned().collect()));
            }
            "doctor" => return Ok(Self::Doctor(values)),
            "version" => return Ok(Self::Version),
            "help" => return Ok(Self::Help(help(&mut parser))),
            "login" | "bake" | "plan" | "completion" => {
                return Err(UsageError::new(format!("{program} {command} is not supported yet")));
            }
            word => return Err(stray(word, &program)),
        }
        if let Some(word) = words.next() {
            return Err(stray(word, &program));
        }
        values.take_environment(environment)?;
        values.check_refused()?;
        Ok(Self::Build(values))
    }
}

/// `login`, as it was typed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) values: Values,
    pub(crate) words: Vec<String>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) password_stdin: bool,
}

fn login_arguments() -> [Arg; 3] {
    let text =
        |name: &'static str, letter, value| Arg::new(name).long(name).short(letter).num_args(1).value_name(value);
    [
        text("username", 'u', "USER").help("The user (login)"),
        text("password", 'p', "PASSWORD")
            .help("The password; others on this machine see it: --password-stdin is better"),
        Arg::new("password-stdin").long("password-stdin").action(ArgAction::SetTrue).help("Read the password (login)"),
    ]
}

/// Flags of `login` and `logout`.
const LOGIN_FLAGS: [&str; 10] = [
    "kaniko-dir",
    "verbosity",
    "log-format",
    "log-timestamp",
    "insecure",
    "insecure-registry",
    "skip-tls-verify",
    "skip-tls-verify-registry",
    "registry-certificate",
    "registry-client-cert",
];

/// Flags of `push` besides those of `login`; what is said of pulls and mirrors is accepted, for Kaniko takes it.
const PUSH_FLAGS: [&str; 12] = [
    "destination",
    "source-image",
    "push-retry",
    "push-ignore-immutable-tag-errors",
    "skip-push-permission-check",
    "credential-helpers",
    "insecure-pull",
    "skip-tls-verify-pull",
    "image-download-retry",
    "registry-map",
    "registry-mirror",
    "skip-default-registry-fallback",
];

/// The name of the list of arguments that are no flags.
const WORDS: &str = "words";

/// What the program is called: the last part of the path it was started as.
pub(crate) fn program_name(arguments: &[OsString]) -> String {
    let path = arguments.first().map(std::path::Path::new);
    let name = path.and_then(std::path::Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| env!("CARGO_PKG_NAME").to_owned())
}

fn parser(program: &str) -> Parser {
    let words = Arg::new(WORDS).num_args(0..).hide(true).action(ArgAction::Append);
    let mut parser = Parser::new(program.to_owned())
        .about("Builds a container image from a Dockerfile, without a daemon and without privileges")
        .override_usage(format!(
            "{program} [FLAGS]\n       {program} build [FLAGS] [CONTEXT]\n       {program} push LAYOUT-OR-ARCHIVE IMAGE... \
             [FLAGS]\n       {program} login [REGISTRY] -u USER --password-stdin [FLAGS]\n       {program} logout \
             [REGISTRY]\n       {program} doctor\n       {program} version"
        ))
        .term_width(100)
        .disable_help_flag(true)
        .arg(words);
    for flag in FLAGS {
        parser = parser.arg(argument(flag));
    }
    let help = Arg::new("help").long("help").short('h').action(ArgAction::Help).help("Print this help");
    parser.arg(help.help_heading(Group::Logging.title()))
}

pub(crate) fn argument(flag: &'static Flag) -> Arg {
    let mut argument = Arg::new(flag.name).long(flag.name).action(ArgAction::Append).help(help_of(flag));
    argument = argument.help_heading(flag.group.title()).hide(flag.group == Group::Old);
    if let Some(letter) = flag.short {
        argument = argument.short(letter);
    }
    let name = match flag.kind {
        Kind::Switch(_) => {
            return argument
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("true|false")
                .hide_possible_values(true);
        }
        Kind::Text(name) | Kind::List(name) => name.to_owned(),
        Kind::Word(words) => words.join("|"),
        Kind::Count | Kind::Integer => "NUMBER".to_owned(),
        Kind::Duration => "DURATION".to_owned(),
    };
    argument.num_args(1).allow_hyphen_values(true).value_name(name)
}

fn help_of(flag: &Flag) -> StyledStr {
    match flag.state {
        State::Works | State::Alias(_) => flag.help.into(),
        State::Accepted(why) => format!("{} (accepted without effect: {why})", flag.help).into(),
        State::Refused(_) => format!("{} (not supported yet)", flag.help).into(),
    }
}

pub(crate) fn help(parser: &mut Parser) -> String {
    parser.render_help().to_string()
}

/// What the parser could not read, in one line.
pub(crate) fn misuse(error: &clap::Error) -> UsageError {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let tips: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("tip: ")).collect();
    let error = UsageError::new(line);
    if tips.is_empty() { error.hint("--help lists every flag") } else { error.hint(tips.join("; ")) }
}

fn stray(word: &str, program: &str) -> UsageError {
    let error = UsageError::new(format!("unknown command {word:?} for {program:?}"));
    if values::boolean(word).is_some() {
        return error.hint(format!("the value of a switch stands behind an equals sign, as in --cache={word}"));
    }
    error.hint("a value that holds blanks must be quoted, as in --label \"key=two words\"")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn parse_with(words: &[&str], variables: &[(&str, &str)]) -> Result<Command, UsageError> {
        let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        Command::parse(&arguments, &Environment::of(variables))
    }

    fn parse(words: &[&str]) -> Result<Command, UsageError> {
        parse_with(&[&["/kaniko/executor"], words].concat(), &[])
    }

    pub(crate) fn values(words: &[&str]) -> Values {
        let Ok(Command::Build(values)) = parse(words) else { panic!("{words:?} is no build: {:?}", parse(words)) };
        values
    }

    fn message(words: &[&str]) -> String {
        let error = parse(words).expect_err("it was accepted");
        error.hint.map_or(error.message.clone(), |hint| format!("{} ({hint})", error.message))
    }

    #[test]
    fn values_stand_behind_an_equals_sign_or_a_blank() {
        for words in [
            &["--dockerfile=a/b"][..],
            &["--dockerfile", "a/b"],
            &["-f", "a/b"],
            &["-f=a/b"],
            &["-fa/b"],
            &["--dockerfile=x", "-f", "a/b"],
            &["build", "-f", "a/b"],
            &["-f", "a/b", "build"],
        ] {
            assert_eq!(values(words).text("dockerfile"), Some("a/b"), "{words:?}");
        }
        assert_eq!(values(&["--dockerfile", "--odd"]).text("dockerfile"), Some("--odd"));
        assert_eq!(values(&["--build-arg", "a=--b"]).list("build-arg"), ["a=--b"]);
    }

    #[test]
    fn a_list_grows_and_is_not_split() {
        let values =
            values(&["-d", "a:1", "--destination=b:2", "--destination", "c,d", "--label=a=b, c", "--label=x=1=2"]);
        assert_eq!(values.list("destination"), ["a:1", "b:2", "c,d"]);
        assert_eq!(values.list("label"), ["a=b, c", "x=1=2"]);
    }

    #[test]
    fn a_switch_takes_its_value_only_behind_an_equals_sign() {
        for (words, expected) in [
            (&[][..], false),
            (&["--no-push"], true),
            (&["--no-push=true"], true),
            (&["--no-push=1"], true),
            (&["--no-push=t"], true),
            (&["--no-push=false"], false),
            (&["--no-push", "--no-push=F"], false),
        ] {
            assert_eq!(values(words).switch("no-push"), expected, "{words:?}");
        }
        assert_eq!(message(&["--no-push=yes"]), "--no-push: \"yes\" is not true or false");
        assert_eq!(
            message(&["--cache", "false"]),
            "unknown command \"false\" for \"executor\" (the value of a switch stands behind an equals sign, as in \
             --cache=false)"
        );
        assert!(
            values(&[]).switch("compressed-caching")
                && !values(&["--compressed-caching=false"]).switch("compressed-caching")
        );
    }

    #[test]
    fn empty_words_are_passed_over_and_others_are_not() {
        let values_of = values;
        let values = values(&["", "--no-push", "", "--target", "", ""]);
        assert!(values.switch("no-push"));
        assert_eq!(values.text("target"), None);
        assert_eq!(
            message(&["--label", "a=two", "words"]),
            "unknown command \"words\" for \"executor\" (a value that holds blanks must be quoted, as in --label \"key=two \
             words\")"
        );
        assert_eq!(values_of(&["build", "--no-push", "here"]).text("context"), Some("here"));
        assert!(message(&["build", "here", "now"]).starts_with("unknown command \"now\""));
        assert!(message(&["build", "-c", "here", "now"]).contains("by --context"));
        assert!(message(&["here"]).starts_with("unknown command \"here\""));
    }

    #[test]
    fn an_unknown_flag_is_named_with_the_nearest_one() {
        assert_eq!(
            message(&["--destinaton=a"]),
            "unexpected argument '--destinaton' found (a similar argument exists: '--destination')"
        );
        assert!(message(&["--nonsense"]).starts_with("unexpected argument '--nonsense' found"));
        assert!(
            message(&["--skip-tls-verify-registry"]).contains("a value is required for '--skip-tls-verify-registry")
        );
    }

    #[test]
    fn values_of_the_wrong_kind_are_named() {
        for (words, expected) in [
            (&["--push-retry=x"][..], "--push-retry: \"x\" is not a number"),
            (&["--push-retry=-1"], "--push-retry: \"-1\" is not a number"),
            (&["--cache-ttl=1d"], "--cache-ttl: \"1d\" is not a duration such as 336h or 1h30m"),
            (&["--snapshot-mode=fast"], "--snapshot-mode: \"fast\" is not full, redo or time"),
            (&["--compression=xz"], "--compression: \"xz\" is not gzip or zstd"),
            (&["--log-format=xml"], "not a valid log format: \"xml\", please specify one of (text, color, json)"),
        ] {
            assert_eq!(message(words), expected);
        }
        assert_eq!(values(&["--compression-level", "-1"]).text("compression-level"), Some("-1"));
    }

    #[test]
    fn a_refused_flag_is_an_error_unless_it_asks_for_nothing() {
        for flag in FLAGS.iter().filter(|flag| matches!(flag.state, State::Refused(_))) {
            let (asked, not) = match flag.kind {
                Kind::Switch(_) => (format!("--{}", flag.name), format!("--{}=false", flag.name)),
                _ => (format!("--{}=x", flag.name), format!("--{}=", flag.name)),
            };
            assert!(message(&[&asked]).starts_with(&format!("--{} is not supported yet: ", flag.name)));
            values(&[&not]);
        }
    }

    #[test]
    fn every_flag_that_is_not_refused_is_accepted() {
        for flag in FLAGS.iter().filter(|flag| !matches!(flag.state, State::Refused(_))) {
            let value = match flag.kind {
                Kind::Switch(_) => "true",
                Kind::Text(_) | Kind::List(_) => "a=b",
                Kind::Word(words) => words[0],
                Kind::Count | Kind::Integer => "3",
                Kind::Duration => "24h",
            };
            values(&[&format!("--{}={value}", flag.name)]);
        }
    }

    #[test]
    fn old_spellings_stand_for_the_new_ones_and_are_told() {
        let values = values(&[
            "--tarPath=a.tar",
            "--snapshotMode",
            "redo",
            "--customPlatform=linux/arm64",
            "--whitelist-var-run=false",
        ]);
        assert_eq!(values.text("tar-path"), Some("a.tar"));
        assert_eq!(values.text("snapshot-mode"), Some("redo"));
        assert_eq!(values.text("custom-platform"), Some("linux/arm64"));
        assert!(!values.switch("ignore-var-run"));
        assert_eq!(values.warnings.len(), 4);
        assert_eq!(values.warnings[0], "--tarPath is an old spelling: write --tar-path");
    }

    #[test]
    fn variables_stand_for_flags() {
        let build = |words: &[&str], variables: &[(&str, &str)]| {
            let words = [&["executor"], words].concat();
            match parse_with(&words, variables) {
                Ok(Command::Build(values)) => Ok(values),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.to_string()),
            }
        };
        assert!(build(&[], &[("KANIKO_NO_PUSH", "true")]).unwrap().switch("no-push"));
        assert!(!build(&["--no-push"], &[("KANIKO_NO_PUSH", "false")]).unwrap().switch("no-push"));
        assert_eq!(
            build(&[], &[("KANIKO_NO_PUSH", "x")]).unwrap_err(),
            "KANIKO_NO_PUSH: \"x\" is neither true nor false"
        );
        let values =
            build(&["--registry-mirror=a"], &[("KANIKO_REGISTRY_MIRROR", "b"), ("KANIKO_REGISTRY_MAP", "c=d")]);
        let values = values.unwrap();
        assert_eq!(values.list("registry-mirror"), ["a", "b"]);
        assert_eq!(values.list("registry-map"), ["c=d"]);
        assert!(build(&[], &[("KANIKO_CLEANUP", "1")]).unwrap().switch("cleanup"));
        assert!(!build(&["--cleanup=false"], &[("KANIKO_CLEANUP", "1")]).unwrap().switch("cleanup"));
        assert!(build(&[], &[("KANIKO_CLEANUP", "")]).is_ok());
    }

    #[test]
    fn push_and_login_take_their_own_flags_alone() {
        let Ok(Command::Push(values, words)) = parse(&["push", "a.tar", "r/x:1", "-d", "r/y:1", "--push-retry=2"])
        else {
            panic!("no push")
        };
        assert_eq!(
            (words, values.list("destination")),
            (vec!["a.tar".to_owned(), "r/x:1".to_owned()], &["r/y:1".to_owned()][..])
        );
        assert_eq!(message(&["push", "a", "--label=a=b"]), "--label is no flag of push (it belongs to a build)");
        let Ok(Command::Login(login)) =
            parse(&["login", "r.test", "-u", "me", "--password-stdin", "--insecure-registry=r"])
        else {
            panic!("no login")
        };
        assert_eq!(
            (login.words, login.username, login.password),
            (vec!["r.test".to_owned()], Some("me".to_owned()), None)
        );
        assert!(login.password_stdin);
        assert!(message(&["--username=me"]).starts_with("unexpected argument '--username' found"));
        assert!(matches!(parse(&["logout"]), Ok(Command::Logout(..))));
    }

    #[test]
    fn commands_are_known_by_name_and_need_nothing_else() {
        assert_eq!(parse(&["version"]).unwrap(), Command::Version);
        assert_eq!(parse(&["--no-push", "version"]).unwrap(), Command::Version);
        assert!(matches!(parse(&["doctor"]).unwrap(), Command::Doctor(_)));
        assert!(matches!(parse(&["help"]).unwrap(), Command::Help(_)));
        let Command::Help(text) = parse(&["--help"]).unwrap() else { panic!("no help") };
        for flag in FLAGS {
            assert_eq!(text.contains(&format!("--{}", flag.name)), flag.group != Group::Old, "--{}", flag.name);
        }
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}
