//! gzip on several cores, with bytes that do not depend on how many there are.
//!
//! The input is cut into blocks of a fixed size. Each is deflated by itself and ends on a byte's boundary, so that the blocks
//! simply follow one another in one gzip member (RFC 1951, RFC 1952). Threads take blocks in any order; one thread writes them in
//! theirs. Only a bounded number of blocks is in memory at a time: whoever writes waits when the threads are behind.
//!
//! Bytes that nothing can be gained of (archives, pictures, what is encrypted) are found by how often each occurs, and
//! stored: deflate would spend most of its time on them to make them a little longer. What is deflated by itself does not know
//! what came before; where that would have helped most, zlib looks back to it: in a short piece beside stored ones whose text
//! was there a moment ago, and where nearly all is repetition, as in the headers of many small files.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tracing::info_span;

use super::deflate::{Deflater, WINDOW};
use super::dense;

/// Input bytes in one block. Half of this would make layers 0.3 % larger. Twice as much needs twice the memory for each thread.
const BLOCK: usize = 512 * 1024;

/// A shorter piece beside stored ones is deflated with what came before if most of it was there already.
const SHORT: usize = 2 * WINDOW;

/// So many places of a short piece are looked for in what came before, with so many bytes of each.
const SAMPLES: usize = 8;
const SAMPLE: usize = 16;

/// What becomes less than this part of itself is nearly all repetition.
const REPETITIVE: usize = 16;

/// Bytes in one stored block at most.
const MOST_STORED: usize = 0xffff;

/// Magic, deflate, no flags, no time, no hint of the level, unknown system: the same for every layer.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A writer of gzip. Nothing is complete before [`GzipWriter::finish`].
pub(crate) struct GzipWriter<W: Write + Send + 'static> {
    block: Vec<u8>,
    /// The end of the block before.
    before: Vec<u8>,
    jobs: Option<SyncSender<Job>>,
    in_order: Option<SyncSender<Receiver<Deflated>>>,
    workers: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<io::Result<W>>>,
}

struct Job {
    before: Vec<u8>,
    block: Vec<u8>,
    last: bool,
    done: SyncSender<Deflated>,
}

struct Deflated {
    bytes: Vec<u8>,
    plain: crc32fast::Hasher,
    length: usize,
}

impl<W: Write + Send + 'static> GzipWriter<W> {
    /// Compresses into `sink` on this many threads, at least one.
    pub(crate) fn new(sink: W, level: u32, threads: usize) -> io::Result<GzipWriter<W>> {
        let threads = threads.max(1);
        let (jobs, queue) = sync_channel::<Job>(threads);
        let queue = Arc::new(Mutex::new(queue));
        let mut workers = Vec::with_capacity(threads);
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            let worker = std::thread::Builder::new().name("gzip".to_owned()).spawn(move || work(&queue, level))?;
            workers.push(worker);
        }
        let (in_order, results) = sync_channel(threads * 2);
        let writer =
            std::thread::Builder::new().name("gzip-writer".to_owned()).spawn(move || write_in_order(sink, &results))?;
        Ok(GzipWriter {
            block: Vec::with_capacity(BLOCK),
            before: Vec::new(),
            jobs: Some(jobs),
            in_order: Some(in_order),
            workers,
            writer: Some(writer),
        })
    }

    /// Compresses what is left, waits for everything to be written and gives the sink back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        let sent = self.send(true);
        self.jobs = None;
        self.in_order = None;
        let written = self.writer_result();
        for worker in self.workers.drain(..) {
            // A worker that panicked has dropped its result, which the writer reports.
            let _ = worker.join();
        }
        let sink = written?;
        sent?;
        Ok(sink)
    }

    fn send(&mut self, last: bool) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(if last { 0 } else { BLOCK }));
        let end = block[block.len().saturating_sub(WINDOW)..].to_vec();
        let before = std::mem::replace(&mut self.before, end);
        let (done, result) = sync_channel(1);
        let (Some(jobs), Some(in_order)) = (&self.jobs, &self.in_order) else { return Err(gone()) };
        in_order.send(result).map_err(|_| gone())?;
        jobs.send(Job { before, block, last, done }).map_err(|_| gone())
    }

    /// What the writing thread has to say.
    fn writer_result(&mut self) -> io::Result<W> {
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) | None => Err(gone()),
        }
    }
}

impl<W: Write + Send + 'static> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == BLOCK && self.send(false).is_err() {
            // The writer has stopped; why is what the caller wants to know.
            return Err(self.writer_result().err().unwrap_or_else(gone));
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gone() -> io::Error {
    io::Error::other("a compressing thread has stopped")
}

fn work(queue: &Mutex<Receiver<Job>>, level: u32) {
    let _span = info_span!(target: "zuwai", "compress").entered();
    let mut deflater = Deflater::new(level);
    loop {
        let job = {
            let Ok(queue) = queue.lock() else { return };
            queue.recv()
        };
        let Ok(job) = job else { return };
        let deflated = deflate(&job, &mut deflater);
        // When nobody waits for it any more, the writing was given up.
        let _ = job.done.send(deflated);
    }
}

fn deflate(job: &Job, deflater: &mut Deflater) -> Deflated {
    let block = job.block.as_slice();
    let mut bytes = Vec::new();
    let mut at = 0;
    for run in dense::runs(block) {
        let (begin, plain) = (at, run.bytes);
        at += plain.len();
        let last = job.last && at == block.len();
        if run.is_dense {
            store(plain, last, &mut bytes);
            continue;
        }
        let window = window(&job.before, &block[..begin]);
        if plain.len() < SHORT.min(block.len()) && is_repeated(&window, plain) {
            deflater.add_repeated(&window, plain, last, &mut bytes);
        } else {
            let start = bytes.len();
            deflater.add(plain, last, &mut bytes);
            if (bytes.len() - start) * REPETITIVE < plain.len() {
                let mut other = Vec::new();
                deflater.add_behind(&window, plain, last, &mut other);
                if other.len() < bytes.len() - start {
                    bytes.truncate(start);
                    bytes.append(&mut other);
                }
            }
        }
    }
    if job.last && block.is_empty() {
        deflater.add(block, true, &mut bytes);
    }
    let mut plain = crc32fast::Hasher::new();
    plain.update(block);
    Deflated { bytes, plain, length: block.len() }
}

/// Whether half of a short piece or more was there shortly before, by some samples of it. A run of one byte says nothing.
fn is_repeated(window: &[u8], plain: &[u8]) -> bool {
    let step = plain.len() / SAMPLES;
    let is_there = |at: usize| {
        let sample = &plain[at..at + SAMPLE];
        sample.iter().any(|byte| *byte != sample[0]) && memchr::memmem::find(window, sample).is_some()
    };
    step >= SAMPLE && (0..SAMPLES).filter(|number| is_there(number * step)).count() * 2 >= SAMPLES
}

/// How far deflate looks back from the end of `block`, which came behind `before`.
fn window<'a>(before: &'a [u8], block: &'a [u8]) -> Cow<'a, [u8]> {
    match block.len() {
        0 => Cow::Borrowed(before),
        WINDOW.. => Cow::Borrowed(&block[block.len() - WINDOW..]),
        length => Cow::Owned([&before[before.len().saturating_sub(WINDOW - length)..], block].concat()),
    }
}

/// Adds bytes as they are, in stored blocks (RFC 1951, 3.2.4). What is there ends on a byte's boundary, and so does this.
fn store(plain: &[u8], last: bool, bytes: &mut Vec<u8>) {
    let mut pieces = plain.chunks(MOST_STORED).peekable();
    while let Some(piece) = pieces.next() {
        let length = u16::try_from(piece.len()).expect("no longer than what is stored in one");
        bytes.push(u8::from(last && pieces.peek().is_none()));
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&(!length).to_le_bytes());
        bytes.extend_from_slice(piece);
    }
}

fn write_in_order<W: Write>(mut sink: W, results: &Receiver<Receiver<Deflated>>) -> io::Result<W> {
    let _span = info_span!(target: "zuwai", "compress").entered();
    sink.write_all(&HEADER)?;
    let mut checksum = crc32fast::Hasher::new();
    let mut length = 0_u64;
    for result in results {
        let Ok(deflated) = result.recv() else { return Err(gone()) };
        sink.write_all(&deflated.bytes)?;
        checksum.combine(&deflated.plain);
        length += deflated.length as u64;
    }
    sink.write_all(&checksum.finalize().to_le_bytes())?;
    #[expect(clippy::cast_possible_truncation, reason = "gzip keeps the length modulo 2^32")]
    sink.write_all(&(length as u32).to_le_bytes())?;
    Ok(sink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::sample;
    use proptest::prelude::*;
    use std::io::Read;

    fn gzip(bytes: &[u8], level: u32, threads: usize) -> Vec<u8> {
        let mut writer = GzipWriter::new(Vec::new(), level, threads).unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    /// The same in one piece, by zlib's level 6.
    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut whole = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        whole.write_all(bytes).unwrap();
        whole.finish().unwrap()
    }

    fn gunzip_one_member(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut decoder = flate2::bufread::GzDecoder::new(bytes);
        decoder.read_to_end(&mut plain).unwrap();
        assert!(decoder.into_inner().is_empty(), "bytes after the only member");
        plain
    }

    fn some_bytes(length: usize, seed: u32) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 24
        };
        (0..length).map(|index| if index % 7 < 4 { b'a' } else { next().to_le_bytes()[0] }).collect()
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_number_of_threads() {
        let plain = some_bytes(3 * BLOCK + 12_345, 1);
        let one = gzip(&plain, 6, 1);
        for threads in [2, 3, 8] {
            assert!(gzip(&plain, 6, threads) == one, "{threads} threads");
        }
        assert_eq!(gunzip_one_member(&one), plain);
    }

    #[test]
    fn lengths_around_a_block_come_back_the_same() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK] {
            let plain = some_bytes(length, 5);
            assert!(gunzip_one_member(&gzip(&plain, 5, 2)) == plain, "{length}");
        }
    }

    #[test]
    fn bytes_that_do_not_compress_come_back_the_same_at_every_level() {
        let plain = sample::random(2 * BLOCK + 99, 1);
        for level in 1..=9 {
            assert!(gunzip_one_member(&gzip(&plain, level, 2)) == plain, "level {level}");
        }
    }

    #[test]
    fn what_cannot_be_compressed_is_stored_wherever_it_stands() {
        let random = sample::random(3 * BLOCK, 1);
        let text = some_bytes(40_000, 3);
        for plain in [
            random.clone(),
            [&random[..BLOCK], &text].concat(),
            [&text, &random[..70_000], &text, &random[..12_288]].concat(),
            [&random[..BLOCK - 100], &text, &text].concat(),
        ] {
            let compressed = gzip(&plain, 5, 2);
            assert!(gunzip_one_member(&compressed) == plain);
            assert!(
                compressed.len() < plain.len() + plain.len() / 5000 + 100,
                "{} of {}",
                compressed.len(),
                plain.len()
            );
        }
    }

    #[test]
    fn behind_what_is_stored_the_text_before_it_is_found_again() {
        let (text, random) = (some_bytes(10_000, 3), sample::random(16_384, 7));
        let (once, twice) = ([&text[..], &random].concat(), [&text[..], &random, &text].concat());
        for level in [1, 5, 6, 9] {
            let more = gzip(&twice, level, 1).len() - gzip(&once, level, 1).len();
            assert!(more < 500, "level {level}: {more}");
        }
    }

    #[test]
    fn text_that_was_there_counts_as_repeated_and_zeros_that_were_there_do_not() {
        let (old, new, zeros) = (some_bytes(10_000, 3), some_bytes(10_000, 4), [0; 10_000]);
        assert!(is_repeated(&old, &old[..9_000]));
        assert!(is_repeated(&old, &[&old[..5_500], &new[..4_500]].concat()));
        assert!(!is_repeated(&old, &new));
        assert!(!is_repeated(&[&old[..], &zeros].concat(), &[&zeros[..], &new[..9_000]].concat()));
        assert!(!is_repeated(&[], &old) && !is_repeated(&old, &old[..100]));
    }

    #[test]
    fn what_is_nearly_all_repetition_is_as_small_as_zlib_makes_it() {
        let plain: Vec<u8> = (0..60_000_u32)
            .flat_map(|number| {
                [format!("file{number:06} 0000644 0000000 12345670123").into_bytes(), vec![0; 460]].concat()
            })
            .collect();
        let (whole, blocks) = (zlib(&plain).len(), gzip(&plain, 6, 2).len());
        assert!(blocks < whole + whole / 50, "{blocks} in blocks, {whole} in one piece");
    }

    #[test]
    fn blocks_by_themselves_are_hardly_larger_than_one_piece_of_zlib() {
        let mut plain = Vec::new();
        for seed in 0..64 {
            plain.extend(some_bytes(BLOCK / 16 - 7, seed / 3));
        }
        let (whole, blocks) = (zlib(&plain).len(), gzip(&plain, 6, 2).len());
        assert!(blocks < whole + whole / 20, "{blocks} in blocks, {whole} in one piece");
    }

    #[test]
    fn an_error_of_the_sink_reaches_the_writer() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::new(io::ErrorKind::StorageFull, "no space left"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = GzipWriter::new(Full, 1, 2).unwrap();
        let error = writer.write_all(&vec![0; 100 * BLOCK]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
        let empty = GzipWriter::new(Full, 1, 2).unwrap();
        assert_eq!(empty.finish().err().unwrap().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_writer_that_is_dropped_ends_its_threads() {
        let mut writer = GzipWriter::new(Vec::new(), 1, 2).unwrap();
        writer.write_all(&vec![0; 3 * BLOCK]).unwrap();
        let (workers, thread) = (std::mem::take(&mut writer.workers), writer.writer.take());
        drop(writer);
        for worker in workers {
            worker.join().unwrap();
        }
        thread.unwrap().join().unwrap().unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_bytes_in_any_portions_come_back_the_same(
            length in 0..3 * BLOCK, seed in any::<u32>(), level in 1_u32..=9, portion in 1..BLOCK, threads in 1_usize..4,
        ) {
            let plain = some_bytes(length, seed);
            let mut writer = GzipWriter::new(Vec::new(), level, threads).unwrap();
            for part in plain.chunks(portion) {
                writer.write_all(part).unwrap();
            }
            let compressed = writer.finish().unwrap();
            prop_assert!(compressed == gzip(&plain, level, 1));
            prop_assert!(gunzip_one_member(&compressed) == plain);
        }
    }
}
