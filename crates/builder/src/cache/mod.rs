//! The cache of layers: a step whose inputs are what they were is not carried out again.
//!
//! Before anything is unpacked, [`LayerCache::look_ahead`] configures every stage, makes the key of every step, asks for
//! all of them at once, and leaves those stages out of the plan that nobody needs then. While the build goes on, new
//! layers are kept in the background. A cache can make a build faster and never fail it: what is wrong with it is a
//! warning and a miss, and where that shows only when a layer is unpacked, the build begins anew without that layer.
//!
//! | file | what is in it |
//! |---|---|
//! | `key` | the hash over everything that decides a layer |
//! | `inputs`, `content`, `remote` | what that is: of each kind of action, of files, of what is fetched |
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
mod remote;
mod store;
mod warm;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use zuwai_registry::{
    BlobDir, Compression, Digest, Image, ImageConfig, ImageFormat, Layer, LayerWriter, Platform, Reference,
    RegistryError, Shelf, Stored,
};

use crate::Tools;
use crate::context::Contexts;
use crate::error::{BuildError, UnpackError};
use crate::event::{Event, Observer};
use crate::plan::Plan;
use crate::request::{BuildRequest, CachePlace, CacheRequest};
use crate::step::Told;
pub(crate) use bases::Bases;
use entry::Entry;
use explain::Record;
use forecast::{Forecast, Found};
use keeper::{Keeper, Order};
pub(crate) use key::Key;
use key::Looked;
use mounts::Mounts;
use remote::Remotes;
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
    store: Arc<dyn Cache>,
    forecast: Forecast,
    keeper: Option<Keeper>,
    mounts: Option<Mounts>,
    blobs: BlobDir,
    told: Told,
    /// The layers that were made, by stage and number of the instruction.
    made: Mutex<BTreeMap<(usize, usize), Digest>>,
    /// Whether something that a key was made of is not what it was: nothing is kept any more.
    outdated: AtomicBool,
}

/// What goes on when the build is done: the folders of cache mounts are packed and kept, old entries removed.
pub(crate) struct Rest(Option<JoinHandle<Vec<String>>>);

impl Rest {
    /// Waits for it. What went wrong is a warning each.
    pub(crate) fn wait(self) -> Vec<String> {
        self.0.and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl<'a> LayerCache<'a> {
    /// Looks at everything that can be known before the build, and takes the stages out of the plan that need not be
    /// built. `None` where no cache is wanted or none can be had. Entries that are not trusted count as not there; `scratch`
    /// is a folder for what is put down meanwhile.
    pub(crate) fn look_ahead(
        plan: &mut Plan<'_>,
        request: &'a BuildRequest,
        tools: &Tools<'_>,
        (blobs, scratch): (&BlobDir, PathBuf),
        contexts: &Contexts,
        distrusted: &HashSet<Key>,
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
        let remotes = Remotes {
            git: &request.context.git,
            transport: &request.context.transport,
            scratch,
            cancelled: tools.cancel.flag(),
            told: Mutex::default(),
        };
        let forecast = Forecast::new(plan, request, wanted, contexts, &remotes)?;
        let mut cache = LayerCache {
            request: wanted,
            platform: &request.platform,
            store: Arc::clone(&store),
            forecast,
            keeper: None,
            mounts: None,
            blobs: blobs.clone(),
            told: remotes.told(),
            made: Mutex::default(),
            outdated: AtomicBool::new(false),
        };
        let record_tag = format!("{RECORD_TAG}{}", slot(request));
        let probed = cache.probe(&*store, &record_tag, distrusted, tools);
        cache.forecast.settle(plan, needs_bytes(request, wanted), tools);
        if wanted.keep && probed.answers {
            cache.keeper = Some(Keeper::start(Arc::clone(&store), tools.client.clone()));
        }
        cache.refresh(&probed.old);
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

    /// What servers told of what is fetched.
    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// Keeps the layer that was made of a step, and then pushes it to these. Whether it does: else nothing is done at all.
    /// What was made of other files than the key was made of, because the context changed meanwhile, is not kept.
    pub(crate) fn keep(
        &self,
        (stage, number): (usize, usize),
        layer: &Layer,
        destinations: &[Reference],
        contexts: &Contexts,
        observer: &dyn Observer,
    ) -> bool {
        self.made().insert((stage, number), layer.diff_id.clone());
        let Some(step) = self.forecast.step(stage, number) else { return false };
        if self.keeper.is_none() || self.is_outdated(step, contexts, observer) || !step.cached {
            return false;
        }
        let made = self.made();
        let below = self.forecast.made_on(stage, number, |stage, number| made.get(&(stage, number)).cloned());
        drop(made);
        let Some(label) = below.and_then(|below| step.label(below)) else { return false };
        let image = entry::image(&label, layer, self.platform, SystemTime::now());
        let then = (!destinations.is_empty()).then(|| (layer.clone(), destinations.to_vec()));
        self.order(Order { tag: entry::tag(&label.key), image, then });
        true
    }

    /// Waits until every layer is kept; what went wrong is a warning. The rest goes on in the background.
    pub(crate) fn finish(mut self) -> (Option<String>, Rest) {
        let keeps = self.keeper.is_some();
        let warning = self.keeper.take().and_then(Keeper::finish);
        if !keeps {
            return (warning, Rest(None));
        }
        let (store, blobs, ttl) = (Arc::clone(&self.store), self.blobs.clone(), self.request.ttl);
        let (mounts, platform) = (self.mounts.take().filter(|_| warning.is_none()), self.platform.clone());
        let work = move || {
            let mut warnings = mounts.map(|mounts| mounts.save(&platform, &blobs, &*store)).unwrap_or_default();
            if let Err(error) = store.tidy(ttl) {
                warnings.push(format!("old entries of the cache {} are not removed: {error}", store.name()));
            }
            warnings
        };
        (warning, Rest(std::thread::Builder::new().name("cache mounts".to_owned()).spawn(work).ok()))
    }

    /// The entries that are to blame for an error, if any are: their layers are not what they seemed to be.
    pub(crate) fn blame(&self, error: &BuildError, observer: &dyn Observer) -> Vec<Key> {
        let BuildError::Unpack { source, .. } = error else { return Vec::new() };
        let (UnpackError::Read { digest, .. } | UnpackError::Apply { digest, .. }) = source;
        let entries = self.forecast.with_layer(digest);
        for (_, text) in &entries {
            let reason = std::error::Error::source(source).map(ToString::to_string).unwrap_or_default();
            let text = format!("the kept layer of `{text}` is not used, and the build begins anew: {source}: {reason}");
            observer.event(&Event::Warning { text: &text });
        }
        entries.into_iter().map(|(key, _)| key).collect()
    }

    fn made(&self) -> std::sync::MutexGuard<'_, BTreeMap<(usize, usize), Digest>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the step, or one before it, took something else than its key was made of.
    fn is_outdated(&self, step: &forecast::Step, contexts: &Contexts, observer: &dyn Observer) -> bool {
        if self.outdated.load(Ordering::SeqCst) {
            return true;
        }
        let is_otherwise = |looked: &&Looked| {
            contexts.get(looked.context).root.metadata(&looked.path).ok().flatten() != Some(looked.was)
        };
        let what = match step.seen.iter().find(is_otherwise) {
            Some(Looked { path, .. }) => format!("{} changed while the build went on", path.display()),
            None if self.told.is_outdated() => "what ADD fetched changed while the build went on".to_owned(),
            None => return false,
        };
        self.outdated.store(true, Ordering::SeqCst);
        let text = format!("{what}: no more layers are kept in the cache");
        observer.event(&Event::Warning { text: &text });
        true
    }

    fn order(&self, order: Order) {
        if let Some(keeper) = &self.keeper {
            keeper.order(order);
        }
    }

    /// Asks for every key, and for what the build before was made of.
    fn probe(&mut self, store: &dyn Cache, record_tag: &str, distrusted: &HashSet<Key>, tools: &Tools<'_>) -> Probed {
        let now = SystemTime::now();
        let mut keys = self.forecast.keys();
        keys.sort_unstable();
        keys.dedup();
        let mut tags: Vec<String> = keys.iter().map(entry::tag).collect();
        tags.push(record_tag.to_owned());
        let mut answers = store.get(&tags);
        let mut probed = Probed { answers: answers.iter().any(Result::is_ok), record: None, old: Vec::new() };
        let warn = |text: &str| tools.observer.event(&Event::Warning { text });
        if let (Some(Err(error)), false) = (answers.first(), probed.answers) {
            warn(&refused(store, error));
            return probed;
        }
        if answers.len() == tags.len() {
            probed.record = answers.pop().and_then(Result::ok).flatten();
        }
        let mut found = HashMap::new();
        for (key, answer) in keys.iter().zip(answers).filter(|(key, _)| !distrusted.contains(key)) {
            let tag = entry::tag(key);
            match self.believe(store, key, answer, now) {
                Ok(Some((layer, age))) => {
                    if age > self.request.ttl / 4 {
                        probed.old.push(*key);
                    }
                    found.insert(*key, layer);
                }
                Ok(None) => {}
                Err(reason) => warn(&format!("{}:{tag} is not used: {reason}", store.name())),
            }
        }
        self.forecast.found(found);
        probed
    }

    /// The layer of an entry and its age; `None` where there is no entry, or it is too old. An error says why it is not
    /// believed.
    fn believe(
        &self,
        store: &dyn Cache,
        key: &Key,
        answer: Result<Option<Stored>, RegistryError>,
        now: SystemTime,
    ) -> Result<Option<(Found, Duration)>, String> {
        let Some(stored) = answer.map_err(|error| error.to_string())? else { return Ok(None) };
        let entry = Entry::read(key, &stored.manifest, now).map_err(|malformed| malformed.to_string())?;
        let age = entry.age(now);
        if age > self.request.ttl {
            return Ok(None);
        }
        let layer = store.layer(&entry::tag(key), &entry.layer, &entry.diff_id).map_err(|error| error.to_string())?;
        Ok(Some((Found { layer, below: entry.below }, age)))
    }

    /// What was used lives on: entries that have lived a quarter of their time are written anew.
    fn refresh(&self, old: &[Key]) {
        for (label, layer) in self.forecast.hits().filter(|(label, _)| old.contains(&label.key)) {
            let image = entry::image(&label, layer, self.platform, SystemTime::now());
            self.order(Order { tag: entry::tag(&label.key), image, then: None });
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
    old: Vec<Key>,
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

/// Whether the bytes of layers are needed that only go into the image: for a file of it, or for another registry.
fn needs_bytes(request: &BuildRequest, cache: &CacheRequest) -> bool {
    let CachePlace::Repository(repository) = &cache.place else { return false };
    let elsewhere = |name: &Reference| name.registry() != repository.registry();
    request.outputs.tar_path.is_some()
        || request.outputs.oci_layout_path.is_some()
        || (request.push && request.destinations.iter().any(elsewhere))
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
