//! The table as one worker serves by it, and the choice of an instance.
//!
//! Each worker has its own copy, changed only between two polls of its tasks: a request sees one
//! table or the next, never a mixture. Choosing an instance and counting the request on it is one
//! synchronous step, [`Service::take_slot`]; so once a worker has adopted a table, it sends nothing
//! new to an instance that the table lacks.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ekiden_model::{
    id::ServiceId,
    ingress::AppProtocol,
    route::{Route, RouteState},
};
use fnv::FnvBuildHasher;

use crate::{
    cause::Cause, counters::Counters, h2c::SharedLinks, ingress::Rules, instance::Instance,
    link::IdleLinks, listener::Door, queue::Queue, sticky::Sessions, watch::Clock,
};

/// A route and what its workers share; immutable, replaced whole.
#[derive(Debug)]
pub(crate) struct SharedService {
    pub(crate) route: Route,
    /// What is let in.
    pub(crate) rules: Rules,
    /// How sessions stay with their instance, if they do.
    pub(crate) sessions: Option<Sessions>,
    /// What the access log says of it.
    pub(crate) log_text: Box<[u8]>,
    pub(crate) queue: Arc<Queue>,
    /// What became of its requests.
    pub(crate) counters: Arc<Counters>,
    /// One for each of the route's upstreams, in their order.
    pub(crate) instances: Vec<Arc<Instance>>,
}

/// What changes from one table to the next; made once, adopted by every worker.
#[derive(Debug)]
pub(crate) struct Update {
    /// Counts the updates of this process; the generation is control's.
    pub(crate) sequence: u64,
    pub(crate) set: Vec<Arc<SharedService>>,
    pub(crate) remove: Vec<ServiceId>,
}

impl Update {
    /// Whether nothing differs.
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }
}

type HostMap = HashMap<Box<[u8]>, Rc<Service>, FnvBuildHasher>;

/// One worker's table.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// Whether there has been a table at all.
    known: bool,
    hosts: HostMap,
    /// By what follows `*.`: for every name one label below that `hosts` does not have.
    wildcards: HostMap,
    /// Names that lead somewhere on private listeners only.
    private_hosts: HostMap,
    private_wildcards: HostMap,
    services: HashMap<ServiceId, Rc<Service>, FnvBuildHasher>,
}

/// One service, as one worker serves it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) shared: Arc<SharedService>,
    upstreams: Vec<Rc<Upstream>>,
    /// Where the next choice begins to look, so that equals take turns.
    turn: Cell<usize>,
}

/// One instance, as one worker reaches it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) instance: Arc<Instance>,
    pub(crate) address: SocketAddr,
    pub(crate) idle: RefCell<IdleLinks>,
    pub(crate) h2c: SharedLinks,
}

/// Room for one request in one instance; given back by dropping it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) service: Rc<Service>,
    pub(crate) upstream: Rc<Upstream>,
}

/// Why there is no slot now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// There is no instance, or every instance is full. A released slot or a new table wakes the
    /// queue.
    Full,
    /// The instances that have room could not be reached; worth another look after this time.
    PassedOver(Duration),
}

/// Up to so many instances are all looked at; of more, two are drawn and the emptier is taken
/// (the power of two choices), and all are looked at only if neither has room.
const SCAN_MAX: usize = 8;

impl Routes {
    /// The service of a host name (lower case, without port) that takes requests.
    pub(crate) fn find(&self, host: &[u8], door: Door) -> Result<Rc<Service>, Cause> {
        let service = self.service(host, door)?;
        service.takes_requests()?;
        Ok(Rc::clone(service))
    }

    /// The service that a host name leads to at a door, whatever its state.
    pub(crate) fn service(&self, host: &[u8], door: Door) -> Result<&Rc<Service>, Cause> {
        match self.hosts.get(host) {
            Some(service) => Ok(service),
            None => self.search(host, door),
        }
    }

    /// Looks further when no public service has the name itself: a private one's own, then the
    /// wildcard that it is one label below of.
    #[cold]
    fn search(&self, host: &[u8], door: Door) -> Result<&Rc<Service>, Cause> {
        let dot = memchr::memchr(b'.', host).filter(|dot| *dot > 0);
        let below = dot.map(|dot| &host[dot + 1..]);
        let private = self.private_hosts.get(host);
        let wildcard = below.and_then(|below| self.wildcards.get(below));
        let private_wildcard = below.and_then(|below| self.private_wildcards.get(below));
        let found = match door {
            Door::Public => wildcard,
            Door::Private => private.or(wildcard).or(private_wildcard),
        };
        found.ok_or(match private.or(private_wildcard) {
            Some(_) => Cause::NotPublic,
            None if self.known => Cause::NoSuchHost,
            None => Cause::NoRoutes,
        })
    }

    /// Where the service of a route's host name is kept, and under which key.
    fn place<'h>(&mut self, host: &'h str, door: Door) -> (&mut HostMap, &'h [u8]) {
        match (host.strip_prefix("*."), door) {
            (Some(below), Door::Public) => (&mut self.wildcards, below.as_bytes()),
            (Some(below), Door::Private) => (&mut self.private_wildcards, below.as_bytes()),
            (None, Door::Public) => (&mut self.hosts, host.as_bytes()),
            (None, Door::Private) => (&mut self.private_hosts, host.as_bytes()),
        }
    }

    /// Goes over to the next table, and has the waiting requests look at it.
    ///
    /// Every changed host name is taken away before any is given, so that a name that moves from
    /// one service to another is never without one.
    pub(crate) fn adopt(&mut self, update: &Update) {
        self.known = true;
        let set = update.set.iter().map(|service| &service.route.service);
        let mut before: HashMap<_, _, FnvBuildHasher> = HashMap::default();
        for id in update.remove.iter().chain(set) {
            if let Some(service) = self.services.remove(id) {
                self.take_hosts(&service);
                before.insert(*id, service);
            }
        }
        for shared in &update.set {
            let old = before.get(&shared.route.service);
            let service = Rc::new(Service::new(shared, old.map(Rc::as_ref)));
            for (host, door) in names(&shared.route) {
                let (map, key) = self.place(host, door);
                map.insert(key.into(), Rc::clone(&service));
            }
            self.services.insert(shared.route.service, service);
        }
        // A queue lives as long as its service: waking the old ones wakes those of today, and those
        // of services that are gone.
        before
            .values()
            .for_each(|service| service.shared.queue.wake_first());
    }

    /// Takes a service's host names away, unless another has been given them since.
    fn take_hosts(&mut self, service: &Rc<Service>) {
        for (host, door) in names(&service.shared.route) {
            let (map, key) = self.place(host, door);
            if map.get(key).is_some_and(|owner| Rc::ptr_eq(owner, service)) {
                map.remove(key);
            }
        }
    }

    /// Closes connections that were idle for too long or were closed by the other side.
    pub(crate) fn prune_idle(&self, clock: &Clock) {
        for upstream in self
            .services
            .values()
            .flat_map(|service| &service.upstreams)
        {
            upstream.idle.borrow_mut().prune(clock);
        }
    }
}

/// A route's host names, and at which door they lead to its service.
fn names(route: &Route) -> impl Iterator<Item = (&String, Door)> {
    let public = route.hosts.iter().map(|host| (host, Door::Public));
    public.chain(route.private_hosts.iter().map(|host| (host, Door::Private)))
}

impl Service {
    /// Why it takes no requests, if it takes none.
    pub(crate) fn takes_requests(&self) -> Result<(), Cause> {
        match self.shared.route.state {
            RouteState::Serving => Ok(()),
            RouteState::Paused => Err(Cause::Paused),
            RouteState::NotDeployed => Err(Cause::NotDeployed),
        }
    }

    fn new(shared: &Arc<SharedService>, before: Option<&Self>) -> Self {
        let upstreams = shared
            .route
            .upstreams
            .iter()
            .zip(&shared.instances)
            .map(|(upstream, instance)| {
                before
                    .and_then(|before| before.upstream(instance, upstream.address))
                    .unwrap_or_else(|| {
                        Rc::new(Upstream {
                            instance: Arc::clone(instance),
                            address: upstream.address,
                            idle: RefCell::default(),
                            h2c: SharedLinks::default(),
                        })
                    })
            })
            .collect::<Vec<_>>();
        // Connections to instances that are gone close now; those in use are not kept after it.
        for old in before.iter().flat_map(|before| &before.upstreams) {
            if !upstreams.iter().any(|upstream| Rc::ptr_eq(upstream, old)) {
                old.idle.borrow_mut().close();
                old.h2c.close();
            }
        }
        Self {
            shared: Arc::clone(shared),
            upstreams,
            turn: Cell::new(0),
        }
    }

    /// Whether there is no instance.
    pub(crate) fn is_cold(&self) -> bool {
        self.upstreams.is_empty()
    }

    fn upstream(&self, instance: &Arc<Instance>, address: SocketAddr) -> Option<Rc<Upstream>> {
        self.upstreams
            .iter()
            .find(|upstream| {
                Arc::ptr_eq(&upstream.instance, instance) && upstream.address == address
            })
            .cloned()
    }

    /// Room in the emptiest instance that has some.
    pub(crate) fn take_slot(self: &Rc<Self>) -> Result<Slot, NoSlot> {
        loop {
            let (upstream, in_flight) = self.choose()?;
            // Another worker may have counted in between: then choose anew.
            if upstream.instance.try_take(in_flight) {
                self.shared.counters.enter();
                return Ok(Slot {
                    service: Rc::clone(self),
                    upstream: Rc::clone(upstream),
                });
            }
        }
    }

    /// Room in the instance at a place of the route; `None` when it has none, or cannot be reached.
    pub(crate) fn take_slot_at(self: &Rc<Self>, place: usize) -> Option<Slot> {
        let upstream = self.upstreams.get(place)?;
        loop {
            let in_flight = upstream.instance.in_flight();
            let is_full = in_flight >= self.shared.route.concurrency_per_instance;
            if is_full || upstream.instance.passed_over_for().is_some() {
                return None;
            }
            if upstream.instance.try_take(in_flight) {
                self.shared.counters.enter();
                return Some(Slot {
                    service: Rc::clone(self),
                    upstream: Rc::clone(upstream),
                });
            }
        }
    }

    fn choose(&self) -> Result<(&Rc<Upstream>, u32), NoSlot> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        if self.upstreams.len() > SCAN_MAX {
            // Multiplying by a large odd number scatters consecutive turns (Knuth's hash).
            let other = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            if let Ok(choice) = self.emptiest([turn, other].into_iter()) {
                return Ok(choice);
            }
        }
        self.emptiest(turn..turn.wrapping_add(self.upstreams.len()))
    }

    /// The emptiest with room among those at these places, counted around.
    fn emptiest(
        &self,
        places: impl Iterator<Item = usize>,
    ) -> Result<(&Rc<Upstream>, u32), NoSlot> {
        let mut best = None;
        let mut least = self.shared.route.concurrency_per_instance;
        let mut soonest = None;
        for place in places {
            let Some(upstream) = self.upstreams.get(place % self.upstreams.len().max(1)) else {
                break;
            };
            let in_flight = upstream.instance.in_flight();
            if in_flight >= least {
                continue;
            }
            match upstream.instance.passed_over_for() {
                Some(left) => {
                    soonest = Some(soonest.map_or(left, |soonest: Duration| soonest.min(left)))
                }
                None => {
                    least = in_flight;
                    best = Some((upstream, in_flight));
                }
            }
        }
        best.ok_or_else(|| soonest.map_or(NoSlot::Full, NoSlot::PassedOver))
    }
}

impl Slot {
    /// Where its instance is in the route.
    pub(crate) fn place(&self) -> Option<usize> {
        let mut upstreams = self.service.upstreams.iter();
        upstreams.position(|upstream| Rc::ptr_eq(upstream, &self.upstream))
    }

    /// The shared connections to the instance, if its service speaks HTTP/2.
    pub(crate) fn h2c(&self) -> Option<&SharedLinks> {
        match self.service.shared.route.ingress.app_protocol {
            AppProtocol::Http1 => None,
            AppProtocol::H2c => Some(&self.upstream.h2c),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.upstream.instance.release();
        self.service.shared.counters.leave();
        self.service.shared.queue.wake_first();
    }
}
