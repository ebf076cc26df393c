//! What packing a layer costs and saves at each level: `cargo run --example pack -- file.tar`. The default levels were
//! chosen from its table.

use std::fs::File;
use std::io;
use std::time::Instant;

use zuwai_registry::{BlobDir, Compression, ImageFormat, LayerWriter};

fn main() -> io::Result<()> {
    let path = std::env::args_os().nth(1).ok_or_else(|| io::Error::other("which tar?"))?;
    let folder = tempfile::tempdir()?;
    let blobs = BlobDir::open(folder.path())?;
    let plain = std::fs::metadata(&path)?.len();
    let gzip = (1..=9).map(|level| Compression::Gzip { level });
    let zstd = [1, 3, 6, 9].map(|level| Compression::Zstd { level });
    println!("{:<20} {:>8} {:>8}", "compression", "MB/s", "size %");
    for compression in gzip.chain(zstd).chain([Compression::None]) {
        let start = Instant::now();
        let mut writer = LayerWriter::new(&blobs, compression, ImageFormat::Oci)?;
        io::copy(&mut File::open(&path)?, &mut writer)?;
        let layer = writer.finish()?;
        #[expect(clippy::cast_precision_loss, reason = "a table for people")]
        let (speed, size) =
            (plain as f64 / 1e6 / start.elapsed().as_secs_f64(), 100.0 * layer.descriptor.size as f64 / plain as f64);
        println!("{:<20} {speed:>8.0} {size:>8.1}", format!("{compression:?}"));
    }
    Ok(())
}
