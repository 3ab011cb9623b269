//! The plan, case by case: what is recorded and seen goes in, steps come out.
//!
//! Instances are named by a letter, revisions by their number. Revision 1 is active unless a case
//! says otherwise, and revision 2 is the candidate of a deployment.

use std::time::Duration;

use ekiden_model::{
    health::{HealthCheck, Verdict},
    id::{InstanceId, OperationId, ServiceId},
    image::{Digest, ImageConfig, PreparedImage},
    instance::{
        Activity, Exit, ExitCause, InstanceState, RevisionNumber, StopReason, UserNamespace,
    },
    plan::{
        self, BACKOFF_MIN, CRASH_WINDOW, CRASHES_KEPT_MAX, ENGINE_PATIENCE, FIRST_PROBE_WAIT,
        ImageProgress, InstanceView, START_ATTEMPTS_MAX, STARTS_AT_ONCE_MAX, Step, Timing, Traffic,
        View, plan,
    },
    revision::{Exposure, Revision, Scaling, Settings},
    route::{Route, RouteState, Upstream},
    service::{
        Change, Failure, FailureCause, OperationKind, Phase, PinnedRevision, Service, Transition,
    },
    time::Timestamp,
};

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);

/// When the operation entered its phase, unless a case says otherwise.
const PHASE_AGE: Duration = Duration::from_secs(5);

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ago(age: Duration) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() - age.as_millis() as u64)
}

// ---- what is recorded ------------------------------------------------------------------------

fn settings(instances: u32) -> Settings {
    Settings {
        image: "localhost/app".parse().expect("a good reference"),
        source: None,
        start_command: Vec::new(),
        port: 80,
        env: Default::default(),
        secrets: Default::default(),
        cpu_millis: 1000,
        memory_bytes: 2 << 30,
        health: HealthCheck::default(),
        scaling: Scaling {
            instances_min: instances,
            ..Scaling::default()
        },
        user_namespace: UserNamespace::Private,
        exposure: Exposure::Public,
        observed: false,
    }
}

fn change(instances: u32) -> Change {
    Change {
        settings: settings(instances),
        configuration: instances.to_string(),
        returns_to: None,
    }
}

fn image() -> PreparedImage {
    PreparedImage {
        digest: Digest::from_sha256([1; 32]),
        config: ImageConfig::default(),
        size_bytes: 1,
    }
}

fn failure() -> Failure {
    Failure {
        phase: Phase::Start,
        cause: FailureCause::Image {
            message: "no".to_owned(),
        },
        instance: None,
        log_lines: Vec::new(),
    }
}

/// A service, its revisions, and what is seen: the objects that go in.
struct Scene {
    service: Service,
    revisions: Vec<Revision>,
    timing: Timing,
    image: ImageProgress,
    engine_current: bool,
    instances: Vec<InstanceView>,
    published: Option<Route>,
    acknowledged: bool,
    wanted: Option<u32>,
    activity: Option<Activity>,
}

impl Scene {
    /// A service that was just created with so many instances.
    fn created(instances: u32) -> Self {
        let service = Service::create(
            ServiceId::from_bytes([9; 16]),
            "web1".parse().expect("a good name"),
            vec!["web.example".to_owned()],
            change(instances),
            OperationId::from_bytes([1; 16]),
            ago(secs(3600)),
        );
        Self {
            service,
            revisions: Vec::new(),
            timing: Timing::default(),
            image: ImageProgress::NotAsked,
            engine_current: true,
            instances: Vec::new(),
            published: None,
            acknowledged: true,
            wanted: None,
            activity: Some(Activity::Active),
        }
    }

    /// A service that runs revision 1 with so many instances; none is there yet.
    fn running(instances: u32) -> Self {
        let deployed = [
            Transition::Begin,
            Transition::Deploy(Box::new(image().into())),
            Transition::Switch,
            Transition::Succeed,
        ];
        Self::created(instances).then(deployed)
    }

    fn paused() -> Self {
        let paused = [Transition::Begin, Transition::Succeed];
        Self::running(1)
            .asked(OperationKind::PauseService)
            .then(paused)
    }

    /// In the middle of an update of a running service to as many instances of revision 2.
    fn updating(instances: u32) -> Self {
        let begun = [
            Transition::Begin,
            Transition::Deploy(Box::new(image().into())),
        ];
        Self::running(instances)
            .asked(OperationKind::UpdateService)
            .then(begun)
    }

    fn asked(mut self, kind: OperationKind) -> Self {
        let instances = self.service.settings.scaling.instances_min;
        let change = (kind == OperationKind::UpdateService).then(|| change(instances));
        let id = OperationId::from_bytes([2; 16]);
        self.service
            .accept(kind, change, id, ago(PHASE_AGE))
            .expect("it is accepted");
        self
    }

    fn then(self, transitions: impl IntoIterator<Item = Transition>) -> Self {
        transitions
            .into_iter()
            .fold(self, |scene, transition| scene.moved(transition, PHASE_AGE))
    }

    fn moved(mut self, transition: Transition, age: Duration) -> Self {
        let applied = self.service.apply(transition, ago(age)).expect("it moves");
        self.revisions.extend(applied.revision);
        self
    }

    fn image(mut self, image: ImageProgress) -> Self {
        self.image = image;
        self
    }

    /// So many instances of the active revision are to be.
    fn wanted(mut self, wanted: u32) -> Self {
        self.wanted = Some(wanted);
        self
    }

    /// Its instances may do so much.
    fn rests(mut self, activity: Activity) -> Self {
        self.activity = Some(activity);
        self
    }

    fn engine_gone(mut self) -> Self {
        self.engine_current = false;
        self
    }

    fn unacknowledged(mut self) -> Self {
        self.acknowledged = false;
        self
    }

    fn has(mut self, instances: impl IntoIterator<Item = InstanceView>) -> Self {
        self.instances.extend(instances);
        self
    }

    /// The published route leads to these instances, given as `a1` for instance a of revision 1.
    fn routed(self, upstreams: &str) -> Self {
        self.published(RouteState::Serving, upstreams)
    }

    fn published(mut self, state: RouteState, upstreams: &str) -> Self {
        let upstreams = upstreams.split_whitespace().map(|text| {
            let (name, revision) = text.split_at(1);
            let name = name.chars().next().expect("a letter");
            let revision = revision.parse().expect("a number");
            Upstream {
                instance: id(name),
                revision: RevisionNumber(revision),
                address: (ADDRESS, 80).into(),
            }
        });
        let serves = state == RouteState::Serving;
        self.published = Some(Route {
            service: self.service.id,
            service_name: self.service.name.clone(),
            hosts: self.service.hosts.clone(),
            private_hosts: Vec::new(),
            state,
            concurrency_per_instance: if serves { 100 } else { 1 },
            upstreams: upstreams.collect(),
            ingress: Box::new(self.service.ingress.clone()),
        });
        self
    }

    fn view(&self) -> View<'_> {
        let revision =
            |number| (self.revisions.iter()).find(|revision| Some(revision.number) == number);
        let candidate = self.service.operation.as_ref().and_then(|o| o.candidate);
        View {
            now: NOW,
            timing: self.timing,
            service: &self.service,
            active: revision(self.service.active),
            candidate: revision(candidate),
            wanted: self.wanted,
            activity: self.activity,
            image: &self.image,
            refused: None,
            engine_current: self.engine_current,
            instances: &self.instances,
            published: self.published.as_ref(),
            acknowledged: self.acknowledged,
        }
    }

    /// The steps, in words, and when to look again.
    fn plan(&self) -> (Vec<String>, Option<Duration>) {
        let plan = plan(&self.view());
        let steps = plan.steps.iter().map(words).collect();
        (steps, plan.look_again_in)
    }

    #[track_caller]
    fn gives(&self, want: &[&str]) {
        assert_eq!(self.plan().0, want);
    }

    #[track_caller]
    fn looks_again_in(&self, want: Duration) {
        assert_eq!(self.plan().1, Some(want));
    }

    #[track_caller]
    fn fails_with(&self, want: &str) {
        let steps = self.plan().0;
        let last = steps.last().map(String::as_str);
        assert!(
            last.is_some_and(|step| step.starts_with("fail") && step.contains(want)),
            "{steps:?}"
        );
    }
}

fn words(step: &Step) -> String {
    match step {
        Step::Transition(Transition::Fail(failure)) => {
            let instance = failure
                .instance
                .map_or_else(String::new, |id| letter(id).to_string());
            format!("fail in {} {instance}: {}", failure.phase, failure.cause)
        }
        Step::Transition(transition) => transition.name().to_owned(),
        Step::PrepareImage(reference) => format!("prepare {reference}"),
        Step::Start { revision, spare } => {
            format!("start {revision}{}", if *spare { ", spare" } else { "" })
        }
        Step::Publish(route) => {
            let upstreams = route
                .upstreams
                .iter()
                .map(|u| format!(" {}{}", letter(u.instance), u.revision));
            let state = match route.state {
                RouteState::Serving => "serving",
                RouteState::Paused => "paused",
                RouteState::NotDeployed => "not deployed",
            };
            let hidden = if route.hosts.is_empty() {
                " hidden"
            } else {
                ""
            };
            format!("publish {state}{hidden}{}", upstreams.collect::<String>())
        }
        Step::Unpublish => "unpublish".to_owned(),
        Step::SetActivity(id, activity) => format!("{activity} {}", letter(*id)),
        Step::Stop(id, reason) => format!("stop {} {reason:?}", letter(*id)),
        Step::Remove(id) => format!("remove {}", letter(*id)),
        Step::ForgetService => "forget".to_owned(),
    }
}

// ---- what is seen ----------------------------------------------------------------------------

const ADDRESS: [u8; 4] = [10, 0, 0, 1];

fn id(name: char) -> InstanceId {
    InstanceId::from_bytes([name as u8; 16])
}

fn letter(id: InstanceId) -> char {
    let code = u8::from_str_radix(&id.to_string()[..2], 16);
    char::from(code.expect("an id is hexadecimal"))
}

/// An instance that runs, is healthy and is in the route.
fn serving(name: char, revision: u32) -> InstanceView {
    InstanceView {
        id: id(name),
        revision: RevisionNumber(revision),
        state: InstanceState::Running {
            address: ADDRESS.into(),
            started_at: ago(secs(3600)),
        },
        created_at: ago(secs(3600)),
        verdict: Verdict::Healthy,
        last_failure: None,
        failing: false,
        activity: Activity::Active,
        traffic: Traffic::Routed,
    }
}

/// The same, but no edge has ever known it.
fn healthy(name: char, revision: u32) -> InstanceView {
    InstanceView {
        traffic: Traffic::Never,
        ..serving(name, revision)
    }
}

/// The same, but the edge has acknowledged a table without it.
fn unrouted(name: char, revision: u32, age: Duration, busy: bool) -> InstanceView {
    let traffic = Traffic::Unrouted {
        since: ago(age),
        busy,
    };
    InstanceView {
        traffic,
        ..serving(name, revision)
    }
}

fn sick(name: char, revision: u32, traffic: Traffic) -> InstanceView {
    InstanceView {
        verdict: Verdict::Unhealthy,
        traffic,
        ..serving(name, revision)
    }
}

fn creating(name: char, revision: u32, age: Duration) -> InstanceView {
    InstanceView {
        state: InstanceState::Creating,
        created_at: ago(age),
        verdict: Verdict::Starting,
        ..healthy(name, revision)
    }
}

/// It runs and its probes have failed so far.
fn starting(name: char, revision: u32, age: Duration) -> InstanceView {
    InstanceView {
        state: InstanceState::Running {
            address: ADDRESS.into(),
            started_at: ago(age),
        },
        verdict: Verdict::Starting,
        last_failure: Some("connection refused".to_owned()),
        ..healthy(name, revision)
    }
}

/// It runs, and no probe has ended yet.
fn unprobed(name: char, revision: u32, age: Duration) -> InstanceView {
    InstanceView {
        last_failure: None,
        ..starting(name, revision, age)
    }
}

fn stopping(name: char, revision: u32) -> InstanceView {
    InstanceView {
        state: InstanceState::Stopping {
            address: ADDRESS.into(),
        },
        ..serving(name, revision)
    }
}

fn ended(
    name: char,
    revision: u32,
    cause: ExitCause,
    stopped_for: Option<StopReason>,
    age: Duration,
) -> InstanceView {
    InstanceView {
        state: InstanceState::Exited(Exit {
            cause,
            at: ago(age),
            stopped_for,
        }),
        verdict: Verdict::Starting,
        ..healthy(name, revision)
    }
}

fn crashed(name: char, revision: u32, age: Duration) -> InstanceView {
    ended(name, revision, ExitCause::Code { code: 1 }, None, age)
}

fn crashes(count: usize, newest: Duration) -> Vec<InstanceView> {
    let names = ('A'..='Z').take(count).enumerate();
    names
        .map(|(n, name)| crashed(name, 1, newest + secs(n as u64)))
        .collect()
}

// ---- a service at rest -----------------------------------------------------------------------

#[test]
fn nothing_is_done_when_all_is_as_it_should_be() {
    let scene = Scene::running(2)
        .has([serving('a', 1), serving('b', 1)])
        .routed("a1 b1");
    scene.gives(&[]);
    assert_eq!(scene.plan().1, None);
    Scene::paused().published(RouteState::Paused, "").gives(&[]);
}

#[test]
fn missing_instances_are_started() {
    Scene::running(2)
        .has([serving('a', 1)])
        .routed("a1")
        .gives(&["start 1"]);
    Scene::running(2)
        .has([serving('a', 1), creating('b', 1, secs(1))])
        .routed("a1")
        .gives(&[]);
    Scene::running(2)
        .has([serving('a', 1), stopping('b', 1)])
        .routed("a1")
        .gives(&["start 1"]);
}

#[test]
fn starts_at_once_are_bounded() {
    let steps = Scene::running(25).routed("").plan().0;
    assert_eq!(steps.len(), STARTS_AT_ONCE_MAX);
}

#[test]
fn a_service_of_minimum_0_starts_with_one_instance() {
    let begun = [
        Transition::Begin,
        Transition::Deploy(Box::new(image().into())),
    ];
    Scene::created(0)
        .then(begun)
        .published(RouteState::NotDeployed, "")
        .gives(&["start 1"]);
}

#[test]
fn the_route_follows_health() {
    Scene::running(2)
        .has([serving('a', 1), healthy('b', 1)])
        .routed("a1")
        .gives(&["publish serving a1 b1"]);
    Scene::running(2)
        .has([serving('a', 1), sick('b', 1, Traffic::Routed)])
        .routed("a1 b1")
        .gives(&["publish serving a1", "start 1"]);
    Scene::running(2)
        .has([serving('a', 1), starting('b', 1, secs(1))])
        .routed("a1")
        .gives(&[]);
    // Requests wait at the edge until its replacement is there.
    Scene::running(1)
        .has([sick('a', 1, Traffic::Routed)])
        .routed("a1")
        .gives(&["publish serving", "start 1"]);
}

#[test]
fn the_route_names_instances_in_one_order() {
    Scene::running(2)
        .has([healthy('b', 1), healthy('a', 1)])
        .routed("")
        .gives(&["publish serving a1 b1"]);
}

#[test]
fn an_instance_that_was_sent_a_stop_is_neither_routed_nor_counted() {
    Scene::running(1)
        .has([stopping('a', 1)])
        .routed("a1")
        .gives(&["publish serving", "start 1"]);
}

#[test]
fn a_lost_route_is_published_again() {
    Scene::running(1)
        .has([serving('a', 1)])
        .gives(&["publish serving a1"]);
    Scene::paused().gives(&["publish paused"]);
}

// ---- stopping --------------------------------------------------------------------------------

#[test]
fn an_instance_is_stopped_only_once_the_edge_has_let_go_of_it() {
    let scene = |a| Scene::running(1).has([a, serving('b', 1)]).routed("b1");
    scene(sick('a', 1, Traffic::Routed)).gives(&[]);
    scene(sick('a', 1, unrouted('a', 1, secs(1), true).traffic)).gives(&[]);
    scene(sick('a', 1, unrouted('a', 1, secs(1), false).traffic)).gives(&["stop a Unhealthy"]);
    scene(sick('a', 1, Traffic::Never)).gives(&["stop a Unhealthy"]);
}

#[test]
fn a_busy_instance_is_stopped_when_the_drain_limit_has_passed() {
    let scene = |age| {
        Scene::running(1)
            .has([unrouted('a', 2, age, true), serving('b', 1)])
            .routed("b1")
    };
    scene(secs(119)).gives(&[]);
    scene(secs(119)).looks_again_in(secs(1));
    scene(secs(120)).gives(&["stop a NotNeeded"]);
}

#[test]
fn surplus_is_taken_from_the_unhealthy_then_from_the_newest() {
    let newer = |view: InstanceView| InstanceView {
        created_at: ago(secs(1)),
        ..view
    };
    Scene::running(1)
        .has([newer(healthy('a', 1)), serving('b', 1)])
        .routed("b1")
        .wanted(1)
        .gives(&["stop a NotNeeded"]);
    Scene::running(1)
        .has([starting('a', 1, secs(9)), newer(serving('b', 1))])
        .routed("b1")
        .wanted(1)
        .gives(&["stop a NotNeeded"]);
}

#[test]
fn surplus_leaves_the_route_before_it_is_stopped() {
    let newer = InstanceView {
        created_at: ago(secs(1)),
        ..serving('b', 1)
    };
    Scene::running(1)
        .has([serving('a', 1), newer])
        .routed("a1 b1")
        .wanted(1)
        .gives(&["publish serving a1"]);
}

#[test]
fn what_is_not_of_a_wanted_revision_goes() {
    Scene::running(1)
        .has([serving('a', 1), healthy('b', 7)])
        .routed("a1")
        .gives(&["stop b NotNeeded"]);
    Scene::paused()
        .has([healthy('a', 1)])
        .published(RouteState::Paused, "")
        .gives(&["stop a NotNeeded"]);
}

#[test]
fn an_instance_that_does_not_become_healthy_in_time_is_replaced() {
    let scene = |a| Scene::running(1).has([a]).routed("");
    scene(starting('a', 1, secs(299))).gives(&[]);
    scene(starting('a', 1, secs(299))).looks_again_in(secs(1));
    scene(starting('a', 1, secs(300))).gives(&["start 1", "stop a StartTimeout"]);
    scene(creating('a', 1, secs(300))).gives(&["start 1", "stop a StartTimeout"]);
}

#[test]
fn an_instance_that_nobody_has_probed_is_not_late() {
    let scene = Scene::running(1)
        .has([unprobed('a', 1, secs(3000))])
        .routed("");
    scene.gives(&[]);
    scene.looks_again_in(FIRST_PROBE_WAIT);
}

// ---- ends and back-off -----------------------------------------------------------------------

#[test]
fn the_first_end_is_made_good_at_once() {
    Scene::running(1)
        .has([crashed('a', 1, Duration::ZERO)])
        .routed("")
        .gives(&["start 1"]);
}

#[test]
fn the_wait_before_a_replacement_doubles() {
    let wait = |count| {
        let scene = Scene::running(1)
            .has(crashes(count, Duration::ZERO))
            .routed("");
        scene.gives(&[]);
        scene.plan().1.expect("it waits")
    };
    let waits: Vec<_> = (2..=8).map(|count| wait(count).as_millis()).collect();
    assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16_000]);
}

#[test]
fn the_wait_before_a_replacement_of_one_that_served_stays_short() {
    let wait = |count| {
        let mut ends = crashes(count, Duration::ZERO);
        for end in &mut ends {
            end.traffic = Traffic::Routed;
        }
        Scene::running(1)
            .has(ends)
            .routed("")
            .plan()
            .1
            .expect("it waits")
    };
    let waits: Vec<_> = (2..=8).map(|count| wait(count).as_millis()).collect();
    assert_eq!(waits, [250, 500, 1000, 1000, 1000, 1000, 1000]);
}

#[test]
fn a_replacement_is_started_when_its_wait_is_over() {
    let scene = |newest| Scene::running(1).has(crashes(2, newest)).routed("");
    scene(BACKOFF_MIN / 2).gives(&[]);
    scene(BACKOFF_MIN / 2).looks_again_in(BACKOFF_MIN / 2);
    scene(BACKOFF_MIN).gives(&["start 1"]);
}

#[test]
fn a_bounded_number_of_ends_is_remembered() {
    let steps = Scene::running(1)
        .has(crashes(CRASHES_KEPT_MAX + 2, secs(60)))
        .routed("")
        .plan()
        .0;
    // The oldest two, I and J, go; the others count.
    assert_eq!(steps, ["start 1", "remove I", "remove J"]);
}

#[test]
fn an_end_is_forgotten_after_a_while() {
    let scene = |age| {
        Scene::running(1)
            .has([serving('a', 1), crashed('b', 1, age)])
            .routed("a1")
    };
    scene(CRASH_WINDOW - secs(1)).gives(&[]);
    scene(CRASH_WINDOW - secs(1)).looks_again_in(secs(1));
    scene(CRASH_WINDOW).gives(&["remove b"]);
}

#[test]
fn ends_that_say_nothing_of_the_application_do_not_count() {
    let lost = |name| ended(name, 1, ExitCause::Lost, None, secs(0));
    Scene::running(1)
        .has([lost('a'), lost('b'), lost('c')])
        .routed("")
        .gives(&["start 1", "remove a", "remove b", "remove c"]);
    let term = ExitCause::Signal { signal: 15 };
    let unneeded = |name| ended(name, 1, term.clone(), Some(StopReason::NotNeeded), secs(0));
    Scene::running(1)
        .has([unneeded('a'), unneeded('b')])
        .routed("")
        .gives(&["start 1", "remove a", "remove b"]);
    let unhealthy = |name| ended(name, 1, term.clone(), Some(StopReason::Unhealthy), secs(0));
    Scene::running(1)
        .has([unhealthy('a'), unhealthy('b')])
        .routed("")
        .gives(&[]);
}

#[test]
fn ends_of_another_revision_are_removed_at_once() {
    Scene::running(1)
        .has([serving('a', 1), crashed('b', 7, secs(0))])
        .routed("a1")
        .gives(&["remove b"]);
}

// ---- an engine that does not answer ----------------------------------------------------------

#[test]
fn not_seen_is_not_gone_while_the_engine_cannot_be_asked() {
    Scene::running(2).engine_gone().routed("a1 b1").gives(&[]);
    Scene::running(2)
        .routed("a1 b1")
        .gives(&["publish serving", "start 1", "start 1"]);
}

#[test]
fn what_is_seen_to_fail_leaves_the_route_even_then() {
    Scene::running(2)
        .engine_gone()
        .has([serving('a', 1), sick('b', 1, Traffic::Routed)])
        .routed("a1 b1")
        .gives(&["publish serving a1"]);
}

#[test]
fn nothing_ends_while_the_engine_cannot_be_asked() {
    let undoing = [
        Transition::Begin,
        Transition::Deploy(Box::new(image().into())),
        Transition::Fail(failure()),
    ];
    Scene::running(1)
        .asked(OperationKind::UpdateService)
        .then(undoing)
        .has([serving('a', 1)])
        .routed("a1")
        .engine_gone()
        .gives(&[]);
    Scene::running(1)
        .asked(OperationKind::PauseService)
        .then([Transition::Begin])
        .published(RouteState::Paused, "")
        .engine_gone()
        .gives(&[]);
}

#[test]
fn a_deployment_gives_up_when_the_engine_does_not_come_back() {
    let patience = ENGINE_PATIENCE + Timing::default().startup_limit * START_ATTEMPTS_MAX as u32;
    let prepare = |age| {
        Scene::created(1)
            .moved(Transition::Begin, age)
            .published(RouteState::NotDeployed, "")
            .engine_gone()
    };
    prepare(patience - secs(1)).gives(&["prepare localhost/app:latest"]);
    prepare(patience - secs(1)).looks_again_in(secs(1));
    prepare(patience).fails_with("the engine could not do it within 1500 s");
    let start = |age| {
        Scene::created(1)
            .moved(Transition::Begin, age)
            .moved(Transition::Deploy(Box::new(image().into())), age)
            .published(RouteState::NotDeployed, "")
            .engine_gone()
    };
    start(patience - secs(1)).gives(&[]);
    start(patience - secs(1)).looks_again_in(secs(1));
    start(patience).fails_with("the engine could not do it within 1500 s");
}

// ---- after a restart of the control plane ----------------------------------------------------

#[test]
fn after_a_restart_nothing_changes_until_the_engine_has_answered() {
    Scene::running(1)
        .engine_gone()
        .unacknowledged()
        .routed("a1")
        .gives(&[]);
}

#[test]
fn after_a_restart_an_unknown_instance_is_stopped_only_once_the_edge_has_spoken() {
    let scene = |b: InstanceView| {
        Scene::running(1)
            .has([serving('a', 1), b])
            .routed("a1")
            .unacknowledged()
    };
    scene(serving('b', 7)).gives(&[]);
    scene(unrouted('b', 7, secs(0), false)).gives(&["stop b NotNeeded"]);
}

#[test]
fn after_a_restart_an_image_is_asked_for_again() {
    Scene::updating_prepare().gives(&["prepare localhost/app:latest"]);
}

impl Scene {
    fn updating_prepare() -> Self {
        Self::running(1)
            .asked(OperationKind::UpdateService)
            .then([Transition::Begin])
            .has([serving('a', 1)])
            .routed("a1")
    }
}

// ---- deployments -----------------------------------------------------------------------------

#[test]
fn an_operation_is_begun_before_anything_else() {
    Scene::created(1).gives(&["begin"]);
    for kind in [
        OperationKind::UpdateService,
        OperationKind::StartDeployment,
        OperationKind::PauseService,
        OperationKind::DeleteService,
    ] {
        Scene::running(1).asked(kind).gives(&["begin"]);
    }
    Scene::paused()
        .asked(OperationKind::ResumeService)
        .gives(&["begin"]);
}

#[test]
fn the_image_decides_what_follows_preparing() {
    let scene = |image| Scene::updating_prepare().image(image);
    scene(ImageProgress::NotAsked).gives(&["prepare localhost/app:latest"]);
    scene(ImageProgress::Preparing).gives(&[]);
    scene(ImageProgress::Ready(Box::new(image().into()))).gives(&["deploy"]);
    let message = "no such image".to_owned();
    scene(ImageProgress::Failed(FailureCause::Image { message }))
        .gives(&["fail in prepare image : no such image"]);
    let message = "KEY: /web/key: there is no such parameter".to_owned();
    scene(ImageProgress::Failed(FailureCause::Secrets { message })).gives(&[
        "fail in prepare image : Failed to retrieve secrets: KEY: /web/key: there is no such parameter",
    ]);
}

#[test]
fn a_service_that_was_never_deployed_says_so() {
    Scene::created(1)
        .then([Transition::Begin])
        .gives(&["prepare localhost/app:latest", "publish not deployed"]);
}

#[test]
fn a_candidate_starts_beside_what_serves() {
    Scene::updating(2)
        .has([serving('a', 1), serving('b', 1)])
        .routed("a1 b1")
        .gives(&["start 2", "start 2"]);
}

#[test]
fn what_serves_is_kept_whole_while_a_candidate_starts() {
    Scene::updating(2)
        .has([serving('a', 1), creating('c', 2, secs(1)), healthy('d', 2)])
        .routed("a1")
        .gives(&["start 1"]);
}

#[test]
fn traffic_is_switched_when_the_candidate_is_whole() {
    let scene = |d| {
        Scene::updating(2)
            .has([serving('a', 1), serving('b', 1), healthy('c', 2), d])
            .routed("a1 b1")
    };
    scene(starting('d', 2, secs(1))).gives(&[]);
    scene(sick('d', 2, Traffic::Never)).gives(&["start 2", "stop d Unhealthy"]);
    scene(healthy('d', 2)).gives(&["switch"]);
}

#[test]
fn after_the_switch_the_route_leads_to_the_candidate_and_the_old_are_drained() {
    let scene = || Scene::updating(1).then([Transition::Switch]);
    scene()
        .has([serving('a', 1), healthy('b', 2)])
        .routed("a1")
        .gives(&["publish serving b2"]);
    scene()
        .has([serving('a', 1), serving('b', 2)])
        .routed("b2")
        .unacknowledged()
        .gives(&[]);
    scene()
        .has([unrouted('a', 1, secs(0), true), serving('b', 2)])
        .routed("b2")
        .gives(&["succeed"]);
    scene()
        .then([Transition::Succeed])
        .has([unrouted('a', 1, secs(0), true), serving('b', 2)])
        .routed("b2")
        .gives(&[]);
    scene()
        .then([Transition::Succeed])
        .has([unrouted('a', 1, secs(0), false), serving('b', 2)])
        .routed("b2")
        .gives(&["stop a NotNeeded"]);
}

#[test]
fn the_old_go_on_serving_when_the_new_end_right_after_the_switch() {
    Scene::updating(1)
        .then([Transition::Switch])
        .has([serving('a', 1), crashed('b', 2, secs(0))])
        .routed("a1")
        .gives(&["start 2"]);
    // What has left the route is not brought back: it is being drained.
    Scene::updating(1)
        .then([Transition::Switch, Transition::Succeed])
        .has([unrouted('a', 1, secs(0), true), crashed('b', 2, secs(0))])
        .routed("b2")
        .gives(&["publish serving", "start 2"]);
}

#[test]
fn a_switched_deployment_does_not_wait_for_a_broken_application_for_ever() {
    let limit = Timing::default().startup_limit;
    let scene = |age| {
        Scene::updating(1)
            .moved(Transition::Switch, age)
            .has([serving('a', 1), crashed('b', 2, secs(0))])
            .routed("a1")
    };
    scene(limit - secs(1)).gives(&["start 2"]);
    scene(limit - secs(1)).looks_again_in(secs(1));
    scene(limit).gives(&["succeed"]);
    scene(limit).unacknowledged().gives(&["start 2"]);
}

#[test]
fn a_candidate_that_ends_too_often_has_failed() {
    let scene = |crashes: Vec<InstanceView>| {
        Scene::updating(1)
            .has([serving('a', 1)])
            .has(crashes)
            .routed("a1")
    };
    let ends: Vec<_> = ('b'..='d').map(|name| crashed(name, 2, secs(1))).collect();
    assert_eq!(ends.len(), START_ATTEMPTS_MAX);
    scene(ends[..2].to_vec()).gives(&["start 2"]);
    scene(ends).gives(&[
        "fail in start instances d: the application exited with code 1 before it was healthy, 3 times in a row",
    ]);
}

#[test]
fn a_candidate_that_is_not_healthy_in_time_has_failed() {
    let scene = |b| Scene::updating(1).has([serving('a', 1), b]).routed("a1");
    scene(starting('b', 2, secs(299))).looks_again_in(secs(1));
    scene(starting('b', 2, secs(300))).gives(&[
        "fail in start instances b: health check on TCP port 80 did not pass within 300 s: connection refused",
    ]);
    scene(unprobed('b', 2, secs(3000))).gives(&[]);
}

#[test]
fn a_failed_deployment_leaves_only_what_served() {
    let scene = || {
        Scene::updating(1)
            .then([Transition::Fail(failure())])
            .routed("a1")
            .has([serving('a', 1)])
    };
    scene()
        .has([healthy('b', 2), crashed('c', 2, secs(0))])
        .gives(&["stop b NotNeeded", "remove c"]);
    scene().has([stopping('b', 2)]).gives(&[]);
    scene().gives(&["undone"]);
}

#[test]
fn what_served_is_replaced_while_a_failure_is_undone() {
    Scene::updating(1)
        .then([Transition::Fail(failure())])
        .routed("a1")
        .has([crashed('a', 1, secs(0)), stopping('b', 2)])
        .gives(&["publish serving", "start 1"]);
}

#[test]
fn a_failed_create_leaves_nothing() {
    let begun = [
        Transition::Begin,
        Transition::Deploy(Box::new(image().into())),
        Transition::Fail(failure()),
    ];
    Scene::created(1)
        .then(begun)
        .has([healthy('a', 1)])
        .published(RouteState::NotDeployed, "")
        .gives(&["stop a NotNeeded"]);
}

// ---- pausing, resuming, deleting -------------------------------------------------------------

#[test]
fn pausing_drains_and_ends_when_nothing_is_left() {
    let scene = || {
        Scene::running(1)
            .asked(OperationKind::PauseService)
            .then([Transition::Begin])
    };
    scene()
        .has([serving('a', 1)])
        .routed("a1")
        .gives(&["publish paused"]);
    let paused = || scene().published(RouteState::Paused, "");
    paused().has([serving('a', 1)]).unacknowledged().gives(&[]);
    paused().has([unrouted('a', 1, secs(0), true)]).gives(&[]);
    paused()
        .has([unrouted('a', 1, secs(0), false)])
        .gives(&["stop a NotNeeded"]);
    paused().has([stopping('a', 1)]).gives(&[]);
    paused()
        .has([crashed('a', 1, secs(0))])
        .gives(&["remove a"]);
    paused().unacknowledged().gives(&[]);
    paused().gives(&["succeed"]);
}

#[test]
fn resuming_starts_the_active_revision_and_fails_back_to_paused() {
    let resuming = || {
        Scene::paused()
            .asked(OperationKind::ResumeService)
            .then([Transition::Begin])
            .published(RouteState::Paused, "")
    };
    resuming().gives(&["start 1"]);
    resuming().has([healthy('a', 1)]).gives(&["switch"]);
    resuming()
        .then([Transition::Switch])
        .has([healthy('a', 1)])
        .gives(&["publish serving a1"]);
    let ends = ('a'..='c').map(|name| crashed(name, 1, secs(1)));
    resuming().has(ends).fails_with("3 times in a row");
    resuming()
        .then([Transition::Fail(failure())])
        .has([healthy('a', 1), crashed('b', 1, secs(0))])
        .gives(&["stop a NotNeeded", "remove b"]);
    resuming()
        .then([Transition::Fail(failure())])
        .gives(&["undone"]);
}

#[test]
fn ends_from_before_do_not_count_against_resuming() {
    let old = ('a'..='c').map(|name| crashed(name, 1, PHASE_AGE + secs(60)));
    Scene::paused()
        .asked(OperationKind::ResumeService)
        .then([Transition::Begin])
        .published(RouteState::Paused, "")
        .has(old)
        .gives(&["start 1"]);
}

#[test]
fn deleting_takes_the_route_then_the_instances_then_the_rest() {
    let scene = || {
        Scene::running(1)
            .asked(OperationKind::DeleteService)
            .then([Transition::Begin])
    };
    scene()
        .has([serving('a', 1)])
        .routed("a1")
        .gives(&["unpublish"]);
    scene().has([serving('a', 1)]).unacknowledged().gives(&[]);
    scene()
        .has([unrouted('a', 1, secs(0), false)])
        .gives(&["stop a NotNeeded"]);
    scene().has([stopping('a', 1)]).gives(&[]);
    scene().has([crashed('a', 1, secs(0))]).gives(&["remove a"]);
    scene().gives(&["forget", "succeed"]);
}

#[test]
fn a_service_without_anything_is_deleted_at_once() {
    let begun = [
        Transition::Begin,
        Transition::Fail(failure()),
        Transition::Undone,
    ];
    let failed = Scene::created(1).then(begun);
    failed
        .asked(OperationKind::DeleteService)
        .then([Transition::Begin])
        .gives(&["forget", "succeed"]);
}

#[test]
fn a_deleted_service_keeps_nothing() {
    let deleted = || {
        Scene::running(1)
            .asked(OperationKind::DeleteService)
            .then([Transition::Begin, Transition::Succeed])
    };
    deleted().gives(&[]);
    deleted().routed("a1").gives(&["unpublish"]);
    deleted()
        .has([healthy('a', 1)])
        .gives(&["stop a NotNeeded"]);
}

// ---- private services and returns ------------------------------------------------------------

#[test]
fn a_private_service_is_served_by_a_route_without_hosts() {
    let mut scene = Scene::running(1).has([healthy('a', 1)]);
    scene.revisions[0].settings.exposure = Exposure::Private;
    scene.service.settings.exposure = Exposure::Private;
    scene.gives(&["publish serving hidden a1"]);
    let mut paused = Scene::paused();
    paused.service.settings.exposure = Exposure::Private;
    paused.gives(&["publish paused hidden"]);
}

#[test]
fn a_service_is_hidden_and_shown_with_the_switch_of_its_deployment() {
    let mut scene = Scene::updating(1)
        .has([serving('a', 1), healthy('b', 2)])
        .routed("a1");
    scene.revisions[1].settings.exposure = Exposure::Private;
    scene.gives(&["switch"]);
    let mut scene = scene.moved(Transition::Switch, Duration::ZERO);
    scene.gives(&["publish serving hidden b2"]);
    scene.revisions[1].settings.exposure = Exposure::Public;
    scene.gives(&["publish serving b2"]);
}

#[test]
fn the_front_door_is_set_without_a_deployment() {
    let running = || Scene::running(1).has([serving('a', 1)]).routed("a1");
    running().gives(&[]);
    let mut private = running();
    private.service.ingress.private = true;
    private.gives(&["publish serving hidden a1"]);
    let mut nameless = running();
    nameless.service.ingress.default_host = false;
    nameless.gives(&["publish serving hidden a1"]);
    nameless.service.hosts.push("www.example.com".into());
    nameless.gives(&["publish serving a1"]);
    let mut forwarded = running();
    forwarded.service.ingress.forwarded = true;
    forwarded.gives(&["publish serving a1"]);
}

#[test]
fn a_return_prepares_the_image_of_its_revision() {
    let mut scene = Scene::running(1).has([serving('a', 1)]).routed("a1");
    let digest = Digest::from_sha256([7; 32]);
    let back = Change {
        returns_to: Some(PinnedRevision {
            number: RevisionNumber(1),
            digest,
        }),
        ..change(1)
    };
    let id = OperationId::from_bytes([2; 16]);
    scene
        .service
        .accept(OperationKind::UpdateService, Some(back), id, ago(PHASE_AGE))
        .expect("it is accepted");
    let scene = scene.then([Transition::Begin]);
    scene.gives(&[&format!("prepare localhost/app:latest@{digest}")]);
}

#[test]
fn a_cancelled_deployment_is_undone() {
    let mut scene = Scene::updating(1)
        .has([serving('a', 1), starting('b', 2, secs(1))])
        .routed("a1");
    scene.service.cancel(None, ago(secs(0))).expect("it is");
    scene.gives(&["stop b NotNeeded"]);
    scene.instances.truncate(1);
    scene.gives(&["undone"]);
}

// ---- scaling ---------------------------------------------------------------------------------

#[test]
fn as_many_instances_as_are_wanted_are_started_within_the_bounds() {
    let scene = || Scene::running(1).has([serving('a', 1)]).routed("a1");
    scene().wanted(1).gives(&[]);
    scene()
        .wanted(3)
        .gives(&["start 1, spare", "start 1, spare"]);
    scene().wanted(0).gives(&[]); // the minimum is 1
    let mut small = scene().wanted(9);
    small.revisions[0].settings.scaling.instances_max = 2;
    small.gives(&["start 1, spare"]);
}

#[test]
fn what_is_too_many_leaves_the_route_first_the_youngest_before_all() {
    let mut old = serving('b', 1);
    old.created_at = ago(secs(3600));
    let young = InstanceView {
        created_at: ago(secs(60)),
        ..serving('a', 1)
    };
    let draining = InstanceView {
        created_at: ago(secs(60)),
        ..unrouted('a', 1, secs(1), true)
    };
    Scene::running(1)
        .has([old.clone(), young])
        .routed("a1 b1")
        .wanted(1)
        .gives(&["publish serving b1"]);
    Scene::running(1)
        .has([old.clone(), starting('c', 1, secs(1))])
        .routed("b1")
        .wanted(1)
        .gives(&["stop c NotNeeded"]);
    Scene::running(1)
        .has([old.clone(), draining.clone()])
        .routed("b1")
        .wanted(1)
        .gives(&[]);
    // It is not stopped yet, and needed again.
    Scene::running(1)
        .has([old, draining])
        .routed("b1")
        .wanted(2)
        .gives(&["publish serving a1 b1"]);
}

#[test]
fn a_service_of_minimum_0_goes_to_nobody_when_nobody_is_wanted() {
    let scene = || Scene::running(0).has([serving('a', 1)]);
    scene().routed("a1").wanted(0).gives(&["publish serving"]);
    Scene::running(0)
        .has([unrouted('a', 1, secs(1), false)])
        .routed("")
        .wanted(0)
        .gives(&["stop a NotNeeded"]);
    Scene::running(0).routed("").wanted(0).gives(&[]);
    Scene::running(0).routed("").wanted(1).gives(&["start 1"]);
    // Instances of the revision before go too.
    Scene::running(0)
        .has([serving('z', 0)])
        .routed("z0")
        .wanted(0)
        .gives(&["publish serving"]);
}

#[test]
fn what_there_is_is_kept_while_the_demand_is_unknown() {
    let three = || [serving('a', 1), serving('b', 1), serving('c', 1)];
    Scene::running(1).has(three()).routed("a1 b1 c1").gives(&[]);
    Scene::running(0).has(three()).routed("a1 b1 c1").gives(&[]);
    Scene::running(0).routed("").gives(&[]);
}

#[test]
fn a_deployment_under_load_keeps_the_scale() {
    let three = || [serving('a', 1), serving('b', 1), serving('c', 1)];
    let scene = || Scene::updating(1).has(three()).routed("a1 b1 c1").wanted(3);
    scene().gives(&["start 2", "start 2", "start 2"]);
    scene()
        .has([healthy('d', 2), healthy('e', 2)])
        .gives(&["start 2"]);
    scene()
        .has([healthy('d', 2), healthy('e', 2), healthy('f', 2)])
        .gives(&["switch"]);
}

#[test]
fn a_deployment_of_minimum_0_proves_one_instance_and_ends_with_it_in_the_route() {
    let scene = || Scene::updating(0).wanted(0).routed("");
    scene().gives(&["start 2"]);
    scene().has([healthy('d', 2)]).gives(&["switch"]);
    scene()
        .then([Transition::Switch])
        .has([healthy('d', 2)])
        .gives(&["publish serving d2"]);
}

#[test]
fn a_manual_minimum_takes_the_place_of_the_configured_one() {
    let mut scene = Scene::running(1)
        .has([serving('a', 1)])
        .routed("a1")
        .wanted(1);
    scene.service.scaling.instances_min = Some(3);
    scene.gives(&["start 1", "start 1"]);
    let mut none = Scene::running(1)
        .has([serving('a', 1)])
        .routed("a1")
        .wanted(0);
    none.service.scaling.instances_min = Some(0);
    none.gives(&["publish serving"]);
}

#[test]
fn instances_fail_to_start_from_one_that_ended_unhealthy_until_one_is_healthy() {
    let fleet = |scene: Scene| {
        plan::fleet(&scene.view()).map(|f| (f.ready, f.starting, f.failing_until.is_some()))
    };
    let scene = || Scene::running(1).has([starting('b', 1, secs(1))]);
    assert_eq!(fleet(scene()), Some((0, 1, false)));
    assert_eq!(
        fleet(scene().has([crashed('a', 1, secs(2))])),
        Some((0, 1, true))
    );
    let healthy_since = |age| InstanceView {
        created_at: ago(age),
        ..healthy('c', 1)
    };
    let failed = || scene().has([crashed('a', 1, secs(2))]);
    assert_eq!(
        fleet(failed().has([healthy_since(secs(0))])),
        Some((1, 1, false))
    );
    assert_eq!(
        fleet(failed().has([healthy_since(secs(2 * 3600))])),
        Some((1, 1, true))
    );
    assert_eq!(fleet(Scene::paused()), None);
}

// ---- rest ------------------------------------------------------------------------------------

#[test]
fn who_is_asked_for_nothing_rests_and_is_woken_again() {
    let scene = |activity| {
        let resting = |name| InstanceView {
            activity,
            ..serving(name, 1)
        };
        Scene::running(2)
            .has([resting('a'), resting('b')])
            .routed("a1 b1")
    };
    scene(Activity::Active)
        .rests(Activity::Throttled)
        .gives(&["throttled a", "throttled b"]);
    scene(Activity::Throttled)
        .rests(Activity::Frozen)
        .gives(&["frozen a", "frozen b"]);
    scene(Activity::Frozen).rests(Activity::Frozen).gives(&[]);
    scene(Activity::Frozen).gives(&["active a", "active b"]);
    // Until it is known what is asked for, they are let be.
    let mut unknown = scene(Activity::Frozen);
    unknown.activity = None;
    unknown.gives(&[]);
    let mut kept = scene(Activity::Active).rests(Activity::Frozen);
    kept.service.scaling.active_min = Some(1);
    kept.gives(&["frozen b"]);
    scene(Activity::Active)
        .rests(Activity::Frozen)
        .engine_gone()
        .gives(&[]);
}

#[test]
fn who_starts_fails_or_leaves_does_not_rest() {
    let scene = |instance: InstanceView| {
        Scene::running(1)
            .has([instance])
            .routed("a1")
            .rests(Activity::Frozen)
    };
    let failing = InstanceView {
        failing: true,
        activity: Activity::Throttled,
        ..serving('a', 1)
    };
    scene(failing).gives(&["active a"]);
    let new = InstanceView {
        activity: Activity::Boosted,
        ..starting('b', 1, secs(1))
    };
    scene(serving('a', 1))
        .wanted(1)
        .has([new])
        .gives(&["frozen a", "stop b NotNeeded"]);
    let boosted = InstanceView {
        activity: Activity::Boosted,
        ..serving('a', 1)
    };
    scene(boosted).rests(Activity::Active).gives(&["active a"]);
    // While an operation goes on it is as if it were asked for something.
    let frozen = InstanceView {
        activity: Activity::Frozen,
        ..serving('a', 1)
    };
    let updating = Scene::updating(1)
        .has([frozen, starting('b', 2, secs(1))])
        .routed("a1")
        .rests(Activity::Frozen);
    updating.gives(&["active a"]);
}
