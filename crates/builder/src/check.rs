//! What can be said of a Dockerfile from its text alone: nothing is downloaded, no file is looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use zuwai_registry::Platform;

use crate::dockerfile::Dockerfile;
use crate::settings::{Globals, Settings};
use crate::syntax::{self, SyntaxError};

/// Reads a Dockerfile and lets every instruction take effect, each base image taken for an empty one. `file_name` is what
/// errors call it; `build_args` are as in [`BuildRequest`](crate::BuildRequest).
///
/// # Errors
/// The first thing that is wrong, with its place. What depends on base images, on the build context or on which stages
/// there are is not seen here.
pub fn check_dockerfile(text: &[u8], file_name: &str, build_args: &[(String, String)]) -> Result<(), SyntaxError> {
    let dockerfile = Dockerfile::parse(text, file_name)?;
    let host = Platform::host();
    let globals = Arc::new(Globals::new(&dockerfile, build_args, &host, &host, None)?);
    let mut ended: BTreeMap<String, Settings> = BTreeMap::new();
    for stage in &dockerfile.stages {
        let at = |error| SyntaxError::new(stage.span.clone(), stage.text.clone(), error);
        stage.from.platform(&globals).map_err(at)?;
        let base = stage.from.base(&globals).map_err(at)?;
        let earlier = ended.get(&base.to_lowercase()).map(Settings::for_child);
        let mut settings = earlier.unwrap_or_else(|| globals.for_scratch());
        for placed in &stage.instructions {
            placed.configure(&mut settings)?;
        }
        if let Some(name) = &stage.name {
            ended.insert(name.clone(), settings);
        }
    }
    Ok(())
}

/// A Dockerfile in its plainest form: each instruction on a line of its own as it is written, heredocs under it; comments, blank
/// lines and continued lines are gone. What comes of it is read as the same instructions, and printed as the same text.
///
/// # Errors
/// What is wrong with the file as text. Whether there are such instructions is not looked at.
pub fn print_dockerfile(text: &[u8], file_name: &str) -> Result<String, SyntaxError> {
    syntax::parse(text, file_name).map(|source| source.to_string())
}
