//! `push`: an OCI layout or an archive, written by zuwai or by others, to registries. Every document keeps its bytes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use zuwai_registry::layout::Layout;
use zuwai_registry::{BlobDir, Client, Graph, Reference, RegistryError, archive};

use crate::args::Values;
use crate::environment::Environment;
use crate::error::Failure;
use crate::progress::{Console, Verbosity};
use crate::{credentials, machine, registry_options};

/// Pushes what lies at the first word to the names behind it and to those of `--destination`, and prints the digest.
pub(crate) fn push(
    program: &str,
    values: &Values,
    words: &[String],
    environment: &Environment,
    console: &Console,
) -> Result<(), Failure> {
    let usage = |message: String, hint: &str| Failure::new(format!("error: {message}"), Some(hint.to_owned()));
    let how = "push LAYOUT-OR-ARCHIVE IMAGE...";
    let Some((path, names)) = words.split_first() else {
        return Err(usage("push: what is to be pushed is not named".to_owned(), how));
    };
    let mut references: Vec<Reference> = Vec::new();
    for name in names.iter().chain(values.list("destination")).filter(|name| !name.is_empty()) {
        references.push(name.parse().map_err(|error| Failure::of("error: push", &error, None))?);
    }
    if references.is_empty() {
        return Err(usage("push: where it is to be pushed is not named".to_owned(), how));
    }
    let misuse = |error: crate::args::UsageError| Failure::new(format!("error: {error}"), error.hint);
    let (_, own_folder) = machine::folders(values.text("kaniko-dir"), environment, program, "error pushing image")?;
    let options = registry_options::client(values, machine::transport(environment, &own_folder)).map_err(misuse)?;
    let helpers = registry_options::credential_helpers(values).map_err(misuse)?;
    let (keychain, unread) = credentials::keychain(environment, &own_folder, &helpers, &options.transport, None);
    for warning in values.warnings.iter().chain(&unread) {
        console.tell(Verbosity::Warning, warning);
    }
    let failed = |attempt: &'static str| move |error: RegistryError| Failure::of(attempt, &error, error.hint());
    let client = Client::new(options, Arc::from(keychain)).map_err(failed("error pushing image"))?;
    let (graph, _work) = read(Path::new(path), values.text("source-image"), environment, &own_folder)
        .map_err(failed("error pushing image"))?;
    if !values.switch("skip-push-permission-check") {
        for reference in &references {
            client.check_push(reference).map_err(failed("error checking push permissions"))?;
        }
    }
    for reference in &references {
        console.tell(Verbosity::Info, &format!("Pushing image to {reference}"));
    }
    let digest = client.push_graph(&graph, &references).map_err(failed("error pushing image"))?;
    for reference in &references {
        console.tell(Verbosity::Info, &format!("Pushed {}@{digest}", reference.name()));
    }
    // Nobody may be reading: that is their choice.
    let _ = writeln!(io::stdout(), "{digest}");
    Ok(())
}

/// A folder is a layout, everything else an archive, whose blobs may lie in a folder that is gone when it is dropped.
fn read(
    path: &Path,
    name: Option<&str>,
    environment: &Environment,
    own_folder: &Path,
) -> Result<(Graph, Option<tempfile::TempDir>), RegistryError> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok((Layout::open(path)?.graph(name)?, None));
    }
    let cannot = |source| RegistryError::Io { attempted: "cannot make a folder to work in".to_owned(), source };
    let work = work_folder(environment, own_folder).map_err(cannot)?;
    let blobs = BlobDir::open(work.path()).map_err(cannot)?;
    Ok((archive::read(path, name, &blobs)?, Some(work)))
}

/// Where layers are compressed into.
fn work_folder(environment: &Environment, own_folder: &Path) -> io::Result<tempfile::TempDir> {
    let asked = environment.get("TMPDIR").map(PathBuf::from);
    let usual = PathBuf::from("/tmp");
    let parent = asked.unwrap_or(if usual.is_dir() { usual } else { own_folder.to_owned() });
    fs::create_dir_all(&parent)?;
    tempfile::Builder::new().prefix("zuwai-push-").tempdir_in(parent)
}
