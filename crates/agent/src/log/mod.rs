//! What instances write: segments on disk, written by their shims and read by the agent.
//!
//! `logs/<service>/<instance>/NNNNNN.log`, lines in the form Kubernetes' container runtimes use:
//! `2026-11-23T00:24:27.123456Z stdout F text`, with `P` for a line that goes on in the next. Other
//! tools can read them, and a reader needs no index.

pub(crate) mod line;
pub(crate) mod read;
pub(crate) mod write;

use std::path::{Path, PathBuf};

/// A segment is closed when it has reached this size.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// An instance keeps this many segments, the newest ones.
pub(crate) const SEGMENTS_MAX: u64 = 4;

/// The path of a segment.
fn segment(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:06}.log"))
}

/// The numbers of an instance's segments, oldest first. Blocks.
fn segments(directory: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut numbers: Vec<u64> = entries
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_suffix(".log")?
                .parse()
                .ok()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}
