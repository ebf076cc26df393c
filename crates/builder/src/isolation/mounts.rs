//! The mount points of this process: what the runtime or the user laid into the container, and no image's.

use std::fs;
use std::path::{Path, PathBuf};

use super::IsolationError;

/// Every mount point but "/", from `mountinfo` (`/proc/self/mountinfo`, proc(5)), sorted.
pub fn mount_points(mountinfo: &Path) -> Result<Vec<PathBuf>, IsolationError> {
    let text = fs::read(mountinfo).map_err(|source| IsolationError::Mounts { path: mountinfo.to_owned(), source })?;
    Ok(zuwai_snapshot::mount_points(&text).into_iter().filter(|path| path != Path::new("/")).collect())
}

#[cfg(test)]
mod tests {
    use zuwai_snapshot::Ignore;

    use super::*;

    /// Tables as runtimes make them, and places in them that no build may touch.
    const RUNTIMES: [(&str, &str, &[&str]); 4] = [
        ("docker", include_str!("mounts/docker"), &["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/workspace"]),
        (
            "containerd in kind",
            include_str!("mounts/kind"),
            &[
                "/product_uuid",
                "/product_name",
                "/var/run/secrets/kubernetes.io/serviceaccount",
                "/dev/termination-log",
            ],
        ),
        (
            "CRI-O",
            include_str!("mounts/crio"),
            &["/run/.containerenv", "/run/secrets", "/etc/hosts", "/kaniko/.docker"],
        ),
        (
            "a GPU node",
            include_str!("mounts/gpu"),
            &[
                "/usr/bin/nvidia-smi",
                "/usr/lib/x86_64-linux-gnu/libcuda.so.535.104.05",
                "/run/nvidia-persistenced/socket",
            ],
        ),
    ];

    #[test]
    fn every_mount_of_every_runtime_is_left_alone() {
        for (runtime, table, places) in RUNTIMES {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("mountinfo");
            fs::write(&file, table).unwrap();
            let points = mount_points(&file).unwrap();
            assert_eq!(points.len(), table.lines().count() - 1, "{runtime}: all but the root are known");
            let ignore = Ignore::new(points);
            for place in places {
                assert!(ignore.covers(Path::new(place)), "{runtime}: {place}");
            }
            for place in ["/etc", "/etc/passwd", "/usr/bin", "/usr/lib/x86_64-linux-gnu/libc.so.6", "/var/run"] {
                assert!(!ignore.covers(Path::new(place)), "{runtime}: {place} is the image's");
            }
        }
    }

    #[test]
    fn a_mount_list_that_is_not_there_is_an_error_that_names_it() {
        let error = mount_points(Path::new("/nonexistent/mountinfo")).unwrap_err();
        assert_eq!(error.to_string(), "read /nonexistent/mountinfo");
    }
}
