//! Reading on a thread of its own, a few pieces ahead: who inflates and verifies a layer does not wait for who writes its
//! files.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of one piece.
const PIECE: usize = 256 * 1024;
/// So many pieces are read before the first of them is asked for.
const PIECES: usize = 4;

/// Does the work with a reader of the same bytes. When it returns, reading has ended as well; bytes that were read ahead
/// and not asked for are lost.
pub(crate) fn read_ahead<T>(from: &mut (dyn Read + Send), work: impl FnOnce(&mut Ahead) -> T) -> T {
    std::thread::scope(|scope| {
        let (send, pieces) = sync_channel(PIECES);
        let (back, spare) = sync_channel(PIECES);
        scope.spawn(move || read(from, &send, &spare));
        // Dropped with the work's end: a reading thread that nobody listens to ends.
        let mut ahead = Ahead { pieces, back, piece: Vec::new(), at: 0 };
        work(&mut ahead)
    })
}

/// What was read ahead.
pub(crate) struct Ahead {
    pieces: Receiver<io::Result<Vec<u8>>>,
    back: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() && !buffer.is_empty() {
            let Ok(next) = self.pieces.recv() else { return Ok(0) };
            let old = std::mem::replace(&mut self.piece, next?);
            self.at = 0;
            // Where it is not wanted back, it is freed.
            let _ = self.back.try_send(old);
        }
        let length = buffer.len().min(self.piece.len() - self.at);
        buffer[..length].copy_from_slice(&self.piece[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

fn read(from: &mut dyn Read, send: &SyncSender<io::Result<Vec<u8>>>, spare: &Receiver<Vec<u8>>) {
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

    #[test]
    fn the_bytes_are_the_same_and_come_before_the_error_behind_them() {
        let bytes: Vec<u8> = (0..3 * PIECE + 77).map(|number| number.to_le_bytes()[0]).collect();
        let mut read = Vec::new();
        read_ahead(&mut &bytes[..], |ahead| ahead.read_to_end(&mut read)).unwrap();
        assert!(read == bytes);
        for length in [0, 100, PIECE, 2 * PIECE + 5] {
            let mut from = bytes[..length].chain(Broken);
            let mut read = Vec::new();
            let error = read_ahead(&mut from, |ahead| ahead.read_to_end(&mut read)).unwrap_err();
            assert_eq!((read.len(), error.to_string().as_str()), (length, "broken"));
        }
    }

    #[test]
    fn who_stops_early_does_not_wait_for_the_rest() {
        let mut endless = io::repeat(7);
        read_ahead(&mut endless, |ahead| ahead.read_exact(&mut [0; 10])).unwrap();
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
}
