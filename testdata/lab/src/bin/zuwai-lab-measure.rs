//! Runs a program and writes what it cost as JSON: `zuwai-lab-measure FILE PROGRAM ARGUMENT…`. It ends as the program does.
//!
//! Meant to be the first process of a container: whatever the program leaves behind becomes its child and is counted with
//! the rest. Outside of one it makes itself the reaper of what is left behind.

#![allow(unsafe_code)] // One system call that no library wraps here.

use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions};

fn main() -> Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let file = words.next().context("no file for the result is named")?;
    let program = words.next().context("no program is named")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("become the reaper")?;
    let start = Instant::now();
    let mut child =
        Command::new(&program).args(words).spawn().with_context(|| format!("start {}", program.display()))?;
    let pid = child.id();
    let peak = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let (status, written) = thread::scope(|scope| -> Result<_> {
        // The high-water mark only grows: looking often enough is missing the last moment at most.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(number(&format!("/proc/{pid}/status"), "VmHWM:") << 10, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        });
        let raw = Pid::from_raw(i32::try_from(pid).context("a process id")?).context("a process id")?;
        rustix::process::waitid(WaitId::Pid(raw), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).context("wait")?;
        // What a process that has ended wrote can be read until somebody has waited for it.
        let written = number(&format!("/proc/{pid}/io"), "wchar:");
        done.store(true, Ordering::Relaxed);
        Ok((child.wait().context("wait")?, written))
    })?;
    let wall = start.elapsed();
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::empty()) {}
    let (user, system) = times()?;
    let json = serde_json::json!({
        "wall": wall.as_secs_f64(), "user": user, "system": system, "peak": peak.into_inner(), "written": written,
    });
    fs::write(&file, json.to_string()).with_context(|| format!("write {}", file.display()))?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Seconds of processor, user and system, that all descendants took that were waited for: getrusage(2).
fn times() -> Result<(f64, f64)> {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the pointer is to a value of the type that the call fills in.
    let result = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    if result != 0 {
        return Err(std::io::Error::last_os_error()).context("ask for the times of the children");
    }
    // SAFETY: the call succeeded and has filled it in.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| -> Result<f64> {
        let whole = Duration::from_secs(time.tv_sec.try_into().context("a time")?);
        Ok((whole + Duration::from_micros(time.tv_usec.try_into().context("a time")?)).as_secs_f64())
    };
    Ok((seconds(usage.ru_utime)?, seconds(usage.ru_stime)?))
}

/// The number behind a word at the beginning of a line; 0 where there is none.
fn number(path: &str, word: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let rest = text.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_default();
    rest.split_whitespace().next().and_then(|value| value.parse().ok()).unwrap_or_default()
}
