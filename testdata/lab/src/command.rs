//! Other programs: run to the end within a time, with what they said kept, and errors that tell which package a missing
//! one is in.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::packages;

/// What a program said, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything written to standard output.
    pub stdout: Vec<u8>,
    /// Everything written to standard error.
    pub stderr: Vec<u8>,
    /// From start to end.
    pub took: Duration,
}

impl Output {
    /// The exit code; a program ended by a signal has 128 and the signal's number, as a shell says it.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }

    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// This output, if the program succeeded; else an error with all it said.
    pub fn success(self) -> Result<Self> {
        if self.status.success() { Ok(self) } else { bail!("{self}") }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} after {:.1?}", self.status, self.took)?;
        for (name, bytes) in [("standard output", &self.stdout), ("standard error", &self.stderr)] {
            if !bytes.is_empty() {
                write!(formatter, "\n--- {name}\n{}", String::from_utf8_lossy(bytes).trim_end())?;
            }
        }
        Ok(())
    }
}

/// Runs a program to its end. Past the limit it is killed, and that is an error.
pub fn run(command: &mut Command, limit: Duration) -> Result<Output> {
    let name = described(command);
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| explained(command, error))?;
    let stdout = gather(child.stdout.take());
    let stderr = gather(child.stderr.take());
    let status = wait(&mut child, start, limit).with_context(|| format!("wait for {name}"))?;
    let Some(status) = status else {
        let _ = child.kill();
        let status = child.wait().with_context(|| format!("wait for {name}"))?;
        let output = Output { status, stdout: joined(stdout), stderr: joined(stderr), took: start.elapsed() };
        bail!("{name} was still running after {limit:?}: {output}");
    };
    Ok(Output { status, stdout: joined(stdout), stderr: joined(stderr), took: start.elapsed() })
}

/// Runs a program that must succeed within five minutes; its standard output.
pub fn must(command: &mut Command) -> Result<String> {
    let name = described(command);
    let output = run(command, Duration::from_mins(5))?.success().with_context(|| name)?;
    Ok(output.out())
}

/// An error that names the package when a program is not to be found; for programs that another one starts.
pub fn require(program: &str) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        return Ok(());
    }
    Err(explained(&Command::new(program), io::Error::from(ErrorKind::NotFound)))
}

/// The program and its arguments, for messages.
pub fn described(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    words.join(" ")
}

/// Why a program did not start; a missing one is named with its package.
pub fn explained(command: &Command, error: io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy().into_owned();
    let missing = error.kind() == ErrorKind::NotFound;
    let error = anyhow::Error::new(error).context(format!("start {program}"));
    if !missing {
        return error;
    }
    match packages::providing(&program) {
        Some(package) => error.context(format!(
            "{program} is not installed: `cargo xtask test` installs the Debian package {package}, or \
             `apt-get install --no-install-recommends {package}`"
        )),
        None => error.context(format!("{program} is not installed")),
    }
}

fn wait(child: &mut Child, start: Instant, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn gather(pipe: Option<impl Read + Send + 'static>) -> Option<JoinHandle<Vec<u8>>> {
    pipe.map(|mut pipe| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            bytes
        })
    })
}

fn joined(handle: Option<JoinHandle<Vec<u8>>>) -> Vec<u8> {
    handle.and_then(|handle| handle.join().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_and_the_code_are_kept() {
        let output =
            run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]), Duration::from_secs(5)).unwrap();
        assert_eq!((output.code(), output.out().as_str(), output.err().as_str()), (3, "out\n", "err\n"));
        assert!(output.success().unwrap_err().to_string().contains("err"));
    }

    #[test]
    fn a_program_that_takes_too_long_is_an_error() {
        let error = run(Command::new("sleep").arg("60"), Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("sleep 60 was still running"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = explained(&Command::new("skopeo"), io::Error::from(ErrorKind::NotFound));
        assert!(error.to_string().contains("the Debian package skopeo"), "{error}");
    }
}
