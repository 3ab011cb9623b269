//! How much an instance may write to its own file system.
//!
//! Where the file system of the data directory keeps project quotas (xfs or ext4, mounted with
//! `prjquota`), the kernel refuses what is too much. Elsewhere instances are watched: when the free
//! space has fallen, and now and then, their directories are measured, and one above its limit is killed.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::Path,
    time::Duration,
};

use crate::{network::fingerprint, sys};

/// How often free space is looked at.
pub(crate) const WATCH_EVERY: Duration = Duration::from_secs(2);

/// How far it must have fallen to be worth measuring, in bytes.
const FALL_BYTES: u64 = 16 * 1024 * 1024;

/// Looks after which directories are measured although free space has not fallen: somebody else may have made as much
/// room meanwhile. Each measuring walks through what every instance has written, or a build's layers: half a minute
/// between two keeps that small.
const LOOKS_MAX: u32 = 15;

/// A file per so many bytes, as mkfs.ext4 has it, and never fewer than these.
const BYTES_PER_FILE: u64 = 16 * 1024;
const FILES_MIN: u64 = 10_000;

/// How the limit is kept on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskLimit {
    /// By the kernel.
    Quota,
    /// By measuring now and then: an instance can exceed its limit for some seconds.
    Watched,
}

impl DiskLimit {
    /// Finds out by trying on a directory of the data directory. Blocks.
    pub(crate) fn detect(directory: &Path) -> Self {
        let probe = directory.join("quota-probe");
        let tried = fs::create_dir_all(&probe).and_then(|()| {
            let file = File::open(&probe)?;
            // Project 1 is nobody's here, and a limit of zero is none.
            sys::set_project(file.as_fd(), 1)?;
            sys::set_project_quota(file.as_fd(), 1, 0, 0)
        });
        let _ = fs::remove_dir(&probe);
        if tried.is_ok() {
            Self::Quota
        } else {
            Self::Watched
        }
    }

    /// What it means, for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Quota => "kept by the kernel (project quota)",
            Self::Watched => {
                "kept by measuring: the file system of the data directory has no project quota (xfs or ext4 mounted with `prjquota`)"
            }
        }
    }
}

/// Limits what is written below these directories, as one. Blocks.
///
/// They share a project, because overlayfs renames from its work to its upper directory, and a
/// rename between projects is refused (`EXDEV`).
pub(crate) fn limit(
    name: &str,
    slot: u32,
    directories: &[&Path],
    bytes_max: u64,
) -> io::Result<()> {
    let project = ((fingerprint(name) as u32 & 0x7fff) << 16 | slot).max(1);
    for directory in directories {
        sys::set_project(File::open(directory)?.as_fd(), project)?;
    }
    let Some(directory) = directories.first() else {
        return Ok(());
    };
    let files_max = (bytes_max / BYTES_PER_FILE).max(FILES_MIN);
    sys::set_project_quota(
        File::open(directory)?.as_fd(),
        project,
        bytes_max,
        files_max,
    )
}

/// Says when instances are to be measured: free space has fallen enough, or they were not for long.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    free_at_last: u64,
    looks: u32,
}

impl Watch {
    /// Takes the free space as it is now.
    pub(crate) fn is_due(&mut self, free_bytes: u64) -> bool {
        let fallen = free_bytes.saturating_add(FALL_BYTES) <= self.free_at_last;
        if fallen || free_bytes > self.free_at_last {
            self.free_at_last = free_bytes;
        }
        self.looks += 1;
        let due = fallen || self.looks > LOOKS_MAX;
        if due {
            self.looks = 0;
        }
        due
    }
}

/// Free bytes of a file system; everything when it cannot be asked. Blocks.
pub(crate) fn free_bytes(directory: &Path) -> u64 {
    rustix::fs::statvfs(directory).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watch_is_due_once_for_each_fall() {
        let mut watch = Watch::default();
        assert!(!watch.is_due(10 * FALL_BYTES));
        assert!(!watch.is_due(10 * FALL_BYTES - 1));
        assert!(watch.is_due(9 * FALL_BYTES));
        assert!(!watch.is_due(9 * FALL_BYTES - 1));
        assert!(!watch.is_due(20 * FALL_BYTES));
        assert!(watch.is_due(19 * FALL_BYTES));
    }

    #[test]
    fn watch_is_due_now_and_then_although_there_is_more_room() {
        let mut watch = Watch::default();
        let due =
            (1..=3 * (LOOKS_MAX + 1)).filter(|look| watch.is_due(u64::from(*look) * FALL_BYTES));
        let each = LOOKS_MAX + 1;
        assert_eq!(due.collect::<Vec<_>>(), [each, 2 * each, 3 * each]);
    }
}
