//! What became of the requests of every service, as the edges tell.
//!
//! In memory: it begins anew with the control plane. Edges tell what was not told yet, so that one
//! that is restarted adds to what its predecessor has told.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ekiden_model::{
    id::ServiceId, request_counts::RequestCounts, route::ServiceCounts, time::Timestamp,
};

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
    /// the whole only.
    pub(crate) fn add(&self, told: &[ServiceCounts], has_route: impl Fn(ServiceId) -> bool) {
        let mut sums = self.sums();
        for ServiceCounts { service, counts } in told {
            sums.all.add(counts);
            match service {
                None => sums.unrouted.add(counts),
                Some(id) if has_route(*id) => sums.services.entry(*id).or_default().add(counts),
                Some(_) => {}
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(service: Option<ServiceId>, answered: u64) -> ServiceCounts {
        let counts = RequestCounts {
            answered: [0, answered, 0, 0, 0],
            ..RequestCounts::default()
        };
        ServiceCounts { service, counts }
    }

    #[test]
    fn edges_add_up_and_what_has_no_route_counts_for_the_whole_only() {
        let [here, gone] = [1, 2].map(|n| ServiceId::from_bytes([n; 16]));
        let traffic = Traffic::new(Timestamp::default());
        let message = [told(None, 1), told(Some(here), 10), told(Some(gone), 100)];
        for _edge in 0..2 {
            traffic.add(&message, |id| id == here);
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
