//! Variables and their values, in the order in which they were last set.

use std::collections::HashMap;

use crate::syntax::Variables;

/// What a word of the Dockerfile can refer to.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    /// By name: when it was last set, and the value.
    values: HashMap<String, (usize, String)>,
    /// How often something was set.
    changes: usize,
}

impl Scope {
    /// Sets a variable; one that was there moves to the end, as later declarations win and are listed later.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.changes += 1;
        self.values.insert(name.to_owned(), (self.changes, value.to_owned()));
    }

    /// `NAME=value` for each.
    pub(super) fn entries(&self) -> impl Iterator<Item = String> {
        let mut entries: Vec<_> = self.values.iter().collect();
        entries.sort_unstable_by_key(|(_, (change, _))| *change);
        entries.into_iter().map(|(name, (_, value))| format!("{name}={value}"))
    }
}

impl Variables for Scope {
    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(_, value)| value.as_str())
    }
}
