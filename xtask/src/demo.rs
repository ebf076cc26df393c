//! `cargo xtask demo`: the main job, from a Dockerfile in a private git repository to an image in a private registry, in a
//! container without privileges; and what another tool makes of the result.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use zuwai_lab::example::{Application, GREETING, TOKEN};
use zuwai_lab::layout::text;
use zuwai_lab::{Example, packages};

use crate::cargo::build_zuwai;

pub(crate) fn run(words: &[String]) -> Result<()> {
    ensure!(words.is_empty(), "cargo xtask demo takes no words, and got {words:?}");
    let installed = packages::ensure_all()?;
    if !installed.is_empty() {
        println!("Installed the Debian packages {}.", installed.join(" "));
    }
    let binary = build_zuwai()?;
    println!("Making the base images, git server and registries; the first time takes a few minutes.");
    let example = Example::new(&binary, Application::Maven)?;

    println!("\nA container with the default capabilities and no namespaces, mounts or privileges runs");
    println!("  /kaniko/executor");
    for argument in example.all_arguments() {
        println!("    {}", argument.replace(TOKEN, "<token>"));
    }
    println!("with the registry's password in /kaniko/.docker/config.json:\n");
    let start = Instant::now();
    let output = example.container()?.time_limit(Duration::from_mins(10)).run(example.all_arguments())?;
    let took = start.elapsed();
    show(&output.err(), 24);
    println!("Of what maven wrote meanwhile, the end:");
    show(&output.out(), 6);
    output.success().context("the build failed")?;

    let manifest = example.registry.manifest("test-application:1.0")?;
    let layers = manifest["layers"].as_array().context("the manifest lists no layers")?;
    println!("\nskopeo finds in the registry {} with {} layers:", example.destination(), layers.len());
    for layer in layers {
        println!("  {} {:>11} bytes", text(layer, "digest")?, layer["size"].to_string());
    }
    let start = Instant::now();
    let result = example.run_result("test-application:1.0")?.success().context("the image does not run")?;
    println!("\npodman pulls it and runs it, and after {:.1?} the application has said:", start.elapsed());
    println!("  {}", result.out().trim_end());
    ensure!(result.out() == GREETING, "the application was to say {GREETING:?}");
    println!("\nDone. The build took {took:.1?}. Nothing of all this is left running.");
    Ok(())
}

/// Prints the last lines of a text, without colours and empty ones.
fn show(text: &str, lines: usize) {
    for line in last(text, lines) {
        println!("  | {line}");
    }
}

fn last(text: &str, count: usize) -> Vec<String> {
    let plain = without_colours(text);
    let lines: Vec<_> = plain.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

/// The text without the sequences that set a terminal's colours: escape, `[`, digits and `;`, `m`.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|character: char| character.is_ascii_digit() || character == ';');
        plain.push_str(rest.strip_prefix('m').unwrap_or(rest));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::last;

    #[test]
    fn the_end_of_a_log_is_shown_without_colours() {
        assert_eq!(last("one\n\u{1b}[1;34mtwo\u{1b}[m\n\n three\n", 2), ["two", " three"]);
        assert_eq!(last("one\n", 2), ["one"]);
    }
}
