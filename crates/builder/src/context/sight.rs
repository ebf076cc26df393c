//! What steps see of the contexts: the files of each, and which of them may be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use zuwai_snapshot::{Ignore, RootFs};

use super::named::Place;
use super::{Context, ContextError, Dockerignore, own_ignore_file};
use crate::event::Observer;
use crate::request::BuildRequest;

/// The files of a context.
#[derive(Debug)]
pub(crate) struct Sight {
    /// Where they lie.
    pub(crate) root: RootFs,
    /// What of them is not to be seen.
    pub(crate) ignore: Dockerignore,
}

/// All contexts of a build that have files.
#[derive(Debug)]
pub(crate) struct Contexts {
    /// Where COPY and ADD without `--from` take files from.
    pub(crate) main: Sight,
    /// Those of `--build-context`, by their place in the request, which something of the build uses.
    pub(crate) named: BTreeMap<usize, Arc<Sight>>,
}

impl Contexts {
    /// The one of a place in the request; the main one without.
    pub(crate) fn get(&self, place: Option<usize>) -> &Sight {
        match place {
            Some(place) => self.named.get(&place).expect("what a plan uses was fetched"),
            None => &self.main,
        }
    }
}

/// The contexts as they came to this machine.
pub(crate) struct Fetched {
    pub(crate) main: Context,
    ignore: Dockerignore,
    named: BTreeMap<usize, (Context, Dockerignore)>,
}

impl Fetched {
    /// The main context, fetched by the caller, with what of it is not to be seen.
    pub(crate) fn new(main: Context, ignore: Dockerignore) -> Fetched {
        Fetched { main, ignore, named: BTreeMap::new() }
    }

    /// Fetches the named contexts of these places in the request, as far as they are files and not there yet. `into` says for
    /// each where what comes from elsewhere is put down.
    pub(crate) fn fetch(
        &mut self,
        places: impl IntoIterator<Item = usize>,
        request: &BuildRequest,
        into: &dyn Fn(usize) -> PathBuf,
        observer: &dyn Observer,
        cancelled: &AtomicBool,
    ) -> Result<(), ContextError> {
        for place in places {
            let context = &request.contexts[place];
            if self.named.contains_key(&place) {
                continue;
            }
            let into = into(place);
            let fetching = Place { current_directory: &request.current_directory, into: &into, cancelled, observer };
            let Some(fetched) = context.fetch(&fetching)? else { continue };
            let ignore = if context.has_ignore_file() {
                own_ignore_file(&RootFs::open(&fetched.root, Ignore::default())?)?
            } else {
                Dockerignore::default()
            };
            self.named.insert(place, (fetched, ignore));
        }
        Ok(())
    }

    /// When what is in a named context was committed: see [`Context::time`].
    pub(crate) fn time(&self, place: usize) -> Option<i64> {
        self.named.get(&place).and_then(|(context, _)| context.time)
    }

    /// The folders of the main context and of these named ones, each once.
    pub(crate) fn folders(&self, used: &BTreeSet<usize>) -> BTreeSet<&Path> {
        let named = self.named.iter().filter(|(place, _)| used.contains(place));
        let named = named.map(|(_, (context, _))| context.root.as_path());
        named.chain([self.main.root.as_path()]).collect()
    }

    /// Opens them for reading. `open` is asked for each folder.
    pub(crate) fn open<E>(&self, open: &dyn Fn(&Path) -> Result<RootFs, E>) -> Result<Contexts, E> {
        let sight = |context: &Context, ignore: &Dockerignore| -> Result<Sight, E> {
            Ok(Sight { root: open(&context.root)?, ignore: ignore.clone() })
        };
        let mut named = BTreeMap::new();
        for (place, (context, ignore)) in &self.named {
            named.insert(*place, Arc::new(sight(context, ignore)?));
        }
        Ok(Contexts { main: sight(&self.main, &self.ignore)?, named })
    }
}
