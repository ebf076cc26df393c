//! Trees that look like what images hold: ten files a folder, as in a large Debian image, and text that compresses as
//! programs and their documents do.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Files in one folder.
pub const FILES: usize = 10;
/// Folders in a folder above them.
pub const FOLDERS: usize = 100;

/// Makes so many files below a folder, of which the one in ten has a hundred bytes of content and the others none; returns
/// the ones with content.
pub fn plant_small(root: &Path, files: usize) -> Vec<PathBuf> {
    let mut full = Vec::new();
    each(root, files, |number, path| {
        if number % FILES == 3 {
            fs::write(&path, [b'x'; 100]).unwrap();
            full.push(path);
        } else {
            fs::File::create(path).unwrap();
        }
    });
    full
}

/// Makes so many files of so many bytes below a folder.
pub fn plant_text(root: &Path, files: usize, size: usize) {
    let mut text = Text::new();
    each(root, files, |_, path| fs::write(path, text.take(size)).unwrap());
}

/// One file of so many bytes.
pub fn plant_large(path: &Path, size: u64) {
    let mut text = Text::new();
    let mut file = fs::File::create(path).unwrap();
    let mut left = size;
    while left > 0 {
        let piece = text.take(usize::try_from(left.min(1 << 20)).expect("a megabyte"));
        file.write_all(&piece).unwrap();
        left -= piece.len() as u64;
    }
}

fn each(root: &Path, files: usize, mut make: impl FnMut(usize, PathBuf)) {
    let mut folder = PathBuf::new();
    for number in 0..files {
        if number % FILES == 0 {
            let (part, package) = (number / FILES / FOLDERS, number / FILES);
            folder = root.join(format!("part-{part:03}")).join(format!("package-{package:06}"));
            fs::create_dir_all(&folder).unwrap();
        }
        make(number, folder.join(format!("some-file-{}.txt", number % FILES)));
    }
}

/// Text without end, the same every time: words of a language of a few thousand, the short ones often, and every now and
/// then some bytes that do not compress.
struct Text {
    words: Vec<Vec<u8>>,
    state: u64,
}

impl Text {
    fn new() -> Self {
        let mut text = Self { words: Vec::new(), state: 0x9e37_79b9_7f4a_7c15 };
        text.words = (0..4000)
            .map(|_| (0..3 + text.below(8)).map(|_| b"etaoinshrdlucmfwypvbgk_("[text.below(24)]).collect())
            .collect();
        text
    }

    fn take(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size + 64);
        while bytes.len() < size {
            if self.below(24) == 0 {
                bytes.extend((0..16).map(|_| self.next().to_le_bytes()[5]));
            }
            let (common, any) = (self.below(100), self.below(self.words.len()));
            let word = if self.below(3) > 0 { common } else { any };
            bytes.extend_from_slice(&self.words[word]);
            bytes.push(if self.below(11) == 0 { b'\n' } else { b' ' });
        }
        bytes.truncate(size);
        bytes
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 32).expect("32 bits") % end
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}
