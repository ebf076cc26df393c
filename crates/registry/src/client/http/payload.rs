//! Bodies of requests: read on a thread that may block, and watched, so that a transfer is given up for standing still and
//! never for being slow.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc;
use tracing::info_span;

use crate::blob::BlobSource;

/// The body of a request.
#[derive(Clone)]
pub(crate) enum Payload {
    Empty,
    Bytes(Bytes),
    /// `length` bytes of the blob, after skipping `from`.
    Blob {
        source: Arc<dyn BlobSource>,
        from: u64,
        length: u64,
    },
}

/// Bytes that are read from a blob at a time.
const CHUNK: usize = 256 * 1024;

/// Chunks that wait to be sent.
const CHUNKS_AHEAD: usize = 2;

/// When the last piece of a body went out.
#[derive(Clone)]
pub(super) struct Progress {
    start: Instant,
    last: Arc<AtomicU64>,
}

/// The body is out; the lower bits still say since when.
const SENT: u64 = 1 << 63;

impl Progress {
    pub(super) fn new() -> Progress {
        Progress { start: Instant::now(), last: Arc::new(AtomicU64::new(0)) }
    }

    fn step(&self, complete: bool) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX >> 1);
        self.last.store(if complete { now | SENT } else { now }, Ordering::Relaxed);
    }

    pub(super) fn body_sent(&self) -> bool {
        self.last.load(Ordering::Relaxed) & SENT != 0
    }

    pub(super) fn idle(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed) & !SENT);
        self.start.elapsed().saturating_sub(last)
    }
}

pub(super) type Chunks = mpsc::Receiver<io::Result<Bytes>>;

/// Reads a blob on a thread that may block, a few chunks ahead of whoever takes them.
pub(super) async fn read_blob(source: Arc<dyn BlobSource>, from: u64, length: u64) -> io::Result<Chunks> {
    let (send, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let (opened, open) = tokio::sync::oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let _span = info_span!(target: "zuwai", "push").entered();
        // Opening may mean fetching the blob first: no request waits for that.
        let mut reader = match source.open() {
            Ok(reader) => reader,
            Err(error) => return drop(opened.send(Err(error))),
        };
        if let Err(error) = io::copy(&mut reader.by_ref().take(from), &mut io::sink()) {
            return drop(opened.send(Err(error)));
        }
        if opened.send(Ok(())).is_err() {
            return;
        }
        let mut left = length;
        while left > 0 {
            let mut chunk = Vec::with_capacity(CHUNK.min(usize::try_from(left).unwrap_or(CHUNK)));
            let read = reader.by_ref().take(left.min(CHUNK as u64)).read_to_end(&mut chunk);
            let result = match read {
                Ok(0) => {
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob is shorter than its descriptor says"))
                }
                Ok(count) => {
                    left -= count as u64;
                    Ok(Bytes::from(chunk))
                }
                Err(error) => Err(error),
            }
            .map_err(|error| io::Error::other(Io(error.to_string())));
            let failed = result.is_err();
            if send.blocking_send(result).is_err() || failed {
                return;
            }
        }
    });
    open.await.map_err(|_| io::Error::other("reading the blob was given up"))??;
    Ok(chunks)
}

pub(super) fn watched(chunks: Chunks, progress: Progress, length: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    futures_util::stream::unfold((chunks, progress, length), |(mut chunks, progress, left)| async move {
        let chunk = chunks.recv().await?;
        let left = left.saturating_sub(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
        progress.step(left == 0);
        Some((chunk, (chunks, progress, left)))
    })
}

/// An error of the blob that was being sent, told apart from errors of the connection.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Io(pub(super) String);
