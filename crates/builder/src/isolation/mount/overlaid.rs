//! Mounts where mount(2) can be had: they lie in the root as without it, but a secret's place there is an empty file, over
//! which the value is mounted from memory for the command alone; and what goes to the kernel's folders, which the command
//! finds mounted anew, lies beside the root and is mounted there afterwards.

use std::fs;
use std::path::Path;

use zuwai_snapshot::{Ignore, RootFs};

use super::laid::{self, lay};
use super::{Laid, Mount, MountError, MountSource, Overlay, OverlaySource};
use crate::isolation::private_root;

/// Lays the mounts in their order. `aside` is a folder of the machine for what is in the way; it is made.
pub(in crate::isolation) fn lay_with_overlays(
    mounts: &[Mount<'_>],
    root: &RootFs,
    aside: &Path,
) -> Result<Box<dyn Laid>, MountError> {
    let mut laid = Box::new(Overlaid { parts: Vec::new(), overlays: Vec::new() });
    for mount in mounts {
        if let Err(error) = laid.add(mount, root, aside) {
            // The first error is the one to tell.
            let _ = laid.take_out();
            return Err(error);
        }
    }
    Ok(laid)
}

/// See [`lay_with_overlays`].
struct Overlaid {
    parts: Vec<Box<dyn Laid>>,
    overlays: Vec<Overlay>,
}

impl Overlaid {
    fn add(&mut self, mount: &Mount<'_>, root: &RootFs, aside: &Path) -> Result<(), MountError> {
        let target = &mount.target;
        let snapshot = |source| MountError::Root { target: target.clone(), source };
        let real = root.resolve(target).map_err(snapshot)?.real;
        let place = root.path().join(real.strip_prefix("/").unwrap_or(&real));
        let of_kernel = private_root::is_kernels(&real);
        match &mount.source {
            MountSource::File(content, card) => {
                if !of_kernel {
                    let empty = Mount { target: target.clone(), source: MountSource::File(b"", *card) };
                    self.parts.push(lay(&[empty], root, aside)?);
                }
                self.overlays.push(Overlay { place, source: OverlaySource::Memory(content.to_vec(), *card) });
            }
            // Scripts lie where the command's own /dev has a link to.
            MountSource::Script(..) => self.parts.push(lay(std::slice::from_ref(mount), root, aside)?),
            _ if of_kernel => {
                let beside = aside.join("kernel").join(self.overlays.len().to_string());
                let machine = |source| MountError::Machine { target: target.clone(), action: "make a folder", source };
                fs::create_dir_all(&beside).map_err(machine)?;
                let other = RootFs::open(&beside, Ignore::default()).map_err(snapshot)?;
                self.parts.push(laid::lay_at(mount, &real, &other, aside)?);
                let path = other.path().join(real.strip_prefix("/").unwrap_or(&real));
                let source = if path.is_dir() { OverlaySource::Folder(path) } else { OverlaySource::File(path) };
                self.overlays.push(Overlay { place, source });
            }
            _ => self.parts.push(lay(std::slice::from_ref(mount), root, aside)?),
        }
        Ok(())
    }
}

impl Laid for Overlaid {
    fn overlays(&self) -> &[Overlay] {
        &self.overlays
    }

    /// The last laid goes first: it may lie in one before it.
    fn take_out(self: Box<Self>) -> Result<(), MountError> {
        let mut result = Ok(());
        for part in self.parts.into_iter().rev() {
            let out = part.take_out();
            result = result.and(out);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_secret_is_an_empty_file_on_the_disk_and_what_goes_to_the_kernels_folders_lies_beside_the_root() {
        let (image, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = RootFs::open(image.path(), Ignore::default()).unwrap();
        fs::create_dir(image.path().join("dev")).unwrap();
        let secret =
            |target: &str| Mount { target: target.into(), source: MountSource::File(b"secret", (0, 0, 0o400)) };
        let shared = Mount { target: "/dev/shm".into(), source: MountSource::Empty { size: None } };
        let mounts = [secret("/run/secrets/s"), secret("/dev/s"), shared];
        let laid = lay_with_overlays(&mounts, &root, &work.path().join("aside")).unwrap();
        assert_eq!(fs::read(image.path().join("run/secrets/s")).unwrap(), b"");
        assert_eq!(fs::read_dir(image.path().join("dev")).unwrap().count(), 0);
        let places: Vec<PathBuf> = laid.overlays().iter().map(|overlay| overlay.place.clone()).collect();
        assert_eq!(places, ["run/secrets/s", "dev/s", "dev/shm"].map(|path| root.path().join(path)));
        assert!(matches!(&laid.overlays()[1].source, OverlaySource::Memory(content, _) if content == b"secret"));
        let OverlaySource::Folder(folder) = &laid.overlays()[2].source else { panic!("it is a folder") };
        assert!(folder.is_dir());
        laid.take_out().unwrap();
        assert!(!image.path().join("run").exists());
    }
}
