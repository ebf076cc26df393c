//! The index costs at most a hundred bytes a file, names included.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unsafe_code)] // An allocator that counts can only be written so.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use zuwai_snapshot::{Ignore, RootFs, SnapshotMode};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_file_costs_at_most_a_hundred_bytes_of_the_index() {
    const FOLDERS: usize = 350;
    const FILES: usize = 100;
    let tmp = tempfile::tempdir().unwrap();
    for folder in 0..FOLDERS {
        let folder = tmp.path().join(format!("a-folder-{folder:04}"));
        fs::create_dir(&folder).unwrap();
        for file in 0..FILES {
            fs::write(folder.join(format!("some-file-{file:04}.txt")), "").unwrap();
        }
    }
    let root = RootFs::open(tmp.path(), Ignore::default()).unwrap();
    let mut snapshotter = SnapshotMode::Full.snapshotter();
    let before = LIVE.load(Ordering::Relaxed);
    snapshotter.reset(&root).unwrap();
    let cost = LIVE.load(Ordering::Relaxed) - before;
    let entries = FOLDERS * (FILES + 1);
    assert!(cost <= entries * 100, "{cost} bytes for {entries} entries: {} each", cost / entries);
}
