//! Pulls one image into a fresh store and says how long that took: the half of the benchmark that
//! is Ekiden's.
//!
//! `pull <directory> <image>`; the directory must not exist.

use std::{path::PathBuf, time::Instant};

use anyhow::Context;
use ekiden_agent::image::{progress::Progress, settings::ImageSettings, store::ImageStore};
use ekiden_model::image::ImageReference;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().context("which directory?")?);
    let image: ImageReference = arguments.next().context("which image?")?.parse()?;
    anyhow::ensure!(!dir.exists(), "`{}` exists", dir.display());
    let begun = Instant::now();
    let store = ImageStore::open(dir, ImageSettings::default()).await?;
    let prepared = store.prepare(&image, &Progress::none()).await?;
    let took = begun.elapsed().as_millis();
    println!(
        "{} {} bytes in {took} ms",
        prepared.digest, prepared.size_bytes
    );
    Ok(())
}
