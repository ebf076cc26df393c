//! A whole build, looked at before it begins: every stage is configured, which touches no filesystem, so that the key of
//! every step is known, and from the layers that are there it follows what is still to be done.
//!
//! A command that runs twice need not do the same twice: of `RUN apt-get update` a repository may hold the layer of one
//! build, and of the RUN behind it that of another one. Every entry therefore says what it was made *below*: the layers of the
//! commands before it, and of those in the stages it reads. It is a hit where they are this build's, too; no image is put
//! together of layers that never lay upon each other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use zuwai_registry::{Digest, Layer};

use super::content::Contents;
use super::entry::Label;
use super::explain::Record;
use super::inputs::{self, Sources};
use super::key::{Inputs, Key, Kind, Seen};
use super::remote::{Remotes, Unknown};
use crate::Tools;
use crate::context::Contexts;
use crate::error::BuildError;
use crate::event::Event;
use crate::instruction::{Action, Placed};
use crate::plan::{Base, Origin, Plan, PlannedStage};
use crate::request::{BuildRequest, CacheRequest};
use crate::settings::Settings;
use crate::step::folder_of;

/// See the module.
pub(super) struct Forecast {
    stages: BTreeMap<usize, Stage>,
    record: Record,
    /// What the cache has.
    found: HashMap<Key, Found>,
    /// Those of it whose bytes were seen to be right.
    verified: HashSet<Key>,
}

/// A layer that the cache has.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) layer: Layer,
    /// What it was made on.
    pub(super) below: Key,
}

struct Stage {
    /// The stage that it begins with.
    base: Option<usize>,
    /// Its name, or its number.
    name: String,
    /// What may become a layer.
    steps: Vec<Step>,
    /// The key of its root filesystem at its end; `None` where that cannot be known before.
    end: Option<Key>,
}

/// A step that makes a layer.
pub(super) struct Step {
    /// Its place among the instructions of the stage, from 1.
    number: usize,
    text: String,
    /// The keys before and of it, and the hash of its inputs; `None` where they cannot be known before.
    keys: Option<Keys>,
    /// Why there are none.
    unknown: Option<String>,
    /// What of the context the inputs were made of.
    pub(super) seen: Seen,
    /// Whether carrying it out again may bring another layer.
    runs: bool,
    /// Whether its layer is kept in the cache and looked for there.
    pub(super) cached: bool,
    /// The stages whose files it reads.
    reads: Vec<usize>,
    /// The folders of its cache mounts.
    folders: Vec<String>,
    pub(super) hit: Option<Layer>,
    /// What the hit was made on.
    pub(super) below: Option<Key>,
    /// Whether a layer was there that was made on others than this build's.
    elsewhere: bool,
    pub(super) why: Option<String>,
}

#[derive(Clone, Copy)]
struct Keys {
    parent: Key,
    inputs: Key,
    key: Key,
}

/// What there is to do.
pub(super) struct Needs {
    /// The stages whose layers are needed.
    pub(super) built: BTreeSet<usize>,
    /// Those of them whose files are read.
    pub(super) read: BTreeSet<usize>,
}

impl Step {
    /// What is written about its layer, which was made on this.
    pub(super) fn label(&self, below: Key) -> Option<Label<'_>> {
        let Keys { parent, inputs, key } = self.keys?;
        Some(Label { key, parent, inputs, below, text: &self.text })
    }

    fn is_miss(&self) -> bool {
        self.hit.is_none()
    }
}

impl Forecast {
    /// Configures every stage and makes the keys. The files of the context are read here, and servers are asked.
    pub(super) fn new(
        plan: &Plan<'_>,
        request: &BuildRequest,
        cache: &CacheRequest,
        contexts: &Contexts,
        remotes: &Remotes<'_>,
    ) -> Result<Forecast, BuildError> {
        let mut forecast = Forecast {
            stages: BTreeMap::new(),
            record: Record::default(),
            found: HashMap::new(),
            verified: HashSet::new(),
        };
        let content = Contents::new(contexts);
        let mut ended: BTreeMap<usize, Settings> = BTreeMap::new();
        for planned in &plan.stages {
            let mut settings = planned.settings(&plan.globals, &ended);
            let name = planned.source.name.clone().unwrap_or_else(|| planned.index.to_string());
            let base = if let Base::Stage(index) = planned.base { Some(index) } else { None };
            let mut stage = Stage { base, name, steps: Vec::new(), end: forecast.begin(planned, request, cache) };
            for (number, placed) in (1..).zip(planned.instructions()) {
                let Some(action) = placed.configure(&mut settings)?.action else { continue };
                let readers = (&settings, &content, remotes);
                let step = forecast.add(&mut stage, number, placed, &action, (plan, planned), readers);
                stage.steps.push(Step { cached: is_cached(&action, cache), ..step });
            }
            if request.single_snapshot {
                stage.steps = one_of(stage.steps);
            }
            ended.insert(planned.index, settings);
            forecast.stages.insert(planned.index, stage);
        }
        Ok(forecast)
    }

    /// The key that a stage begins with.
    fn begin(&mut self, planned: &PlannedStage<'_>, request: &BuildRequest, cache: &CacheRequest) -> Option<Key> {
        let name = planned.source.name.clone().unwrap_or_else(|| planned.index.to_string());
        let image = match &planned.base {
            Base::Scratch | Base::Files { .. } => None,
            Base::Image(pulled) => Some(&pulled.image),
            Base::Stage(index) => {
                let parent = &self.stages[index];
                let mut inputs = Inputs::default();
                inputs.add(Kind::Origin, format!("the stage {}", parent.name), &[parent.end?.bytes()]);
                self.record.add(&name, 0, &planned.source.text, &inputs);
                return parent.end;
            }
        };
        let inputs = inputs::of_base(&planned.base_name, image, request, cache);
        self.record.add(&name, 0, &planned.source.text, &inputs);
        Some(Key::after(None, &inputs.hash()))
    }

    fn add(
        &mut self,
        stage: &mut Stage,
        number: usize,
        placed: &Placed,
        action: &Action,
        (plan, planned): (&Plan<'_>, &PlannedStage<'_>),
        (settings, content, remotes): (&Settings, &Contents<'_>, &Remotes<'_>),
    ) -> Step {
        let mut reads = Vec::new();
        let mut origins = Some(inputs::Origins::new());
        for name in placed.uses() {
            let origin = match plan.origin(planned.index, name) {
                Origin::Stage(index) => {
                    reads.push(*index);
                    let stage = &self.stages[index];
                    stage.end.map(|end| inputs::Origin::Made(format!("the stage {}", stage.name), end))
                }
                Origin::Image(pulled) => {
                    Some(inputs::Origin::Made(format!("the image {name}"), inputs::of_image(&pulled.image)))
                }
                Origin::Context(place) => Some(inputs::Origin::Given(&content.named[place])),
            };
            origins = origins.zip(origin).map(|(mut origins, origin)| {
                origins.insert(name.to_owned(), origin);
                origins
            });
        }
        let (mut unknown, mut seen) = (None, Seen::new());
        let keys = stage.end.zip(origins).and_then(|(parent, origins)| {
            let found =
                inputs::of_action(action, settings, Sources { origins: &origins, content: &content.main, remotes });
            // What cannot be read cannot be carried out either: that tells why.
            let mut inputs = found.map_err(|reason| unknown = Some(reason)).ok()?;
            self.record.add(&stage.name, number, &placed.text, &inputs);
            seen = std::mem::take(&mut inputs.seen);
            let inputs = inputs.hash();
            Some(Keys { parent, inputs, key: Key::after(Some(&parent), &inputs) })
        });
        stage.end = keys.map(|keys| keys.key);
        let mounts = if let Action::Run(action) = action { action.mounts.as_slice() } else { &[] };
        Step {
            number,
            text: placed.text.clone(),
            keys,
            unknown: unknown.filter(|reason| !matches!(reason, Unknown::Step(_))).map(|reason| reason.to_string()),
            seen,
            runs: matches!(action, Action::Run(_)),
            cached: false,
            reads,
            folders: mounts.iter().filter_map(|mount| folder_of(&mount.kind)).collect(),
            hit: None,
            below: None,
            elsewhere: false,
            why: None,
        }
    }

    /// Every key that is worth asking for.
    pub(super) fn keys(&self) -> Vec<Key> {
        let steps = self.stages.values().flat_map(|stage| &stage.steps);
        steps.filter(|step| step.cached).filter_map(|step| Some(step.keys?.key)).collect()
    }

    /// These layers are there. What of it is used is decided here, stage by stage.
    pub(super) fn found(&mut self, found: HashMap<Key, Found>) {
        self.found = found;
        self.accept();
    }

    /// A hit is what has the key and was made on the layers of this build.
    fn accept(&mut self) {
        for step in self.stages.values_mut().flat_map(|stage| &mut stage.steps) {
            (step.hit, step.below, step.elsewhere) = (None, None, false);
        }
        let places: Vec<(usize, usize)> =
            self.stages.iter().flat_map(|(index, stage)| (0..stage.steps.len()).map(|place| (*index, place))).collect();
        let mut ends = BTreeMap::new();
        let mut so_far = None;
        for (index, place) in places {
            if place == 0 {
                so_far = Some(self.beginning(index, &ends));
            }
            let below = so_far.flatten();
            let made_on = self.below(index, place, below, &ends);
            let stage = self.stages.get_mut(&index).expect("it was just listed");
            let step = &mut stage.steps[place];
            let found = step.keys.filter(|_| step.cached).and_then(|keys| self.found.get(&keys.key));
            if let Some(found) = found {
                step.elsewhere = made_on != Some(found.below);
                if !step.elsewhere {
                    (step.hit, step.below) = (Some(found.layer.clone()), made_on);
                }
            }
            let diff_id = step.hit.as_ref().map(|layer| layer.diff_id.clone());
            let after = after(made_on, below, step, diff_id.as_ref());
            so_far = Some(after);
            if place + 1 == stage.steps.len() {
                ends.insert(index, after);
            }
        }
    }

    /// What a step is made on, when every layer of the build before it is known: `diff_id` tells those that were made now.
    pub(super) fn made_on(
        &self,
        stage: usize,
        number: usize,
        diff_id: impl Fn(usize, usize) -> Option<Digest>,
    ) -> Option<Key> {
        let mut ends = BTreeMap::new();
        for (index, known) in self.stages.range(..=stage) {
            let mut so_far = self.beginning(*index, &ends);
            for (place, step) in known.steps.iter().enumerate() {
                let made_on = self.below(*index, place, so_far, &ends);
                if (*index, step.number) == (stage, number) {
                    return made_on;
                }
                let layer = diff_id(*index, step.number);
                let layer = layer.or_else(|| step.hit.as_ref().map(|layer| layer.diff_id.clone()));
                so_far = after(made_on, so_far, step, layer.as_ref());
            }
            ends.insert(*index, so_far);
        }
        None
    }

    /// The commands' layers that a stage begins on; those of a base image are in every key.
    fn beginning(&self, stage: usize, ends: &BTreeMap<usize, Option<Key>>) -> Option<Key> {
        match self.stages[&stage].base {
            Some(base) if !self.stages[&base].steps.is_empty() => ends.get(&base).copied().flatten(),
            Some(base) => self.beginning(base, ends),
            None => Some(Key::of(&[b"no command"])),
        }
    }

    /// What a step is made on: that, and what the stages are made of that it reads.
    fn below(
        &self,
        stage: usize,
        place: usize,
        so_far: Option<Key>,
        ends: &BTreeMap<usize, Option<Key>>,
    ) -> Option<Key> {
        let step = &self.stages[&stage].steps[place];
        step.reads.iter().try_fold(so_far?, |below, read| {
            let end = if self.stages[read].steps.is_empty() {
                self.beginning(*read, ends)?
            } else {
                ends.get(read).copied().flatten()?
            };
            Some(Key::of(&[below.bytes(), end.bytes()]))
        })
    }

    pub(super) fn step(&self, stage: usize, number: usize) -> Option<&Step> {
        self.stages.get(&stage)?.steps.iter().find(|step| step.number == number)
    }

    /// The layers of the cache that are used, each once, and what is written about them.
    pub(super) fn hits(&self) -> impl Iterator<Item = (Label<'_>, &Layer)> {
        let steps = self.stages.values().flat_map(|stage| &stage.steps);
        let hits: BTreeMap<Key, _> =
            steps.filter_map(|step| Some((step.keys?.key, (step.label(step.below?)?, step.hit.as_ref()?)))).collect();
        hits.into_values()
    }

    /// The step with which a stage ends.
    pub(super) fn last(&self, stage: usize) -> Option<&Step> {
        self.stages.get(&stage)?.steps.last()
    }

    /// Steps that were looked for and are not there.
    pub(super) fn misses(&self) -> impl Iterator<Item = &Step> {
        self.stages.values().flat_map(|stage| &stage.steps).filter(|step| step.cached && step.is_miss())
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// Says of each miss why it is one.
    pub(super) fn explain(&mut self, before: &Record) {
        for stage in self.stages.values_mut() {
            for step in stage.steps.iter_mut().filter(|step| step.cached && step.hit.is_none()) {
                step.why = Some(match step.keys {
                    Some(_) if step.elsewhere => {
                        "its layer was made on another run of a command before it, which has to run again".to_owned()
                    }
                    Some(_) => self.record.difference(before, &stage.name, step.number),
                    None => {
                        let unknown = "what it takes cannot be known before it is carried out";
                        step.unknown.clone().unwrap_or_else(|| unknown.to_owned())
                    }
                });
            }
        }
    }

    /// What has to be built for the target, and what of it is read by a step that is carried out.
    pub(super) fn needs(&self, plan: &Plan<'_>) -> Needs {
        let mut needs = Needs { built: BTreeSet::new(), read: BTreeSet::new() };
        for planned in plan.stages.iter().rev() {
            if !planned.is_target && !needs.built.contains(&planned.index) {
                continue;
            }
            needs.built.insert(planned.index);
            if let Base::Stage(base) = planned.base {
                needs.built.insert(base);
            }
            let missed = self.stages[&planned.index].steps.iter().filter(|step| step.is_miss());
            for read in missed.flat_map(|step| &step.reads) {
                needs.built.insert(*read);
                needs.read.insert(*read);
            }
        }
        needs
    }

    /// The folders of the cache mounts of what has to be carried out, each once.
    pub(super) fn folders(&self, needs: &Needs) -> Vec<String> {
        let stages = needs.built.iter().map(|index| &self.stages[index]);
        let missed = stages.flat_map(|stage| &stage.steps).filter(|step| step.is_miss());
        let folders: BTreeSet<&String> = missed.flat_map(|step| &step.folders).collect();
        folders.into_iter().cloned().collect()
    }

    /// Sees to it that the layers can be had whose bytes will be needed: those that will have to be unpacked, and where `all`
    /// is set those that go into the image, too, which are left where they are otherwise. A layer that cannot be had is a
    /// miss, and others may have to be unpacked for it then.
    pub(super) fn settle(&mut self, plan: &Plan<'_>, all: bool, tools: &Tools<'_>) {
        loop {
            let wanted = self.wanted(plan, all);
            if wanted.is_empty() {
                return;
            }
            let layers: Vec<Layer> = wanted.iter().map(|key| self.found[key].layer.clone()).collect();
            tools.client.prefetch(&layers);
            let mut lost = false;
            for (key, layer) in wanted.into_iter().zip(layers) {
                match layer.blob.open() {
                    Ok(_) => drop(self.verified.insert(key)),
                    Err(error) => {
                        let text = format!("the kept layer of `{}` is not used: {error}", self.text_of(&key));
                        tools.observer.event(&Event::Warning { text: &text });
                        self.found.remove(&key);
                        lost = true;
                    }
                }
            }
            if lost {
                self.accept();
            }
        }
    }

    fn text_of(&self, key: &Key) -> &str {
        let mut steps = self.stages.values().flat_map(|stage| &stage.steps);
        steps.find(|step| step.keys.is_some_and(|keys| keys.key == *key)).map_or("", |step| &step.text)
    }

    /// The keys of the hits with this layer.
    pub(super) fn with_layer(&self, digest: &str) -> Vec<(Key, &str)> {
        let steps = self.stages.values().flat_map(|stage| &stage.steps);
        let is_it = |step: &&Step| step.hit.as_ref().is_some_and(|hit| hit.descriptor.digest.to_string() == digest);
        steps.filter(is_it).filter_map(|step| Some((step.keys?.key, step.text.as_str()))).collect()
    }

    /// Hits whose bytes will be needed and were not looked at.
    fn wanted(&self, plan: &Plan<'_>, all: bool) -> Vec<Key> {
        let needs = self.needs(plan);
        let mut whole = needs.read.clone();
        if all {
            whole.extend(plan.stages.iter().filter(|planned| planned.is_target).map(|planned| planned.index));
        }
        let mut wanted = Vec::new();
        for planned in plan.stages.iter().rev().filter(|planned| needs.built.contains(&planned.index)) {
            let steps = &self.stages[&planned.index].steps;
            let up_to = if whole.contains(&planned.index) {
                steps.len()
            } else {
                steps.iter().rposition(Step::is_miss).map_or(0, |last| last + 1)
            };
            if let (true, Base::Stage(base)) = (up_to > 0, &planned.base) {
                whole.insert(*base);
            }
            let hits = steps[..up_to].iter().filter(|step| step.hit.is_some());
            let keys = hits.filter_map(|step| step.keys.map(|keys| keys.key));
            wanted.extend(keys.filter(|key| !self.verified.contains(key)));
        }
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }
}

/// What the next step is made on: a command may make another layer each time, and its layer counts; what else is done
/// follows from its key and from what it read.
fn after(made_on: Option<Key>, below: Option<Key>, step: &Step, diff_id: Option<&Digest>) -> Option<Key> {
    if step.runs {
        return Some(Key::of(&[made_on?.bytes(), diff_id?.to_string().as_bytes()]));
    }
    if step.reads.is_empty() { below } else { made_on }
}

fn is_cached(action: &Action, cache: &CacheRequest) -> bool {
    match action {
        Action::Run(_) | Action::MakeDir(_) => cache.run_layers,
        Action::Copy(_) => cache.copy_layers,
    }
}

/// A stage that becomes one layer: the last step stands for all.
fn one_of(steps: Vec<Step>) -> Vec<Step> {
    let reads = steps.iter().flat_map(|step| step.reads.clone()).collect();
    let folders = steps.iter().flat_map(|step| step.folders.clone()).collect();
    let cached = steps.iter().any(|step| step.cached);
    let runs = steps.iter().any(|step| step.runs);
    let seen = steps.iter().flat_map(|step| step.seen.clone()).collect();
    steps.into_iter().next_back().map(|last| Step { seen, runs, cached, reads, folders, ..last }).into_iter().collect()
}
