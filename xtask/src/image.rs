//! `cargo xtask image`: what `deploy/Dockerfile` needs as its context.

use std::fs;

use anyhow::{Context, Result, ensure};
use zuwai_lab::{executor, places};

use crate::cargo::build_zuwai;

pub(crate) fn run(words: &[String]) -> Result<()> {
    ensure!(words.is_empty(), "cargo xtask image takes no words, and got {words:?}");
    let tree = places::cache().with_file_name("image");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("remove {}", tree.display()))?;
    }
    fs::create_dir_all(&tree).with_context(|| format!("make {}", tree.display()))?;
    executor::lay_out(&build_zuwai()?, &tree)?;
    println!("The tree is in {0}. Build the image with\n  podman build --file deploy/Dockerfile {0}", tree.display());
    Ok(())
}
