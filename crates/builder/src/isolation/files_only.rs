//! Files alone: no command can run, and the files of an image are written into private folders by somebody who may not be
//! root. For a container without rights, and a machine that gives none.

use std::path::Path;
use std::sync::Arc;

use zuwai_snapshot::{Ignore, Owners, RootFs};

use super::mount::Laid;
use super::{Cancel, Command, Exit, Isolation, IsolationError, Named, OutputSink, private_root};

/// What this must know.
#[derive(Debug, Clone)]
pub struct FilesOnlyOptions {
    /// What of the image is part of no layer.
    pub ignored: Named,
    /// Why no command can run.
    pub why: String,
    /// What would help.
    pub hint: String,
}

/// Private folders, and no commands.
#[derive(Debug)]
pub struct FilesOnly {
    options: FilesOnlyOptions,
    /// What files are meant to be, who really belong to whoever builds.
    owners: Arc<Owners>,
}

impl FilesOnly {
    /// Changes nothing.
    #[must_use]
    pub fn new(options: FilesOnlyOptions) -> FilesOnly {
        FilesOnly { options, owners: Arc::default() }
    }

    fn refused(&self) -> IsolationError {
        IsolationError::NoCommands { why: self.options.why.clone(), hint: self.options.hint.clone() }
    }
}

impl Isolation for FilesOnly {
    fn check_run(&self) -> Result<(), IsolationError> {
        Err(self.refused())
    }

    fn enter(&self, folder: &Path) -> Result<RootFs, IsolationError> {
        private_root::make(folder)?;
        let ignore = private_root::ignore(&self.options.ignored);
        Ok(RootFs::open_with_owners(folder, ignore, Arc::clone(&self.owners))?)
    }

    fn open(&self, folder: &Path) -> Result<RootFs, IsolationError> {
        Ok(RootFs::open_with_owners(folder, Ignore::default(), Arc::clone(&self.owners))?)
    }

    fn leave(&self, root: &RootFs, folder: &Path) -> Result<(), IsolationError> {
        private_root::leave(root, folder)
    }

    fn run(
        &self,
        _: &RootFs,
        _: &Command,
        _: &dyn Laid,
        _: &OutputSink<'_>,
        _: &Cancel,
    ) -> Result<Exit, IsolationError> {
        Err(self.refused())
    }
}
