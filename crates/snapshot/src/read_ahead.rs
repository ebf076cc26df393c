//! Reading on a thread of its own, a few pieces ahead: who inflates and verifies a layer does not wait for who writes its
//! files.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tracing::info_span;

use crate::archive::Pieces;

/// Bytes of one piece.
const PIECE: usize = 256 * 1024;
/// So many pieces are read before the first of them is asked for.
const PIECES: usize = 4;

/// Does the work with the same bytes. When it returns, reading has ended as well; bytes that were read ahead and not asked
/// for are lost.
pub(crate) fn read_ahead<T>(from: &mut (dyn Read + Send), work: impl FnOnce(&mut Ahead) -> T) -> T {
    std::thread::scope(|scope| {
        let (send, pieces) = sync_channel(PIECES);
        let (back, spare) = sync_channel(PIECES);
        scope.spawn(move || read(from, &send, &spare));
        // Dropped with the work's end: a reading thread that nobody listens to ends.
        work(&mut Ahead { pieces, back })
    })
}

/// What was read ahead.
pub(crate) struct Ahead {
    pieces: Receiver<io::Result<Vec<u8>>>,
    back: SyncSender<Vec<u8>>,
}

impl Pieces for Ahead {
    fn next(&mut self, spare: Vec<u8>) -> io::Result<Vec<u8>> {
        // Where it is not wanted back, or has grown, it is freed.
        if (1..=2 * PIECE).contains(&spare.capacity()) {
            let _ = self.back.try_send(spare);
        }
        self.pieces.recv().unwrap_or_else(|_| Ok(Vec::new()))
    }
}

fn read(from: &mut dyn Read, send: &SyncSender<io::Result<Vec<u8>>>, spare: &Receiver<Vec<u8>>) {
    let _span = info_span!(target: "zuwai", "inflate").entered();
    loop {
        let mut piece = spare.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let mut length = 0;
        let ended = loop {
            match from.read(&mut piece[length..]) {
                Ok(0) => break Ok(length < PIECE),
                Ok(more) => length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        piece.truncate(length);
        // What came before an error is handed on before it.
        if length > 0 && send.send(Ok(piece)).is_err() {
            return;
        }
        match ended {
            Ok(false) => {}
            Ok(true) => return,
            Err(error) => {
                let _ = send.send(Err(error));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All bytes, and the error behind them if there is one.
    fn all(from: &mut (dyn Read + Send)) -> (Vec<u8>, Option<String>) {
        read_ahead(from, |ahead| {
            let (mut all, mut spare) = (Vec::new(), Vec::new());
            loop {
                match ahead.next(spare) {
                    Ok(piece) if piece.is_empty() => return (all, None),
                    Ok(piece) => {
                        all.extend_from_slice(&piece);
                        spare = piece;
                    }
                    Err(error) => return (all, Some(error.to_string())),
                }
            }
        })
    }

    #[test]
    fn the_bytes_are_the_same_and_come_before_the_error_behind_them() {
        let bytes: Vec<u8> = (0..13 * PIECE + 77).map(|number| number.to_le_bytes()[0]).collect();
        assert!(all(&mut &bytes[..]) == (bytes.clone(), None));
        for length in [0, 100, PIECE, 2 * PIECE + 5] {
            let (read, error) = all(&mut bytes[..length].chain(Broken));
            assert_eq!((read.len(), error.as_deref()), (length, Some("broken")));
        }
    }

    #[test]
    fn who_stops_early_does_not_wait_for_the_rest() {
        let mut endless = io::repeat(7);
        read_ahead(&mut endless, |ahead| assert_eq!(ahead.next(Vec::new()).unwrap()[0], 7));
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
}
