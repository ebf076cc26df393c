//! Pairs that look alike: instructions and contexts that differ in one thing, as people write them.

use std::fs;
use std::path::Path;

use zuwai_snapshot::{Ignore, RootFs};

use super::super::content::Content;
use super::super::inputs::{Origin, Origins, Sources, of_action};
use super::super::key::Key;
use super::with_remotes;
use crate::context::Dockerignore;
use crate::instruction::testing::Stage;

/// A context in which these files lie; a name that ends with a slash is a folder.
fn context(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name.ends_with('/') { fs::create_dir_all(path).unwrap() } else { fs::write(path, "x").unwrap() }
    }
    folder
}

/// The key of the last of these instructions. `<a>` stands for 64 times the letter, `<1>` for 40 times the digit.
fn key(instructions: &str, context: &Path) -> Key {
    let digits = ["a", "b"].iter().fold(instructions.to_owned(), |text, digit| {
        text.replace(&format!("sha256:<{digit}>"), &format!("sha256:{}", digit.repeat(64)))
    });
    let digits = ["1", "2"].iter().fold(digits, |text, digit| text.replace(&format!("<{digit}>"), &digit.repeat(40)));
    let instructions = digits.as_str();
    let root = RootFs::open(context, Ignore::default()).unwrap();
    let ignore = Dockerignore::default();
    let content = Content::new(&root, &ignore);
    let mut stage = Stage::scratch();
    let (before, last) = instructions.rsplit_once(" ; ").unwrap_or(("", instructions));
    before.split(" ; ").filter(|text| !text.is_empty()).for_each(|text| drop(stage.run(text)));
    let action = stage.run(last).action.unwrap();
    let mut origins: Origins<'_> = [("s", "one"), ("t", "two")]
        .map(|(name, seed)| (name.to_owned(), Origin::Made(format!("the stage {name}"), Key::of(&[seed.as_bytes()]))))
        .into();
    let named = Content::new(&root, &ignore);
    origins.insert("ctx".to_owned(), Origin::Given(&named));
    with_remotes(|remotes| {
        let sources = Sources { origins: &origins, content: &content, remotes };
        of_action(&action, &stage.settings, sources).unwrap_or_else(|error| panic!("{last}: {error}")).hash()
    })
}

#[test]
fn instructions_that_make_other_layers_have_other_keys() {
    let folder = context(&["a", "b", "d/a", "d/c.md", "https:/h/f"]);
    for (one, other) in [
        ("COPY <<a /d/\n1\na", "COPY <<b /d/\n1\nb"),
        ("COPY <<a <<b /d/\n1\na\n2\nb", "COPY <<b <<a /d/\n1\nb\n2\na"),
        ("COPY a /d", "COPY a /d/"),
        ("COPY a /d/", "COPY a b /d/"),
        ("COPY a /d", "COPY --chmod=600 a /d"),
        ("COPY --chown=1 a /d", "COPY --chmod=1 a /d"),
        ("COPY --link a /d", "COPY a /d"),
        ("COPY d /d", "COPY --exclude=*.md d /d"),
        ("COPY d /d", "COPY --parents d /d"),
        ("WORKDIR /v ; COPY a b", "WORKDIR /w ; COPY a b"),
        ("ADD --link a /d/", "ADD --unpack a /d/"),
        ("ADD a /d/", "ADD --unpack=false a /d/"),
        ("ADD --checksum=sha256:<a> http://h/f /d/", "ADD --checksum=sha256:<b> http://h/f /d/"),
        ("ADD --checksum=sha256:<a> http://h/f /d/", "ADD --checksum=sha256:<a> http://h/g /d/"),
        ("ADD --checksum=sha256:<a> http://h/f /d/", "ADD --unpack --checksum=sha256:<a> http://h/f /d/"),
        ("ADD http://h/r.git#<1> /d/", "ADD http://h/r.git#<2> /d/"),
        ("ADD http://h/r.git#<1> /d/", "ADD http://h/r.git#<1>:sub /d/"),
        ("ADD http://h/r.git#<1> /d/", "ADD --keep-git-dir http://h/r.git#<1> /d/"),
        ("ADD http://h/r.git#<1> /d/", "ADD http://h/r.git?submodules=0#<1> /d/"),
        ("COPY --from=s a /d", "COPY --from=t a /d"),
        ("COPY --from=ctx a /d", "COPY --from=ctx d/a /d/x"),
        ("COPY --from=ctx d /d", "COPY --from=ctx --exclude=*.md d /d"),
        ("COPY --from=ctx a /d", "COPY --from=s a /d"),
        ("RUN --mount=from=ctx,source=a,target=/m x", "RUN --mount=from=ctx,source=d,target=/m x"),
        ("RUN --mount=type=cache,from=ctx,source=d,target=/m x", "RUN --mount=type=cache,from=s,source=d,target=/m x"),
        ("COPY --from=s a /d", "COPY --from=s b /d"),
        ("COPY --from=s a b /d/", "COPY --from=s [\"a b\", \"/d/\"]"),
        ("COPY --from=s --exclude=a . /d", "COPY --from=s --exclude=b . /d"),
        ("COPY --from=s --parents a/./b /d", "COPY --from=s --parents ./a/b /d"),
        ("COPY a /d", "COPY --from=s a /d"),
        ("RUN x", "RUN [\"x\"]"),
        ("RUN x", "RUN --network=none x"),
        ("SHELL [\"/bin/a\", \"-c\"] ; RUN x", "SHELL [\"/bin/b\", \"-c\"] ; RUN x"),
        ("USER 1 ; RUN x", "USER 1:2 ; RUN x"),
        ("USER 1 ; WORKDIR /x", "WORKDIR /x"),
        ("ENV a=1 ; RUN x", "ENV a=2 ; RUN x"),
        ("ENV a=1 b=2 ; RUN x", "ENV a=\"1 b=2\" ; RUN x"),
        ("ARG a=1 ; RUN x", "ARG a=2 ; RUN x"),
        ("RUN <<a\n1\na", "RUN <<a\n2\na"),
        ("RUN <<a\n#!/x\n1\na", "RUN <<b\n#!/x\n1\nb"),
        ("RUN --mount=type=tmpfs,target=/a x", "RUN --mount=type=tmpfs,target=/b x"),
        ("RUN --mount=type=tmpfs,target=/a x", "RUN --mount=type=tmpfs,target=/a,size=1k x"),
        ("RUN --mount=target=/a,source=a x", "RUN --mount=target=/b,source=a x"),
        ("RUN --mount=target=/a,source=d x", "RUN --mount=target=/a,source=d,rw x"),
        ("RUN --mount=target=/a,from=s x", "RUN --mount=target=/a,from=t x"),
        ("RUN --mount=target=/a,from=s,source=/a x", "RUN --mount=target=/a,from=s,source=/b x"),
        ("RUN --mount=type=secret,id=s,target=/a x", "RUN --mount=type=secret,id=s,target=/b x"),
        ("RUN --mount=type=secret,id=s,env=A x", "RUN --mount=type=secret,id=s,env=B x"),
        ("RUN --mount=type=secret,id=s x", "RUN --mount=type=secret,id=t x"),
        ("RUN --mount=type=cache,target=/a x", "RUN --mount=type=cache,target=/b x"),
        ("RUN --mount=type=cache,target=/a,from=s x", "RUN --mount=type=cache,target=/a,from=t x"),
        ("RUN --mount=type=cache,target=/a,from=s x", "RUN --mount=type=cache,target=/a,from=s,source=/b x"),
        ("RUN --mount=type=cache,target=/a x", "RUN --mount=type=cache,target=/a,ro x"),
        ("RUN --mount=type=cache,target=/a x", "RUN --mount=type=cache,target=/a,uid=7 x"),
    ] {
        assert_ne!(key(one, folder.path()), key(other, folder.path()), "{one} and {other}");
    }
}

#[test]
fn instructions_that_make_the_same_layer_have_the_same_key() {
    let folder = context(&["a", "d/a", "d/b/c"]);
    for (one, other) in [
        ("COPY a b", "COPY ./a ./b"),
        ("COPY a b", "ADD --unpack=false a b"),
        ("COPY [\"a\", \"b\"]", "COPY a b"),
        ("ENV n=a ; COPY $n b", "COPY a b"),
        ("LABEL a=b ; EXPOSE 1 ; COPY a b", "COPY a b"),
        ("CMD x ; ENTRYPOINT y ; HEALTHCHECK NONE ; RUN x", "RUN x"),
        ("ENV a=1 ; RUN x", "ARG a=1 ; RUN x"),
        ("ADD --checksum=sha256:<a> http://h/f /d/", "ADD --checksum=sha256:<a> https://mirror/x/f?token=1 /d/"),
        ("RUN x", "RUN [\"/bin/sh\", \"-c\", \"x\"]"),
        ("RUN --mount=type=cache,target=/a,sharing=locked x", "RUN --mount=type=cache,target=/a x"),
        ("RUN --mount=type=secret,id=s,required=true x", "RUN --mount=type=secret,id=s x"),
    ] {
        assert_eq!(key(one, folder.path()), key(other, folder.path()), "{one} and {other}");
    }
}

/// Whether the key of an instruction is another one after something was done to the context.
fn differs(files: &[&str], instruction: &str, change: impl FnOnce(&Path)) -> bool {
    let folder = context(files);
    let before = key(instruction, folder.path());
    change(folder.path());
    before != key(instruction, folder.path())
}

#[test]
fn a_file_is_not_a_folder_with_that_file() {
    for instruction in ["COPY a /d", "RUN --mount=target=/d,source=a x"] {
        assert!(
            differs(&["a"], instruction, |context| {
                fs::remove_file(context.join("a")).unwrap();
                fs::create_dir(context.join("a")).unwrap();
                fs::write(context.join("a/a"), "x").unwrap();
            }),
            "{instruction}"
        );
    }
}

#[test]
fn an_empty_folder_that_matches_is_not_nothing() {
    assert!(differs(&["b"], "COPY e* /d/", |context| fs::create_dir(context.join("empty")).unwrap()));
}

#[test]
fn files_at_every_depth_count_for_a_pattern_that_goes_down() {
    let files = ["src/a.txt", "src/b/c/d.txt", "src/b/other"];
    for instruction in ["COPY --parents src/**/*.txt /d/", "COPY --parents ./src/./**/*.txt /d/"] {
        let write = |name: &'static str| move |context: &Path| fs::write(context.join(name), "y").unwrap();
        assert!(differs(&files, instruction, write("src/b/c/d.txt")), "{instruction}");
        assert!(!differs(&files, instruction, write("src/b/other")), "{instruction}");
    }
}

#[test]
fn what_is_excluded_does_not_count() {
    let files = ["d/a", "d/b.md", "d/e/f.md"];
    let instruction = "COPY --exclude=**/*.md d /d/";
    assert!(!differs(&files, instruction, |context| fs::write(context.join("d/b.md"), "y").unwrap()));
    assert!(!differs(&files, instruction, |context| fs::write(context.join("d/e/g.md"), "y").unwrap()));
    assert!(differs(&files, instruction, |context| fs::write(context.join("d/a"), "y").unwrap()));
}

#[test]
fn a_mount_shows_the_path_it_names_and_no_pattern() {
    let instruction = "RUN --mount=target=/d,source=[x] x";
    assert!(differs(&["[x]", "x"], instruction, |context| fs::write(context.join("[x]"), "y").unwrap()));
    assert!(!differs(&["[x]", "x"], instruction, |context| fs::write(context.join("x"), "y").unwrap()));
}

#[test]
fn the_mode_of_a_folder_that_a_mount_shows_counts() {
    use std::os::unix::fs::PermissionsExt as _;
    let close = |context: &Path| fs::set_permissions(context.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(differs(&["d/a"], "RUN --mount=target=/d,source=d x", close));
    assert!(!differs(&["d/a"], "COPY d /d", close));
}
