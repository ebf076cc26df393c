//! What criterion measured, read from the files that it leaves.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use zuwai_lab::places;

use crate::cargo::{cargo, must};

/// Seconds, by group and function.
pub(crate) struct Measured(HashMap<(String, String), f64>);

impl Measured {
    /// Seconds of the fastest sample: what else the machine does makes a sample slower and none faster.
    pub(crate) fn fastest(&self, group: &str, function: &str) -> Option<f64> {
        self.0.get(&(group.to_owned(), function.to_owned())).copied()
    }
}

/// Runs a bench of the package of benches, with words a part of it, and returns all that was measured of it, now or before.
pub(crate) fn run(bench: &str, words: &[String]) -> Result<Measured> {
    let mut command = cargo();
    command.args(["bench", "--package", "zuwai-benches", "--bench", bench, "--"]).args(words);
    must(command.env("CRITERION_HOME", home(bench)))?;
    measured(bench)
}

/// All that was measured of a bench so far.
pub(crate) fn measured(bench: &str) -> Result<Measured> {
    let mut measured = HashMap::new();
    if home(bench).exists() {
        read(&home(bench), &mut measured)?;
    }
    Ok(Measured(measured))
}

fn home(bench: &str) -> PathBuf {
    places::cache().with_file_name("criterion").join(bench)
}

fn read(folder: &Path, measured: &mut HashMap<(String, String), f64>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.ends_with("new") {
            let (benchmark, sample) = (json(&path.join("benchmark.json"))?, json(&path.join("sample.json"))?);
            let text = |key: &str| benchmark[key].as_str().unwrap_or_default().to_owned();
            if let Some(seconds) = fastest(&sample) {
                measured.insert((text("group_id"), text("function_id")), seconds);
            }
        } else if path.is_dir() {
            read(&path, measured)?;
        }
    }
    Ok(())
}

fn json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))
}

/// Seconds for one iteration of the fastest sample.
fn fastest(sample: &Value) -> Option<f64> {
    let numbers = |key: &str| sample[key].as_array().map(|values| values.iter().filter_map(Value::as_f64));
    numbers("times")?.zip(numbers("iters")?).map(|(time, times)| time / times / 1e9).reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_sample_counts() {
        let sample = serde_json::json!({ "iters": [1.0, 2.0], "times": [3e9, 5e9] });
        assert_eq!(fastest(&sample), Some(2.5));
    }
}
