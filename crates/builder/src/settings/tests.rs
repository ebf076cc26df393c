//! How stages inherit, and what build arguments do.

use zuwai_registry::{ImageConfig, Platform};

use crate::instruction::testing::Stage;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[test]
fn scratch_has_a_path_a_folder_and_the_target_platform() {
    let stage = Stage::scratch();
    let config = stage.settings.config();
    assert_eq!(config.config.env, [PATH]);
    assert_eq!(config.config.working_dir, "/");
    assert_eq!(config.platform(), Platform::new("linux", "arm64", None));
}

#[test]
fn an_image_keeps_what_it_has_and_gets_a_path_if_it_has_none() {
    let mut base = ImageConfig::default();
    base.config.env = vec!["A=1".into(), "LONE".into()];
    base.config.on_build = vec!["RUN x".into()];
    base.author = Some("someone".into());
    let stage = Stage::on_image(&base);
    let config = stage.settings.config();
    assert_eq!(config.config.env, ["A=1", "LONE", PATH]);
    assert!(config.config.on_build.is_empty());
    assert_eq!(config.author.as_deref(), Some("someone"));
    assert_eq!(config.config.working_dir, "");
    assert_eq!(stage.settings.working_dir(), "/");
    base.config.env = vec!["PATH=/bin".into()];
    assert_eq!(Stage::on_image(&base).settings.config().config.env, ["PATH=/bin"]);
}

#[test]
fn variables_of_the_base_are_seen() {
    let mut base = ImageConfig::default();
    base.config.env = vec!["A=1".into(), "LONE".into()];
    let mut stage = Stage::on_image(&base);
    assert_eq!(stage.run("LABEL l=$A-${LONE-unset}-${LONE:-empty}").created_by.as_deref(), Some("LABEL l=1--empty"));
}

#[test]
fn arguments_are_inherited_by_a_stage_that_begins_with_this_one() {
    let mut parent = Stage::with("ARG g=global\nFROM scratch", &[]);
    parent.run("ARG a=1");
    parent.run("ENV both=env");
    parent.run("ARG both=arg");
    let mut child = parent.child();
    child.run("ARG own=2 a=3");
    // The environment of the base is put over its arguments where the child begins.
    let expected = "RUN |3 a=3 both=env own=2 /bin/sh -c x # buildkit";
    assert_eq!(child.run("RUN x").created_by.as_deref(), Some(expected));
    assert_eq!(child.run("LABEL g=$g").created_by.as_deref(), Some("LABEL g="));
    assert_eq!(parent.run("RUN x").created_by.as_deref(), Some("RUN |2 a=1 both=arg /bin/sh -c x # buildkit"));
}

#[test]
fn a_global_argument_is_seen_by_a_stage_that_declares_it() {
    let mut stage = Stage::with("ARG v=1\nARG w=$v.2 x\nFROM scratch", &[("x", "cli")]);
    stage.run("LABEL before=$w$x");
    stage.run("ARG w x");
    stage.run("LABEL after=$w-$x");
    let labels = &stage.settings.config().config.labels;
    assert_eq!((labels["before"].as_str(), labels["after"].as_str()), ("", "1.2-cli"));
}

#[test]
fn platforms_are_for_stages_that_declare_them() {
    let mut stage = Stage::with("FROM scratch", &[("TARGETOS", "given")]);
    assert_eq!(stage.run("LABEL a=$TARGETARCH").created_by.as_deref(), Some("LABEL a="));
    stage.run("ARG TARGETARCH TARGETOS BUILDPLATFORM");
    let expected = "LABEL a=arm64 given linux/amd64";
    assert_eq!(stage.run("LABEL a=\"$TARGETARCH $TARGETOS $BUILDPLATFORM\"").created_by.as_deref(), Some(expected));
}

#[test]
fn a_build_argument_that_nobody_declares_is_not_seen() {
    let mut stage = Stage::with("FROM scratch", &[("a", "1"), ("http_proxy", "p")]);
    assert_eq!(stage.run("LABEL a=$a$http_proxy").created_by.as_deref(), Some("LABEL a="));
    assert_eq!(stage.run("RUN x").created_by.as_deref(), Some("RUN /bin/sh -c x # buildkit"));
    stage.run("ARG http_proxy");
    assert_eq!(stage.run("RUN x").created_by.as_deref(), Some("RUN |1 http_proxy=p /bin/sh -c x # buildkit"));
}

#[test]
fn labels_given_later_win() {
    let mut stage = Stage::scratch();
    stage.run("LABEL a=1 b=2");
    stage.settings.add_labels(&[("a".into(), "x".into()), ("c".into(), "y".into())]);
    let labels: Vec<_> = stage.settings.config().config.labels.clone().into_iter().collect();
    assert_eq!(labels, [("a", "x"), ("b", "2"), ("c", "y")].map(|(name, value)| (name.into(), value.into())));
}

#[test]
fn the_escape_token_of_the_file_escapes_in_words() {
    let mut stage = Stage::with("# escape=`\nFROM scratch", &[]);
    assert_eq!(stage.run(r"ENV a=C:\x`$y").created_by.as_deref(), Some(r"ENV a=C:\x$y"));
}
