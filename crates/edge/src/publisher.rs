//! From control's messages to what the workers adopt: the whole table, what its services share
//! between workers and between tables, and the instances that have left it but still hold requests.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Weak},
    time::Instant,
};

use ekiden_model::{
    id::{InstanceId, ServiceId},
    route::{Generation, Route, ServiceCounts},
    time::Timestamp,
};
use tokio::sync::Notify;

use crate::{
    access_log::service_text,
    counters::Counters,
    demand::{self, Marks, Signal},
    ingress::Rules,
    instance::Instance,
    queue::Queue,
    routes::{SharedService, Update},
    sticky::Sessions,
};

/// The table, and the instances of it and of the tables before.
#[derive(Debug)]
pub(crate) struct Publisher {
    generation: Generation,
    sequence: u64,
    services: BTreeMap<ServiceId, Arc<SharedService>>,
    instances: HashMap<InstanceId, Arc<Instance>>,
    /// Each service's queue, as long as it is in the table or one of its requests is in flight: a
    /// slot taken before a service left and given back after it returned has to wake the queue of
    /// today.
    queues: HashMap<ServiceId, Weak<Queue>>,
    /// Each service's counters, until all that they have counted is taken.
    counters: HashMap<ServiceId, Arc<Counters>>,
    /// Those of requests that lead to no service.
    unrouted: Arc<Counters>,
    /// Instances that are in `instances` but in no service.
    retired: HashSet<InstanceId>,
    drained: Arc<Notify>,
    marks: Arc<Marks>,
    epoch: Instant,
    https_port: u16,
}

impl Publisher {
    /// An empty table. `drained` is told when a retired instance holds no request any more.
    pub(crate) fn new(drained: Arc<Notify>, https_port: u16) -> Self {
        Self {
            generation: Generation::default(),
            sequence: 0,
            services: BTreeMap::new(),
            instances: HashMap::new(),
            queues: HashMap::new(),
            counters: HashMap::new(),
            unrouted: Arc::default(),
            retired: HashSet::new(),
            drained,
            marks: Marks::new(),
            epoch: Instant::now(),
            https_port,
        }
    }

    /// The generation of the table.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// The counters of requests that lead to no service.
    pub(crate) fn unrouted(&self) -> &Arc<Counters> {
        &self.unrouted
    }

    /// Takes what was counted since the last time, as of a moment.
    pub(crate) fn take_counts(&mut self, at: Timestamp) -> Vec<ServiceCounts> {
        let of = |service, counters: &Counters| {
            let counts = counters.take()?;
            Some(ServiceCounts {
                service,
                at: Some(at),
                ..counts
            })
        };
        let mut taken: Vec<_> = of(None, &self.unrouted).into_iter().collect();
        self.counters.retain(|id, counters| {
            // Nobody else's: the service has left, and the last of its requests is counted.
            let is_left = Arc::get_mut(counters).is_some();
            taken.extend(of(Some(*id), counters));
            !is_left
        });
        taken
    }

    /// Every route, in the order of the services' ids.
    pub(crate) fn routes(&self) -> Vec<&Route> {
        let services = self.services.values();
        services.map(|service| &service.route).collect()
    }

    /// Where requests leave their marks.
    pub(crate) fn marks(&self) -> Arc<Marks> {
        Arc::clone(&self.marks)
    }

    /// Every service in the table.
    pub(crate) fn services(&self) -> impl Iterator<Item = ServiceId> {
        self.services.keys().copied()
    }

    /// The services in the table that have a mark.
    pub(crate) fn marked(&self, mark: u16) -> impl Iterator<Item = ServiceId> {
        let marked = self.services.range(demand::marked(mark));
        marked.map(|(service, _)| *service)
    }

    /// Whether a service has had a request since this was last asked; its demand is to be read
    /// after it.
    pub(crate) fn take_marks(&self, service: ServiceId) -> bool {
        let Some(service) = self.services.get(&service) else {
            return false;
        };
        let instances = service.instances.iter();
        let marked = instances.filter(|instance| instance.take_mark()).count();
        service.queue.take_mark() || marked > 0
    }

    /// Requests that the instances of a service in the table hold, and that wait for one.
    pub(crate) fn demand(&self, service: ServiceId) -> (u32, u32) {
        let Some(service) = self.services.get(&service) else {
            return (0, 0);
        };
        let held = service
            .instances
            .iter()
            .map(|instance| instance.in_flight());
        (held.sum(), service.queue.waiting() as u32)
    }

    /// Replaces the whole table. Only what differs is for the workers to adopt: a restarted control
    /// repeats a table of many services, and no request should have to wait for that.
    pub(crate) fn table(&mut self, generation: Generation, routes: Vec<Route>) -> Update {
        let named: HashSet<_> = routes.iter().map(|route| route.service).collect();
        let remove = self
            .services
            .keys()
            .filter(|id| !named.contains(id))
            .copied()
            .collect();
        let changed = |route: &Route| {
            self.services
                .get(&route.service)
                .is_none_or(|service| service.route != *route)
        };
        let set = routes.into_iter().filter(changed).collect();
        self.change(generation, set, remove)
    }

    /// Changes some of the table.
    pub(crate) fn change(
        &mut self,
        generation: Generation,
        set: Vec<Route>,
        remove: Vec<ServiceId>,
    ) -> Update {
        self.generation = generation;
        self.sequence += 1;
        let left: Vec<_> = set
            .iter()
            .map(|route| &route.service)
            .chain(&remove)
            .filter_map(|id| self.services.get(id))
            .flat_map(|service| service.instances.iter().map(|instance| instance.id))
            .collect();
        for instance in &left {
            self.retire(*instance);
        }
        for id in &remove {
            self.services.remove(id);
        }
        if !remove.is_empty() {
            self.queues.retain(|_, queue| queue.strong_count() > 0);
        }
        let set = set.into_iter().map(|route| self.set(route)).collect();
        Update {
            sequence: self.sequence,
            set,
            remove,
        }
    }

    /// Instances that left the table but hold requests; forgets those that hold none.
    ///
    /// Only after every worker has adopted the last update: until then one may still choose an
    /// instance that has left.
    pub(crate) fn draining(&mut self) -> Vec<InstanceId> {
        let instances = &mut self.instances;
        self.retired.retain(|id| {
            let holds_requests = instances
                .get(id)
                .is_some_and(|instance| instance.in_flight() > 0);
            if !holds_requests {
                instances.remove(id);
            }
            holds_requests
        });
        let mut draining: Vec<_> = self.retired.iter().copied().collect();
        draining.sort();
        draining
    }

    fn set(&mut self, route: Route) -> Arc<SharedService> {
        let known = self.queues.get(&route.service).and_then(Weak::upgrade);
        let signal = || Signal::new(&self.marks, route.service);
        let queue = known.unwrap_or_else(|| Arc::new(Queue::new(signal())));
        self.queues.insert(route.service, Arc::downgrade(&queue));
        let counters = Arc::clone(self.counters.entry(route.service).or_default());
        let instances = route
            .upstreams
            .iter()
            .map(|upstream| {
                let instance = self.instances.entry(upstream.instance).or_insert_with(|| {
                    Arc::new(Instance::new(
                        upstream.instance,
                        upstream.revision,
                        Arc::clone(&self.drained),
                        self.epoch,
                        signal(),
                    ))
                });
                instance.retire(false);
                self.retired.remove(&upstream.instance);
                Arc::clone(instance)
            })
            .collect();
        let id = route.service;
        let service = Arc::new(SharedService {
            rules: Rules::of(&route, self.https_port),
            sessions: Sessions::of(&route),
            log_text: service_text(&route),
            route,
            queue,
            counters,
            instances,
        });
        self.services.insert(id, Arc::clone(&service));
        service
    }

    fn retire(&mut self, id: InstanceId) {
        if let Some(instance) = self.instances.get(&id) {
            instance.retire(true);
            self.retired.insert(id);
        }
    }
}
