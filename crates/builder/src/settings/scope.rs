//! Variables and their values, in the order in which they were last set.

use crate::syntax::Variables;

/// What a word of the Dockerfile can refer to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scope(Vec<(String, String)>);

impl Scope {
    /// Sets a variable; one that was there moves to the end, as later declarations win and are listed later.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// `NAME=value` for each.
    pub(super) fn entries(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}"))
    }
}

impl Variables for Scope {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
