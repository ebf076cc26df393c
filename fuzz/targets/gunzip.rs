//! Bytes as a layer in gzip.

#![no_main]

use std::io::Read as _;
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use libfuzzer_sys::fuzz_target;
use zuwai_registry::blob::BytesBlob;
use zuwai_registry::image::{Descriptor, MediaType};
use zuwai_registry::{Digest, Layer};

/// What a thousandth of it is compressed to is no finding.
const MOST: u64 = 16 << 20;

fuzz_target!(|bytes: &[u8]| {
    let blob = [&[0x1f, 0x8b, 8], bytes].concat();
    let mut plain = Vec::new();
    let other = MultiGzDecoder::new(&blob[..]).take(MOST).read_to_end(&mut plain);
    let layer = Layer {
        descriptor: Descriptor::of(MediaType::OCI_LAYER_GZIP, &blob),
        diff_id: Digest::of(&plain),
        blob: Arc::new(BytesBlob::new(blob)),
        origin: None,
    };
    let mut own = Vec::new();
    let read = layer.open_tar().and_then(|tar| tar.take(MOST).read_to_end(&mut own));
    // What is damaged is an error, or the bytes that the digest names.
    match other {
        Ok(_) => assert!(read.is_ok() && own == plain, "{read:?}"),
        Err(_) => assert!(read.is_err() || own == plain, "{read:?}"),
    }
});
