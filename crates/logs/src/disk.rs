//! How much of the disk the store has, and whether it may have more.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::{error::LogError, settings::Settings};

/// For how long what the disk has free is believed.
const FREE_KNOWN_FOR: Duration = Duration::from_millis(100);

/// A sixty-fourth of a budget is kept for what makes room: new journals and segments.
const SLACK_PART: u64 = 64;

/// What a reservation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// What is to stay.
    Keep,
    /// What lets more than its bytes be removed.
    MakeRoom,
}

/// Which budget is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The group's.
    Group,
    /// That of all groups.
    Total,
}

/// The bytes of the store on its disk.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    group_max: u64,
    total_max: u64,
    free_min: u64,
    total: AtomicU64,
    free: Mutex<Option<(Instant, u64)>>,
}

impl Disk {
    pub(crate) fn new(root: &Path, settings: &Settings) -> Self {
        Self {
            root: root.to_owned(),
            group_max: settings.group_bytes_max,
            total_max: settings.total_bytes_max,
            free_min: settings.disk_free_bytes_min,
            total: AtomicU64::new(0),
            free: Mutex::new(None),
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.load(SeqCst)
    }

    /// Counts bytes that are there already.
    pub(crate) fn found(&self, group: &AtomicU64, bytes: u64) {
        group.fetch_add(bytes, SeqCst);
        self.total.fetch_add(bytes, SeqCst);
    }

    /// Takes bytes before they are written, in a group whose bytes are `group`.
    pub(crate) fn reserve(
        &self,
        group: &AtomicU64,
        bytes: u64,
        purpose: Purpose,
    ) -> Result<(), Over> {
        let within = |max: u64| match purpose {
            Purpose::Keep => max - max / SLACK_PART,
            Purpose::MakeRoom => max,
        };
        let add = |counter: &AtomicU64, max: u64| {
            let added = |now: u64| now.checked_add(bytes).filter(|sum| *sum <= within(max));
            counter.fetch_update(SeqCst, SeqCst, added).is_ok()
        };
        if !add(group, self.group_max) {
            return Err(Over::Group);
        }
        if !add(&self.total, self.total_max) {
            group.fetch_sub(bytes, SeqCst);
            return Err(Over::Total);
        }
        Ok(())
    }

    /// Gives back bytes that are gone or were not written.
    pub(crate) fn release(&self, group: &AtomicU64, bytes: u64) {
        group.fetch_sub(bytes, SeqCst);
        self.total.fetch_sub(bytes, SeqCst);
    }

    /// Refuses when the disk has less free than is to be left.
    pub(crate) fn check_free(&self) -> Result<(), LogError> {
        let mut known = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let free = match *known {
            Some((at, free)) if at.elapsed() < FREE_KNOWN_FOR => free,
            _ => {
                let stat = rustix::fs::statvfs(&self.root).map_err(|error| LogError::Io {
                    what: "ask how much the disk has free",
                    source: error.into(),
                })?;
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                *known = Some((Instant::now(), free));
                free
            }
        };
        match free < self.free_min {
            true => Err(LogError::DiskFull),
            false => Ok(()),
        }
    }
}
