//! Which stages the target needs, as far as the file alone says: what is known before anything is downloaded.

use std::collections::BTreeSet;

use zuwai_registry::Platform;

use crate::dockerfile::Dockerfile;
use crate::instruction::Placed;
use crate::settings::Globals;
use crate::syntax::SyntaxError;

/// The stages that the target needs. Triggers of base images are not known yet, and may add others; nothing is refused
/// here.
pub(crate) fn needed(dockerfile: &Dockerfile, target: usize, globals: &Globals) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    let mut todo = vec![target];
    while let Some(index) = todo.pop() {
        if !needed.insert(index) {
            continue;
        }
        let source = &dockerfile.stages[index];
        let base = source.from.base(globals).ok();
        let names = base.as_deref().into_iter().chain(source.instructions.iter().flat_map(Placed::uses));
        todo.extend(names.filter_map(|name| earlier(dockerfile, index, name)));
    }
    needed
}

/// The platform that a stage is built for, where a FROM says: its own, or that of the stage it begins with. `None` is the
/// build's.
pub(crate) fn platform(
    dockerfile: &Dockerfile,
    index: usize,
    globals: &Globals,
) -> Result<Option<Platform>, SyntaxError> {
    let mut index = index;
    loop {
        let source = &dockerfile.stages[index];
        let asked = source.from.platform(globals);
        let asked = asked.map_err(|error| SyntaxError::new(source.span.clone(), source.text.clone(), error))?;
        let base = source.from.base(globals).ok();
        let earlier = base.and_then(|name| {
            dockerfile.stages[..index].iter().rposition(|stage| stage.name.as_deref() == Some(&name.to_lowercase()))
        });
        match (asked, earlier) {
            (None, Some(earlier)) => index = earlier,
            // On nothing, every stage is the build's.
            (Some(_), None) if source.from.base(globals).ok().as_deref() == Some("scratch") => return Ok(None),
            (asked, _) => return Ok(asked),
        }
    }
}

/// The stage before this one that a name or a number means, if it is one.
fn earlier(dockerfile: &Dockerfile, index: usize, name: &str) -> Option<usize> {
    let stages = &dockerfile.stages[..index];
    let by_name = || stages.iter().rposition(|stage| stage.name.as_deref() == Some(name.to_lowercase().as_str()));
    name.parse().ok().filter(|number| *number < index).or_else(by_name)
}
