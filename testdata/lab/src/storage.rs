//! The folder in which Debian's docker-registry keeps images (its `filesystem` driver), filled without a server: fast, since
//! blobs are hard links, and able to hold what no server would take, such as a blob with other bytes than its name says.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::layout::{Layout, media, sha256, text};

/// A registry's storage folder.
#[derive(Debug, Clone)]
pub struct Storage {
    folder: PathBuf,
}

impl Storage {
    /// The storage in that folder, which is made when it is first written to.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stores the image, or index of images, that `descriptor` names in `layout`, and points `repository:tag` to it.
    pub fn put(&self, layout: &Layout, descriptor: &Value, repository: &str, tag: &str) -> Result<()> {
        self.put_manifest(layout, descriptor, repository)?;
        let digest = text(descriptor, "digest")?;
        let tags = self.repository(repository).join("_manifests/tags").join(tag);
        link_file(&tags.join("current/link"), digest)?;
        link_file(&tags.join("index/sha256").join(hex_of(digest)?).join("link"), digest)
    }

    /// Where the bytes of a blob are.
    pub fn blob(&self, digest: &str) -> Result<PathBuf> {
        let hex = hex_of(digest)?;
        Ok(self.root().join("blobs/sha256").join(&hex[..2]).join(hex).join("data"))
    }

    /// The digest that a tag points to.
    pub fn tag(&self, repository: &str, tag: &str) -> Option<String> {
        let path = self.repository(repository).join("_manifests/tags").join(tag).join("current/link");
        fs::read_to_string(path).ok()
    }

    /// The tags of a repository, in order.
    pub fn tags(&self, repository: &str) -> Result<Vec<String>> {
        let folder = self.repository(repository).join("_manifests/tags");
        let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        let mut tags: Vec<_> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        tags.sort();
        Ok(tags)
    }

    /// Points a tag to a manifest that the repository has.
    pub fn point(&self, repository: &str, tag: &str, digest: &str) -> Result<()> {
        link_file(&self.repository(repository).join("_manifests/tags").join(tag).join("current/link"), digest)
    }

    /// Replaces the bytes of a blob and leaves its name.
    pub fn corrupt(&self, digest: &str, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let path = self.blob(digest)?;
        let mut bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        change(&mut bytes);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))
    }

    fn put_manifest(&self, layout: &Layout, descriptor: &Value, repository: &str) -> Result<()> {
        let digest = text(descriptor, "digest")?;
        let document = layout.document(digest)?;
        if matches!(text(descriptor, "mediaType")?, media::INDEX | media::DOCKER_LIST) {
            for manifest in document["manifests"].as_array().into_iter().flatten() {
                self.put_manifest(layout, manifest, repository)?;
            }
        } else {
            let layers = document["layers"].as_array().with_context(|| format!("{digest} lists no layers"))?;
            for blob in layers.iter().chain([&document["config"]]) {
                let digest = text(blob, "digest")?;
                self.put_blob(&layout.blob_path(digest)?, digest)?;
                link_file(
                    &self.repository(repository).join("_layers/sha256").join(hex_of(digest)?).join("link"),
                    digest,
                )?;
            }
        }
        self.put_blob(&layout.blob_path(digest)?, digest)?;
        let revision = self.repository(repository).join("_manifests/revisions/sha256").join(hex_of(digest)?);
        link_file(&revision.join("link"), digest)
    }

    fn put_blob(&self, source: &Path, digest: &str) -> Result<()> {
        let path = self.blob(digest)?;
        if path.exists() {
            return Ok(());
        }
        make_parent(&path)?;
        if fs::hard_link(source, &path).is_err() {
            fs::copy(source, &path).with_context(|| format!("copy {} to {}", source.display(), path.display()))?;
        }
        Ok(())
    }

    fn repository(&self, repository: &str) -> PathBuf {
        self.root().join("repositories").join(repository)
    }

    fn root(&self) -> PathBuf {
        self.folder.join("docker/registry/v2")
    }
}

/// A copy of an image with all its media types Docker's: what a registry filled by `docker push` answers with.
pub fn as_docker(layout: &Layout, descriptor: &Value) -> Result<Value> {
    let mut manifest = layout.document(text(descriptor, "digest")?)?;
    manifest["mediaType"] = media::DOCKER_MANIFEST.into();
    manifest["config"]["mediaType"] = media::DOCKER_CONFIG.into();
    for layer in manifest["layers"].as_array_mut().into_iter().flatten() {
        ensure!(text(layer, "mediaType")?.ends_with("+gzip"), "Docker's manifest has no type for {layer}");
        layer["mediaType"] = media::DOCKER_LAYER.into();
    }
    let mut docker = layout.put_document(media::DOCKER_MANIFEST, &manifest)?;
    docker["platform"] = descriptor["platform"].clone();
    Ok(docker)
}

fn hex_of(digest: &str) -> Result<&str> {
    let hex = digest.strip_prefix("sha256:").with_context(|| format!("{digest} is no SHA-256 digest"))?;
    ensure!(hex.len() == sha256(b"").len(), "{digest} is no SHA-256 digest");
    Ok(hex)
}

fn link_file(path: &Path, digest: &str) -> Result<()> {
    make_parent(path)?;
    // Whole or not at all: a server may read it at this moment.
    let part = path.with_extension(format!("part{}", std::process::id()));
    fs::write(&part, digest).with_context(|| format!("write {}", part.display()))?;
    fs::rename(&part, path).with_context(|| format!("write {}", path.display()))
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().expect("files of the storage lie in folders");
    fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))
}
