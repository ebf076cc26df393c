//! Small files get their content on other threads than the one that makes them: with two cores one makes names while the other
//! writes, hashes and dresses what was named before.
//!
//! A file is handed on open, with a copy of its content, so that no name is looked up twice and nothing that happens to the
//! name meanwhile matters. Files go in batches: handing on each alone would cost what it saves. An archive with fewer files
//! than a batch has is applied without a further thread.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::fs::{Gid, Mode, Uid};
use tracing::info_span;

use crate::beneath::stat_of;
use crate::content;
use crate::index::NO_HASH;
use crate::journal::{Card, Journal};
use crate::metadata::Stat;
use crate::place::{self, write_all};
use crate::{Result, SnapshotError, attributes, ids};

/// Files with more content are written by whoever reads the archive, out of its buffer.
pub(super) const SMALL: u64 = 64 * 1024;
/// Bytes of content in a batch, and one file more.
const BATCH_BYTES: usize = 256 * 1024;
/// Files in a batch: each is open, and there may be no more than 1024 of them in a process that builds several stages at once.
const BATCH_FILES: usize = 32;
/// Batches that wait.
const WAITING: usize = 2;

/// What a file gets besides its content and extended attributes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finish {
    /// `None` where it belongs to whom it should as it is made.
    pub(super) owner: Option<(u32, u32)>,
    /// The lower twelve bits.
    pub(super) mode: u32,
    /// Whether it was made with its mode, of which the umask may have taken something.
    pub(super) has_mode: bool,
    /// Nanoseconds since 1970.
    pub(super) mtime: i128,
}

impl Finish {
    /// Owner and mode, in this order: a new owner takes away setuid.
    pub(super) fn own(&self, file: BorrowedFd<'_>) -> rustix::io::Result<()> {
        if let Some((uid, gid)) = self.owner {
            rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        if self.has_mode { Ok(()) } else { rustix::fs::fchmod(file, Mode::from(self.mode)) }
    }

    /// The time, when nothing more is written, and what the file looks like then.
    pub(super) fn end(&self, file: BorrowedFd<'_>) -> rustix::io::Result<Stat> {
        rustix::fs::futimens(file, &place::times(self.mtime))?;
        let stat = stat_of(file)?;
        if !self.has_mode || stat.permissions() == self.mode {
            return Ok(stat);
        }
        rustix::fs::fchmod(file, Mode::from(self.mode))?;
        stat_of(file)
    }
}

/// A file that was made and has nothing in it yet.
pub(super) struct Empty {
    pub(super) file: OwnedFd,
    pub(super) finish: Finish,
    /// Its line in the journal.
    pub(super) line: usize,
    /// Of the archive's entry, for errors.
    pub(super) name: Vec<u8>,
}

#[derive(Default)]
struct Batch {
    /// Whether what is filled is hashed.
    hashes: bool,
    content: Vec<u8>,
    files: Vec<(Empty, Range<usize>)>,
}

/// What became of a file, by its line in the journal.
type Filled = (usize, Result<Card>);

/// Where files wait for their content.
pub(super) struct Filling {
    batch: Batch,
    /// How many threads there may be; they are started when the first batch is full.
    most: usize,
    threads: Option<Threads>,
    /// Batches that were handed on and did not come back.
    under_way: usize,
    /// The first line with an error, and the error.
    failed: Option<(usize, SnapshotError)>,
}

struct Threads {
    batches: Option<SyncSender<Batch>>,
    filled: Receiver<(Vec<Filled>, Batch)>,
    running: Vec<JoinHandle<()>>,
}

impl Filling {
    /// On so many threads at most; without any the files are filled when a batch is full.
    pub(super) fn new(most: usize, hashes: bool) -> Self {
        Self { batch: Batch { hashes, ..Batch::default() }, most, threads: None, under_way: 0, failed: None }
    }

    /// A file with this content, of which pieces follow by [`Filling::more`].
    pub(super) fn add(&mut self, empty: Empty) {
        let start = self.batch.content.len();
        self.batch.files.push((empty, start..start));
    }

    /// The next bytes of the last file.
    pub(super) fn more(&mut self, bytes: &[u8]) {
        self.batch.content.extend_from_slice(bytes);
        if let Some((_, range)) = self.batch.files.last_mut() {
            range.end = self.batch.content.len();
        }
    }

    /// Hands the batch on if it is full. An error is that of the first file which could not be filled.
    pub(super) fn hand_on_if_full(&mut self, journal: &mut Journal) -> Result<()> {
        if self.batch.files.len() < BATCH_FILES && self.batch.content.len() < BATCH_BYTES {
            return Ok(());
        }
        if self.threads.is_none() && self.most > 0 {
            self.threads = Threads::start(self.most);
        }
        self.hand_on(journal)
    }

    /// Hands the batch on as it is, so that it does not wait for something that takes longer.
    pub(super) fn hand_on(&mut self, journal: &mut Journal) -> Result<()> {
        if self.batch.files.is_empty() {
            return Ok(());
        }
        let Some(threads) = &self.threads else { return self.settle(journal) };
        let mut spare = None;
        while let Ok((filled, batch)) = threads.filled.try_recv() {
            self.under_way -= 1;
            self.failed = note(filled, self.failed.take(), journal);
            spare = Some(batch);
        }
        let spare = spare.unwrap_or_else(|| Batch { hashes: self.batch.hashes, ..Batch::default() });
        let batch = std::mem::replace(&mut self.batch, spare);
        let handed_on = threads.batches.as_ref().map(|batches| batches.send(batch));
        assert!(matches!(handed_on, Some(Ok(()))), "threads that fill files end when nobody hands them any");
        self.under_way += 1;
        if self.failed.is_some() { self.settle(journal) } else { Ok(()) }
    }

    /// Fills what waits and waits for what is under way: then every file that was added has its content, and its line.
    pub(super) fn settle(&mut self, journal: &mut Journal) -> Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        self.failed = note(fill(&mut batch), self.failed.take(), journal);
        self.batch = batch;
        while self.under_way > 0 {
            let filled = self.threads.as_ref().map(|threads| threads.filled.recv());
            let Some(Ok((filled, _))) = filled else { unreachable!("threads that fill files answer for each batch") };
            self.under_way -= 1;
            self.failed = note(filled, self.failed.take(), journal);
        }
        self.failed.take().map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// Writes into the journal what became of files; returns the first error, by line, of these and the one there was.
fn note(
    filled: Vec<Filled>,
    failed: Option<(usize, SnapshotError)>,
    journal: &mut Journal,
) -> Option<(usize, SnapshotError)> {
    let mut first = failed;
    for (line, card) in filled {
        match card {
            Ok(card) => journal.fill(line, card),
            Err(error) if first.as_ref().is_none_or(|(known, _)| line < *known) => first = Some((line, error)),
            Err(_) => {}
        }
    }
    first
}

impl Threads {
    /// `None` where the machine gives no thread.
    fn start(most: usize) -> Option<Self> {
        let (batches, queue) = sync_channel::<Batch>(WAITING);
        let (done, filled) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let mut running = Vec::with_capacity(most);
        for _ in 0..most {
            let (queue, done) = (Arc::clone(&queue), done.clone());
            let thread = std::thread::Builder::new().name("fill".to_owned()).spawn(move || work(&queue, &done));
            running.extend(thread.ok());
        }
        (!running.is_empty()).then_some(Self { batches: Some(batches), filled, running })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.batches = None;
        for thread in self.running.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(queue: &Mutex<Receiver<Batch>>, done: &Sender<(Vec<Filled>, Batch)>) {
    let _span = info_span!(target: "zuwai", "unpack").entered();
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut batch) = next else { return };
        let filled = fill(&mut batch);
        if done.send((filled, batch)).is_err() {
            return;
        }
    }
}

/// Fills the files of a batch, which is empty then.
fn fill(batch: &mut Batch) -> Vec<Filled> {
    let (content, hashes) = (&batch.content, batch.hashes);
    let filled = batch
        .files
        .drain(..)
        .map(|(empty, range)| {
            let card = fill_one(&empty, &content[range], hashes).map_err(|source| {
                let (entry, source) = (String::from_utf8_lossy(&empty.name).into_owned(), source.into());
                let (uid, gid) = empty.finish.owner.unwrap_or_default();
                ids::explain(SnapshotError::Unpack { entry, source }, uid, gid)
            });
            (empty.line, card)
        })
        .collect();
    batch.content.clear();
    filled
}

fn fill_one(empty: &Empty, content: &[u8], hashes: bool) -> rustix::io::Result<Card> {
    let file = empty.file.as_fd();
    write_all(content, |rest| rustix::io::write(file, rest))?;
    empty.finish.own(file)?;
    let stat = empty.finish.end(file)?;
    let hash = if content.is_empty() || !hashes { NO_HASH } else { content::of_bytes(content) };
    Ok(Card { stat, hash, attributes: Some(attributes::digest(&attributes::Attributes::new())) })
}
