//! Services and operations, transition by transition: every request in every status, every step
//! in every phase (specification, sections 4.1.1 and 4.2).

use ekiden_model::{
    health::HealthCheck,
    id::{OperationId, ServiceId},
    image::{Digest, ImageConfig, PreparedImage},
    instance::{RevisionNumber, UserNamespace},
    narrative::{Outcome, ServiceEvent, narrate},
    revision::{Exposure, Revision, Scaling, Settings},
    service::{
        CancelRefusal, Change, Failure, FailureCause, Operation, OperationKind, OperationStatus,
        Phase, PinnedRevision, Refusal, SERVED_KEPT_MAX, Service, ServiceStatus, Transition,
    },
    time::Timestamp,
};

use OperationKind::{
    CreateService, DeleteService, PauseService, ResumeService, StartDeployment, UpdateService,
};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const LATER: Timestamp = Timestamp::from_millis(2_000_000);

const KINDS: [OperationKind; 6] = [
    CreateService,
    UpdateService,
    StartDeployment,
    PauseService,
    ResumeService,
    DeleteService,
];

fn change(port: u16) -> Change {
    let settings = Settings {
        image: "localhost/app".parse().expect("a good reference"),
        source: None,
        start_command: Vec::new(),
        port,
        env: Default::default(),
        secrets: Default::default(),
        cpu_millis: 1000,
        memory_bytes: 2 << 30,
        health: HealthCheck::default(),
        scaling: Scaling::default(),
        user_namespace: UserNamespace::Private,
        exposure: Exposure::Public,
        observed: false,
    };
    Change {
        settings,
        configuration: port.to_string(),
        returns_to: None,
    }
}

fn deploy() -> Transition {
    Transition::Deploy(Box::new(
        PreparedImage {
            digest: Digest::from_sha256([1; 32]),
            config: ImageConfig::default(),
            size_bytes: 1,
        }
        .into(),
    ))
}

fn fail() -> Transition {
    Transition::Fail(Failure {
        phase: Phase::Start,
        cause: FailureCause::Image {
            message: "no".to_owned(),
        },
        instance: None,
        log_lines: Vec::new(),
    })
}

fn every_transition() -> [Transition; 6] {
    [
        Transition::Begin,
        deploy(),
        Transition::Switch,
        Transition::Succeed,
        fail(),
        Transition::Undone,
    ]
}

fn created() -> Service {
    Service::create(
        ServiceId::from_bytes([9; 16]),
        "web1".parse().expect("a good name"),
        Vec::new(),
        change(1),
        OperationId::from_bytes([1; 16]),
        NOW,
    )
}

fn then(mut service: Service, transitions: impl IntoIterator<Item = Transition>) -> Service {
    for transition in transitions {
        service.apply(transition, NOW).expect("it is legal");
    }
    service
}

fn asked(mut service: Service, kind: OperationKind) -> Service {
    let change = (kind == UpdateService).then(|| change(2));
    let id = OperationId::from_bytes([2; 16]);
    service
        .accept(kind, change, id, LATER)
        .expect("it is accepted");
    service
}

fn deployed() -> [Transition; 4] {
    [
        Transition::Begin,
        deploy(),
        Transition::Switch,
        Transition::Succeed,
    ]
}

/// A service in the given status, brought there by nothing but legal steps where there are any.
fn service(status: ServiceStatus) -> Service {
    let running = || then(created(), deployed());
    let through = |kind| {
        then(
            asked(running(), kind),
            [Transition::Begin, Transition::Succeed],
        )
    };
    match status {
        ServiceStatus::OperationInProgress => created(),
        ServiceStatus::Running => running(),
        ServiceStatus::CreateFailed => {
            then(created(), [Transition::Begin, fail(), Transition::Undone])
        }
        ServiceStatus::Paused => through(PauseService),
        ServiceStatus::Deleted => through(DeleteService),
        // No step leads there yet; a stored one must still be understood.
        ServiceStatus::DeleteFailed => Service {
            settled: ServiceStatus::DeleteFailed,
            ..running()
        },
    }
}

/// The newest operation of the kind, in the given phase.
fn in_phase(kind: OperationKind, phase: Phase) -> Option<Service> {
    let begun = match kind {
        CreateService => created(),
        UpdateService | StartDeployment | PauseService | DeleteService => {
            asked(service(ServiceStatus::Running), kind)
        }
        ResumeService => asked(service(ServiceStatus::Paused), kind),
    };
    let prepares = matches!(kind, CreateService | UpdateService | StartDeployment);
    let drains = matches!(kind, PauseService | DeleteService);
    let started = || match prepares {
        true => vec![Transition::Begin, deploy()],
        false => vec![Transition::Begin],
    };
    let steps = match phase {
        Phase::Accepted => vec![],
        Phase::Prepare if prepares => vec![Transition::Begin],
        Phase::Drain if drains => vec![Transition::Begin],
        Phase::Start if !drains => started(),
        Phase::Switch if !drains => [started(), vec![Transition::Switch]].concat(),
        Phase::Undo if !drains => [started(), vec![fail()]].concat(),
        Phase::Prepare | Phase::Drain | Phase::Start | Phase::Switch | Phase::Undo => return None,
    };
    let service = then(begun, steps);
    assert_eq!(operation(&service).phase, phase);
    Some(service)
}

fn operation(service: &Service) -> &Operation {
    service
        .operation
        .as_ref()
        .expect("an operation is on its way")
}

// ---- requests --------------------------------------------------------------------------------

#[test]
fn every_request_is_accepted_or_refused_by_status() {
    use ServiceStatus as S;
    // Accepted, already so, or refused; the columns are in the order of `KINDS`.
    let table = [
        (S::Running, "-  ok ok ok so ok"),
        (S::Paused, "-  -  -  so ok ok"),
        (S::OperationInProgress, "-  -  -  -  -  -"),
        (S::CreateFailed, "-  ok -  -  -  ok"),
        (S::DeleteFailed, "-  -  -  -  -  ok"),
        (S::Deleted, "-  -  -  -  -  -"),
    ];
    for (status, row) in table {
        for (kind, want) in KINDS.into_iter().zip(row.split_whitespace()) {
            let before = service(status);
            assert_eq!(before.status(), status);
            let mut after = before.clone();
            let answer = after.accept(kind, None, OperationId::from_bytes([3; 16]), LATER);
            let want = match want {
                "ok" => Ok(()),
                "so" => Err(Refusal::AlreadySo(status)),
                _ => Err(Refusal::WrongStatus(status)),
            };
            assert_eq!(answer, want, "{kind} of a service that is {status}");
            if want.is_err() {
                assert_eq!(after, before, "a refusal changes nothing");
            }
        }
    }
}

#[test]
fn an_accepted_operation_is_pending() {
    let service = asked(service(ServiceStatus::Running), UpdateService);
    let operation = operation(&service);
    assert_eq!(operation.status, OperationStatus::Pending);
    assert_eq!(operation.phase, Phase::Accepted);
    assert_eq!(operation.from, ServiceStatus::Running);
    assert_eq!(operation.started_at, LATER);
    assert_eq!(operation.ended_at, None);
    assert_eq!(service.status(), ServiceStatus::OperationInProgress);
    assert_eq!(service.updated_at, LATER);
}

// ---- phases ----------------------------------------------------------------------------------

#[test]
fn every_step_is_possible_in_its_phase_only() {
    let phases = [
        Phase::Accepted,
        Phase::Prepare,
        Phase::Start,
        Phase::Switch,
        Phase::Drain,
        Phase::Undo,
    ];
    for kind in KINDS {
        for phase in phases {
            let Some(before) = in_phase(kind, phase) else {
                continue;
            };
            for transition in every_transition() {
                check_step(&before, kind, phase, transition);
            }
        }
    }
}

/// What a step leads to: a phase, or an end.
#[track_caller]
fn check_step(before: &Service, kind: OperationKind, phase: Phase, transition: Transition) {
    use OperationStatus as S;
    let rolls_back = matches!(kind, UpdateService | StartDeployment);
    let want = match (phase, transition.name()) {
        (Phase::Accepted, "begin") => match kind {
            CreateService | UpdateService | StartDeployment => {
                Some((Some(Phase::Prepare), S::InProgress))
            }
            ResumeService => Some((Some(Phase::Start), S::InProgress)),
            PauseService | DeleteService => Some((Some(Phase::Drain), S::InProgress)),
        },
        (Phase::Prepare, "deploy") => Some((Some(Phase::Start), S::InProgress)),
        (Phase::Start, "switch") => Some((Some(Phase::Switch), S::InProgress)),
        (Phase::Switch | Phase::Drain, "succeed") => Some((None, S::Succeeded)),
        (Phase::Prepare | Phase::Start, "fail") if rolls_back => {
            Some((Some(Phase::Undo), S::RollbackInProgress))
        }
        (Phase::Prepare | Phase::Start, "fail") => Some((Some(Phase::Undo), S::InProgress)),
        (Phase::Undo, "undone") if rolls_back => Some((None, S::RollbackSucceeded)),
        (Phase::Undo, "undone") => Some((None, S::Failed)),
        _ => None,
    };
    let name = transition.name();
    let mut after = before.clone();
    let applied = after.apply(transition, LATER);
    let Some((next, status)) = want else {
        let illegal = applied.expect_err("it is not possible").to_string();
        assert_eq!(
            illegal,
            format!("{name} is not possible in phase `{phase}` of {kind}")
        );
        assert_eq!(&after, before, "what is not possible changes nothing");
        return;
    };
    let applied = applied.expect("it is possible");
    match next {
        Some(next) => {
            let operation = operation(&after);
            assert_eq!(
                (operation.phase, operation.status),
                (next, status),
                "{kind} {name}"
            );
            assert_eq!(operation.phase_since, LATER);
            assert_eq!(applied.ended, None);
            assert_eq!(after.status(), ServiceStatus::OperationInProgress);
        }
        None => {
            let ended = applied.ended.expect("it is over");
            assert_eq!(
                (ended.status, ended.ended_at),
                (status, Some(LATER)),
                "{kind} {name}"
            );
            assert_eq!(after.operation, None);
        }
    }
}

#[test]
fn no_step_is_possible_without_an_operation() {
    for transition in every_transition() {
        let before = service(ServiceStatus::Running);
        let mut after = before.clone();
        assert!(after.apply(transition, LATER).is_err());
        assert_eq!(after, before);
    }
}

// ---- what they leave behind ------------------------------------------------------------------

#[test]
fn success_leaves_the_status_that_was_asked_for() {
    let ends = |kind| {
        let last = match kind {
            PauseService | DeleteService => Phase::Drain,
            CreateService | UpdateService | StartDeployment | ResumeService => Phase::Switch,
        };
        let service = in_phase(kind, last).expect("it has the phase");
        then(service, [Transition::Succeed])
    };
    for kind in [CreateService, UpdateService, StartDeployment, ResumeService] {
        assert_eq!(ends(kind).settled, ServiceStatus::Running, "{kind}");
    }
    assert_eq!(ends(PauseService).settled, ServiceStatus::Paused);
    let deleted = ends(DeleteService);
    assert_eq!(deleted.settled, ServiceStatus::Deleted);
    assert_eq!(deleted.deleted_at, Some(NOW));
}

#[test]
fn failure_leaves_the_status_settings_and_revision_that_were() {
    for kind in [UpdateService, StartDeployment, ResumeService] {
        let failing = in_phase(kind, Phase::Undo).expect("it has the phase");
        let was = operation(&failing).from;
        let failed = then(failing, [Transition::Undone]);
        assert_eq!(failed.status(), was, "{kind}");
        assert_eq!(failed.active, Some(RevisionNumber(1)));
        assert_eq!(failed.settings, change(1).settings);
        assert_eq!(failed.configuration, "1");
    }
}

#[test]
fn a_failure_is_kept_with_its_operation() {
    let mut service = in_phase(UpdateService, Phase::Undo).expect("it has the phase");
    let applied = service
        .apply(Transition::Undone, LATER)
        .expect("it is possible");
    let ended = applied.ended.expect("it is over");
    let failure = ended.failure.expect("it has its cause");
    assert_eq!(failure.cause.to_string(), "no");
}

#[test]
fn settings_are_effective_from_the_switch_on_and_shown_from_the_request_on() {
    let starting = in_phase(UpdateService, Phase::Start).expect("it has the phase");
    assert_eq!(starting.settings, change(1).settings);
    assert_eq!(starting.settings_wanted(), &change(2).settings);
    assert_eq!(starting.configuration_wanted(), "2");
    let switched = then(starting, [Transition::Switch]);
    assert_eq!(switched.settings, change(2).settings);
    assert_eq!(switched.configuration_wanted(), "2");
    assert_eq!(switched.active, Some(RevisionNumber(2)));
}

#[test]
fn a_failed_create_takes_the_newest_wish_as_its_settings() {
    let updating = asked(service(ServiceStatus::CreateFailed), UpdateService);
    assert_eq!(updating.settings, change(2).settings);
    let failed = then(updating, [Transition::Begin, fail()]);
    // Nothing served: there is nothing to roll back to.
    assert_eq!(operation(&failed).status, OperationStatus::InProgress);
    let failed = then(failed, [Transition::Undone]);
    assert_eq!(failed.status(), ServiceStatus::CreateFailed);
    assert_eq!(failed.settings, change(2).settings);
}

#[test]
fn revisions_are_numbered_without_reuse() {
    let mut service = then(service(ServiceStatus::Running), []);
    for number in 2..5 {
        service = asked(service, StartDeployment);
        service.apply(Transition::Begin, NOW).expect("it begins");
        let applied = service.apply(deploy(), LATER).expect("it deploys");
        let revision = applied.revision.expect("it makes a revision");
        assert_eq!(revision.number, RevisionNumber(number));
        assert_eq!(revision.created_at, LATER);
        service = then(service, [fail(), Transition::Undone]);
    }
    assert_eq!(service.active, Some(RevisionNumber(1)));
}

#[test]
fn resuming_deploys_the_active_revision() {
    let resuming = in_phase(ResumeService, Phase::Start).expect("it has the phase");
    assert_eq!(operation(&resuming).candidate, Some(RevisionNumber(1)));
    assert_eq!(resuming.revision_newest, RevisionNumber(1));
}

// ---- cancelling ------------------------------------------------------------------------------

#[test]
fn an_operation_can_be_cancelled_until_it_has_switched() {
    use {CancelRefusal as C, ServiceStatus as S};
    // What a cancel is answered in each phase that an operation has; where it leads if it is
    // accepted.
    for kind in KINDS {
        let end = match kind {
            CreateService => (OperationStatus::Failed, S::CreateFailed),
            UpdateService | StartDeployment => (OperationStatus::RollbackSucceeded, S::Running),
            PauseService | DeleteService => (OperationStatus::Succeeded, S::Running),
            ResumeService => (OperationStatus::Failed, S::Paused),
        };
        let drains = matches!(kind, PauseService | DeleteService);
        for phase in [
            Phase::Accepted,
            Phase::Prepare,
            Phase::Start,
            Phase::Switch,
            Phase::Drain,
            Phase::Undo,
        ] {
            let Some(before) = in_phase(kind, phase) else {
                continue;
            };
            let want = match phase {
                _ if drains => Err(C::NotDeployment(kind)),
                Phase::Accepted | Phase::Prepare | Phase::Start => Ok(()),
                Phase::Switch | Phase::Drain => Err(C::Switched),
                Phase::Undo => Err(C::Undoing),
            };
            let mut after = before.clone();
            assert_eq!(after.cancel(None, LATER), want, "{kind} in {phase}");
            if want.is_err() {
                assert_eq!(after, before, "a refusal changes nothing");
                continue;
            }
            let cancelled = operation(&after);
            let failure = cancelled.failure.as_ref().expect("it has its cause");
            assert_eq!((cancelled.phase, failure.phase), (Phase::Undo, phase));
            assert_eq!(failure.cause, FailureCause::Cancelled);
            assert_eq!(
                after.updated_at, before.updated_at,
                "the service was not changed"
            );
            let ended = after
                .apply(Transition::Undone, LATER)
                .expect("it is undone")
                .ended
                .expect("it is over");
            assert_eq!((ended.status, after.status()), end, "{kind} in {phase}");
            assert_eq!(after.active, before.active);
        }
    }
}

#[test]
fn only_the_operation_that_is_on_its_way_is_cancelled() {
    let mut idle = service(ServiceStatus::Running);
    assert_eq!(idle.cancel(None, LATER), Err(CancelRefusal::NoOperation));
    let mut updating = in_phase(UpdateService, Phase::Start).expect("it has the phase");
    let other = OperationId::from_bytes([77; 16]);
    assert_eq!(
        updating.cancel(Some(other), LATER),
        Err(CancelRefusal::Over)
    );
    let this = operation(&updating).id;
    assert_eq!(updating.cancel(Some(this), LATER), Ok(()));
}

// ---- steps and revisions ---------------------------------------------------------------------

#[test]
fn an_operation_records_its_steps() {
    let mut updating = asked(service(ServiceStatus::Running), UpdateService);
    for (second, transition) in [(1, Transition::Begin), (2, deploy()), (3, fail())] {
        let at = Timestamp::from_millis(LATER.as_millis() + second * 1000);
        updating.apply(transition, at).expect("it is legal");
    }
    let steps: Vec<_> = operation(&updating)
        .steps
        .iter()
        .map(|step| (step.phase, step.at.as_millis() - LATER.as_millis()))
        .collect();
    let want = [
        (Phase::Accepted, 0),
        (Phase::Prepare, 1000),
        (Phase::Start, 2000),
        (Phase::Undo, 3000),
    ];
    assert_eq!(steps, want);
}

#[test]
fn revisions_that_served_are_remembered_and_failed_ones_are_not() {
    let mut service = service(ServiceStatus::Running);
    for outcome in [Ok(()), Err(())] {
        service = asked(service, UpdateService);
        let rest = match outcome {
            Ok(()) => vec![Transition::Switch, Transition::Succeed],
            Err(()) => vec![fail(), Transition::Undone],
        };
        service = then(service, [vec![Transition::Begin, deploy()], rest].concat());
    }
    assert_eq!(service.served, [RevisionNumber(1), RevisionNumber(2)]);
    assert_eq!(service.served_before(), Some(RevisionNumber(1)));
    for _ in 0..2 * SERVED_KEPT_MAX {
        service = then(asked(service, StartDeployment), deployed());
    }
    assert_eq!(service.served.len(), SERVED_KEPT_MAX);
    assert_eq!(service.served.last(), service.active.as_ref());
}

#[test]
fn a_service_from_before_revisions_were_remembered_remembers_from_now_on() {
    let mut old = service(ServiceStatus::Running);
    old.served.clear();
    assert_eq!(old.served_before(), None);
    let updated = then(asked(old, UpdateService), deployed());
    assert_eq!(updated.served_before(), Some(RevisionNumber(1)));
}

#[test]
fn a_return_asks_for_the_very_image_and_later_deployments_for_the_name() {
    let digest = Digest::from_sha256([7; 32]);
    let mut back = service(ServiceStatus::Running);
    let pinned = PinnedRevision {
        number: RevisionNumber(1),
        digest,
    };
    let change = Change {
        returns_to: Some(pinned),
        ..change(3)
    };
    back.accept(
        UpdateService,
        Some(change),
        OperationId::from_bytes([4; 16]),
        LATER,
    )
    .expect("it is accepted");
    assert_eq!(back.image_wanted().digest, Some(digest));
    back.apply(Transition::Begin, NOW).expect("it begins");
    let made = back.apply(deploy(), NOW).expect("it deploys").revision;
    let made = made.expect("it makes a revision");
    assert_eq!(made.copy_of, Some(RevisionNumber(1)));
    assert_eq!(made.operation, Some(OperationId::from_bytes([4; 16])));
    assert_eq!(made.configuration, "3");
    let back = then(back, [Transition::Switch, Transition::Succeed]);
    let again = asked(back, StartDeployment);
    assert_eq!(again.image_wanted().to_string(), "localhost/app:latest");
}

/// As the first release wrote them.
#[test]
fn old_records_are_read() {
    let settings = r#"{"image":"localhost/app:latest","start_command":[],"port":1,"env":{},
        "cpu_millis":1000,"memory_bytes":2147483648,
        "health":{"protocol":"tcp","interval":{"secs":5,"nanos":0},
        "timeout":{"secs":2,"nanos":0},"healthy_threshold":1,"unhealthy_threshold":5},
        "scaling":{"instances_min":1,"instances_max":25,"concurrency_per_instance":100},
        "user_namespace":"private"}"#;
    let id = "09090909090909090909090909090909";
    let operation = format!(
        r#"{{"id":"02020202020202020202020202020202","kind":"UPDATE_SERVICE",
        "status":"PENDING","phase":"accepted","from":"RUNNING",
        "change":{{"settings":{settings},"configuration":"1"}},"candidate":null,"failure":null,
        "started_at":2000000,"phase_since":2000000,"ended_at":null}}"#
    );
    let service = format!(
        r#"{{"id":"{id}","name":"web1","hosts":["web1.test"],"settled":"RUNNING",
        "settings":{settings},"configuration":"1","active":1,"revision_newest":1,
        "operation":{operation},"created_at":1000000,"updated_at":2000000,"deleted_at":null}}"#
    );
    let read: Service = serde_json::from_str(&service).expect("an old service is read");
    assert_eq!(read.settings, change(1).settings);
    let image = serde_json::to_string(&PreparedImage {
        digest: Digest::from_sha256([1; 32]),
        config: ImageConfig::default(),
        size_bytes: 1,
    })
    .expect("it is written");
    let revision =
        format!(r#"{{"number":1,"settings":{settings},"image":{image},"created_at":1000000}}"#);
    let revision: Revision = serde_json::from_str(&revision).expect("an old revision is read");
    assert_eq!(
        (revision.configuration.as_str(), revision.operation),
        ("", None)
    );
    let done = then(read, deployed());
    assert_eq!(done.served, [RevisionNumber(1), RevisionNumber(2)]);
}

#[test]
fn a_stored_service_is_read_back_as_it_was() {
    for kind in KINDS {
        for phase in [Phase::Accepted, Phase::Start, Phase::Undo, Phase::Drain] {
            let Some(service) = in_phase(kind, phase) else {
                continue;
            };
            let text = serde_json::to_string(&service).expect("it is written");
            let read: Service = serde_json::from_str(&text).expect("it is read");
            assert_eq!(read, service);
        }
    }
}

/// What is said of a service from its creation on, as it goes through transitions: `stream: text`, and
/// events.
fn told(transitions: impl IntoIterator<Item = Transition>) -> (Vec<String>, Vec<ServiceEvent>) {
    let mut service = created();
    let mut news: Vec<_> = narrate(None, &service, None, NOW).into_iter().collect();
    for transition in transitions {
        let before = service.clone();
        let applied = service.apply(transition, NOW).expect("it is legal");
        news.extend(narrate(
            Some(&before),
            &service,
            applied.ended.as_ref(),
            NOW,
        ));
    }
    let lines = news.iter().flat_map(|news| &news.lines);
    let lines = lines.map(|line| format!("{}: {}", line.stream, line.text));
    let events = news.iter().flat_map(|news| news.events.clone());
    (lines.collect(), events.collect())
}

#[test]
fn a_creation_is_told_in_app_runners_words() {
    let (lines, events) = told(deployed());
    let id = "01".repeat(16);
    let deployment = format!("deployment/{id}");
    let image = created().image_wanted();
    let port = created().settings.port;
    assert_eq!(
        lines,
        [
            "events: Service creation started.".to_owned(),
            format!("events: Deployment Artifact: [Repo Type: Image], [Image: {image}]"),
            format!("events: Deployment with ID : {id} started. Triggering event : SERVICE_CREATE"),
            "events: Service status is set to OPERATION_IN_PROGRESS.".to_owned(),
            format!("events: Pulling image {image}."),
            format!("{deployment}: Starting to pull your application image."),
            "events: Successfully pulled image.".to_owned(),
            format!("{deployment}: Successfully pulled your application image."),
            format!("{deployment}: Starting to deploy your application image."),
            "events: Provisioning instances and deploying image for publicly accessible service."
                .to_owned(),
            format!("events: Performing health check on protocol `TCP` [Port: '{port}']."),
            "events: Health check is successful. Routing traffic to application.".to_owned(),
            format!("{deployment}: Successfully deployed your application image."),
            "events: Successfully routed incoming traffic to application.".to_owned(),
            "events: Service creation completed successfully.".to_owned(),
            "events: Service status is set to RUNNING.".to_owned(),
        ]
    );
    let [
        ServiceEvent::Operation { outcome: began, .. },
        ServiceEvent::Operation { outcome: ended, .. },
        ServiceEvent::Status { previous, current },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(
        (*began, *ended),
        (Outcome::Started, Outcome::CompletedSuccessfully)
    );
    assert_eq!(
        (*previous, *current),
        (ServiceStatus::OperationInProgress, ServiceStatus::Running)
    );
}

#[test]
fn a_failure_is_told_with_its_cause_and_what_to_do() {
    let failure = Failure {
        phase: Phase::Start,
        cause: FailureCause::NotHealthy {
            probe: "TCP port 8080".to_owned(),
            last: "nothing listens".to_owned(),
            seconds: 100,
        },
        instance: None,
        log_lines: vec!["listening on 3000".to_owned()],
    };
    let (lines, events) = told([
        Transition::Begin,
        deploy(),
        Transition::Fail(failure),
        Transition::Undone,
    ]);
    let id = "01".repeat(16);
    let port = created().settings.port;
    let reason = "Health check on TCP port 8080 did not pass within 100 s: nothing listens. Check that the \
                  application listens on 0.0.0.0 (not only on localhost) and on the configured port.";
    for line in [
        format!(
            "events: Health check failed on protocol `TCP` [Port: '{port}']. Check your configured port \
             number. For more information, see the application logs."
        ),
        format!("events: Deployment with ID : {id} failed. Failure reason : Health check failed."),
        format!("events: Reason: {reason}"),
        format!("deployment/{id}: Reason: {reason}"),
        format!("deployment/{id}: Last output: listening on 3000"),
        "events: Service creation failed. For details, see service logs.".to_owned(),
        "events: Service status is set to CREATE_FAILED.".to_owned(),
    ] {
        assert!(lines.contains(&line), "{line}: {lines:#?}");
    }
    let Some(ServiceEvent::Operation {
        reason: told,
        outcome,
        ..
    }) = events.get(1)
    else {
        panic!("{events:?}");
    };
    assert_eq!((told.as_deref(), *outcome), (Some(reason), Outcome::Failed));
}
