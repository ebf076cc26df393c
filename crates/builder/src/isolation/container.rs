//! Whether this is a container. `direct` isolation deletes and renames what lies in "/": nobody's machine may be taken
//! for a container by mistake.

use std::fs;
use std::path::Path;

/// What was found that speaks for, or against, a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// A container: what shows it.
    Container(String),
    /// Nothing shows a container, and something shows a machine: what.
    Machine(String),
    /// Nothing shows either.
    Unknown,
}

impl Evidence {
    /// Looks, below `root` ("/" but for tests), for the marks that runtimes leave. `container` is the value of the
    /// environment variable of that name, which systemd-nspawn, podman and others set for the first process.
    #[must_use]
    pub fn look(root: &Path, container: Option<&str>) -> Evidence {
        if let Some(value) = container.filter(|value| !value.is_empty()) {
            return Evidence::Container(format!("the variable container is set to {value}"));
        }
        for mark in MARKS {
            if root.join(mark).exists() {
                return Evidence::Container(format!("/{mark} exists"));
            }
        }
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let mounts = read("proc/self/mounts");
        let root_mount = mounts.lines().filter_map(root_device).next_back();
        if let Some((device, kind)) = root_mount
            && matches!(kind, "overlay" | "fuse.fuse-overlayfs" | "aufs" | "virtiofs" | "9p")
        {
            return Evidence::Container(format!("the root filesystem is {kind} ({device})"));
        }
        // A disk that was made from a container's files has Docker's mark on it and is a machine all the same.
        let disk = root_mount.filter(|(device, _)| device.starts_with("/dev/") && !device.contains("/docker-"));
        if root.join(DOCKER_MARK).exists() && disk.is_none() {
            return Evidence::Container(format!("/{DOCKER_MARK} exists"));
        }
        let cgroup = read("proc/self/cgroup");
        for name in CGROUPS {
            if cgroup.contains(name) {
                return Evidence::Container(format!("the control group names {name}"));
            }
        }
        let first = read("proc/1/comm");
        let first = first.trim();
        if matches!(first, "systemd" | "init" | "openrc-init" | "launchd") {
            return Evidence::Machine(format!("process 1 is {first}"));
        }
        if let Some((device, kind)) = disk {
            return Evidence::Machine(format!("the root filesystem is {kind} on {device}"));
        }
        Evidence::Unknown
    }
}

/// Docker's mark is a file like any other, and stays where a container's files are taken elsewhere.
const DOCKER_MARK: &str = ".dockerenv";

/// What container runtimes lay or mount for the time that the container runs: podman and CRI-O, Kubernetes, gVisor,
/// systemd.
const MARKS: [&str; 4] = [
    "run/.containerenv",
    "var/run/secrets/kubernetes.io/serviceaccount",
    "__runsc_containers__",
    "run/systemd/container",
];

/// Words in the path of a control group that only a container's has.
const CGROUPS: [&str; 6] = ["docker", "kubepods", "libpod", "containerd", "garden", "/lxc/"];

/// Device and filesystem of a line of /proc/self/mounts that tells of "/".
fn root_device(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.split(' ');
    let (device, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
    (place == "/").then_some((device, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn a_machine_with_a_disk_is_not_a_container() {
        let laptop = machine(&[
            ("proc/self/mounts", "/dev/sda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n"),
            ("proc/self/cgroup", "0::/user.slice/user-1000.slice/session-2.scope\n"),
            ("proc/1/comm", "systemd\n"),
        ]);
        assert_eq!(Evidence::look(laptop.path(), None), Evidence::Machine("process 1 is systemd".to_owned()));
        let without_systemd = machine(&[("proc/self/mounts", "/dev/vda / ext4 rw 0 0\n"), ("proc/1/comm", "sh\n")]);
        let Evidence::Machine(why) = Evidence::look(without_systemd.path(), None) else {
            panic!("taken for a container")
        };
        assert!(why.contains("/dev/vda"), "{why}");
    }

    #[test]
    fn a_machine_whose_disk_was_made_from_a_containers_files_is_not_a_container() {
        let disk =
            machine(&[(".dockerenv", ""), ("proc/self/mounts", "/dev/vda / ext4 rw 0 0\n"), ("proc/1/comm", "sh\n")]);
        let Evidence::Machine(why) = Evidence::look(disk.path(), None) else { panic!("taken for a container") };
        assert_eq!(why, "the root filesystem is ext4 on /dev/vda");
    }

    #[test]
    fn a_machine_that_runs_docker_is_not_a_container() {
        let host = machine(&[
            ("proc/self/mounts", "/dev/sda1 / ext4 rw 0 0\noverlay /var/lib/docker/overlay2/x/merged overlay rw 0 0\n"),
            ("proc/1/comm", "systemd\n"),
        ]);
        assert!(matches!(Evidence::look(host.path(), None), Evidence::Machine(_)));
    }

    #[test]
    fn the_marks_of_runtimes_are_known() {
        for mark in MARKS {
            let container = machine(&[(mark, "")]);
            assert!(matches!(Evidence::look(container.path(), None), Evidence::Container(_)), "{mark}");
        }
        let docker = machine(&[(".dockerenv", ""), ("proc/self/mounts", "none / zfs rw 0 0\n")]);
        assert!(matches!(Evidence::look(docker.path(), None), Evidence::Container(_)));
        let thin = machine(&[(".dockerenv", ""), ("proc/self/mounts", "/dev/mapper/docker-8:1-2-x / ext4 rw 0 0\n")]);
        assert!(matches!(Evidence::look(thin.path(), None), Evidence::Container(_)));
        let overlay = machine(&[("proc/self/mounts", "overlay / overlay rw,lowerdir=/a 0 0\n")]);
        assert!(matches!(Evidence::look(overlay.path(), None), Evidence::Container(_)));
        let first = machine(&[("proc/self/cgroup", "12:pids:/kubepods/besteffort/pod1/abc\n")]);
        assert!(matches!(Evidence::look(first.path(), None), Evidence::Container(_)));
        let empty = machine(&[]);
        assert!(matches!(Evidence::look(empty.path(), Some("docker")), Evidence::Container(_)));
        assert_eq!(Evidence::look(empty.path(), Some("")), Evidence::Unknown);
    }
}
