//! Docker's daemon with the `BuildKit` that is in it, started by hand: its own storage, its own socket, no network of its
//! own, images from the lab's registry.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Answer, Inputs, Reference};
use crate::command::{must, run};
use crate::layout::{Layout, text};
use crate::packing::Packing;
use crate::server::Server;
use crate::{Registry, Scratch, tar};

/// A running daemon; it ends with this value.
#[derive(Debug)]
pub struct Dockerd {
    /// Before the folder: what is still mounted there goes with the daemon. Builds hold it to read; who must start it anew, or
    /// wants it alone, to write.
    server: RwLock<Server>,
    scratch: Scratch,
    mirror: String,
}

impl Dockerd {
    /// Starts one that has its base images from this registry.
    pub fn start(registry: &Registry) -> Result<Self> {
        let scratch = Scratch::new()?;
        let server = RwLock::new(serve(&scratch, &registry.host())?);
        let daemon = Self { server, scratch, mirror: registry.host() };
        must(&mut daemon.docker(&["version"])).context("speak to dockerd")?;
        Ok(daemon)
    }

    /// What an image prints that `docker load` takes out of an archive.
    pub fn load_and_run(&self, archive: &Path, image: &str) -> Result<String> {
        must(self.docker(&["load", "--quiet", "--input"]).arg(archive)).context("docker load")?;
        must(&mut self.docker(&["run", "--rm", "--network=none", image])).with_context(|| format!("docker run {image}"))
    }

    fn docker<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        let folder = self.scratch.path();
        // Debian's client: another one on the PATH may want a builder of its own.
        let mut command = Command::new("/usr/bin/docker");
        command.args(words).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("DOCKER_HOST", format!("unix://{}", folder.join("socket").display()));
        command.env("DOCKER_BUILDKIT", "1").env("DOCKER_CONFIG", folder.join("config")).env("HOME", folder);
        command
    }

    /// What was left of the one before may be in the way for a moment.
    fn start_again(&self, server: &mut Server) -> Result<()> {
        let mut tries = 5;
        loop {
            let started = serve(&self.scratch, &self.mirror);
            tries -= 1;
            match started {
                Ok(started) => *server = started,
                Err(error) if tries == 0 => return Err(error),
                Err(_) => {}
            }
            if self.is_there() {
                return Ok(());
            }
            ensure!(tries > 0, "dockerd does not start again:\n{}", server.log());
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn is_there(&self) -> bool {
        must(&mut self.docker(&["version"])).is_ok()
    }

    /// Builds; `None` when the daemon is not there any more.
    fn attempt(&self, inputs: &Inputs, scratch: &Scratch) -> Result<Option<Answer>> {
        let tag = format!("oracle-{}", inputs.name.to_lowercase());
        let mut command = self.docker(&["build", "--network=host", "--progress=plain", "--tag", &tag, "--file"]);
        command.arg(&inputs.dockerfile).args(&inputs.flags).arg(&inputs.context);
        let output = run(&mut command, Duration::from_mins(3))?;
        if !output.status.success() {
            return Ok(self.is_there().then(|| Answer::Refused(super::last_words(&output.err()))));
        }
        let layout = match self.image(&tag, scratch) {
            Err(_) if !self.is_there() => return Ok(None),
            layout => layout?,
        };
        must(&mut self.docker(&["rmi", "--no-prune", &tag])).context("forget the image")?;
        Ok(Some(Answer::Image(layout)))
    }

    /// An image of the daemon's as a layout: `docker save` gives its config and its layers' tars.
    fn image(&self, tag: &str, scratch: &Scratch) -> Result<Layout> {
        let archive = scratch.path().join("image.tar");
        must(self.docker(&["save", "--output"]).arg(&archive).arg(tag)).context("docker save")?;
        let bytes = std::fs::read(&archive).context("read what docker saved")?;
        let members = tar::read(&bytes).context("read what docker saved")?;
        let member = |name: &str| {
            let found = members.iter().find(|member| member.name == name.as_bytes() && member.kind == b'0');
            found.map(|member| member.data.as_slice()).with_context(|| format!("docker saved no {name}"))
        };
        let manifest: Value = serde_json::from_slice(member("manifest.json")?).context("read manifest.json")?;
        let config: Value =
            serde_json::from_slice(member(text(&manifest[0], "Config")?)?).context("read the config")?;
        let layout = Layout::create(&scratch.folder("image")?)?;
        let names = manifest[0]["Layers"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let layers = names.map(|name| layout.put_layer(&mut followed(&members, name)?, Packing::Plain));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let image = layout.put_image(config, &layers)?;
        layout.point_to(&[image])?;
        Ok(layout)
    }
}

/// A layer's tar in an archive: a layer that is there twice is a link the second time.
fn followed<'a>(members: &'a [tar::Entry], name: &str) -> Result<&'a [u8]> {
    let member = members.iter().find(|member| member.name == name.as_bytes());
    let member = member.with_context(|| format!("docker saved no {name}"))?;
    if member.kind != b'2' {
        return Ok(&member.data);
    }
    // `../<id>/layer.tar`
    let target = String::from_utf8_lossy(&member.link).trim_start_matches("../").to_owned();
    let target = members.iter().find(|member| member.name == target.as_bytes() && member.kind == b'0');
    Ok(&target.with_context(|| format!("docker saved no {name}"))?.data)
}

impl Reference for Dockerd {
    fn name(&self) -> &'static str {
        "dockerd"
    }

    fn build(&self, inputs: &Inputs, scratch: &Scratch) -> Result<Answer> {
        let together = self.server.read().unwrap_or_else(PoisonError::into_inner);
        let answer = self.attempt(inputs, scratch)?;
        drop(together);
        if let Some(answer) = answer {
            return Ok(answer);
        }
        // The daemon is no more, because of this build or of another one: once more, alone.
        let mut alone = self.server.write().unwrap_or_else(PoisonError::into_inner);
        if !self.is_there() {
            self.start_again(&mut alone)?;
        }
        if let Some(answer) = self.attempt(inputs, scratch)? {
            return Ok(answer);
        }
        self.start_again(&mut alone)?;
        Ok(Answer::Refused("the daemon panics".to_owned()))
    }
}

/// Starts the program, with all it writes in the folder.
fn serve(scratch: &Scratch, mirror: &str) -> Result<Server> {
    let path = |name: &str| scratch.path().join(name);
    for left in ["pid", "socket"] {
        let _ = std::fs::remove_file(path(left));
    }
    std::fs::write(path("daemon.json"), "{}").context("write daemon.json")?;
    let mut command = Command::new("dockerd");
    // No bridge and no rules: the daemon changes nothing of the machine's network.
    command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]);
    let places = [("config-file", "daemon.json"), ("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid")];
    for (flag, place) in places {
        command.arg(format!("--{flag}={}", path(place).display()));
    }
    command.arg(format!("--host=unix://{}", path("socket").display()));
    command.arg(format!("--registry-mirror=http://{mirror}")).env("TMPDIR", scratch.folder("tmp")?);
    let mut server = Server::start(&command, &path("log")).context("start dockerd")?;
    server.wait_for_file(&path("socket")).context("start dockerd")?;
    Ok(server)
}
