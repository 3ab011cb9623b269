//! Snapshots: a source tree as one canonical tar file.
//!
//! Canonical means that the same tree at the same time gives the same bytes, and so the same digest:
//! entries are sorted, each directory comes before what it holds, modes are 0755 or 0644, owners are 0, and
//! all times are the snapshot's own. The tree lies below [`PREFIX`], so that the file is a layer of an image
//! (OCI image specification, "Image Layer Filesystem Changeset") without another step.
//!
//! What a tree may hold: files and symbolic links with UTF-8 names. A link must stay inside the tree, so that
//! whatever reads the tree later can follow links without looking. Directories are there because of what
//! they hold; an empty one is not kept, as in git.
//!
//! Nothing here is unpacked into directories: what is asked for is read from the tar file ([`SnapshotFiles`]).

mod files;
mod path;
mod writer;

use std::{io, path::PathBuf};

use ekiden_model::image::Digest;
use serde::{Deserialize, Serialize};

pub use files::{Listed, SnapshotFiles};
pub(crate) use path::{check_link, check_path, compare, shown};
pub use writer::Writer;

/// Where the tree lies in the tar file.
pub const PREFIX: &str = "app/";

/// Bytes of a snapshot's tar file, unless the caller says otherwise: 1 GiB.
pub const BYTES_MAX: u64 = 1 << 30;

/// Bytes of one file, unless the caller says otherwise: 512 MiB.
pub const FILE_BYTES_MAX: u64 = 512 << 20;

/// Files, links and directories, unless the caller says otherwise.
pub const ENTRIES_MAX: usize = 200_000;

/// Bytes of a path and of a link's target, unless the caller says otherwise.
pub const PATH_BYTES_MAX: usize = 1024;

/// The time of a [`SnapshotFiles::subset`], in seconds: any constant would do; this one is in 2023.
pub const SUBSET_EPOCH: u64 = 1_700_000_000;

/// A source tree, and where in its tar file everything is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Of the tar file.
    pub digest: Digest,
    /// Of the tar file.
    pub bytes: u64,
    /// Seconds since the Unix epoch: the commit's time, or that of the newest file of an upload. Every entry of
    /// the tar file has it.
    pub epoch: u64,
    /// In the order of the tar file, without directories.
    pub entries: Vec<Entry>,
}

/// A file or a link of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative to the tree, with `/` between names.
    pub path: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// A regular file.
    File {
        /// Mode 0755 rather than 0644.
        executable: bool,
        /// Of its content.
        bytes: u64,
        /// Of its content.
        digest: Digest,
        /// Where its content begins in the tar file.
        offset: u64,
    },
    /// A symbolic link.
    Link {
        /// Relative, and inside the tree.
        target: String,
    },
}

/// How large a snapshot may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the tar file.
    pub bytes_max: u64,
    /// Files, links and directories.
    pub entries_max: usize,
    /// Bytes of a path and of a link's target.
    pub path_bytes_max: usize,
    /// Bytes of one file.
    pub file_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: BYTES_MAX,
            entries_max: ENTRIES_MAX,
            path_bytes_max: PATH_BYTES_MAX,
            file_bytes_max: FILE_BYTES_MAX,
        }
    }
}

impl Limits {
    /// Adds the size of a file to a sum that must stay within the bounds: refuses a tree before any of it is
    /// read.
    pub(crate) fn add(&self, path: &str, bytes: u64, sum: &mut u64) -> Result<(), SnapshotError> {
        if bytes > self.file_bytes_max {
            return Err(SnapshotError::FileTooLarge {
                path: shown(path),
                bytes_max: self.file_bytes_max,
            });
        }
        *sum = sum.saturating_add(bytes);
        match *sum > self.bytes_max {
            true => Err(SnapshotError::TooLarge {
                bytes_max: self.bytes_max,
            }),
            false => Ok(()),
        }
    }
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The tree has something that no tree may have.
    #[error("`{path}` cannot be part of a source tree: {problem}")]
    Refused {
        /// Bounded and printable.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// All of it together.
    #[error("the source is larger than {} MiB, the most that is taken", .bytes_max >> 20)]
    TooLarge {
        /// The bound.
        bytes_max: u64,
    },
    /// One file.
    #[error("`{path}` is larger than {} MiB, the most that one file may have", .bytes_max >> 20)]
    FileTooLarge {
        /// Bounded and printable.
        path: String,
        /// The bound.
        bytes_max: u64,
    },
    /// Too many entries.
    #[error(
        "the source has more than {entries_max} files and directories, the most that are taken"
    )]
    TooMany {
        /// The bound.
        entries_max: usize,
    },
    /// What a file's content comes from failed.
    #[error("failed to read `{path}`")]
    Read {
        /// Bounded and printable.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The tar file could not be written or read.
    #[error("failed to {action} `{}`", .path.display())]
    Tar {
        /// What was being done with it.
        action: &'static str,
        /// The tar file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A tar file is not the one that its index is about.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
}

impl SnapshotError {
    pub(crate) fn refused(path: &str, problem: &'static str) -> Self {
        Self::Refused {
            path: shown(path),
            problem,
        }
    }
}

#[cfg(test)]
mod tests;
