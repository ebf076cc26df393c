//! What is asked of the builders: every case, and every malformed Dockerfile.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Inputs;
use crate::case::{self, Case};
use crate::{Scratch, places};

/// One Dockerfile with all that belongs to it, and what zuwai makes of it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its name: a case's, or `malformed/NAME`.
    pub name: String,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Case(Case),
    Malformed(PathBuf),
}

/// All of them, by name.
pub fn subjects() -> Result<Vec<Subject>> {
    let cases = case::all()?.into_iter();
    let mut all: Vec<_> = cases.map(|case| Subject { name: case.name.clone(), source: Source::Case(case) }).collect();
    let folder = places::testdata().join("malformed");
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        if path.extension() == Some(OsStr::new("Dockerfile")) {
            let name = path.file_stem().and_then(OsStr::to_str).context("names of malformed Dockerfiles are text")?;
            all.push(Subject { name: format!("malformed/{name}"), source: Source::Malformed(path) });
        }
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

impl Subject {
    /// Whether its base is among the small ones, which are there in a moment.
    pub fn is_small(&self) -> Result<bool> {
        match &self.source {
            Source::Malformed(_) => Ok(true),
            Source::Case(case) => Ok(!case.dockerfile()?.contains("debian")),
        }
    }

    /// What zuwai makes of it; `None` when it is an error.
    pub(super) fn expected(&self) -> Result<Option<String>> {
        match &self.source {
            Source::Malformed(_) => Ok(None),
            Source::Case(case) => case.expected(),
        }
    }

    /// What a builder gets; or why nobody but zuwai can be asked.
    pub(super) fn inputs(&self, scratch: &Scratch) -> Result<Result<Inputs, String>> {
        let name = self.name.replace('/', "-");
        let folder = scratch.folder("case")?;
        let dockerfile = folder.join("Dockerfile");
        let case = match &self.source {
            Source::Malformed(path) => {
                fs::copy(path, &dockerfile).with_context(|| format!("copy {}", path.display()))?;
                return Ok(Ok(Inputs { name, context: scratch.folder("context")?, dockerfile, flags: Vec::new() }));
            }
            Source::Case(case) => case,
        };
        for file in ["Dockerfile", "Dockerfile.dockerignore"] {
            let path = case.folder().join(file);
            if path.exists() {
                fs::copy(&path, folder.join(file)).with_context(|| format!("copy {}", path.display()))?;
            }
        }
        let mut inputs = Inputs { name, context: case.context(scratch)?, dockerfile, flags: Vec::new() };
        for argument in case.arguments()? {
            if let Err(why) = take(&argument, &mut inputs, case) {
                return Ok(Err(why));
            }
        }
        Ok(Ok(inputs))
    }
}

/// An argument of zuwai's as other builders have it; an error says that they have none such.
fn take(argument: &str, inputs: &mut Inputs, case: &Case) -> Result<(), String> {
    let (flag, value) = argument.split_once('=').unwrap_or((argument, ""));
    match flag {
        "--build-arg" | "--label" | "--target" | "--platform" => inputs.flags.push(argument.to_owned()),
        "--custom-platform" => inputs.flags.push(format!("--platform={value}")),
        "--secret" => {
            let folder = case.folder().display().to_string();
            inputs.flags.push(argument.replace(case::CASE, &folder));
        }
        "--build-context" => {
            let (folder, context) = (case.folder().display().to_string(), inputs.context.display().to_string());
            inputs.flags.push(argument.replace(case::CASE, &folder).replace(case::WORKSPACE, &context));
        }
        "--dockerfile" if !case.folder().join(value).exists() => inputs.dockerfile = inputs.context.join(value),
        "--context-sub-path" => inputs.context.push(value),
        _ => return Err(format!("{flag} is zuwai's own")),
    }
    Ok(())
}
