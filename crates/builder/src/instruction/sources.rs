//! What COPY and ADD share: sources, a destination, and the flags that say how files arrive.
//!
//! ```text
//! COPY source… destination
//! COPY ["a source", "destination"]
//! COPY <<name … destination
//! ```

use std::collections::HashMap;

use zuwai_snapshot::ModeChange;

use super::error::Fault;
use super::flags::Flags;
use super::{CopyAction, InlineFile, InstructionError};
use crate::context::Dockerignore;
use crate::settings::Settings;
use crate::syntax::words::{self, Json};
use crate::syntax::{Heredoc, Line, heredoc_alone};

/// The arguments as written.
#[derive(Debug)]
pub(super) struct Sources {
    paths: Vec<String>,
    inline: Vec<Inline>,
    destination: String,
    chown: Option<String>,
    chmod: Option<String>,
    link: bool,
    parents: bool,
    exclude: Vec<String>,
}

/// A heredoc that becomes a file.
#[derive(Debug)]
struct Inline {
    name: String,
    content: String,
    expand: bool,
}

impl Sources {
    pub(super) fn read(line: &Line, flags: &Flags, instruction: &'static str) -> Result<Self, Fault> {
        let at = |error| Fault::at(line.place_of_rest(), error);
        let (mut words, is_json) = match line.json() {
            Json::Strings(strings) => (strings, true),
            Json::Mixed => return Err(at(InstructionError::MixedJson)),
            Json::No => (words::plain(&line.rest), false),
        };
        let destination = words.pop().filter(|_| !words.is_empty());
        let destination = destination.ok_or_else(|| at(InstructionError::NoDestination { instruction }))?;
        let heredoc = |word: &str| heredoc_alone(word).filter(|_| !is_json);
        if heredoc(&destination).is_some() {
            return Err(at(InstructionError::HeredocDestination { word: destination }));
        }
        let (mut paths, mut inline) = (Vec::new(), Vec::new());
        // Where a name stands twice, both words mean the later body, as in `BuildKit`.
        let bodies: HashMap<&str, &Heredoc> = line.heredocs.iter().map(|body| (body.name.as_str(), body)).collect();
        for word in words {
            match heredoc(&word) {
                Some(found) => inline.push(Inline::of(&found.name, &bodies).map_err(at)?),
                None => paths.push(word),
            }
        }
        Ok(Sources {
            paths,
            inline,
            destination,
            chown: flags.value("chown"),
            chmod: flags.value("chmod"),
            link: flags.is_on("link"),
            parents: flags.is_on("parents"),
            exclude: flags.values("exclude"),
        })
    }

    /// The action and the row of the history: `COPY --chown=u:g --chmod=755 a b # buildkit`. Where the sources come from
    /// is not part of it.
    pub(super) fn expand(
        &self,
        settings: &Settings,
        instruction: &'static str,
        from: Option<String>,
    ) -> Result<(String, CopyAction), InstructionError> {
        let expand_all = |words: &[String]| -> Result<Vec<String>, InstructionError> {
            words.iter().map(|word| settings.expand(word)).collect()
        };
        let sources = expand_all(&self.paths)?;
        let inline = self.inline.iter().map(|file| file.expand(settings)).collect::<Result<Vec<_>, _>>()?;
        let destination = settings.expand(&self.destination)?;
        let chown = expand_flag(self.chown.as_deref(), settings)?;
        let chmod = expand_flag(self.chmod.as_deref(), settings)?;
        if let Some(mode) = &chmod {
            mode.parse::<ModeChange>().map_err(|_| InstructionError::Mode { mode: mode.clone() })?;
        }
        let exclude = expand_all(&self.exclude)?;
        Dockerignore::excluding(&exclude).map_err(|(pattern, source)| InstructionError::Exclude { pattern, source })?;
        let mut words = vec![instruction.to_owned()];
        words.extend(self.parents.then(|| "--parents".to_owned()));
        words.extend(chown.as_ref().map(|owner| format!("--chown={owner}")));
        words.extend(chmod.as_ref().map(|mode| format!("--chmod={mode}")));
        words.extend(sources.iter().cloned());
        words.extend(inline.iter().map(|file| format!("<<{}", file.name)));
        words.push(destination.clone());
        words.push("# buildkit".to_owned());
        let action = CopyAction {
            instruction,
            from,
            // A source that is empty is the whole context, as with Docker.
            sources: sources.into_iter().map(|path| if path.is_empty() { ".".to_owned() } else { path }).collect(),
            inline,
            destination,
            working_dir: settings.working_dir().to_owned(),
            // With a mode given there is nothing to link: BuildKit copies then.
            link: self.link && chmod.is_none(),
            chown,
            chmod,
            parents: self.parents,
            exclude,
            unpack: instruction == super::add::KEYWORD,
            unpack_remote: false,
            checksum: None,
            keep_git_dir: None,
        };
        Ok((words.join(" "), action))
    }
}

impl Inline {
    /// The heredoc of this name under the line.
    fn of(name: &str, bodies: &HashMap<&str, &Heredoc>) -> Result<Self, InstructionError> {
        if matches!(name, "." | "..") || name.contains('/') {
            return Err(InstructionError::HeredocName { name: name.to_owned() });
        }
        let found = bodies.get(name).ok_or_else(|| InstructionError::HeredocName { name: name.to_owned() })?;
        Ok(Inline { name: name.to_owned(), content: found.body(), expand: found.expand })
    }

    fn expand(&self, settings: &Settings) -> Result<InlineFile, InstructionError> {
        let content = if self.expand { settings.expand_body(&self.content)? } else { self.content.clone() };
        Ok(InlineFile { name: self.name.clone(), content })
    }
}

/// A flag whose variables come to nothing is as if it were not given.
pub(super) fn expand_flag(value: Option<&str>, settings: &Settings) -> Result<Option<String>, InstructionError> {
    let value = value.map(|value| settings.expand(value)).transpose()?;
    Ok(value.filter(|value| !value.is_empty()))
}

/// What a source is by how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// A path or a pattern.
    Path,
    /// A file behind a web address.
    Web,
    /// A git repository.
    Git,
}

/// Tells a source's kind as BuildKit does: a web address whose path ends in `.git` is a repository.
pub(crate) fn kind_of(source: &str) -> SourceKind {
    if ["git://", "ssh://"].iter().any(|scheme| source.starts_with(scheme)) || is_scp_like(source) {
        return SourceKind::Git;
    }
    if !["http://", "https://"].iter().any(|scheme| source.starts_with(scheme)) {
        return SourceKind::Path;
    }
    let path = source.split(['#', '?']).next().unwrap_or_default();
    // As BuildKit has it, where `.GIT` is no repository.
    if path.strip_suffix(".git").is_some() { SourceKind::Git } else { SourceKind::Web }
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
    fn addresses_and_repositories_are_not_paths() {
        for (source, kind) in [
            ("http://h/f", SourceKind::Web),
            ("https://h/f.tar.gz?x=.git", SourceKind::Web),
            ("https://h/r.git#main", SourceKind::Git),
            ("https://h/r.git?ref=main", SourceKind::Git),
            ("git://h/r", SourceKind::Git),
            ("ssh://git@h/r", SourceKind::Git),
            ("git@h.example:r.git", SourceKind::Git),
            ("a", SourceKind::Path),
            ("a@b", SourceKind::Path),
            ("dir/a@b:c", SourceKind::Path),
            ("http:/x", SourceKind::Path),
            ("@h:x", SourceKind::Path),
            ("github.com/a/b", SourceKind::Path),
            ("C:x", SourceKind::Path),
        ] {
            assert_eq!(kind_of(source), kind, "{source}");
        }
    }
}
