//! What the flags and the environment ask for, as the values that the libraries take. Whatever cannot be had is said
//! here, before anything is downloaded.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use zuwai_builder::{BuildRequest, ContextRequest, NamedContext, OutputRequest, TextPlace, context};
use zuwai_registry::{ClientOptions, Compression, ImageFormat, Platform, Reference, TransportOptions};
use zuwai_snapshot::Ignore;

use crate::args::{UsageError, Values};
use crate::environment::Environment;
use crate::isolation::Asked;
use crate::progress::{Format, LogOptions, Verbosity};
use crate::values::pair;
use crate::{cache_options, feature_flags, git_options, registry_options, secrets};

/// Everything that is wanted.
pub(crate) struct Wanted {
    pub(crate) build: BuildRequest,
    pub(crate) client: ClientOptions,
    /// Where commands run.
    pub(crate) isolation: Asked,
    /// `--force`.
    pub(crate) force: bool,
    /// Paths of the container that are no part of any image, as the user named them.
    pub(crate) ignored: Vec<PathBuf>,
    /// The built-in sources of credentials that are asked, in this order.
    pub(crate) credential_helpers: Vec<&'static str>,
    /// What the user should be told, one sentence each.
    pub(crate) warnings: Vec<String>,
}

/// What is told, and how. Wanted first, so that everything else can be told so.
pub(crate) fn log_options(values: &Values, environment: &Environment, terminal: bool) -> LogOptions {
    let colour = environment.get("NO_COLOR").is_none();
    let format = match values.text("log-format") {
        Some("json") => Format::Json,
        Some("text") => Format::Text,
        Some(_) => Format::Short { colour },
        None => Format::Short { colour: colour && terminal && environment.text("TERM") != Some("dumb") },
    };
    LogOptions {
        format,
        verbosity: values.text("verbosity").map_or(Verbosity::Info, Verbosity::named),
        timestamp: values.switch("log-timestamp"),
        explain_cache: values.switch("explain-cache"),
    }
}

/// Makes sense of a command line.
pub(crate) fn wanted(
    values: &Values,
    environment: &Environment,
    current_directory: &Path,
    transport: TransportOptions,
) -> Result<Wanted, UsageError> {
    let mut warnings = values.warnings.clone();
    let (destinations, push) = destinations(values)?;
    let outputs = outputs(values, &destinations)?;
    if !push && !values.switch("no-push") && !outputs.any() {
        return Err(UsageError::new("nothing would become of the image: --tag names it and pushes it nowhere")
            .hint("write it with --tar-path or --oci-layout-path, or push it with --destination in place of --tag"));
    }
    let (compression, image_format) = compression(values, outputs.tar_path.is_some())?;
    let annotations = pairs(values, "annotation")?;
    let image_format = with_annotations(image_format, &annotations)?;
    let context = ContextRequest {
        location: values.text("context").unwrap_or("/workspace/").to_owned(),
        sub_path: values.text("context-sub-path").map(PathBuf::from),
        git: git_options::git(values, environment)?,
        transport: transport.clone(),
        standard_input: io::stdin().as_fd().try_clone_to_owned().ok().map(|input| Arc::new(File::from(input))),
    };
    context::check(&context).map_err(|error| {
        let refused = UsageError::new(format!("--context: {error}"));
        error.hint().map_or_else(|| UsageError::new(format!("--context: {error}")), |hint| refused.hint(hint))
    })?;
    let contexts = contexts(values, &context)?;
    let cache_destinations = destinations.clone();
    let build = BuildRequest {
        dockerfile: dockerfile(values)?,
        current_directory: current_directory.to_owned(),
        context,
        contexts,
        build_args: with_epoch(build_args(values, environment, &mut warnings)?, environment),
        secrets: secrets::secrets(values, environment)?,
        agents: secrets::agents(values, environment)?,
        labels: pairs(values, "label")?,
        target: target(values)?,
        platform: platform(values)?,
        platform_given: values.text("custom-platform").is_some(),
        snapshot_mode: values
            .text("snapshot-mode")
            .map_or(Ok(zuwai_snapshot::SnapshotMode::default()), str::parse)
            .map_err(|error| UsageError::new(format!("--snapshot-mode: {error}")))?,
        watch_folders: values.switch("watch-folders"),
        single_snapshot: values.switch("single-snapshot"),
        materialize: values.switch("materialize"),
        compression,
        image_format,
        destinations,
        push,
        check_push_permission: !values.switch("skip-push-permission-check"),
        outputs,
        created: SystemTime::now(),
        reproducible: values.switch("reproducible"),
        annotations,
        cache: cache_options::cache(values, &cache_destinations)?,
        base_images: cache_options::base_images(values),
    };
    let client = registry_options::client(values, transport)?;
    unread_variables(environment, &mut warnings);
    unread_arguments(&build.build_args, &mut warnings);
    Ok(Wanted {
        build,
        client,
        isolation: Asked::named(values.text("isolation")),
        force: values.switch("force"),
        ignored: ignored(values)?,
        credential_helpers: registry_options::credential_helpers(values)?,
        warnings,
    })
}

fn dockerfile(values: &Values) -> Result<PathBuf, UsageError> {
    let name = values.text("dockerfile").unwrap_or("Dockerfile");
    if name.starts_with("http://") || name.starts_with("https://") {
        return Err(UsageError::new("--dockerfile: a Dockerfile from a web address is not supported yet")
            .hint("fetch it first and name the file"));
    }
    Ok(PathBuf::from(name))
}

/// What the image is called, and whether it is pushed there.
fn destinations(values: &Values) -> Result<(Vec<Reference>, bool), UsageError> {
    let parse = |flag: &str, text: &String| {
        let reference: Reference = text.parse().map_err(|error| UsageError::new(format!("--{flag}: {error}")))?;
        if reference.digest().is_some() {
            return Err(UsageError::new(format!("--{flag}: {text} names a digest, and an image is pushed to a tag")));
        }
        Ok(reference)
    };
    let all = |flag: &str| values.list(flag).iter().map(|text| parse(flag, text)).collect::<Result<Vec<_>, _>>();
    let (destinations, tags) = (all("destination")?, all("tag")?);
    match (destinations.is_empty(), tags.is_empty()) {
        (false, false) => {
            Err(UsageError::new("--tag names an image that is pushed nowhere, and --destination one that is pushed")
                .hint("give all names as --destination, or all as --tag"))
        }
        (true, false) => Ok((tags, false)),
        (true, true) if !values.switch("no-push") => {
            Err(UsageError::new("you must provide --destination, or use --no-push"))
        }
        _ => Ok((destinations, !values.switch("no-push"))),
    }
}

fn outputs(values: &Values, destinations: &[Reference]) -> Result<OutputRequest, UsageError> {
    let path = |name: &str| values.text(name).map(PathBuf::from);
    let place = |name: &str| {
        let parsed = values.text(name).map(str::parse::<TextPlace>).transpose();
        parsed.map_err(|error| UsageError::new(format!("--{name}: {error}")))
    };
    for name in ["image-name-with-digest-file", "image-name-tag-with-digest-file"] {
        if values.text(name).is_some() && destinations.is_empty() {
            return Err(UsageError::new(format!("--{name}: the file names every --destination, and there is none")));
        }
    }
    Ok(OutputRequest {
        tar_path: path("tar-path"),
        oci_layout_path: path("oci-layout-path"),
        digest_file: place("digest-file")?,
        image_name_with_digest_file: place("image-name-with-digest-file")?,
        image_name_tag_with_digest_file: place("image-name-tag-with-digest-file")?,
    })
}

/// The compression and the manifest's family, which go together: zstd is known to OCI images alone, and the archive that
/// docker loads is of docker's family.
fn compression(values: &Values, archive: bool) -> Result<(Compression, Option<ImageFormat>), UsageError> {
    let zstd = values.text("compression") == Some("zstd");
    let format =
        values.text("image-format").map(|word| if word == "oci" { ImageFormat::Oci } else { ImageFormat::Docker });
    let conflict = |one: &str, other: &str| {
        Err(UsageError::new(format!("{one} and {other} cannot be had together"))
            .hint("zstd needs --image-format=oci, and --tar-path writes docker's own format"))
    };
    match format {
        Some(ImageFormat::Docker) if zstd => return conflict("--compression=zstd", "--image-format=docker"),
        Some(ImageFormat::Oci) if archive => return conflict("--image-format=oci", "--tar-path"),
        _ if zstd && archive => return conflict("--compression=zstd", "--tar-path"),
        _ => {}
    }
    // Kaniko's -1, and everything else that is not above zero, is the default.
    let level = values.text("compression-level").and_then(|text| text.parse::<i32>().ok()).filter(|level| *level > 0);
    let highest = if zstd { 22 } else { 9 };
    if let Some(level) = level.filter(|level| *level > highest) {
        return Err(UsageError::new(format!("--compression-level: {level} is not a level: the highest is {highest}")));
    }
    let compression = match (zstd, level) {
        (true, Some(level)) => Compression::Zstd { level },
        (true, None) => Compression::ZSTD,
        (false, Some(level)) => Compression::Gzip { level: level.unsigned_abs() },
        (false, None) => Compression::GZIP,
    };
    Ok((compression, if zstd { Some(ImageFormat::Oci) } else { format }))
}

pub(crate) fn build_args(
    values: &Values,
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Result<Vec<(String, String)>, UsageError> {
    let mut arguments = Vec::new();
    for text in values.list("build-arg") {
        match (pair(text), environment.value(text)) {
            (Some((name, value)), _) => arguments.push((name.to_owned(), value.to_owned())),
            (None, _) if text.is_empty() || text.starts_with('=') => {
                return Err(UsageError::new(format!("--build-arg: {text:?} is not NAME=VALUE")));
            }
            (None, Some(value)) => arguments.push((text.clone(), value)),
            (None, None) => warnings.push(format!(
                "--build-arg {text}: there is no such variable in the environment, so the default of ARG {text} holds"
            )),
        }
    }
    Ok(arguments)
}

/// A `SOURCE_DATE_EPOCH` of the environment is a build argument, too, as docker buildx has it; one that was given wins.
fn with_epoch(mut arguments: Vec<(String, String)>, environment: &Environment) -> Vec<(String, String)> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    if let Some(value) = environment.text(NAME).filter(|_| !arguments.iter().any(|(name, _)| name == NAME)) {
        arguments.push((NAME.to_owned(), value.to_owned()));
    }
    arguments
}

/// Every `--build-context`.
fn contexts(values: &Values, main: &ContextRequest) -> Result<Vec<NamedContext>, UsageError> {
    let parse = |text: &String| {
        NamedContext::parse(text, main).map_err(|error| {
            let hint = error.hint();
            let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
            let text = causes.fold(format!("--build-context: {error}"), |text, cause| format!("{text}: {cause}"));
            let refused = UsageError::new(text);
            hint.into_iter().fold(refused, UsageError::hint)
        })
    };
    values.list("build-context").iter().map(parse).collect()
}

/// The `key=value` of a flag that may be repeated.
fn pairs(values: &Values, flag: &str) -> Result<Vec<(String, String)>, UsageError> {
    let split = |text: &String| {
        let (key, value) = pair(text)
            .ok_or_else(|| UsageError::new(format!("--{flag}: {flag}s must be of the form key=value, got {text}")))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    values.list(flag).iter().map(split).collect()
}

/// Docker's manifests have no annotations: a base image with one gives an image with OCI's when there are some.
fn with_annotations(
    format: Option<ImageFormat>,
    annotations: &[(String, String)],
) -> Result<Option<ImageFormat>, UsageError> {
    match format {
        _ if annotations.is_empty() => Ok(format),
        Some(ImageFormat::Docker) => {
            let text = "--annotation and --image-format=docker cannot be had together";
            Err(UsageError::new(text).hint("a --label reaches the config of either format"))
        }
        _ => Ok(Some(ImageFormat::Oci)),
    }
}

fn target(values: &Values) -> Result<Option<String>, UsageError> {
    let mut names =
        values.list("target").iter().flat_map(|text| text.split(',')).map(str::trim).filter(|name| !name.is_empty());
    match (names.next(), names.next()) {
        (Some(_), Some(_)) => Err(UsageError::new("--target: more than one stage is not supported yet")
            .hint("build the stages one after the other")),
        (name, _) => Ok(name.map(str::to_owned)),
    }
}

pub(crate) fn platform(values: &Values) -> Result<Platform, UsageError> {
    let Some(text) = values.text("custom-platform") else { return Ok(Platform::host()) };
    text.parse().map_err(|error| UsageError::new(format!("--custom-platform: {error}")))
}

pub(crate) fn ignored(values: &Values) -> Result<Vec<PathBuf>, UsageError> {
    let mut paths = Vec::new();
    for text in values.list("ignore-path").iter().filter(|text| !text.is_empty()) {
        if !text.starts_with('/') {
            return Err(
                UsageError::new(format!("--ignore-path: {text} is not absolute")).hint(format!("write /{text}"))
            );
        }
        if has_wildcards(text) {
            Ignore::default()
                .with_patterns([text.as_str()])
                .map_err(|error| UsageError::new(format!("--ignore-path: {error}")))?;
        }
        paths.push(PathBuf::from(text));
    }
    // What is mounted below /var/run is never touched. The rest of it belongs to the image, as docker build has it.
    if values.given_switch("ignore-var-run") == Some(true) {
        paths.push(PathBuf::from("/var/run"));
    }
    Ok(paths)
}

/// Whether a path of `--ignore-path` is one with wildcards.
pub(crate) fn has_wildcards(path: &str) -> bool {
    path.contains(['*', '?', '[', '\\'])
}

/// Variables that change something in Kaniko and nothing here.
fn unread_variables(environment: &Environment, warnings: &mut Vec<String>) {
    warnings.extend(feature_flags::warning(environment));
    for (name, why) in [
        ("KANIKO_PRINT_PLAN", "there is no plan to print yet"),
        ("KANIKO_TELEMETRY_ENDPOINT", "nothing is reported to anybody"),
        ("STACKLOG_PATH", "there is no stack log"),
    ] {
        if environment.get(name).is_some() {
            warnings.push(format!("{name} has no effect: {why}"));
        }
    }
}

/// Build arguments that tell `BuildKit` how to build, and have nothing to tell here. The others of their kind work:
/// `SOURCE_DATE_EPOCH` and `BUILDKIT_CACHE_MOUNT_NS`.
fn unread_arguments(given: &[(String, String)], warnings: &mut Vec<String>) {
    for (name, why) in [
        ("BUILDKIT_INLINE_CACHE", "layers are kept where --cache-repo says"),
        ("BUILDKIT_MULTI_PLATFORM", "an image is for one platform"),
        ("BUILDKIT_SANDBOX_HOSTNAME", "commands have the name of the container, or a name without meaning"),
        ("BUILDKIT_SYNTAX", "there is one frontend, and it is built in"),
        ("BUILDKIT_DOCKERFILE_CHECK", "there are no checks to choose"),
        ("BUILDKIT_SBOM_SCAN_CONTEXT", "nothing is scanned"),
        ("BUILDKIT_SBOM_SCAN_STAGE", "nothing is scanned"),
        ("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "a context out of git has its .git"),
    ] {
        if given.iter().any(|(given, _)| given == name) {
            warnings.push(format!("--build-arg {name} has no effect: {why}"));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::args::Command;

    pub(crate) fn wish(words: &[&str], variables: &[(&str, &str)]) -> Result<Wanted, UsageError> {
        let environment = Environment::of(variables);
        let arguments: Vec<OsString> = [&["zuwai"], words].concat().iter().map(OsString::from).collect();
        let Command::Build(values) = Command::parse(&arguments, &environment)? else { panic!("{words:?}") };
        wanted(&values, &environment, Path::new("/here"), TransportOptions::default())
    }

    pub(crate) fn good(words: &[&str], variables: &[(&str, &str)]) -> Wanted {
        wish(&[&["--no-push"], words].concat(), variables).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub(crate) fn message(words: &[&str]) -> String {
        wish(words, &[]).map(drop).expect_err("it was accepted").to_string()
    }

    #[test]
    fn what_is_not_said_is_as_in_kaniko() {
        let build = good(&[], &[]).build;
        assert_eq!(build.context.location, "/workspace/");
        assert_eq!(build.dockerfile, Path::new("Dockerfile"));
        assert_eq!(build.current_directory, Path::new("/here"));
        assert_eq!((build.target, build.image_format, build.push), (None, None, false));
        assert_eq!(build.compression, Compression::GZIP);
        assert!(build.check_push_permission);
    }

    #[test]
    fn the_arguments_of_the_main_job_are_understood() {
        let wanted = wish(
            &[
                "--dockerfile=Dockerfile",
                "--context=git://auth:t0ken@git.example.com/test/test-application.git",
                "--git=branch=production",
                "--destination=registry.example.com/test-application:1.0",
            ],
            &[],
        );
        let build = wanted.unwrap_or_else(|error| panic!("{error}")).build;
        assert_eq!(build.context.git.branch.as_deref(), Some("production"));
        assert_eq!(build.destinations[0].to_string(), "registry.example.com/test-application:1.0");
        assert!(build.push);
    }

    #[test]
    fn a_push_needs_a_destination_that_is_a_tag() {
        assert_eq!(message(&[]), "you must provide --destination, or use --no-push");
        let digest = format!("a@sha256:{}", "0".repeat(64));
        assert!(message(&["-d", &digest]).ends_with("names a digest, and an image is pushed to a tag"));
        let capital = message(&["--destination=harbor.example.com/testApplication:1.0"]);
        assert!(capital.starts_with("--destination: "), "{capital}");
        assert!(
            capital.contains("lower case") && capital.contains("harbor.example.com/testapplication:1.0"),
            "{capital}"
        );
        assert!(message(&["--no-push", "--image-name-with-digest-file=x"]).contains("there is none"));
    }

    #[test]
    fn a_tag_names_an_image_that_is_written_and_not_pushed() {
        let build =
            wish(&["build", "-t", "app:1", "--tar-path", "app.tar", "."], &[]).unwrap_or_else(|e| panic!("{e}")).build;
        assert_eq!((build.push, build.context.location.as_str()), (false, "."));
        assert_eq!(build.destinations[0].to_string(), "index.docker.io/library/app:1");
        assert!(message(&["-t", "app:1"]).starts_with("nothing would become of the image"));
        assert!(message(&["-t", "app:1", "-d", "app:2"]).starts_with("--tag names an image"));
        assert_eq!(good(&["--isolation=namespace"], &[]).isolation, Asked::Namespace);
    }

    #[test]
    fn build_args_and_labels_are_split_at_the_first_equals_sign() {
        let words = [
            "--build-arg=a=b=c",
            "--build-arg",
            "HOME",
            "--build-arg=EMPTY",
            "--build-arg=NONE",
            "--label=k=two words",
        ];
        let wanted = good(&words, &[("HOME", "/root"), ("EMPTY", "")]);
        let owned = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(wanted.build.build_args, [owned("a", "b=c"), owned("HOME", "/root"), owned("EMPTY", "")]);
        assert_eq!(wanted.build.labels, [owned("k", "two words")]);
        assert_eq!(wanted.warnings.len(), 1, "{:?}", wanted.warnings);
        assert!(wanted.warnings[0].starts_with("--build-arg NONE: there is no such variable"));
        assert_eq!(message(&["--no-push", "--label=x"]), "--label: labels must be of the form key=value, got x");
        assert_eq!(message(&["--no-push", "--build-arg=="]), "--build-arg: \"=\" is not NAME=VALUE");
    }

    #[test]
    fn a_time_of_the_environment_is_a_build_argument_that_a_given_one_beats() {
        let arguments = |words: &[&str]| good(words, &[("SOURCE_DATE_EPOCH", "5")]).build.build_args;
        let epoch = |text: &str| vec![("SOURCE_DATE_EPOCH".to_owned(), text.to_owned())];
        assert_eq!(arguments(&[]), epoch("5"));
        assert_eq!(arguments(&["--build-arg=SOURCE_DATE_EPOCH=7"]), epoch("7"));
        assert!(good(&[], &[]).build.build_args.is_empty());
        assert!(good(&["--reproducible"], &[]).build.reproducible);
    }

    #[test]
    fn named_contexts_are_read_and_what_is_none_is_refused() {
        let contexts = good(&["--build-context=a=b", "--build-context", "c=docker-image://d:1"], &[]).build.contexts;
        assert_eq!(contexts.iter().map(|context| context.name.as_str()).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(message(&["--no-push", "--build-context=a"]), "--build-context: \"a\" is not NAME=VALUE");
        assert_eq!(
            message(&["--no-push", "--build-context=a=s3://b/c"]),
            "--build-context: a: a build context from s3:// is not supported yet"
        );
    }

    #[test]
    fn build_args_that_steer_buildkit_alone_are_told_of() {
        let wanted = good(&["--build-arg=BUILDKIT_INLINE_CACHE=1", "--build-arg=BUILDKIT_CACHE_MOUNT_NS=a"], &[]);
        assert_eq!(
            wanted.warnings,
            ["--build-arg BUILDKIT_INLINE_CACHE has no effect: layers are kept where --cache-repo says"]
        );
    }

    #[test]
    fn one_target_is_understood_however_it_is_given() {
        let target = |words: &[&str]| good(words, &[]).build.target;
        assert_eq!(target(&["--target", ""]), None);
        assert_eq!(target(&["--target", "", "--target=a"]).as_deref(), Some("a"));
        assert_eq!(message(&["--no-push", "--target=a,b"]), "--target: more than one stage is not supported yet");
        assert_eq!(
            message(&["--no-push", "--target=a", "--target=b"]),
            "--target: more than one stage is not supported yet"
        );
    }

    #[test]
    fn compression_and_format_go_together() {
        let of = |words: &[&str]| {
            let build = good(words, &[]).build;
            (build.compression, build.image_format)
        };
        assert_eq!(of(&["--compression=zstd"]), (Compression::ZSTD, Some(ImageFormat::Oci)));
        assert_eq!(of(&["--compression=zstd", "--compression-level=19"]).0, Compression::Zstd { level: 19 });
        assert_eq!(of(&["--compression-level=9"]).0, Compression::Gzip { level: 9 });
        assert_eq!(of(&["--compression-level=-1"]).0, Compression::GZIP);
        assert_eq!(
            of(&["--compression-level=0", "--image-format=docker"]),
            (Compression::GZIP, Some(ImageFormat::Docker))
        );
        for words in [
            &["--no-push", "--compression=zstd", "--image-format=docker"][..],
            &["--no-push", "--image-format=oci", "--tar-path=a"],
            &["--no-push", "--compression=zstd", "--tar-path=a"],
        ] {
            assert!(message(words).ends_with("cannot be had together"), "{words:?}");
        }
        assert_eq!(
            message(&["--no-push", "--compression-level=10"]),
            "--compression-level: 10 is not a level: the highest is 9"
        );
    }

    #[test]
    fn ignored_paths_are_absolute_and_plain() {
        assert_eq!(good(&["--ignore-path=/product_uuid", "--ignore-path="], &[]).ignored, [Path::new("/product_uuid")]);
        assert_eq!(good(&["--ignore-var-run=true"], &[]).ignored, [Path::new("/var/run")]);
        assert!(good(&["--ignore-var-run=false"], &[]).ignored.is_empty());
        assert_eq!(message(&["--no-push", "--ignore-path=x"]), "--ignore-path: x is not absolute");
        assert_eq!(good(&["--ignore-path=/a/*/b"], &[]).ignored, [Path::new("/a/*/b")]);
        assert_eq!(message(&["--no-push", "--ignore-path=/a/[b"]), "--ignore-path: /a/[b: a bracket is not closed");
    }

    #[test]
    fn what_is_not_there_yet_is_refused_by_name() {
        assert!(message(&["--no-push", "-f", "https://host/Dockerfile"]).starts_with("--dockerfile: "));
        assert!(
            message(&["--no-push", "--digest-file=http://host/x"]).starts_with("--digest-file: an address must begin")
        );
        assert_eq!(
            message(&["--no-push", "-c", "s3://a/b"]),
            "--context: a build context from s3:// is not supported yet"
        );
        assert!(message(&["--no-push", "-c", "ftp://a/b"]).starts_with("--context: unknown build context prefix"));
        assert!(message(&["--no-push", "--custom-platform=x/y/z/w"]).starts_with("--custom-platform: "));
    }

    #[test]
    fn the_form_of_the_log_follows_the_flag_then_no_color_then_the_terminal() {
        let format = |words: &[&str], variables: &[(&str, &str)], terminal| {
            let environment = Environment::of(variables);
            let arguments: Vec<OsString> = [&["zuwai"], words].concat().iter().map(OsString::from).collect();
            let Ok(Command::Build(values)) = Command::parse(&arguments, &environment) else { panic!("{words:?}") };
            log_options(&values, &environment, terminal).format
        };
        assert_eq!(format(&[], &[], true), Format::Short { colour: true });
        assert_eq!(format(&[], &[], false), Format::Short { colour: false });
        assert_eq!(format(&[], &[("TERM", "dumb")], true), Format::Short { colour: false });
        assert_eq!(format(&["--log-format=color"], &[], false), Format::Short { colour: true });
        assert_eq!(format(&["--log-format=color"], &[("NO_COLOR", "1")], true), Format::Short { colour: false });
        assert_eq!(format(&["--log-format=text"], &[], true), Format::Text);
        assert_eq!(format(&["--log-format=json"], &[], true), Format::Json);
    }
}
