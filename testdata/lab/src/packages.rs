//! The Debian packages that the lab needs, and how they come onto the machine.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{self, must};

/// One package, what of it the lab calls, and for what.
#[derive(Debug)]
pub struct Package {
    /// Its name in Debian 12.
    pub name: &'static str,
    /// The programs of it that the lab, or one of its other programs, starts.
    pub programs: &'static [&'static str],
}

const fn package(name: &'static str, programs: &'static [&'static str]) -> Package {
    Package { name, programs }
}

/// All of them.
pub const PACKAGES: &[Package] = &[
    // Containers.
    package("podman", &["podman"]),
    package("conmon", &["conmon"]),
    package("runc", &["runc"]),
    package("catatonit", &["catatonit"]),
    package("uidmap", &["newuidmap", "newgidmap"]),
    package("slirp4netns", &["slirp4netns"]),
    package("netavark", &[]),
    package("aardvark-dns", &[]),
    // Other builders.
    package("docker.io", &["dockerd", "docker"]),
    package("containerd", &["containerd", "ctr"]),
    package("buildah", &["buildah"]),
    // Images: moved, looked at, made.
    package("skopeo", &["skopeo"]),
    package("umoci", &["umoci"]),
    package("mmdebstrap", &["mmdebstrap"]),
    package("busybox-static", &["busybox"]),
    package("binutils", &["strip"]),
    // Servers and what they ask for.
    package("docker-registry", &["docker-registry"]),
    package("apache2-utils", &["htpasswd"]),
    package("nginx-light", &["nginx"]),
    package("fcgiwrap", &["fcgiwrap"]),
    package("git", &["git"]),
    package("openssl", &["openssl"]),
    package("ca-certificates", &[]),
    package("openssh-client", &["ssh-agent", "ssh-add", "ssh-keygen"]),
    // Odd files.
    package("libcap2-bin", &["setcap", "getcap"]),
    package("attr", &["setfattr", "getfattr"]),
    package("acl", &["setfacl", "getfacl"]),
    package("xz-utils", &["xz"]),
    package("bzip2", &["bzip2"]),
    package("zstd", &["zstd"]),
];

/// The package that has a program.
pub fn providing(program: &str) -> Option<&'static str> {
    PACKAGES.iter().find(|package| package.programs.contains(&program)).map(|package| package.name)
}

/// Installs every package of [`PACKAGES`] that is missing.
pub fn ensure_all() -> Result<Vec<&'static str>> {
    let names: Vec<_> = PACKAGES.iter().map(|package| package.name).collect();
    ensure(&names)
}

/// Installs what is missing of these packages, and says what it installed. Where nothing is missing it changes nothing
/// and needs no network.
pub fn ensure<'a>(names: &[&'a str]) -> Result<Vec<&'a str>> {
    let missing = missing(names)?;
    if missing.is_empty() {
        return Ok(missing);
    }
    if !rustix::process::geteuid().is_root() {
        bail!("these Debian packages are missing, and only root may install them: {}", missing.join(" "));
    }
    must(apt().arg("update")).context("refresh the package lists")?;
    let mut install = apt();
    install.args(["install", "--yes", "--no-install-recommends"]).args(&missing);
    command::run(&mut install, Duration::from_mins(15))?
        .success()
        .with_context(|| format!("install {}", missing.join(" ")))?;
    Ok(missing)
}

fn missing<'a>(names: &[&'a str]) -> Result<Vec<&'a str>> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"]).args(names);
    // It answers for those it knows and fails for the others: both are an answer.
    let output = command::run(&mut query, Duration::from_mins(1))
        .context("the lab needs Debian 12: it is made of Debian's packages")?;
    let listed = output.out();
    let installed: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    Ok(names.iter().copied().filter(|name| !installed.contains(name)).collect())
}

/// `apt-get` that asks nothing and starts no service: the lab runs its own servers, and none may be left on the machine.
fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").arg("--quiet");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_not_missing() {
        assert_eq!(missing(&["dpkg", "zuwai-no-such-package"]).unwrap(), ["zuwai-no-such-package"]);
    }

    #[test]
    fn nothing_is_done_when_nothing_is_missing() {
        assert!(ensure(&["dpkg"]).unwrap().is_empty());
    }
}
