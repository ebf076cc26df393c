//! Pushes an image to a registry that speaks plain HTTP, pulls it again, and says how long each took:
//! `cargo run --example transfer -- localhost:5000/bench:1 20 50` for 20 layers of 50 MiB that do not compress. With a fourth
//! argument the image is also left there as an OCI layout, for other tools to copy.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use zuwai_registry::auth::Anonymous;
use zuwai_registry::{
    BlobDir, Client, ClientOptions, Compression, Image, ImageConfig, ImageFormat, LayerWriter, Platform, Reference,
    layout,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, layers, mebibytes, rest @ ..] = arguments.as_slice() else {
        return Err("usage: transfer <reference> <layers> <MiB each> [layout]".into());
    };
    let reference: Reference = name.parse()?;
    let folder = tempfile::tempdir()?;
    let blobs = BlobDir::open(folder.path().join("made"))?;
    let image = image(layers.parse()?, mebibytes.parse()?, &blobs)?;
    if let [dir, ..] = rest {
        layout::write(&image, std::slice::from_ref(&reference), Path::new(dir))?;
    }
    let options =
        ClientOptions { insecure_registries: vec![reference.registry().to_owned()], ..ClientOptions::default() };
    let client = Client::new(options, Arc::new(Anonymous))?;
    for turn in ["first", "again"] {
        let start = Instant::now();
        client.push(&image, std::slice::from_ref(&reference))?;
        println!("push {turn}: {:.2} s", start.elapsed().as_secs_f64());
    }
    let start = Instant::now();
    let target = BlobDir::open(folder.path().join("pulled"))?;
    let pulled = client.pull(&reference, &Platform::host(), &target)?;
    client.prefetch(&pulled.image.layers);
    for layer in &pulled.image.layers {
        layer.blob.open()?;
    }
    println!("pull: {:.2} s", start.elapsed().as_secs_f64());
    let status = std::fs::read_to_string("/proc/self/status")?;
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
    Ok(())
}

fn image(layers: u64, mebibytes: u64, blobs: &BlobDir) -> Result<Image, Failure> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut made = Vec::new();
    for _ in 0..layers {
        let mut writer = LayerWriter::new(blobs, Compression::None, ImageFormat::Oci)?;
        for _ in 0..mebibytes {
            let mut block = Vec::with_capacity(1 << 20);
            while block.len() < 1 << 20 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                block.extend_from_slice(&state.to_le_bytes());
            }
            writer.write_all(&block)?;
        }
        made.push(writer.finish()?);
    }
    let mut config = ImageConfig::default();
    config.set_platform(&Platform::host());
    Ok(Image { config, layers: made, format: ImageFormat::Oci, annotations: std::collections::BTreeMap::new() })
}
