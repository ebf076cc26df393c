//! Moves images between folders and registries that speak plain HTTP; the bench of the registry client measures it.
//!
//! * `transfer make FOLDER 20 50` writes an OCI layout with 20 layers of 50 MiB that do not compress;
//! * `transfer push FOLDER localhost:5000/bench:1` pushes it;
//! * `transfer pull localhost:5000/bench:1 FOLDER` fetches every blob, and compares it with its digest;
//! * `transfer copy localhost:5000/bench:1 localhost:5000/other:1 FOLDER` copies it, for every platform;
//! * `transfer inspect localhost:5000/bench:1` prints its manifest.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use zuwai_registry::auth::Anonymous;
use zuwai_registry::layout::{self, Layout};
use zuwai_registry::{
    BlobDir, Client, ClientOptions, Compression, Image, ImageConfig, ImageFormat, LayerWriter, Platform, Reference,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["make", folder, layers, mebibytes] => make(folder, layers.parse()?, mebibytes.parse()?),
        ["push", folder, name] => push(folder, &name.parse()?),
        ["pull", name, folder] => pull(&name.parse()?, folder),
        ["copy", from, to, folder] => copy(&from.parse()?, &to.parse()?, folder),
        ["inspect", name] => inspect(&name.parse()?),
        _ => Err("the first lines of this example's source say how it is called".into()),
    }
}

fn client(names: &[&Reference]) -> Result<Client, Failure> {
    let insecure_registries = names.iter().map(|name| name.registry().to_owned()).collect();
    let options = ClientOptions { insecure_registries, ..ClientOptions::default() };
    Ok(Client::new(options, Arc::new(Anonymous))?)
}

fn push(folder: &str, name: &Reference) -> Result<(), Failure> {
    let graph = Layout::open(folder)?.graph(None)?;
    println!("{}", client(&[name])?.push_graph(&graph, std::slice::from_ref(name))?);
    Ok(())
}

fn pull(name: &Reference, folder: &str) -> Result<(), Failure> {
    let pulled = client(&[name])?.pull(name, &Platform::host(), &BlobDir::open(folder)?)?;
    for layer in &pulled.image.layers {
        layer.blob.prefetch();
    }
    for layer in &pulled.image.layers {
        // Opening waits for the whole blob, checked.
        layer.blob.open()?;
    }
    println!("{}", pulled.digest);
    Ok(())
}

fn copy(from: &Reference, to: &Reference, folder: &str) -> Result<(), Failure> {
    let digest = client(&[from, to])?.copy(from, std::slice::from_ref(to), &BlobDir::open(folder)?)?;
    println!("{digest}");
    Ok(())
}

fn inspect(name: &Reference) -> Result<(), Failure> {
    let document = client(&[name])?.inspect(name)?.ok_or("there is no such image")?;
    println!("{}", String::from_utf8_lossy(&document.bytes));
    Ok(())
}

fn make(folder: &str, layers: u64, mebibytes: u64) -> Result<(), Failure> {
    let work = tempfile::tempdir_in(std::path::Path::new(folder).parent().ok_or("the folder has no parent")?)?;
    let blobs = BlobDir::open(work.path())?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut made = Vec::new();
    for _ in 0..layers {
        let mut writer = LayerWriter::new(&blobs, Compression::Gzip { level: 1 }, ImageFormat::Oci)?;
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
    let image = Image { config, layers: made, format: ImageFormat::Oci, annotations: BTreeMap::new() };
    Ok(layout::write(&image, &["bench:1".parse()?], std::path::Path::new(folder))?)
}
