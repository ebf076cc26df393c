//! The folders of `RUN --mount=type=cache` in the cache's repository, so that a Pod on a clean machine finds the `~/.m2` that
//! another one has filled. An entry is an OCI image whose layers are the folder: what a build changed is one more layer,
//! and when there are many the folder is packed anew.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use zuwai_registry::{
    BlobDir, Compression, Image, ImageConfig, ImageFormat, Layer, LayerWriter, Platform, RegistryError,
};
use zuwai_snapshot::{
    ApplyOptions, Ignore, RootFs, Scope, SnapshotError, SnapshotMode, Snapshotter, WriteOptions, apply_tar, write_tar,
};

use super::entry;
use super::store::Cache;
use crate::event::{Event, Observer};

/// Tags begin with this; behind it stands the name of the folder.
const TAG: &str = "zuwai-mount-";
const OWNER: &str = "dev.zuwai.cache.owner";
const CREATED: &str = "org.opencontainers.image.created";

/// With more layers than this the folder is packed anew.
const MOST_LAYERS: usize = 8;

/// The folders that a build uses, and what is known of each.
pub(super) struct Mounts {
    /// Where they are.
    folder: PathBuf,
    /// No folder of more bytes than this is kept.
    largest: u64,
    followed: Vec<Followed>,
}

struct Followed {
    name: String,
    /// What it was before the build; `None` where there was none.
    known: Option<(RootFs, Box<dyn Snapshotter>)>,
    /// The layers of its entry, where the folder was made of them.
    layers: Vec<Layer>,
}

/// Why a folder could not be had or kept.
#[derive(Debug, thiserror::Error)]
enum MountsError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("its entry makes no sense")]
    Senseless,
}

impl Mounts {
    /// Brings those folders that are not there out of the cache. One that cannot be had begins empty, with a warning.
    pub(super) fn restore(
        names: &[String],
        folder: &Path,
        (ttl, largest): (Duration, u64),
        store: &dyn Cache,
        observer: &dyn Observer,
    ) -> Mounts {
        let mut followed = Vec::new();
        for name in names {
            let found = follow(name, folder, ttl, store).unwrap_or_else(|error| {
                let text = format!("the cache mount {TAG}{name} of {} begins empty: {error}", store.name());
                observer.event(&Event::Warning { text: &text });
                let _ = fs::remove_dir_all(part(folder, name));
                Followed { name: name.clone(), known: None, layers: Vec::new() }
            });
            if !found.layers.is_empty() {
                let text = format!("Cache mount {TAG}{name} out of {}", store.name());
                observer.event(&Event::ImageKept { text: &text });
            }
            followed.push(found);
        }
        Mounts { folder: folder.to_owned(), largest, followed }
    }

    /// Packs what has changed and keeps it. What cannot be kept is a warning each.
    pub(super) fn save(self, platform: &Platform, blobs: &BlobDir, store: &dyn Cache) -> Vec<String> {
        let mut warnings = Vec::new();
        for followed in self.followed {
            let tag = format!("{TAG}{}", followed.name);
            let packed = pack(followed, &self.folder, self.largest, platform, blobs);
            let kept = packed.and_then(|packed| match packed {
                Packed::Same => Ok(None),
                Packed::New(image) => store.put(&tag, &image).map(|()| None).map_err(MountsError::from),
                Packed::TooLarge(size) => Ok(Some(size)),
            });
            match kept {
                Ok(None) => {}
                Ok(Some(size)) => {
                    warnings.push(format!("a cache mount of {size} bytes is not kept: at most {} are", self.largest));
                }
                Err(error) => warnings.push(format!("a cache mount is not kept: {error}")),
            }
        }
        warnings
    }
}

/// What became of a folder.
enum Packed {
    Same,
    New(Box<Image>),
    TooLarge(u64),
}

fn part(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.restored"))
}

fn follow(name: &str, folder: &Path, ttl: Duration, store: &dyn Cache) -> Result<Followed, MountsError> {
    let path = folder.join(name);
    let mut snapshotter = SnapshotMode::Full.snapshotter();
    if path.is_dir() {
        let root = RootFs::open(&path, Ignore::default())?;
        snapshotter.reset(&root)?;
        return Ok(Followed { name: name.to_owned(), known: Some((root, snapshotter)), layers: Vec::new() });
    }
    let nothing = Followed { name: name.to_owned(), known: None, layers: Vec::new() };
    let tag = format!("{TAG}{name}");
    let Some(stored) = store.get(std::slice::from_ref(&tag)).pop().transpose()?.flatten() else { return Ok(nothing) };
    let text = |name: &str| stored.manifest.annotations.get(name).ok_or(MountsError::Senseless);
    let created: Timestamp = text(CREATED)?.parse().map_err(|_| MountsError::Senseless)?;
    if SystemTime::now().duration_since(created.into()).unwrap_or_default() > ttl {
        return Ok(nothing);
    }
    let owner = owner_of(text(OWNER)?).ok_or(MountsError::Senseless)?;
    let diff_ids = store.config(&tag, &stored.manifest)?.rootfs.diff_ids;
    if diff_ids.len() != stored.manifest.layers.len() {
        return Err(MountsError::Senseless);
    }
    let layers = stored.manifest.layers.iter().zip(&diff_ids).map(|(layer, diff_id)| store.layer(&tag, layer, diff_id));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    let part = part(folder, name);
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part)?;
    let root = RootFs::open(&part, Ignore::default())?;
    snapshotter.reset(&root)?;
    for layer in &layers {
        let mut tar = layer.open_tar()?;
        let applied = apply_tar(&mut tar, &root, &ApplyOptions::default())?;
        io::copy(&mut tar, &mut io::sink())?;
        snapshotter.adopt(&applied);
    }
    let (uid, gid, mode) = owner;
    chown(&part, Some(uid), Some(gid))?;
    fs::set_permissions(&part, fs::Permissions::from_mode(mode))?;
    fs::rename(&part, &path)?;
    snapshotter.settle(&root)?;
    Ok(Followed { name: name.to_owned(), known: Some((root, snapshotter)), layers })
}

fn pack(
    followed: Followed,
    folder: &Path,
    largest: u64,
    platform: &Platform,
    blobs: &BlobDir,
) -> Result<Packed, MountsError> {
    let path = folder.join(&followed.name);
    let Ok(facts) = fs::metadata(&path) else { return Ok(Packed::Same) };
    // Another build that uses the folder at this moment is the one to keep it.
    let lock = File::create(folder.join(format!("{}.lock", followed.name)))?;
    if lock.try_lock().is_err() {
        return Ok(Packed::Same);
    }
    let (root, mut snapshotter, was_there) = match followed.known {
        Some((root, snapshotter)) => (root, snapshotter, true),
        None => (RootFs::open(&path, Ignore::default())?, SnapshotMode::Full.snapshotter(), false),
    };
    let mut changes = snapshotter.changes(&root, &Scope::Everywhere)?;
    if changes.is_empty() {
        return Ok(Packed::Same);
    }
    let size = size_of(&path)?;
    if size > largest {
        return Ok(Packed::TooLarge(size));
    }
    let mut layers = followed.layers;
    if layers.len() >= MOST_LAYERS || (was_there && layers.is_empty()) {
        layers.clear();
        changes = SnapshotMode::Full.snapshotter().changes(&root, &Scope::Everywhere)?;
    }
    let writer = LayerWriter::new(blobs, Compression::ZSTD, ImageFormat::Oci)?;
    let mut writer = BufWriter::with_capacity(128 * 1024, writer);
    write_tar(&changes, &root, &mut writer, &WriteOptions::default())?;
    layers.push(writer.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?);
    let mut config = ImageConfig::default();
    config.set_platform(platform);
    let owner = format!("{}:{} {:o}", facts.uid(), facts.gid(), facts.mode() & 0o7777);
    let annotations = [(OWNER, owner), (CREATED, entry::rfc3339(SystemTime::now()))];
    let annotations = annotations.map(|(name, value)| (name.to_owned(), value)).into();
    Ok(Packed::New(Box::new(Image { config, layers, format: ImageFormat::Oci, annotations })))
}

/// `uid:gid mode`, the mode in octal.
fn owner_of(text: &str) -> Option<(u32, u32, u32)> {
    let (ids, mode) = text.split_once(' ')?;
    let (uid, gid) = ids.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?, u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o7777)?))
}

/// The bytes of all files below a folder; links are not followed.
fn size_of(folder: &Path) -> io::Result<u64> {
    let mut size = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let facts = entry.metadata()?;
            if facts.is_dir() { folders.push(entry.path()) } else { size += facts.len() }
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;
    use zuwai_registry::Shelf;

    const LIMITS: (Duration, u64) = (Duration::from_hours(1), 1_000_000);

    struct Machine {
        folder: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Machine {
            Machine { folder: tempfile::tempdir().unwrap() }
        }

        fn caches(&self) -> PathBuf {
            self.folder.path().join("caches")
        }

        /// A build that finds the folder as it is and does this to it; how many entries were kept.
        fn build(&self, shelf: &Shelf, limits: (Duration, u64), change: impl FnOnce(&Path)) -> usize {
            fs::create_dir_all(self.caches()).unwrap();
            let mounts = Mounts::restore(&["m2".to_owned()], &self.caches(), limits, shelf, &Silent);
            let path = self.caches().join("m2");
            if !path.exists() {
                fs::create_dir(&path).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
            }
            change(&path);
            let blobs = BlobDir::open(self.folder.path().join("blobs")).unwrap();
            let digest = || shelf.stored(&[format!("{TAG}m2")]).unwrap().pop().flatten().map(|stored| stored.digest);
            let before = digest();
            let warnings = mounts.save(&Platform::host(), &blobs, shelf);
            assert!(warnings.iter().all(|text| text.contains("at most")), "{warnings:?}");
            usize::from(digest() != before)
        }
    }

    fn layers(shelf: &Shelf) -> usize {
        let stored = shelf.stored(&[format!("{TAG}m2")]).unwrap().pop().flatten().unwrap();
        stored.manifest.layers.len()
    }

    #[test]
    fn a_clean_machine_finds_what_another_one_has_kept_and_adds_to_it() {
        let place = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(place.path()).unwrap();
        let kept = Machine::new().build(&shelf, LIMITS, |path| {
            fs::create_dir(path.join("a")).unwrap();
            fs::write(path.join("a/one"), "1").unwrap();
            fs::write(path.join("two"), "2").unwrap();
        });
        assert_eq!((kept, layers(&shelf)), (1, 1));
        let second = Machine::new();
        let kept = second.build(&shelf, LIMITS, |path| {
            assert_eq!(fs::read_to_string(path.join("a/one")).unwrap(), "1");
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o750);
            fs::remove_file(path.join("two")).unwrap();
            fs::write(path.join("a/three"), "3").unwrap();
        });
        assert_eq!((kept, layers(&shelf)), (1, 2));
        let third = Machine::new();
        let kept = third.build(&shelf, LIMITS, |path| {
            assert!(!path.join("two").exists());
            assert_eq!(fs::read_to_string(path.join("a/three")).unwrap(), "3");
        });
        assert_eq!(kept, 0, "nothing changed");
        // It is on this machine now: what changes there is packed whole.
        assert_eq!(third.build(&shelf, LIMITS, |path| fs::write(path.join("four"), "4").unwrap()), 1);
        assert_eq!(layers(&shelf), 1);
    }

    #[test]
    fn what_is_too_large_is_not_kept_and_what_is_too_old_not_used() {
        let place = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(place.path()).unwrap();
        let write = |path: &Path| fs::write(path.join("one"), vec![1; 2_000]).unwrap();
        assert_eq!(Machine::new().build(&shelf, (LIMITS.0, 1_000), write), 0);
        assert_eq!(Machine::new().build(&shelf, LIMITS, write), 1);
        std::thread::sleep(Duration::from_millis(1_100));
        Machine::new().build(&shelf, (Duration::ZERO, 1_000_000), |path| assert!(!path.join("one").exists()));
    }

    #[test]
    fn many_layers_become_one() {
        let place = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(place.path()).unwrap();
        let mut most = 0;
        for number in 0..12 {
            Machine::new().build(&shelf, LIMITS, |path| {
                assert_eq!(fs::read_dir(path).unwrap().count(), number);
                fs::write(path.join(number.to_string()), "x").unwrap();
            });
            most = most.max(layers(&shelf));
        }
        assert_eq!((most, layers(&shelf)), (MOST_LAYERS, 4));
    }
}
