//! What became of the requests of every service, as the edges tell.
//!
//! In memory: it begins anew with the control plane. Edges tell what was not told yet, so that one
//! that is restarted adds to what its predecessor has told.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ekiden_model::{
    histogram::Histogram, id::ServiceId, request_counts::RequestCounts, route::ServiceCounts,
    time::Timestamp,
};

/// Minutes of which what was told is kept until it is taken; of more, the oldest is lost.
const MINUTES_MAX: usize = 5;

/// In milliseconds.
const MINUTE: u64 = 60_000;

/// The sums.
#[derive(Debug)]
pub(crate) struct Traffic {
    since: Timestamp,
    sums: Mutex<Sums>,
}

#[derive(Debug, Default)]
struct Sums {
    all: RequestCounts,
    /// Requests that led to no service.
    unrouted: RequestCounts,
    /// Only of services that have a route.
    services: HashMap<ServiceId, RequestCounts>,
    /// What was not taken yet, by minute, of services that have a route and of no service.
    minutes: BTreeMap<u64, HashMap<Option<ServiceId>, ToldInterval>>,
    /// Minutes that nobody took in time.
    minutes_lost: u64,
    /// When an edge last told of a request.
    told_at: Timestamp,
}

/// What edges told since it was last taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Merged by service and minute, in the order of the minutes.
    pub(crate) intervals: Vec<ToldInterval>,
    /// Minutes that were lost, because nobody took them in time.
    pub(crate) minutes_lost: u64,
    /// When an edge last told of a request, taken now or before.
    pub(crate) at: Timestamp,
}

/// What edges told of one service's requests in one minute, or of requests that led to none. It may
/// be a part of what there is to be told of the minute: parts add up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ToldInterval {
    /// When the minute began, in milliseconds since the Unix epoch.
    pub(crate) minute_ms: u64,
    pub(crate) service: Option<ServiceId>,
    pub(crate) counts: RequestCounts,
    /// In microseconds, as everything below that is a time; see [`ServiceCounts`].
    pub(crate) latency: Histogram,
    /// How long requests waited for an instance with room, of those that waited.
    pub(crate) queued: Histogram,
    /// The same of those whose service had no instance when they began to wait.
    pub(crate) cold: Histogram,
    /// The most requests that instances held at once, by what one edge has told.
    pub(crate) concurrency_max: u32,
    /// The requests that instances held at the end of each second, added up: by 60 it is the
    /// average of requests that are longer than a second. Of shorter ones it is the sum of `latency`
    /// by 60,000,000.
    pub(crate) in_flight_sum: u64,
}

impl ToldInterval {
    fn add(&mut self, told: &ServiceCounts) {
        self.counts.add(&told.counts);
        self.latency.add(&told.latency);
        self.queued.add(&told.queued);
        self.cold.add(&told.cold);
        self.concurrency_max = self.concurrency_max.max(told.concurrency_max);
        self.in_flight_sum = self.in_flight_sum.saturating_add(told.in_flight.into());
    }

    /// Adds another part of the same minute.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.latency.add(&other.latency);
        self.queued.add(&other.queued);
        self.cold.add(&other.cold);
        self.concurrency_max = self.concurrency_max.max(other.concurrency_max);
        self.in_flight_sum = self.in_flight_sum.saturating_add(other.in_flight_sum);
    }
}

impl Traffic {
    /// None yet.
    pub(crate) fn new(since: Timestamp) -> Self {
        let sums = Mutex::default();
        Self { since, sums }
    }

    /// When counting began.
    pub(crate) fn since(&self) -> Timestamp {
        self.since
    }

    /// Adds what an edge has told. What it says of a service that has no route any more counts for
    /// the whole only. What is told without a time, or of one to come, is of `now`.
    pub(crate) fn add(
        &self,
        told: &[ServiceCounts],
        has_route: impl Fn(ServiceId) -> bool,
        now: Timestamp,
    ) {
        let mut sums = self.sums();
        if !told.is_empty() {
            sums.told_at = now;
        }
        for one in told {
            sums.all.add(&one.counts);
            match one.service {
                None => sums.unrouted.add(&one.counts),
                Some(id) if has_route(id) => {
                    sums.services.entry(id).or_default().add(&one.counts);
                }
                Some(_) => continue,
            }
            let at = one.at.unwrap_or(now).min(now).as_millis();
            sums.add_to_minute(at - at % MINUTE, one);
        }
    }

    /// What was told since it was last taken.
    pub(crate) fn take_told(&self) -> Told {
        let mut sums = self.sums();
        let minutes_lost = std::mem::take(&mut sums.minutes_lost);
        let minutes = std::mem::take(&mut sums.minutes);
        let at = sums.told_at;
        drop(sums);
        let intervals = minutes.into_values().flat_map(HashMap::into_values);
        Told {
            intervals: intervals.collect(),
            minutes_lost,
            at,
        }
    }

    /// Forgets a service that has no route any more.
    pub(crate) fn forget(&self, service: ServiceId) {
        self.sums().services.remove(&service);
    }

    /// Of all requests, and of those that led to no service.
    pub(crate) fn whole(&self) -> (RequestCounts, RequestCounts) {
        let sums = self.sums();
        (sums.all.clone(), sums.unrouted.clone())
    }

    /// Of one service's requests.
    pub(crate) fn of(&self, service: ServiceId) -> RequestCounts {
        let sums = self.sums();
        sums.services.get(&service).cloned().unwrap_or_default()
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sums {
    fn add_to_minute(&mut self, minute_ms: u64, told: &ServiceCounts) {
        let services = self.minutes.entry(minute_ms).or_default();
        let interval = services
            .entry(told.service)
            .or_insert_with(|| ToldInterval {
                minute_ms,
                service: told.service,
                ..ToldInterval::default()
            });
        interval.add(told);
        if self.minutes.len() > MINUTES_MAX {
            self.minutes.pop_first();
            self.minutes_lost += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(service: Option<ServiceId>, answered: u64) -> ServiceCounts {
        let counts = RequestCounts {
            answered: [0, answered, 0, 0, 0],
            ..RequestCounts::default()
        };
        ServiceCounts {
            service,
            counts,
            ..ServiceCounts::default()
        }
    }

    fn told_at(at: u64, latency: u64, concurrency_max: u32) -> ServiceCounts {
        let mut one = told(None, 1);
        one.at = Some(Timestamp::from_millis(at));
        one.latency.record(latency);
        (one.concurrency_max, one.in_flight) = (concurrency_max, 1);
        one
    }

    #[test]
    fn what_was_told_is_taken_once_by_service_and_minute() {
        let traffic = Traffic::new(Timestamp::default());
        let [here, gone] = [1, 2].map(|n| ServiceId::from_bytes([n; 16]));
        let now = Timestamp::from_millis(150_000);
        let message = [
            told_at(59_999, 10, 2),
            told_at(0, 30, 5),
            told_at(60_000, 7, 1),
            // A clock that is ahead.
            told_at(1 << 50, 8, 1),
            // An edge that says no time.
            told(Some(here), 3),
            told(Some(gone), 4),
        ];
        traffic.add(&message, |id| id == here, now);
        let Told {
            intervals,
            minutes_lost,
            at,
        } = traffic.take_told();
        let of = |minute_ms, service| {
            let mut found = intervals.iter();
            found.find(|one| (one.minute_ms, one.service) == (minute_ms, service))
        };
        let first = of(0, None).unwrap();
        assert_eq!((first.counts.requests(), first.latency.sum), (2, 40));
        assert_eq!((first.concurrency_max, first.in_flight_sum), (5, 2));
        assert_eq!(of(60_000, None).unwrap().latency.sum, 7);
        assert_eq!(of(120_000, None).unwrap().latency.sum, 8);
        assert_eq!(of(120_000, Some(here)).unwrap().counts.requests(), 3);
        assert_eq!((intervals.len(), minutes_lost, at), (4, 0, now));
        traffic.add(&[], |_| true, Timestamp::from_millis(160_000));
        let nothing = Told {
            at: now,
            ..Told::default()
        };
        assert_eq!(traffic.take_told(), nothing);
    }

    #[test]
    fn of_minutes_that_nobody_takes_the_oldest_are_lost() {
        let traffic = Traffic::new(Timestamp::default());
        let now = Timestamp::from_millis(100 * MINUTE);
        for minute in [3, 9, 4, 5, 6, 7, 8, 1] {
            traffic.add(&[told_at(minute * MINUTE, 1, 1)], |_| true, now);
        }
        let told = traffic.take_told();
        let minutes = told.intervals.iter().map(|one| one.minute_ms / MINUTE);
        let minutes: Vec<_> = minutes.collect();
        assert_eq!((minutes, told.minutes_lost), (vec![5, 6, 7, 8, 9], 3));
    }

    #[test]
    fn edges_add_up_and_what_has_no_route_counts_for_the_whole_only() {
        let [here, gone] = [1, 2].map(|n| ServiceId::from_bytes([n; 16]));
        let traffic = Traffic::new(Timestamp::default());
        let message = [told(None, 1), told(Some(here), 10), told(Some(gone), 100)];
        for _edge in 0..2 {
            traffic.add(&message, |id| id == here, Timestamp::default());
        }
        let (all, unrouted) = traffic.whole();
        assert_eq!((all.requests(), unrouted.requests()), (222, 2));
        assert_eq!(traffic.of(here).requests(), 20);
        assert_eq!(traffic.of(gone).requests(), 0);
        traffic.forget(here);
        assert_eq!(traffic.of(here).requests(), 0);
        assert_eq!(traffic.whole().0.requests(), 222);
    }
}
