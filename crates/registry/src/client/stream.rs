//! A blob as it comes, for who verifies what is in it: nothing is written, and nothing hashed here.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::mpsc;

use super::download::{Sink, Source};
use super::engine::{Engine, asked_to_stop};
use super::error::{FetchError, RegistryError};
use super::session::Session;

/// Pieces of a body that wait to be read.
const PIECES_AHEAD: usize = 4;

/// What is known of a compression by its first bytes needs so many of them.
const FIRST: usize = 4;

/// Begins to fetch a blob. Where a connection breaks, or a place has no more of it, the rest comes from where it can be had.
pub(super) fn start(engine: &Arc<Engine>, source: &Source) -> Coming {
    let (pieces, coming) = mpsc::channel(PIECES_AHEAD);
    let (session, source) = (Arc::clone(&engine.session), source.clone());
    let left = source.descriptor.size;
    let reader = pieces.clone();
    let mut handing = Handing { pieces, handed: 0, at: 0 };
    engine.spawn(async move {
        let cancelled = session.options.cancelled.clone();
        let fetched = tokio::select! {
            fetched = session.fetch_into(&source, &mut handing) => fetched,
            () = asked_to_stop(cancelled.as_deref()) => Err(RegistryError::Cancelled),
            () = reader.closed() => return,
        };
        if let Err(error) = fetched {
            // A reader that is gone need not be told.
            let _ = handing.pieces.send(Err(error)).await;
        }
    });
    Coming { piece: Bytes::new(), left, pieces: coming, _engine: Arc::clone(engine) }
}

impl Session {
    /// The places one after the other; the next goes on where the one before had to stop.
    async fn fetch_into(&self, source: &Source, handing: &mut Handing) -> Result<(), RegistryError> {
        let _turn = self.downloads.acquire().await.expect("the semaphore is never closed");
        let mut first = None;
        for place in &source.places {
            let mut received = handing.handed;
            handing.at = received;
            match self.fetch_pieces(place, &source.descriptor, &mut received, handing).await {
                Ok(()) => return Ok(()),
                // What follows is nobody's.
                Err(_) if handing.handed == source.descriptor.size => return Ok(()),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.expect("there is always one place to look"))
    }
}

/// Hands pieces to the reader, each byte once.
struct Handing {
    pieces: mpsc::Sender<Result<Bytes, RegistryError>>,
    /// How many bytes of the blob the reader was handed.
    handed: u64,
    /// Where in the blob the next piece begins.
    at: u64,
}

impl Sink for Handing {
    async fn take(&mut self, mut piece: Bytes) -> Result<(), RegistryError> {
        let known = usize::try_from(self.handed - self.at).unwrap_or(usize::MAX).min(piece.len());
        self.at += piece.len() as u64;
        piece.advance(known);
        self.handed += piece.len() as u64;
        if !piece.is_empty() && self.pieces.send(Ok(piece)).await.is_err() {
            return Err(RegistryError::Cancelled);
        }
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), RegistryError> {
        self.at = 0;
        Ok(())
    }
}

/// The bytes of the blob that have come and were not read yet.
pub(super) struct Coming {
    piece: Bytes,
    /// How many bytes of the blob are not in a piece yet.
    left: u64,
    pieces: mpsc::Receiver<Result<Bytes, RegistryError>>,
    /// What brings them.
    _engine: Arc<Engine>,
}

impl Coming {
    fn next(&mut self) -> io::Result<Bytes> {
        let piece = match self.pieces.blocking_recv() {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Err(io::Error::other(FetchError(Arc::new(error)))),
            None => return Err(io::Error::other("the transfer was given up")),
        };
        self.left -= piece.len() as u64;
        Ok(piece)
    }
}

impl BufRead for Coming {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.len() < FIRST && self.left > 0 {
            let next = self.next()?;
            self.piece = if self.piece.is_empty() {
                next
            } else {
                let mut both = BytesMut::from(&self.piece[..]);
                both.extend_from_slice(&next);
                both.freeze()
            };
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, count: usize) {
        self.piece.advance(count);
    }
}

impl Read for Coming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.piece[..count]);
        self.consume(count);
        Ok(count)
    }
}
