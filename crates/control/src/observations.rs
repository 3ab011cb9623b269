//! What the engine has, sorted by service.
//!
//! The engine tells everything it has as one value. Each service's worker waits for its own part
//! only; a part that no worker waits for belongs to a service that is gone, and is removed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use ekiden_engine::Observation;
use ekiden_model::{
    id::{InstanceId, ServiceId},
    instance::InstanceObservation,
};
use tokio::sync::watch;

/// One service's part of what the engine has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServiceObservation {
    /// Whether the engine answers.
    pub(crate) current: bool,
    /// The service's instances that have not been removed.
    pub(crate) instances: Vec<InstanceObservation>,
}

/// The parts, and who waits for them.
#[derive(Debug, Default)]
pub(crate) struct Observations {
    parts: Mutex<Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    whole: Arc<Observation>,
    by_service: HashMap<ServiceId, watch::Sender<ServiceObservation>>,
}

impl Observations {
    /// Begins to tell a service's part to its worker.
    pub(crate) fn subscribe(&self, service: ServiceId) -> watch::Receiver<ServiceObservation> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = Arc::clone(&parts.whole);
        let sender = parts.by_service.entry(service).or_insert_with(|| {
            let instances = whole
                .instances
                .iter()
                .filter(|i| i.service == service && !i.builds)
                .cloned()
                .collect();
            watch::Sender::new(ServiceObservation {
                current: whole.current,
                instances,
            })
        });
        sender.subscribe()
    }

    /// Stops telling: the service is gone.
    pub(crate) fn forget(&self, service: ServiceId) {
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .by_service
            .remove(&service);
    }

    /// Everything, as it was last told.
    pub(crate) fn whole(&self) -> Arc<Observation> {
        Arc::clone(
            &self
                .parts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .whole,
        )
    }

    /// Takes in what the engine has now; wakes the workers whose part changed. Answers the
    /// instances of services that nobody waits for.
    pub(crate) fn update(&self, whole: Observation) -> Vec<InstanceId> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut parts.whole, Arc::new(whole));
        let whole = Arc::clone(&parts.whole);
        let mut changed: BTreeMap<ServiceId, Vec<InstanceObservation>> =
            match before.current == whole.current {
                true => differing(&before.instances, &whole.instances),
                false => parts.by_service.keys().copied().collect(),
            }
            .into_iter()
            .map(|service| (service, Vec::new()))
            .collect();
        let mut strays = Vec::new();
        for instance in &whole.instances {
            if let Some(part) = changed
                .get_mut(&instance.service)
                .filter(|_| !instance.builds)
            {
                part.push(instance.clone());
            }
            if whole.current && !parts.by_service.contains_key(&instance.service) {
                strays.push(instance.id);
            }
        }
        for (service, instances) in changed {
            let Some(sender) = parts.by_service.get(&service) else {
                continue;
            };
            sender.send_replace(ServiceObservation {
                current: whole.current,
                instances,
            });
        }
        strays
    }
}

/// The services whose instances are not as they were; both lists are in the order of ids.
fn differing(before: &[InstanceObservation], now: &[InstanceObservation]) -> BTreeSet<ServiceId> {
    let (mut before, mut now) = (before.iter().peekable(), now.iter().peekable());
    let mut differing = BTreeSet::new();
    loop {
        let (old, new) = match (before.peek(), now.peek()) {
            (None, None) => return differing,
            (Some(old), Some(new)) if old.id == new.id => (before.next(), now.next()),
            (Some(old), Some(new)) if old.id < new.id => (before.next(), None),
            (Some(_), None) => (before.next(), None),
            (_, Some(_)) => (None, now.next()),
        };
        if old != new {
            let services = [old, new].into_iter().flatten();
            differing.extend(services.map(|instance| instance.service));
        }
    }
}

#[cfg(test)]
mod tests {
    use ekiden_model::{
        instance::{Activity, InstanceState, RevisionNumber},
        time::Timestamp,
    };

    use super::*;

    fn instance(service: u8, id: u8) -> InstanceObservation {
        InstanceObservation {
            id: InstanceId::from_bytes([id; 16]),
            service: ServiceId::from_bytes([service; 16]),
            revision: RevisionNumber(1),
            created_at: Timestamp::from_millis(0),
            state: InstanceState::Creating,
            activity: Activity::Active,
            builds: false,
        }
    }

    #[test]
    fn a_worker_is_woken_by_its_own_part_only_and_strays_are_told() {
        let observations = Observations::default();
        let mut one = observations.subscribe(ServiceId::from_bytes([1; 16]));
        let two = observations.subscribe(ServiceId::from_bytes([2; 16]));
        let whole = |instances| Observation {
            current: true,
            instances,
        };
        observations.update(whole(vec![instance(1, 1)]));
        assert!(one.has_changed().expect("the sender lives"));
        assert_eq!(one.borrow_and_update().instances.len(), 1);
        let strays = observations.update(whole(vec![instance(1, 1), instance(3, 9)]));
        assert!(!one.has_changed().expect("the sender lives"));
        assert_eq!(strays, [InstanceId::from_bytes([9; 16])]);
        assert!(two.borrow().current);
    }

    #[test]
    fn nothing_is_a_stray_while_the_engine_does_not_answer() {
        let observations = Observations::default();
        let whole = Observation {
            current: false,
            instances: vec![instance(1, 1)],
        };
        assert!(observations.update(whole).is_empty());
    }
}
