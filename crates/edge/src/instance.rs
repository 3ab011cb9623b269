//! What all workers share of one instance: how many requests it holds, and whether it answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ekiden_model::{id::InstanceId, instance::RevisionNumber};
use tokio::sync::Notify;

use crate::{
    access_log::instance_text,
    config::{EJECTION_MAX, EJECTION_MIN},
    demand::Signal,
};

/// One instance, for as long as it is in the table or holds requests from when it was.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    /// What the access log says of it.
    pub(crate) log_text: Box<[u8]>,
    /// Told when an instance that is no longer in the table holds no request any more.
    drained: Arc<Notify>,
    /// The moment from which `passed_over_until` counts.
    epoch: Instant,
    demand: Signal,
    shared: Shared,
}

/// The words that every worker writes: on cache lines of their own, two of them because processors
/// fetch pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shared {
    in_flight: AtomicU32,
    retired: AtomicBool,
    /// Whether `demand` has been told that requests came or went.
    marked: AtomicBool,
    failures: AtomicU32,
    /// Milliseconds since `epoch`; zero when it is not passed over.
    passed_over_until: AtomicU64,
}

impl Instance {
    pub(crate) fn new(
        id: InstanceId,
        revision: RevisionNumber,
        drained: Arc<Notify>,
        epoch: Instant,
        demand: Signal,
    ) -> Self {
        Self {
            id,
            log_text: instance_text(id, revision),
            drained,
            epoch,
            demand,
            shared: Shared::default(),
        }
    }

    /// Requests it holds.
    pub(crate) fn in_flight(&self) -> u32 {
        self.shared.in_flight.load(Ordering::SeqCst)
    }

    /// Counts one request more, if it holds `seen` requests now.
    pub(crate) fn try_take(&self, seen: u32) -> bool {
        let taken = self
            .shared
            .in_flight
            .compare_exchange(seen, seen + 1, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok();
        if taken {
            self.demand.touch(&self.shared.marked);
        }
        taken
    }

    /// Whether requests came or went since this was last asked; the count is to be read after it.
    pub(crate) fn take_mark(&self) -> bool {
        self.shared.marked.swap(false, Ordering::SeqCst)
    }

    /// Counts one request less.
    ///
    /// Sequentially consistent with [`Instance::retire`]: either this sees that it is retired, or
    /// whoever retired it sees the lower count.
    pub(crate) fn release(&self) {
        let before = self.shared.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.demand.touch(&self.shared.marked);
        if before == 1 && self.shared.retired.load(Ordering::SeqCst) {
            self.drained.notify_one();
        }
    }

    /// Marks it as no longer (or again) in the table.
    pub(crate) fn retire(&self, retired: bool) {
        self.shared.retired.store(retired, Ordering::SeqCst);
    }

    /// Whether it is no longer in the table.
    pub(crate) fn is_retired(&self) -> bool {
        self.shared.retired.load(Ordering::SeqCst)
    }

    /// It could not be reached: passes it over for a while.
    pub(crate) fn failed(&self) {
        let failures = self.shared.failures.fetch_add(1, Ordering::Relaxed).min(16);
        let time = EJECTION_MIN.saturating_mul(1 << failures).min(EJECTION_MAX);
        let until = (self.epoch.elapsed() + time).as_millis() as u64;
        self.shared
            .passed_over_until
            .store(until, Ordering::Relaxed);
    }

    /// It could be reached.
    pub(crate) fn succeeded(&self) {
        if self.shared.failures.load(Ordering::Relaxed) != 0 {
            self.shared.failures.store(0, Ordering::Relaxed);
            self.shared.passed_over_until.store(0, Ordering::Relaxed);
        }
    }

    /// How long it is still to be passed over, if it is.
    pub(crate) fn passed_over_for(&self) -> Option<Duration> {
        match self.shared.passed_over_until.load(Ordering::Relaxed) {
            0 => None,
            until => Duration::from_millis(until)
                .checked_sub(self.epoch.elapsed())
                .filter(|left| !left.is_zero()),
        }
    }
}
