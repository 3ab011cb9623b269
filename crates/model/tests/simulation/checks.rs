//! What must be true, whatever happens.
//!
//! Checks look at what is, where the simulation knows it and control can only believe: a stop is
//! judged by what the edge's workers hold at that moment, a failure by what the instance did.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    time::Duration,
};

use ekiden_model::{
    health::Verdict,
    id::{InstanceId, OperationId, ServiceId},
    instance::{Activity, ExitCause, InstanceState, RevisionNumber, StopReason},
    plan::{CRASHES_KEPT_MAX, InstanceView, Plan, Step, Traffic},
    revision::{Revision, Settings},
    route::{Route, RouteState, Upstream},
    service::{
        FailureCause, OPERATION_STEPS_MAX, Operation, OperationKind, OperationStatus, Phase,
        Service, ServiceStatus, Transition,
    },
    time::Timestamp,
};

use crate::{behaviour::Behaviour, control::Worker, world::World};

/// The rules, in the order of ARCHITECTURE.md, "What the simulator checks".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    LosesNoRequest,
    ServesOnlyHealthy,
    SomeoneServes,
    StopsOnlyUnrouted,
    StatusesAreLegal,
    Ends,
    FailureChangesNothing,
    ConvergesExactly,
    StartsAreBounded,
    EndsAsDeserved,
    Settles,
    CancelsAreKept,
}

/// A rule that was broken, and how.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self.rule {
            Rule::LosesNoRequest => "1, no request is lost by our doing",
            Rule::ServesOnlyHealthy => "2, only healthy instances of the active revision serve",
            Rule::SomeoneServes => "3, a service that can serve does",
            Rule::StopsOnlyUnrouted => "4, an instance is stopped only once no edge has it",
            Rule::StatusesAreLegal => "5, statuses are those of the specification",
            Rule::Ends => "6, every operation ends",
            Rule::FailureChangesNothing => "7, a failure leaves everything as it was",
            Rule::ConvergesExactly => "8, what is comes to be what is wanted",
            Rule::StartsAreBounded => "9, starts are bounded",
            Rule::EndsAsDeserved => "10, operations end as their image deserves",
            Rule::Settles => "11, nothing is done when nothing is to do",
            Rule::CancelsAreKept => "13, a cancelled operation comes to nothing",
        };
        write!(f, "rule {rule}: {}", self.message)
    }
}

/// What is remembered of the past to judge the present.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// Steps planned for services whose instances keep serving.
    pub(crate) steps_of_steady: u64,
    before: BTreeMap<ServiceId, Before>,
    starts: BTreeMap<ServiceId, VecDeque<Timestamp>>,
    /// What explains starts: operations and faults.
    excuses: VecDeque<Timestamp>,
    /// Operations that an owner has asked to cancel.
    cancels: BTreeSet<OperationId>,
}

/// A service when its operation was accepted.
#[derive(Debug)]
struct Before {
    settings: Settings,
    configuration: String,
    active: Option<RevisionNumber>,
    served: Vec<RevisionNumber>,
}

/// Over which starts are counted.
const STARTS_WINDOW: Duration = Duration::from_secs(60);

/// Starts of one service in the window that need no excuse: three instances that crash in a loop
/// reach the longest wait of the back-off after some 10 starts and go on with 3 every 16 s.
const STARTS_MAX: usize = 30;

/// Starts that one fault or operation explains: three instances, their attempts, and those that a
/// control plane without memory starts once more.
const STARTS_PER_EXCUSE: usize = 12;

impl Checks {
    pub(crate) fn cancels(&mut self, operation: OperationId) {
        self.cancels.insert(operation);
    }

    pub(crate) fn excuse_all(&mut self, now: Timestamp) {
        self.excuses.push_back(now);
        while self
            .excuses
            .front()
            .is_some_and(|at| now.since(*at) > STARTS_WINDOW)
        {
            self.excuses.pop_front();
        }
    }

    fn excused(&self, now: Timestamp) -> usize {
        self.excuses
            .iter()
            .filter(|at| now.since(**at) <= STARTS_WINDOW)
            .count()
    }
}

impl World {
    // ---- durable state -----------------------------------------------------------------------

    /// The one way to the store's services: what a client polls is judged here.
    pub(crate) fn commit(
        &mut self,
        next: &Service,
        revision: Option<&Revision>,
        ended: Option<&Operation>,
    ) {
        let before = self.store.services.get(&next.id).cloned();
        if let Some(problem) = self.illegal(before.as_ref(), next, ended) {
            self.violate(Rule::StatusesAreLegal, || problem);
        }
        if let Some(problem) = self.bad_cancel(before.as_ref(), next, ended) {
            self.violate(Rule::CancelsAreKept, || problem);
        }
        let wanted = before
            .as_ref()
            .and_then(|before| before.operation.as_ref())
            .and_then(|operation| operation.change.as_ref())
            .and_then(|change| change.returns_to);
        if let (Some(wanted), Some(revision)) = (wanted, revision) {
            let other =
                wanted.digest != revision.image.digest || revision.copy_of != Some(wanted.number);
            if other {
                self.violate(Rule::EndsAsDeserved, || {
                    format!(
                        "revision {} was returned to by another image",
                        wanted.number
                    )
                });
            }
        }
        let accepted = before
            .as_ref()
            .is_none_or(|before| before.operation.is_none());
        if accepted {
            self.totals.count("operation accepted");
            self.checks.excuse_all(self.now);
            self.checks.before.insert(
                next.id,
                Before {
                    settings: next.settings.clone(),
                    configuration: next.configuration.clone(),
                    active: before.as_ref().and_then(|before| before.active),
                    served: next.served.clone(),
                },
            );
        }
        if let Some(ended) = ended {
            self.check_end(next, ended);
        }
        self.store.put_service(next, revision, ended);
    }

    fn illegal(
        &self,
        before: Option<&Service>,
        next: &Service,
        ended: Option<&Operation>,
    ) -> Option<String> {
        let was = before.and_then(|before| before.operation.as_ref());
        let is = ended.or(next.operation.as_ref());
        match (was, is) {
            (None, None) => Some("a service without an operation was changed".to_owned()),
            (None, Some(is)) => {
                let wrong = is.status != OperationStatus::Pending
                    || before.is_some_and(|before| !allowed(is.kind, before.settled));
                wrong.then(|| format!("{} was accepted as {}", is.kind, is.status))
            }
            (Some(_), None) => Some("an operation vanished".to_owned()),
            (Some(was), Some(is)) => {
                let other = was.id != is.id || was.kind != is.kind;
                let ended_at = is.ended_at.is_some() == is.status.is_over();
                let legal = follows(is.kind, was.status, is.status)
                    && ended_at
                    && !other
                    && steps_follow(was, is);
                (!legal).then(|| format!("{} went from {} to {}", is.kind, was.status, is.status))
            }
        }
    }

    /// What was cancelled stays so; and nothing is cancelled that nobody asked to be.
    fn bad_cancel(
        &self,
        before: Option<&Service>,
        next: &Service,
        ended: Option<&Operation>,
    ) -> Option<String> {
        let was = before.and_then(|before| before.operation.as_ref());
        let is = ended.or(next.operation.as_ref())?;
        let cancelled = |operation: &Operation| {
            let failure = operation.failure.as_ref();
            failure.is_some_and(|failure| failure.cause == FailureCause::Cancelled)
        };
        if cancelled(is) && !self.checks.cancels.contains(&is.id) {
            return Some(format!("{} was cancelled by nobody", is.kind));
        }
        let was_cancelled = was.is_some_and(cancelled);
        if was_cancelled && (!cancelled(is) || is.phase != Phase::Undo) {
            return Some(format!("{} went on after it was cancelled", is.kind));
        }
        let switched = was.is_some_and(|was| matches!(was.phase, Phase::Switch | Phase::Drain));
        (cancelled(is) && switched)
            .then(|| format!("{} was cancelled in phase `{}`", is.kind, Phase::Switch))
    }

    /// An operation is over: what it left behind is what its outcome says.
    fn check_end(&mut self, service: &Service, ended: &Operation) {
        self.totals
            .count(&format!("operation: {} {}", ended.kind, ended.status));
        let succeeded = ended.status == OperationStatus::Succeeded;
        if let Some(failure) = &ended.failure {
            let cause = match &failure.cause {
                FailureCause::Image { .. } => "image",
                FailureCause::Build { .. } => "build",
                FailureCause::Secrets { .. } => "secrets",
                FailureCause::Crashed { .. } => "crashed",
                FailureCause::NotHealthy { .. } => "not healthy",
                FailureCause::Engine { .. } => "engine",
                FailureCause::Cancelled => "cancelled",
            };
            self.totals.count(&format!("failure: {cause}"));
        }
        if ended.failure.is_some() == succeeded {
            return self.violate(Rule::FailureChangesNothing, || {
                format!("{} ended {} without its cause", ended.kind, ended.status)
            });
        }
        let Some(before) = self.checks.before.remove(&service.id) else {
            return;
        };
        let kept = service.active == before.active
            && service.served == before.served
            && service.settings == before.settings
            && service.configuration == before.configuration;
        if !succeeded && (!kept || service.settled != ended.from) {
            return self.violate(Rule::FailureChangesNothing, || {
                format!(
                    "{} failed and left another configuration or status",
                    ended.kind
                )
            });
        }
        let want = match ended.kind {
            OperationKind::PauseService => ServiceStatus::Paused,
            OperationKind::DeleteService => ServiceStatus::Deleted,
            OperationKind::CreateService
            | OperationKind::UpdateService
            | OperationKind::StartDeployment
            | OperationKind::ResumeService => ServiceStatus::Running,
        };
        if succeeded && service.settled != want {
            self.violate(Rule::StatusesAreLegal, || {
                format!(
                    "{} succeeded and left the service {}",
                    ended.kind, service.settled
                )
            });
        }
    }

    // ---- plans -------------------------------------------------------------------------------

    pub(crate) fn check_plan(&mut self, worker: &Worker, views: &[InstanceView], plan: &Plan) {
        if self.is_steady(&worker.service) {
            self.checks.steps_of_steady += plan.steps.len() as u64;
        }
        if let Some((rule, message)) = self.bad_rest(worker, views, plan) {
            let name = worker.service.id.short();
            return self.violate(rule, || format!("{name}: {message}"));
        }
        for step in &plan.steps {
            let broken = match step {
                Step::Publish(route) => self.bad_route(worker, views, route),
                Step::Unpublish => bad_unpublish(&worker.service),
                Step::Stop(id, reason) => self.bad_stop(worker, views, plan, *id, *reason),
                Step::Remove(id) => bad_remove(views, *id),
                Step::SetActivity(id, activity) => bad_rest(worker, views, *id, *activity),
                Step::Transition(transition) => self.bad_transition(worker, views, transition),
                Step::Start { revision, .. } => self.bad_start(worker, views, plan, *revision),
                Step::PrepareImage(_) | Step::ForgetService => None,
            };
            if let Some((rule, message)) = broken {
                let name = worker.service.id.short();
                return self.violate(rule, || format!("{name}: {message}"));
            }
        }
    }

    /// What the plan should have done and did not: what serves is kept whole, whatever else goes
    /// on, unless the back-off says to wait.
    fn bad_rest(&self, worker: &Worker, views: &[InstanceView], plan: &Plan) -> Broken {
        let service = &worker.service;
        let records = plan
            .steps
            .iter()
            .any(|step| matches!(step, Step::Transition(_)));
        if records || !worker.current || !self.serves_throughout(service) {
            return None;
        }
        let revision = self.store.revision(service.id, service.active)?;
        let of_active = || views.iter().filter(|view| view.revision == revision.number);
        let alive = of_active().filter(|view| is_alive(view)).count();
        let starts = plan.steps.iter().any(|step| starts(step, revision.number));
        let crashes = of_active().filter(|view| matches!(view.state, InstanceState::Exited(_)));
        let waits = crashes.count() >= 2 && plan.look_again_in.is_some();
        let whole = alive >= needed(worker, &revision) || starts || waits;
        (!whole).then(|| {
            let message = format!("{alive} instances of the active revision, and none is started");
            (Rule::FailureChangesNothing, message)
        })
    }

    fn bad_route(&self, worker: &Worker, views: &[InstanceView], route: &Route) -> Broken {
        let service = &worker.service;
        let published = worker.published.as_ref();
        let was_in = |id| published.is_some_and(|r| r.upstreams.iter().any(|u| u.instance == id));
        if route.state != RouteState::Serving {
            let wrong = self.serves_throughout(service) || !route.upstreams.is_empty();
            return wrong.then(|| {
                (
                    Rule::SomeoneServes,
                    format!("{:?} was published for it", route.state),
                )
            });
        }
        for upstream in &route.upstreams {
            let view = views.iter().find(|view| view.id == upstream.instance);
            let may = match view {
                Some(view) => is_healthy(view),
                None => !worker.current && was_in(upstream.instance),
            };
            let other = Some(upstream.revision) != service.active;
            let active_could = views
                .iter()
                .any(|view| Some(view.revision) == service.active && is_healthy(view));
            if !may || (other && active_could) {
                let name = upstream.instance.short();
                let message = format!("instance {name} was put into the route: {view:?}");
                return Some((Rule::ServesOnlyHealthy, message));
            }
        }
        let kept = |id| {
            route
                .upstreams
                .iter()
                .any(|upstream| upstream.instance == id)
        };
        let unseen = |id| !worker.current && !views.iter().any(|view| view.id == id);
        let of_active = |upstream: &&Upstream| Some(upstream.revision) == service.active;
        let before = published.map_or(&[][..], |route| &route.upstreams);
        if let Some(gone) = before
            .iter()
            .filter(of_active)
            .find(|upstream| unseen(upstream.instance) && !kept(upstream.instance))
        {
            let name = gone.instance.short();
            let message = format!("instance {name} left the route while nobody could see it");
            return Some((Rule::SomeoneServes, message));
        }
        let wrongly_out = |view: &&InstanceView| {
            Some(view.revision) == service.active
                && was_in(view.id)
                && !kept(view.id)
                && view.verdict == Verdict::Starting
                && never_seen_failing(view)
        };
        if let Some(view) = views.iter().find(wrongly_out) {
            let name = view.id.short();
            let message = format!("instance {name} left the route and no probe had failed");
            return Some((Rule::SomeoneServes, message));
        }
        let could = |view: &&InstanceView| is_healthy(view) && was_in(view.id);
        match views.iter().find(could) {
            Some(view) if route.upstreams.is_empty() && self.needs_someone(worker) => {
                let message = format!("nobody serves although {} could", view.id.short());
                Some((Rule::SomeoneServes, message))
            }
            Some(_) | None => None,
        }
    }

    fn bad_stop(
        &self,
        worker: &Worker,
        views: &[InstanceView],
        plan: &Plan,
        id: InstanceId,
        reason: StopReason,
    ) -> Broken {
        let service = &worker.service;
        let view = views.iter().find(|view| view.id == id)?;
        match reason {
            StopReason::Unhealthy if view.verdict != Verdict::Unhealthy => Some((
                Rule::EndsAsDeserved,
                "a healthy instance was called unhealthy".to_owned(),
            )),
            StopReason::StartTimeout if never_seen_failing(view) => Some((
                Rule::EndsAsDeserved,
                "an instance nobody had probed was late".to_owned(),
            )),
            StopReason::Unhealthy | StopReason::StartTimeout => None,
            StopReason::NotNeeded => {
                if !self.serves_throughout(service) || Some(view.revision) != service.active {
                    return None;
                }
                let stopped = |other: &InstanceView| {
                    let stops = |step: &Step| matches!(step, Step::Stop(id, _) if *id == other.id);
                    plan.steps.iter().any(stops)
                };
                let revision = self.store.revision(service.id, service.active)?;
                let left = views.iter().filter(|other| {
                    other.revision == view.revision
                        && !stopped(other)
                        && if is_healthy(view) {
                            is_healthy(other)
                        } else {
                            is_alive(other)
                        }
                });
                (left.count() < needed(worker, &revision)).then(|| {
                    let message = format!("instance {} was needed and stopped", id.short());
                    (Rule::FailureChangesNothing, message)
                })
            }
        }
    }

    fn bad_transition(
        &self,
        worker: &Worker,
        views: &[InstanceView],
        transition: &Transition,
    ) -> Broken {
        let operation = worker.service.operation.as_ref()?;
        match transition {
            Transition::Switch => {
                let revision = self
                    .store
                    .revision(worker.service.id, operation.candidate)?;
                let healthy = views
                    .iter()
                    .filter(|view| Some(view.revision) == operation.candidate && is_healthy(view));
                let message = "traffic was switched to a revision that is not whole".to_owned();
                let serving = match operation.from {
                    ServiceStatus::Running => self
                        .store
                        .revision(worker.service.id, worker.service.active),
                    _ => None,
                };
                let serving = serving.map_or(0, |serving| needed(worker, &serving));
                let most = revision.settings.scaling.instances_max as usize;
                (healthy.count() < serving.clamp(needed_first(&revision), most))
                    .then_some((Rule::FailureChangesNothing, message))
            }
            Transition::Fail(failure) => match (&failure.cause, failure.instance) {
                (FailureCause::Crashed { exit, .. }, _) if *exit == ExitCause::Lost => {
                    let message = "it failed because its host was lost".to_owned();
                    Some((Rule::EndsAsDeserved, message))
                }
                (FailureCause::NotHealthy { .. }, Some(id)) => {
                    let view = views.iter().find(|view| view.id == id)?;
                    let message = format!("it failed by instance {} unseen", id.short());
                    never_seen_failing(view).then_some((Rule::EndsAsDeserved, message))
                }
                _ => None,
            },
            Transition::Undone => {
                let left = |view: &&InstanceView| Some(view.revision) == operation.candidate;
                let left = views.iter().find(left)?;
                let message = format!("it is undone and instance {} is left", left.id.short());
                Some((Rule::FailureChangesNothing, message))
            }
            Transition::Succeed => self.bad_success(&worker.service, operation),
            Transition::Begin | Transition::Deploy(_) => None,
        }
    }

    /// Who is told that it is done finds it done at every worker of the edge.
    fn bad_success(&self, service: &Service, operation: &Operation) -> Broken {
        let want = match operation.kind {
            OperationKind::PauseService => RouteState::Paused,
            // Nothing is left that an edge could choose; that the route goes too is checked in the
            // end.
            OperationKind::DeleteService => return None,
            OperationKind::CreateService
            | OperationKind::UpdateService
            | OperationKind::StartDeployment
            | OperationKind::ResumeService => RouteState::Serving,
        };
        let other = |route: &Option<&Route>| route.is_none_or(|route| route.state != want);
        self.routes_of(service.id)
            .any(|route| other(&route))
            .then(|| {
                let message = format!("{} succeeded before the edge knows", operation.kind);
                (Rule::EndsAsDeserved, message)
            })
    }

    fn bad_start(
        &self,
        worker: &Worker,
        views: &[InstanceView],
        plan: &Plan,
        number: RevisionNumber,
    ) -> Broken {
        let revision = self.store.revision(worker.service.id, Some(number))?;
        let alive = views
            .iter()
            .filter(|view| view.revision == number && is_alive(view))
            .count();
        let starts = plan
            .steps
            .iter()
            .filter(|step| starts(step, number))
            .count();
        if !worker.current {
            let message = "an instance was started while nobody could see those there are";
            return Some((Rule::StartsAreBounded, message.to_owned()));
        }
        let mut most = needed_first(&revision);
        for of in [Some(number), worker.service.active] {
            if let Some(revision) = self.store.revision(worker.service.id, of) {
                // While nobody knows the demand what is there is kept.
                let there = views
                    .iter()
                    .filter(|view| view.revision == revision.number && is_alive(view));
                let unknown = worker.wanted.map_or(there.count(), |_| 0);
                most = most.max(needed(worker, &revision)).max(unknown);
            }
        }
        (alive + starts > most && !self.engine_shows_late(views)).then(|| {
            let message = format!("{starts} were started while {alive} are alive");
            (Rule::StartsAreBounded, message)
        })
    }

    /// Whether an instance is being given up for being late: it is alive and does not count.
    fn engine_shows_late(&self, views: &[InstanceView]) -> bool {
        let limit = self.timing.startup_limit;
        views.iter().any(|view| match view.state {
            InstanceState::Creating => self.now.since(view.created_at) >= limit,
            InstanceState::Running { started_at, .. } => {
                view.verdict == Verdict::Starting && self.now.since(started_at) >= limit
            }
            InstanceState::Stopping { .. } | InstanceState::Exited(_) => false,
        })
    }

    // ---- starts ------------------------------------------------------------------------------

    pub(crate) fn check_start(
        &mut self,
        service: ServiceId,
        id: InstanceId,
        revision: RevisionNumber,
    ) {
        self.totals.count("instance started");
        let now = self.now;
        let starts = self.checks.starts.entry(service).or_default();
        starts.push_back(now);
        while starts
            .front()
            .is_some_and(|at| now.since(*at) > STARTS_WINDOW)
        {
            starts.pop_front();
        }
        let count = starts.len();
        if count > STARTS_MAX + STARTS_PER_EXCUSE * self.checks.excused(now) {
            self.violate(Rule::StartsAreBounded, || {
                let name = id.short();
                format!("instance {name} of revision {revision} is the {count}th in a minute")
            });
        }
    }

    // ---- the end -----------------------------------------------------------------------------

    /// What is not yet as it should be once nothing goes wrong any more.
    pub(crate) fn unsettled(&self) -> Option<(Rule, String)> {
        if self.control.is_none() || !self.engine.up || !self.edge.up {
            return Some((
                Rule::ConvergesExactly,
                "a part of Ekiden is down".to_owned(),
            ));
        }
        for service in self.store.services.values() {
            let name = service.id.short();
            if let Some(operation) = &service.operation {
                let (kind, phase) = (operation.kind, operation.phase);
                return Some((
                    Rule::Ends,
                    format!("{kind} of {name} is in phase `{phase}`"),
                ));
            }
            if let Some(problem) = self.differs(service) {
                return Some((Rule::ConvergesExactly, format!("{name}: {problem}")));
            }
        }
        let stray = self
            .engine
            .instances
            .iter()
            .find(|(_, instance)| !self.store.services.contains_key(&instance.service));
        stray.map(|(id, _)| {
            (
                Rule::ConvergesExactly,
                format!("instance {} is nobody's", id.short()),
            )
        })
    }

    fn differs(&self, service: &Service) -> Option<String> {
        let instances: Vec<_> = self
            .engine
            .instances
            .iter()
            .filter(|(_, instance)| instance.service == service.id)
            .collect();
        let want = match service.settled {
            ServiceStatus::Running => RouteState::Serving,
            ServiceStatus::Paused => RouteState::Paused,
            ServiceStatus::CreateFailed => RouteState::NotDeployed,
            ServiceStatus::Deleted => {
                let routed = self.routes_of(service.id).any(|route| route.is_some());
                return match (
                    instances.len(),
                    routed || self.store.routes.contains_key(&service.id),
                ) {
                    (0, false) => None,
                    (0, true) => Some("it is deleted and has a route".to_owned()),
                    (count, _) => Some(format!("it is deleted and has {count} instances")),
                };
            }
            ServiceStatus::DeleteFailed | ServiceStatus::OperationInProgress => {
                return Some(format!("it settled as {}", service.settled));
            }
        };
        let wrong = |route: &Option<&Route>| route.is_none_or(|route| route.state != want);
        if self.routes_of(service.id).any(|route| wrong(&route)) {
            return Some(format!(
                "it is {} and not every worker knows",
                service.settled
            ));
        }
        if want != RouteState::Serving {
            let count = instances.len();
            return (count > 0).then(|| format!("it is {} with {count}", service.settled));
        }
        self.serves_otherwise(service)
    }

    fn serves_otherwise(&self, service: &Service) -> Option<String> {
        let Some(revision) = self.store.revision(service.id, service.active) else {
            return Some("it runs without a revision".to_owned());
        };
        let behaviour = Behaviour::of(&revision.image);
        if behaviour.is_hopeless() {
            return Some(format!("it runs a revision that {behaviour:?}"));
        }
        let of_service = || {
            self.engine
                .instances
                .iter()
                .filter(|(_, i)| i.service == service.id)
        };
        let alive: BTreeSet<_> = self
            .engine
            .alive()
            .filter(|(_, instance)| instance.service == service.id)
            .map(|(id, _)| id)
            .collect();
        let records = of_service().count() - alive.len();
        let wanted = self.wanted_now(service, &revision);
        if records > CRASHES_KEPT_MAX + wanted.max(1) {
            return Some(format!("it has {records} records of ended instances"));
        }
        if !behaviour.is_steady() {
            // Its instances come and go; those of the revision before may serve while there is
            // none.
            return None;
        }
        if of_service().any(|(_, instance)| instance.revision != revision.number) {
            return Some("it has instances of another revision".to_owned());
        }
        if alive.len() != wanted {
            let alive = alive.len();
            return Some(format!("{alive} instances are alive, {wanted} wanted"));
        }
        if alive.iter().any(|id| !self.engine.answers(*id, self.now)) {
            return Some("an instance does not answer".to_owned());
        }
        let believed = |id: &InstanceId| self.control.as_ref().is_some_and(|c| c.trusts(*id));
        if !alive.iter().all(believed) {
            return Some("an instance is not taken for healthy".to_owned());
        }
        let serving = |route: &Route| -> BTreeSet<InstanceId> {
            route
                .upstreams
                .iter()
                .map(|upstream| upstream.instance)
                .collect()
        };
        let all = self
            .routes_of(service.id)
            .all(|route| route.is_some_and(|r| serving(r) == alive));
        (!all).then(|| "not every worker knows its instances".to_owned())
    }

    /// How many instances the service should have by what is asked of it.
    pub(crate) fn wanted_now(&self, service: &Service, revision: &Revision) -> usize {
        let (least, most) = service
            .scaling
            .bounds(&revision.settings.scaling, Timestamp::default());
        let load = self.loads.get(&service.id).copied().unwrap_or_default();
        load.clamp(least, most) as usize
    }

    /// Whether the plan was to have somebody serve.
    fn needs_someone(&self, worker: &Worker) -> bool {
        let revision = self
            .store
            .revision(worker.service.id, worker.service.active);
        worker.wanted.is_none() || revision.is_none_or(|revision| needed(worker, &revision) > 0)
    }

    /// The service's route as each worker of the edge has it.
    fn routes_of(&self, service: ServiceId) -> impl Iterator<Item = Option<&Route>> {
        let workers = self.edge.workers().iter();
        workers.map(move |table| table.routes.get(&service).map(AsRef::as_ref))
    }
}

/// A rule and how it was broken, if it was.
type Broken = Option<(Rule, String)>;

fn bad_unpublish(service: &Service) -> Broken {
    let deleting = service.operation.as_ref().is_some_and(|operation| {
        operation.kind == OperationKind::DeleteService && operation.phase == Phase::Drain
    });
    let message = "its route was taken away".to_owned();
    (!deleting).then_some((Rule::SomeoneServes, message))
}

/// What starts, fails or is on its way out does not rest, nor does anybody during an operation.
fn bad_rest(worker: &Worker, views: &[InstanceView], id: InstanceId, activity: Activity) -> Broken {
    let service = &worker.service;
    let may = views.iter().any(|view| {
        view.id == id
            && is_healthy(view)
            && !view.failing
            && view.traffic == Traffic::Routed
            && Some(view.revision) == service.active
            && service.operation.is_none()
    });
    let message = format!("instance {} became {activity}", id.short());
    (activity != Activity::Active && !may).then_some((Rule::SomeoneServes, message))
}

fn bad_remove(views: &[InstanceView], id: InstanceId) -> Broken {
    let over = |view: &InstanceView| matches!(view.state, InstanceState::Exited(_));
    let ended = views.iter().any(|view| view.id == id && over(view));
    let message = format!("instance {} was removed before it ended", id.short());
    (!ended).then_some((Rule::StopsOnlyUnrouted, message))
}

fn is_healthy(view: &InstanceView) -> bool {
    view.verdict == Verdict::Healthy && matches!(view.state, InstanceState::Running { .. })
}

fn is_alive(view: &InstanceView) -> bool {
    view.verdict != Verdict::Unhealthy
        && matches!(
            view.state,
            InstanceState::Running { .. } | InstanceState::Creating
        )
}

/// How many instances of a serving revision the plan was to have at least.
fn needed(worker: &Worker, revision: &Revision) -> usize {
    let service = &worker.service;
    let (least, most) = service
        .scaling
        .bounds(&revision.settings.scaling, Timestamp::default());
    let operation = service.operation.as_ref();
    let switches = operation.is_some_and(|operation| operation.phase == Phase::Switch);
    let wanted = worker.wanted.unwrap_or_default().clamp(least, most);
    wanted.max(switches.into()) as usize
}

/// How many instances a candidate has at least.
fn needed_first(revision: &Revision) -> usize {
    revision.settings.scaling.instances_min.max(1) as usize
}

fn never_seen_failing(view: &InstanceView) -> bool {
    matches!(view.state, InstanceState::Running { .. }) && view.last_failure.is_none()
}

/// Which requests a status allows (specification, section 4.1.1); `CreateService` makes its own.
fn allowed(kind: OperationKind, status: ServiceStatus) -> bool {
    use {OperationKind as K, ServiceStatus as S};
    match kind {
        K::CreateService => false,
        K::UpdateService => matches!(status, S::Running | S::CreateFailed),
        K::StartDeployment | K::PauseService => status == S::Running,
        K::ResumeService => status == S::Paused,
        K::DeleteService => {
            matches!(
                status,
                S::Running | S::Paused | S::CreateFailed | S::DeleteFailed
            )
        }
    }
}

/// Steps are only ever added, one for each phase, in the order of their times.
fn steps_follow(was: &Operation, is: &Operation) -> bool {
    let in_order = is.steps.is_sorted_by_key(|step| step.at);
    let newest = is.steps.last().map(|step| step.phase);
    let phases: BTreeSet<_> = is.steps.iter().map(|s| s.phase.to_string()).collect();
    in_order
        && is.steps.starts_with(&was.steps)
        && newest == Some(is.phase)
        && phases.len() == is.steps.len()
        && is.steps.len() <= OPERATION_STEPS_MAX
}

/// What a client that polls an operation may see next (specification, section 4.2).
fn follows(kind: OperationKind, was: OperationStatus, is: OperationStatus) -> bool {
    use OperationStatus as S;
    let rolls_back = matches!(
        kind,
        OperationKind::UpdateService | OperationKind::StartDeployment
    );
    match (was, is) {
        (S::Pending, S::InProgress) => true,
        // Cancelled before anybody took it up.
        (S::Pending, S::RollbackInProgress) => rolls_back,
        (S::InProgress, S::InProgress | S::Succeeded | S::Failed) => true,
        (S::InProgress, S::RollbackInProgress) => rolls_back,
        (S::RollbackInProgress, S::RollbackSucceeded | S::RollbackFailed) => rolls_back,
        _ => false,
    }
}

fn starts(step: &Step, number: RevisionNumber) -> bool {
    matches!(step, Step::Start { revision, .. } if *revision == number)
}
