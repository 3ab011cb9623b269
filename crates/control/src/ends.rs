//! Ends of instances, noted as they are seen: before whoever removes their records can know of them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ekiden_engine::Observation;
use ekiden_model::{
    alert,
    id::{InstanceId, ServiceId},
    instance::{Exit, InstanceState},
    time::Timestamp,
};

/// Ends that are remembered of one service.
const OF_SERVICE_MAX: usize = 2 * alert::CRASHES_MIN;

/// Ends that wait for being told of in their services' logs; of more, the oldest are not.
const UNTOLD_MAX: usize = 1000;

/// An instance that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) service: ServiceId,
    pub(crate) instance: InstanceId,
    pub(crate) exit: Exit,
}

/// What ended since the control plane started, and what it found ended.
#[derive(Debug, Default)]
pub(crate) struct Ends(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    in_sight: HashSet<InstanceId>,
    /// When the instances of services ended by themselves.
    of_services: HashMap<ServiceId, VecDeque<Timestamp>>,
    untold: VecDeque<Ended>,
}

impl Ends {
    /// Notes instances that have ended. They stay in sight until they are removed.
    pub(crate) fn note(&self, seen: &Observation) {
        if !seen.current {
            return;
        }
        let mut state = self.lock();
        let mut in_sight = HashSet::new();
        for instance in seen.instances.iter().filter(|one| !one.builds) {
            let InstanceState::Exited(exit) = &instance.state else {
                continue;
            };
            in_sight.insert(instance.id);
            if state.in_sight.contains(&instance.id) {
                continue;
            }
            state.untold.push_back(Ended {
                service: instance.service,
                instance: instance.id,
                exit: exit.clone(),
            });
            if exit.stopped_for.is_some() {
                continue;
            }
            let of_service = state.of_services.entry(instance.service).or_default();
            of_service.push_back(exit.at);
            if of_service.len() > OF_SERVICE_MAX {
                of_service.pop_front();
            }
        }
        state.in_sight = in_sight;
        let too_many = state.untold.len().saturating_sub(UNTOLD_MAX);
        state.untold.drain(..too_many);
    }

    /// What is to be told of. Whoever could not gives it back.
    pub(crate) fn take_untold(&self) -> VecDeque<Ended> {
        std::mem::take(&mut self.lock().untold)
    }

    /// Takes back what could not be told of.
    pub(crate) fn put_back(&self, mut untold: VecDeque<Ended>) {
        let mut state = self.lock();
        untold.append(&mut state.untold);
        let too_many = untold.len().saturating_sub(UNTOLD_MAX);
        untold.drain(..too_many);
        state.untold = untold;
    }

    /// When instances of a service ended by themselves; the newest. `None` when none has.
    pub(crate) fn of_service(&self, service: ServiceId) -> Option<Vec<Timestamp>> {
        let state = self.lock();
        let ends = state.of_services.get(&service)?;
        Some(ends.iter().copied().collect())
    }

    /// Forgets services that are gone.
    pub(crate) fn retain(&self, services: &HashSet<ServiceId>) {
        self.lock()
            .of_services
            .retain(|id, _| services.contains(id));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
