//! The state of a stage while its instructions take effect, one after another: the configuration of the image to be, and
//! the variables that words and commands see. It is the same in every build of a Dockerfile, whatever is cached.

mod globals;
mod scope;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use zuwai_registry::ImageConfig;

pub(crate) use globals::Globals;
use globals::{expand, named};
use scope::Scope;

use crate::instruction::InstructionError;
use crate::syntax::{Expander, Variables};

/// `PATH` where nothing sets one.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The image's configuration. `created`, the layers and the history are as the base has them: they are for the caller
    /// to set.
    config: ImageConfig,
    /// Where in its environment each variable stands.
    env_places: HashMap<String, usize>,
    /// What words and commands see: the image's environment and the declared arguments; the later one wins.
    scope: Scope,
    /// The arguments in the order of their declaration, for the history; with the value each was declared with.
    declared: Vec<(String, Option<String>)>,
    /// Whether CMD was set in this stage: then ENTRYPOINT leaves it.
    command_set: bool,
    globals: Arc<Globals>,
}

impl Globals {
    /// A stage on `scratch`: an empty image for the target's platform, with a PATH and `/` to work in.
    pub(crate) fn for_scratch(self: &Arc<Self>) -> Settings {
        let mut config = ImageConfig::default();
        config.set_platform(self.platform());
        "/".clone_into(&mut config.config.working_dir);
        Settings::on(config, Scope::default(), Vec::new(), self)
    }

    /// A stage on an image.
    pub(crate) fn for_image(self: &Arc<Self>, config: &ImageConfig) -> Settings {
        Settings::on(config.clone(), Scope::default(), Vec::new(), self)
    }
}

impl Settings {
    /// A stage that begins where this one ends. It inherits the declared arguments, too.
    pub(crate) fn for_child(&self) -> Settings {
        Settings::on(self.config.clone(), self.scope.clone(), self.declared.clone(), &self.globals)
    }

    /// The environment of the image is put over the arguments that were inherited: at the beginning of a stage, it wins.
    /// Triggers are not inherited: they are carried out, once, by the stage that finds them in its base.
    fn on(
        mut config: ImageConfig,
        mut scope: Scope,
        declared: Vec<(String, Option<String>)>,
        globals: &Arc<Globals>,
    ) -> Settings {
        let run = &mut config.config;
        if !run.env.iter().any(|entry| split(entry).0 == "PATH") {
            run.env.push(DEFAULT_PATH.to_owned());
        }
        for entry in &run.env {
            let (name, value) = split(entry);
            scope.set(name, value);
        }
        if !run.working_dir.is_empty() && !run.working_dir.starts_with('/') {
            run.working_dir.insert(0, '/');
        }
        // Of a name that stands there twice the first is meant, as where one is looked for.
        let places = run.env.iter().enumerate().rev().map(|(place, entry)| (split(entry).0.to_owned(), place));
        let env_places = places.collect();
        run.on_build.clear();
        Settings { config, env_places, scope, declared, command_set: false, globals: Arc::clone(globals) }
    }

    /// The image's configuration so far.
    pub(crate) fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The same, to change.
    pub(crate) fn config_mut(&mut self) -> &mut ImageConfig {
        &mut self.config
    }

    /// A word with its variables replaced by what they are now.
    pub(crate) fn expand(&self, word: &str) -> Result<String, InstructionError> {
        expand(word, self.globals.escape(), &self.scope)
    }

    /// The body of a heredoc with its variables replaced. Quotes are characters in it, and the backslash is what escapes,
    /// whatever the escape token of the file is.
    pub(crate) fn expand_body(&self, body: &str) -> Result<String, InstructionError> {
        let expander = Expander { plain_quotes: true, ..Expander::new('\\') };
        let first = body.lines().next().unwrap_or_default();
        expander.word(body, &self.scope).map_err(|source| named(first, source))
    }

    /// The same, where blanks that come out of variables part words.
    pub(crate) fn expand_words(&self, word: &str) -> Result<Vec<String>, InstructionError> {
        let expander = Expander::new(self.globals.escape());
        expander.expand(word, &self.scope).map(|expanded| expanded.words).map_err(|source| named(word, source))
    }

    /// Sets a variable of the image. One that is there keeps its place in the configuration.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let env = &mut self.config.config.env;
        if let Some(place) = self.env_places.get(name) {
            env[*place] = entry;
        } else {
            self.env_places.insert(name.to_owned(), env.len());
            env.push(entry);
        }
        self.scope.set(name, value);
    }

    /// Declares an argument, and returns the value it gets: the build argument, else the default, else the global
    /// variable of the name. With none of them it stays unset.
    pub(crate) fn declare(&mut self, name: &str, default: Option<&str>) -> Result<Option<String>, InstructionError> {
        let value = match (self.globals.given(name), default) {
            (Some(given), _) => Some(given.to_owned()),
            (None, Some(default)) => Some(self.expand(default)?),
            (None, None) => self.globals.global(name).map(str::to_owned),
        };
        if let Some(value) = &value {
            self.scope.set(name, value);
        }
        self.declared.push((name.to_owned(), value.clone()));
        Ok(value)
    }

    /// Puts labels on the image; later ones win. `--label` goes through here after the last instruction.
    pub(crate) fn add_labels(&mut self, labels: &[(String, String)]) {
        self.config.config.labels.extend(labels.iter().cloned());
    }

    /// The environment of a command but for HOME, and how much of it decides what the command makes: the proxies behind
    /// that do not.
    pub(crate) fn run_environment(&self) -> (Vec<String>, usize) {
        let mut environment: Vec<String> = self.scope.entries().collect();
        let deciding = environment.len();
        environment.extend(self.globals.proxies());
        (environment, deciding)
    }

    /// `NAME=value` for each declared argument, once, with the value it has by now: how the history of RUN lists them.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut names: HashSet<&str> = HashSet::new();
        let mut entries = Vec::new();
        for (name, _) in &self.declared {
            if !names.insert(name) {
                continue;
            }
            // Where a variable is not in the scope, no declaration of it had a value.
            entries.push(format!("{name}={}", self.scope.get(name).unwrap_or_default()));
        }
        entries
    }

    /// What keeps the cache mounts of this build apart from those of others with the same ids: a build argument that no
    /// ARG declares.
    pub(crate) fn cache_namespace(&self) -> Option<&str> {
        self.globals.given("BUILDKIT_CACHE_MOUNT_NS").filter(|namespace| !namespace.is_empty())
    }

    /// What runs shell forms, if the image says.
    pub(crate) fn shell(&self) -> Option<&[String]> {
        self.config.config.shell.as_deref()
    }

    /// Where commands run and relative paths begin; absolute.
    pub(crate) fn working_dir(&self) -> &str {
        match self.config.config.working_dir.as_str() {
            "" => "/",
            path => path,
        }
    }

    /// Sets the default command, as CMD does.
    pub(crate) fn set_command(&mut self, arguments: Vec<String>) {
        let run = &mut self.config.config;
        run.cmd = (!arguments.is_empty()).then_some(arguments);
        run.args_escaped = true;
        self.command_set = true;
    }

    /// Sets the entrypoint. A CMD of the base was meant for the base's entrypoint and goes; one of this stage stays.
    pub(crate) fn set_entrypoint(&mut self, arguments: Vec<String>) {
        let run = &mut self.config.config;
        run.entrypoint = (!arguments.is_empty()).then_some(arguments);
        if !self.command_set {
            run.cmd = None;
        }
    }
}

/// `NAME=value`, or a name alone, which some images have.
fn split(entry: &str) -> (&str, &str) {
    entry.split_once('=').unwrap_or((entry, ""))
}

#[cfg(test)]
mod tests;
