//! What all groups of a store share.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use crate::{
    append::DropCause,
    disk::{Disk, Over},
    error::LogError,
    group::Group,
    segment::FooterCache,
    settings::Settings,
    stats::Dropped,
};

/// Locks; what a thread that panicked left is as good as any crash leaves it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lines that were dropped from streams, by group and stream.
pub(crate) type Notes = BTreeMap<(String, String), Note>;

/// How many were dropped, and why the last were.
pub(crate) type Note = (Dropped, DropCause);

/// What all groups of a store share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) disk: Disk,
    pub(crate) footers: FooterCache,
    pub(crate) counters: Counters,
    /// The last time that a caller said it was.
    pub(crate) now_ms: AtomicI64,
    pub(crate) groups: RwLock<BTreeMap<String, Arc<Group>>>,
    pub(crate) notes: Mutex<Notes>,
    pub(crate) dropped: Mutex<BTreeMap<DropCause, Dropped>>,
    /// Journals that are to be sealed.
    pub(crate) queue: Mutex<Queue>,
    pub(crate) queued: Condvar,
    pub(crate) changed: Mutex<u64>,
    pub(crate) changes: Condvar,
}

/// Journals that are to be sealed: no more than a few for each group, since appends wait for them.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) journals: VecDeque<(Arc<Group>, u64)>,
    pub(crate) stop: bool,
}

/// What was done since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) lines: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) refused_disk_full: AtomicU64,
    pub(crate) refused_busy: AtomicU64,
    pub(crate) sealed: AtomicU64,
    pub(crate) seal_failures: AtomicU64,
    pub(crate) removed_by_age: AtomicU64,
    pub(crate) removed_by_budget: AtomicU64,
    pub(crate) damaged: AtomicU64,
    pub(crate) damaged_lines: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Relaxed);
    }
}

impl Shared {
    /// Hands a journal to the thread that seals.
    pub(crate) fn enqueue(&self, group: &Arc<Group>, number: u64) {
        let mut queue = lock(&self.queue);
        let known = |(other, at): &(Arc<Group>, u64)| *at == number && Arc::ptr_eq(other, group);
        if !queue.journals.iter().any(known) {
            queue.journals.push_back((Arc::clone(group), number));
            self.queued.notify_one();
        }
    }

    /// All groups, by name.
    pub(crate) fn all_groups(&self) -> Vec<Arc<Group>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.values().cloned().collect()
    }

    /// Removes the oldest lines of the group, or of the one with the most bytes when the total is over.
    ///
    /// # Errors
    /// [`LogError::DiskFull`] when there is nothing to remove.
    pub(crate) fn make_room(&self, group: &Arc<Group>, over: Over) -> Result<(), LogError> {
        let mut candidates = match over {
            Over::Group => vec![Arc::clone(group)],
            Over::Total => self.all_groups(),
        };
        candidates.sort_by_cached_key(|group| Reverse(group.bytes.load(Relaxed)));
        for candidate in candidates {
            if candidate.has_files() && candidate.remove_oldest(self, self.now_ms.load(Relaxed))? {
                Counters::add(&self.counters.removed_by_budget, 1);
                return Ok(());
            }
        }
        Err(LogError::DiskFull)
    }

    /// Seals what is queued until the store is closed.
    pub(crate) fn seal_queued(&self) {
        loop {
            let mut queue = lock(&self.queue);
            let next = loop {
                if queue.stop {
                    return;
                }
                match queue.journals.pop_front() {
                    Some(next) => break next,
                    None => {
                        queue = self
                            .queued
                            .wait(queue)
                            .unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(queue);
            let (group, number) = next;
            if let Err(error) = group.seal(self, number, |over| self.make_room(&group, over)) {
                Counters::add(&self.counters.seal_failures, 1);
                tracing::warn!(group = %group.name, number, error = %error, "journal could not be sealed");
            }
        }
    }

    /// Says that lines were stored.
    pub(crate) fn notify(&self) {
        *lock(&self.changed) += 1;
        self.changes.notify_all();
    }
}
