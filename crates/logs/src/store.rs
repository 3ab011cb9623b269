//! The store: what callers hold.
//!
//! Lines are acknowledged when they are written to the journal of their group: they survive that the process
//! ends in any way. They survive that the power goes once they are synced, which is done every second or so
//! by [`LogStore::maintain`]. A thread of the store seals full journals to compressed segments.

mod groups;
mod open;
mod read;
mod write;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    disk::Over,
    error::LogError,
    group::Group,
    settings::Settings,
    shared::{Counters, Shared, lock},
    stats::Stats,
};

/// The most groups of a store.
pub const GROUPS_MAX: usize = 10_000;

/// The most streams of a group. Before one is refused, the oldest that have no lines left are forgotten.
pub const STREAMS_MAX: usize = 10_000;

/// The most tags of a group.
pub const TAGS_MAX: usize = 50;

/// How often it is looked for what is too old.
const AGE_EVERY_MS: i64 = 60_000;

/// A log store in a directory. Cheap to clone. Everything blocks.
#[derive(Debug, Clone)]
pub struct LogStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    shared: Arc<Shared>,
    sealer: Mutex<Option<JoinHandle<()>>>,
    synced: Mutex<Instant>,
    /// When it was last looked for what is too old.
    aged_ms: Mutex<Option<i64>>,
    /// Names directories of groups that are being deleted.
    deleted: AtomicU64,
    /// Keeps other processes out.
    _lock: std::fs::File,
}

impl LogStore {
    /// Opens the store in a directory, which is created if need be. One process has it open at a time.
    ///
    /// # Errors
    /// [`LogError::Invalid`] when another process has it open or the settings have a budget below 1 MiB;
    /// [`LogError::Io`] when the directory cannot be read or written.
    pub fn open(directory: &Path, settings: Settings) -> Result<Self, LogError> {
        let inner = open::open(directory, settings)?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Syncs, and ends the store's thread; what it is sealing is finished, what waits is sealed when the
    /// store is next open. Dropping the last clone does so as well. Appends after it are stored, but not
    /// sealed.
    ///
    /// # Errors
    /// [`LogError::Io`] when it cannot be synced.
    pub fn close(&self) -> Result<(), LogError> {
        self.inner.stop();
        self.sync()
    }

    /// Syncs what was stored, so that it survives that the power goes.
    ///
    /// # Errors
    /// [`LogError::Io`] of the first group that failed; the others are synced.
    pub fn sync(&self) -> Result<(), LogError> {
        self.inner.shared.sync()
    }

    /// Syncs if it is time to, removes what is too old or over a budget, and has old journals sealed. To be
    /// called about once a second.
    ///
    /// # Errors
    /// The first; all groups are gone through nevertheless.
    pub fn maintain(&self, now_ms: i64) -> Result<(), LogError> {
        let shared = &self.inner.shared;
        shared.now_ms.store(now_ms, Relaxed);
        let mut result = Ok(());
        if lock(&self.inner.synced).elapsed() >= shared.settings.sync_every {
            result = self.sync();
            *lock(&self.inner.synced) = Instant::now();
        }
        let aged = {
            let mut at = lock(&self.inner.aged_ms);
            let due = at.is_none_or(|at| now_ms.abs_diff(at) >= AGE_EVERY_MS as u64);
            if due {
                *at = Some(now_ms);
            }
            due
        };
        for group in shared.all_groups() {
            result = result.and(self.maintain_group(&group, now_ms, aged));
        }
        while shared.disk.total() > shared.settings.total_bytes_max
            && let Some(group) = shared.all_groups().first()
            && shared.make_room(group, Over::Total).is_ok()
        {}
        result
    }

    fn maintain_group(&self, group: &Arc<Group>, now_ms: i64, aged: bool) -> Result<(), LogError> {
        let shared = &self.inner.shared;
        let mut result = Ok(());
        if aged {
            result = group
                .remove_old(shared, now_ms)
                .map(|removed| Counters::add(&shared.counters.removed_by_age, removed));
        }
        while group.bytes.load(Relaxed) > shared.settings.group_bytes_max
            && shared.make_room(group, Over::Group).is_ok()
        {}
        match result.and(group.seal_old(shared, now_ms)) {
            Err(LogError::NoGroup { .. }) => Ok(()), // deleted meanwhile
            result => result,
        }
    }

    /// Seals what a group has in journals, now and in this thread: for who wants to know how small it gets.
    ///
    /// # Errors
    /// [`LogError::NoGroup`], [`LogError::DiskFull`], [`LogError::Busy`], [`LogError::Io`].
    pub fn seal(&self, group: &str) -> Result<(), LogError> {
        let shared = &self.inner.shared;
        let group = self.find(group)?;
        self.retry(&group, || {
            group.with(shared, |open| {
                let lines = open
                    .active
                    .as_ref()
                    .is_some_and(|(_, journal)| !journal.chunks.is_empty());
                match lines {
                    true => group.rotate(shared, open, shared.now_ms.load(Relaxed)),
                    false => Ok(()),
                }
            })
        })?;
        while group.if_open(|open| open.unsealed()).unwrap_or(0) > 0 {
            group.catch_up(shared, |over| shared.make_room(&group, over))?;
        }
        Ok(())
    }

    /// What the store has done since it was opened, and what there is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.inner.shared;
        let counters = &shared.counters;
        let groups = shared.all_groups();
        let unsealed = |group: &Arc<Group>| group.if_open(|open| open.unsealed() as u64);
        Stats {
            lines: counters.lines.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            dropped: lock(&shared.dropped).clone(),
            refused_disk_full: counters.refused_disk_full.load(Relaxed),
            refused_busy: counters.refused_busy.load(Relaxed),
            sealed: counters.sealed.load(Relaxed),
            seal_failures: counters.seal_failures.load(Relaxed),
            removed_by_age: counters.removed_by_age.load(Relaxed),
            removed_by_budget: counters.removed_by_budget.load(Relaxed),
            damaged: counters.damaged.load(Relaxed),
            damaged_lines: counters.damaged_lines.load(Relaxed),
            disk_bytes: shared.disk.total(),
            groups: groups.len() as u64,
            unsealed: groups.iter().filter_map(unsealed).sum(),
        }
    }

    /// Grows with every append to any group.
    #[must_use]
    pub fn changed(&self) -> u64 {
        *lock(&self.inner.shared.changed)
    }

    /// Waits until [`Self::changed`] is not `since`, at most `timeout`; what it is then.
    #[must_use]
    pub fn wait_changed(&self, since: u64, timeout: Duration) -> u64 {
        let changed = lock(&self.inner.shared.changed);
        let waited = self
            .inner
            .shared
            .changes
            .wait_timeout_while(changed, timeout, |now| *now == since);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn find(&self, group: &str) -> Result<Arc<Group>, LogError> {
        self.inner.shared.find(group)
    }
}

impl Inner {
    fn stop(&self) {
        lock(&self.shared.queue).stop = true;
        self.shared.queued.notify_all();
        if let Some(sealer) = lock(&self.sealer).take()
            && sealer.join().is_err()
        {
            tracing::error!("the thread that seals journals panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
        if let Err(error) = self.shared.sync() {
            tracing::error!(error = %error, "the log store could not be synced at its end");
        }
    }
}
