//! Which layers are unpacked while they come, and never lie on the disk as blobs. Such a blob is not hashed: what is in it is
//! compared with the diff id of the image's config before any command sees it. Where it is found to be something else, the
//! build begins anew, and every blob is verified before it is unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zuwai_registry::{Client, Digest, Layer, Pulled};
use zuwai_snapshot::SnapshotError;

use crate::error::{BuildError, UnpackError};
use crate::plan::{Base, Origin, Plan};
use crate::request::BuildRequest;

/// The layers whose bytes are wanted once and for their files alone, as far as the plan knows.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    once: BTreeSet<Digest>,
    /// Those that were begun so.
    begun: Mutex<BTreeSet<String>>,
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
        Streams { once: once.map(|(digest, _)| digest.clone()).collect(), begun: Mutex::default() }
    }

    /// Whether the layer may be unpacked while it comes. Where the image is pushed, its registry must need none of the bytes:
    /// it has the layer, or can take it from the repository of the base.
    pub(crate) fn may(&self, layer: &Layer, request: &BuildRequest, client: &Client) -> bool {
        let destinations = if request.push { request.destinations.as_slice() } else { &[] };
        let digest = &layer.descriptor.digest;
        let may = self.once.contains(digest) && client.can_do_without(layer, destinations);
        if may {
            self.begun().insert(digest.to_string());
        }
        may
    }

    fn begun(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be said where an error tells that a layer was not what it should be, if it was unpacked while it came.
    pub(crate) fn blame(&self, error: &BuildError) -> Option<String> {
        let BuildError::Unpack { source, .. } = error else { return None };
        let (digest, is_of_its_bytes) = match source {
            UnpackError::Read { digest, source } => (digest, is_of_bytes(source)),
            UnpackError::Apply { digest, source } => (
                digest,
                match source {
                    SnapshotError::ReadArchive { source, .. } => is_of_bytes(source),
                    SnapshotError::BrokenArchive { .. }
                    | SnapshotError::RefusedEntry { .. }
                    | SnapshotError::Limit { .. } => true,
                    _ => false,
                },
            ),
        };
        (is_of_its_bytes && self.begun().contains(digest)).then(|| {
            let reason = std::error::Error::source(source).map(ToString::to_string).unwrap_or_default();
            format!("{source}: {reason}: the build begins anew, and verifies each layer before it is unpacked")
        })
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

/// Whether the bytes came, and were wrong.
fn is_of_bytes(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}
