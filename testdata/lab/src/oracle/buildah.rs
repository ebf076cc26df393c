//! Debian's buildah with a store of its own, images from the lab's registry. It has layers of its own kind and a history
//! of its own, so what is compared is what the image is like: its config and its files.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Answer, Aspect, Inputs, Reference};
use crate::command::{must, run};
use crate::layout::Layout;
use crate::{Registry, Scratch};

/// A store, empty at first; it ends with this value.
#[derive(Debug)]
pub struct Buildah {
    scratch: Scratch,
}

impl Buildah {
    /// One that has its base images from this registry.
    pub fn new(registry: &Registry) -> Result<Self> {
        let scratch = Scratch::new()?;
        let write = |name: &str, text: &str| {
            std::fs::write(scratch.path().join(name), text).with_context(|| format!("write {name}"))
        };
        write("policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)?;
        let mirror = format!("prefix = \"docker.io\"\nlocation = \"{}\"\ninsecure = true\n", registry.host());
        write("registries.conf", &format!("unqualified-search-registries = [\"docker.io\"]\n[[registry]]\n{mirror}"))?;
        scratch.folder("tmp")?;
        Ok(Self { scratch })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn buildah(&self, words: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--storage-driver=overlay").arg("--root").arg(self.path("root"));
        command.arg("--runroot").arg(self.path("run")).arg("--registries-conf").arg(self.path("registries.conf"));
        command.args(words).env("TMPDIR", self.path("tmp")).env("HOME", self.scratch.path());
        command
    }
}

impl Reference for Buildah {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn aspect(&self) -> Aspect {
        Aspect::Result
    }

    fn build(&self, inputs: &Inputs, scratch: &Scratch) -> Result<Answer> {
        let tag = format!("oracle-{}", inputs.name.to_lowercase());
        let mut command = self.buildah(&["bud", "--isolation=chroot", "--network=host", "--layers", "--tag", &tag]);
        command.arg("--signature-policy").arg(self.path("policy.json")).arg("--file").arg(&inputs.dockerfile);
        let output = run(command.args(&inputs.flags).arg(&inputs.context), Duration::from_mins(3))?;
        if !output.status.success() {
            return Ok(Answer::Refused(super::last_words(&output.err())));
        }
        let folder = scratch.path().join("image");
        let mut push = self.buildah(&["push", "--disable-compression", "--signature-policy"]);
        push.arg(self.path("policy.json")).arg(&tag).arg(format!("oci:{}:image", folder.display()));
        // Some of what it builds it cannot give away: a layer that would delete what it holds.
        let pushed = run(&mut push, Duration::from_mins(3))?;
        if !pushed.status.success() {
            return Ok(Answer::Refused(super::last_words(&pushed.err())));
        }
        Layout::open(&folder).map(Answer::Image)
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        // Its overlay mounts of containers that are no more; the files go with the scratch folder.
        let _ = must(&mut self.buildah(&["rm", "--all"]));
    }
}
