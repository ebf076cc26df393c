//! What was measured on.

use std::fs;

use anyhow::{Context, Result};

/// One line: the processor, how many cores, memory, kernel, and what else the machine was doing.
pub(crate) fn describe() -> Result<String> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
    let (cpu, memory, load) = (read("/proc/cpuinfo")?, read("/proc/meminfo")?, read("/proc/loadavg")?);
    let after = |text: &str, key: &str| {
        text.lines()
            .find(|line| line.starts_with(key))
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
    };
    let model = after(&cpu, "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kilobytes: u64 = after(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let load = load.split(' ').next().unwrap_or("?");
    Ok(format!(
        "{model}, {cores} cores, {} GB, Linux {}; load before: {load}.",
        kilobytes >> 20,
        kernel.split('-').next().unwrap_or_default().trim()
    ))
}
