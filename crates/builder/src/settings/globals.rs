//! What holds for every stage of a build: the build arguments, the ARG instructions before the first FROM, and the
//! platforms. Global variables serve FROM; a stage gets one by declaring it again.

use std::collections::BTreeMap;

use zuwai_registry::Platform;

use super::scope::Scope;
use crate::dockerfile::Dockerfile;
use crate::instruction::InstructionError;
use crate::syntax::{Expander, SyntaxError, Variables};

/// Proxies can be given as build arguments without being declared, in either case.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// See the module.
#[derive(Debug)]
pub(crate) struct Globals {
    given: BTreeMap<String, String>,
    scope: Scope,
    platform: Platform,
    escape: char,
}

impl Globals {
    /// `given` are the build arguments, in order; a later one of the same name wins. `target` is the platform the image
    /// is for, `host` the one it is built on; `stage` the name of the stage to build, if it was asked for.
    pub(crate) fn new(
        dockerfile: &Dockerfile,
        given: &[(String, String)],
        target: &Platform,
        host: &Platform,
        stage: Option<&str>,
    ) -> Result<Self, SyntaxError> {
        let given: BTreeMap<String, String> = given.iter().cloned().collect();
        let last = dockerfile.stages.last().and_then(|stage| stage.name.as_deref());
        let stage = stage.or(last).unwrap_or("default");
        let mut globals =
            Globals { given, scope: Scope::default(), platform: target.clone(), escape: dockerfile.escape() };
        for (name, value) in predefined(target, host, stage) {
            let value = globals.given.get(name).cloned().unwrap_or(value);
            globals.scope.set(name, &value);
        }
        for declaration in &dockerfile.global_args {
            globals
                .declare(&declaration.name, declaration.default.as_deref())
                .map_err(|error| SyntaxError::new(declaration.span.clone(), declaration.text.clone(), error))?;
        }
        Ok(globals)
    }

    /// A build argument wins over the default; a declaration with neither leaves the variable as it is.
    fn declare(&mut self, name: &str, default: Option<&str>) -> Result<(), InstructionError> {
        let value = match (self.given.get(name), default) {
            (Some(value), _) => value.clone(),
            (None, Some(default)) => self.expand(default)?,
            (None, None) => return Ok(()),
        };
        self.scope.set(name, &value);
        Ok(())
    }

    /// A word of FROM with its variables replaced.
    pub(crate) fn expand(&self, word: &str) -> Result<String, InstructionError> {
        expand(word, self.escape, &self.scope)
    }

    /// A build argument.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// A global variable.
    pub(crate) fn global(&self, name: &str) -> Option<&str> {
        self.scope.get(name)
    }

    /// The escape token of the file.
    pub(crate) fn escape(&self) -> char {
        self.escape
    }

    /// The platform the image is for.
    pub(super) fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The proxies that a command gets without anything being declared: both cases of each that has a value. Where both
    /// cases were given, the lower one wins.
    pub(super) fn proxies(&self) -> Vec<String> {
        let value = |name: &str| {
            let named = self.given.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
            named.map(|(_, value)| value).next_back().filter(|value| !value.is_empty())
        };
        PROXIES
            .iter()
            .filter_map(|name| value(name).map(|value| (name, value)))
            .flat_map(|(name, value)| [format!("{name}={value}"), format!("{}={value}", name.to_ascii_lowercase())])
            .collect()
    }
}

/// Expands one word, and names it when it cannot be.
pub(super) fn expand(word: &str, escape: char, variables: &dyn Variables) -> Result<String, InstructionError> {
    Expander::new(escape).word(word, variables).map_err(|source| named(word, source))
}

pub(super) fn named(word: &str, source: crate::syntax::ExpandError) -> InstructionError {
    InstructionError::Expand { word: word.to_owned(), source }
}

/// The variables that FROM has without any declaration. One that does not apply is empty, and not unset.
fn predefined(target: &Platform, host: &Platform, stage: &str) -> Vec<(&'static str, String)> {
    let optional = |value: &Option<String>| value.clone().unwrap_or_default();
    vec![
        ("BUILDPLATFORM", host.to_string()),
        ("BUILDOS", host.os.clone()),
        ("BUILDOSVERSION", optional(&host.os_version)),
        ("BUILDARCH", host.architecture.clone()),
        ("BUILDVARIANT", optional(&host.variant)),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", optional(&target.os_version)),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", optional(&target.variant)),
        ("TARGETSTAGE", stage.to_owned()),
    ]
}
