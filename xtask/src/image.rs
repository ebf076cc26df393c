//! `cargo xtask image`: what the Dockerfiles in `deploy` need as their context, with the binary as it is shipped.

use std::fs;

use anyhow::{Context, Result, bail};
use zuwai_lab::executor::{self, Variant};
use zuwai_lab::{packages, places};

use crate::cargo::build_binary;

pub(crate) fn run(words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let variant = match words.as_slice() {
        [] => Variant::Plain,
        ["--debug"] => Variant::Debug,
        _ => bail!("cargo xtask image takes --debug or nothing, and got {words:?}"),
    };
    packages::ensure(&["binutils", "busybox-static"])?;
    let tree = places::cache().with_file_name("image");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("remove {}", tree.display()))?;
    }
    fs::create_dir_all(&tree).with_context(|| format!("make {}", tree.display()))?;
    executor::lay_out(&build_binary("zuwai", "zuwai", true)?, variant, &tree)?;
    let (tree, dockerfile) = (tree.display(), variant.dockerfile());
    println!("The tree is in {tree}. Build the image with\n  podman build --file {dockerfile} {tree}");
    Ok(())
}
