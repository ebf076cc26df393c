//! `cargo xtask test`: everything that the tests need, then all of them.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use zuwai_lab::base::{self, Base};
use zuwai_lab::packages;

use crate::cargo::{cargo, must};

pub(crate) fn run(words: &[String]) -> Result<()> {
    let start = Instant::now();
    let installed = packages::ensure_all()?;
    let packages =
        if installed.is_empty() { "all there".to_owned() } else { format!("installed {}", installed.join(" ")) };
    println!("xtask: packages: {packages} ({:.0?})", start.elapsed());

    // The base images come out of the package registry while the compiler keeps the processors busy.
    let bases = std::thread::spawn(|| {
        let start = Instant::now();
        base::storage(&Base::ALL).map(|_| start.elapsed())
    });
    let nextest = has_nextest();
    let runner: &[&str] = if nextest { &["nextest", "run"] } else { &["test"] };
    let start = Instant::now();
    must(cargo().args(runner).args(["--workspace", "--no-run"])).context("build the tests")?;
    println!("xtask: tests: built ({:.0?})", start.elapsed());
    let took = bases.join().expect("making base images does not panic").context("make the base images")?;
    println!("xtask: base images: there ({took:.0?})");

    if nextest {
        // nextest knows no examples in documentation. They come first, so that the last lines are of the many.
        must(quiet(cargo().args(["test", "--workspace", "--doc"])))?;
    }
    must(quiet(cargo().args(runner).args(["--workspace", "--no-fail-fast"]).args(words)))
}

/// Errors of the lab tell what is missing; where in it they came from is of no help.
fn quiet(command: &mut Command) -> &mut Command {
    command.env("RUST_LIB_BACKTRACE", "0")
}

fn has_nextest() -> bool {
    let asked = cargo().args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}
