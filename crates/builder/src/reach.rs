//! Which stages the target needs, as far as the file alone says: what is known before anything is downloaded.

use std::collections::BTreeSet;

use crate::dockerfile::Dockerfile;
use crate::instruction::Placed;
use crate::settings::Globals;

/// The first instruction, of the stages that the target needs, that runs a command. Triggers of base images are not known
/// yet.
pub(crate) fn first_command<'a>(dockerfile: &'a Dockerfile, target: usize, globals: &Globals) -> Option<&'a Placed> {
    let mut needed = BTreeSet::new();
    let mut todo = vec![target];
    while let Some(index) = todo.pop() {
        if !needed.insert(index) {
            continue;
        }
        let source = &dockerfile.stages[index];
        let names = source.from.base(globals).ok().into_iter();
        let names = names.chain(source.instructions.iter().filter_map(|placed| placed.uses().map(str::to_owned)));
        todo.extend(names.filter_map(|name| earlier(dockerfile, index, &name)));
    }
    let placed = |index: usize| dockerfile.stages[index].instructions.iter();
    needed.into_iter().flat_map(placed).find(|placed| placed.runs())
}

/// The stage before this one that a name or a number means, if it is one.
fn earlier(dockerfile: &Dockerfile, index: usize, name: &str) -> Option<usize> {
    let stages = &dockerfile.stages[..index];
    let by_name = || stages.iter().rposition(|stage| stage.name.as_deref() == Some(name.to_lowercase().as_str()));
    name.parse().ok().filter(|number| *number < index).or_else(by_name)
}
