//! What is asked of services, as all edges together tell it.
//!
//! An edge that goes away may be one that is restarted: what it told counts for a while longer, and
//! as long as no other has told anything. Two lives of one edge are not added up.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ekiden_model::{id::ServiceId, route::ServiceDemand, scale::Demand};
use tokio::sync::watch;

/// How long what an edge told counts after it went away.
pub(crate) const DEMAND_KEPT: Duration = Duration::from_secs(10);

type Told = HashMap<ServiceId, Demand>;

/// What is asked of every service.
#[derive(Debug, Default)]
pub(crate) struct Demands(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Whether an edge has ever told everything.
    known: bool,
    connected: HashMap<u64, Told>,
    gone: HashMap<u64, Told>,
    services: HashMap<ServiceId, watch::Sender<Option<Demand>>>,
}

impl Demands {
    /// What is asked of a service, kept current; `None` until it is known.
    pub(crate) fn subscribe(&self, service: ServiceId) -> watch::Receiver<Option<Demand>> {
        let mut inner = self.lock();
        let now = inner.known.then(|| inner.total(service));
        let sender = inner.services.entry(service);
        sender
            .or_insert_with(|| watch::Sender::new(now))
            .subscribe()
    }

    /// What is asked of a service now; `None` until it is known.
    pub(crate) fn now(&self, service: ServiceId) -> Option<Demand> {
        let inner = self.lock();
        inner.known.then(|| inner.total(service))
    }

    /// Stops telling: the service is gone.
    pub(crate) fn forget(&self, service: ServiceId) {
        self.lock().services.remove(&service);
    }

    /// Takes in what an edge tells.
    pub(crate) fn told(&self, edge: u64, whole: bool, services: Vec<ServiceDemand>) {
        let mut inner = self.lock();
        let told = inner.connected.entry(edge).or_default();
        let mut changed: Vec<ServiceId> = services.iter().map(|one| one.service).collect();
        if whole {
            changed.extend(told.drain().map(|(service, _)| service));
        }
        for one in services {
            let demand = Demand {
                in_flight: one.in_flight,
                queued: one.queued,
            };
            match demand == Demand::default() {
                true => told.remove(&one.service),
                false => told.insert(one.service, demand),
            };
        }
        if !std::mem::replace(&mut inner.known, true) {
            changed = inner.services.keys().copied().collect();
        }
        inner.tell(changed);
    }

    /// An edge has gone away.
    pub(crate) fn leaves(&self, edge: u64) {
        let mut inner = self.lock();
        if let Some(told) = inner.connected.remove(&edge) {
            inner.gone.insert(edge, told);
        }
    }

    /// Forgets what an edge told that went away, unless no other has told anything since.
    pub(crate) fn forget_edge(&self, edge: u64) -> bool {
        let mut inner = self.lock();
        if inner.connected.is_empty() && inner.gone.contains_key(&edge) {
            return false;
        }
        if let Some(told) = inner.gone.remove(&edge) {
            inner.tell(told.into_keys());
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn total(&self, service: ServiceId) -> Demand {
        let of = |told: &Told| told.get(&service).copied().unwrap_or_default();
        let now = self.connected.values().map(of);
        let now = now.fold(Demand::default(), |sum, one| Demand {
            in_flight: sum.in_flight.saturating_add(one.in_flight),
            queued: sum.queued.saturating_add(one.queued),
        });
        let requests = |demand: &Demand| demand.in_flight.saturating_add(demand.queued);
        let before = self.gone.values().map(of).max_by_key(requests);
        match before {
            Some(before) if requests(&before) > requests(&now) => before,
            Some(_) | None => now,
        }
    }

    fn tell(&self, services: impl IntoIterator<Item = ServiceId>) {
        for service in services {
            let Some(sender) = self.services.get(&service) else {
                continue;
            };
            let now = Some(self.total(service));
            sender.send_if_modified(|demand| {
                let changed = *demand != now;
                *demand = now;
                changed
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: ServiceId = ServiceId::from_bytes([1; 16]);

    fn asked(in_flight: u32, queued: u32) -> Vec<ServiceDemand> {
        vec![ServiceDemand {
            service: WEB,
            in_flight,
            queued,
        }]
    }

    fn requests(web: &watch::Receiver<Option<Demand>>) -> Option<u32> {
        web.borrow().map(|demand| demand.in_flight + demand.queued)
    }

    #[test]
    fn edges_are_added_up_and_one_that_tells_the_whole_begins_anew() {
        let demands = Demands::default();
        let web = demands.subscribe(WEB);
        assert_eq!((requests(&web), demands.now(WEB)), (None, None));
        demands.told(1, true, vec![]);
        assert_eq!(requests(&web), Some(0));
        demands.told(1, false, asked(3, 1));
        demands.told(2, true, asked(2, 0));
        assert_eq!(requests(&web), Some(6));
        assert_eq!(demands.now(WEB), *web.borrow());
        demands.told(1, true, vec![]);
        assert_eq!(requests(&web), Some(2));
    }

    #[test]
    fn an_edge_that_went_away_counts_until_another_has_told() {
        let demands = Demands::default();
        let web = demands.subscribe(WEB);
        demands.told(1, true, asked(7, 0));
        demands.leaves(1);
        assert!(!demands.forget_edge(1), "nobody else has told anything");
        assert_eq!(requests(&web), Some(7));
        // Its successor has some of its requests already.
        demands.told(2, true, asked(2, 1));
        assert_eq!(requests(&web), Some(7));
        assert!(demands.forget_edge(1));
        assert_eq!(requests(&web), Some(3));
    }
}
