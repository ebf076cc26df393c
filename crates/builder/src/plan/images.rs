//! The images that stages begin with or read: of registries, of a folder of base images, of layouts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use zuwai_registry::layout::Layout;
use zuwai_registry::{BlobDir, Digest, Platform, Pulled, Reference, RegistryError};

use crate::Tools;
use crate::cache::Bases;
use crate::event::Event;
use crate::request::BuildRequest;

/// Images by name, each asked for once.
pub(super) struct Images<'b> {
    pub(super) tools: &'b Tools<'b>,
    pub(super) request: &'b BuildRequest,
    pub(super) blobs: BlobDir,
    /// Those that were fetched before the build.
    pub(super) bases: Option<Bases>,
    pub(super) pulled: BTreeMap<String, Arc<Pulled>>,
}

impl Images<'_> {
    pub(super) fn pull(
        &mut self,
        reference: &Reference,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Arc<Pulled>, Box<RegistryError>> {
        let platform = platform.unwrap_or(&self.request.platform);
        let full = format!("{reference} {platform}");
        if let Some(pulled) = self.pulled.get(&full) {
            return Ok(Arc::clone(pulled));
        }
        let client = self.tools.client;
        let kept = self.bases.as_ref().and_then(|bases| bases.pinned(reference, platform, client, &self.blobs));
        let pulled = if let Some(kept) = kept {
            kept
        } else {
            self.tools.observer.event(&Event::ImageResolving { reference: name });
            let pulled = client.pull(reference, platform, &self.blobs).map_err(Box::new)?;
            match &self.bases {
                Some(bases) => bases.instead_of(pulled, platform),
                None => pulled,
            }
        };
        let pulled = Arc::new(pulled);
        self.pulled.insert(full, Arc::clone(&pulled));
        Ok(pulled)
    }

    /// An image in a folder in OCI image layout. `called` is the name it is used by.
    pub(super) fn read(
        &self,
        folder: &Path,
        tag: Option<&str>,
        digest: Option<&Digest>,
        platform: Option<&Platform>,
        called: &Reference,
    ) -> Result<Arc<Pulled>, Box<RegistryError>> {
        let platform = platform.unwrap_or(&self.request.platform);
        let folder = self.request.current_directory.join(folder);
        // The container's own files are out of the way when its blobs are read.
        let layout = Layout::open(&folder)?.held();
        let graph = match (digest, tag) {
            (Some(digest), _) => layout.graph_of(digest)?,
            (None, Some(tag)) => layout.graph(Some(tag))?,
            (None, None) if layout.manifests().len() > 1 => layout.graph(Some("latest"))?,
            (None, None) => layout.graph(None)?,
        };
        let image = graph.image(platform, &folder.display().to_string())?;
        let digest = image.encode().descriptor.digest;
        Ok(Arc::new(Pulled { image, digest, origin: called.clone() }))
    }
}
