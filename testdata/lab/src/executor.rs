//! zuwai in the image it ships in: `deploy/Dockerfile` around the binary under test, built by podman, in containers as
//! unprivileged as a Pod's.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache::made_once;
use crate::command::must;
use crate::layout::sha256;
use crate::places::repository;
use crate::{Container, Engine};

/// What the executor's image is called in the lab.
const IMAGE: &str = "localhost/zuwai/executor:lab";

/// The executor's images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// `deploy/Dockerfile`: the binary and nothing to run a script with.
    Plain,
    /// `deploy/debug.Dockerfile`: with busybox, whose `sh` runners start.
    Debug,
}

impl Variant {
    /// The Dockerfile it is built with, relative to the repository.
    pub fn dockerfile(self) -> &'static str {
        match self {
            Variant::Plain => "deploy/Dockerfile",
            Variant::Debug => "deploy/debug.Dockerfile",
        }
    }
}

/// The executor's image, ready to run.
#[derive(Debug)]
pub struct Executor {
    engine: Engine,
}

impl Executor {
    /// Packs the binary into the image, once for each binary, and makes an engine that has it.
    pub fn new(binary: &Path) -> Result<Self> {
        Self::of_variant(binary, Variant::Plain)
    }

    /// The same for the other image.
    pub fn of_variant(binary: &Path, variant: Variant) -> Result<Self> {
        let store = image_store(binary, variant)?;
        Ok(Self { engine: Engine::new(&[&store])? })
    }

    /// The same, with a disk that holds no more than so many bytes.
    pub fn in_little_space(binary: &Path, bytes: u64) -> Result<Self> {
        let store = image_store(binary, Variant::Plain)?;
        Ok(Self { engine: Engine::in_little_space(bytes, &[&store])? })
    }

    /// The same, with files on an ext4 of so many bytes, as a node has them.
    pub fn on_a_disk(binary: &Path, bytes: u64) -> Result<Self> {
        let store = image_store(binary, Variant::Plain)?;
        Ok(Self { engine: Engine::on_a_disk(bytes, &[&store])? })
    }

    /// A container of it. Its arguments are those of `/kaniko/executor`.
    pub fn container(&self) -> Container<'_> {
        self.engine.container(IMAGE)
    }

    /// The engine it runs in.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// The storage folder with the image in it.
fn image_store(binary: &Path, variant: Variant) -> Result<PathBuf> {
    let bytes = fs::read(binary)
        .with_context(|| format!("read {}: build it first with `cargo build --package zuwai`", binary.display()))?;
    let dockerfile = repository().join(variant.dockerfile());
    let recipe = fs::read(&dockerfile).with_context(|| format!("read {}", dockerfile.display()))?;
    let key = sha256(&[sha256(&bytes), sha256(&recipe)].concat().into_bytes());
    let name = binary.file_name().unwrap_or_default().to_string_lossy();
    let kind = match variant {
        Variant::Plain => "executor",
        Variant::Debug => "executor-debug",
    };
    made_once(&format!("{kind}-{name}"), &key[..16], |part| {
        let engine = Engine::keeping_images_in(part)?;
        let tree = engine.scratch().folder("tree")?;
        lay_out(binary, variant, &tree)?;
        let mut build = engine.podman();
        build.args(["build", "--quiet", "--network=none", "--tag", IMAGE, "--file"]).arg(&dockerfile).arg(&tree);
        must(&mut build).with_context(|| format!("build the executor's image from {}", variant.dockerfile())).map(drop)
    })
}

/// Lays out the files of an executor's image: what its Dockerfile copies.
pub fn lay_out(binary: &Path, variant: Variant, tree: &Path) -> Result<()> {
    let folder = |path: &str, mode: u32| -> Result<()> {
        let path = tree.join(path);
        fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("make {}", path.display()))
    };
    folder("", 0o755)?;
    folder("kaniko", 0o777)?;
    folder("kaniko/.docker", 0o777)?;
    folder("kaniko/ssl", 0o755)?;
    folder("kaniko/ssl/certs", 0o755)?;
    folder("etc", 0o755)?;
    folder("root", 0o700)?;
    folder("tmp", 0o1777)?;
    // Kubernetes mounts a token below /var/run: through the link it lies in /run, where no base image has a link of its own.
    folder("run", 0o755)?;
    folder("var", 0o755)?;
    symlink("../run", tree.join("var/run")).context("link /var/run")?;
    folder("workspace", 0o777)?;
    fs::write(tree.join("etc/nsswitch.conf"), "hosts: files dns\n").context("write etc/nsswitch.conf")?;
    let executor = tree.join("kaniko/executor");
    must(Command::new("strip").arg("-o").arg(&executor).arg(binary)).context("strip the binary")?;
    fs::set_permissions(&executor, fs::Permissions::from_mode(0o755)).context("make the binary executable")?;
    ensure!(is_static(&executor)?, "{} asks for a dynamic loader: a FROM scratch image has none", binary.display());
    symlink("executor", tree.join("kaniko/warmer")).context("link the warmer")?;
    if variant == Variant::Debug {
        folder("bin", 0o755)?;
        folder("busybox", 0o755)?;
        lay_out_busybox(tree)?;
    }
    Ok(())
}

/// Every applet by its name, and `/bin/sh`, which scripts begin with.
fn lay_out_busybox(tree: &Path) -> Result<()> {
    let program = tree.join("busybox/busybox");
    fs::copy("/bin/busybox", &program).context("copy /bin/busybox (of the package busybox-static)")?;
    for applet in must(Command::new(&program).arg("--list"))?.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", tree.join("busybox").join(applet)).with_context(|| format!("link {applet}"))?;
    }
    symlink("/busybox/sh", tree.join("bin/sh")).context("link /bin/sh")
}

/// Whether an ELF file starts without a dynamic loader: it has no segment of the type `PT_INTERP`.
pub fn is_static(path: &Path) -> Result<bool> {
    const PT_INTERP: u32 = 3;
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let number = |offset: usize, length: usize| -> Result<u64> {
        let field = bytes.get(offset..offset + length).context("the file is cut short")?;
        Ok(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "{} is no 64-bit ELF file", path.display());
    let (table, entry, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let at = usize::try_from(table + index * entry).context("the file is too large")?;
        if number(at, 4)? == u64::from(PT_INTERP) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_program_is_told_from_a_dynamic_one() {
        assert!(is_static(Path::new("/bin/busybox")).unwrap());
        assert!(!is_static(Path::new("/bin/ls")).unwrap());
    }
}
