//! The same build by what people use today: Debian's buildah, on the machine itself, as root, with overlay storage.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use zuwai_lab::command::{must, run};
use zuwai_lab::{Registry, Scratch};

use super::cost::Cost;

/// buildah with a store of its own, empty at first.
pub(super) struct Buildah {
    scratch: Scratch,
    disk: PathBuf,
    measure: PathBuf,
}

impl Buildah {
    pub(super) fn new(measure: &Path) -> Result<Self> {
        let scratch = Scratch::new()?;
        let disk = scratch.disk("disk", super::DISK)?;
        Ok(Self { scratch, disk, measure: measure.to_owned() })
    }

    /// Pulls the bases, builds and pushes: the cost of the three together.
    pub(super) fn build(&self, context: &Path, registry: &Registry, name: &str) -> Result<Cost> {
        let folder = self.scratch.path();
        let host = registry.host();
        let policy = folder.join("policy.json");
        std::fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).context("write policy.json")?;
        let mirrors = format!(
            "[[registry]]\nprefix = \"docker.io\"\nlocation = \"{host}\"\ninsecure = true\n\
             [[registry]]\nlocation = \"{host}\"\ninsecure = true\n"
        );
        let registries = folder.join("registries.conf");
        std::fs::write(&registries, format!("unqualified-search-registries = [\"docker.io\"]\n{mirrors}"))
            .context("write registries.conf")?;
        let policy = policy.display().to_string();
        super::have_memory()?;
        let built = self.step(
            &registries,
            &["bud", "--isolation=chroot", "--layers", "--pull", "--signature-policy", &policy, "--tag", "built"],
            &[&context.display().to_string()],
        )?;
        let destination = format!("docker://{host}/{name}");
        let pushed = self.step(
            &registries,
            &["push", "--tls-verify=false", "--signature-policy", &policy, "built"],
            &[&destination],
        )?;
        Ok(built.then(pushed))
    }

    fn step(&self, registries: &Path, words: &[&str], more: &[&str]) -> Result<Cost> {
        let folder = self.scratch.path();
        let result = folder.join("measured.json");
        let mut command = Command::new(&self.measure);
        command.arg(&result).arg("buildah");
        command.args(["--storage-driver=overlay", "--root"]).arg(self.disk.join("root"));
        command.arg("--runroot").arg(folder.join("run")).arg("--registries-conf").arg(registries);
        command.args(words).args(more).env("TMPDIR", &self.disk).env("HOME", folder);
        run(&mut command, Duration::from_mins(30))?.success().with_context(|| format!("buildah {}", words[0]))?;
        Cost::read(&result)
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        // Its overlay mounts of containers that are no more; the files go with the scratch folder.
        let folder = self.scratch.path();
        let mut remove = Command::new("buildah");
        remove.args(["--storage-driver=overlay", "--root"]).arg(self.disk.join("root"));
        let _ = must(remove.arg("--runroot").arg(folder.join("run")).args(["rm", "--all"]).env("HOME", folder));
    }
}
