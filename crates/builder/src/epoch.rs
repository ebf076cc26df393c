//! `SOURCE_DATE_EPOCH`: which time the image bears. It is a build argument, or an ARG before the first FROM that has a default,
//! and says a number of seconds since 1970; or `context`, or the name of a context, for the time of the commit that was checked
//! out there. Whatever it says, an ARG of the name has the number.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use zuwai_registry::Platform;

use crate::context::{Fetched, named};
use crate::dockerfile::Dockerfile;
use crate::error::BuildError;
use crate::plan::PlanError;
use crate::request::{BuildRequest, NamedSource};
use crate::settings::Globals;
use crate::syntax::Span;

const NAME: &str = "SOURCE_DATE_EPOCH";

/// The named context that must be there before the time can be told, by its place in the request.
pub(crate) fn context(dockerfile: &Dockerfile, request: &BuildRequest) -> Result<Option<usize>, BuildError> {
    Ok(value(dockerfile, request)?.and_then(|(text, _)| named::find(&request.contexts, &text)))
}

/// The request with the time that the image is to bear, and the Dockerfile with the number in place of what stands for it.
pub(crate) fn settle<'a>(
    dockerfile: &mut Dockerfile,
    request: &'a BuildRequest,
    contexts: &Fetched,
) -> Result<Cow<'a, BuildRequest>, BuildError> {
    let mut settled = Cow::Borrowed(request);
    let mut seconds = None;
    if let Some((text, span)) = value(dockerfile, request)? {
        seconds = text.parse().ok();
        if seconds.is_some_and(|seconds| jiff::Timestamp::from_second(seconds).is_err()) {
            // Milliseconds, perhaps: no image could say it.
            return Err(BuildError::Plan { span, problem: PlanError::Epoch { value: text } });
        }
        if seconds.is_none() {
            seconds = told(&text, span, dockerfile, request, contexts)?;
            replace(seconds, dockerfile, &mut settled.to_mut().build_args);
        }
    }
    let nothing_said = request.reproducible.then_some(0);
    if let Some(seconds) = seconds.or(nothing_said) {
        settled.to_mut().created = time(seconds);
    }
    Ok(settled)
}

/// Puts the number, or nothing, in the place of what stands for it.
fn replace(seconds: Option<i64>, dockerfile: &mut Dockerfile, given: &mut Vec<(String, String)>) {
    let number = seconds.map(|seconds| seconds.to_string());
    if given.iter().any(|(name, _)| name == NAME) {
        given.retain(|(name, _)| name != NAME);
        given.extend(number.clone().map(|number| (NAME.to_owned(), number)));
    }
    for declaration in dockerfile.global_args.iter_mut().filter(|declared| declared.name == NAME) {
        declaration.default.clone_from(&number);
    }
}

/// What is said, and where if it is in the Dockerfile; saying nothing is not saying.
fn value(dockerfile: &Dockerfile, request: &BuildRequest) -> Result<Option<(String, Option<Span>)>, BuildError> {
    let given = request.build_args.iter().rev().find(|(name, _)| name == NAME);
    let found = match given {
        Some((_, text)) => Some((text.clone(), None)),
        None => match dockerfile.global_args.iter().rev().find(|declared| declared.name == NAME) {
            None => None,
            Some(declared) => {
                let target = request.target.as_deref();
                let platforms = (&request.platform, &Platform::host());
                let globals = Globals::new(dockerfile, &request.build_args, platforms.0, platforms.1, target)?;
                globals.global(NAME).map(|text| (text.to_owned(), Some(declared.span.clone())))
            }
        },
    };
    Ok(found.filter(|(text, _)| !text.is_empty()))
}

/// The time that a context bears; `None` for what came out of no repository.
fn told(
    text: &str,
    span: Option<Span>,
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    contexts: &Fetched,
) -> Result<Option<i64>, BuildError> {
    if text == "context" {
        return Ok(contexts.main.time);
    }
    if let Some(place) = named::find(&request.contexts, text) {
        return Ok(match &request.contexts[place].source {
            NamedSource::Files(_) | NamedSource::Repository(_) => contexts.time(place),
            NamedSource::Image(_) | NamedSource::Nothing | NamedSource::Layout { .. } => None,
        });
    }
    let value = text.to_owned();
    let is_stage = dockerfile.stages.iter().any(|stage| stage.name.as_deref() == Some(&text.to_lowercase()));
    let problem = if is_stage { PlanError::EpochOfStage { value } } else { PlanError::Epoch { value } };
    Err(BuildError::Plan { span, problem })
}

fn time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}
