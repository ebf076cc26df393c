//! What COPY and ADD share: sources, a destination, `--chown` and `--chmod`.
//!
//! ```text
//! COPY source… destination
//! COPY ["a source", "destination"]
//! ```

use zuwai_snapshot::ModeChange;

use super::error::Fault;
use super::flags::Flags;
use super::{CopyAction, InstructionError};
use crate::settings::Settings;
use crate::syntax::Line;
use crate::syntax::words::{self, Json};

/// The arguments as written.
#[derive(Debug)]
pub(super) struct Sources {
    paths: Vec<String>,
    destination: String,
    chown: Option<String>,
    chmod: Option<String>,
}

impl Sources {
    pub(super) fn read(line: &Line, flags: &Flags, instruction: &'static str) -> Result<Self, Fault> {
        let at = |error| Fault::at(line.place_of_rest(), error);
        let mut sources = match line.json() {
            Json::Strings(strings) => strings,
            Json::Mixed => return Err(at(InstructionError::MixedJson)),
            Json::No => words::plain(&line.rest),
        };
        let destination = sources.pop().filter(|_| !sources.is_empty());
        let destination = destination.ok_or_else(|| at(InstructionError::NoDestination { instruction }))?;
        Ok(Sources { paths: sources, destination, chown: flags.value("chown"), chmod: flags.value("chmod") })
    }

    /// The action and the row of the history: `COPY --chown=u:g --chmod=755 a b # buildkit`. Where the sources come from
    /// is not part of it.
    pub(super) fn expand(
        &self,
        settings: &Settings,
        instruction: &'static str,
        from: Option<String>,
    ) -> Result<(String, CopyAction), InstructionError> {
        let sources: Vec<String> = self.paths.iter().map(|word| settings.expand(word)).collect::<Result<_, _>>()?;
        let destination = settings.expand(&self.destination)?;
        let chown = expand_flag(self.chown.as_deref(), settings)?;
        let chmod = expand_flag(self.chmod.as_deref(), settings)?;
        if let Some(mode) = &chmod {
            mode.parse::<ModeChange>().map_err(|_| InstructionError::Mode { mode: mode.clone() })?;
        }
        let mut words = vec![instruction.to_owned()];
        words.extend(chown.as_ref().map(|owner| format!("--chown={owner}")));
        words.extend(chmod.as_ref().map(|mode| format!("--chmod={mode}")));
        words.extend(sources.iter().cloned());
        words.push(destination.clone());
        words.push("# buildkit".to_owned());
        let action = CopyAction {
            instruction,
            from,
            // A source that is empty is the whole context, as with Docker.
            sources: sources.into_iter().map(|path| if path.is_empty() { ".".to_owned() } else { path }).collect(),
            destination,
            working_dir: settings.working_dir().to_owned(),
            chown,
            chmod,
            unpack: instruction == super::add::KEYWORD,
        };
        Ok((words.join(" "), action))
    }
}

/// A flag whose variables come to nothing is as if it were not given.
fn expand_flag(value: Option<&str>, settings: &Settings) -> Result<Option<String>, InstructionError> {
    let value = value.map(|value| settings.expand(value)).transpose()?;
    Ok(value.filter(|value| !value.is_empty()))
}

/// A source that is not a path: a URL or a git repository.
pub(super) fn is_remote(source: &str) -> bool {
    let scheme = ["http://", "https://", "git://", "ssh://"].iter().any(|scheme| source.starts_with(scheme));
    scheme || is_scp_like(source)
}

/// `user@host:path`, as git takes it.
fn is_scp_like(source: &str) -> bool {
    let Some((user, (host, _))) = source.split_once('@').and_then(|(user, rest)| Some((user, rest.split_once(':')?)))
    else {
        return false;
    };
    let part = |text: &str, extra: &[char]| {
        !text.is_empty() && text.chars().all(|part| part.is_ascii_alphanumeric() || extra.contains(&part))
    };
    part(user, &['-', '_']) && part(host, &['-', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_repositories_are_not_paths() {
        for source in ["http://h/f", "https://h/r.git#main", "git://h/r", "ssh://git@h/r", "git@h.example:r.git"] {
            assert!(is_remote(source), "{source}");
        }
        for source in ["a", "a@b", "dir/a@b:c", "http:/x", "@h:x", "github.com/a/b", "C:x"] {
            assert!(!is_remote(source), "{source}");
        }
    }
}
