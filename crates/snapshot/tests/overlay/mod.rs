//! What a container's `/` is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// An overlay whose lower folder holds a tree, mounted as long as this value lives: what a container's `/` is.
pub(crate) struct Overlay(pub(crate) PathBuf);

impl Overlay {
    pub(crate) fn mount(lower: &Path, place: &Path) -> Self {
        for name in ["upper", "work", "merged"] {
            fs::create_dir(place.join(name)).unwrap();
        }
        let part = |name: &str| place.join(name).display().to_string();
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), part("upper"), part("work"));
        let options = std::ffi::CString::new(options).unwrap();
        let merged = place.join("merged");
        rustix::mount::mount("overlay", &merged, "overlay", rustix::mount::MountFlags::empty(), &*options).unwrap();
        Self(merged)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
