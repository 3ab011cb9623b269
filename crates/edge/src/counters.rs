//! Counting requests that are over: in all, by class of status, by cause.
//!
//! The workers count, the control thread takes the counts away and tells control of them. A request
//! costs one addition without a lock, and one more if the edge answered or gave up.

use std::sync::atomic::{AtomicU64, Ordering};

use ekiden_model::request_counts::RequestCounts;

use crate::cause::{CAUSES, Cause};

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
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            answered: [const { AtomicU64::new(0) }; CLASSES],
            unanswered: AtomicU64::new(0),
            causes: [const { AtomicU64::new(0) }; CAUSES],
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

    /// Takes what was counted since the last time; `None` if nothing was. The cause of a request
    /// that is counted at this moment may be taken before it, never after it.
    pub(crate) fn take(&self) -> Option<RequestCounts> {
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
        let counts = counters.take().unwrap();
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
    fn what_is_counted_while_counts_are_taken_is_not_lost() {
        const EACH: u64 = 50_000;
        let counters = Counters::default();
        let mut sum = RequestCounts::default();
        thread::scope(|scope| {
            let workers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        (0..EACH).for_each(|_| counters.count(Some(503), Some(Cause::QueueFull)));
                    })
                })
                .collect();
            while workers.iter().any(|worker| !worker.is_finished()) {
                counters.take().iter().for_each(|counts| sum.add(counts));
            }
        });
        counters.take().iter().for_each(|counts| sum.add(counts));
        assert_eq!(sum.requests(), 2 * EACH);
        assert_eq!(sum.causes["queue_full"], 2 * EACH);
    }
}
