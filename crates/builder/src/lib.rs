//! From a Dockerfile to an image.
//!
//! The road: the text is parsed into instructions, the stages that the target needs are planned, each begins on its base
//! and carries out its steps, every step that changes files becomes a layer, and the last stage is the image. This crate
//! is the only one that knows both registries and root filesystems; it reads no environment, home folder or terminal,
//! changes no directory, installs no signal handler and holds no global: two builds can run in one process.
//!
//! | module | what is in it |
//! |---|---|
//! | [`request`] | what is wanted |
//! | `syntax`, `instruction` | the Dockerfile language, as text and as meaning |
//! | `plan`, `schedule`, `stage`, `step` | which stages, when, each of them, and what an instruction does to files |
//! | `cache` | which steps need not be carried out |
//! | [`isolation`] | where a RUN runs |
//! | [`context`] | where the files of COPY come from |
//! | `output` | where the image goes besides a registry |
//! | `web` | files behind web addresses |
//! | [`event`] | what a build tells while it goes on |

mod cache;
mod cancellable;
mod check;
pub mod context;
mod decompress;
mod dockerfile;
mod emulation;
mod epoch;
mod error;
pub mod event;
mod give_up;
mod instruction;
pub mod isolation;
mod output;
mod passwd;
mod plan;
mod reach;
pub mod request;
mod schedule;
mod secrets;
mod settings;
mod stage;
mod step;
mod streams;
mod syntax;
mod web;
mod work;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zuwai_registry::{BlobDir, Client, Digest, Image};
use zuwai_snapshot::{Ignore, RootFs};

use crate::cache::{Key, LayerCache, Rest};
pub use crate::cache::{WarmError, WarmRequest, warm};
pub use crate::check::{check_dockerfile, print_dockerfile};
use crate::context::{Context, Fetched};
use crate::dockerfile::Dockerfile;
pub use crate::error::{BuildError, Phase, UnpackError};
use crate::event::{Event, Observer};
pub use crate::instruction::InstructionError;
use crate::isolation::{Cancel, Isolation};
use crate::output::{Finished, OUTPUTS};
pub use crate::output::{OutputError, TextPlace, TextPlaceError};
pub use crate::passwd::PasswdError;
use crate::plan::Plan;
pub use crate::plan::PlanError;
pub use crate::request::{
    AgentRequest, BuildRequest, CachePlace, CacheRequest, ContextRequest, GitOptions, NamedContext, NamedSource,
    OutputRequest, SecretRequest, SecretSource,
};
pub use crate::secrets::SecretError;
use crate::secrets::Secrets;
use crate::stage::Workshop;
pub use crate::step::StepError;
use crate::streams::Streams;
pub use crate::syntax::{ExcerptLine, ExpandError, PatternError, SourceFile, Span, SyntaxError, SyntaxProblem};
pub use crate::web::WebError;
use crate::work::WorkFolder;

/// What a build is done with.
pub struct Tools<'a> {
    /// Speaks to registries.
    pub client: &'a Client,
    /// Runs commands, and says where images are built.
    pub isolation: &'a dyn Isolation,
    /// Told what happens.
    pub observer: &'a dyn Observer,
    /// Asks the build to stop.
    pub cancel: &'a Cancel,
    /// A folder that the build has for itself while it goes on. It is made if it is missing.
    pub work: PathBuf,
    /// Where `RUN --mount=type=cache` keeps its folders from build to build. It is made when the first is wanted.
    pub caches: PathBuf,
    /// What stays in the work folder at the end.
    pub leave: Leave,
}

/// What of the work folder stays when a build has ended, since deleting a large tree takes seconds. The next build in the folder
/// removes it before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Nothing: the folder is removed.
    Nothing,
    /// The files of stages, of which the last one's lay in the container's root anyhow. What was fetched and packed is removed.
    Trees,
    /// Everything: the container ends with this process, and nobody will look at it.
    Everything,
}

/// A finished build.
#[derive(Debug)]
pub struct Built {
    /// The image. The layers that were made lie in the work folder and are gone with it; those of a base are fetched into it when
    /// somebody opens them.
    pub image: Image,
    /// The digest of its manifest.
    pub digest: Digest,
}

/// Builds an image, writes the outputs asked for and pushes it to its destinations.
///
/// Outputs appear whole or not at all; nothing is pushed when the build fails. The digest files are written before the
/// push, as scripts expect.
pub fn build(request: &BuildRequest, tools: &Tools<'_>) -> Result<Built, BuildError> {
    let work =
        WorkFolder::create(&tools.work).map_err(|source| BuildError::Work { path: tools.work.clone(), source })?;
    let stale = |source| BuildError::Work { path: tools.work.clone(), source };
    tools.isolation.recover(&work.parked(), &work.leftover())?;
    isolation::mount::reclaim(&tools.caches, &work.leftover())
        .map_err(|source| BuildError::Work { path: tools.caches.clone(), source })?;
    work.empty().map_err(stale)?;
    let built = walk(request, tools, &work).map_err(|error| {
        // Whatever broke off because of it: the reason is the wish to stop.
        if tools.cancel.is_cancelled() { BuildError::Cancelled } else { error }
    });
    let removed = match tools.leave {
        Leave::Nothing => work.remove(),
        Leave::Trees => work.forget_blobs(),
        Leave::Everything => Ok(()),
    };
    let removed = removed.map_err(|source| BuildError::Work { path: work.path().to_owned(), source });
    built.and_then(|built| removed.map(|()| built))
}

fn walk(request: &BuildRequest, tools: &Tools<'_>, work: &WorkFolder) -> Result<Built, BuildError> {
    let cancelled = tools.cancel.flag();
    let context =
        context::fetch(&request.context, &request.current_directory, &work.context(), tools.observer, cancelled)?;
    let text = Text::read(request, &context)?;
    let mut dockerfile = Dockerfile::parse(&text.bytes, &text.name)?;
    for notice in &dockerfile.notices {
        tools.observer.event(&Event::Warning { text: &format!("{}: {}", notice.span, notice.text) });
    }
    let ignore = context::ignore_file(&context.root, &text.path)?;
    let mut contexts = Fetched::new(context, ignore);
    let fetch = |contexts: &mut Fetched, places: Vec<usize>| {
        contexts.fetch(places, request, &|place| work.named_context(place), tools.observer, cancelled)
    };
    // Whether a folder is there can be said before anything is downloaded.
    let is_folder = |place: &usize| request.contexts[*place].is_folder();
    fetch(&mut contexts, (0..request.contexts.len()).filter(is_folder).collect())?;
    let of_epoch = epoch::context(&dockerfile, request)?;
    fetch(&mut contexts, of_epoch.into_iter().collect())?;
    let request = &*epoch::settle(&mut dockerfile, request, &contexts)?;
    if request.push && request.check_push_permission {
        check_push(request, tools)?;
    }
    let secrets = Secrets::read(request)?;
    // Entries of the cache that were found out to be wrong when it was too late to do without them.
    let mut distrusted = HashSet::new();
    let (mut may_stream, mut told) = (true, false);
    loop {
        let mut plan = Plan::new(&dockerfile, request, tools, work, &secrets)?;
        fetch(&mut contexts, plan.contexts.iter().copied().collect())?;
        if !std::mem::replace(&mut told, true) {
            tell_unused(request, &plan, of_epoch, tools);
        }
        let cache = look_ahead(&mut plan, request, tools, work, &contexts, &distrusted)?;
        if request.push {
            tools.client.resolve_credentials(&request.destinations);
        }
        let streams = if may_stream { Streams::of(&plan, request) } else { Streams::default() };
        let done = build_in(request, tools, work, &plan, &contexts, &secrets, Sources { cache, streams });
        let Done { image, rest, blamed } = done;
        if image.is_err() && blamed.any() {
            tell(rest, tools);
            distrusted.extend(blamed.kept);
            may_stream &= !blamed.streamed;
            work.forget_stages().map_err(|source| BuildError::Work { path: work.path().to_owned(), source })?;
            continue;
        }
        let built = image.and_then(|image| {
            let digest = image.encode().descriptor.digest;
            let built = Built { image, digest };
            deliver(request, tools, &built)?;
            tools.observer.event(&Event::Finished { digest: &built.digest });
            Ok(built)
        });
        tell(rest, tools);
        return built;
    }
}

/// Waits for what goes on in the background; who wants the build to stop is not kept waiting for new things to begin.
fn tell(rest: Option<Rest>, tools: &Tools<'_>) {
    for text in rest.map(Rest::wait).unwrap_or_default() {
        tools.observer.event(&Event::Warning { text: &text });
    }
}

/// A named context that nothing asks for is perhaps misspelt.
fn tell_unused(request: &BuildRequest, plan: &Plan<'_>, of_epoch: Option<usize>, tools: &Tools<'_>) {
    for (place, context) in request.contexts.iter().enumerate() {
        let counts = context::named::find(&request.contexts, &context.name) == Some(place);
        if counts && !plan.contexts.contains(&place) && of_epoch != Some(place) {
            let text = format!("--build-context {}: nothing that is built asks for this name", context.name);
            tools.observer.event(&Event::Warning { text: &text });
        }
    }
}

/// Where layers come from besides being made or fetched whole.
struct Sources<'a> {
    cache: Option<LayerCache<'a>>,
    streams: Streams,
}

/// What became of the stages.
struct Done {
    image: Result<Image, BuildError>,
    /// What the cache still does.
    rest: Option<Rest>,
    blamed: Blamed,
}

/// What is to blame for an error, where the build can do without it.
#[derive(Default)]
struct Blamed {
    /// Entries of the cache.
    kept: Vec<Key>,
    /// A layer that was unpacked while it came.
    streamed: bool,
}

impl Blamed {
    fn any(&self) -> bool {
        self.streamed || !self.kept.is_empty()
    }
}

/// Finds out which steps need not be carried out, and takes out of the plan what is not needed then.
fn look_ahead<'a>(
    plan: &mut Plan<'_>,
    request: &'a BuildRequest,
    tools: &Tools<'_>,
    work: &WorkFolder,
    contexts: &Fetched,
    distrusted: &HashSet<Key>,
) -> Result<Option<LayerCache<'a>>, BuildError> {
    let contexts = contexts.open(&|folder| open_context(folder, work))?;
    let blobs = open_blobs(work)?;
    LayerCache::look_ahead(plan, request, tools, (&blobs, work.scratch()), &contexts, distrusted)
}

/// The work folder may lie in the context, as it does when that is somebody's home.
fn open_context(folder: &Path, work: &WorkFolder) -> Result<RootFs, BuildError> {
    let own = work.path().strip_prefix(folder).map(|below| Path::new("/").join(below));
    Ok(RootFs::open(folder, Ignore::new(own))?)
}

fn open_blobs(work: &WorkFolder) -> Result<BlobDir, BuildError> {
    let blobs = work.blobs();
    BlobDir::open(&blobs).map_err(|source| BuildError::Work { path: blobs, source })
}

/// Builds the stages in the place that the isolation gives, and leaves the place as it was found, whatever happens.
fn build_in(
    request: &BuildRequest,
    tools: &Tools<'_>,
    work: &WorkFolder,
    plan: &Plan<'_>,
    contexts: &Fetched,
    secrets: &Secrets,
    sources: Sources<'_>,
) -> Done {
    let (mut rest, mut blamed) = (None, Blamed::default());
    // A credential helper that is started from here on would load what lies in the image.
    tools.client.seal_credentials();
    let build = || {
        let blobs = open_blobs(work)?;
        let open = |folder: &Path| open_context(&tools.isolation.moved(folder, &work.parked()), work);
        let contexts = contexts.open(&open)?;
        let created = timestamp(request);
        let Sources { cache, streams } = sources;
        let shop = Workshop { request, tools, work, blobs, contexts, secrets, created, cache, streams };
        let image = schedule::build_stages(&shop, plan);
        if image.is_err()
            && let Some(text) = shop.streams.damaged().filter(|_| !tools.cancel.is_cancelled())
        {
            tools.observer.event(&Event::Warning { text: &text });
            blamed.streamed = true;
        }
        // What is done is kept even when the build fails; who wants it to stop does not wait.
        if let Some(cache) = shop.cache.filter(|_| !tools.cancel.is_cancelled()) {
            blamed.kept = image.as_ref().err().map(|error| cache.blame(error, tools.observer)).unwrap_or_default();
            let (warning, more) = cache.finish();
            rest = Some(more);
            if let Some(text) = warning {
                tools.observer.event(&Event::Warning { text: &text });
            }
        }
        image
    };
    let folders: Vec<&Path> = contexts.folders(&plan.contexts).into_iter().collect();
    if let Err(error) = tools.isolation.begin(&work.parked(), &folders) {
        return Done { image: Err(error.into()), rest: None, blamed: Blamed::default() };
    }
    let image = build();
    // Left where it is, the image's root is found by the next build, which puts back what was there before.
    let left = match &image {
        Ok(_) if request.materialize => Ok(()),
        _ => tools.isolation.end(&work.parked(), &work.leftover()),
    };
    let image = match (image, left) {
        (Ok(image), Ok(())) => Ok(image),
        (Ok(_), Err(left)) => Err(left.into()),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(left)) => {
            // What is in the way stays there: nothing is begun anew.
            blamed = Blamed::default();
            tools.observer.event(&Event::Warning { text: &left.to_string() });
            Err(error)
        }
    };
    Done { image, rest, blamed }
}

fn check_push(request: &BuildRequest, tools: &Tools<'_>) -> Result<(), BuildError> {
    for destination in &request.destinations {
        tools.client.check_push(destination).map_err(|source| BuildError::PushPermission {
            destination: destination.to_string(),
            source: Box::new(source),
        })?;
    }
    Ok(())
}

/// Writes the outputs and pushes.
fn deliver(request: &BuildRequest, tools: &Tools<'_>, built: &Built) -> Result<(), BuildError> {
    let cancelled = tools.cancel.flag();
    let finished = Finished { image: &built.image, digest: &built.digest, request, cancelled };
    let go_on = || if tools.cancel.is_cancelled() { Err(BuildError::Cancelled) } else { Ok(()) };
    for output in &OUTPUTS {
        go_on()?;
        if let Some(written) = (output.write)(&finished) {
            let path = written.map_err(|source| BuildError::Output { flag: output.flag, source })?;
            tools.observer.event(&Event::Written { output: output.flag, path: &path });
        }
    }
    if !request.push || request.destinations.is_empty() {
        return Ok(());
    }
    for destination in &request.destinations {
        tools.observer.event(&Event::Pushing { destination: &destination.to_string() });
    }
    go_on()?;
    tools.client.push(&built.image, &request.destinations).map_err(|source| BuildError::Push {
        destinations: request.destinations.iter().map(ToString::to_string).collect(),
        source: Box::new(source),
    })?;
    for name in &request.destinations {
        let destination = format!("{}/{}@{}", name.registry(), name.repository(), built.digest);
        tools.observer.event(&Event::Pushed { destination: &destination });
    }
    Ok(())
}

/// `created` as images have it: RFC 3339, to the second.
fn timestamp(request: &BuildRequest) -> String {
    jiff::Timestamp::try_from(request.created).unwrap_or(jiff::Timestamp::UNIX_EPOCH).strftime("%FT%TZ").to_string()
}

/// The text of the Dockerfile, and where it was found.
struct Text {
    path: PathBuf,
    name: String,
    bytes: Vec<u8>,
}

impl Text {
    /// Relative to the current directory first, then to the context: users rely on both. Inside the context links are
    /// followed inside the context, whoever wrote it: a link to the builder's own files must not show them.
    fn read(request: &BuildRequest, context: &Context) -> Result<Text, BuildError> {
        let name = request.dockerfile.display().to_string();
        let first = request.current_directory.join(&request.dockerfile);
        let second = context.root.join(&request.dockerfile);
        for path in [&first, &second] {
            let read = match path.strip_prefix(&context.root) {
                Ok(inside) => read_inside(&context.root, inside),
                Err(_) => read_bounded(path),
            };
            match read {
                Ok(Some(bytes)) => return Ok(Text { path: path.clone(), name, bytes }),
                Ok(None) => {}
                Err(source) => return Err(BuildError::ReadDockerfile { path: path.clone(), source }),
            }
        }
        Err(BuildError::NoDockerfile { name, first, second })
    }
}

/// No Dockerfile is longer than this many bytes.
const LONGEST_DOCKERFILE: u64 = 16 << 20;

fn read_inside(context: &Path, inside: &Path) -> io::Result<Option<Vec<u8>>> {
    let root = RootFs::open(context, Ignore::new([])).map_err(io::Error::other)?;
    match root.read_file(&Path::new("/").join(inside), LONGEST_DOCKERFILE) {
        Err(error) if matches!(error.io_kind(), Some(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)) => {
            Ok(None)
        }
        read => read.map_err(io::Error::other),
    }
}

fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(LONGEST_DOCKERFILE + 1).read_to_end(&mut bytes)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
        Ok(_) if bytes.len() as u64 > LONGEST_DOCKERFILE => Err(io::Error::other("it is too long for a Dockerfile")),
        Ok(_) => Ok(Some(bytes)),
    }
}
