//! The cache of layers: a step whose inputs are what they were is not carried out again.
//!
//! Before anything is unpacked, [`LayerCache::look_ahead`] configures every stage, makes the key of every step, asks for
//! all of them at once, and leaves those stages out of the plan that nobody needs then. While the build goes on, new
//! layers are kept in the background. A cache can make a build faster and never fail it: what is wrong with it is a
//! warning and a miss.
//!
//! | file | what is in it |
//! |---|---|
//! | `key` | the hash over everything that decides a layer |
//! | `inputs`, `content` | what that is: of each kind of action, of files |
//! | `forecast` | the keys of a whole build, and which of them are there |
//! | `entry`, `store` | an entry as an image, and where entries are kept |
//! | `keeper` | keeping new layers beside the build |
//! | `explain` | why a step was not there |
//! | `mounts` | the folders of `RUN --mount=type=cache` |
//! | `bases`, `warm` | base images in a folder, and putting them there |

mod bases;
mod content;
mod entry;
mod explain;
mod forecast;
mod inputs;
mod keeper;
mod key;
#[cfg(test)]
mod law;
mod mounts;
mod store;
mod warm;

use std::io::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use zuwai_registry::{
    BlobDir, Compression, Image, ImageConfig, ImageFormat, Layer, LayerWriter, Platform, Reference, RegistryError,
    Shelf, Stored,
};
use zuwai_snapshot::RootFs;

use crate::Tools;
use crate::context::Dockerignore;
use crate::error::BuildError;
use crate::event::{Event, Observer};
use crate::plan::Plan;
use crate::request::{BuildRequest, CachePlace, CacheRequest};
pub(crate) use bases::Bases;
use entry::Entry;
use explain::Record;
use forecast::Forecast;
use keeper::{Keeper, Order};
use key::Key;
use mounts::Mounts;
use store::{Cache, Repository};
pub use warm::{WarmError, WarmRequest, warm};

/// The tag of what the build before was made of begins with this.
const RECORD_TAG: &str = "zuwai-last-";
/// The member of a config that holds it.
const RECORD: &str = "dev.zuwai.cache.record";

/// The cache as one build sees it.
pub(crate) struct LayerCache<'a> {
    request: &'a CacheRequest,
    platform: &'a Platform,
    forecast: Forecast,
    keeper: Option<Keeper>,
    mounts: Option<Mounts>,
    blobs: BlobDir,
}

impl<'a> LayerCache<'a> {
    /// Looks at everything that can be known before the build, and takes the stages out of the plan that need not be
    /// built. `None` where no cache is wanted or none can be had.
    pub(crate) fn look_ahead(
        plan: &mut Plan<'_>,
        request: &'a BuildRequest,
        tools: &Tools<'_>,
        blobs: &BlobDir,
        context: &RootFs,
        ignore: &Dockerignore,
    ) -> Result<Option<Self>, BuildError> {
        let Some(wanted) = &request.cache else { return Ok(None) };
        let warn = |text: &str| tools.observer.event(&Event::Warning { text });
        let store: Arc<dyn Cache> = match open(wanted, request, tools, blobs) {
            Ok(store) => store,
            Err(error) => {
                warn(&format!("the build goes on without its cache: {error}"));
                return Ok(None);
            }
        };
        let forecast = Forecast::new(plan, request, wanted, context, ignore)?;
        let (platform, blobs) = (&request.platform, blobs.clone());
        let mut cache = LayerCache { request: wanted, platform, forecast, keeper: None, mounts: None, blobs };
        let record_tag = format!("{RECORD_TAG}{}", slot(request));
        let probed = cache.probe(&*store, &record_tag, tools);
        cache.forecast.settle(plan, tools);
        if wanted.keep && probed.answers {
            cache.keeper = Some(Keeper::start(Arc::clone(&store), tools.client.clone()));
        }
        cache.refresh(probed.old);
        if cache.forecast.misses().next().is_some() {
            cache.explain(&*store, &record_tag, probed.record.as_ref());
            match record_image(cache.forecast.record(), request, &cache.blobs) {
                Ok(image) => cache.order(Order { tag: record_tag, image, then: None }),
                Err(error) => warn(&format!("the next build will not know why it misses the cache: {error}")),
            }
        }
        let needs = cache.forecast.needs(plan);
        if let (Some(largest), true) = (wanted.mounts, probed.answers) {
            let folders = cache.forecast.folders(&needs);
            let limits = (wanted.ttl, largest);
            cache.mounts = Some(Mounts::restore(&folders, &tools.caches, limits, &*store, tools.observer));
        }
        plan.narrow(&needs.built, &needs.read);
        Ok(Some(cache))
    }

    /// The layer of a step, if it is in the cache. `number` counts the instructions of the stage from 1.
    pub(crate) fn layer(&self, stage: usize, number: usize) -> Option<Layer> {
        self.forecast.step(stage, number).and_then(|step| step.hit.clone())
    }

    /// The layer of a whole stage, where a stage makes one.
    pub(crate) fn whole(&self, stage: usize) -> Option<Layer> {
        self.forecast.last(stage).and_then(|step| step.hit.clone())
    }

    /// Why a step is not there; `None` where it was not looked for.
    pub(crate) fn why(&self, stage: usize, number: usize) -> Option<&str> {
        self.forecast.step(stage, number).and_then(|step| step.why.as_deref())
    }

    /// Keeps the layer of a step, and then pushes it to these. Whether it does: else nothing is done at all.
    pub(crate) fn keep(&self, stage: usize, number: usize, layer: &Layer, destinations: &[Reference]) -> bool {
        let step = self.forecast.step(stage, number).filter(|step| step.cached);
        let (Some(label), true) = (step.and_then(forecast::Step::label), self.keeper.is_some()) else { return false };
        let image = entry::image(&label, layer, self.platform, SystemTime::now());
        let then = (!destinations.is_empty()).then(|| (layer.clone(), destinations.to_vec()));
        self.order(Order { tag: entry::tag(&label.key), image, then });
        true
    }

    /// Keeps the folders of cache mounts, and waits until everything is kept. What went wrong is a warning.
    pub(crate) fn finish(mut self, observer: &dyn Observer) -> Option<String> {
        if let (Some(mounts), true) = (self.mounts.take(), self.keeper.is_some()) {
            for order in mounts.save(self.platform, &self.blobs, observer) {
                self.order(order);
            }
        }
        self.keeper.and_then(Keeper::finish)
    }

    fn order(&self, order: Order) {
        if let Some(keeper) = &self.keeper {
            keeper.order(order);
        }
    }

    /// Asks for every key, and for what the build before was made of.
    fn probe(&mut self, store: &dyn Cache, record_tag: &str, tools: &Tools<'_>) -> Probed {
        let now = SystemTime::now();
        let mut keys = self.forecast.keys();
        keys.sort_unstable();
        keys.dedup();
        let mut tags: Vec<String> = keys.iter().map(entry::tag).collect();
        tags.push(record_tag.to_owned());
        let mut answers = store.get(&tags);
        let mut probed = Probed { answers: answers.iter().any(Result::is_ok), record: None, old: Vec::new() };
        if let Some(error) = answers.iter().find_map(|answer| answer.as_ref().err()) {
            let text = refused(store, error);
            tools.observer.event(&Event::Warning { text: &text });
        }
        if answers.len() == tags.len() {
            probed.record = answers.pop().and_then(Result::ok).flatten();
        }
        for (key, stored) in keys.iter().zip(answers).filter_map(|(key, answer)| Some((key, answer.ok()??))) {
            let tag = entry::tag(key);
            let found = Entry::read(key, &stored.manifest).map_err(|malformed| malformed.to_string());
            let found = found.and_then(|entry| {
                let age = entry.age(now);
                let layer = (age <= self.request.ttl).then(|| store.layer(&tag, &entry.layer, &entry.diff_id));
                Ok((layer.transpose().map_err(|error| error.to_string())?, age))
            });
            match found {
                Ok((Some(layer), age)) => {
                    if age > self.request.ttl / 4 {
                        probed.old.push((*key, layer.clone()));
                    }
                    self.forecast.found(key, &layer);
                }
                Ok((None, _)) => {}
                Err(reason) => {
                    let text = format!("{}:{tag} is not used: {reason}", store.name());
                    tools.observer.event(&Event::Warning { text: &text });
                }
            }
        }
        probed
    }

    /// What was used lives on: entries that have lived a quarter of their time are written anew.
    fn refresh(&self, old: Vec<(Key, Layer)>) {
        for (key, layer) in old {
            if let Some(label) = self.forecast.of_key(&key).and_then(forecast::Step::label) {
                let image = entry::image(&label, &layer, self.platform, SystemTime::now());
                self.order(Order { tag: entry::tag(&key), image, then: None });
            }
        }
    }

    fn explain(&mut self, store: &dyn Cache, tag: &str, stored: Option<&Stored>) {
        let config = stored.and_then(|stored| store.config(tag, &stored.manifest).ok());
        let before = config.and_then(|config| serde_json::from_value::<Record>(config.extra.get(RECORD)?.clone()).ok());
        self.forecast.explain(&before.unwrap_or_default());
    }
}

/// What asking brought, besides the layers.
struct Probed {
    /// Whether the cache answers at all.
    answers: bool,
    record: Option<Stored>,
    /// Entries that may soon be too old.
    old: Vec<(Key, Layer)>,
}

fn open(
    wanted: &CacheRequest,
    request: &BuildRequest,
    tools: &Tools<'_>,
    blobs: &BlobDir,
) -> Result<Arc<dyn Cache>, RegistryError> {
    Ok(match &wanted.place {
        CachePlace::Repository(repository) => {
            // Later nobody may be asked any more.
            tools.client.resolve_credentials(std::slice::from_ref(repository));
            let client = tools.client.clone();
            Arc::new(Repository { client, place: repository.clone(), blobs: blobs.clone() })
        }
        CachePlace::Layout(folder) => Arc::new(Shelf::open(&request.current_directory.join(folder))?),
    })
}

fn refused(store: &dyn Cache, error: &RegistryError) -> String {
    let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("the cache {} cannot be read, and the build goes on without: {error}{hint}", store.name())
}

/// Which builds are builds of the same thing.
fn slot(request: &BuildRequest) -> Key {
    let repository = request.destinations.first().map(Reference::name).unwrap_or_default();
    Key::of(&[
        request.dockerfile.as_os_str().as_encoded_bytes(),
        request.target.as_deref().unwrap_or_default().as_bytes(),
        request.platform.to_string().as_bytes(),
        repository.as_bytes(),
    ])
}

/// What a build was made of, as an image: an empty layer, since some registries want one, and the record in the config.
fn record_image(record: &Record, request: &BuildRequest, blobs: &BlobDir) -> std::io::Result<Image> {
    let mut writer = LayerWriter::new(blobs, Compression::GZIP, ImageFormat::Oci)?;
    // The end of an archive: two empty blocks.
    writer.write_all(&[0; 1024])?;
    let mut config = ImageConfig::default();
    config.set_platform(&request.platform);
    config.extra.insert(RECORD.to_owned(), serde_json::to_value(record)?);
    let created = ("org.opencontainers.image.created".to_owned(), entry::rfc3339(SystemTime::now()));
    Ok(Image { config, layers: vec![writer.finish()?], format: ImageFormat::Oci, annotations: [created].into() })
}
