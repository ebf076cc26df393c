//! A whole build, looked at before it begins: every stage is configured, which touches no filesystem, so that the key of
//! every step is known, and from the layers that are there it follows what is still to be done.

use std::collections::{BTreeMap, BTreeSet};

use zuwai_registry::Layer;
use zuwai_snapshot::RootFs;

use super::content::Content;
use super::entry::Label;
use super::explain::Record;
use super::inputs;
use super::key::{Inputs, Key, Kind};
use crate::Tools;
use crate::context::Dockerignore;
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
}

struct Stage {
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
    /// Whether its layer is kept in the cache and looked for there.
    pub(super) cached: bool,
    /// The stages whose files it reads.
    reads: Vec<usize>,
    /// The folders of its cache mounts.
    folders: Vec<String>,
    pub(super) hit: Option<Layer>,
    /// Whether the bytes of the hit were seen to be right.
    verified: bool,
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
    pub(super) fn label(&self) -> Option<Label<'_>> {
        let Keys { parent, inputs, key } = self.keys?;
        Some(Label { key, parent, inputs, text: &self.text })
    }

    fn is_miss(&self) -> bool {
        self.hit.is_none()
    }
}

impl Forecast {
    /// Configures every stage and makes the keys. The files of the context are read here.
    pub(super) fn new(
        plan: &Plan<'_>,
        request: &BuildRequest,
        cache: &CacheRequest,
        context: &RootFs,
        ignore: &Dockerignore,
    ) -> Result<Forecast, BuildError> {
        let mut forecast = Forecast { stages: BTreeMap::new(), record: Record::default() };
        let content = Content::new(context, ignore);
        let mut ended: BTreeMap<usize, Settings> = BTreeMap::new();
        for planned in &plan.stages {
            let mut settings = planned.settings(&plan.globals, &ended);
            let name = planned.source.name.clone().unwrap_or_else(|| planned.index.to_string());
            let mut stage = Stage { name, steps: Vec::new(), end: forecast.begin(planned, request, cache) };
            for (number, placed) in (1..).zip(planned.instructions()) {
                let Some(action) = placed.configure(&mut settings)?.action else { continue };
                let step = forecast.add(&mut stage, number, placed, &action, (plan, planned, &settings, &content));
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
            Base::Scratch => None,
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
        (plan, planned, settings, content): (&Plan<'_>, &PlannedStage<'_>, &Settings, &Content<'_>),
    ) -> Step {
        let mut reads = Vec::new();
        let mut origins = Some(inputs::Origins::new());
        for name in placed.uses() {
            let origin = match plan.origin(planned.index, name) {
                Origin::Stage(index) => {
                    reads.push(*index);
                    let stage = &self.stages[index];
                    stage.end.map(|end| (format!("the stage {}", stage.name), end))
                }
                Origin::Image(pulled) => Some((format!("the image {name}"), inputs::of_image(&pulled.image))),
            };
            origins = origins.zip(origin).map(|(mut origins, origin)| {
                origins.insert(name.to_owned(), origin);
                origins
            });
        }
        let keys = stage.end.zip(origins).and_then(|(parent, origins)| {
            // What cannot be read cannot be carried out either: that tells why.
            let inputs = inputs::of_action(action, settings, &origins, content).ok()?;
            self.record.add(&stage.name, number, &placed.text, &inputs);
            let inputs = inputs.hash();
            Some(Keys { parent, inputs, key: Key::after(Some(&parent), &inputs) })
        });
        stage.end = keys.map(|keys| keys.key);
        let text = placed.text.clone();
        let mounts = if let Action::Run(action) = action { action.mounts.as_slice() } else { &[] };
        let folders = mounts.iter().filter_map(|mount| folder_of(&mount.kind)).collect();
        Step { number, text, keys, cached: false, reads, folders, hit: None, verified: false, why: None }
    }

    /// Every key that is worth asking for.
    pub(super) fn keys(&self) -> Vec<Key> {
        let steps = self.stages.values().flat_map(|stage| &stage.steps);
        steps.filter(|step| step.cached).filter_map(|step| Some(step.keys?.key)).collect()
    }

    /// The key is there, and this is its layer.
    pub(super) fn found(&mut self, key: &Key, layer: &Layer) {
        for step in self.stages.values_mut().flat_map(|stage| &mut stage.steps) {
            if step.cached && step.keys.is_some_and(|keys| keys.key == *key) {
                step.hit = Some(layer.clone());
            }
        }
    }

    pub(super) fn of_key(&self, key: &Key) -> Option<&Step> {
        let mut steps = self.stages.values().flat_map(|stage| &stage.steps);
        steps.find(|step| step.keys.is_some_and(|keys| keys.key == *key))
    }

    pub(super) fn step(&self, stage: usize, number: usize) -> Option<&Step> {
        self.stages.get(&stage)?.steps.iter().find(|step| step.number == number)
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
                    Some(_) => self.record.difference(before, &stage.name, step.number),
                    None => "what it takes cannot be known before it is carried out".to_owned(),
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

    /// Sees to it that the layers can be had that will have to be unpacked; those that only go into the image are left
    /// where they are. A layer that cannot be had is a miss, and others may have to be unpacked for it then.
    pub(super) fn settle(&mut self, plan: &Plan<'_>, tools: &Tools<'_>) {
        loop {
            let wanted = self.to_unpack(plan);
            let layers: Vec<Layer> =
                wanted.iter().filter_map(|(stage, place)| self.stages[stage].steps[*place].hit.clone()).collect();
            if layers.is_empty() {
                return;
            }
            tools.client.prefetch(&layers);
            for (stage, place) in wanted {
                let step = &mut self.stages.get_mut(&stage).expect("it was just looked at").steps[place];
                let Some(layer) = &step.hit else { continue };
                match layer.blob.open() {
                    Ok(_) => step.verified = true,
                    Err(error) => {
                        let text = format!("the kept layer of `{}` is not used: {error}", step.text);
                        tools.observer.event(&Event::Warning { text: &text });
                        step.hit = None;
                    }
                }
            }
        }
    }

    /// Hits, by stage and place in it, whose bytes will be needed and were not looked at.
    fn to_unpack(&self, plan: &Plan<'_>) -> Vec<(usize, usize)> {
        let needs = self.needs(plan);
        let mut whole = needs.read.clone();
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
            let unseen = |place: &usize| steps[*place].hit.is_some() && !steps[*place].verified;
            wanted.extend((0..up_to).filter(unseen).map(|place| (planned.index, place)));
        }
        wanted
    }
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
    steps.into_iter().next_back().map(|last| Step { cached, reads, folders, ..last }).into_iter().collect()
}
