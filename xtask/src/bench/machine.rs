//! What was measured on.

use std::fs;

use anyhow::{Context, Result};

/// One line: the processor, how many cores, memory, kernel, and what else the machine was doing.
pub(crate) fn describe() -> Result<String> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
    let (cpu, memory, load) = (read("/proc/cpuinfo")?, read("/proc/meminfo")?, read("/proc/loadavg")?);
    let model = after(&cpu, "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kilobytes = kilobytes(&memory, "MemTotal").unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let load = load.split(' ').next().unwrap_or("?");
    Ok(format!(
        "{model}, {cores} cores, {} GB, Linux {}; load before: {load}.",
        kilobytes >> 20,
        kernel.split('-').next().unwrap_or_default().trim()
    ))
}

/// Touches the memory that is free, up to so many bytes, and lets go of it again. A virtual machine may give free memory back
/// to its host, and who touches it next pays for that.
pub(crate) fn have_memory(most: u64) -> Result<()> {
    let memory = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let free = kilobytes(&memory, "MemFree").context("/proc/meminfo tells no MemFree")? << 10;
    let size = usize::try_from(most.min(free / 8 * 7)).context("more memory than can be addressed")?;
    let mut touched = vec![0_u8; size];
    touched.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    std::hint::black_box(touched);
    Ok(())
}

fn kilobytes(memory: &str, key: &str) -> Option<u64> {
    after(memory, key)?.split(' ').next()?.parse().ok()
}

/// What stands behind a key and a colon.
fn after(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
