//! Clients: what owners ask of their services, at random, and what they may expect of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ekiden_model::{
    health::{HealthCheck, HealthProtocol},
    id::{OperationId, ServiceId},
    image::PreparedImage,
    instance::{ExitCause, RevisionNumber, UserNamespace},
    name::ServiceName,
    revision::{Exposure, Scaling, Settings},
    service::{
        Change, FailureCause, OperationKind, OperationStatus, PinnedRevision, Service,
        ServiceStatus,
    },
    time::Timestamp,
};

use crate::{
    behaviour::{Behaviour, Named},
    checks::Rule,
    control::Request,
    faults::DOWNTIME_MAX,
    random::Random,
    world::{Event, World},
};

const SERVICES_MAX: usize = 4;

/// How long nothing may change once all is as it should be, in ms.
const STILL_FOR: u64 = 15_000;

/// Where a history is, once faults have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Stage {
    /// Faults and requests of owners at random.
    #[default]
    Storm,
    /// All that was begun comes to its end.
    Settling,
    /// One more operation per service, which must end as its image deserves.
    LastOperations,
    /// Nothing may happen any more.
    Still,
}

#[derive(Debug, Default)]
pub(crate) struct Clients {
    stage: Stage,
    stage_since: Timestamp,
    configurations: u32,
    /// The operation that each service was given last of all.
    last: BTreeMap<ServiceId, OperationId>,
    /// How many steps had been done when all was still.
    steps_at_rest: u64,
    /// Services that served without a fault when the stage began.
    serving: BTreeSet<ServiceId>,
    gone: Vec<ServiceId>,
}

impl Clients {
    pub(crate) fn begin_stage(&mut self, now: Timestamp) {
        self.stage_since = now;
        self.stage = match self.stage {
            Stage::Storm => Stage::Settling,
            Stage::Settling => Stage::LastOperations,
            Stage::LastOperations | Stage::Still => Stage::Still,
        };
    }

    /// Whether all had come to rest before `moment`.
    pub(crate) fn calm_before(&self, moment: Timestamp) -> bool {
        match self.stage {
            Stage::Storm | Stage::Settling => false,
            Stage::LastOperations | Stage::Still => self.stage_since <= moment,
        }
    }

    /// The service has no instance, as it should: it need not serve at once from then on.
    pub(crate) fn sleeps(&mut self, service: ServiceId) {
        self.serving.remove(&service);
    }

    /// Whether nobody asks for the service any more.
    pub(crate) fn is_gone(&self, service: ServiceId) -> bool {
        self.gone.contains(&service)
    }
}

impl World {
    // ---- in the storm ------------------------------------------------------------------------

    pub(crate) fn client_acts(&mut self) {
        if self.is_calm() {
            return;
        }
        let pause = self.random.between(100, 15_000);
        self.after(pause, Event::ClientActs);
        let services = self.services_not_deleted();
        if services.is_empty() || (services.len() < SERVICES_MAX && self.random.per_mille(250)) {
            let change = self.draw_change();
            return self.create_service(change);
        }
        let service = self.random.pick(&services);
        if self.random.per_mille(400) {
            let load = self.random.below(7) as u32;
            return self.load(service, load);
        }
        let kind = match self.random.below(20) {
            0..=8 => OperationKind::UpdateService,
            9..=12 => OperationKind::StartDeployment,
            13..=15 => OperationKind::PauseService,
            16..=18 => OperationKind::ResumeService,
            _ => OperationKind::DeleteService,
        };
        let asked = self.ask(service, kind);
        if let (Some(operation), true) = (asked, self.random.per_mille(250)) {
            let long = self.timing.startup_limit.as_millis() as u64;
            let patience = self.random.pick(&[20, 500, long]);
            let pause = self.random.below(patience);
            self.after(pause, Event::ClientCancels { service, operation });
        }
    }

    /// As many instances of a service are needed from now on, within its bounds.
    pub(crate) fn load(&mut self, service: ServiceId, instances: u32) {
        if self.loads.insert(service, instances) == Some(instances) {
            return;
        }
        self.note(|| format!("{} needs {instances}", service.short()));
        self.wake(service);
    }

    pub(crate) fn client_cancels(&mut self, service: ServiceId, operation: OperationId) {
        if self.is_calm() {
            return;
        }
        self.note(|| format!("client cancels an operation of {}", service.short()));
        self.control_is_asked(service, Request::Cancel { id: operation });
    }

    fn services_not_deleted(&self) -> Vec<ServiceId> {
        let services = self.store.services.values();
        services
            .filter(|s| s.settled != ServiceStatus::Deleted)
            .map(|s| s.id)
            .collect()
    }

    fn create_service(&mut self, change: Change) {
        let id = ServiceId::from_bytes(self.random.id());
        let name: ServiceName = format!("service-{}", self.clients.configurations)
            .parse()
            .expect("a good name");
        let hosts = vec![format!("{name}.example")];
        let operation = OperationId::from_bytes(self.random.id());
        let service = Service::create(id, name, hosts, change, operation, self.now);
        if self.control_creates(service) {
            self.after(0, Event::Request { service: id });
        }
    }

    fn ask(&mut self, service: ServiceId, kind: OperationKind) -> Option<OperationId> {
        let id = OperationId::from_bytes(self.random.id());
        let change =
            (kind == OperationKind::UpdateService).then(|| Box::new(self.draw_update(service)));
        self.note(|| format!("client asks {} for {kind}", service.short()));
        let taken = self.control_is_asked(service, Request::Operation { kind, change, id });
        taken.then_some(id)
    }

    /// Something new, or back to what was.
    fn draw_update(&mut self, service: ServiceId) -> Change {
        let newest = self.store.services[&service].revision_newest.0;
        if newest == 0 || !self.random.per_mille(150) {
            return self.draw_change();
        }
        let number = RevisionNumber(self.random.between(1, newest.into()) as u32);
        let Some(revision) = self.store.revision(service, Some(number)) else {
            return self.draw_change();
        };
        self.totals.count("return to a revision asked for");
        Change {
            settings: revision.settings.clone(),
            configuration: revision.configuration.clone(),
            returns_to: Some(PinnedRevision {
                number,
                digest: revision.image.digest,
            }),
        }
    }

    fn draw_change(&mut self) -> Change {
        self.clients.configurations += 1;
        let random = &mut self.random;
        let settings = Settings {
            image: Named::draw(random).reference(),
            source: None,
            start_command: Vec::new(),
            port: 8080,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            cpu_millis: 1000,
            memory_bytes: 2 << 30,
            health: draw_health(random),
            scaling: Scaling {
                instances_min: random.pick(&[0, 1, 1, 2, 3]),
                instances_max: random.pick(&[3, 5]),
                ..Scaling::default()
            },
            user_namespace: UserNamespace::Private,
            exposure: Exposure::Public,
            observed: false,
        };
        Change {
            settings,
            configuration: self.clients.configurations.to_string(),
            returns_to: None,
        }
    }

    // ---- after it ----------------------------------------------------------------------------

    /// Looks whether the stage is over; it must be, within its bound.
    pub(crate) fn survey(&mut self) {
        if self.clients.stage == Stage::Settling {
            // A service that sleeps wakes by the next request; nothing comes to rest around it.
            for service in self.services_not_deleted() {
                if self.loads.get(&service).is_none_or(|load| *load == 0) {
                    self.load(service, 1);
                }
            }
        }
        let unsettled = self.unsettled();
        let rests = unsettled.is_none();
        match (self.clients.stage, unsettled) {
            (Stage::Storm, _) => {}
            (Stage::Settling | Stage::LastOperations, Some((rule, what))) => {
                let bound = self.bound();
                if self.now.since(self.clients.stage_since) > bound {
                    return self.violate(rule, || {
                        format!(
                            "{what}, {} s after everything went well again",
                            bound.as_secs()
                        )
                    });
                }
            }
            (Stage::Still, Some((rule, what))) => {
                return self.violate(rule, || format!("{what}, after all had come to rest"));
            }
            (Stage::Settling, None) => self.last_operations(),
            (Stage::LastOperations, None) => {
                self.check_last_operations();
                self.clients.begin_stage(self.now);
                self.clients.serving = self.serving();
                self.clients.steps_at_rest = self.checks.steps_of_steady;
            }
            (Stage::Still, None) => self.check_still(),
        }
        let again = match rests {
            true => STILL_FOR,
            false => 1_000,
        };
        self.after(again, Event::Survey);
    }

    /// Within which everything must have ended once nothing goes wrong: what is down comes back,
    /// three attempts to start, the back-off between them, the drain, the stop, and being found
    /// unhealthy, each at its longest, twice (an undone deployment, then a replacement).
    fn bound(&self) -> Duration {
        let timing = &self.timing;
        let attempts = timing.startup_limit * 3 + Duration::from_secs(30);
        DOWNTIME_MAX
            + (attempts + timing.drain_limit + timing.stop_grace) * 2
            + Duration::from_secs(120)
    }

    fn last_operations(&mut self) {
        self.note(|| "LAST OPERATIONS".to_owned());
        self.clients.begin_stage(self.now);
        self.clients.serving = self.serving();
        for service in self.services_not_deleted() {
            let status = self.store.services[&service].status();
            let kind = match (status, self.random.below(10)) {
                (ServiceStatus::Paused, 0..=7) => OperationKind::ResumeService,
                (ServiceStatus::Running, 0) => OperationKind::PauseService,
                (ServiceStatus::Running, 1..=3) => OperationKind::StartDeployment,
                (ServiceStatus::Running | ServiceStatus::CreateFailed, 4..=8) => {
                    OperationKind::UpdateService
                }
                _ => OperationKind::DeleteService,
            };
            if let Some(operation) = self.ask(service, kind) {
                self.clients.last.insert(service, operation);
            }
        }
    }

    fn serving(&self) -> BTreeSet<ServiceId> {
        let inhabited = |s: &Service| {
            let active = self.store.revision(s.id, s.active);
            active.is_some_and(|active| self.wanted_now(s, &active) > 0)
        };
        let serves = |s: &&Service| {
            s.status() == ServiceStatus::Running && self.is_steady(s) && inhabited(s)
        };
        self.store
            .services
            .values()
            .filter(serves)
            .map(|service| service.id)
            .collect()
    }

    fn check_last_operations(&mut self) {
        for (service, id) in std::mem::take(&mut self.clients.last) {
            let Some(operation) = self.store.ended.get(&id) else {
                return self.violate(Rule::Ends, || {
                    format!("the last operation of {} was not recorded", service.short())
                });
            };
            let revision = self.store.revision(service, operation.candidate);
            let want = expected(
                operation.kind,
                revision.as_ref().map(|revision| &revision.image),
            );
            let failed = operation.status != OperationStatus::Succeeded;
            let cause = operation.failure.as_ref().map(|failure| &failure.cause);
            let (kind, status) = (operation.kind, operation.status);
            let as_deserved = match (want, cause) {
                (Expected::Success, _) => !failed,
                (Expected::Either, _) => true,
                (Expected::Failure(is_cause), Some(cause)) => failed && is_cause(cause),
                (Expected::Failure(_), None) => false,
            };
            if !as_deserved {
                let message = format!("{kind} ended {status}, {cause:?}, with image {revision:?}");
                return self.violate(Rule::EndsAsDeserved, || message);
            }
        }
    }

    fn check_still(&mut self) {
        let steps = self.checks.steps_of_steady;
        if steps != self.clients.steps_at_rest {
            return self.violate(Rule::Settles, || {
                "steps were taken although all was as it should be".to_owned()
            });
        }
        self.finish();
    }

    /// Nobody asks for a service that was deleted.
    pub(crate) fn service_gone(&mut self, service: ServiceId) {
        self.clients.gone.push(service);
    }

    /// Whether a request for the service must be given to an instance at once: nothing goes wrong
    /// any more, it was serving, and no operation takes it away.
    pub(crate) fn is_to_serve_at_once(&self, id: ServiceId) -> bool {
        let Some(service) = self.store.services.get(&id) else {
            return false;
        };
        let served = self.clients.serving.contains(&id);
        served && self.serves_throughout(service) && self.is_steady(service)
    }

    /// Whether the service was serving and its operation, if any, lets it serve.
    pub(crate) fn serves_throughout(&self, service: &Service) -> bool {
        let takes_away = |kind| {
            matches!(
                kind,
                OperationKind::PauseService | OperationKind::DeleteService
            )
        };
        match &service.operation {
            None => {
                // A service that has just begun to serve is told to the edge before it shows so.
                service.settled == ServiceStatus::Running
            }
            Some(operation) => {
                operation.from == ServiceStatus::Running && !takes_away(operation.kind)
            }
        }
    }

    /// Whether the instances of its active revision keep serving once they do.
    pub(crate) fn is_steady(&self, service: &Service) -> bool {
        let revision = self.store.revision(service.id, service.active);
        revision.is_none_or(|revision| Behaviour::of(&revision.image).is_steady())
    }
}

enum Expected {
    Success,
    Failure(fn(&FailureCause) -> bool),
    /// The image is good at times.
    Either,
}

/// How an operation ends when nothing goes wrong, by the image it deploys if it came so far.
fn expected(kind: OperationKind, image: Option<&PreparedImage>) -> Expected {
    match kind {
        OperationKind::PauseService | OperationKind::DeleteService => return Expected::Success,
        OperationKind::CreateService
        | OperationKind::UpdateService
        | OperationKind::StartDeployment
        | OperationKind::ResumeService => {}
    }
    let Some(image) = image else {
        return Expected::Failure(|cause| matches!(cause, FailureCause::Image { .. }));
    };
    match Behaviour::of(image) {
        Behaviour::Good | Behaviour::SlowStart | Behaviour::IgnoresStop => Expected::Success,
        Behaviour::EndsNowAndThen | Behaviour::SickensLater | Behaviour::BreaksForGood => {
            Expected::Either
        }
        Behaviour::ExitsZero => {
            Expected::Failure(|cause| crashed(cause, &ExitCause::Code { code: 0 }))
        }
        Behaviour::ExitsOne => {
            Expected::Failure(|cause| crashed(cause, &ExitCause::Code { code: 1 }))
        }
        Behaviour::OutOfMemory => {
            Expected::Failure(|cause| crashed(cause, &ExitCause::OutOfMemory))
        }
        Behaviour::NeverListens => {
            Expected::Failure(|cause| matches!(cause, FailureCause::NotHealthy { .. }))
        }
        Behaviour::StartFails => Expected::Failure(|cause| {
            matches!(
                cause,
                FailureCause::Crashed {
                    exit: ExitCause::StartFailed { .. },
                    ..
                }
            )
        }),
    }
}

fn crashed(cause: &FailureCause, want: &ExitCause) -> bool {
    matches!(cause, FailureCause::Crashed { exit, .. } if exit == want)
}

fn draw_health(random: &mut Random) -> HealthCheck {
    let seconds = |random: &mut Random, max| Duration::from_secs(random.between(1, max));
    HealthCheck {
        protocol: match random.per_mille(500) {
            true => HealthProtocol::Tcp,
            false => HealthProtocol::Http {
                path: "/up".to_owned(),
            },
        },
        interval: seconds(random, 5),
        timeout: seconds(random, 3),
        healthy_threshold: random.pick(&[1, 1, 3]),
        unhealthy_threshold: random.between(1, 5) as u32,
    }
}
