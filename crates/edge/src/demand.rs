//! What is asked of services, from the request path to control.
//!
//! A request leaves a mark: on its instance and queue, which are its processor's own at that moment,
//! and on the service, once until the mark is taken. The control thread takes the marks, reads the
//! counters of the services that have one, and tells control what changed: soon, and at once when a
//! request has to wait where nobody waited.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use ekiden_model::{id::ServiceId, route::ServiceDemand};
use tokio::{sync::Notify, time::Instant};

use crate::publisher::Publisher;

/// Between two reports, unless a request has to wait.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_millis(25);

/// Between two reports when requests have to wait.
pub(crate) const URGENT_INTERVAL: Duration = Duration::from_millis(5);

/// Services in one report; more go into several.
pub(crate) const SERVICES_PER_REPORT_MAX: usize = 10_000;

/// Services have a mark by the first bits of their id; those that share one are looked at together.
const MARKS: usize = 1 << 16;

const CALM: u8 = 0;
const CHANGED: u8 = 1;
const URGENT: u8 = 2;

/// Which services have seen requests since it was last looked.
#[derive(Debug)]
pub(crate) struct Marks {
    words: Box<[AtomicU64]>,
    level: AtomicU8,
    raised: Notify,
}

impl Marks {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            words: (0..MARKS / 64).map(|_| AtomicU64::new(0)).collect(),
            level: AtomicU8::new(CALM),
            raised: Notify::new(),
        })
    }

    fn raise(&self, mark: u16, level: u8) {
        let (word, bit) = (usize::from(mark) / 64, mark % 64);
        if let Some(word) = self.words.get(word) {
            word.fetch_or(1 << bit, Ordering::SeqCst);
        }
        if self.level.fetch_max(level, Ordering::SeqCst) < level {
            self.raised.notify_one();
        }
    }

    /// Resolves when there is more to do, or sooner than it was; cancel-safe.
    pub(crate) async fn raised(&self) {
        self.raised.notified().await;
    }

    /// The marks that were set, which are not any more.
    fn take(&self) -> Vec<u16> {
        self.level.store(CALM, Ordering::SeqCst);
        let mut marks = Vec::new();
        for (index, word) in self.words.iter().enumerate() {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Ordering::SeqCst);
            while bits != 0 {
                marks.push((index * 64) as u16 + bits.trailing_zeros() as u16);
                bits &= bits - 1;
            }
        }
        marks
    }
}

/// The ids that have a mark.
pub(crate) fn marked(mark: u16) -> std::ops::RangeInclusive<ServiceId> {
    let first = u128::from(mark) << 112;
    let id = |bits: u128| ServiceId::from_bytes(bits.to_be_bytes());
    id(first)..=id(first | (u128::MAX >> 16))
}

/// By which an instance or a queue says that a request came or went.
#[derive(Debug)]
pub(crate) struct Signal {
    marks: Arc<Marks>,
    mark: u16,
}

impl Signal {
    pub(crate) fn new(marks: &Arc<Marks>, service: ServiceId) -> Self {
        Self {
            marks: Arc::clone(marks),
            mark: (service.bits() >> 112) as u16,
        }
    }

    /// Marks the service unless `told` says that it is marked. Call it after the count has changed,
    /// with sequential consistency: whoever takes the mark clears `told` before it reads the count.
    pub(crate) fn touch(&self, told: &AtomicBool) {
        if !told.load(Ordering::SeqCst) {
            self.raise(told);
        }
    }

    #[cold]
    fn raise(&self, told: &AtomicBool) {
        if !told.swap(true, Ordering::SeqCst) {
            self.marks.raise(self.mark, CHANGED);
        }
    }

    /// A request has to wait where nobody waited.
    pub(crate) fn urge(&self, told: &AtomicBool) {
        told.store(true, Ordering::SeqCst);
        self.marks.raise(self.mark, URGENT);
    }
}

/// What one connection to control was told.
#[derive(Debug)]
pub(crate) struct Reporter {
    /// Services that were told to be asked for anything.
    told: HashMap<ServiceId, ServiceDemand>,
    /// Those of them whose requests may have been over when they were told: to be looked at again
    /// without a mark.
    passed: HashSet<ServiceId>,
    whole: bool,
    last: Option<Instant>,
}

impl Reporter {
    pub(crate) fn new() -> Self {
        Self {
            told: HashMap::new(),
            passed: HashSet::new(),
            whole: false,
            last: None,
        }
    }

    /// Has services looked at again without a mark: they, or their instances, left the table.
    pub(crate) fn look_at(&mut self, services: impl Iterator<Item = ServiceId>) {
        let told = services.filter(|service| self.told.contains_key(service));
        self.passed.extend(told);
    }

    /// When there is something to report.
    pub(crate) fn due(&self, marks: &Marks) -> Option<Instant> {
        let after = |interval| self.last.map_or_else(Instant::now, |last| last + interval);
        match marks.level.load(Ordering::SeqCst) {
            URGENT => Some(after(URGENT_INTERVAL)),
            CALM if self.whole && self.passed.is_empty() => None,
            _ => Some(after(REPORT_INTERVAL)),
        }
    }

    /// What changed; whether that is the whole.
    pub(crate) fn report(
        &mut self,
        marks: &Marks,
        publisher: &Publisher,
    ) -> (bool, Vec<ServiceDemand>) {
        self.last = Some(Instant::now());
        let whole = !std::mem::replace(&mut self.whole, true);
        let mut look: HashMap<ServiceId, bool> = HashMap::new();
        if whole {
            look.extend(publisher.services().map(|service| (service, false)));
        }
        look.extend(self.passed.drain().map(|service| (service, false)));
        for mark in marks.take() {
            look.extend(publisher.marked(mark).map(|service| (service, true)));
        }
        let mut news = Vec::new();
        for (service, marked) in look {
            let touched = publisher.take_marks(service);
            let (mut in_flight, queued) = publisher.demand(service);
            if marked && touched && in_flight == 0 && queued == 0 {
                in_flight = 1;
                self.passed.insert(service);
            }
            let now = ServiceDemand {
                service,
                in_flight,
                queued,
            };
            let before = match (in_flight, queued) {
                (0, 0) => self.told.remove(&service),
                _ => self.told.insert(service, now),
            };
            let nothing = ServiceDemand {
                service,
                in_flight: 0,
                queued: 0,
            };
            if before.unwrap_or(nothing) != now {
                news.push(now);
            }
        }
        (whole, news)
    }
}
