//! Being told by the kernel which folders of a tree something happened in (inotify(7)), so that a look need not ask for
//! every entry.
//!
//! A folder is watched from before its entries are looked at. What happens to an entry, or puts one there or takes one away,
//! is told to the folder in which the name that it was done by stands: creating, removing and renaming; attributes; and
//! the end of every descriptor that could write, which a mapping does not outlive unseen, since it was made from one. One
//! word is enough: the watch ends with it (`IN_ONESHOT`), and the folder is *restless* until it is looked at again, so that
//! however much a command does, few words wait to be read. Not told to a folder is what is done to a file of it by another
//! name that the file has elsewhere: files with several names are to be asked for in any case.
//!
//! The kernel counts watches by user on the whole machine, where all containers' root is one user. No tree takes more
//! than a sixteenth of what there may be, and one that needs more, or is refused one, has none.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::index::{Id, Index};

/// What part of all watches that a user may have one tree takes at most.
const PART: usize = 16;

const EVENTS: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::ONESHOT);

/// A set of entries.
#[derive(Debug, Default)]
pub(crate) struct Marks(Vec<u64>);

impl Marks {
    pub(crate) fn has(&self, id: Id) -> bool {
        self.0.get(id as usize / 64).is_some_and(|bits| bits >> (id % 64) & 1 == 1)
    }

    pub(crate) fn set(&mut self, id: Id) {
        let at = id as usize / 64;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (id % 64);
    }

    pub(crate) fn clear(&mut self, id: Id) {
        if let Some(bits) = self.0.get_mut(id as usize / 64) {
            *bits &= !(1 << (id % 64));
        }
    }
}

/// The folders of a tree, watched.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: OwnedFd,
    /// Folders by the kernel's numbers.
    folders: HashMap<i32, Id>,
    watched: Marks,
    /// Entries that a mount or the ignore list hides with all that is below them: nobody looks there.
    pub(crate) covered: HashSet<Id>,
    /// The table of mounts: a mount hides what was looked at, and nobody is told of it.
    mounts: Vec<u8>,
    /// How often the index had changed all numbers.
    numbering: u32,
    sound: bool,
    /// How many watches there may be.
    most: usize,
    left: AtomicUsize,
    refused: AtomicBool,
}

impl Watch {
    /// Watches nothing yet. `None` where the kernel gives none or does not say how many it would.
    pub(crate) fn begin(index: &Index) -> Option<Self> {
        let most =
            fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok()?.trim().parse::<usize>().ok()? / PART;
        Some(Self {
            inotify: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?,
            folders: HashMap::new(),
            watched: Marks::default(),
            covered: HashSet::new(),
            mounts: mounts()?,
            numbering: index.numbering(),
            sound: true,
            most,
            left: AtomicUsize::new(most),
            refused: AtomicBool::new(false),
        })
    }

    /// Whether what is watched is the tree that the index knows: the numbers are those of then, and nothing was mounted or
    /// unmounted.
    pub(crate) fn holds(&self, index: &Index) -> bool {
        self.sound && self.numbering == index.numbering() && mounts().is_some_and(|mounts| mounts == self.mounts)
    }

    /// Whether the kernel, or good manners, gave fewer watches than there are folders.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Watches an open folder, before anybody looks at what is in it; the kernel's number for it. It is known by
    /// [`Watch::enter`] only.
    pub(crate) fn add(&self, folder: BorrowedFd<'_>) -> Option<i32> {
        let one_less = |left: usize| left.checked_sub(1);
        if !self.is_refused() && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
            if let Ok(number) = inotify::add_watch(&self.inotify, path, EVENTS) {
                return Some(number);
            }
        }
        self.refused.store(true, Ordering::Relaxed);
        None
    }

    /// Takes up what was watched in a look, once the index knows the folders.
    pub(crate) fn enter(&mut self, added: impl IntoIterator<Item = (Id, i32)>) {
        for (id, number) in added {
            if let Some(before) = self.folders.insert(number, id) {
                self.watched.clear(before);
            }
            self.watched.set(id);
        }
        self.left = AtomicUsize::new(self.most.saturating_sub(self.folders.len()));
    }

    /// Looks at a folder each time, whatever is told.
    pub(crate) fn leave(&mut self, folder: Id) {
        self.watched.clear(folder);
    }

    /// Holds no more.
    pub(crate) fn doubt(&mut self) {
        self.sound = false;
    }

    /// Whether nothing has happened in the folder since it was looked at.
    pub(crate) fn watches(&self, folder: Id) -> bool {
        self.watched.has(folder)
    }

    /// Reads what the kernel has to tell. False where it had to leave something out.
    pub(crate) fn listen(&mut self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => return false,
                // Whatever it was, the watch ended with it.
                Ok(event) => {
                    if let Some(id) = self.folders.remove(&event.wd()) {
                        self.watched.clear(id);
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        self.left = AtomicUsize::new(self.most.saturating_sub(self.folders.len()));
        true
    }
}

#[cfg(test)]
impl Watch {
    /// Hears what was told, and forgets it.
    pub(crate) fn be_deaf(&mut self) {
        let folders = self.folders.clone();
        assert!(self.listen());
        self.enter(folders.into_iter().map(|(number, id)| (id, number)));
    }

    /// Takes no more than so many watches.
    pub(crate) fn be_modest(&mut self, most: usize) {
        self.most = most;
    }
}

fn mounts() -> Option<Vec<u8>> {
    fs::read("/proc/self/mountinfo").ok()
}
