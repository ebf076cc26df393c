//! Shows an OCI image layout as the cases show it: `cargo run -p zuwai-lab --example render -- FOLDER`.

use std::path::Path;

use anyhow::{Context, Result};
use zuwai_lab::base::Base;
use zuwai_lab::layout::Layout;
use zuwai_lab::render;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("which folder?")?;
    let mut known = Base::Busybox.known()?;
    known.extend(Base::Debian.known()?);
    print!("{}", render::image(&Layout::open(Path::new(&folder))?, &known)?);
    Ok(())
}
