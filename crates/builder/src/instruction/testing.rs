//! A stage for tests: instructions are read and take effect one after another.

use std::sync::Arc;

use zuwai_registry::{ImageConfig, Platform};

use super::{Parsed, Step, parse};
use crate::dockerfile::Dockerfile;
use crate::settings::{Globals, Settings};
use crate::syntax;

/// A stage under test.
pub(crate) struct Stage {
    pub(crate) settings: Settings,
    escape: char,
}

fn globals(dockerfile: &str, build_args: &[(&str, &str)]) -> Arc<Globals> {
    let dockerfile = Dockerfile::parse(dockerfile.as_bytes(), "Dockerfile").unwrap();
    let given: Vec<(String, String)> =
        build_args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let (target, host) = (Platform::new("linux", "arm64", None), Platform::new("linux", "amd64", None));
    Arc::new(Globals::new(&dockerfile, &given, &target, &host, None).unwrap())
}

impl Stage {
    /// On scratch.
    pub(crate) fn scratch() -> Self {
        Self::with("FROM scratch", &[])
    }

    /// On scratch, in a file that begins like this, with these build arguments.
    pub(crate) fn with(dockerfile: &str, build_args: &[(&str, &str)]) -> Self {
        let globals = globals(dockerfile, build_args);
        Stage { settings: globals.for_scratch(), escape: globals.escape() }
    }

    /// On an image.
    pub(crate) fn on_image(config: &ImageConfig) -> Self {
        let globals = globals("FROM scratch", &[]);
        Stage { settings: globals.for_image(config), escape: globals.escape() }
    }

    /// A stage that begins with this one.
    pub(crate) fn child(&self) -> Self {
        Stage { settings: self.settings.for_child(), escape: self.escape }
    }

    pub(crate) fn run(&mut self, text: &str) -> Step {
        self.try_run(text).unwrap_or_else(|error| panic!("{text}: {}", chain(&error)))
    }

    /// The message of an instruction that is well-formed and wrong here.
    pub(crate) fn fails(&mut self, text: &str) -> String {
        chain(&self.try_run(text).unwrap_err())
    }

    fn try_run(&mut self, text: &str) -> Result<Step, super::InstructionError> {
        let directive = if self.escape == '`' { "# escape=`\n" } else { "" };
        let source = syntax::parse(format!("{directive}{text}").as_bytes(), "Dockerfile").unwrap();
        match parse(&source.lines[0]).unwrap_or_else(|error| panic!("{text}: {}", chain(&error))) {
            Parsed::Step(instruction) => instruction.configure(&mut self.settings),
            Parsed::Stage(_) => panic!("{text} begins a stage"),
        }
    }

    /// The image's environment without the PATH that scratch has.
    pub(crate) fn env(&self) -> Vec<String> {
        self.settings.config().config.env.iter().filter(|entry| !entry.starts_with("PATH=")).cloned().collect()
    }
}

/// An error and its causes, as the command line prints them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The message of an instruction that is not well-formed.
pub(crate) fn refused(text: &str) -> String {
    let source = syntax::parse(text.as_bytes(), "Dockerfile").unwrap();
    match parse(&source.lines[0]) {
        Err(error) => chain(&error),
        Ok(_) => panic!("{text} is accepted"),
    }
}

/// The place of the error.
pub(crate) fn place_of(text: &str) -> String {
    let source = syntax::parse(text.as_bytes(), "Dockerfile").unwrap();
    match parse(&source.lines[0]) {
        Err(error) => error.span().to_string(),
        Ok(_) => panic!("{text} is accepted"),
    }
}
