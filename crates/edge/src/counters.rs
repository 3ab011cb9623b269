//! Counting requests that are over: in all, by class of status, by cause, by how long they took and
//! waited; and how many there are at once.
//!
//! The workers count, the control thread takes the counts away and tells control of them. A request
//! costs a few additions without a lock.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use ekiden_model::{histogram::Histogram, request_counts::RequestCounts, route::ServiceCounts};

use crate::{
    cause::{CAUSES, Cause},
    distribution::Distribution,
};

/// 1xx to 5xx.
const CLASSES: usize = 5;

/// One service's, or those of the requests that lead to none. Shared by all workers.
///
/// Alone in its cache lines: what is next to it is not slowed down.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Counters {
    answered: [AtomicU64; CLASSES],
    unanswered: AtomicU64,
    causes: [AtomicU64; CAUSES],
    /// Requests that instances hold, and the most that they held at once.
    in_flight: AtomicU32,
    in_flight_max: AtomicU32,
    /// In microseconds; each with the first request that has one.
    latency: OnceLock<Box<Distribution>>,
    queued: OnceLock<Box<Distribution>>,
    cold: OnceLock<Box<Distribution>>,
}

/// A request's wait for an instance with room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waited {
    pub(crate) time: Duration,
    /// Whether its service had no instance when it began to wait.
    pub(crate) cold: bool,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            answered: [const { AtomicU64::new(0) }; CLASSES],
            unanswered: AtomicU64::new(0),
            causes: [const { AtomicU64::new(0) }; CAUSES],
            in_flight: AtomicU32::new(0),
            in_flight_max: AtomicU32::new(0),
            latency: OnceLock::new(),
            queued: OnceLock::new(),
            cold: OnceLock::new(),
        }
    }
}

impl Counters {
    /// Counts a request: the status that its client was sent, if it was, and why the edge answered
    /// or gave up, if it did.
    pub(crate) fn count(&self, status: Option<u16>, cause: Option<Cause>) {
        if let Some(cause) = cause {
            self.causes[cause as usize].fetch_add(1, Ordering::Relaxed);
        }
        let counter = match status {
            // What is beyond 5xx is read as that (RFC 9110, section 15).
            Some(status) => &self.answered[usize::from(status / 100).clamp(1, CLASSES) - 1],
            None => &self.unanswered,
        };
        // Whoever takes this takes its cause too: see `take`.
        counter.fetch_add(1, Ordering::Release);
    }

    /// Counts how long a request took and waited; before it is counted itself.
    pub(crate) fn time(&self, took: Duration, waited: Option<Waited>) {
        record(&self.latency, took);
        if let Some(Waited { time, cold }) = waited {
            record(&self.queued, time);
            if cold {
                record(&self.cold, time);
            }
        }
    }

    /// An instance holds one request more.
    pub(crate) fn enter(&self) {
        let in_flight = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        if in_flight > self.in_flight_max.load(Ordering::SeqCst) {
            self.in_flight_max.fetch_max(in_flight, Ordering::SeqCst);
        }
    }

    /// An instance holds one request less.
    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Takes what was counted since the last time, without whose it is and when; `None` if nothing
    /// was, and no instance held a request. The cause and the times of a request that is counted at
    /// this moment may be taken before it, never after it.
    pub(crate) fn take(&self) -> Option<ServiceCounts> {
        let concurrency_max = match self.in_flight_max.load(Ordering::SeqCst) {
            0 => 0,
            _ => self.in_flight_max.swap(0, Ordering::SeqCst),
        };
        // Those that are there are so in what begins now too. Whoever enters from here on counts
        // itself.
        let in_flight = self.in_flight.load(Ordering::SeqCst);
        if in_flight > 0 {
            self.in_flight_max.fetch_max(in_flight, Ordering::SeqCst);
        }
        let counts = self.take_counts();
        if counts.is_none() && concurrency_max == 0 && in_flight == 0 {
            return None;
        }
        let times = |of: &OnceLock<Box<Distribution>>| match (&counts, of.get()) {
            (Some(_), Some(distribution)) => distribution.take(),
            _ => Histogram::default(),
        };
        Some(ServiceCounts {
            latency: times(&self.latency),
            queued: times(&self.queued),
            cold: times(&self.cold),
            concurrency_max: concurrency_max.max(in_flight),
            in_flight,
            counts: counts.unwrap_or_default(),
            ..ServiceCounts::default()
        })
    }

    fn take_counts(&self) -> Option<RequestCounts> {
        let mut counts = RequestCounts {
            unanswered: take(&self.unanswered),
            ..RequestCounts::default()
        };
        for (count, counter) in counts.answered.iter_mut().zip(&self.answered) {
            *count = take(counter);
        }
        if counts.requests() == 0 {
            return None;
        }
        for (cause, counter) in Cause::ALL.iter().zip(&self.causes) {
            let count = take(counter);
            if count > 0 {
                counts.causes.insert(cause.name().to_owned(), count);
            }
        }
        Some(counts)
    }
}

fn record(of: &OnceLock<Box<Distribution>>, time: Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    of.get_or_init(Box::default).record(micros);
}

fn take(counter: &AtomicU64) -> u64 {
    // Most are zero, and reading leaves the line with whoever counts.
    match counter.load(Ordering::Acquire) {
        0 => 0,
        _ => counter.swap(0, Ordering::Acquire),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, thread};

    use super::*;

    #[test]
    fn a_request_is_counted_once_by_its_status_and_once_by_its_cause() {
        let counters = Counters::default();
        for status in [101, 200, 204, 308, 499, 500, 599, 700, 999] {
            counters.count(Some(status), None);
        }
        for cause in Cause::ALL {
            counters.count(Some(cause.status()), Some(*cause));
        }
        counters.count(None, Some(Cause::ClientLeft));
        let counts = counters.take().unwrap().counts;
        let by_class = |class| {
            let of = |cause: &&Cause| cause.status() / 100 == class;
            Cause::ALL.iter().filter(of).count() as u64
        };
        assert_eq!(
            counts.answered,
            [1, 2, 1 + by_class(3), 1 + by_class(4), 4 + by_class(5)]
        );
        assert_eq!(
            (counts.unanswered, counts.requests()),
            (1, 10 + CAUSES as u64)
        );
        let causes: BTreeMap<_, _> = Cause::ALL
            .iter()
            .map(|cause| {
                (
                    cause.name().to_owned(),
                    1 + u64::from(*cause == Cause::ClientLeft),
                )
            })
            .collect();
        assert_eq!(counts.causes, causes);
        assert_eq!(counters.take(), None);
    }

    #[test]
    fn times_are_taken_with_the_requests_and_waits_only_of_those_that_waited() {
        let counters = Counters::default();
        let waited = |micros, cold| {
            Some(Waited {
                time: Duration::from_micros(micros),
                cold,
            })
        };
        for (took, waited) in [
            (7, None),
            (900, waited(800, false)),
            (5000, waited(4000, true)),
        ] {
            counters.time(Duration::from_micros(took), waited);
            counters.count(Some(200), None);
        }
        let taken = counters.take().unwrap();
        assert_eq!((taken.latency.count, taken.latency.sum), (3, 5907));
        assert_eq!((taken.queued.count, taken.queued.sum), (2, 4800));
        assert_eq!((taken.cold.count, taken.cold.max), (1, 4000));
        assert_eq!(counters.take(), None);
    }

    #[test]
    fn the_most_at_once_begins_with_those_that_are_there() {
        let counters = Counters::default();
        let taken = || {
            let taken = counters.take();
            taken.map(|taken| (taken.concurrency_max, taken.in_flight))
        };
        assert_eq!(taken(), None);
        (0..3).for_each(|_| counters.enter());
        (0..2).for_each(|_| counters.leave());
        assert_eq!(taken(), Some((3, 1)));
        assert_eq!(taken(), Some((1, 1)));
        counters.leave();
        assert_eq!(taken(), Some((1, 0)));
        assert_eq!(taken(), None);
    }

    #[test]
    fn what_is_counted_while_counts_are_taken_is_not_lost() {
        const EACH: u64 = 50_000;
        let counters = Counters::default();
        let mut sum = RequestCounts::default();
        let add = |sum: &mut RequestCounts| {
            let taken = counters.take();
            taken.iter().for_each(|taken| sum.add(&taken.counts));
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        (0..EACH).for_each(|_| counters.count(Some(503), Some(Cause::QueueFull)));
                    })
                })
                .collect();
            while workers.iter().any(|worker| !worker.is_finished()) {
                add(&mut sum);
            }
        });
        add(&mut sum);
        assert_eq!(sum.requests(), 2 * EACH);
        assert_eq!(sum.causes["queue_full"], 2 * EACH);
    }
}
