//! The edge: workers that adopt tables one after another, and the requests they hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use ekiden_model::{
    id::{InstanceId, ServiceId},
    route::{Generation, Route, RouteState},
    time::Timestamp,
};

use crate::{
    checks::Rule,
    world::{Channel, Event, World},
};

const WORKERS: usize = 3;

/// How long a request waits for an instance, in ms.
const WAIT_MAX: u64 = 30_000;

/// From the end of the drain limit until the stop must have been asked for.
const DRAIN_SLACK: Duration = Duration::from_secs(3);

/// One publication, whole.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) generation: Generation,
    pub(crate) routes: BTreeMap<ServiceId, Rc<Route>>,
}

/// What the edge tells control.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) generation: Generation,
    pub(crate) draining: BTreeSet<InstanceId>,
}

#[derive(Debug, Default)]
pub(crate) struct Edge {
    pub(crate) up: bool,
    /// Counts its lives.
    life: u64,
    /// The connection to control, once its first table has come.
    connection: Option<u64>,
    connections: u64,
    /// The newest table; on disk before any worker serves by it.
    latest: Rc<Table>,
    workers: Vec<Rc<Table>>,
    reported: Option<Rc<Report>>,
    /// Requests by the instance that holds them.
    held: BTreeMap<InstanceId, BTreeSet<u64>>,
    waiting: BTreeMap<ServiceId, BTreeSet<u64>>,
    requests: u64,
    /// Since when no worker can choose an instance that could be chosen before.
    unrouted: BTreeMap<InstanceId, Timestamp>,
}

impl Edge {
    /// Whether a request may be given to the instance, now or after a crash of the edge.
    pub(crate) fn has(&self, id: InstanceId) -> bool {
        let workers = self.workers.iter().any(|table| table.has(id));
        workers || self.latest.has(id)
    }

    pub(crate) fn holds(&self, id: InstanceId) -> bool {
        self.held
            .get(&id)
            .is_some_and(|requests| !requests.is_empty())
    }

    pub(crate) fn unrouted_for(&self, id: InstanceId, now: Timestamp) -> Duration {
        self.unrouted
            .get(&id)
            .map_or(Duration::ZERO, |since| now.since(*since))
    }

    pub(crate) fn workers(&self) -> &[Rc<Table>] {
        &self.workers
    }

    fn any_worker_has(&self, id: InstanceId) -> bool {
        self.workers.iter().any(|table| table.has(id))
    }

    fn report(&self) -> Report {
        let generation = self.workers.iter().map(|table| table.generation).min();
        let draining = self
            .held
            .keys()
            .filter(|id| self.holds(**id) && !self.any_worker_has(**id));
        Report {
            generation: generation.unwrap_or_default(),
            draining: draining.copied().collect(),
        }
    }
}

impl Table {
    pub(crate) fn has(&self, id: InstanceId) -> bool {
        let has = |route: &Rc<Route>| route.upstreams.iter().any(|u| u.instance == id);
        self.routes.values().any(has)
    }

    fn instances(&self) -> impl Iterator<Item = InstanceId> {
        self.routes
            .values()
            .flat_map(|route| &route.upstreams)
            .map(|upstream| upstream.instance)
    }
}

impl World {
    // ---- life and connection -----------------------------------------------------------------

    pub(crate) fn edge_starts(&mut self) {
        self.note(|| "the edge starts".to_owned());
        self.edge.up = true;
        self.edge.life += 1;
        // It serves by its last table before it has heard of control.
        self.edge.workers = vec![Rc::clone(&self.edge.latest); WORKERS];
        self.connect_edge();
    }

    pub(crate) fn edge_crashes(&mut self) {
        if !self.edge.up {
            return;
        }
        self.edge.up = false;
        self.edge.workers.clear();
        self.edge.held.clear();
        self.edge.waiting.clear();
        self.edge.reported = None;
        self.edge.connection = None;
        let (connection, delay) = (self.edge.connections, self.delay());
        self.after(delay, Event::EdgeGone { connection });
        let downtime = self.downtime();
        self.after(downtime, Event::EdgeStarts);
    }

    /// The edge tries to reach control after a while; both must still be the same then.
    pub(crate) fn connect_edge(&mut self) {
        if self.edge.up && self.control.is_some() {
            let delay = self.delay() + self.random.below(100);
            let (edge, life) = (self.edge.life, self.control_life);
            self.after(delay, Event::EdgeConnects { edge, life });
        }
    }

    pub(crate) fn edge_connects(&mut self, edge: u64, life: u64) {
        let alive = self
            .control
            .as_ref()
            .is_some_and(|control| control.life == life);
        if !self.edge.up || self.edge.life != edge || !alive {
            return;
        }
        self.edge.connections += 1;
        // What was told over another connection is not known over this one.
        self.edge.connection = None;
        self.edge.reported = None;
        let connection = self.edge.connections;
        self.edge_enters(connection);
    }

    pub(crate) fn table_arrives(&mut self, connection: u64, table: Rc<Table>) {
        if !self.edge.up || connection != self.edge.connections {
            return;
        }
        self.edge.connection = Some(connection);
        self.edge.latest = table;
        for worker in 0..WORKERS {
            let delay = self.delay() + self.random.below(5);
            let edge = self.edge.life;
            self.after(delay, Event::WorkerAdopts { edge, worker });
        }
    }

    pub(crate) fn worker_adopts(&mut self, edge: u64, worker: usize) {
        if !self.edge.up || self.edge.life != edge {
            return;
        }
        let latest = Rc::clone(&self.edge.latest);
        let before = std::mem::replace(&mut self.edge.workers[worker], latest);
        for id in before.instances() {
            if !self.edge.any_worker_has(id) {
                self.edge.unrouted.entry(id).or_insert(self.now);
            }
        }
        let adopted = Rc::clone(&self.edge.workers[worker]);
        for id in adopted.instances() {
            self.edge.unrouted.remove(&id);
        }
        self.report();
        for service in adopted.routes.keys() {
            self.serve_waiting(*service, worker);
        }
    }

    /// Tells control what changed in what there is to tell.
    fn report(&mut self) {
        let Some(connection) = self.edge.connection else {
            return;
        };
        let report = self.edge.report();
        if self.edge.reported.as_deref() == Some(&report) {
            return;
        }
        let report = Rc::new(report);
        self.edge.reported = Some(Rc::clone(&report));
        self.send(
            Channel::Reports,
            Event::ReportArrives { connection, report },
        );
    }

    // ---- requests ----------------------------------------------------------------------------

    pub(crate) fn request(&mut self, service: ServiceId) {
        let gap = self.random.between(20, 1_500);
        if self.clients.is_gone(service) {
            return;
        }
        self.after(gap, Event::Request { service });
        if !self.edge.up {
            return;
        }
        self.totals.requests += 1;
        self.edge.requests += 1;
        let request = self.edge.requests;
        let worker = self.random.below(WORKERS as u64) as usize;
        if !self.serve(service, request, worker) {
            self.check_wait(service);
            self.totals.count("request: waited");
            if self.loads.get(&service).is_none_or(|load| *load == 0) {
                self.load(service, 1);
            }
            self.edge
                .waiting
                .entry(service)
                .or_default()
                .insert(request);
            let edge = self.edge.life;
            self.after(
                WAIT_MAX,
                Event::RequestGivesUp {
                    edge,
                    service,
                    request,
                },
            );
        }
    }

    /// Gives a request to an instance, or refuses it for good; false when it has to wait.
    fn serve(&mut self, service: ServiceId, request: u64, worker: usize) -> bool {
        let Some(route) = self.edge.workers[worker]
            .routes
            .get(&service)
            .map(Rc::clone)
        else {
            self.check_refusal(service, "no route");
            self.totals.count("request: refused, no route");
            return true;
        };
        match route.state {
            RouteState::Serving => {}
            RouteState::Paused => {
                self.check_refusal(service, "paused");
                self.totals.count("request: refused, paused");
                return true;
            }
            RouteState::NotDeployed => {
                self.check_refusal(service, "not deployed");
                self.totals.count("request: refused, not deployed");
                return true;
            }
        }
        let count = route.upstreams.len() as u64;
        let first = if count == 0 {
            0
        } else {
            self.random.below(count)
        };
        // A connection that is refused carried nothing: the next instance is tried.
        let chosen = (0..count)
            .map(|n| route.upstreams[((first + n) % count) as usize].instance)
            .find(|id| self.engine.accepts(*id, self.now));
        let Some(instance) = chosen else { return false };
        self.totals.count("request: served");
        self.edge.held.entry(instance).or_default().insert(request);
        let drain_ms = self.timing.drain_limit.as_millis() as u64;
        let takes = match self.random.below(40) {
            0 => self.random.between(100, drain_ms * 3 / 2),
            1..=9 => self.random.between(50, 2_000),
            _ => self.random.between(1, 50),
        };
        let edge = self.edge.life;
        self.after(
            takes,
            Event::RequestEnds {
                edge,
                instance,
                request,
            },
        );
        true
    }

    fn serve_waiting(&mut self, service: ServiceId, worker: usize) {
        let Some(waiting) = self.edge.waiting.remove(&service) else {
            return;
        };
        let mut left = BTreeSet::new();
        for request in waiting {
            if !self.serve(service, request, worker) {
                left.insert(request);
            }
        }
        if !left.is_empty() {
            self.edge.waiting.insert(service, left);
        }
    }

    pub(crate) fn request_ends(&mut self, edge: u64, instance: InstanceId, request: u64) {
        if self.edge.life != edge {
            return;
        }
        self.check_drain(instance);
        let Some(held) = self.edge.held.get_mut(&instance) else {
            return;
        };
        held.remove(&request);
        if held.is_empty() {
            self.edge.held.remove(&instance);
            if !self.edge.any_worker_has(instance) {
                self.report();
            }
        }
    }

    pub(crate) fn request_gives_up(&mut self, edge: u64, service: ServiceId, request: u64) {
        if self.edge.life != edge {
            return;
        }
        let waiting = self.edge.waiting.get_mut(&service);
        if waiting.is_some_and(|waiting| waiting.remove(&request)) {
            self.totals.count("request: gave up waiting");
        }
    }

    /// An instance ended with the requests it held. That nothing was lost by our doing is checked
    /// where it was asked to stop; here it is counted.
    pub(crate) fn requests_die_with(&mut self, id: InstanceId, asked: bool) {
        let Some(held) = self.edge.held.remove(&id) else {
            return;
        };
        if held.is_empty() {
            return;
        }
        self.totals.count(match asked {
            true => "request: cut off by the drain limit",
            false => "request: died with its instance",
        });
        self.report();
    }

    /// Once nothing goes wrong any more, no instance drains longer than the limit says.
    fn check_drain(&mut self, id: InstanceId) {
        let Some(since) = self.edge.unrouted.get(&id).copied() else {
            return;
        };
        let limit = self.timing.drain_limit + DRAIN_SLACK;
        let late = self.now.since(since) > limit && self.clients.calm_before(since);
        if late && self.engine.runs_unasked(id) {
            self.violate(Rule::Ends, || {
                format!("instance {} drains beyond the limit", id.short())
            });
        }
    }

    /// A service that serves and did so all along refuses nobody.
    fn check_refusal(&mut self, service: ServiceId, why: &str) {
        if self.is_to_serve_at_once(service) {
            self.violate(Rule::SomeoneServes, || {
                format!("a request for a service that serves was refused: {why}")
            });
        }
    }

    /// Once nothing goes wrong any more, a deployment is not felt: no request waits.
    fn check_wait(&mut self, service: ServiceId) {
        let stored = self.store.services.get(&service);
        let sleeps = stored.is_some_and(|stored| {
            let active = self.store.revision(service, stored.active);
            active.is_some_and(|active| self.wanted_now(stored, &active) == 0)
        });
        if sleeps {
            // Those that come while it wakes wait too.
            self.clients.sleeps(service);
        }
        if self.is_to_serve_at_once(service) {
            self.violate(Rule::SomeoneServes, || {
                "a request had to wait although nothing went wrong".to_owned()
            });
        }
    }
}
