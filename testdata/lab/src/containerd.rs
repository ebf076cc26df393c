//! containerd with the differ that is in it, which `BuildKit` packs layers with, asked through `ctr`: its own storage, its
//! own sockets. Two folders go in, and the layer comes out that turns the one into the other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Scratch;
use crate::command::{must, require, run};
use crate::server::Server;

/// A running containerd; it ends with this value.
#[derive(Debug)]
pub struct Containerd {
    /// Before the folder, which it has open.
    _server: Server,
    socket: PathBuf,
    before: PathBuf,
    now: PathBuf,
    _scratch: Scratch,
}

impl Containerd {
    /// Starts one with two empty snapshots, which are plain folders.
    pub fn start() -> Result<Self> {
        require("ctr")?;
        let scratch = Scratch::new()?;
        let path = |name: &str| scratch.path().join(name);
        let socket = path("socket");
        let places = |name: &str, place: &str| format!("{name} = {:?}\n", path(place).display().to_string());
        let config = format!(
            "version = 2\n{}{}disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n{}",
            places("root", "root"),
            places("state", "state"),
            places("address", "socket")
        );
        std::fs::write(path("config.toml"), config).context("write containerd's config.toml")?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(path("config.toml"));
        let mut server = Server::start(&command, &path("log")).context("start containerd")?;
        server.wait_for_file(&socket).context("start containerd")?;
        let before = snapshot(&socket, "before")?;
        let now = snapshot(&socket, "now")?;
        Ok(Self { _server: server, socket, before, now, _scratch: scratch })
    }

    /// The folder as it was; to be filled.
    pub fn before(&self) -> &Path {
        &self.before
    }

    /// The folder as it is.
    pub fn now(&self) -> &Path {
        &self.now
    }

    /// The layer (not compressed) that turns the one into the other.
    pub fn diff(&self) -> Result<Vec<u8>> {
        let mut command = snapshots(&self.socket);
        command.args(["diff", "--media-type", "application/vnd.oci.image.layer.v1.tar", "before", "now"]);
        let output = run(&mut command, Duration::from_mins(1))?.success().context("ctr snapshots diff")?;
        Ok(output.stdout)
    }
}

/// Makes an empty snapshot and says where its folder is: the command by which it could be mounted names it.
fn snapshot(socket: &Path, name: &str) -> Result<PathBuf> {
    must(snapshots(socket).args(["prepare", name])).context("make a snapshot")?;
    let told = must(snapshots(socket).args(["mounts", "/mnt", name])).context("ask where a snapshot is")?;
    let folder = told.split_whitespace().map(Path::new).find(|word| word.is_absolute() && *word != Path::new("/mnt"));
    let folder = folder.with_context(|| format!("ctr names no folder: {told}"))?;
    ensure!(folder.is_dir(), "{} is no folder", folder.display());
    Ok(folder.to_owned())
}

fn snapshots(socket: &Path) -> Command {
    let mut command = Command::new("ctr");
    command.arg("--address").arg(socket).args(["snapshots", "--snapshotter", "native"]);
    command
}
