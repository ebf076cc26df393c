//! A server of the lab: a program that listens on a loopback port, or a socket, as long as its value lives.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::{described, explained, require};

/// A running server. Dropping it ends it and all it started.
#[derive(Debug)]
pub struct Server {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Server {
    /// Starts a program whose output goes to `log`. It ends when this value is dropped, and also when the thread that
    /// started it ends in any other way: `setpriv` of util-linux asks the kernel for that.
    pub fn start(command: &Command, log: &Path) -> Result<Self> {
        if let Some(program) = command.get_program().to_str() {
            require(program)?;
        }
        let file = File::create(log).with_context(|| format!("make {}", log.display()))?;
        let errors = file.try_clone().with_context(|| format!("open {}", log.display()))?;
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(name, value),
                None => guarded.env_remove(name),
            };
        }
        guarded.stdin(Stdio::null()).stdout(file).stderr(errors).process_group(0);
        let child = guarded.spawn().map_err(|error| explained(&guarded, error))?;
        Ok(Self { child, name: described(command), log: log.to_owned() })
    }

    /// Waits until a connection to the port is taken.
    pub fn wait_for_port(&mut self, port: u16) -> Result<()> {
        self.wait_until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
    }

    /// Waits until the file (a socket) is there.
    pub fn wait_for_file(&mut self, path: &Path) -> Result<()> {
        self.wait_until(|| path.exists())
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn wait_until(&mut self, ready: impl Fn() -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().with_context(|| format!("wait for {}", self.name))? {
                bail!("{} ended at its start ({status}):\n{}", self.name, self.log());
            }
            if ready() {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(30) {
                bail!("{} was not ready after 30 s:\n{}", self.name, self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.child.id())
            && let Some(group) = rustix::process::Pid::from_raw(group)
        {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// A loopback port that nobody listened on a moment ago.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port on loopback")?;
    Ok(listener.local_addr().context("find a free port on loopback")?.port())
}

/// Starts a server on a free port; another try with another port where somebody took it in between.
pub fn on_free_port<T>(start: impl Fn(u16) -> Result<T>) -> Result<(T, u16)> {
    let taken = |error: &anyhow::Error| format!("{error:#}").to_lowercase().contains("address already in use");
    let mut tries = 3;
    loop {
        let port = free_port()?;
        tries -= 1;
        match start(port) {
            Err(error) if tries > 0 && taken(&error) => {}
            result => return result.map(|server| (server, port)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_at_once_tells_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such thing >&2; exit 7"]);
        let mut server = Server::start(&command, &folder.path().join("log")).unwrap();
        let error = server.wait_for_file(&folder.path().join("never")).unwrap_err().to_string();
        assert!(error.contains("no such thing") && error.contains("exit status: 7"), "{error}");
    }

    #[test]
    fn a_dropped_server_and_its_children_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("sleep 600 & echo $! > {0}.tmp; mv {0}.tmp {0}; wait", pid.display())]);
        let mut server = Server::start(&command, &folder.path().join("log")).unwrap();
        server.wait_for_file(&pid).unwrap();
        let child = fs::read_to_string(&pid).unwrap();
        let status = PathBuf::from(format!("/proc/{}/status", child.trim()));
        assert!(status.exists());
        drop(server);
        let start = Instant::now();
        while fs::read_to_string(&status).is_ok_and(|text| !text.contains("Z (zombie)")) {
            assert!(start.elapsed() < Duration::from_secs(10), "{} lives on", child.trim());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
