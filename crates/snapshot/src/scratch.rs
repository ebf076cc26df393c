//! What this crate's own tests share: small filesystems to fill and to mount over things. They run as root.

use std::path::{Path, PathBuf};

/// A mount that goes away with its value.
pub(crate) struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Mounts a tmpfs of the given size, as mount(8) takes it.
pub(crate) fn mount_tmpfs(at: &Path, size: &str) -> Mounted {
    let options = std::ffi::CString::new(format!("size={size}")).unwrap();
    rustix::mount::mount("tmpfs", at, "tmpfs", rustix::mount::MountFlags::empty(), options.as_c_str())
        .expect("these tests run as root and may mount");
    Mounted(at.to_path_buf())
}
