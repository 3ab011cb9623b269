//! Services and operations, transition by transition: every request in every status, every step
//! in every phase (specification, sections 4.1.1 and 4.2).

use ekiden_model::{
    health::HealthCheck,
    id::{OperationId, ServiceId},
    image::{Digest, ImageConfig, PreparedImage},
    instance::{RevisionNumber, UserNamespace},
    revision::{Scaling, Settings},
    service::{
        Change, Failure, FailureCause, Operation, OperationKind, OperationStatus, Phase, Refusal,
        Service, ServiceStatus, Transition,
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
        start_command: Vec::new(),
        port,
        env: Default::default(),
        secrets: Default::default(),
        cpu_millis: 1000,
        memory_bytes: 2 << 30,
        health: HealthCheck::default(),
        scaling: Scaling::default(),
        user_namespace: UserNamespace::Private,
    };
    Change {
        settings,
        configuration: port.to_string(),
    }
}

fn deploy() -> Transition {
    Transition::Deploy(PreparedImage {
        digest: Digest::from_sha256([1; 32]),
        config: ImageConfig::default(),
        size_bytes: 1,
    })
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
