//! Blobs into files: several at a time, verified while they stream, resumed where the connection broke.

use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::info_span;

use super::endpoint::Place;
use super::engine::{Engine, LOOKED_AT};
use super::error::{FetchError, RegistryError};
use super::pull::blob_unknown;
use super::retry::pause;
use super::session::{Session, call, header, scopes};
use super::stream;
use crate::blob::{BlobDir, BlobFile, BlobSource, FileBlob, buffered};
use crate::image::{Descriptor, Digest, Hasher};

/// Pieces of a body that wait to be hashed and written.
const PIECES_AHEAD: usize = 16;

/// How often a blob is fetched anew because it came with other bytes.
const MOST_DAMAGED: u32 = 2;

/// A blob, where it may be fetched from, and where it goes.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) places: Vec<Place>,
    pub(super) descriptor: Descriptor,
    pub(super) blobs: BlobDir,
}

/// A blob that is fetched at most once, when somebody first wants it.
pub(super) struct Download {
    source: Source,
    state: Mutex<State>,
    changed: Condvar,
}

enum State {
    Idle,
    Running,
    Failed(Arc<RegistryError>),
}

/// A layer's blob that is fetched when it is opened, or before when somebody asks for it.
pub(super) struct LazyBlob {
    engine: Arc<Engine>,
    download: Arc<Download>,
}

impl LazyBlob {
    pub(super) fn new(engine: Arc<Engine>, download: Download) -> LazyBlob {
        LazyBlob { engine, download: Arc::new(download) }
    }

    /// Starts the download unless it runs. An earlier failure is forgotten.
    fn start(&self) {
        let mut state = self.download.lock();
        if matches!(*state, State::Running) || self.download.here().is_some() {
            return;
        }
        *state = State::Running;
        let (session, download) = (Arc::clone(&self.engine.session), Arc::clone(&self.download));
        // Made here and not in the task: a task that never runs also tells those who wait.
        let running = Running { download, done: false };
        self.engine.spawn(async move {
            let result = session.fetch(&running.download.source).await;
            running.finish(result.map(drop));
        });
    }
}

impl BlobSource for LazyBlob {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        if self.download.here().is_none() {
            self.start();
        }
        let cancelled = self.engine.session.options.cancelled.as_deref();
        FileBlob::new(self.download.wait(cancelled)?).open()
    }

    fn prefetch(&self) {
        self.start();
    }

    fn stream(&self) -> io::Result<Box<dyn BufRead + Send>> {
        if self.download.here().is_some() || matches!(*self.download.lock(), State::Running) {
            return Ok(buffered(self.open()?));
        }
        Ok(Box::new(stream::start(&self.engine, &self.download.source)))
    }
}

impl Download {
    pub(super) fn new(source: Source) -> Download {
        Download { source, state: Mutex::new(State::Idle), changed: Condvar::new() }
    }

    fn here(&self) -> Option<PathBuf> {
        self.source.blobs.get(&self.source.descriptor.digest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the blob is there, something went wrong, or it is to be given up.
    fn wait(&self, cancelled: Option<&AtomicBool>) -> io::Result<PathBuf> {
        let mut state = self.lock();
        while matches!(*state, State::Running) {
            if cancelled.is_some_and(|cancelled| cancelled.load(Ordering::SeqCst)) {
                return Err(io::Error::other(FetchError(Arc::new(RegistryError::Cancelled))));
            }
            state = self.changed.wait_timeout(state, LOOKED_AT).unwrap_or_else(PoisonError::into_inner).0;
        }
        match &*state {
            State::Failed(error) => Err(io::Error::other(FetchError(Arc::clone(error)))),
            State::Idle | State::Running => self.here().ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("blob {} was removed", self.source.descriptor.digest))
            }),
        }
    }
}

/// Tells those who wait when a download ends, in whatever way.
struct Running {
    download: Arc<Download>,
    done: bool,
}

impl Running {
    fn finish(mut self, result: Result<(), RegistryError>) {
        self.done = true;
        self.set(match result {
            Ok(()) => State::Idle,
            Err(error) => State::Failed(Arc::new(error)),
        });
    }

    fn set(&self, state: State) {
        *self.download.lock() = state;
        self.download.changed.notify_all();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.done {
            let attempted = format!("pull blob {}", self.download.source.descriptor.digest);
            let source = io::Error::new(io::ErrorKind::Interrupted, "the transfer was given up");
            self.set(State::Failed(Arc::new(RegistryError::Io { attempted, source })));
        }
    }
}

impl Session {
    /// Fetches a blob into its folder, from the first place that has it whole.
    pub(super) async fn fetch(&self, source: &Source) -> Result<PathBuf, RegistryError> {
        let _turn = self.downloads.acquire().await.expect("the semaphore is never closed");
        let digest = &source.descriptor.digest;
        if let Some(path) = source.blobs.get(digest) {
            return Ok(path);
        }
        let mut first = None;
        for place in &source.places {
            match self.fetch_from(place, source).await {
                Ok(path) => return Ok(path),
                // The disk is the same wherever the blob comes from.
                Err(error @ RegistryError::Io { .. }) => return Err(error),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.expect("there is always one place to look"))
    }

    /// Damage on the way is possible although rare: the blob is fetched anew before it is believed to be damaged there.
    async fn fetch_from(&self, place: &Place, source: &Source) -> Result<PathBuf, RegistryError> {
        let mut damaged = 0;
        loop {
            let result = self.fetch_whole(place, source).await;
            damaged += 1;
            let mismatch = matches!(result, Err(RegistryError::DigestMismatch { .. }));
            if !mismatch || damaged == MOST_DAMAGED {
                return result;
            }
        }
    }

    async fn fetch_whole(&self, place: &Place, source: &Source) -> Result<PathBuf, RegistryError> {
        let digest = &source.descriptor.digest;
        let mut writer = Writer::start(&source.blobs, digest);
        self.fetch_pieces(place, &source.descriptor, &mut 0, &mut writer).await?;
        let (file, got) = writer.finish().await?;
        if got != *digest {
            let (expected, origin) = (digest.clone(), place.reference.name());
            return Err(RegistryError::DigestMismatch { what: "blob", expected, origin, got });
        }
        file.keep(digest).map_err(|source| cannot_write(digest, source))
    }

    /// All of a blob from where it was `received` up to, in as many requests as it takes.
    pub(super) async fn fetch_pieces(
        &self,
        place: &Place,
        descriptor: &Descriptor,
        received: &mut u64,
        sink: &mut impl Sink,
    ) -> Result<(), RegistryError> {
        let (mut furthest, mut failures) = (*received, 0);
        while let Err(error) = self.fetch_rest(place, descriptor, received, sink).await {
            let lost = matches!(error, RegistryError::Status { code: 416, .. }) && *received > 0;
            if lost {
                sink.restart().await?;
                *received = 0;
            } else if !error.is_transient() {
                return Err(blob_unknown(error, &descriptor.digest, place));
            } else if *received == descriptor.size {
                // Only the end of the answer was lost.
                return Ok(());
            }
            // Only failures without any progress between them are counted: a long blob may break often.
            failures = if *received > furthest { 1 } else { failures + 1 };
            furthest = furthest.max(*received);
            pause(&self.options.retry, failures, error).await?;
        }
        Ok(())
    }

    /// One request for what is still missing.
    async fn fetch_rest(
        &self,
        place: &Place,
        descriptor: &Descriptor,
        received: &mut u64,
        sink: &mut impl Sink,
    ) -> Result<(), RegistryError> {
        let digest = &descriptor.digest;
        let attempted = format!("pull blob {digest} from {}", place.reference.name());
        let mut request = call(&attempted, Method::GET, place.url(&format!("blobs/{digest}")));
        request.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if *received > 0 {
            let range = HeaderValue::from_str(&format!("bytes={received}-")).expect("digits are a header");
            request.headers.insert(RANGE, range);
        }
        let expected = [StatusCode::OK, StatusCode::PARTIAL_CONTENT];
        let mut response = self.expect_once(place, &scopes(place, false), &request, &expected).await?;
        let goes_on = response.status() == StatusCode::PARTIAL_CONTENT
            && header(&response, CONTENT_RANGE.as_str()).is_some_and(|range| begins_at(range, *received));
        if *received > 0 && !goes_on {
            // The whole blob comes again, or some other part of it does.
            sink.restart().await?;
            *received = 0;
        }
        let size_mismatch = |got| RegistryError::SizeMismatch {
            digest: digest.clone(),
            origin: place.reference.name(),
            expected: descriptor.size,
            got,
        };
        while let Some(chunk) = self.http.chunk(&mut response, &attempted).await? {
            let total = *received + chunk.len() as u64;
            if total > descriptor.size {
                return Err(size_mismatch(None));
            }
            sink.take(chunk).await?;
            *received = total;
        }
        if *received < descriptor.size { Err(size_mismatch(Some(*received))) } else { Ok(()) }
    }
}

/// Whether `bytes 7-99/100` begins at 7.
fn begins_at(content_range: &str, start: u64) -> bool {
    let range = content_range.trim().strip_prefix("bytes").unwrap_or_default().trim_start();
    range.split('-').next().and_then(|first| first.trim().parse().ok()) == Some(start)
}

fn cannot_write(digest: &Digest, source: io::Error) -> RegistryError {
    RegistryError::Io { attempted: format!("cannot write blob {digest}"), source }
}

/// Where the pieces of a blob go, one behind the other.
pub(super) trait Sink {
    /// The next piece.
    async fn take(&mut self, piece: Bytes) -> Result<(), RegistryError>;

    /// The blob comes from its first byte again.
    async fn restart(&mut self) -> Result<(), RegistryError>;
}

/// Hashes and writes a blob on a thread that may block. It outlives the requests that bring the pieces.
struct Writer {
    digest: Digest,
    pieces: Option<mpsc::Sender<Piece>>,
    thread: Option<JoinHandle<io::Result<(BlobFile, Digest)>>>,
}

enum Piece {
    Bytes(Bytes),
    Restart,
}

impl Writer {
    fn start(blobs: &BlobDir, digest: &Digest) -> Writer {
        let (pieces, mut coming) = mpsc::channel(PIECES_AHEAD);
        let (blobs, algorithm) = (blobs.clone(), digest.algorithm());
        let thread = tokio::task::spawn_blocking(move || {
            let _span = info_span!(target: "zuwai", "pull").entered();
            let mut file = blobs.create()?;
            let mut hasher = Hasher::new(algorithm);
            while let Some(piece) = coming.blocking_recv() {
                match piece {
                    Piece::Bytes(bytes) => {
                        hasher.update(&bytes);
                        file.write_all(&bytes)?;
                    }
                    Piece::Restart => {
                        hasher = Hasher::new(algorithm);
                        file.restart()?;
                    }
                }
            }
            file.flush()?;
            Ok((file, hasher.finish()))
        });
        Writer { digest: digest.clone(), pieces: Some(pieces), thread: Some(thread) }
    }

    async fn write(&mut self, piece: Piece) -> Result<(), RegistryError> {
        let sent = match &self.pieces {
            Some(pieces) => pieces.send(piece).await.is_ok(),
            None => false,
        };
        if sent { Ok(()) } else { self.result().await.map(drop) }
    }

    async fn finish(mut self) -> Result<(BlobFile, Digest), RegistryError> {
        self.result().await
    }

    /// What the thread has to say once nothing more comes.
    async fn result(&mut self) -> Result<(BlobFile, Digest), RegistryError> {
        self.pieces = None;
        let gone = || io::Error::other("the writing thread has stopped");
        let result = match self.thread.take() {
            Some(thread) => thread.await.unwrap_or_else(|_| Err(gone())),
            None => Err(gone()),
        };
        result.map_err(|source| cannot_write(&self.digest, source))
    }
}

impl Sink for Writer {
    async fn take(&mut self, piece: Bytes) -> Result<(), RegistryError> {
        self.write(Piece::Bytes(piece)).await
    }

    async fn restart(&mut self) -> Result<(), RegistryError> {
        self.write(Piece::Restart).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_begins_somewhere_else_is_not_taken_for_the_rest() {
        assert!(begins_at("bytes 7-99/100", 7));
        assert!(begins_at("bytes 7-99/*", 7));
        for other in ["bytes 0-99/100", "bytes */100", "7-99", "", "items 7-99/100"] {
            assert!(!begins_at(other, 7), "{other}");
        }
    }
}
