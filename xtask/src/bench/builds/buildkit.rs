//! The same build by Docker's daemon and the `BuildKit` in it: Debian's docker.io, as root on the machine itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use zuwai_lab::command::{must, run};
use zuwai_lab::server::Server;
use zuwai_lab::{Registry, Scratch};

use super::cost::Cost;

/// A daemon's folders, empty at first. The daemon itself runs while it builds.
pub(super) struct BuildKit {
    scratch: Scratch,
    disk: PathBuf,
    measure: PathBuf,
}

impl BuildKit {
    pub(super) fn new(measure: &Path) -> Result<Self> {
        let scratch = Scratch::new()?;
        let disk = scratch.disk("disk", super::DISK)?;
        Ok(Self { scratch, disk, measure: measure.to_owned() })
    }

    /// Pulls the bases, builds and pushes: the cost of the daemon and its client together, less what the daemon costs that
    /// is started and ended with nothing to do.
    pub(super) fn build(&self, context: &Path, registry: &Registry, name: &str) -> Result<Cost> {
        let idle = self.daemon(registry, || Ok(()))?;
        let mut clients = Cost::default();
        let destination = format!("{}/{name}", registry.host());
        let busy = self.daemon(registry, || {
            let build = ["build", "--network=host", "--progress=plain", "--pull", "--tag", &destination];
            super::have_memory()?;
            clients = self.client(&build, Some(context))?.then(self.client(&["push", "--quiet", &destination], None)?);
            Ok(())
        })?;
        Ok(Cost { wall: clients.wall, cpu: (busy.cpu - idle.cpu).max(0.0) + clients.cpu, ..busy })
    }

    /// Runs a daemon while something is done with it. On a machine that is out of breath its containerd takes longer than the daemon
    /// waits for it, which then ends: it is started again.
    fn daemon(&self, registry: &Registry, work: impl FnOnce() -> Result<()>) -> Result<Cost> {
        let path = |name: &str| self.scratch.path().join(name);
        let mut tries = 0;
        let server = loop {
            let server = self.start(registry)?;
            if self.answers() {
                break server;
            }
            tries += 1;
            ensure!(tries < 3, "dockerd does not start:\n{}", server.log());
        };
        work().with_context(|| server.log())?;
        let pid = fs::read_to_string(path("pid")).context("read dockerd's pid")?;
        must(Command::new("kill").arg(pid.trim()))?;
        let start = Instant::now();
        while !path("daemon.measured").exists() {
            ensure!(start.elapsed() < Duration::from_mins(1), "dockerd does not end:\n{}", server.log());
            thread::sleep(Duration::from_millis(50));
        }
        // It is written in one call, but may have been seen between the making and the writing.
        thread::sleep(Duration::from_millis(100));
        Cost::read(&path("daemon.measured"))
    }

    fn start(&self, registry: &Registry) -> Result<Server> {
        let path = |name: &str| self.scratch.path().join(name);
        for left in ["pid", "socket", "daemon.measured"] {
            let _ = fs::remove_file(path(left));
        }
        fs::write(path("daemon.json"), "{}").context("write daemon.json")?;
        let mut command = Command::new(&self.measure);
        command.arg(path("daemon.measured")).arg("dockerd");
        // No bridge and no rules: the daemon changes nothing of the machine's network.
        command.args([
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
        ]);
        command.arg("--storage-driver=overlay2").arg(format!("--data-root={}", self.disk.join("data").display()));
        for (flag, place) in [("config-file", "daemon.json"), ("exec-root", "exec"), ("pidfile", "pid")] {
            command.arg(format!("--{flag}={}", path(place).display()));
        }
        command.arg(format!("--host=unix://{}", path("socket").display()));
        command.arg(format!("--registry-mirror=http://{}", registry.host())).env("TMPDIR", &self.disk);
        Server::start(&command, &path("log")).context("start dockerd")
    }

    /// Waits until the daemon answers; false when it has ended, or does not.
    fn answers(&self) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_mins(1) && !self.scratch.path().join("daemon.measured").exists() {
            if self.scratch.path().join("socket").exists() && self.client(&["version"], None).is_ok() {
                return true;
            }
            thread::sleep(Duration::from_millis(200));
        }
        false
    }

    fn client(&self, words: &[&str], context: Option<&Path>) -> Result<Cost> {
        let folder = self.scratch.path();
        let result = folder.join("client.measured");
        let mut command = Command::new(&self.measure);
        command.arg(&result).arg("/usr/bin/docker").args(words).args(context).env("HOME", folder);
        command.env("DOCKER_HOST", format!("unix://{}", folder.join("socket").display())).env("DOCKER_BUILDKIT", "1");
        command.env("DOCKER_CONFIG", folder.join("config"));
        run(&mut command, Duration::from_mins(30))?.success().with_context(|| format!("docker {}", words[0]))?;
        Cost::read(&result)
    }
}
