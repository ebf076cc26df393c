//! What applying a layer did, in the order in which it was done, so that an index can follow without looking.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::index::Arena;
use crate::metadata::Stat;

/// Entries written and removed, in order.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    folders: Vec<PathBuf>,
    numbers: HashMap<PathBuf, u32>,
    names: Arena,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    folder: u32,
    name: u32,
    what: What,
}

/// What was done to an entry.
#[derive(Debug)]
pub(crate) enum What {
    /// It was made, and is being written on another thread. No journal that is done has such a line.
    Made,
    /// It was written, or looked at after it was written.
    Put(Card),
    /// It and all below it were removed.
    Removed,
    /// It became another name of the file at this path, which looks like this now.
    Linked(PathBuf, Stat),
    /// Its card moved, its content did not.
    Touched(Stat),
}

/// An entry as it is after it was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Card {
    pub(crate) stat: Stat,
    /// Of its content or target; [`crate::index::NO_HASH`] where nobody computed it. Of a folder, [`crate::index::LISTED`] where
    /// the journal has all that is in it.
    pub(crate) hash: [u8; 16],
    /// The digest of its extended attributes; `None` where nobody knows them.
    pub(crate) attributes: Option<[u8; 16]>,
}

impl Journal {
    /// Something was done to the entry of that name in that folder (its image path, without links). Returns the line's number.
    pub(crate) fn note(&mut self, folder: &Path, name: &[u8], what: What) -> usize {
        let is_same = |last: u32| self.folders[last as usize].as_os_str() == folder.as_os_str();
        let last = self.lines.last().map(|line| line.folder).filter(|&last| is_same(last));
        let folder = last.unwrap_or_else(|| {
            if let Some(&number) = self.numbers.get(folder) {
                return number;
            }
            let number = u32::try_from(self.folders.len()).expect("fewer folders than 2^32");
            self.folders.push(folder.to_path_buf());
            self.numbers.insert(folder.to_path_buf(), number);
            number
        });
        let name = self.names.push(name);
        self.lines.push(Line { folder, name, what });
        self.lines.len() - 1
    }

    /// The file of that line is written, and looks like this.
    pub(crate) fn fill(&mut self, line: usize, card: Card) {
        self.lines[line].what = What::Put(card);
    }

    /// Each line: the folder, the name, and what was done.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&Path, &[u8], &What)> {
        self.lines.iter().map(|line| (&*self.folders[line.folder as usize], self.names.get(line.name), &line.what))
    }

    /// Every path in it, in order, each once.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let paths: BTreeSet<PathBuf> =
            self.lines().map(|(folder, name, _)| folder.join(OsStr::from_bytes(name))).collect();
        paths.into_iter().collect()
    }
}
