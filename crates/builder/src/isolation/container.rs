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
        let first = read("proc/1/comm");
        let first = first.trim();
        if MACHINES.contains(&first) {
            return Evidence::Machine(format!("process 1 is {first}"));
        }
        let mounts = read("proc/self/mounts");
        let root_mount = mounts.lines().filter_map(root_device).next_back();
        // A disk that was made from a container's files has Docker's mark on it and is a machine all the same.
        if let Some((device, kind)) = root_mount
            && device.starts_with("/dev/")
            && !device.contains("/docker-")
        {
            return Evidence::Machine(format!("the root filesystem is {kind} on {device}"));
        }
        if root.join(DOCKER_MARK).exists() {
            return Evidence::Container(format!("/{DOCKER_MARK} exists"));
        }
        if let Some((device, kind)) = root_mount
            && matches!(kind, "overlay" | "fuse.fuse-overlayfs" | "aufs" | "virtiofs" | "9p")
        {
            return Evidence::Container(format!("the root filesystem is {kind} ({device})"));
        }
        if let Some(group) = read("proc/self/cgroup").lines().find_map(container_group) {
            return Evidence::Container(format!("the control group is {group}"));
        }
        Evidence::Unknown
    }
}

impl Evidence {
    /// Whether this is a container in which nothing but a job runs: its own files show it, no variable alone, and its first
    /// process (or the machine's, where that is what is seen) is not one that starts a system.
    #[must_use]
    pub fn is_for_a_job(root: &Path) -> bool {
        let first = fs::read_to_string(root.join("proc/1/comm")).unwrap_or_default();
        matches!(Evidence::look(root, None), Evidence::Container(_)) && !MACHINES.contains(&first.trim())
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

/// What process 1 of a machine is called.
const MACHINES: [&str; 4] = ["systemd", "init", "openrc-init", "launchd"];

/// The path of a control group that only a container has, from a line of /proc/self/cgroup (cgroups(7)): a whole part of it
/// is a runtime's, not merely a word in it.
fn container_group(line: &str) -> Option<&str> {
    let path = line.splitn(3, ':').nth(2)?;
    let is_runtimes = |part: &str| {
        matches!(part, "docker" | "kubepods" | "kubepods.slice" | "libpod_parent" | "garden" | "lxc")
            || ["docker-", "libpod-", "crio-", "cri-containerd-"].iter().any(|name| {
                let id = part.strip_prefix(name).map(|rest| rest.trim_end_matches(".scope"));
                id.is_some_and(|id| id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
            })
    };
    path.split('/').any(is_runtimes).then_some(path)
}

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
    fn a_container_that_starts_a_system_is_not_one_for_a_job() {
        let of = |first: &str| machine(&[("run/.containerenv", ""), ("proc/1/comm", first)]);
        assert!(Evidence::is_for_a_job(of("executor\n").path()));
        assert!(Evidence::is_for_a_job(of("sh\n").path()));
        assert!(!Evidence::is_for_a_job(of("systemd\n").path()));
        assert!(!Evidence::is_for_a_job(machine(&[("proc/1/comm", "sh\n")]).path()));
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
    fn a_word_in_the_name_of_a_service_makes_no_container() {
        let group = "0::/system.slice/actions.runner.acme-docker-images.vm1.service\n";
        let runner = machine(&[
            ("proc/self/cgroup", group),
            ("proc/self/mounts", "/dev/sda1 / ext4 rw 0 0\n"),
            ("proc/1/comm", "systemd\n"),
        ]);
        assert!(matches!(Evidence::look(runner.path(), None), Evidence::Machine(_)));
        let live = machine(&[("proc/self/mounts", "overlayroot / overlay rw 0 0\n"), ("proc/1/comm", "systemd\n")]);
        assert!(matches!(Evidence::look(live.path(), None), Evidence::Machine(_)));
        assert_eq!(container_group(group.trim()), None);
        assert_eq!(container_group("0::/docker/abc"), Some("/docker/abc"));
        let scope = "0::/machine.slice/libpod-0123456789abcdef.scope";
        assert_eq!(container_group(scope), Some("/machine.slice/libpod-0123456789abcdef.scope"));
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
