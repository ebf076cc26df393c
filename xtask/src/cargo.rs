//! cargo, called by cargo.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use zuwai_lab::places;

/// A cargo command in the root of the repository.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(places::repository());
    // What cargo told the command that this is, is not meant for the next one.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command with this terminal; an error where it fails.
pub(crate) fn must(command: &mut Command) -> Result<()> {
    let name = zuwai_lab::command::described(command);
    let status = command.status().with_context(|| format!("start {name}"))?;
    ensure!(status.success(), "{name}: {status}");
    Ok(())
}

/// Builds the binary `zuwai` as the tests use it, and tells where it is.
pub(crate) fn build_zuwai() -> Result<PathBuf> {
    build_binary("zuwai", "zuwai", false)
}

/// Builds a binary of a package, optimised as it is shipped or as it is tested, and tells where it is.
pub(crate) fn build_binary(package: &str, name: &str, release: bool) -> Result<PathBuf> {
    build(package, "--bin", name, release)
}

/// Builds an example of a package, optimised as binaries are shipped, and tells where it is.
pub(crate) fn build_example(package: &str, name: &str) -> Result<PathBuf> {
    build(package, "--example", name, true)
}

fn build(package: &str, kind: &str, name: &str, release: bool) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--package", package, kind, name, "--message-format=json-render-diagnostics"]);
    if release {
        build.arg("--release");
    }
    let output = build.stderr(Stdio::inherit()).output().context("start cargo build")?;
    ensure!(output.status.success(), "cargo build --package {package}: {}", output.status);
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo build --package {package} names no executable"))
}
