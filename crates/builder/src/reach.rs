//! Which stages the target needs, as far as the file alone says: what is known before anything is downloaded.

use std::collections::{BTreeMap, BTreeSet};

use zuwai_registry::Platform;

use crate::context::named;
use crate::dockerfile::Dockerfile;
use crate::instruction::Placed;
use crate::request::NamedContext;
use crate::settings::Globals;
use crate::syntax::SyntaxError;

/// The stages that the target needs. Triggers of base images are not known yet, and may add others; nothing is refused
/// here.
pub(crate) fn needed(
    dockerfile: &Dockerfile,
    target: usize,
    globals: &Globals,
    contexts: &[NamedContext],
) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    let mut todo = vec![target];
    while let Some(index) = todo.pop() {
        if is_replaced(dockerfile, index, contexts) || !needed.insert(index) {
            continue;
        }
        let source = &dockerfile.stages[index];
        let base = source.from.base(globals).ok();
        let names = base.as_deref().into_iter().chain(source.instructions.iter().flat_map(Placed::uses));
        todo.extend(names.filter_map(|name| earlier(dockerfile, index, name)));
    }
    needed
}

/// The platforms that stages are built for, as far as they were asked for.
#[derive(Default)]
pub(crate) struct Platforms(BTreeMap<usize, Option<Platform>>);

impl Platforms {
    /// The platform that a stage is built for, where a FROM says: its own, or that of the stage it begins with. `None` is the
    /// build's.
    pub(crate) fn of(
        &mut self,
        index: usize,
        dockerfile: &Dockerfile,
        globals: &Globals,
        contexts: &[NamedContext],
    ) -> Result<Option<Platform>, SyntaxError> {
        let mut asking = Vec::new();
        let mut next = index;
        let platform = loop {
            if let Some(known) = self.0.get(&next) {
                break known.clone();
            }
            asking.push(next);
            let source = &dockerfile.stages[next];
            let asked = source.from.platform(globals);
            let asked = asked.map_err(|error| SyntaxError::new(source.span.clone(), source.text.clone(), error))?;
            let base = source.from.base(globals).ok().filter(|_| !is_replaced(dockerfile, next, contexts));
            let earlier = base.as_deref().and_then(|name| dockerfile.earlier(next, name));
            match (asked, earlier) {
                (None, Some(earlier)) => next = earlier,
                // On nothing, every stage is the build's.
                (Some(_), None) if base.as_deref() == Some("scratch") => break None,
                (asked, _) => break asked,
            }
        };
        self.0.extend(asking.into_iter().map(|index| (index, platform.clone())));
        Ok(platform)
    }
}

/// Whether a named context stands for a stage.
fn is_replaced(dockerfile: &Dockerfile, index: usize, contexts: &[NamedContext]) -> bool {
    dockerfile.stages[index].name.as_deref().is_some_and(|name| named::find(contexts, name).is_some())
}

/// The stage before this one that a name or a number means, if it is one.
fn earlier(dockerfile: &Dockerfile, index: usize, name: &str) -> Option<usize> {
    let number = name.parse().ok().filter(|number| *number < index);
    number.or_else(|| dockerfile.earlier(index, name))
}
