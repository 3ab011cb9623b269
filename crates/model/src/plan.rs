//! The plan: what to do next for one service, from what is recorded and what is seen.
//!
//! [`plan`] is called again whenever something changed and whenever the time it asked for has come.
//! It takes no hint about what changed and remembers nothing: running it twice on the same view
//! gives the same steps, and a step that was already taken is harmless when taken again. So a
//! control plane that was killed at any instant goes on by looking.
//!
//! The rules, which the simulator (`tests/simulation`) checks over many histories:
//!
//! 1. Only a healthy instance of the active revision is put into the route. When there is none,
//!    what is in the route and still healthy stays there: a service never goes from someone to
//!    nobody while somebody could answer, unless it is to have nobody ([`View::wanted`]).
//! 2. An instance is stopped only after the edge has acknowledged a table without it, and then only
//!    when it holds no request or the drain limit has passed.
//! 3. A deployment switches only when as many instances of its candidate are healthy as the service
//!    is to have now, and at least one. Until then what served before is kept whole, replacements
//!    included.
//! 4. An instance that ended by itself is replaced: at once the first time, then with a back-off
//!    that doubles, further for one that never served than for one that did; the record of its end
//!    is kept while it counts.
//! 5. Only what serves and is healthy rests. What starts, fails or is on its way out may do what its
//!    limits allow, and while an operation goes on nobody rests.
//! 5. A private service's route has no host names: nobody can ask for it by the front door.

use std::time::Duration;

use crate::{
    health::{HealthProtocol, Verdict},
    id::InstanceId,
    image::ImageReference,
    instance::{Activity, Exit, ExitCause, InstanceState, RevisionNumber, StopReason},
    revision::{Exposure, Revision},
    route::{Route, RouteState, Upstream},
    scale::Fleet,
    service::{
        Failure, FailureCause, Operation, OperationKind, Phase, Service, ServiceStatus, Transition,
    },
    source::Prepared,
    time::Timestamp,
};

/// How often a candidate's instance may end before the deployment has failed.
pub const START_ATTEMPTS_MAX: usize = 3;

/// How long an end counts for the back-off of the next start.
pub const CRASH_WINDOW: Duration = Duration::from_secs(600);

/// How many ends are remembered per service; the back-off stops growing there.
pub const CRASHES_KEPT_MAX: usize = 8;

/// The wait before the second replacement; it doubles with each one after.
pub const BACKOFF_MIN: Duration = Duration::from_millis(250);

/// The longest wait before a replacement of an instance that never served.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The longest wait before a replacement of an instance that had served: requests wait for it, and
/// what could serve once is not broken from the start.
pub const BACKOFF_SERVED_MAX: Duration = Duration::from_secs(1);

/// How long a deployment waits for an engine that cannot be reached before it gives up.
pub const ENGINE_PATIENCE: Duration = Duration::from_secs(600);

/// How soon to look again for the first answer of an instance that nobody has probed and that
/// would be late.
pub const FIRST_PROBE_WAIT: Duration = Duration::from_secs(1);

/// The most instances one plan starts at once.
pub const STARTS_AT_ONCE_MAX: usize = 16;

/// How long things may take; configured for the whole installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From an instance's start until it must be healthy. App Runner gives 5 minutes.
    pub startup_limit: Duration,
    /// From the acknowledged route change until an instance is stopped although it still holds
    /// requests.
    pub drain_limit: Duration,
    /// From the stop signal to the kill.
    pub stop_grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            startup_limit: Duration::from_secs(300),
            drain_limit: Duration::from_secs(120),
            stop_grace: Duration::from_secs(30),
        }
    }
}

/// Everything a plan is made from.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// The caller's clock.
    pub now: Timestamp,
    /// How long things may take.
    pub timing: Timing,
    /// What is recorded.
    pub service: &'a Service,
    /// The revision that `service.active` names.
    pub active: Option<&'a Revision>,
    /// The revision that the operation's `candidate` names.
    pub candidate: Option<&'a Revision>,
    /// How many instances the active revision is to have, by [`crate::scale`]; `None` while that is
    /// not known: then those that it has are kept.
    pub wanted: Option<u32>,
    /// How much its instances may do, by [`crate::scale`]; `None` while that is not known: then they
    /// rest as they do.
    pub activity: Option<Activity>,
    /// How far the image of the operation is.
    pub image: &'a ImageProgress,
    /// What the engine said to the newest start, if it refused it.
    pub refused: Option<&'a str>,
    /// Whether the engine answers: if not, an instance that is missing says nothing.
    pub engine_current: bool,
    /// The service's instances that have not been removed.
    pub instances: &'a [InstanceView],
    /// The route that was last published for the service, if any.
    pub published: Option<&'a Route>,
    /// Whether the edge serves by it.
    pub acknowledged: bool,
}

/// One instance, as the engine, the probes and the edge together show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceView {
    /// Which.
    pub id: InstanceId,
    /// Of which revision.
    pub revision: RevisionNumber,
    /// What the engine sees; but `Stopping` from the moment it was sent a stop, until it has ended.
    ///
    /// A stop that is on its way cannot be taken back. If such an instance could still be chosen
    /// for the route, requests would die in it.
    pub state: InstanceState,
    /// When the engine accepted it.
    pub created_at: Timestamp,
    /// What the probes say.
    pub verdict: Verdict,
    /// What the newest failed probe saw.
    pub last_failure: Option<String>,
    /// Whether the newest probe failed.
    pub failing: bool,
    /// How much it may do, or was last told that it may.
    pub activity: Activity,
    /// What the edge has to do with it.
    pub traffic: Traffic,
}

/// What the edge has to do with an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// It was never in a route.
    Never,
    /// It is in the route, or the edge has not yet acknowledged that it is not.
    Routed,
    /// The edge has acknowledged a table without it.
    Unrouted {
        /// Since when.
        since: Timestamp,
        /// It still holds requests from before.
        busy: bool,
    },
}

/// How far the image of the running operation is; kept in memory and asked for again after a
/// restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageProgress {
    /// Nobody has asked the engine.
    NotAsked,
    /// The engine is at it.
    Preparing,
    /// Ready.
    Ready(Box<Prepared>),
    /// It cannot be had, or what else is prepared beside it cannot: the deployment has failed.
    Failed(FailureCause),
}

/// Something to do. Each is idempotent; they are done in order, and the first that fails ends the
/// round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Record a step of the operation.
    Transition(Transition),
    /// Ask the engine for the image; its answer becomes [`View::image`].
    PrepareImage(ImageReference),
    /// Start one new instance.
    Start {
        /// Of which revision.
        revision: RevisionNumber,
        /// Whether it is more than what the service has to have; see [`InstanceSpec::spare`].
        ///
        /// [`InstanceSpec::spare`]: crate::instance::InstanceSpec::spare
        spare: bool,
    },
    /// Publish the service's route; it replaces the one before.
    Publish(Route),
    /// Publish that the service has no route any more.
    Unpublish,
    /// Tell the engine how much an instance may do.
    SetActivity(InstanceId, Activity),
    /// Ask an instance to stop.
    Stop(InstanceId, StopReason),
    /// Forget an ended instance.
    Remove(InstanceId),
    /// Forget what the engine keeps for the service beyond its instances.
    ForgetService,
}

/// What to do now, and when to look again at the latest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// Look again after this long even if nothing changed.
    pub look_again_in: Option<Duration>,
}

/// Who should exist and who should serve, by the service's status and operation alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Goal<'a> {
    /// The revision that serves, with all its instances.
    serving: Option<&'a Revision>,
    /// The revision that a deployment is trying.
    trying: Option<&'a Revision>,
    /// What the edge does.
    route: Option<RouteState>,
}

/// Decides what to do next for one service.
pub fn plan(view: &View<'_>) -> Plan {
    let goal = goal(view);
    let mut plan = Plan::default();
    if let Some(transition) = transition(view, &goal, &mut plan) {
        // Recorded first; what follows from it is planned from the recorded state.
        plan.steps.push(Step::Transition(transition));
        return plan;
    }
    let surplus = surplus(view, &goal);
    publish(view, &goal, &surplus, &mut plan);
    rest(view, &goal, &surplus, &mut plan);
    if let Some(revision) = goal.serving {
        let (least, _) = bounds(view, revision);
        let wanted = serving_count(view, revision);
        start(view, revision, wanted, least.max(1) as usize, &mut plan);
    }
    if let Some(revision) = goal.trying {
        let wanted = trying_count(view, &goal, revision);
        start(view, revision, wanted, wanted, &mut plan);
    }
    retire(view, &goal, &surplus, &mut plan);
    finish(view, &mut plan);
    plan
}

/// Lets those rest that are asked for nothing, and wakes whoever rests and should not.
fn rest(view: &View<'_>, goal: &Goal<'_>, surplus: &[InstanceId], plan: &mut Plan) {
    if !view.engine_current {
        return;
    }
    let rests = |instance: &InstanceView| {
        view.service.operation.is_none()
            && goal
                .serving
                .is_some_and(|revision| revision.number == instance.revision)
            && is_healthy(instance)
            && !instance.failing
            && instance.traffic == Traffic::Routed
            && !surplus.contains(&instance.id)
    };
    let running = |instance: &&InstanceView| {
        matches!(instance.state, InstanceState::Running { .. })
            && instance.verdict != Verdict::Starting
    };
    let (mut resting, others): (Vec<_>, Vec<_>) = view
        .instances
        .iter()
        .filter(running)
        .partition(|one| rests(one));
    resting.sort_by_key(|instance| instance.id);
    let kept = view.service.scaling.active_min.unwrap_or(0) as usize;
    let (kept, resting) = resting.split_at(kept.min(resting.len()));
    let wanted = resting.iter().map(|instance| {
        let known = view.activity.unwrap_or(instance.activity);
        // Nobody decides that a ready one starts.
        let activity = if known == Activity::Boosted {
            Activity::Active
        } else {
            known
        };
        (instance, activity)
    });
    let active = others
        .iter()
        .chain(kept)
        .map(|instance| (instance, Activity::Active));
    for (instance, activity) in wanted.chain(active) {
        if instance.activity != activity {
            plan.steps.push(Step::SetActivity(instance.id, activity));
        }
    }
}

/// The active revision's instances, as scaling sees them; `None` when it is not to serve.
///
/// How long starts take and what instances use is not seen here: whoever knows fills it in.
///
/// Instances count as failing to start from the first that ended before it was ever healthy, until
/// one that was started no earlier is healthy.
pub fn fleet(view: &View<'_>) -> Option<Fleet> {
    let revision = goal(view).serving?;
    let ready = healthy(view, revision.number).count();
    let there = counted(view, revision.number).len();
    let failed = crashes(view, revision.number)
        .filter(|(instance, _)| instance.traffic == Traffic::Never)
        .max_by_key(|(_, exit)| exit.at)
        .filter(|(failed, _)| {
            !healthy(view, revision.number).any(|other| other.created_at >= failed.created_at)
        });
    Some(Fleet {
        ready: ready as u32,
        starting: there.saturating_sub(ready) as u32,
        failing_until: failed.map(|(_, exit)| exit.at.plus(CRASH_WINDOW)),
        activity: resting(healthy(view, revision.number)),
        ..Fleet::default()
    })
}

/// How deep all of these rest: as the one that does least.
fn resting<'a>(mut instances: impl Iterator<Item = &'a InstanceView>) -> Activity {
    let least = instances.try_fold(Activity::Frozen, |least, instance| {
        match (least, instance.activity) {
            (_, Activity::Boosted | Activity::Active) => None,
            (Activity::Frozen, Activity::Frozen) => Some(Activity::Frozen),
            (_, Activity::Throttled | Activity::Frozen) => Some(Activity::Throttled),
        }
    });
    least.unwrap_or(Activity::Active)
}

/// The least and the most instances of a revision.
fn bounds(view: &View<'_>, revision: &Revision) -> (u32, u32) {
    let options = &view.service.scaling;
    options.bounds(&revision.settings.scaling, view.now)
}

/// How many instances of the serving revision there should be.
fn serving_count(view: &View<'_>, revision: &Revision) -> usize {
    let (least, most) = bounds(view, revision);
    let there = || counted(view, revision.number).len() as u32;
    let wanted = view.wanted.unwrap_or_else(there).clamp(least, most);
    let operation = view.service.operation.as_ref();
    // A deployment has succeeded once the edge has somebody to serve.
    let switches = operation.is_some_and(|operation| operation.phase == Phase::Switch);
    wanted.max(u32::from(switches)) as usize
}

/// How many instances of a candidate must be healthy before it may serve: one, its minimum, and as
/// many as serve in its place, so that a deployment under load makes the service no smaller.
fn trying_count(view: &View<'_>, goal: &Goal<'_>, candidate: &Revision) -> usize {
    let (least, most) = bounds(view, candidate);
    let now = goal
        .serving
        .map_or(0, |revision| serving_count(view, revision));
    now.clamp(least.max(1) as usize, most as usize)
}

fn goal<'a>(view: &View<'a>) -> Goal<'a> {
    let nothing = |route| Goal {
        serving: None,
        trying: None,
        route,
    };
    let serving = |revision| Goal {
        serving: revision,
        trying: None,
        route: Some(match revision {
            Some(_) => RouteState::Serving,
            None => RouteState::NotDeployed,
        }),
    };
    let settled = |status| match status {
        ServiceStatus::Running => serving(view.active),
        ServiceStatus::Paused => nothing(Some(RouteState::Paused)),
        ServiceStatus::CreateFailed | ServiceStatus::OperationInProgress => {
            nothing(Some(RouteState::NotDeployed))
        }
        ServiceStatus::Deleted | ServiceStatus::DeleteFailed => nothing(None),
    };
    let Some(operation) = &view.service.operation else {
        return settled(view.service.settled);
    };
    match operation.phase {
        Phase::Accepted | Phase::Prepare | Phase::Undo => settled(operation.from),
        Phase::Start => Goal {
            trying: view.candidate,
            ..settled(operation.from)
        },
        Phase::Switch => serving(view.active),
        Phase::Drain => nothing(match operation.kind {
            OperationKind::DeleteService => None,
            OperationKind::CreateService
            | OperationKind::UpdateService
            | OperationKind::StartDeployment
            | OperationKind::PauseService
            | OperationKind::ResumeService => Some(RouteState::Paused),
        }),
    }
}

/// The operation's next recorded step, when its condition holds.
fn transition(view: &View<'_>, goal: &Goal<'_>, plan: &mut Plan) -> Option<Transition> {
    let operation = view.service.operation.as_ref()?;
    match operation.phase {
        Phase::Accepted => Some(Transition::Begin),
        Phase::Prepare => match view.image {
            ImageProgress::NotAsked => {
                plan.steps
                    .push(Step::PrepareImage(view.service.image_wanted()));
                engine_gave_out(view, Phase::Prepare, plan)
            }
            ImageProgress::Preparing => None,
            ImageProgress::Ready(image) => Some(Transition::Deploy(image.clone())),
            ImageProgress::Failed(cause) => Some(fail(Phase::Prepare, cause.clone(), None)),
        },
        Phase::Start => {
            let candidate = goal.trying?;
            if healthy(view, candidate.number).count() >= trying_count(view, goal, candidate) {
                return Some(Transition::Switch);
            }
            start_failure(view, candidate, plan)
                .or_else(|| engine_gave_out(view, Phase::Start, plan))
        }
        Phase::Switch => switched(view, operation, plan).then_some(Transition::Succeed),
        // Pausing and deleting end in `finish`, after the last instance.
        Phase::Drain => None,
        Phase::Undo => {
            let left = view
                .instances
                .iter()
                .any(|instance| left_of_failed(view, instance));
            (view.engine_current && !left).then_some(Transition::Undone)
        }
    }
}

/// Whether the edge serves the active revision, as far as it can be served.
///
/// The candidate was whole when it became active. If it has broken since, its deployment does not
/// wait for it longer than an instance may take to start: the service runs and replaces what
/// ends, as it would an hour later, and its owner can act again.
fn switched(view: &View<'_>, operation: &Operation, plan: &mut Plan) -> bool {
    let Some(route) = view
        .published
        .filter(|route| route.state == RouteState::Serving)
    else {
        return false;
    };
    if !view.acknowledged {
        return false;
    }
    let active = view.service.active;
    if route
        .upstreams
        .iter()
        .any(|upstream| Some(upstream.revision) == active)
    {
        return true;
    }
    let waited = view.now.since(operation.phase_since);
    let left = view.timing.startup_limit.saturating_sub(waited);
    plan.look_again(left);
    left.is_zero()
}

fn left_of_failed(view: &View<'_>, instance: &InstanceView) -> bool {
    let candidate = view
        .service
        .operation
        .as_ref()
        .and_then(|operation| operation.candidate);
    Some(instance.revision) == candidate
}

fn fail(phase: Phase, cause: FailureCause, instance: Option<InstanceId>) -> Transition {
    Transition::Fail(Failure {
        phase,
        cause,
        instance,
        log_lines: Vec::new(),
    })
}

fn engine_gave_out(view: &View<'_>, phase: Phase, plan: &mut Plan) -> Option<Transition> {
    let operation = view.service.operation.as_ref()?;
    let waited = view.now.since(operation.phase_since);
    // Once starts are possible again each has its own limit; this only ends waiting for nothing.
    let patience = ENGINE_PATIENCE + view.timing.startup_limit * START_ATTEMPTS_MAX as u32;
    let left = patience.saturating_sub(waited);
    if !left.is_zero() {
        plan.look_again(left);
        return None;
    }
    let why = match view.refused.filter(|_| phase == Phase::Start) {
        Some(refused) => format!(": {refused}"),
        None => "; see `ekiden status` and the agent's log".to_owned(),
    };
    let message = format!(
        "the engine could not do it within {} s{why}",
        waited.as_secs()
    );
    Some(fail(phase, FailureCause::Engine { message }, None))
}

/// Why the candidate will not become healthy, when that is certain.
fn start_failure(view: &View<'_>, candidate: &Revision, plan: &mut Plan) -> Option<Transition> {
    let since = view.service.operation.as_ref()?.phase_since;
    let crashes: Vec<_> = crashes(view, candidate.number)
        .filter(|(_, exit)| exit.at >= since)
        .collect();
    if crashes.len() >= START_ATTEMPTS_MAX {
        let (instance, exit) = crashes.iter().max_by_key(|(_, exit)| exit.at)?;
        let cause = FailureCause::Crashed {
            exit: exit.cause.clone(),
            times: crashes.len() as u32,
        };
        return Some(fail(Phase::Start, cause, Some(instance.id)));
    }
    for instance in of_revision(view, candidate.number) {
        match startup_left(view, instance) {
            Some(left) if left.is_zero() => {
                return Some(fail_unhealthy(view, candidate, instance));
            }
            Some(left) => plan.look_again(left),
            None => {}
        }
    }
    None
}

fn fail_unhealthy(view: &View<'_>, candidate: &Revision, instance: &InstanceView) -> Transition {
    let settings = &candidate.settings;
    let probe = match &settings.health.protocol {
        HealthProtocol::Tcp => format!("TCP port {}", settings.port),
        HealthProtocol::Http { path } => format!("HTTP path `{path}`, port {}", settings.port),
    };
    let last = instance
        .last_failure
        .clone()
        .unwrap_or_else(|| "no probe has ended".to_owned());
    let seconds = view.timing.startup_limit.as_secs();
    fail(
        Phase::Start,
        FailureCause::NotHealthy {
            probe,
            last,
            seconds,
        },
        Some(instance.id),
    )
}

/// What is left of the time that an instance has for its first health; `None` when it is not on
/// its way to it.
///
/// Nothing is left only once a probe has said no: an instance that started while the control plane
/// was down may long be healthy, and is late only if it is seen to be.
fn startup_left(view: &View<'_>, instance: &InstanceView) -> Option<Duration> {
    let (since, seen) = match (&instance.state, instance.verdict) {
        (InstanceState::Creating, _) => (instance.created_at, true),
        (InstanceState::Running { started_at, .. }, Verdict::Starting) => {
            (*started_at, instance.last_failure.is_some())
        }
        _ => return None,
    };
    let left = view
        .timing
        .startup_limit
        .saturating_sub(view.now.since(since));
    match left.is_zero() && !seen {
        true => Some(FIRST_PROBE_WAIT),
        false => Some(left),
    }
}

/// Publishes the route that the goal asks for, if it is not the published one.
fn publish(view: &View<'_>, goal: &Goal<'_>, surplus: &[InstanceId], plan: &mut Plan) {
    let Some(state) = goal.route else {
        if view.published.is_some() {
            plan.steps.push(Step::Unpublish);
        }
        return;
    };
    let mut upstreams = match goal.serving {
        // What cannot be seen now is not taken out.
        Some(revision) if serving_count(view, revision) > 0 || !view.engine_current => {
            upstreams(view, revision, surplus)
        }
        Some(_) | None => Vec::new(),
    };
    upstreams.sort_by_key(|upstream| upstream.instance);
    let concurrency = goal
        .serving
        .map_or(1, |r| r.settings.scaling.concurrency_per_instance);
    let settings = goal.serving.map_or(&view.service.settings, |r| &r.settings);
    let ingress = Box::new(view.service.ingress.clone());
    let hosts = served_hosts(view.service);
    let (hosts, private_hosts) = match (settings.exposure, ingress.private) {
        (Exposure::Public, false) => (hosts, Vec::new()),
        (Exposure::Private, _) | (Exposure::Public, true) => (Vec::new(), hosts),
    };
    let route = Route {
        service: view.service.id,
        service_name: view.service.name.clone(),
        hosts,
        private_hosts,
        state,
        concurrency_per_instance: concurrency,
        upstreams,
        ingress,
    };
    if view.published != Some(&route) {
        plan.steps.push(Step::Publish(route));
    }
}

/// The names that the service is served under, privately or not. The first of its names is the one
/// that it was given, which its owner may have turned off.
fn served_hosts(service: &Service) -> Vec<String> {
    let first = usize::from(!service.ingress.default_host);
    service.hosts.iter().skip(first).cloned().collect()
}

/// Who serves for `revision`: its healthy instances, or who serves now while there are none.
fn upstreams(view: &View<'_>, revision: &Revision, surplus: &[InstanceId]) -> Vec<Upstream> {
    let new: Vec<_> = healthy(view, revision.number)
        .filter(|instance| !surplus.contains(&instance.id))
        .filter_map(|instance| upstream(instance, revision.settings.port))
        .collect();
    let published = view.published.map_or(&[][..], |route| &route.upstreams);
    let can_stay = |upstream: &&Upstream| {
        if surplus.contains(&upstream.instance) {
            return false;
        }
        match view
            .instances
            .iter()
            .find(|instance| instance.id == upstream.instance)
        {
            Some(instance) => is_healthy(instance),
            // Not seen is not gone while the engine cannot be asked.
            None => !view.engine_current,
        }
    };
    if !new.is_empty() && view.engine_current {
        return new;
    }
    let mut all = new;
    let enough = all
        .iter()
        .any(|upstream| upstream.revision == revision.number);
    for upstream in published.iter().filter(can_stay) {
        let same = all.iter().any(|other| other.instance == upstream.instance);
        if !same && (!enough || upstream.revision == revision.number) {
            all.push(upstream.clone());
        }
    }
    all
}

fn upstream(instance: &InstanceView, port: u16) -> Option<Upstream> {
    match instance.state {
        InstanceState::Running { address, .. } => Some(Upstream {
            instance: instance.id,
            revision: instance.revision,
            address: (address, port).into(),
        }),
        InstanceState::Creating | InstanceState::Stopping { .. } | InstanceState::Exited(_) => None,
    }
}

fn of_revision<'a>(
    view: &View<'a>,
    revision: RevisionNumber,
) -> impl Iterator<Item = &'a InstanceView> + use<'a> {
    view.instances
        .iter()
        .filter(move |instance| instance.revision == revision)
}

fn healthy<'a>(
    view: &View<'a>,
    revision: RevisionNumber,
) -> impl Iterator<Item = &'a InstanceView> + use<'a> {
    of_revision(view, revision).filter(|instance| is_healthy(instance))
}

fn is_healthy(instance: &InstanceView) -> bool {
    matches!(instance.state, InstanceState::Running { .. }) && instance.verdict == Verdict::Healthy
}

/// Ends that say something about the application, within the window that counts.
fn crashes<'a>(
    view: &View<'a>,
    revision: RevisionNumber,
) -> impl Iterator<Item = (&'a InstanceView, &'a Exit)> + use<'a> {
    let now = view.now;
    of_revision(view, revision).filter_map(move |instance| match &instance.state {
        InstanceState::Exited(exit) if counts(exit) && now.since(exit.at) < CRASH_WINDOW => {
            Some((instance, exit))
        }
        _ => None,
    })
}

fn counts(exit: &Exit) -> bool {
    match (&exit.cause, exit.stopped_for) {
        (ExitCause::Lost, _) | (_, Some(StopReason::NotNeeded)) => false,
        (_, None | Some(StopReason::Unhealthy | StopReason::StartTimeout)) => true,
    }
}

/// Starts what is missing of `count` instances of `revision`, of which so many are needed and the rest
/// are spare, no sooner than its back-off allows.
fn start(view: &View<'_>, revision: &Revision, count: usize, needed: usize, plan: &mut Plan) {
    let there = counted(view, revision.number).len();
    let missing = count.saturating_sub(there);
    if missing == 0 || !view.engine_current {
        return;
    }
    let wait = backoff(view, revision.number);
    if wait.is_zero() {
        let starts = missing.min(STARTS_AT_ONCE_MAX);
        let steps = (there..there + starts).map(|nth| Step::Start {
            revision: revision.number,
            spare: nth >= needed,
        });
        plan.steps.extend(steps);
    } else {
        plan.look_again(wait);
    }
}

/// What is left of the wait before the next start of `revision`.
fn backoff(view: &View<'_>, revision: RevisionNumber) -> Duration {
    let Some((instance, newest)) = crashes(view, revision).max_by_key(|(_, exit)| exit.at) else {
        return Duration::ZERO;
    };
    let Some(doublings) = crashes(view, revision).count().checked_sub(2) else {
        return Duration::ZERO;
    };
    // Only what was healthy is ever put into a route.
    let longest = match instance.traffic {
        Traffic::Never => BACKOFF_MAX,
        Traffic::Routed | Traffic::Unrouted { .. } => BACKOFF_SERVED_MAX,
    };
    let wait = (BACKOFF_MIN * (1 << doublings.min(CRASHES_KEPT_MAX))).min(longest);
    wait.saturating_sub(view.now.since(newest.at))
}

/// A revision's instances that serve, or may come to.
fn counted<'a>(view: &View<'a>, revision: RevisionNumber) -> Vec<&'a InstanceView> {
    of_revision(view, revision)
        .filter(|instance| is_alive(instance) && bad(view, instance).is_none())
        .collect()
}

fn is_alive(instance: &InstanceView) -> bool {
    matches!(
        instance.state,
        InstanceState::Creating | InstanceState::Running { .. }
    )
}

/// Why a living instance must go although its revision is wanted.
fn bad(view: &View<'_>, instance: &InstanceView) -> Option<StopReason> {
    if instance.verdict == Verdict::Unhealthy {
        return Some(StopReason::Unhealthy);
    }
    let late = startup_left(view, instance).is_some_and(|left| left.is_zero());
    late.then_some(StopReason::StartTimeout)
}

/// Stops who is not wanted, removes who has ended.
fn retire(view: &View<'_>, goal: &Goal<'_>, surplus: &[InstanceId], plan: &mut Plan) {
    for instance in view.instances {
        match &instance.state {
            InstanceState::Exited(exit) => match keep_record(view, goal, instance, exit) {
                Some(left) => plan.look_again(left),
                None => plan.steps.push(Step::Remove(instance.id)),
            },
            InstanceState::Stopping { .. } => {}
            InstanceState::Creating | InstanceState::Running { .. } => {
                let reason = match wanted(goal, instance) {
                    false => Some(StopReason::NotNeeded),
                    true if surplus.contains(&instance.id) => Some(StopReason::NotNeeded),
                    true => bad(view, instance),
                };
                if let Some(left) = startup_left(view, instance) {
                    plan.look_again(left);
                }
                if let Some(reason) = reason {
                    stop(view, instance, reason, plan);
                }
            }
        }
    }
}

fn wanted(goal: &Goal<'_>, instance: &InstanceView) -> bool {
    let revisions = [goal.serving, goal.trying];
    revisions
        .into_iter()
        .flatten()
        .any(|revision| revision.number == instance.revision)
}

/// Living instances of the serving revision beyond its number: first who is not healthy, then the
/// youngest.
fn surplus(view: &View<'_>, goal: &Goal<'_>) -> Vec<InstanceId> {
    let Some(revision) = goal.serving else {
        return Vec::new();
    };
    let mut alive = counted(view, revision.number);
    alive.sort_by_key(|instance| (!is_healthy(instance), instance.created_at, instance.id));
    alive
        .iter()
        .skip(serving_count(view, revision))
        .map(|instance| instance.id)
        .collect()
}

/// How much longer the record of an end is kept; `None` when it may go.
fn keep_record(
    view: &View<'_>,
    goal: &Goal<'_>,
    instance: &InstanceView,
    exit: &Exit,
) -> Option<Duration> {
    if !wanted(goal, instance) || !counts(exit) {
        return None;
    }
    let newer = crashes(view, instance.revision)
        .filter(|(other, newer)| (newer.at, other.id) > (exit.at, instance.id))
        .count();
    let left = CRASH_WINDOW.saturating_sub(view.now.since(exit.at));
    (newer < CRASHES_KEPT_MAX && !left.is_zero()).then_some(left)
}

/// Stops an instance, as soon as no request can be lost by it.
fn stop(view: &View<'_>, instance: &InstanceView, reason: StopReason, plan: &mut Plan) {
    match instance.traffic {
        Traffic::Never => {}
        Traffic::Routed => return,
        Traffic::Unrouted { since, busy } => {
            let left = view
                .timing
                .drain_limit
                .saturating_sub(view.now.since(since));
            if busy && !left.is_zero() {
                plan.look_again(left);
                return;
            }
        }
    }
    plan.steps.push(Step::Stop(instance.id, reason));
}

/// Ends pausing and deleting once nothing is left.
fn finish(view: &View<'_>, plan: &mut Plan) {
    let Some(operation) = &view.service.operation else {
        return;
    };
    if operation.phase != Phase::Drain || !view.engine_current || !view.instances.is_empty() {
        return;
    }
    if !plan.steps.is_empty() || (view.published.is_some() && !view.acknowledged) {
        return;
    }
    if operation.kind == OperationKind::DeleteService {
        plan.steps.push(Step::ForgetService);
    }
    plan.steps.push(Step::Transition(Transition::Succeed));
}

impl Plan {
    fn look_again(&mut self, after: Duration) {
        self.look_again_in = Some(self.look_again_in.map_or(after, |other| other.min(after)));
    }
}
