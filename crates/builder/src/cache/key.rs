//! What names a layer in a cache: one rolling SHA-256 over all that decides it.
//!
//! A key is made of the key before it and of the inputs of one step, each framed by its length, so that no two lists of
//! inputs run into the same bytes. What is hashed of a step is its [`Action`](crate::instruction::Action), which is the
//! complete input of a layer, and the content of what it takes; what people call it rides along and is not hashed. Nothing of
//! it depends on where the context lies, on the builder's user, mask or work folder, on the places of stages in the file,
//! or on labels and other settings that no command sees.
//!
//! Modification times are not part of it, although COPY keeps them: every checkout would miss. A layer out of the cache
//! has the times that its files had when it was made, as with `docker build`.

use std::fmt;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use zuwai_snapshot::Metadata;

/// The version of all this: a layer that another version would make differently must not be found by it.
const DOMAIN: &str = "zuwai layer cache 2";

/// 32 bytes that stand for everything that decides a layer, or the root filesystem up to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key([u8; 32]);

/// A SHA-256 over parts, each behind its length.
pub(crate) struct Framed(Sha256);

/// Everything that decides one step besides the key before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inputs {
    /// What is hashed, in its order.
    pub(crate) list: Vec<Input>,
    /// What of the context was looked at for it.
    pub(crate) seen: Seen,
}

/// Paths of the build contexts. Who finds them otherwise later has not read what was hashed.
pub(crate) type Seen = Vec<Looked>;

/// A path that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Looked {
    /// The place of a named context; `None` for the main one.
    pub(crate) context: Option<usize>,
    /// The path in it.
    pub(crate) path: PathBuf,
    /// What the kernel said of it before it was read.
    pub(crate) was: Metadata,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    /// What it is: hashed.
    pub(crate) kind: Kind,
    /// The hash of its value.
    pub(crate) value: Key,
    /// What people call it. Hashed where it says which argument this is, and not where it is somebody's own name for it: a
    /// file's name in the context is not its name in the image.
    pub(crate) name: String,
    /// The value, where it is short and cannot be a secret: not hashed.
    pub(crate) shown: Option<String>,
}

/// What an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The layers of a base image, or that there is none.
    Base,
    /// A choice that holds for all layers: platform, compression, snapshot mode, ignored paths.
    Setting,
    /// What a RUN starts.
    Command,
    /// A variable it sees.
    Variable,
    /// Something else the instruction says: user, folder, destination, owner, mode, mount.
    Argument,
    /// One file, folder or link out of the context.
    File,
    /// All of a stage or image that `--from` names.
    Origin,
}

impl Kind {
    /// Whether the names of such inputs count.
    fn is_named(self) -> bool {
        matches!(self, Kind::Setting | Kind::Command | Kind::Argument)
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Base => "base",
            Kind::Setting => "setting",
            Kind::Command => "command",
            Kind::Variable => "variable",
            Kind::Argument => "argument",
            Kind::File => "file",
            Kind::Origin => "origin",
        }
    }
}

impl Key {
    /// The key of what comes out when these inputs act on what `parent` stands for; the first of a stage has no parent.
    pub(crate) fn after(parent: Option<&Key>, inputs: &Key) -> Key {
        let mut hash = Framed::new(DOMAIN);
        hash.part(if parent.is_some() { b"step" } else { b"base" });
        hash.part(parent.map_or(&[][..], |parent| &parent.0));
        hash.part(&inputs.0);
        hash.finish()
    }

    /// The hash of these parts.
    pub(crate) fn of(parts: &[&[u8]]) -> Key {
        let mut hash = Framed::new(DOMAIN);
        for part in parts {
            hash.part(part);
        }
        hash.finish()
    }

    /// The key that 64 hexadecimal digits stand for.
    pub(crate) fn parse(text: &str) -> Option<Key> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
        }
        Some(Key(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Framed {
    pub(crate) fn new(domain: &str) -> Framed {
        let mut hash = Framed(Sha256::new());
        hash.part(domain.as_bytes());
        hash
    }

    /// One more part.
    pub(crate) fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Key {
        Key(self.0.finalize().into())
    }
}

impl Inputs {
    /// One more input; its value in parts.
    pub(crate) fn add(&mut self, kind: Kind, name: impl Into<String>, value: &[&[u8]]) {
        self.list.push(Input { kind, value: Key::of(value), name: name.into(), shown: None });
    }

    /// The same, with the value for people.
    pub(crate) fn show(&mut self, kind: Kind, name: impl Into<String>, value: &str) {
        let shown = Some(value.to_owned());
        self.list.push(Input { kind, value: Key::of(&[value.as_bytes()]), name: name.into(), shown });
    }

    /// The hash of all of them, in their order.
    pub(crate) fn hash(&self) -> Key {
        let mut hash = Framed::new(DOMAIN);
        for input in &self.list {
            hash.part(input.kind.word().as_bytes());
            hash.part(if input.kind.is_named() { input.name.as_bytes() } else { b"" });
            hash.part(&input.value.0);
        }
        hash.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_one_another() {
        let all = [
            Key::of(&[b"ab", b"c"]),
            Key::of(&[b"a", b"bc"]),
            Key::of(&[b"abc"]),
            Key::of(&[b"abc", b""]),
            Key::of(&[]),
            Key::of(&[b""]),
        ];
        for (place, key) in all.iter().enumerate() {
            assert!(!all[..place].contains(key));
            assert_eq!(Key::parse(&key.to_string()), Some(*key));
        }
        assert_eq!(Key::parse("x"), None);
    }

    #[test]
    fn a_key_hangs_on_its_parent_and_on_kinds_values_and_order_but_not_on_what_people_call_files() {
        let inputs = |list: &[(Kind, &str, &str)]| {
            let mut inputs = Inputs::default();
            for (kind, name, value) in list {
                inputs.add(*kind, *name, &[value.as_bytes()]);
            }
            inputs.hash()
        };
        let (one, two) = ((Kind::File, "a", "1"), (Kind::Argument, "b", "2"));
        let hash = inputs(&[one, two]);
        assert_eq!(hash, inputs(&[(Kind::File, "c", "1"), (Kind::Argument, "b", "2")]));
        assert_ne!(hash, inputs(&[(Kind::File, "a", "1"), (Kind::Argument, "c", "2")]));
        assert_ne!(hash, inputs(&[two, one]));
        assert_ne!(hash, inputs(&[one, (Kind::File, "b", "2")]));
        let parent = Key::after(None, &hash);
        assert_ne!(Key::after(Some(&parent), &hash), parent);
    }
}
