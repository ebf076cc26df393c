//! The small cases, built by Docker's daemon and compared with what they expect of zuwai: a part of `cargo xtask conformance`,
//! which asks buildah too, and about malformed Dockerfiles.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use zuwai_lab::base::{Base, mirror};
use zuwai_lab::oracle::{self, Dockerd, Subject};
use zuwai_lab::registry::Options;

#[test]
fn docker_makes_the_same_of_the_cases_but_for_known_reasons() {
    let registry = mirror(&[Base::Busybox], &Options::default()).unwrap();
    let known = Base::Busybox.known().unwrap();
    let small = |subject: &Subject| !subject.name.starts_with("malformed/") && subject.is_small().unwrap();
    let subjects: Vec<Subject> = oracle::subjects().unwrap().into_iter().filter(small).collect();
    let daemon = Dockerd::start(&registry).unwrap();
    let report = oracle::compare(&daemon, &subjects, &known, false).unwrap();
    assert!(report.wrong.is_empty(), "{}", report.wrong.join("\n"));
    assert!(report.same > 100, "{} are the same, {} differ for a known reason", report.same, report.known);
}
