//! A stage, from its base to an image: the part of the road that is walked once for each stage.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zuwai_registry::{BlobDir, Digest, History, Image, ImageFormat, Layer, LayerWriter, Platform};
use zuwai_snapshot::{ApplyOptions, RootFs, Scope, Snapshotter, WriteOptions, apply_tar, write_tar};

use crate::Tools;
use crate::cache::LayerCache;
use crate::cancellable::Cancellable;
use crate::context::Contexts;
use crate::error::{BuildError, UnpackError};
use crate::event::{Event, Observer};
use crate::instruction::{Action, Placed, Step};
use crate::isolation::Cancel;
use crate::plan::{Base, Origin, Plan, PlannedStage};
use crate::request::BuildRequest;
use crate::secrets::Secrets;
use crate::settings::Settings;
use crate::step::{self, Ground, StepError, Tree};
use crate::streams::Streams;
use crate::work::WorkFolder;

/// What BuildKit writes into every row of the history it makes, and scanners look for.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// What all stages of a build share.
pub(crate) struct Workshop<'a> {
    pub(crate) request: &'a BuildRequest,
    pub(crate) tools: &'a Tools<'a>,
    pub(crate) work: &'a WorkFolder,
    pub(crate) blobs: BlobDir,
    pub(crate) contexts: Contexts,
    pub(crate) secrets: &'a Secrets,
    /// Now, as RFC 3339: `created` of the image and of every row of its history.
    pub(crate) created: String,
    /// Which layers need not be made, and where new ones are kept.
    pub(crate) cache: Option<LayerCache<'a>>,
    /// Which layers may be unpacked while they come.
    pub(crate) streams: Streams,
}

/// Builds one stage, all that it needs being done, and returns its image. `observer` is told what happens in it, and
/// `cancel` asks it to stop.
pub(crate) fn build(
    shop: &Workshop<'_>,
    plan: &Plan<'_>,
    planned: &PlannedStage<'_>,
    done: &Done,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Image, BuildError> {
    let image = StageBuilder::start(shop, plan, planned, done, observer, cancel).build(done);
    observer.event(&Event::StageEnded { index: planned.index });
    image
}

/// What finished stages leave to later ones.
#[derive(Default)]
pub(crate) struct Done {
    ended: Mutex<Ended>,
    /// Images unpacked for COPY --from, by manifest digest; who unpacks one holds its lock, and others wait for it.
    aside: Mutex<BTreeMap<Digest, Arc<Aside>>>,
}

/// An image unpacked for COPY --from, once it is.
type Aside = Mutex<Option<Arc<RootFs>>>;

/// The same, by stage.
#[derive(Default)]
struct Ended {
    images: BTreeMap<usize, Image>,
    settings: BTreeMap<usize, Settings>,
    trees: BTreeMap<usize, Arc<RootFs>>,
    /// The root of a stage that its only heir goes on with, in place.
    handed_on: BTreeMap<usize, Live>,
}

impl Done {
    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A root filesystem that is unpacked, and what is known of it.
struct Live {
    root: RootFs,
    snapshotter: Box<dyn Snapshotter>,
    /// How many of the layers so far are in it. Those that come out of the cache follow when somebody looks.
    applied: usize,
}

/// What to do about changes that the kernel did not tell of when they happened.
fn missed(first: &Path, count: usize) -> String {
    let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
    format!(
        "the kernel did not tell that an earlier command changed {}{more}: the image has it, in a later layer than it should, and \
         earlier layers that went into the cache lack it; build with --watch-folders=false, and say to the authors of zuwai \
         what filesystem this is",
        first.display()
    )
}

/// Whether the look after one of the commands of a stage may be at what the kernel told of. The last one is at everything,
/// and watching begins with the first.
fn is_worth_watching(number: usize, runs: &[usize]) -> bool {
    runs.len() > 2 && runs.last().is_some_and(|&last| number < last)
}

struct StageBuilder<'a> {
    shop: &'a Workshop<'a>,
    plan: &'a Plan<'a>,
    planned: &'a PlannedStage<'a>,
    observer: &'a dyn Observer,
    cancel: &'a Cancel,
    settings: Settings,
    layers: Vec<Layer>,
    history: Vec<History>,
    format: ImageFormat,
    live: Option<Live>,
}

impl<'a> StageBuilder<'a> {
    /// The stage as its base leaves it. Nothing is unpacked yet.
    fn start(
        shop: &'a Workshop<'a>,
        plan: &'a Plan<'a>,
        planned: &'a PlannedStage<'a>,
        done: &Done,
        observer: &'a dyn Observer,
        cancel: &'a Cancel,
    ) -> StageBuilder<'a> {
        observer.event(&Event::StageStarted {
            index: planned.index,
            name: planned.source.name.as_deref(),
            base: &planned.base_name,
        });
        let mut ended = done.ended();
        let settings = planned.settings(&plan.globals, &ended.settings);
        let image = match &planned.base {
            Base::Scratch | Base::Files { .. } => None,
            Base::Image(pulled) => Some(pulled.image.clone()),
            Base::Stage(index) => ended.images.get(index).cloned(),
        };
        let format = image.as_ref().map_or(ImageFormat::Oci, |image| image.format);
        let (layers, history) = image.map_or_else(Default::default, |image| (image.layers, image.config.history));
        let live = match planned.base {
            Base::Stage(index) if planned.goes_on => ended.handed_on.remove(&index),
            _ => None,
        };
        drop(ended);
        let format = shop.request.image_format.unwrap_or(format);
        StageBuilder { shop, plan, planned, observer, cancel, settings, layers, history, format, live }
    }

    fn build(mut self, done: &Done) -> Result<Image, BuildError> {
        let instructions: Vec<&Placed> = self.planned.instructions().collect();
        let total = instructions.len();
        let mut pending = None;
        let whole = self.whole();
        for (number, placed) in (1..).zip(&instructions) {
            if self.cancel.is_cancelled() {
                return Err(BuildError::Cancelled);
            }
            let line = placed.span.first_line;
            self.observer.event(&Event::StepStarted { number, total, line, text: &placed.text });
            let at = |source: StepError| BuildError::Step {
                span: placed.span.clone(),
                text: placed.text.clone(),
                source: Box::new(source),
            };
            let Step { created_by, action } = placed.configure(&mut self.settings)?;
            let Some(action) = action else {
                self.remember(created_by, true);
                continue;
            };
            if self.take_from_cache(number) {
                self.remember(created_by, false);
                continue;
            }
            if whole.is_none() {
                let scope = self.carry_out(placed, &action, done)?.map_err(at)?;
                if !self.shop.request.single_snapshot {
                    let scope = self.narrow(scope, number, &instructions);
                    self.pack(&scope, number)?;
                    self.remember(created_by, false);
                    continue;
                }
            }
            self.remember(created_by, true);
            pending = self.history.len().checked_sub(1).map(|row| (row, number));
        }
        if let Some((row, number)) = pending {
            match whole {
                Some(layer) => self.layers.push(layer),
                None => self.pack(&Scope::Everywhere, number)?,
            }
            self.history[row].empty_layer = false;
        }
        self.finish(done)
    }

    /// Where a look after an instruction is at everything, it may be at what the kernel told of if more such looks follow.
    fn narrow(&self, scope: Scope, number: usize, instructions: &[&Placed]) -> Scope {
        if scope != Scope::Everywhere || !self.shop.request.watch_folders {
            return scope;
        }
        let runs =
            (1..).zip(instructions).filter(|(number, placed)| placed.demands().is_some() && !self.is_cached(*number));
        let runs: Vec<usize> = runs.map(|(number, _)| number).collect();
        if is_worth_watching(number, &runs) { Scope::Watched } else { scope }
    }

    /// Whether the step's layer is in the cache.
    fn is_cached(&self, number: usize) -> bool {
        self.shop.cache.as_ref().is_some_and(|cache| cache.layer(self.planned.index, number).is_some())
    }

    /// The layer of the whole stage, where a stage makes one and the cache has it.
    fn whole(&self) -> Option<Layer> {
        let cache = self.shop.cache.as_ref().filter(|_| self.shop.request.single_snapshot)?;
        cache.whole(self.planned.index)
    }

    /// Whether the step's layer was in the cache. It is not unpacked before somebody looks at the root.
    fn take_from_cache(&mut self, number: usize) -> bool {
        let Some(cache) = &self.shop.cache else { return false };
        let index = self.planned.index;
        if let Some(reason) = cache.why(index, number) {
            self.observer.event(&Event::CacheMissed { reason });
        }
        let Some(layer) = cache.layer(index, number).filter(|_| !self.shop.request.single_snapshot) else {
            return false;
        };
        let (digest, size) = (&layer.descriptor.digest, layer.descriptor.size);
        self.observer.event(&Event::LayerCached { digest, size });
        self.layers.push(layer);
        true
    }

    /// Executes an action on the unpacked root. The outer error is the build's own, the inner the instruction's.
    fn carry_out(
        &mut self,
        placed: &Placed,
        action: &Action,
        done: &Done,
    ) -> Result<Result<Scope, StepError>, BuildError> {
        let mut origins = BTreeMap::new();
        for name in placed.uses() {
            origins.insert(name.to_owned(), self.tree(name, done)?);
        }
        self.unpack()?;
        let Some(live) = &self.live else { unreachable!("unpacked above") };
        let ground = Ground {
            root: &live.root,
            context: &self.shop.contexts.main,
            origins,
            secrets: self.shop.secrets,
            caches: &self.shop.tools.caches,
            git: &self.shop.request.context.git,
            transport: &self.shop.request.context.transport,
            scratch: self.shop.work.scratch().join(self.planned.index.to_string()),
            isolation: self.shop.tools.isolation,
            snapshotter: live.snapshotter.as_ref(),
            observer: self.observer,
            cancel: self.cancel,
            told: self.shop.cache.as_ref().map(LayerCache::told),
        };
        Ok(step::execute(action, &ground))
    }

    /// The tree that `--from` names.
    fn tree(&self, name: &str, done: &Done) -> Result<Tree, BuildError> {
        match self.plan.origin(self.planned.index, name) {
            Origin::Stage(index) => {
                let tree = done.ended().trees.get(index).map(Arc::clone);
                Ok(Tree::Made(tree.expect("a stage that is read is kept when it is done")))
            }
            Origin::Context(place) => {
                Ok(Tree::Given(Arc::clone(self.shop.contexts.named.get(place).expect("what a plan uses was fetched"))))
            }
            Origin::Image(pulled) => {
                let mut aside = done.aside.lock().unwrap_or_else(PoisonError::into_inner);
                let place = Arc::clone(aside.entry(pulled.digest.clone()).or_default());
                drop(aside);
                let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(tree) = &*place {
                    return Ok(Tree::Made(Arc::clone(tree)));
                }
                let folder = self.shop.work.image(pulled.digest.hex());
                let tree = Arc::new(self.unpack_aside(&folder, &pulled.image.layers, name)?);
                Ok(Tree::Made(Arc::clone(place.insert(tree))))
            }
        }
    }

    /// Makes the root filesystem what the layers so far say, as far as no step before did.
    fn unpack(&mut self) -> Result<(), BuildError> {
        let mut live = match self.live.take() {
            Some(live) if live.applied == self.layers.len() => {
                self.live = Some(live);
                return Ok(());
            }
            Some(live) => live,
            None => self.enter()?,
        };
        let missing = &self.layers[live.applied..];
        let snapshotter = self.has_layers().then_some(live.snapshotter.as_mut());
        self.apply(missing, &live.root, &self.planned.base_name, snapshotter)?;
        live.applied = self.layers.len();
        self.live = Some(live);
        Ok(())
    }

    /// An empty root filesystem.
    fn enter(&self) -> Result<Live, BuildError> {
        self.observer.event(&Event::Unpacking { base: &self.planned.base_name });
        let root = self.shop.tools.isolation.enter(&self.shop.work.stage(self.planned.index))?;
        let mut snapshotter = self.shop.request.snapshot_mode.snapshotter();
        snapshotter.reset(&root)?;
        Ok(Live { root, snapshotter, applied: 0 })
    }

    /// Unpacks layers into a folder of the work folder, for others to read.
    fn unpack_aside(&self, folder: &Path, layers: &[Layer], image: &str) -> Result<RootFs, BuildError> {
        let work = |source| BuildError::Work { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(work)?;
        let root = self.shop.tools.isolation.open(folder)?;
        self.apply(layers, &root, image, None)?;
        Ok(root)
    }

    fn apply(
        &self,
        layers: &[Layer],
        root: &RootFs,
        image: &str,
        mut snapshotter: Option<&mut (dyn Snapshotter + 'static)>,
    ) -> Result<(), BuildError> {
        let Workshop { request, tools, streams, .. } = self.shop;
        let unpack = |source| BuildError::Unpack { image: image.to_owned(), source };
        let read = |layer: &Layer, is_streamed: bool, source: io::Error| {
            if is_streamed {
                streams.doubt(layer, &source);
            }
            unpack(UnpackError::Read { digest: layer.descriptor.digest.to_string(), source })
        };
        let first = layers.first().filter(|first| streams.may(first, request, tools.client));
        let coming = first.map(|first| first.stream_tar().map_err(|source| read(first, true, source)));
        let mut coming = coming.transpose()?;
        // The others come meanwhile.
        tools.client.prefetch(&layers[usize::from(coming.is_some())..]);
        let mut entries = 0;
        for layer in layers {
            let streamed = coming.take();
            let is_streamed = streamed.is_some();
            let tar = streamed.map_or_else(|| layer.open_tar().map_err(|source| read(layer, false, source)), Ok)?;
            let mut tar = Cancellable::new(tar, self.cancel.flag());
            let options = ApplyOptions { hashes: snapshotter.is_some(), ..ApplyOptions::default() };
            let applied = apply_tar(&mut tar, root, &options).map_err(|source| {
                if is_streamed {
                    streams.examine(layer, &source, &mut tar);
                }
                unpack(UnpackError::Apply { digest: layer.descriptor.digest.to_string(), source })
            })?;
            // The diff id is checked when the end of the stream is met, which lies behind the end of the archive.
            drain(&mut tar).map_err(|source| read(layer, is_streamed, source))?;
            for text in &applied.warnings {
                self.observer.event(&Event::Warning { text });
            }
            if let Some(snapshotter) = &mut snapshotter {
                snapshotter.adopt(&applied);
            }
            entries += applied.entries;
        }
        self.observer.event(&Event::Unpacked { entries });
        Ok(())
    }

    /// Whether somebody asks for the layers of this stage, and not for its files alone.
    fn has_layers(&self) -> bool {
        self.planned.is_laid_upon || self.shop.cache.is_some()
    }

    /// Finds what changed and makes a layer of it, where one is asked for.
    fn pack(&mut self, scope: &Scope, number: usize) -> Result<(), BuildError> {
        let has_layers = self.has_layers();
        let Some(live) = &mut self.live else { return Ok(()) };
        if !has_layers {
            live.root.settle_scaffold()?;
            return Ok(());
        }
        let begin = Instant::now();
        let changes = live.snapshotter.changes(&live.root, scope)?;
        if let [first, ..] = live.snapshotter.missed() {
            self.observer.event(&Event::Warning { text: &missed(first, live.snapshotter.missed().len()) });
        }
        let looking = begin.elapsed();
        let begin = Instant::now();
        let writer = LayerWriter::new(&self.shop.blobs, self.shop.request.compression, self.format);
        let inner = BufWriter::with_capacity(128 * 1024, writer.map_err(BuildError::Pack)?);
        let mut writer = Cancellable::new(inner, self.cancel.flag());
        let options = WriteOptions { latest_mtime: self.shop.request.latest_mtime(), ..WriteOptions::default() };
        let written = write_tar(&changes, &live.root, &mut writer, &options)?;
        live.snapshotter.learn(&changes, &written);
        let writer = writer.into_inner().into_inner().map_err(|error| BuildError::Pack(error.into_error()))?;
        let layer = writer.finish().map_err(BuildError::Pack)?;
        for text in &written.warnings {
            self.observer.event(&Event::Warning { text });
        }
        self.observer.event(&Event::LayerMade {
            digest: &layer.descriptor.digest,
            size: layer.descriptor.size,
            entries: written.entries,
            looking,
            packing: begin.elapsed(),
        });
        live.applied += 1;
        self.keep(&layer, number);
        self.layers.push(layer);
        Ok(())
    }

    /// Keeps a new layer, and pushes it where the image goes.
    fn keep(&self, layer: &Layer, number: usize) {
        let pushed = self.planned.is_target && self.shop.request.push;
        let destinations = if pushed { self.shop.request.destinations.as_slice() } else { &[] };
        let place = (self.planned.index, number);
        let (contexts, observer) = (&self.shop.contexts, self.observer);
        let kept = |cache: &LayerCache<'_>| cache.keep(place, layer, destinations, contexts, observer);
        if !self.shop.cache.as_ref().is_some_and(kept) {
            self.shop.tools.client.push_ahead(layer, destinations);
        }
    }

    /// A row of the history. ONBUILD has none.
    fn remember(&mut self, created_by: Option<String>, empty_layer: bool) {
        let Some(created_by) = created_by else { return };
        self.history.push(History {
            created: Some(self.shop.created.clone()),
            created_by,
            comment: Some(COMMENT.to_owned()),
            empty_layer,
            ..History::default()
        });
    }

    /// The platform that the image says it is for: the one asked for, else the base's; in normal form. What was not asked for
    /// stays as the base has it.
    fn platform(&self, base: &Platform) -> Platform {
        let asked = &self.shop.request.platform;
        if !self.shop.request.platform_given {
            return base.normalized();
        }
        let mut platform = asked.clone();
        if (&asked.os, &asked.architecture) == (&base.os, &base.architecture) {
            platform.variant = asked.variant.clone().or_else(|| base.variant.clone());
            platform.os_version = asked.os_version.clone().or_else(|| base.os_version.clone());
        }
        platform.normalized()
    }

    /// The image, and what later stages need of this one.
    fn finish(mut self, done: &Done) -> Result<Image, BuildError> {
        if self.planned.is_target {
            self.settings.add_labels(&self.shop.request.labels);
        }
        let mut config = self.settings.config().clone();
        if self.planned.is_target {
            config.set_platform(&self.platform(&config.platform()));
        }
        config.created = Some(self.shop.created.clone());
        config.rootfs.diff_ids = self.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        config.history = std::mem::take(&mut self.history);
        let left_in_place = self.planned.is_target && self.shop.request.materialize;
        if left_in_place || (self.live.is_some() && self.planned.is_read) {
            self.unpack()?;
        }
        let layers = std::mem::take(&mut self.layers);
        let annotations = if self.planned.is_target { self.shop.request.annotations.as_slice() } else { &[] };
        let annotations = annotations.iter().cloned().collect();
        let image = Image { config, layers, format: self.format, annotations };
        let index = self.planned.index;
        let folder = self.shop.work.stage(index);
        let in_use = match self.live.take() {
            Some(live) if self.planned.hands_on => {
                done.ended().handed_on.insert(index, live);
                true
            }
            // The root of the target is left to the end of the build.
            Some(_) if self.planned.is_target => true,
            Some(live) => {
                self.shop.tools.isolation.leave(&live.root, &folder)?;
                self.planned.is_read
            }
            None if self.planned.is_read => {
                self.unpack_aside(&folder, &image.layers, &self.planned.base_name)?;
                true
            }
            None => false,
        };
        if self.planned.is_read {
            let tree = Arc::new(self.shop.tools.isolation.open(&folder)?);
            done.ended().trees.insert(index, tree);
        } else if !in_use && folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|source| BuildError::Work { path: folder, source })?;
        }
        let mut ended = done.ended();
        ended.images.insert(index, image.clone());
        ended.settings.insert(index, self.settings);
        Ok(image)
    }
}

fn drain(from: &mut dyn Read) -> io::Result<()> {
    io::copy(from, &mut io::sink()).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_look_after_the_last_command_is_at_everything() {
        let watched = |runs: &[usize]| -> Vec<usize> {
            runs.iter().copied().filter(|&number| is_worth_watching(number, runs)).collect()
        };
        assert_eq!(watched(&[2, 3, 7, 9]), [2, 3, 7]);
        assert_eq!(watched(&[2, 3, 7]), [2, 3]);
        assert_eq!((watched(&[2, 3]), watched(&[5])), (vec![], vec![]), "nobody would be told before the last");
    }
}
