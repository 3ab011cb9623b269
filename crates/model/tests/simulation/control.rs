//! The control plane: memory that any crash takes, and workers that do what is planned.
//!
//! It is the real executor in small: one worker per service, steps in order, the first failure
//! ends the round, calls to the engine in the background. Two things are contracts that the plan
//! relies on. An instance that was sent a stop is `Stopping` in every view from then on, and the
//! stop is sent again until it shows. And what a worker has not started itself may be known to an
//! edge until the edge has said otherwise.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    time::Duration,
};

use ekiden_model::{
    health::{Health, HealthCheck, ProbeResult, Verdict},
    id::{InstanceId, OperationId, ServiceId},
    instance::{Activity, InstanceObservation, InstanceState, RevisionNumber, StopReason},
    plan::{self, ImageProgress, InstanceView, Plan, Step, Traffic, View},
    route::{Generation, Route, RouteState},
    service::{Change, OperationKind, Service, ServiceStatus, Transition},
    time::Timestamp,
};

use crate::{
    behaviour::Behaviour,
    checks::Rule,
    edge::{Report, Table},
    engine::{Call, Observation, instance_id},
    world::{Channel, Event, World},
};

const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);
const REQUESTS_WAITING_MAX: usize = 64;

/// How long a call that was answered explains what the observation does not show yet.
const SETTLE: Duration = Duration::from_secs(2);

/// Rounds of one worker at one moment; more go in a circle.
const ROUNDS_AT_ONCE_MAX: u32 = 100;

/// One life of the control plane.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) life: u64,
    workers: BTreeMap<ServiceId, Box<Worker>>,
    current: bool,
    observation: Rc<Observation>,
    /// The edge's connection and what it has last said over it.
    edge: Option<(u64, Option<Rc<Report>>)>,
    table: Rc<Table>,
    /// A change of the table is being stored; the next one waits.
    publishing: bool,
    probes: BTreeMap<InstanceId, Probed>,
}

#[derive(Debug)]
struct Probed {
    service: ServiceId,
    check: HealthCheck,
    started_at: Timestamp,
    health: Health,
}

/// A change that an owner asks for.
#[derive(Debug)]
pub(crate) enum Request {
    Operation {
        kind: OperationKind,
        change: Option<Box<Change>>,
        id: OperationId,
    },
    Cancel {
        id: OperationId,
    },
}

impl Request {
    /// Makes the change, unless the service refuses it.
    fn change(self, service: &mut Service, now: Timestamp) -> bool {
        match self {
            Self::Operation { kind, change, id } => {
                let change = change.map(|change| *change);
                service.accept(kind, change, id, now).is_ok()
            }
            Self::Cancel { id } => service.cancel(Some(id), now).is_ok(),
        }
    }
}

/// What the engine answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// `NotAsked` when it could not be asked.
    Image {
        operation: OperationId,
        progress: ImageProgress,
    },
    Call {
        instance: InstanceId,
        kind: CallKind,
        ok: bool,
    },
    Forgotten {
        ok: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CallKind {
    Start(RevisionNumber),
    Stop,
    Remove,
}

/// What became of a step that the worker waited for.
#[derive(Debug)]
pub(crate) enum Outcome {
    Stored(Box<Service>),
    Published(Option<Route>, Generation),
    Failed,
}

#[derive(Debug, Clone, Copy)]
enum CallState {
    Running,
    Answered(Timestamp),
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) service: Service,
    pub(crate) published: Option<Route>,
    pub(crate) current: bool,
    /// How many instances the last plan was told that there should be.
    pub(crate) wanted: Option<u32>,
    /// How much instances were told that they may do: no call to the engine is lost here.
    activities: BTreeMap<InstanceId, Activity>,
    observed: Vec<InstanceObservation>,
    image: ImageProgress,
    published_in: Generation,
    started: BTreeSet<InstanceId>,
    routed: BTreeSet<InstanceId>,
    unrouted: BTreeMap<InstanceId, Timestamp>,
    stopping: BTreeMap<InstanceId, StopReason>,
    calls: BTreeMap<(InstanceId, CallKind), CallState>,
    unanswered: Vec<(RevisionNumber, InstanceId)>,
    retry_after: Option<Timestamp>,
    failures_in_a_row: u32,
    requests: VecDeque<Request>,
    steps: VecDeque<Step>,
    /// A round is going on: what happens meanwhile is looked at after it.
    busy: bool,
    woken: bool,
    round_due: bool,
    look_again_in: Option<Duration>,
    again: bool,
    token: u64,
    rounds_now: (Timestamp, u32),
}

impl Answer {
    pub(crate) const fn call(instance: InstanceId, kind: CallKind) -> Self {
        Self::Call {
            instance,
            kind,
            ok: true,
        }
    }

    pub(crate) fn failed(self) -> Self {
        match self {
            Self::Image { operation, .. } => Self::Image {
                operation,
                progress: ImageProgress::NotAsked,
            },
            Self::Call { instance, kind, .. } => Self::Call {
                instance,
                kind,
                ok: false,
            },
            Self::Forgotten { .. } => Self::Forgotten { ok: false },
        }
    }
}

impl Worker {
    fn new(service: Service, published: Option<Route>, published_in: Generation) -> Box<Self> {
        Box::new(Self {
            service,
            published,
            current: false,
            wanted: None,
            activities: BTreeMap::new(),
            observed: Vec::new(),
            image: ImageProgress::NotAsked,
            published_in,
            started: BTreeSet::new(),
            routed: BTreeSet::new(),
            unrouted: BTreeMap::new(),
            stopping: BTreeMap::new(),
            calls: BTreeMap::new(),
            unanswered: Vec::new(),
            retry_after: None,
            failures_in_a_row: 0,
            requests: VecDeque::new(),
            steps: VecDeque::new(),
            busy: false,
            woken: false,
            round_due: false,
            look_again_in: None,
            again: false,
            token: 0,
            rounds_now: (Timestamp::default(), 0),
        })
    }

    /// Whether that operation is on its way: what was asked for another is of no use.
    fn is_in(&self, id: OperationId) -> bool {
        let operation = self.service.operation.as_ref();
        operation.is_some_and(|operation| operation.id == id)
    }

    fn in_route(&self, id: InstanceId) -> bool {
        let has = |route: &Route| route.upstreams.iter().any(|u| u.instance == id);
        self.published.as_ref().is_some_and(has)
    }

    /// Takes in what the engine has now.
    fn observe(&mut self, current: bool, observed: Vec<InstanceObservation>) {
        self.current = current;
        self.observed = observed;
        let ids: BTreeSet<InstanceId> = self.observed.iter().map(|i| i.id).collect();
        if current {
            let Self {
                started,
                routed,
                unrouted,
                stopping,
                calls,
                unanswered,
                ..
            } = self;
            let called = |id: &InstanceId| calls.keys().any(|(other, _)| other == id);
            started.retain(|id| ids.contains(id) || called(id));
            stopping.retain(|id, _| ids.contains(id) || called(id));
            routed.retain(|id| ids.contains(id));
            unrouted.retain(|id, _| ids.contains(id));
            unanswered.retain(|(_, id)| !ids.contains(id));
        }
        self.routed.extend(ids.difference(&self.started));
        self.retry_after = None;
    }

    /// Forgets answered calls that the observation shows by now, or should.
    fn settle(&mut self, now: Timestamp) {
        if self.retry_after.is_some_and(|at| at <= now) {
            self.retry_after = None;
        }
        let observed = &self.observed;
        self.calls.retain(|(id, kind), state| {
            let CallState::Answered(at) = state else {
                return true;
            };
            let seen = observed.iter().find(|instance| instance.id == *id);
            let shown = match (kind, seen.map(|instance| &instance.state)) {
                (CallKind::Start(_), seen) => seen.is_some(),
                (CallKind::Stop, Some(InstanceState::Creating | InstanceState::Running { .. })) => {
                    false
                }
                (CallKind::Stop, _) => true,
                (CallKind::Remove, seen) => seen.is_none(),
            };
            !shown && now.since(*at) < SETTLE
        });
    }

    fn acknowledged(&self, serving: Option<Generation>) -> bool {
        serving.is_some_and(|serving| serving >= self.published_in)
    }

    fn traffic(&mut self, id: InstanceId, report: Option<&Report>, now: Timestamp) -> Traffic {
        if self.in_route(id) {
            self.unrouted.remove(&id);
            return Traffic::Routed;
        }
        if !self.routed.contains(&id) {
            return Traffic::Never;
        }
        // An edge that was restarted may serve by an older table until it says otherwise.
        let Some(report) = report else {
            return Traffic::Routed;
        };
        let since = self.unrouted.get(&id).copied();
        if since.is_none() && report.generation < self.published_in {
            return Traffic::Routed;
        }
        let since = since.unwrap_or(now);
        self.unrouted.insert(id, since);
        Traffic::Unrouted {
            since,
            busy: report.draining.contains(&id),
        }
    }

    /// What the plan is told of an instance's state: one that was sent a stop is on its way out,
    /// whatever the engine has shown so far.
    fn state(&self, id: InstanceId, state: InstanceState) -> InstanceState {
        match state {
            InstanceState::Running { address, .. } if self.stopping.contains_key(&id) => {
                InstanceState::Stopping { address }
            }
            InstanceState::Creating if self.stopping.contains_key(&id) => InstanceState::Stopping {
                address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            },
            state => state,
        }
    }

    fn hold_off(&mut self, now: Timestamp) {
        let wait = (RETRY_MIN * (1 << self.failures_in_a_row.min(10))).min(RETRY_MAX);
        self.failures_in_a_row += 1;
        self.retry_after = Some(now.plus(wait));
    }
}

impl Control {
    fn report(&self) -> Option<&Rc<Report>> {
        self.edge.as_ref().and_then(|(_, report)| report.as_ref())
    }

    /// Whether it takes the instance for healthy.
    pub(crate) fn trusts(&self, id: InstanceId) -> bool {
        let probed = self.probes.get(&id);
        probed.is_some_and(|probed| probed.health.verdict == Verdict::Healthy)
    }

    fn views(&self, worker: &mut Worker, now: Timestamp) -> Vec<InstanceView> {
        let report = self.report().map(AsRef::as_ref);
        let mut views = Vec::with_capacity(worker.observed.len());
        for instance in worker.observed.clone() {
            let health = self.probes.get(&instance.id).map(|probed| &probed.health);
            views.push(InstanceView {
                id: instance.id,
                revision: instance.revision,
                state: worker.state(instance.id, instance.state),
                created_at: instance.created_at,
                verdict: health.map_or(Verdict::Starting, |health| health.verdict),
                last_failure: health.and_then(|health| health.last_failure.clone()),
                failing: health.is_some_and(|health| health.is_failing()),
                activity: worker
                    .activities
                    .get(&instance.id)
                    .copied()
                    .unwrap_or(instance.activity),
                traffic: worker.traffic(instance.id, report, now),
            });
        }
        for ((id, kind), state) in &worker.calls {
            let CallKind::Start(revision) = kind else {
                continue;
            };
            if views.iter().any(|view| view.id == *id) {
                continue;
            }
            let created_at = match state {
                CallState::Running => now,
                CallState::Answered(at) => *at,
            };
            views.push(InstanceView {
                id: *id,
                revision: *revision,
                state: worker.state(*id, InstanceState::Creating),
                created_at,
                verdict: Verdict::Starting,
                last_failure: None,
                failing: false,
                activity: Activity::Boosted,
                traffic: Traffic::Never,
            });
        }
        views
    }
}

impl World {
    // ---- life --------------------------------------------------------------------------------

    pub(crate) fn control_starts(&mut self) {
        self.control_life += 1;
        self.note(|| "control starts".to_owned());
        let generation = self.store.generation;
        let mut workers = BTreeMap::new();
        for service in self.store.services.values() {
            if service.settled != ServiceStatus::Deleted {
                let published = self
                    .store
                    .routes
                    .get(&service.id)
                    .map(|route| (**route).clone());
                let worker = Worker::new(service.clone(), published, generation);
                workers.insert(service.id, worker);
            }
        }
        let services: Vec<_> = workers.keys().copied().collect();
        self.control = Some(Control {
            life: self.control_life,
            workers,
            current: false,
            observation: Rc::default(),
            edge: None,
            table: Rc::new(Table {
                generation,
                routes: self.store.routes.clone(),
            }),
            publishing: false,
            probes: BTreeMap::new(),
        });
        for service in services {
            self.wake(service);
        }
        self.connect_edge();
        self.engine_changed();
    }

    pub(crate) fn control_crashes(&mut self) {
        if self.control.take().is_none() {
            return;
        }
        let downtime = Duration::from_millis(self.downtime());
        let earliest = self.engine.calls_until.plus(Duration::from_millis(1));
        self.at(self.now.plus(downtime).max(earliest), Event::ControlStarts);
    }

    fn take_worker(&mut self, life: u64, service: ServiceId) -> Option<Box<Worker>> {
        let control = self
            .control
            .as_mut()
            .filter(|control| control.life == life)?;
        control.workers.remove(&service)
    }

    fn put_worker(&mut self, worker: Box<Worker>) {
        if let Some(control) = &mut self.control {
            control.workers.insert(worker.service.id, worker);
        }
    }

    // ---- what it hears -----------------------------------------------------------------------

    pub(crate) fn observed(&mut self, life: u64, observation: Option<Rc<Observation>>) {
        let Some(control) = self.control.as_mut().filter(|c| c.life == life) else {
            return;
        };
        control.current = observation.is_some();
        if let Some(observation) = observation {
            let has = |id: &InstanceId, probed: &Probed| {
                let part = observation
                    .get(&probed.service)
                    .map_or(&[][..], Vec::as_slice);
                part.iter().any(|instance| instance.id == *id)
            };
            control.probes.retain(|id, probed| has(id, probed));
            control.observation = observation;
        }
        let current = control.current;
        let mut changed = Vec::new();
        for (id, worker) in &mut control.workers {
            let part = control.observation.get(id).map_or(&[][..], Vec::as_slice);
            if worker.current != current || worker.observed != part {
                worker.observe(current, part.to_vec());
                changed.push(*id);
            }
        }
        let known = |id: &ServiceId| control.workers.contains_key(id);
        let strays: Vec<_> = control
            .observation
            .iter()
            .filter(|(service, _)| current && !known(service))
            .flat_map(|(_, instances)| instances.iter().map(|i| (i.service, i.id)))
            .collect();
        for id in changed {
            self.wake(id);
        }
        for (service, instance) in strays {
            self.totals.count("stray removed");
            self.call(life, service, Call::Remove { instance });
        }
    }

    pub(crate) fn edge_enters(&mut self, connection: u64) {
        let Some(control) = &self.control else { return };
        let table = Rc::clone(&control.table);
        self.edge_changes(Some((connection, None)));
        self.send(Channel::Tables, Event::TableArrives { connection, table });
    }

    pub(crate) fn reported(&mut self, connection: u64, report: Rc<Report>) {
        self.note(|| {
            let draining: Vec<_> = report.draining.iter().map(InstanceId::short).collect();
            format!(
                "the edge serves by {}, draining {draining:?}",
                report.generation.0
            )
        });
        if self.is_connected(connection) {
            self.edge_changes(Some((connection, Some(report))));
        }
    }

    pub(crate) fn edge_gone(&mut self, connection: u64) {
        if self.is_connected(connection) {
            self.edge_changes(None);
        }
    }

    fn is_connected(&self, connection: u64) -> bool {
        let edge = self
            .control
            .as_ref()
            .and_then(|control| control.edge.as_ref());
        edge.is_some_and(|(other, _)| *other == connection)
    }

    /// Takes in what the edge says; wakes the workers that waited for something from it.
    fn edge_changes(&mut self, edge: Option<(u64, Option<Rc<Report>>)>) {
        let Some(control) = &mut self.control else {
            return;
        };
        let serving = control.report().map(|report| report.generation);
        let matters = |worker: &Worker| {
            !worker.acknowledged(serving) || worker.routed.iter().any(|id| !worker.in_route(*id))
        };
        let waiting: Vec<_> = control
            .workers
            .iter()
            .filter(|(_, w)| matters(w))
            .map(|(id, _)| *id)
            .collect();
        control.edge = edge;
        for id in waiting {
            self.wake(id);
        }
    }

    pub(crate) fn answered(&mut self, life: u64, service: ServiceId, answer: Answer) {
        let Some(mut worker) = self.take_worker(life, service) else {
            return;
        };
        let now = self.now;
        match answer {
            Answer::Image { operation, .. } if !worker.is_in(operation) => {}
            Answer::Image { progress, .. } => {
                if progress == ImageProgress::NotAsked {
                    worker.hold_off(now);
                }
                worker.image = progress;
            }
            Answer::Call {
                instance,
                kind,
                ok: true,
            } => {
                worker
                    .calls
                    .insert((instance, kind), CallState::Answered(now));
            }
            Answer::Call {
                instance,
                kind,
                ok: false,
            } => {
                worker.calls.remove(&(instance, kind));
                if let CallKind::Start(revision) = kind {
                    worker.unanswered.push((revision, instance));
                }
                worker.hold_off(now);
            }
            Answer::Forgotten { ok } => {
                self.put_worker(worker);
                return match ok {
                    true => self.steps_go_on(life, service),
                    false => self.round_ends(life, service, false),
                };
            }
        }
        self.put_worker(worker);
        self.wake(service);
    }

    /// Takes a request of an owner, if control is there.
    pub(crate) fn control_is_asked(&mut self, service: ServiceId, request: Request) -> bool {
        let control = self.control.as_mut();
        let worker = control.and_then(|control| control.workers.get_mut(&service));
        match worker {
            Some(worker) if worker.requests.len() < REQUESTS_WAITING_MAX => {
                worker.requests.push_back(request);
                self.wake(service);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Stores a new service and begins to work for it, if control is there.
    pub(crate) fn control_creates(&mut self, service: Service) -> bool {
        if self.control.is_none() || self.weather.disk_full {
            return false;
        }
        let id = service.id;
        self.commit(&service, None, None);
        if self.dies_at_step() {
            return true;
        }
        let generation = self.store.generation;
        if let Some(control) = &mut self.control {
            let mut worker = Worker::new(service, None, generation);
            worker.observe(control.current, Vec::new());
            control.workers.insert(id, worker);
        }
        self.wake(id);
        true
    }

    // ---- probes ------------------------------------------------------------------------------

    /// Every running instance is probed, and no other.
    fn look_after_probes(&mut self, life: u64, worker: &Worker) {
        for instance in &worker.observed {
            let Some(control) = &mut self.control else {
                return;
            };
            let InstanceState::Running { started_at, .. } = instance.state else {
                control.probes.remove(&instance.id);
                continue;
            };
            if control.probes.contains_key(&instance.id) {
                continue;
            }
            let revision = self
                .store
                .revision(instance.service, Some(instance.revision));
            let Some(revision) = revision else { continue };
            let health = match worker.in_route(instance.id) {
                true => Health::assumed_healthy(),
                false => Health::starting(),
            };
            let probed = Probed {
                service: instance.service,
                check: revision.settings.health.clone(),
                started_at,
                health,
            };
            control.probes.insert(instance.id, probed);
            let instance = instance.id;
            self.after(0, Event::Probe { life, instance });
        }
    }

    fn probed(&mut self, life: u64, instance: InstanceId) -> Option<&mut Probed> {
        let control = self
            .control
            .as_mut()
            .filter(|control| control.life == life)?;
        control.probes.get_mut(&instance)
    }

    pub(crate) fn probe(&mut self, life: u64, instance: InstanceId) {
        let Some(probed) = self.probed(life, instance) else {
            return;
        };
        let timeout = probed.check.timeout.as_millis() as u64;
        let accepts = self.engine.accepts(instance, self.now);
        let answers = self.engine.answers(instance, self.now) && !self.weather.probes_fail;
        let (takes, result) = match (accepts, answers) {
            (_, true) => (self.delay().min(timeout), ProbeResult::Passed),
            (true, false) => (timeout, ProbeResult::Failed("no answer".to_owned())),
            (false, false) => (
                self.delay().min(timeout),
                ProbeResult::Failed("connection refused".to_owned()),
            ),
        };
        self.after(
            takes,
            Event::ProbeEnds {
                life,
                instance,
                result,
            },
        );
    }

    pub(crate) fn probe_ends(&mut self, life: u64, instance: InstanceId, result: ProbeResult) {
        let now = self.now;
        let Some(probed) = self.probed(life, instance) else {
            return;
        };
        let before = probed.health.verdict;
        probed.health.record(&probed.check, result);
        let wait = probed
            .health
            .next_probe_in(&probed.check, probed.started_at, now);
        let (service, verdict) = (probed.service, probed.health.verdict);
        self.after(wait.as_millis() as u64, Event::Probe { life, instance });
        if before == Verdict::Unhealthy && verdict != before {
            self.violate(Rule::ServesOnlyHealthy, || {
                format!("instance {} was given up and came back", instance.short())
            });
        }
        if verdict != before {
            self.note(|| format!("instance {} is {verdict:?}", instance.short()));
            self.wake(service);
        }
    }

    // ---- rounds ------------------------------------------------------------------------------

    pub(crate) fn wake(&mut self, service: ServiceId) {
        let Some(control) = &mut self.control else {
            return;
        };
        let Some(worker) = control.workers.get_mut(&service) else {
            return;
        };
        if worker.busy {
            worker.woken = true;
        } else if !worker.round_due {
            worker.round_due = true;
            let life = control.life;
            self.after(0, Event::Round { life, service });
        }
    }

    pub(crate) fn timer(&mut self, life: u64, service: ServiceId, token: u64) {
        let control = self.control.as_ref().filter(|control| control.life == life);
        let worker = control.and_then(|control| control.workers.get(&service));
        if worker.is_some_and(|worker| worker.token == token) {
            self.wake(service);
        }
    }

    pub(crate) fn round(&mut self, life: u64, service: ServiceId) {
        let Some(mut worker) = self.take_worker(life, service) else {
            return;
        };
        worker.round_due = false;
        worker.busy = true;
        worker.rounds_now = match worker.rounds_now {
            (at, count) if at == self.now => (at, count + 1),
            _ => (self.now, 1),
        };
        if worker.rounds_now.1 > ROUNDS_AT_ONCE_MAX {
            return self.violate(Rule::Settles, || {
                format!("the plans of {} do not come to an end", service.short())
            });
        }
        while let Some(request) = worker.requests.pop_front() {
            let mut next = worker.service.clone();
            if let Request::Cancel { id } = request {
                self.checks.cancels(id);
            }
            if request.change(&mut next, self.now) {
                worker.again = true;
                self.put_worker(worker);
                return self.store_service(life, next, None, None);
            }
            self.totals.count("request of an owner refused");
        }
        worker.settle(self.now);
        self.look_after_probes(life, &worker);
        self.stop_again(life, &mut worker);
        let plan = self.plan(&mut worker);
        worker.again = plan.steps.iter().any(|step| {
            matches!(
                step,
                Step::Transition(_) | Step::Publish(_) | Step::Unpublish
            )
        });
        worker.look_again_in = plan.look_again_in;
        worker.steps = plan.steps.into();
        self.put_worker(worker);
        self.steps_go_on(life, service);
    }

    fn plan(&mut self, worker: &mut Worker) -> Plan {
        let Some(control) = &self.control else {
            return Plan::default();
        };
        let views = control.views(worker, self.now);
        let serving = control.report().map(|report| report.generation);
        // What the edge has told of the demand stays known when it goes.
        if serving.is_some() || worker.wanted.is_some() {
            let load = self.loads.get(&worker.service.id);
            worker.wanted = Some(load.copied().unwrap_or_default());
        }
        let service = &worker.service;
        let candidate = service
            .operation
            .as_ref()
            .and_then(|operation| operation.candidate);
        let active = self.store.revision(service.id, service.active);
        let candidate = self.store.revision(service.id, candidate);
        let plan = plan::plan(&View {
            now: self.now,
            timing: self.timing,
            service,
            active: active.as_deref(),
            candidate: candidate.as_deref(),
            wanted: worker.wanted,
            activity: match worker.wanted {
                None => None,
                Some(0) => Some(Activity::Frozen),
                Some(1) => Some(Activity::Throttled),
                Some(_) => Some(Activity::Active),
            },
            image: &worker.image,
            refused: None,
            engine_current: worker.current,
            instances: &views,
            published: worker.published.as_ref(),
            acknowledged: worker.acknowledged(serving),
        });
        self.check_plan(worker, &views, &plan);
        plan
    }

    /// Goes on with the round's steps until one has to be waited for.
    pub(crate) fn steps_go_on(&mut self, life: u64, service: ServiceId) {
        loop {
            let Some(mut worker) = self.take_worker(life, service) else {
                return;
            };
            let Some(step) = worker.steps.pop_front() else {
                self.put_worker(worker);
                return self.round_ends(life, service, true);
            };
            if self.dies_at_step() {
                return;
            }
            let name = service.short();
            match step {
                Step::Transition(transition) => {
                    self.note(|| format!("{name} {transition:?}"));
                    return self.transition(life, worker, transition);
                }
                Step::Publish(route) => {
                    let nobody = route.state == RouteState::Serving && route.upstreams.is_empty();
                    if nobody && worker.wanted == Some(0) {
                        self.totals.count("scaled to nothing");
                    }
                    return self.publish(life, worker, Some(route));
                }
                Step::Unpublish => return self.publish(life, worker, None),
                Step::ForgetService => {
                    self.put_worker(worker);
                    return self.call(life, service, Call::ForgetService);
                }
                Step::PrepareImage(reference) => {
                    let operation = worker.service.operation.as_ref().map(|o| o.id);
                    if let (None, Some(operation)) = (worker.retry_after, operation) {
                        worker.image = ImageProgress::Preparing;
                        let call = Call::Prepare {
                            operation,
                            reference,
                        };
                        self.call(life, service, call);
                    }
                }
                Step::Start { revision, .. } => self.start(life, &mut worker, revision),
                Step::SetActivity(instance, activity) => {
                    worker.activities.insert(instance, activity);
                }
                Step::Stop(instance, reason) => {
                    self.note(|| format!("{name} stop {} for {reason:?}", instance.short()));
                    worker.stopping.insert(instance, reason);
                    self.sibling_dies(instance);
                    self.stop(life, &mut worker, instance, reason);
                }
                Step::Remove(instance) => {
                    let call = Call::Remove { instance };
                    self.call_once(life, &mut worker, instance, CallKind::Remove, call);
                }
            }
            self.put_worker(worker);
            if self.random.per_mille(200) {
                let pause = self.random.below(3);
                return self.after(pause, Event::StepsGoOn { life, service });
            }
        }
    }

    fn transition(&mut self, life: u64, worker: Box<Worker>, transition: Transition) {
        let mut next = worker.service.clone();
        match next.apply(transition, self.now) {
            Ok(applied) => {
                self.put_worker(worker);
                self.store_service(life, next, applied.revision, applied.ended);
            }
            Err(illegal) => self.violate(Rule::StatusesAreLegal, || illegal.to_string()),
        }
    }

    /// Stores a service as it is next. The worker goes on when it is told; control may die before.
    fn store_service(
        &mut self,
        life: u64,
        next: Service,
        revision: Option<ekiden_model::revision::Revision>,
        ended: Option<ekiden_model::service::Operation>,
    ) {
        let service = next.id;
        let delay = self.delay();
        let outcome = match self.weather.disk_full {
            true => Outcome::Failed,
            false => {
                self.commit(&next, revision.as_ref(), ended.as_ref());
                if self.dies_at_step() {
                    return;
                }
                Outcome::Stored(Box::new(next))
            }
        };
        let outcome = Box::new(outcome);
        self.after(
            delay,
            Event::StepDone {
                life,
                service,
                outcome,
            },
        );
    }

    /// Stores a route; it is sent when that is known to be done, one change after the other.
    fn publish(&mut self, life: u64, mut worker: Box<Worker>, route: Option<Route>) {
        let service = worker.service.id;
        let Some(control) = &mut self.control else {
            return;
        };
        if control.publishing {
            worker
                .steps
                .push_front(route.map_or(Step::Unpublish, Step::Publish));
            self.put_worker(worker);
            return self.after(1, Event::StepsGoOn { life, service });
        }
        control.publishing = true;
        self.put_worker(worker);
        let delay = self.delay();
        let outcome = match self.weather.disk_full {
            true => Outcome::Failed,
            false => {
                let generation = self.store.put_route(service, route.as_ref());
                self.note(|| {
                    let route = route.as_ref().map(|r| (r.state, ids(r)));
                    format!("{} publish {route:?} in {}", service.short(), generation.0)
                });
                if self.dies_at_step() {
                    return;
                }
                Outcome::Published(route, generation)
            }
        };
        let outcome = Box::new(match outcome {
            Outcome::Failed => {
                if let Some(control) = &mut self.control {
                    control.publishing = false;
                }
                Outcome::Failed
            }
            other => other,
        });
        self.after(
            delay,
            Event::StepDone {
                life,
                service,
                outcome,
            },
        );
    }

    pub(crate) fn step_done(&mut self, life: u64, service: ServiceId, outcome: Outcome) {
        let Some(mut worker) = self.take_worker(life, service) else {
            return;
        };
        match outcome {
            Outcome::Stored(next) => {
                worker.image = ImageProgress::NotAsked;
                worker.service = *next;
            }
            Outcome::Published(route, generation) => {
                worker
                    .routed
                    .extend(route.iter().flat_map(|r| &r.upstreams).map(|u| u.instance));
                worker.published_in = generation;
                self.table_changes(service, route.clone(), generation);
                worker.published = route;
            }
            Outcome::Failed => {
                self.totals.count("write refused by a full disk");
                self.put_worker(worker);
                return self.round_ends(life, service, false);
            }
        }
        self.put_worker(worker);
        self.steps_go_on(life, service);
    }

    fn table_changes(&mut self, service: ServiceId, route: Option<Route>, generation: Generation) {
        let Some(control) = &mut self.control else {
            return;
        };
        control.publishing = false;
        let mut routes = control.table.routes.clone();
        match route {
            Some(route) => routes.insert(service, Rc::new(route)),
            None => routes.remove(&service),
        };
        control.table = Rc::new(Table { generation, routes });
        if let Some((connection, _)) = control.edge {
            let table = Rc::clone(&control.table);
            self.send(Channel::Tables, Event::TableArrives { connection, table });
        }
    }

    fn round_ends(&mut self, life: u64, service: ServiceId, done: bool) {
        let Some(mut worker) = self.take_worker(life, service) else {
            return;
        };
        worker.busy = false;
        worker.steps.clear();
        if worker.service.settled == ServiceStatus::Deleted && worker.service.operation.is_none() {
            return self.service_gone(service);
        }
        match done {
            true if worker.retry_after.is_none() => worker.failures_in_a_row = 0,
            true => {}
            false => worker.hold_off(self.now),
        }
        let at_once = (done && std::mem::take(&mut worker.again)) || worker.woken;
        worker.woken = false;
        let answered = |state: &CallState| matches!(state, CallState::Answered(_));
        let settles_in = worker.calls.values().any(answered).then_some(SETTLE);
        let retry_in = worker.retry_after.map(|at| at.since(self.now));
        let waits = [worker.look_again_in.filter(|_| done), retry_in, settles_in];
        worker.token += 1;
        let token = worker.token;
        self.put_worker(worker);
        if at_once {
            self.wake(service);
        } else if let Some(wait) = waits.into_iter().flatten().min() {
            let at = self.now.plus(wait.max(Duration::from_millis(1)));
            self.at(
                at,
                Event::Timer {
                    life,
                    service,
                    token,
                },
            );
        }
    }

    // ---- calls -------------------------------------------------------------------------------

    fn start(&mut self, life: u64, worker: &mut Worker, revision: RevisionNumber) {
        let service = worker.service.id;
        let Some(image) = self.store.revision(service, Some(revision)) else {
            return;
        };
        if worker.retry_after.is_some() {
            return;
        }
        let again = worker
            .unanswered
            .iter()
            .position(|(other, _)| *other == revision);
        let instance = match again {
            Some(index) => worker.unanswered.swap_remove(index).1,
            None => instance_id(&mut self.random),
        };
        worker.started.insert(instance);
        self.note(|| {
            format!(
                "{} start {} of {revision}",
                service.short(),
                instance.short()
            )
        });
        let behaviour = Behaviour::of(&image.image);
        let call = Call::Start {
            instance,
            revision,
            behaviour,
        };
        self.call_once(life, worker, instance, CallKind::Start(revision), call);
    }

    fn stop(&mut self, life: u64, worker: &mut Worker, instance: InstanceId, reason: StopReason) {
        let grace = self.timing.stop_grace;
        let call = Call::Stop {
            instance,
            reason,
            grace,
        };
        self.call_once(life, worker, instance, CallKind::Stop, call);
    }

    /// A stop that was sent once is sent until it shows: the plan takes it as done.
    fn stop_again(&mut self, life: u64, worker: &mut Worker) {
        let unseen: Vec<_> = worker
            .observed
            .iter()
            .filter(|i| {
                matches!(
                    i.state,
                    InstanceState::Running { .. } | InstanceState::Creating
                )
            })
            .filter_map(|i| worker.stopping.get(&i.id).map(|reason| (i.id, *reason)))
            .collect();
        for (instance, reason) in unseen {
            self.stop(life, worker, instance, reason);
        }
    }

    fn call_once(
        &mut self,
        life: u64,
        worker: &mut Worker,
        instance: InstanceId,
        kind: CallKind,
        call: Call,
    ) {
        if worker.retry_after.is_some() || worker.calls.contains_key(&(instance, kind)) {
            return;
        }
        worker.calls.insert((instance, kind), CallState::Running);
        self.call(life, worker.service.id, call);
    }
}

fn ids(route: &Route) -> Vec<String> {
    route
        .upstreams
        .iter()
        .map(|upstream| upstream.instance.short())
        .collect()
}
