//! The warmer: base images are fetched into a folder before anybody builds on them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use zuwai_registry::image::ReferenceError;
use zuwai_registry::{Client, Platform, Reference, RegistryError};

use super::bases::Bases;
use crate::dockerfile::Dockerfile;
use crate::event::{Event, Observer};
use crate::instruction::InstructionError;
use crate::settings::Globals;
use crate::syntax::SyntaxError;

/// What is to be fetched, and where to.
#[derive(Debug, Clone)]
pub struct WarmRequest {
    /// Images by name.
    pub images: Vec<String>,
    /// The name and the text of a Dockerfile whose images are wanted: those of FROM, COPY and RUN.
    pub dockerfile: Option<(String, Vec<u8>)>,
    /// Values for its ARG.
    pub build_args: Vec<(String, String)>,
    /// The platform they are wanted for.
    pub platform: Platform,
    /// The folder that `--cache-dir` of a build names.
    pub folder: PathBuf,
    /// Fetch what is there, too.
    pub force: bool,
}

/// Nothing came of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WarmError {
    /// There is nothing to fetch.
    #[error("you must select at least one image to cache or a dockerfilepath to parse")]
    Nothing,
    /// The Dockerfile is wrong.
    #[error("{at}: {0}", at = .0.span())]
    Syntax(SyntaxError),
    /// A base of the Dockerfile has a variable that cannot be replaced.
    #[error("FROM {written}")]
    Base {
        /// As written.
        written: String,
        /// Why not.
        source: InstructionError,
    },
    /// A name that cannot be an image.
    #[error("{name} cannot be an image")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        source: ReferenceError,
    },
    /// The folder cannot be used.
    #[error("use the cache folder")]
    Folder(#[source] RegistryError),
    /// Not one image could be had; each was told of as a warning.
    #[error("failed to warm any of the given images")]
    All,
}

/// Fetches the images. One that cannot be had is a warning, unless none can.
pub fn warm(request: &WarmRequest, client: &Client, observer: &dyn Observer) -> Result<(), WarmError> {
    let mut names: BTreeSet<String> = request.images.iter().cloned().collect();
    if let Some((name, text)) = &request.dockerfile {
        names.extend(images_of(name, text, request)?);
    } else if names.is_empty() {
        return Err(WarmError::Nothing);
    }
    let parse = |name: String| match name.parse::<Reference>() {
        Ok(reference) => Ok((reference.to_string(), reference)),
        Err(source) => Err(WarmError::Name { name, source }),
    };
    let references: BTreeMap<String, Reference> = names.into_iter().map(parse).collect::<Result<_, _>>()?;
    let bases = Bases::make(&request.folder).map_err(WarmError::Folder)?;
    let mut failed = 0;
    for reference in references.values() {
        let name = reference.to_string();
        observer.event(&Event::ImageResolving { reference: &name });
        match one(&bases, reference, request, client) {
            Ok(Some(digest)) => {
                let text = format!("{name} is kept as {digest}");
                observer.event(&Event::ImageKept { text: &text });
            }
            Ok(None) => observer.event(&Event::ImageKept { text: &format!("{name} is there already") }),
            Err(error) => {
                failed += 1;
                let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                observer.event(&Event::Warning { text: &format!("{name} is not kept: {error}{hint}") });
            }
        }
    }
    if failed > 0 && failed == references.len() { Err(WarmError::All) } else { Ok(()) }
}

/// Fetches one, unless it is there; its digest if it was fetched.
fn one(
    bases: &Bases,
    reference: &Reference,
    request: &WarmRequest,
    client: &Client,
) -> Result<Option<String>, RegistryError> {
    let digest = match reference.digest() {
        Some(digest) => Some(digest.clone()),
        None => client.inspect(reference)?.map(|document| document.descriptor.digest),
    };
    let there = digest.is_some_and(|digest| bases.has(&digest, &request.platform));
    if there && !request.force {
        return Ok(None);
    }
    bases.fetch(reference, &request.platform, client).map(|digest| Some(digest.to_string()))
}

/// The images that a Dockerfile names.
fn images_of(name: &str, text: &[u8], request: &WarmRequest) -> Result<Vec<String>, WarmError> {
    let dockerfile = Dockerfile::parse(text, name).map_err(WarmError::Syntax)?;
    let (platform, host) = (&request.platform, Platform::host());
    let globals = Globals::new(&dockerfile, &request.build_args, platform, &host, None).map_err(WarmError::Syntax)?;
    let mut names = Vec::new();
    let mut stages: Vec<String> = vec!["scratch".to_owned(), "context".to_owned()];
    for (index, stage) in dockerfile.stages.iter().enumerate() {
        let base = stage.from.base(&globals);
        let base = base.map_err(|source| WarmError::Base { written: stage.from.image.clone(), source })?;
        let read = stage.instructions.iter().flat_map(|placed| placed.uses()).map(str::to_owned);
        for name in [base].into_iter().chain(read) {
            let is_stage =
                stages.contains(&name.to_lowercase()) || name.parse::<usize>().is_ok_and(|number| number < index);
            if !is_stage {
                names.push(name);
            }
        }
        stages.extend(stage.name.clone());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_of_a_dockerfile_are_those_that_are_no_stages() {
        let text = b"ARG V=20\nFROM node:$V AS build\nFROM build AS test\nFROM scratch\nCOPY --from=build a b\n\
            COPY --from=0 a b\nCOPY --from=busybox:1 a b\n";
        let request = |build_args: &[(&str, &str)]| WarmRequest {
            images: Vec::new(),
            dockerfile: None,
            build_args: build_args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            platform: Platform::host(),
            folder: PathBuf::new(),
            force: false,
        };
        assert_eq!(images_of("Dockerfile", text, &request(&[])).unwrap(), ["node:20", "busybox:1"]);
        assert_eq!(images_of("Dockerfile", text, &request(&[("V", "22")])).unwrap(), ["node:22", "busybox:1"]);
        assert!(matches!(images_of("D", b"FROM a\nRNU x", &request(&[])), Err(WarmError::Syntax(_))));
    }
}
