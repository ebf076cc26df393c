//! `RUN --mount=…`: what is laid into the root for one command and is gone after it.
//!
//! ```text
//! type=bind,target=/path[,source=path][,from=stage|image|context][,rw]      the default type
//! type=cache,target=/path[,id=name][,sharing=shared|private|locked][,from=…,source=path][,mode=][,uid=][,gid=][,ro]
//! type=tmpfs,target=/path[,size=bytes]
//! type=secret,id=name[,target=/path][,env=NAME][,required][,mode=][,uid=][,gid=]
//! type=ssh[,id=name][,target=/path][,required][,mode=][,uid=][,gid=]
//! ```
//!
//! Options are the fields of a line of CSV; their names do not mind case. Variables are replaced in every value but
//! `from`'s, when the command's turn comes.

use super::InstructionError;
use super::go_text;
use crate::settings::Settings;
use crate::syntax::suggest;

/// One mount, variables replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where; absolute. Empty for a secret that is a variable and no file.
    pub(crate) target: String,
    /// What.
    pub(crate) kind: MountKind,
}

/// What a mount is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MountKind {
    /// Files of a stage, of an image or of the build context. What the command writes there is lost.
    Bind {
        /// A stage or an image as written; `None` is the build context.
        from: Option<String>,
        /// A path in it; absolute.
        source: String,
        /// Whether the command may write.
        writable: bool,
    },
    /// A folder that the next build finds as this one left it. What is in it decides no layer.
    Cache {
        /// Which.
        id: String,
        /// What others do that want it at the same time.
        sharing: Sharing,
        /// What a new one begins as: a stage or an image as written; `None` is an empty folder.
        from: Option<String>,
        /// A path in it; absolute.
        source: String,
        /// Whether the command may write.
        writable: bool,
        /// Owner, group and mode of a new one, where any of them was given.
        ownership: Option<(u32, u32, u32)>,
    },
    /// An empty folder.
    Tmpfs {
        /// The most bytes it may hold.
        size: Option<u64>,
    },
    /// A secret of whoever asked for the build. Its value is no part of this.
    Secret {
        /// Which.
        id: String,
        /// The variable it is, if it is one. It is a file, too, where the mount has a target.
        env: Option<String>,
        /// Whether the build fails without it.
        required: bool,
        /// Owner, group and mode of the file.
        ownership: (u32, u32, u32),
    },
    /// The socket of an agent of whoever asked for the build.
    Ssh {
        /// Which.
        id: String,
        /// Whether the build fails without it.
        required: bool,
        /// Owner, group and mode of the socket.
        ownership: (u32, u32, u32),
    },
    /// A file that stands in the Dockerfile: a heredoc that begins with `#!`. Mode 0755, in the folder that is the
    /// mount's target.
    Script {
        /// Its name.
        name: String,
        /// Its content.
        content: String,
    },
}

/// What others do that want the same cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sharing {
    /// They write to it together.
    #[default]
    Shared,
    /// They get another one.
    Private,
    /// They wait.
    Locked,
}

/// The folder that a script of a heredoc lies in.
pub(super) const SCRIPTS: &str = "/dev/pipes";

/// A mount as written: its options, each checked as far as no variable is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    options: Vec<(String, Option<String>)>,
    text: String,
}

/// Every option, with the other names it has.
const KEYS: [(&str, &str); 19] = [
    ("type", "type"),
    ("from", "from"),
    ("source", "source"),
    ("src", "source"),
    ("target", "target"),
    ("dst", "target"),
    ("destination", "target"),
    ("readonly", "readonly"),
    ("ro", "readonly"),
    ("readwrite", "readwrite"),
    ("rw", "readwrite"),
    ("id", "id"),
    ("sharing", "sharing"),
    ("required", "required"),
    ("size", "size"),
    ("mode", "mode"),
    ("uid", "uid"),
    ("gid", "gid"),
    ("env", "env"),
];

/// Options that can stand without a value.
const SWITCHES: [&str; 3] = ["readonly", "readwrite", "required"];

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

impl Written {
    /// Reads the value of one `--mount`.
    pub(super) fn read(text: &str) -> Result<Self, InstructionError> {
        let wrong = |reason: String| InstructionError::Mount { text: text.to_owned(), reason };
        let mut options = Vec::new();
        for field in fields(text).map_err(|reason| wrong(reason.to_owned()))? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_ascii_lowercase(), Some(value.to_owned())),
                None => (field.to_ascii_lowercase(), None),
            };
            let Some((_, name)) = KEYS.iter().find(|(known, _)| *known == key) else {
                let nearest = suggest::nearest(&key, KEYS.iter().map(|(known, _)| *known));
                let suggestion = suggest::parenthesis(nearest.as_deref());
                return Err(wrong(format!("there is no option {key}{suggestion}")));
            };
            if value.is_none() && !SWITCHES.contains(name) {
                return Err(wrong(format!("{key} needs a value: {key}=…")));
            }
            if *name == "from" && value.as_deref().is_some_and(|value| value.trim_end_matches('$').contains('$')) {
                return Err(wrong("from takes names as they are, and no variables".to_owned()));
            }
            options.push(((*name).to_owned(), value));
        }
        let written = Written { options, text: text.to_owned() };
        if !text.contains('$') {
            written.mount(&|value| Ok(value.to_owned()), "/")?;
        }
        Ok(written)
    }

    /// The stage or image it reads.
    pub(super) fn from(&self) -> Option<&str> {
        let from = self.options.iter().rev().find(|(name, _)| name == "from")?;
        from.1.as_deref().filter(|from| !from.is_empty())
    }

    /// The mount as it is, if no variable is in it.
    pub(super) fn constant(&self) -> Option<Mount> {
        if self.text.contains('$') {
            return None;
        }
        self.mount(&|value| Ok(value.to_owned()), "/").ok()
    }

    /// The mount with its variables replaced.
    pub(super) fn expand(&self, settings: &Settings) -> Result<Mount, InstructionError> {
        let mut mount = self.mount(&|value| settings.expand(value), settings.working_dir())?;
        if let (MountKind::Cache { id, .. }, Some(namespace)) = (&mut mount.kind, settings.cache_namespace()) {
            id.insert_str(0, &format!("{namespace}/"));
        }
        Ok(mount)
    }

    fn mount(
        &self,
        expand: &dyn Fn(&str) -> Result<String, InstructionError>,
        working_dir: &str,
    ) -> Result<Mount, InstructionError> {
        let mut options = Options { text: &self.text, values: Vec::new() };
        for (name, value) in &self.options {
            let value = match value {
                Some(value) if name == "from" => Some(value.clone()),
                Some(value) => Some(expand(value)?),
                None => None,
            };
            options.values.push((name, value));
        }
        options.mount(working_dir)
    }
}

/// The options of one mount, variables replaced.
struct Options<'a> {
    text: &'a str,
    values: Vec<(&'a str, Option<String>)>,
}

impl Options<'_> {
    fn wrong<T>(&self, reason: impl Into<String>) -> Result<T, InstructionError> {
        Err(InstructionError::Mount { text: self.text.to_owned(), reason: reason.into() })
    }

    /// The last value given; an empty one is as if it were not given.
    fn value(&self, name: &str) -> Option<&str> {
        let found = self.values.iter().rev().find(|(known, _)| *known == name)?;
        found.1.as_deref().filter(|value| !value.is_empty())
    }

    fn has(&self, name: &str) -> bool {
        self.values.iter().any(|(known, _)| *known == name)
    }

    fn mount(&self, working_dir: &str) -> Result<Mount, InstructionError> {
        let kind = self.value("type").unwrap_or("bind").to_ascii_lowercase();
        if !TYPES.contains(&kind.as_str()) {
            let nearest = suggest::nearest(&kind, TYPES);
            let suggestion = suggest::parenthesis(nearest.as_deref());
            return self.wrong(format!("there is no type {kind}{suggestion}: the types are {}", TYPES.join(", ")));
        }
        self.check_meaning(&kind)?;
        match kind.as_str() {
            "bind" => {
                let target = self.target(working_dir)?;
                let from = self.value("from").map(str::to_owned);
                Ok(Mount {
                    target,
                    kind: MountKind::Bind { from, source: self.source(), writable: self.writable(false)? },
                })
            }
            "cache" => self.cache(working_dir),
            "tmpfs" => {
                let size = self.value("size").map(|text| self.bytes(text)).transpose()?;
                Ok(Mount { target: self.target(working_dir)?, kind: MountKind::Tmpfs { size } })
            }
            "secret" => self.secret(working_dir),
            _ => {
                let id = self.value("id").unwrap_or("default").to_owned();
                let kind = MountKind::Ssh { id, required: self.required()?, ownership: self.ownership(0o600)?.0 };
                let target = self.value("target").map_or(Ok(String::new()), |_| self.target(working_dir))?;
                Ok(Mount { target, kind })
            }
        }
    }

    /// An option that a type has no use for is an error, and never ignored.
    fn check_meaning(&self, kind: &str) -> Result<(), InstructionError> {
        let only: [(&str, &[&str]); 10] = [
            ("mode", &["cache", "secret", "ssh"]),
            ("uid", &["cache", "secret", "ssh"]),
            ("gid", &["cache", "secret", "ssh"]),
            ("sharing", &["cache"]),
            ("required", &["secret", "ssh"]),
            ("size", &["tmpfs"]),
            ("env", &["secret"]),
            ("from", &["bind", "cache"]),
            ("source", &["bind", "cache", "secret"]),
            ("id", &["cache", "secret", "ssh"]),
        ];
        for (option, kinds) in only {
            if self.has(option) && !kinds.contains(&kind) {
                return self.wrong(format!("{option} is not for type={kind}"));
            }
        }
        Ok(())
    }

    fn cache(&self, working_dir: &str) -> Result<Mount, InstructionError> {
        let target = self.target(working_dir)?;
        let sharing = match self.value("sharing").unwrap_or("shared").to_ascii_lowercase().as_str() {
            "shared" => Sharing::Shared,
            "private" => Sharing::Private,
            "locked" => Sharing::Locked,
            other => return self.wrong(format!("sharing is shared, private or locked, and not {other}")),
        };
        let (ownership, given) = self.ownership(0o755)?;
        // The name is the path as written: the same relative path in two folders is the same cache.
        let id = self.value("id").map_or_else(|| clean(self.value("target").unwrap_or_default()), str::to_owned);
        let kind = MountKind::Cache {
            id,
            sharing,
            from: self.value("from").map(str::to_owned),
            source: self.source(),
            writable: self.writable(true)?,
            ownership: given.then_some(ownership),
        };
        Ok(Mount { target, kind })
    }

    fn secret(&self, working_dir: &str) -> Result<Mount, InstructionError> {
        if self.value("source").is_some() && self.value("id").is_some() {
            return self.wrong("id and source both name the secret");
        }
        let written = self.value("target");
        let id = self.value("source").or(self.value("id")).or_else(|| written.map(base)).unwrap_or_default().to_owned();
        if id.is_empty() {
            return self.wrong("a secret needs an id");
        }
        // `env=` without a name is the id.
        let env = self.has("env").then(|| self.value("env").unwrap_or(&id).to_owned());
        let target = match (written, &env) {
            (Some(_), _) => self.target(working_dir)?,
            (None, Some(_)) => String::new(),
            (None, None) => format!("/run/secrets/{}", base(&id)),
        };
        let kind = MountKind::Secret { id, env, required: self.required()?, ownership: self.ownership(0o400)?.0 };
        Ok(Mount { target, kind })
    }

    /// The target, absolute.
    fn target(&self, working_dir: &str) -> Result<String, InstructionError> {
        let Some(target) = self.value("target") else { return self.wrong("target is missing: target=/path") };
        let path = if target.starts_with('/') { target.to_owned() } else { format!("{working_dir}/{target}") };
        match clean(&format!("/{path}")) {
            path if path == "/" => self.wrong("the target cannot be the root"),
            path => Ok(path),
        }
    }

    fn source(&self) -> String {
        clean(&format!("/{}", self.value("source").unwrap_or_default()))
    }

    /// Whether the command may write; of several words about it the last counts.
    fn writable(&self, usual: bool) -> Result<bool, InstructionError> {
        let mut writable = usual;
        for (name, value) in &self.values {
            match *name {
                "readonly" => writable = !self.switch(name, value.as_deref())?,
                "readwrite" => writable = self.switch(name, value.as_deref())?,
                _ => {}
            }
        }
        Ok(writable)
    }

    fn required(&self) -> Result<bool, InstructionError> {
        let found = self.values.iter().rev().find(|(name, _)| *name == "required");
        found.map_or(Ok(false), |(name, value)| self.switch(name, value.as_deref()))
    }

    /// A switch without a value is on.
    fn switch(&self, name: &str, value: Option<&str>) -> Result<bool, InstructionError> {
        match value {
            None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(other) => self.wrong(format!("{name} is true or false, and not {other}")),
        }
    }

    /// Owner, group and mode, and whether any of them was given.
    fn ownership(&self, usual: u32) -> Result<((u32, u32, u32), bool), InstructionError> {
        let number = |name: &str, radix: u32, usual: u32| match self.value(name) {
            None => Ok(usual),
            Some(text) => match u32::from_str_radix(text, radix) {
                Ok(number) if name != "mode" || number <= 0o7777 => Ok(number),
                _ => self.wrong(format!("{name}={text} is not a number{}", if radix == 8 { " in octal" } else { "" })),
            },
        };
        let ownership = (number("uid", 10, 0)?, number("gid", 10, 0)?, number("mode", 8, usual)?);
        Ok((ownership, ["uid", "gid", "mode"].iter().any(|name| self.value(name).is_some())))
    }

    fn bytes(&self, text: &str) -> Result<u64, InstructionError> {
        go_text::parse_bytes(text).map_or_else(|| self.wrong(format!("size={text} is not a size, such as 64m")), Ok)
    }
}

/// The last name of a path.
fn base(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// Go's `path.Clean`.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if path.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (path.starts_with('/'), joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// The fields of one line of CSV: parted by commas, a field in double quotes holds commas, and `""` in it is a quote.
pub(super) fn fields(text: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, behind) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_field(quoted)?
        } else {
            let (plain, behind) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
            if plain.contains('"') {
                return Err("a quote can only begin a field, as in \"source=a,b\"");
            }
            (plain.to_owned(), behind)
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(behind) => rest = behind,
            None if behind.is_empty() => return Ok(fields),
            None => return Err("a field in quotes ends with its quote"),
        }
    }
}

fn quoted_field(text: &str) -> Result<(String, &str), &'static str> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"').ok_or("a quote is not closed")?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        let Some(behind) = rest.strip_prefix('"') else { return Ok((field, rest)) };
        field.push('"');
        rest = behind;
    }
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
