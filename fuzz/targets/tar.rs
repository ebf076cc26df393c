//! Bytes as an archive.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zuwai_fuzz::{Scratch, put_right};

fuzz_target!(|bytes: &[u8]| {
    let mut tar = bytes.to_vec();
    put_right(&mut tar);
    // What is read is bounded by what is there, except for holes, which the second part bounds.
    if zuwai_snapshot::tree::render_tar(&mut &tar[..]).is_ok() {
        let _ = Scratch::new().apply(&tar);
    }
});
