//! The folder that a stage is built in where it is not the container's own root: one for each stage, in the work folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zuwai_snapshot::{Ignore, RootFs};

use super::{IsolationError, Named};

/// Folders that are the kernel's, and no image's.
const KERNEL: [&str; 3] = ["proc", "sys", "dev"];

/// Whether a path of the image, without links, lies in one of them.
pub(super) fn is_kernels(path: &Path) -> bool {
    KERNEL.iter().any(|name| path.starts_with(Path::new("/").join(name)))
}

/// Makes the folder: empty but for what the kernel's filesystems are mounted on.
pub(super) fn make(folder: &Path) -> Result<(), IsolationError> {
    let make = || {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        KERNEL.iter().try_for_each(|name| fs::create_dir_all(folder.join(name)))
    };
    make().map_err(|source| IsolationError::Place { path: folder.to_owned(), source })
}

/// What is in it and in no layer: the kernel's folders, and what the user named.
pub(super) fn ignore(named: &Named) -> Ignore {
    let kernel = KERNEL.iter().map(|name| Path::new("/").join(name));
    named.ignore(kernel)
}

/// A stage that is done gets the folder it will be looked for in. What the kernel's filesystems were mounted on is not its own.
pub(super) fn leave(root: &RootFs, folder: &Path) -> Result<(), IsolationError> {
    let at = |source| IsolationError::Place { path: folder.to_owned(), source };
    for name in KERNEL {
        // Nothing is in them, and who copies from the stage is to find them no more than in a container's own root.
        let _ = fs::remove_dir(root.path().join(name));
    }
    // The work folder may have been named through links.
    let above = folder.parent().unwrap_or(folder);
    let there = fs::canonicalize(above).map_err(at)?.join(folder.file_name().unwrap_or_default());
    if root.path() == there { Ok(()) } else { fs::rename(root.path(), folder).map_err(at) }
}
