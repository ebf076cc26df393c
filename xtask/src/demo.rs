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
    let said = output.err() + &output.out();
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in shortened(&lines) {
        println!("  | {line}");
    }
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

/// The first and the last lines, where there are more than a screen holds.
fn shortened(lines: &[&str]) -> Vec<String> {
    const HEAD: usize = 8;
    const TAIL: usize = 12;
    if lines.len() <= HEAD + TAIL + 1 {
        return lines.iter().map(ToString::to_string).collect();
    }
    let left_out = format!("… {} more lines …", lines.len() - HEAD - TAIL);
    let head = lines[..HEAD].iter().map(ToString::to_string);
    head.chain([left_out]).chain(lines[lines.len() - TAIL..].iter().map(ToString::to_string)).collect()
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn a_long_log_is_cut_in_its_middle() {
        let lines: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let shown = shortened(&lines);
        assert_eq!(shown.len(), 21);
        assert_eq!((shown[0].as_str(), shown[8].as_str(), shown[20].as_str()), ("0", "… 80 more lines …", "99"));
        assert_eq!(shortened(&lines[..21]).len(), 21);
    }
}
