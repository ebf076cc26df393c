//! Which stages are built, in which order, and what each begins with and reads. A stage that the target does not need
//! is not even looked up.

mod demands;
mod error;
mod images;
mod named;
mod planner;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zuwai_registry::{BlobDir, Platform, Pulled};

pub use error::PlanError;
use images::Images;
use planner::Planner;

use crate::Tools;
use crate::cache::Bases;
use crate::dockerfile::{Dockerfile, StageSource};
use crate::error::BuildError;
use crate::instruction::Placed;
use crate::reach::{self, Platforms};
use crate::request::BuildRequest;
use crate::secrets::Secrets;
use crate::settings::{Globals, Settings};
use crate::work::WorkFolder;

/// The stages to build, the last being the target.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// In the order they are built.
    pub(crate) stages: Vec<PlannedStage<'a>>,
    /// What holds for all of them.
    pub(crate) globals: Arc<Globals>,
    /// The named contexts that something of it uses, by their places in the request.
    pub(crate) contexts: BTreeSet<usize>,
}

/// One stage to build.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own about the place among the other stages")]
pub(crate) struct PlannedStage<'a> {
    /// Its place in the Dockerfile, from 0.
    pub(crate) index: usize,
    /// As written.
    pub(crate) source: &'a StageSource,
    /// What it begins with.
    pub(crate) base: Base,
    /// The base as the Dockerfile names it, variables replaced.
    pub(crate) base_name: String,
    /// What its COPY instructions read, by the name they use.
    origins: BTreeMap<String, Origin>,
    /// Instructions that the base asks for: they come first.
    triggers: Vec<Placed>,
    /// Whether a named context stands for it, so that nothing of it is carried out.
    replaced: bool,
    /// Whether a COPY of another stage reads its files.
    pub(crate) is_read: bool,
    /// Whether the next stage begins with it and nothing else needs its files: that one goes on in the same root.
    pub(crate) hands_on: bool,
    /// Whether it begins in the root that the stage before left.
    pub(crate) goes_on: bool,
    /// Whether the image has its layers, or a stage that begins with it unpacks them. Of any other one the files are all that
    /// is wanted.
    pub(crate) is_laid_upon: bool,
    /// Whether it is the one that was asked for.
    pub(crate) is_target: bool,
}

/// What a stage begins with.
#[derive(Debug)]
pub(crate) enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage, by index.
    Stage(usize),
    /// An image.
    Image(Arc<Pulled>),
    /// Nothing, to which the first of the triggers copies the files of a named context.
    Files {
        /// Its place in the request.
        context: usize,
        /// The platform that FROM says.
        platform: Option<Platform>,
    },
}

/// What `--from` names.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// An earlier stage, by index.
    Stage(usize),
    /// An image.
    Image(Arc<Pulled>),
    /// The files of a named context, by its place in the request.
    Context(usize),
}

impl<'a> Plan<'a> {
    /// Finds what the target needs. The manifests and configurations of the images it is built on are fetched; their
    /// layers are not.
    pub(crate) fn new(
        dockerfile: &'a Dockerfile,
        request: &BuildRequest,
        tools: &Tools<'_>,
        work: &WorkFolder,
        secrets: &Secrets,
    ) -> Result<Plan<'a>, BuildError> {
        let target = find_target(dockerfile, request.target.as_deref())?;
        let (stage, host) = (request.target.as_deref(), Platform::host());
        let globals = Globals::new(dockerfile, &request.build_args, &request.platform, &host, stage)?;
        let checker = demands::Checker { isolation: tools.isolation, secrets, host: &host, folder: work.path() };
        let contexts = request.contexts.as_slice();
        let mut platforms = Platforms::default();
        for index in reach::needed(dockerfile, target, &globals, contexts) {
            let platform = platforms.of(index, dockerfile, &globals, contexts)?;
            let platform = platform.unwrap_or_else(|| request.platform.clone());
            checker.check(&dockerfile.stages[index].instructions, &platform)?;
        }
        let blobs = work.blobs();
        let blobs = BlobDir::open(&blobs).map_err(|source| BuildError::Work { path: blobs, source })?;
        let bases = request.base_images.as_ref();
        let bases = bases.and_then(|folder| Bases::open(&request.current_directory.join(folder)));
        let mut planner = Planner {
            dockerfile,
            globals: &globals,
            images: Images { tools, request, blobs, bases, pulled: BTreeMap::new() },
            stages: BTreeMap::new(),
            contexts,
            used: BTreeSet::new(),
        };
        planner.reach(target)?;
        for stage in planner.stages.values() {
            let platform = platforms.of(stage.index, dockerfile, &globals, contexts)?;
            checker.check(&stage.triggers, platform.as_ref().unwrap_or(&request.platform))?;
        }
        let contexts = planner.used;
        let mut stages: Vec<PlannedStage<'a>> = planner.stages.into_values().collect();
        let read = stages.iter().flat_map(PlannedStage::reads).collect();
        link(&mut stages, &read);
        Ok(Plan { stages, globals: Arc::new(globals), contexts })
    }

    /// Leaves out every stage but those to build; of them these are read.
    pub(crate) fn narrow(&mut self, built: &BTreeSet<usize>, read: &BTreeSet<usize>) {
        self.stages.retain(|stage| built.contains(&stage.index));
        link(&mut self.stages, read);
    }

    /// What `--from=name` means in the stage with this index.
    pub(crate) fn origin(&self, index: usize, name: &str) -> &Origin {
        let stage = self.stages.binary_search_by_key(&index, |stage| stage.index).ok().map(|place| &self.stages[place]);
        stage.and_then(|stage| stage.origins.get(name)).expect("every --from of a planned stage was resolved")
    }
}

impl PlannedStage<'_> {
    /// What is carried out: the base's triggers, then the stage's own instructions.
    pub(crate) fn instructions(&self) -> impl Iterator<Item = &Placed> {
        let own = if self.replaced { &[] } else { self.source.instructions.as_slice() };
        self.triggers.iter().chain(own)
    }

    /// The settings it begins with; `ended` has those with which the stages before it ended.
    pub(crate) fn settings(&self, globals: &Arc<Globals>, ended: &BTreeMap<usize, Settings>) -> Settings {
        match &self.base {
            // `FROM --platform=… scratch` is for the target's platform all the same, as in BuildKit.
            Base::Scratch => globals.for_scratch(),
            Base::Files { platform, .. } => {
                let mut settings = globals.for_scratch();
                if let Some(platform) = platform {
                    settings.config_mut().set_platform(platform);
                }
                settings
            }
            Base::Image(pulled) => {
                let mut settings = globals.for_image(&pulled.image.config);
                if self.replaced {
                    // They are for the heirs of the stage, of which this is the image.
                    settings.config_mut().config.on_build.clone_from(&pulled.image.config.config.on_build);
                }
                settings
            }
            Base::Stage(index) => ended.get(index).expect("a base stage comes before its heirs").for_child(),
        }
    }

    /// The stages that must be done before it begins.
    pub(crate) fn needs(&self) -> impl Iterator<Item = usize> {
        let base = match self.base {
            Base::Stage(index) => Some(index),
            Base::Scratch | Base::Image(_) | Base::Files { .. } => None,
        };
        base.into_iter().chain(self.reads())
    }

    /// What its COPY instructions read.
    pub(crate) fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.origins.values()
    }

    /// The stages whose files its COPY instructions read.
    fn reads(&self) -> impl Iterator<Item = usize> {
        self.origins().filter_map(|origin| match origin {
            Origin::Stage(index) => Some(*index),
            Origin::Image(_) | Origin::Context(_) => None,
        })
    }
}

/// The stage with the name, the last of them; without one the last stage of the file.
fn find_target(dockerfile: &Dockerfile, name: Option<&str>) -> Result<usize, BuildError> {
    let Some(name) = name else { return Ok(dockerfile.stages.len() - 1) };
    dockerfile.stages.iter().rposition(|stage| is_called(stage, name)).ok_or_else(|| {
        let names = dockerfile.stages.iter().filter_map(|stage| stage.name.clone()).collect();
        BuildError::Plan { span: None, problem: PlanError::UnknownTarget { name: name.to_owned(), names } }
    })
}

fn is_called(stage: &StageSource, name: &str) -> bool {
    stage.name.as_deref().is_some_and(|called| called == name.to_lowercase())
}

/// Says of each stage what the others do with it.
fn link(stages: &mut [PlannedStage<'_>], read: &BTreeSet<usize>) {
    let mut heirs: BTreeMap<usize, usize> = BTreeMap::new();
    for stage in stages.iter() {
        if let Base::Stage(base) = stage.base {
            *heirs.entry(base).or_default() += 1;
        }
    }
    for position in 0..stages.len() {
        let index = stages[position].index;
        stages[position].is_read = read.contains(&index);
        stages[position].is_target = position + 1 == stages.len();
        (stages[position].hands_on, stages[position].goes_on) = (false, position > 0 && stages[position - 1].hands_on);
        if let [stage, next, ..] = &mut stages[position..]
            && matches!(next.base, Base::Stage(base) if base == index)
            && heirs.get(&index) == Some(&1)
            && !read.contains(&index)
        {
            (stage.hands_on, next.goes_on) = (true, true);
        }
    }
    // Heirs stand behind what they begin with.
    let mut laid_upon = BTreeSet::new();
    for stage in stages.iter_mut().rev() {
        stage.is_laid_upon = stage.is_target || laid_upon.contains(&stage.index);
        if let Base::Stage(base) = stage.base
            && (stage.is_laid_upon || !stage.goes_on)
        {
            laid_upon.insert(base);
        }
    }
}
