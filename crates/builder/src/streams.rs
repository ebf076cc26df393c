//! Which layers are unpacked while they come, and never lie on the disk as blobs. Such a blob is not hashed: what is in it is
//! compared with the diff id of the image's config before any command sees it. Where it is found to be something else, the
//! build begins anew, and every blob is verified before it is unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use zuwai_registry::{Client, Digest, Layer, Pulled, RegistryError};
use zuwai_snapshot::SnapshotError;

use crate::plan::{Base, Origin, Plan};
use crate::request::BuildRequest;

/// Bytes of a tar that are read to find out whether it is what it should be: a hostile one could be inflated for hours.
const MOST_EXAMINED: u64 = 1 << 34;

/// The layers whose bytes are wanted once and for their files alone, as far as the plan knows.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    once: BTreeSet<Digest>,
    /// What is to be said of a layer that came and was not what it should be.
    damaged: Mutex<Option<String>>,
}

impl Streams {
    /// None where an output is to hold the layers.
    pub(crate) fn of(plan: &Plan<'_>, request: &BuildRequest) -> Streams {
        let outputs = &request.outputs;
        if outputs.oci_layout_path.is_some() || outputs.tar_path.is_some() {
            return Streams::default();
        }
        let mut count: BTreeMap<&Digest, usize> = BTreeMap::new();
        for pulled in unpacked(plan) {
            for layer in &pulled.image.layers {
                *count.entry(&layer.descriptor.digest).or_default() += 1;
            }
        }
        let once = count.into_iter().filter(|(_, count)| *count == 1);
        Streams { once: once.map(|(digest, _)| digest.clone()).collect(), damaged: Mutex::default() }
    }

    /// Whether the layer may be unpacked while it comes. Where the image is pushed, its registry must need none of the bytes:
    /// it has the layer, or can take it from the repository of the base.
    pub(crate) fn may(&self, layer: &Layer, request: &BuildRequest, client: &Client) -> bool {
        let destinations = if request.push { request.destinations.as_slice() } else { &[] };
        self.once.contains(&layer.descriptor.digest) && client.can_do_without(layer, destinations)
    }

    /// A layer could not be read while it came: unless its bytes could not be had, they are not what they should be.
    pub(crate) fn doubt(&self, layer: &Layer, error: &io::Error) {
        if RegistryError::behind(error).is_none() {
            let digest = &layer.descriptor.digest;
            let text = format!(
                "layer {digest}: {error}: the build begins anew, and verifies each layer before it is unpacked"
            );
            *self.damaged.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        }
    }

    /// A layer could not be unpacked while it came: the rest of it says whether it is what it should be. It takes no longer
    /// than it would have taken to fetch it whole before.
    pub(crate) fn examine(&self, layer: &Layer, error: &SnapshotError, rest: &mut dyn Read) {
        match error {
            SnapshotError::ReadArchive { source, .. } => self.doubt(layer, source),
            _ if error.io_kind().is_some_and(is_of_the_disk) => {}
            _ => {
                if let Err(error) = io::copy(&mut rest.take(MOST_EXAMINED), &mut io::sink()) {
                    self.doubt(layer, &error);
                }
            }
        }
    }

    /// What is to be said before the build begins anew, where a layer came damaged.
    pub(crate) fn damaged(&self) -> Option<String> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The images whose layers are unpacked if everything is built: below each stage that begins with a root of its own, and
/// those that files are copied from.
fn unpacked<'p>(plan: &'p Plan<'_>) -> Vec<&'p Arc<Pulled>> {
    let (mut images, mut below, mut aside) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for stage in &plan.stages {
        let base = match &stage.base {
            Base::Image(pulled) => Some(pulled),
            Base::Stage(index) => below.get(index).copied(),
            Base::Scratch | Base::Files { .. } => None,
        };
        if let Some(pulled) = base {
            below.insert(stage.index, pulled);
            images.extend((!stage.goes_on).then_some(pulled));
        }
        for origin in stage.origins() {
            if let Origin::Image(pulled) = origin {
                aside.insert(&pulled.digest, pulled);
            }
        }
    }
    images.extend(aside.into_values());
    images
}

fn is_of_the_disk(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(kind, StorageFull | QuotaExceeded | ReadOnlyFilesystem | FileTooLarge)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use zuwai_registry::{BlobSource, Descriptor, MediaType};

    use super::*;

    struct Bytes(Vec<u8>);

    impl BlobSource for Bytes {
        fn open(&self) -> io::Result<Box<dyn Read + Send>> {
            Ok(Box::new(io::Cursor::new(self.0.clone())))
        }
    }

    /// A layer of these bytes, compressed, whose tar should be the plain ones.
    fn layer(blob: &[u8], plain: &[u8]) -> Layer {
        let descriptor = Descriptor::of(MediaType::OCI_LAYER_GZIP, blob);
        Layer { descriptor, diff_id: Digest::of(plain), blob: Arc::new(Bytes(blob.to_vec())), origin: None }
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    /// What is said where the layer is read to its end.
    fn said(layer: &Layer) -> Option<String> {
        let streams = Streams::default();
        let read = layer.stream_tar().and_then(|mut tar| io::copy(&mut tar, &mut io::sink()));
        if let Err(error) = read {
            streams.doubt(layer, &error);
        }
        streams.damaged()
    }

    #[test]
    fn a_damaged_layer_is_told_whatever_it_is_compressed_by() {
        let plain: Vec<u8> = (0..200_000_u32).flat_map(|number| (number / 3).to_le_bytes()).collect();
        for blob in [gzip(&plain), zstd::encode_all(&plain[..], 3).unwrap(), plain.clone()] {
            assert_eq!(said(&layer(&blob, &plain)), None);
            for place in [5, blob.len() / 2, blob.len() - 100] {
                let mut other = blob.clone();
                other[place] ^= 0x10;
                let said = said(&layer(&other, &plain));
                // What gzip's header says of a time is no part of the layer.
                assert_eq!(said.is_some(), place > 5 || !blob.starts_with(&[0x1f, 0x8b]), "{place}: {said:?}");
            }
            let (cut, said) = (&blob[..blob.len() - 100], said);
            assert!(said(&layer(cut, &plain)).is_some_and(|text| text.contains("begins anew")));
        }
    }

    #[test]
    fn where_unpacking_fails_the_rest_of_the_layer_says_whether_it_came_damaged() {
        let failed = |kind: io::ErrorKind| SnapshotError::Unpack { entry: "name".to_owned(), source: kind.into() };
        let blob = gzip(b"plain");
        for (right, kind, damaged, all_read) in [
            (true, io::ErrorKind::NotFound, false, true),
            (false, io::ErrorKind::NotFound, true, true),
            (false, io::ErrorKind::StorageFull, false, false),
        ] {
            let layer = layer(&blob, if right { b"plain" } else { b"other" });
            let (streams, count) = (Streams::default(), AtomicU64::new(0));
            let mut rest = Counting(layer.stream_tar().unwrap(), &count);
            streams.examine(&layer, &failed(kind), &mut rest);
            assert_eq!((streams.damaged().is_some(), count.into_inner() == 5), (damaged, all_read), "{kind}");
        }
    }

    struct Counting<'a, R>(R, &'a AtomicU64);

    impl<R: Read> Read for Counting<'_, R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read(buffer)?;
            self.1.fetch_add(count as u64, Ordering::Relaxed);
            Ok(count)
        }
    }
}
