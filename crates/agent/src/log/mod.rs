//! What instances write: segments on disk, written by their shims and read by the agent.
//!
//! `logs/<service>/<instance>/NNNNNN.log`, lines in the form Kubernetes' container runtimes use:
//! `2026-11-23T00:24:27.123456Z stdout F text`, with `P` for a line that goes on in the next. Other
//! tools can read them, and a reader needs no index. They are a spool: control collects the lines of
//! services' instances into its log store ([`collect`]).

pub(crate) mod collect;
pub(crate) mod line;
pub(crate) mod read;
pub(crate) mod write;

use std::path::{Path, PathBuf};

use ekiden_model::id::{InstanceId, ServiceId};

/// A segment is closed when it has reached this size.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// An instance keeps this many segments, the newest ones.
pub(crate) const SEGMENTS_MAX: u64 = 4;

/// Where the log of an instance is.
pub(crate) fn directory(logs: &Path, service: ServiceId, instance: InstanceId) -> PathBuf {
    logs.join(service.to_string()).join(instance.to_string())
}

/// Where the log of an instance is that builds: apart, so that it is none of its service's.
pub(crate) fn build_directory(logs: &Path, service: ServiceId, instance: InstanceId) -> PathBuf {
    let builds = logs.join(service.to_string()).join("builds");
    builds.join(instance.to_string())
}

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
