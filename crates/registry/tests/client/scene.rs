//! An image, a registry, and what goes wrong between the client and it.

use std::sync::atomic::{AtomicUsize, Ordering};

use zuwai_registry::{BlobDir, Client, Digest, Image, ImageFormat, Platform, Pulled, Reference, RegistryError};

use super::docker_registry::DockerRegistry;
use super::fake_registry::{Action, FakeRegistry, Head};
use super::images::{anonymous, assert_same, image, plain, read, reference};

pub(crate) struct Scene {
    /// What the client speaks to.
    pub registry: FakeRegistry,
    /// The registry behind it, unless it plays one itself.
    pub behind: Option<DockerRegistry>,
    pub folder: tempfile::TempDir,
    pub name: Reference,
    pub image: Image,
}

/// An image that is not pushed yet, and a real registry behind a proxy that makes the faults.
pub(crate) fn scene(lengths: &[usize]) -> Scene {
    let behind = DockerRegistry::open();
    staged(lengths, FakeRegistry::in_front_of(&behind), Some(behind))
}

/// The same with a fake registry, for what a real one cannot be made to do.
pub(crate) fn fake_scene(lengths: &[usize]) -> Scene {
    staged(lengths, FakeRegistry::start(), None)
}

fn staged(lengths: &[usize], registry: FakeRegistry, behind: Option<DockerRegistry>) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path().join("made")).unwrap();
    let image = image(5, lengths, ImageFormat::Oci, &blobs);
    let name = reference(&format!("{}/app:1", registry.name()));
    Scene { registry, behind, folder, name, image }
}

/// An image that is there.
pub(crate) fn pushed(lengths: &[usize]) -> Scene {
    let scene = scene(lengths);
    scene.push().unwrap();
    scene
}

impl Scene {
    pub(crate) fn client(&self) -> Client {
        anonymous(plain(&self.registry.name()))
    }

    pub(crate) fn push(&self) -> Result<Digest, RegistryError> {
        self.client().push(&self.image, std::slice::from_ref(&self.name))
    }

    pub(crate) fn pull(&self) -> Result<Pulled, RegistryError> {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        self.client().pull(&self.name, &Platform::host(), &BlobDir::open(folder).unwrap())
    }

    /// Pulls everything, and checks every byte.
    pub(crate) fn pull_whole(&self) {
        assert_same(&self.pull().unwrap().image, &self.image);
    }

    /// Pushes in spite of all faults, and pulls the whole without them. The requests of the push.
    pub(crate) fn push_whole(&self) -> Vec<Head> {
        self.push().unwrap();
        let seen = self.registry.seen();
        self.registry.fault(|_, _| Action::Serve);
        self.pull_whole();
        seen
    }

    pub(crate) fn layer_error(&self) -> String {
        let error = read(&self.pull().unwrap().image.layers[0]).unwrap_err();
        RegistryError::behind(&error).expect("an error of the client").to_string()
    }

    pub(crate) fn lose_blobs(&self) {
        match &self.behind {
            Some(registry) => registry.lose_blobs(),
            None => self.registry.lose_blobs(),
        }
    }

    pub(crate) fn tag_is_there(&self) -> bool {
        self.registry.manifest("app", "1").is_some()
    }
}

/// The first of these requests fails so; the rest are served.
pub(crate) fn once(
    what: impl Fn(&Head) -> bool + Send + Sync + 'static,
    how: impl Fn() -> Action + Send + Sync + 'static,
) -> impl Fn(&Head, usize) -> Action {
    times(1, what, how)
}

pub(crate) fn times(
    many: usize,
    what: impl Fn(&Head) -> bool + Send + Sync + 'static,
    how: impl Fn() -> Action + Send + Sync + 'static,
) -> impl Fn(&Head, usize) -> Action {
    let left = AtomicUsize::new(many);
    move |head, _| {
        let hit =
            what(head) && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if hit { how() } else { Action::Serve }
    }
}

/// A request for a layer, and not for the config, which comes first.
pub(crate) fn is_layer(image: &Image) -> impl Fn(&Head) -> bool + Clone + use<> {
    let digests: Vec<String> = image.layers.iter().map(|layer| layer.descriptor.digest.to_string()).collect();
    move |head: &Head| head.method == "GET" && digests.iter().any(|digest| head.target.ends_with(digest))
}

pub(crate) fn put_blob(head: &Head) -> bool {
    head.method == "PUT" && head.target.contains("/blobs/uploads/")
}
