//! Every flag there is, one row each: Kaniko v1.24's, those of its fork 1.28, and what becomes of each here. The parser,
//! the help and the refusals all come from these rows.
//!
//! A flag works, or it is accepted because nothing is lost by not obeying it (and the row says why), or it is refused:
//! then giving it is an error, before anything is downloaded. Nothing is silently ignored.

/// One flag.
#[derive(Debug)]
pub(crate) struct Flag {
    /// The name behind `--`.
    pub(crate) name: &'static str,
    /// The letter behind `-`.
    pub(crate) short: Option<char>,
    /// What its value is.
    pub(crate) kind: Kind,
    /// What becomes of it.
    pub(crate) state: State,
    /// Where the help shows it.
    pub(crate) group: Group,
    /// The help.
    pub(crate) help: &'static str,
}

/// What a flag's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `--flag` or `--flag=true`; never `--flag true`. What it is when not given.
    Switch(bool),
    /// One text, of which the last given counts; what it is called in the help.
    Text(&'static str),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number, from 0.
    Count,
    /// A whole number.
    Integer,
    /// A duration as Go writes it: `1h30m`.
    Duration,
    /// May be given several times; what it is called in the help.
    List(&'static str),
}

/// What becomes of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It does what it says.
    Works,
    /// It is another name of another one; in the group of old spellings, one that is warned of.
    Alias(&'static str),
    /// It is read and changes nothing: why that is right.
    Accepted(&'static str),
    /// It is an error: what is missing and what to do instead. A switch given as false, or an empty text, asks for
    /// nothing and is no error.
    Refused(&'static str),
}

/// The parts of the help, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// What is built, from what.
    Build,
    /// What becomes of the image.
    Output,
    /// Registries and TLS.
    Registry,
    /// Layers and how changes are found.
    Layers,
    /// The cache.
    Cache,
    /// The container the build runs in.
    Container,
    /// What is told.
    Logging,
    /// Old spellings: not shown.
    Old,
}

impl Group {
    /// Its title in the help.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Build => "Build",
            Self::Output => "Output",
            Self::Registry => "Registry and TLS",
            Self::Layers => "Layers",
            Self::Cache => "Cache",
            Self::Container => "Container",
            Self::Logging => "Logging",
            Self::Old => "Old spellings",
        }
    }
}

impl Flag {
    /// The row of this name.
    pub(crate) fn named(name: &str) -> &'static Self {
        FLAGS.iter().find(|flag| flag.name == name).expect("names come from the table")
    }
}

const fn flag(name: &'static str, kind: Kind, state: State, group: Group, help: &'static str) -> Flag {
    Flag { name, short: None, kind, state, group, help }
}

const fn short(name: &'static str, short: char, kind: Kind, state: State, group: Group, help: &'static str) -> Flag {
    Flag { name, short: Some(short), kind, state, group, help }
}

use Group::{Build, Cache, Container, Layers, Logging, Old, Output, Registry};
use Kind::{Count, Duration, Integer, List, Switch, Text, Word};
use State::{Accepted, Alias, Refused, Works};

const ALWAYS_SO: &str = "zuwai always works so";

/// The table.
pub(crate) static FLAGS: &[Flag] = &[
    short(
        "dockerfile",
        'f',
        Text("PATH"),
        Works,
        Build,
        "The Dockerfile: relative to the current directory, else to the context [default: Dockerfile]",
    ),
    short(
        "context",
        'c',
        Text("LOCATION"),
        Works,
        Build,
        "Where COPY and ADD take files from: a folder, dir://PATH, or git://HOST/PATH[#REF[#COMMIT]], fetched over https \
         [default: /workspace/]",
    ),
    flag(
        "build-context",
        List("NAME=VALUE"),
        Works,
        Build,
        "More files, or another image, for FROM, COPY --from and RUN --mount=from to call by this name: a folder, \
         docker-image://IMAGE, oci-layout://FOLDER[:TAG][@DIGEST], https://HOST/PATH.git[#REF[:FOLDER]], git:// or tar:// as \
         for --context. It takes the place of an image or a stage of that name",
    ),
    flag("context-sub-path", Text("PATH"), Works, Build, "A folder inside the context to use instead of the whole"),
    flag(
        "git",
        List("KEY=VALUE"),
        Works,
        Build,
        "How a git context is cloned: branch, depth (0 is the whole history) [default: 1], single-branch, \
         recurse-submodules, insecure-skip-tls",
    ),
    flag(
        "build-arg",
        List("NAME[=VALUE]"),
        Works,
        Build,
        "The value of an ARG; without =VALUE it is taken from the environment",
    ),
    flag("target", List("STAGE"), Works, Build, "The stage to build, by its name [default: the last one]"),
    flag("label", List("KEY=VALUE"), Works, Build, "A label of the image; wins over LABEL in the Dockerfile"),
    flag(
        "custom-platform",
        Text("OS/ARCH[/VARIANT]"),
        Works,
        Build,
        "The platform to build for [default: this machine's]",
    ),
    flag("platform", Text("OS/ARCH[/VARIANT]"), Alias("custom-platform"), Build, "The same, as docker calls it"),
    flag(
        "secret",
        List("id=ID[,src=FILE][,env=VAR]"),
        Works,
        Build,
        "A secret for RUN --mount=type=secret: a file, or a variable of the environment",
    ),
    flag(
        "ssh",
        List("ID[=SOCKET]"),
        Works,
        Build,
        "The socket of an ssh agent for RUN --mount=type=ssh; `default` alone is the one of SSH_AUTH_SOCK",
    ),
    flag(
        "dryrun",
        Switch(false),
        Refused("there is no plan to print yet; leave the flag out to build"),
        Build,
        "Print what would be done",
    ),
    short(
        "bucket",
        'b',
        Text("NAME"),
        Refused(
            "a context in Google storage is not there yet; fetch and unpack it first and name the folder with --context",
        ),
        Old,
        "The Google storage bucket of the context",
    ),
    short(
        "destination",
        'd',
        List("IMAGE"),
        Works,
        Output,
        "What the image is called and where it is pushed to; may be given several times",
    ),
    short(
        "tag",
        't',
        List("IMAGE"),
        Works,
        Output,
        "What the image is called in --tar-path and --oci-layout-path; it is not pushed. May be given several times",
    ),
    flag("no-push", Switch(false), Works, Output, "Do not push [env: KANIKO_NO_PUSH]"),
    flag("tar-path", Text("FILE"), Works, Output, "Write the image as an archive, as docker save does"),
    flag("oci-layout-path", Text("FOLDER"), Works, Output, "Write the image as a folder in OCI image layout"),
    flag(
        "digest-file",
        Text("FILE"),
        Works,
        Output,
        "Write the digest of the image into this file, or PUT it to an https:// address",
    ),
    flag(
        "image-name-with-digest-file",
        Text("FILE"),
        Works,
        Output,
        "Write repository@digest into this file, a line for each destination",
    ),
    flag(
        "image-name-tag-with-digest-file",
        Text("FILE"),
        Works,
        Output,
        "Write repository:tag@digest into this file, a line for each destination",
    ),
    flag(
        "image-format",
        Word(&["docker", "oci"]),
        Works,
        Output,
        "The manifest's family [default: the base image's; oci for scratch]",
    ),
    flag("annotation", List("KEY=VALUE"), Works, Output, "An annotation of the manifest"),
    flag(
        "reproducible",
        Switch(false),
        Works,
        Output,
        "The same bytes whenever it is built: times later than $SOURCE_DATE_EPOCH (1970 where it is not set) become that",
    ),
    flag(
        "skip-push-permission-check",
        Switch(false),
        Works,
        Output,
        "Do not ask the registry for the right to push before building",
    ),
    flag(
        "push-ignore-immutable-tag-errors",
        Switch(false),
        Works,
        Output,
        "A push that is refused because the tag exists and may not change counts as done",
    ),
    flag("push-retry", Count, Works, Output, "How many more times a failed push is tried as a whole [default: 0]"),
    flag(
        "source-image",
        Text("NAME"),
        Works,
        Output,
        "push: which image of a layout or archive that holds several, by its tag or name",
    ),
    flag(
        "registry-mirror",
        List("HOST[/PATH]"),
        Works,
        Registry,
        "A mirror of Docker Hub, tried before it [env: KANIKO_REGISTRY_MIRROR]",
    ),
    flag(
        "registry-map",
        List("REGISTRY=HOST[/PATH]"),
        Works,
        Registry,
        "A mirror of any registry; several with ; between them [env: KANIKO_REGISTRY_MAP]",
    ),
    flag(
        "skip-default-registry-fallback",
        Switch(false),
        Works,
        Registry,
        "Do not ask the registry itself when its mirrors fail",
    ),
    flag(
        "registry-certificate",
        List("REGISTRY=FILE"),
        Works,
        Registry,
        "The certificates (PEM) of the authority that this registry's certificate is from",
    ),
    flag(
        "registry-client-cert",
        List("REGISTRY=CERT,KEY"),
        Works,
        Registry,
        "The certificate and key (PEM) to show to this registry",
    ),
    flag("skip-tls-verify", Switch(false), Works, Registry, "Accept any certificate of any registry"),
    flag(
        "skip-tls-verify-pull",
        Switch(false),
        Works,
        Registry,
        "Accept any certificate when pulling; what is pushed to is verified",
    ),
    flag("skip-tls-verify-registry", List("REGISTRY"), Works, Registry, "Accept any certificate of this registry"),
    flag("insecure", Switch(false), Works, Registry, "Push over plain HTTP"),
    flag("insecure-pull", Switch(false), Works, Registry, "Pull over plain HTTP"),
    flag("insecure-registry", List("REGISTRY"), Works, Registry, "Speak plain HTTP with this registry"),
    flag(
        "image-download-retry",
        Count,
        Works,
        Registry,
        "How many more times a failed pull is tried as a whole [default: 0]",
    ),
    flag(
        "image-fs-extract-retry",
        Count,
        Accepted(
            "layers are verified as they come in and downloads are retried; unpacking what is there needs no second try",
        ),
        Registry,
        "Retries of unpacking a base image",
    ),
    flag(
        "credential-helpers",
        List("NAME"),
        Works,
        Registry,
        "Which built-in sources of credentials are asked behind config.json, in this order; none if empty [default: env, \
         google, ecr, acr, gitlab]",
    ),
    flag(
        "snapshot-mode",
        Word(&["full", "redo", "time"]),
        Works,
        Layers,
        "How changes are found: full is exact, redo trusts time and size, time trusts the time alone [default: full]",
    ),
    flag(
        "watch-folders",
        Switch(true),
        Works,
        Layers,
        "Have the kernel tell which folders a command touched, where several follow each other, and ask for every file after \
         the last one alone",
    ),
    flag(
        "single-snapshot",
        Switch(false),
        Works,
        Layers,
        "One layer for each stage instead of one for each instruction",
    ),
    flag(
        "use-new-run",
        Switch(false),
        Accepted("changes are found without reading all files in any case"),
        Layers,
        "Find changes faster",
    ),
    flag("compression", Word(&["gzip", "zstd"]), Works, Layers, "How layers are compressed [default: gzip]"),
    flag("compression-level", Integer, Works, Layers, "How hard the compression tries"),
    flag(
        "compressed-caching",
        Switch(true),
        Accepted("layers are never kept in memory"),
        Layers,
        "Keep compressed layers in memory",
    ),
    flag(
        "ignore-path",
        List("PATH"),
        Works,
        Layers,
        "A path of the container that is no part of any image, with * ? [] in its names; may be given several times",
    ),
    flag(
        "ignore-var-run",
        Switch(true),
        Works,
        Layers,
        "Leave out what is mounted below /var/run. That is always so; =true also leaves out all of /var/run",
    ),
    flag(
        "force-build-metadata",
        Switch(false),
        Accepted("instructions that change no file are in the image's history in any case"),
        Layers,
        "Layers for instructions that change no file",
    ),
    flag("skip-unused-stages", Switch(false), Accepted(ALWAYS_SO), Layers, "Do not build stages that nothing uses"),
    flag("cache", Switch(false), Works, Cache, "Keep layers and use them again"),
    flag(
        "cache-repo",
        Text("REPOSITORY"),
        Works,
        Cache,
        "Where layers are kept: a repository, or oci:FOLDER [default: the first destination's repository and /cache; \
         without a destination --cache-dir and /layers]",
    ),
    flag(
        "cache-dir",
        Text("FOLDER"),
        Works,
        Cache,
        "A folder that outlives the build: base images that the warmer has put there, and layers where no --cache-repo and \
         no destination is [default: /cache]",
    ),
    flag(
        "cache-ttl",
        Duration,
        Works,
        Cache,
        "Layers that were not used for so long are not used any more [default: 336h]",
    ),
    flag("cache-copy-layers", Switch(true), Works, Cache, "Keep the layers of COPY and ADD too"),
    flag("cache-run-layers", Switch(true), Works, Cache, "Keep the layers of RUN and WORKDIR"),
    flag("no-push-cache", Switch(false), Works, Cache, "Use what is kept, and keep nothing new"),
    flag(
        "cache-mounts",
        Word(&["local", "registry"]),
        Works,
        Cache,
        "Where RUN --mount=type=cache keeps its folders beyond this machine: nowhere, or with the layers, for builds that \
         start on a clean one [default: local]",
    ),
    flag(
        "cache-mounts-dir",
        Text("FOLDER"),
        Works,
        Cache,
        "Where RUN --mount=type=cache keeps its folders on this machine, such as a volume",
    ),
    flag("cache-mounts-size", Text("SIZE"), Works, Cache, "Larger folders are not kept with the layers [default: 2g]"),
    flag(
        "explain-cache",
        Switch(false),
        Works,
        Cache,
        "Tell of every step that is not in the cache what differs from the build before",
    ),
    flag(
        "isolation",
        Word(&["auto", "direct", "namespace"]),
        Works,
        Container,
        "Where RUN runs: direct is the container's own root filesystem, namespace a private one (user namespaces, or root \
         that may mount); auto takes direct for a container's root, else namespace where it can be had. `doctor` tells which and why [default: auto]",
    ),
    flag(
        "force",
        Switch(false),
        Works,
        Container,
        "Build although nothing shows that this is a container. A machine that shows itself as one is refused all the \
         same: its files would be moved away and replaced",
    ),
    flag(
        "kaniko-dir",
        Text("FOLDER"),
        Works,
        Container,
        "Where zuwai keeps what it works with; no part of any image [env: KANIKO_DIR]",
    ),
    flag(
        "cleanup",
        Switch(false),
        Works,
        Container,
        "Leave the container empty at the end, its own files too, but for mounts and zuwai's folder [env: KANIKO_CLEANUP]",
    ),
    flag(
        "pre-cleanup",
        Switch(false),
        Accepted("the container's own files are moved aside before each build in any case"),
        Container,
        "Empty the container first [env: KANIKO_PRE_CLEANUP]",
    ),
    flag(
        "preserve-context",
        Switch(false),
        Works,
        Container,
        "Put the container's files back at the end. That is always so but with --cleanup, which this undoes \
         [env: KANIKO_PRESERVE_CONTEXT]",
    ),
    flag(
        "materialize",
        Switch(false),
        Works,
        Container,
        "Leave the image's files in the container; the next build puts the container's own back first",
    ),
    short(
        "verbosity",
        'v',
        Word(&["trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"]),
        Works,
        Logging,
        "What is told [default: info]",
    ),
    flag(
        "log-format",
        Word(&["text", "color", "json"]),
        Works,
        Logging,
        "How it is told [default: color on a terminal; NO_COLOR is obeyed]",
    ),
    flag("log-timestamp", Switch(false), Works, Logging, "Tell the time instead of the seconds since the start"),
    flag("tarPath", Text("FILE"), Alias("tar-path"), Old, ""),
    flag("snapshotMode", Word(&["full", "redo", "time"]), Alias("snapshot-mode"), Old, ""),
    flag("customPlatform", Text("OS/ARCH[/VARIANT]"), Alias("custom-platform"), Old, ""),
    flag("whitelist-var-run", Switch(true), Alias("ignore-var-run"), Old, ""),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_flag_of_kaniko_and_of_its_fork_is_known() {
        let kaniko = "verbosity log-format log-timestamp force dockerfile context context-sub-path bucket destination \
            snapshot-mode custom-platform build-arg image-fs-extract-retry kaniko-dir tar-path single-snapshot reproducible \
            target no-push no-push-cache cache-repo cache-dir digest-file image-name-with-digest-file \
            image-name-tag-with-digest-file oci-layout-path compression compression-level cache compressed-caching cleanup \
            cache-ttl ignore-var-run label skip-unused-stages use-new-run git cache-copy-layers cache-run-layers \
            ignore-path force-build-metadata skip-push-permission-check insecure skip-tls-verify insecure-pull \
            skip-tls-verify-pull push-retry push-ignore-immutable-tag-errors image-download-retry insecure-registry \
            skip-tls-verify-registry registry-certificate registry-client-cert registry-map registry-mirror \
            skip-default-registry-fallback tarPath whitelist-var-run snapshotMode customPlatform";
        let fork = "pre-cleanup preserve-context materialize annotation credential-helpers image-format secret dryrun";
        let own = "explain-cache cache-mounts cache-mounts-dir cache-mounts-size tag isolation ssh source-image platform \
            build-context watch-folders";
        let known: BTreeSet<_> = FLAGS.iter().map(|flag| flag.name).collect();
        let wanted: BTreeSet<_> = [kaniko, fork, own].into_iter().flat_map(str::split_whitespace).collect();
        assert_eq!(known, wanted);
        assert_eq!(FLAGS.len(), known.len());
    }

    #[test]
    fn the_letters_are_kanikos_and_dockers() {
        let letters: BTreeSet<_> = FLAGS.iter().filter_map(|flag| Some((flag.short?, flag.name))).collect();
        let wanted = [
            ('b', "bucket"),
            ('c', "context"),
            ('d', "destination"),
            ('f', "dockerfile"),
            ('t', "tag"),
            ('v', "verbosity"),
        ];
        assert_eq!(letters, BTreeSet::from(wanted));
    }

    #[test]
    fn another_name_stands_for_a_flag_of_the_same_kind() {
        for flag in FLAGS {
            if let State::Alias(name) = flag.state {
                assert_eq!(Flag::named(name).kind, flag.kind, "{}", flag.name);
                assert_eq!(Flag::named(name).state, State::Works, "{}", flag.name);
            }
        }
    }
}
