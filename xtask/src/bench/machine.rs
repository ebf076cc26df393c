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

/// A virtual machine gives free memory back to its host (Linux's page reporting); whoever is given it next waits for the host,
/// in time that counts as its own: 5 µs for 4 KiB in place of 0.4 where it was measured, and up to half of what it takes to unpack a
/// layer. Until this is dropped, nothing is given back, for all that are measured alike.
pub(crate) struct KeptMemory {
    /// What the kernel had been told before; `None` where it has no such thing, or does not let it be told.
    before: Option<String>,
}

/// The order of the smallest block that is reported, as an exponent of two of pages.
const REPORTED: &str = "/sys/module/page_reporting/parameters/page_reporting_order";
/// One more than the order of the largest block there is (`MAX_PAGE_ORDER` is 10 on `x86_64`).
const NONE_REPORTED: &str = "11";

pub(crate) fn keep_memory() -> KeptMemory {
    let before = fs::read_to_string(REPORTED).ok().filter(|_| fs::write(REPORTED, NONE_REPORTED).is_ok());
    KeptMemory { before }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && let Err(error) = fs::write(REPORTED, before)
        {
            eprintln!("xtask: {REPORTED} was {} and could not be put back: {error}", before.trim());
        }
    }
}

/// Touches the memory that is free, up to so many bytes, and lets go of it again, so that what the host had got back (see
/// [`keep_memory`]) is there.
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
