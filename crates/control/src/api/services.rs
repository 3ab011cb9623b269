//! App Runner's service operations: unpack, call one function, wrap.

use std::sync::Arc;

use ekiden_aws::{
    apprunner::shapes::{
        CreateServiceRequest, CreateServiceResponse, DeleteServiceRequest, DeleteServiceResponse,
        DescribeServiceRequest, DescribeServiceResponse, EgressConfiguration,
        HealthCheckConfiguration, IngressConfiguration, ListOperationsRequest,
        ListOperationsResponse, ListServicesRequest, ListServicesResponse, NetworkConfiguration,
        OperationSummary, PauseServiceRequest, PauseServiceResponse, ResumeServiceRequest,
        ResumeServiceResponse, Service as WireService, ServiceSummary, StartDeploymentRequest,
        StartDeploymentResponse, UpdateServiceRequest, UpdateServiceResponse,
    },
    arn::{Arn, Resource},
    epoch_seconds::EpochSeconds,
    error::ApiError,
};
use ekiden_engine::Engine;
use ekiden_model::{
    id::{OperationId, ServiceId},
    name::ServiceName,
    revision::Exposure,
    service::{Change, Operation, OperationKind, Refusal, Service, ServiceStatus},
    time::Timestamp,
};
use ekiden_store::{StoreError, StoredService};

use super::{
    Api, Caller, configuration::Configuration, installation::Installation, named::Named,
    page::Page, resources::quota_reached, store_error, tags,
};
use crate::{
    clock,
    services::{ChangeError, CreateError},
    worker::Snapshot,
};

/// Letters and digits of a service's own host name.
const HOST_LABEL_LEN: usize = 10;

impl<E: Engine> Api<E> {
    pub(super) async fn create_service(
        &self,
        caller: &Caller,
        request: CreateServiceRequest,
    ) -> Result<CreateServiceResponse, ApiError> {
        let name: ServiceName = request
            .service_name
            .clone()
            .unwrap_or_default()
            .parse()
            .map_err(|error| ApiError::invalid_request(format!("{error}")))?;
        let mut configuration = Configuration::created(&request, &self.config.account_id);
        configuration.check_one_source()?;
        if self.services.is_named(&caller.region, name.as_str()) {
            return Err(name_taken(&name));
        }
        configuration.check(&self.installation())?;
        let scaling = self
            .look_up_named(caller, Named::by_create(&request), &mut configuration)
            .await?;
        let change = configuration.change(scaling.unwrap_or_default(), &self.installation())?;
        self.check_source(&caller.region, &name, &change)?;
        let operation = OperationId::from_bytes(clock::random_id());
        let service = Service::create(
            ServiceId::from_bytes(clock::random_id()),
            name.clone(),
            vec![self.new_host(&caller.region)],
            change,
            operation,
            clock::now(),
        );
        let stored = StoredService {
            region: caller.region.clone(),
            service,
            tags: tags::new(request.tags)?,
        };
        self.services
            .create(stored.clone())
            .await
            .map_err(|error| match error {
                CreateError::Store(StoreError::NameTaken { name, .. }) => name_taken(&name),
                CreateError::Store(other) => store_error(&other),
                CreateError::Full => {
                    quota_reached("services", self.services.quota(), "quota.services")
                }
            })?;
        Ok(CreateServiceResponse {
            service: Some(self.wire_service(&stored)?),
            operation_id: Some(operation.to_string()),
        })
    }

    pub(super) async fn describe_service(
        &self,
        caller: &Caller,
        request: DescribeServiceRequest,
    ) -> Result<DescribeServiceResponse, ApiError> {
        let snapshot = self.find(caller, request.service_arn.as_deref())?;
        Ok(DescribeServiceResponse {
            service: Some(self.wire_service(&snapshot.stored)?),
        })
    }

    /// One page of the services of a region, or only this one.
    pub(super) fn services_of(
        &self,
        caller: &Caller,
        page: &Page<(Timestamp, ServiceId)>,
        only: Option<Arc<Snapshot>>,
    ) -> (Vec<Arc<Snapshot>>, Option<String>) {
        let found = match only {
            Some(one) => vec![one],
            None => self.services.list(
                &caller.region,
                page.after().copied(),
                page.look_for() as usize,
            ),
        };
        page.cut(found, |last| {
            let service = &last.stored.service;
            (service.created_at, service.id)
        })
    }

    pub(super) async fn list_services(
        &self,
        caller: &Caller,
        request: ListServicesRequest,
    ) -> Result<ListServicesResponse, ApiError> {
        let page: Page<(Timestamp, ServiceId)> = self.page("ListServices", caller, &request)?;
        let (found, next_token) = self.services_of(caller, &page, None);
        let summaries = found
            .iter()
            .map(|snapshot| self.wire_summary(&snapshot.stored))
            .collect();
        Ok(ListServicesResponse {
            service_summary_list: Some(summaries),
            next_token,
        })
    }

    pub(super) async fn update_service(
        &self,
        caller: &Caller,
        request: UpdateServiceRequest,
    ) -> Result<UpdateServiceResponse, ApiError> {
        let snapshot = self.find(caller, request.service_arn.as_deref())?;
        let service = &snapshot.stored.service;
        let before = service.configuration.clone();
        let mut next = Configuration::parse(&before)?.updated(
            &request,
            service.status(),
            &self.config.account_id,
        )?;
        next.check(&self.installation())?;
        let scaling = self
            .look_up_named(caller, Named::by_update(&request), &mut next)
            .await?;
        let scaling = scaling.unwrap_or(service.settings.scaling);
        let change = next.change(scaling, &self.installation())?;
        self.check_source(&caller.region, &service.name, &change)?;
        let (stored, operation) = self
            .accept(&snapshot, OperationKind::UpdateService, move |stored| {
                if nothing_given(&request) && stored.service.settled == ServiceStatus::Running {
                    return Err(ApiError::invalid_request(
                        "No configurations provided in the UpdateService request.",
                    ));
                }
                same_as_before(stored, &before)?;
                Ok(Some(change))
            })
            .await?;
        Ok(UpdateServiceResponse {
            service: Some(self.wire_service(&stored)?),
            operation_id: operation,
        })
    }

    pub(super) async fn start_deployment(
        &self,
        caller: &Caller,
        request: StartDeploymentRequest,
    ) -> Result<StartDeploymentResponse, ApiError> {
        let snapshot = self.find(caller, request.service_arn.as_deref())?;
        let (_, operation) = self
            .accept(&snapshot, OperationKind::StartDeployment, |_| Ok(None))
            .await?;
        Ok(StartDeploymentResponse {
            operation_id: operation,
        })
    }

    pub(super) async fn pause_service(
        &self,
        caller: &Caller,
        request: PauseServiceRequest,
    ) -> Result<PauseServiceResponse, ApiError> {
        let snapshot = self.find(caller, request.service_arn.as_deref())?;
        let (stored, operation_id) = self
            .accept(&snapshot, OperationKind::PauseService, |_| Ok(None))
            .await?;
        Ok(PauseServiceResponse {
            service: Some(self.wire_service(&stored)?),
            operation_id,
        })
    }

    pub(super) async fn resume_service(
        &self,
        caller: &Caller,
        request: ResumeServiceRequest,
    ) -> Result<ResumeServiceResponse, ApiError> {
        let snapshot = self.find(caller, request.service_arn.as_deref())?;
        let (stored, operation_id) = self
            .accept(&snapshot, OperationKind::ResumeService, |_| Ok(None))
            .await?;
        Ok(ResumeServiceResponse {
            service: Some(self.wire_service(&stored)?),
            operation_id,
        })
    }

    pub(super) async fn delete_service(
        &self,
        caller: &Caller,
        request: DeleteServiceRequest,
    ) -> Result<DeleteServiceResponse, ApiError> {
        let snapshot = self.find(caller, request.service_arn.as_deref())?;
        let (stored, operation_id) = self
            .accept(&snapshot, OperationKind::DeleteService, |_| Ok(None))
            .await?;
        Ok(DeleteServiceResponse {
            service: Some(self.wire_service(&stored)?),
            operation_id,
        })
    }

    pub(super) async fn list_operations(
        &self,
        caller: &Caller,
        request: ListOperationsRequest,
    ) -> Result<ListOperationsResponse, ApiError> {
        let snapshot = self.find(caller, request.service_arn.as_deref())?;
        let service = snapshot.stored.service.id;
        let page: Page<i64> = self.page("ListOperations", caller, &request)?;
        let found = self
            .store
            .operations(service, page.after().copied(), page.look_for())
            .await
            .map_err(|error| store_error(&error))?;
        let (found, next_token) = page.cut(found, |(place, _)| *place);
        let arn = self.arn(&snapshot.stored);
        let summaries = found
            .iter()
            .map(|(_, operation)| wire_operation(&arn, operation));
        Ok(ListOperationsResponse {
            operation_summary_list: Some(summaries.collect()),
            next_token,
        })
    }

    /// Asks the service's worker to accept an operation; answers the service as it was stored and
    /// the operation's id, which is absent when the service already is as asked.
    pub(super) async fn accept(
        &self,
        snapshot: &Snapshot,
        kind: OperationKind,
        change: impl FnOnce(&StoredService) -> Result<Option<Change>, ApiError> + Send + 'static,
    ) -> Result<(Arc<StoredService>, Option<String>), ApiError> {
        let operation = OperationId::from_bytes(clock::random_id());
        let now = clock::now();
        let moved = move |stored: &mut StoredService| {
            // The status first: in a state that forbids the operation nothing else matters.
            let mut trial = stored.service.clone();
            trial
                .accept(kind, None, operation, now)
                .map_err(Rejection::Status)?;
            let change = change(stored).map_err(Rejection::Error)?;
            stored
                .service
                .accept(kind, change, operation, now)
                .map_err(Rejection::Status)
        };
        match self
            .services
            .change(snapshot.stored.service.id, moved)
            .await
        {
            Ok(stored) => Ok((stored, Some(operation.to_string()))),
            Err(ChangeError::Refused(Rejection::Status(Refusal::AlreadySo(_)))) => {
                Ok((Arc::clone(&snapshot.stored), None))
            }
            Err(ChangeError::Refused(Rejection::Status(Refusal::WrongStatus(status)))) => {
                Err(wrong_status(kind, status))
            }
            Err(ChangeError::Refused(Rejection::Error(error))) => Err(error),
            Err(ChangeError::Unknown) => Err(self.without_worker(snapshot, kind)),
            Err(ChangeError::Busy) => Err(ApiError::throttling(
                "Too many requests wait for this service. Try again.",
            )),
            Err(ChangeError::Store(error)) => Err(store_error(&error)),
        }
    }

    /// What is said of a service that nobody changes any more: it was deleted, unless the control
    /// plane itself is on its way out.
    fn without_worker(&self, snapshot: &Snapshot, kind: OperationKind) -> ApiError {
        let StoredService {
            region, service, ..
        } = &*snapshot.stored;
        let newest = self.services.get(region, service.id);
        let settled = newest.map_or(ServiceStatus::Deleted, |newest| {
            newest.stored.service.settled
        });
        match (settled, kind) {
            (ServiceStatus::Deleted, OperationKind::DeleteService) => {
                unknown_service(&self.arn(&snapshot.stored))
            }
            (ServiceStatus::Deleted, _) => wrong_status(kind, settled),
            (
                ServiceStatus::CreateFailed
                | ServiceStatus::Running
                | ServiceStatus::DeleteFailed
                | ServiceStatus::Paused
                | ServiceStatus::OperationInProgress,
                _,
            ) => ApiError::service_unavailable("The control plane is stopping. Try again."),
        }
    }

    /// Whether the code of a service can be had, as far as its words tell.
    fn check_source(
        &self,
        region: &str,
        name: &ServiceName,
        change: &Change,
    ) -> Result<(), ApiError> {
        let Some(source) = &change.settings.source else {
            return Ok(());
        };
        self.builds
            .sources
            .check(region, name, source)
            .map_err(|problem| ApiError::invalid_request(format!("CodeRepository: {problem}.")))
    }

    /// What a service's configuration is judged by.
    pub(super) fn installation(&self) -> Installation<'_> {
        Installation {
            host: self.host,
            account_id: &self.config.account_id,
            references: self.config.references,
            prebuilt: &self.config.prebuilt,
        }
    }

    /// Finds a service by its ARN, deleted ones that are still remembered included.
    pub(super) fn find(
        &self,
        caller: &Caller,
        arn: Option<&str>,
    ) -> Result<Arc<Snapshot>, ApiError> {
        let text = arn.unwrap_or_default();
        let unknown = || unknown_service(text);
        let parsed = text.parse::<Arn>().ok().and_then(|arn| match arn.resource {
            Resource::Service(service) => Some((arn.region, arn.account, service)),
            _ => None,
        });
        let (region, account, service) = parsed.ok_or_else(|| {
            ApiError::invalid_request(format!(
                "The service ARN you specified isn't valid. ARN: '{text}'"
            ))
        })?;
        if account != self.config.account_id || region != caller.region {
            return Err(unknown());
        }
        let id = service.id.parse().map_err(|_| unknown())?;
        let snapshot = self.services.get(&caller.region, id).ok_or_else(unknown)?;
        match snapshot.stored.service.name.as_str() == service.name {
            true => Ok(snapshot),
            false => Err(unknown()),
        }
    }

    pub(super) fn arn(&self, stored: &StoredService) -> String {
        self.arn_with_id(stored, &stored.service.id.to_string())
    }

    fn arn_with_id(&self, stored: &StoredService, id: &str) -> String {
        let name = stored.service.name.as_str();
        Arn::of_service(&stored.region, &self.config.account_id, name, id)
    }

    fn new_host(&self, region: &str) -> String {
        format!("{}.{region}.{}", host_label(), self.config.domain)
    }

    pub(super) fn wire_service(&self, stored: &StoredService) -> Result<WireService, ApiError> {
        let service = &stored.service;
        let configuration = Configuration::parse(service.configuration_wanted())?;
        Ok(WireService {
            service_name: Some(service.name.to_string()),
            service_id: Some(service.id.to_string()),
            service_arn: Some(self.arn(stored)),
            service_url: shown_host(service),
            created_at: Some(seconds(service.created_at)),
            updated_at: Some(seconds(service.updated_at)),
            deleted_at: service.deleted_at.map(seconds),
            status: Some(service.status().to_string()),
            source_configuration: Some(configuration.source_configuration),
            instance_configuration: configuration.instance_configuration,
            encryption_configuration: configuration.encryption_configuration,
            health_check_configuration: Some(wire_health(configuration.health_check_configuration)),
            auto_scaling_configuration_summary: Some(Self::scaling_summary(
                configuration
                    .auto_scaling_configuration_arn
                    .as_deref()
                    .unwrap_or_default(),
            )),
            network_configuration: Some(wire_network(configuration.network_configuration)),
            observability_configuration: configuration.observability_configuration,
        })
    }

    fn wire_summary(&self, stored: &StoredService) -> ServiceSummary {
        let service = &stored.service;
        let id = service.id.to_string();
        ServiceSummary {
            service_name: Some(service.name.to_string()),
            service_arn: Some(self.arn_with_id(stored, &id)),
            service_id: Some(id),
            service_url: shown_host(service),
            created_at: Some(seconds(service.created_at)),
            updated_at: Some(seconds(service.updated_at)),
            status: Some(service.status().to_string()),
        }
    }
}

/// Why a worker did not accept an operation.
enum Rejection {
    Status(Refusal),
    Error(ApiError),
}

/// What App Runner says when a status forbids an operation (specification, section 4.1.1).
pub(super) fn wrong_status(kind: OperationKind, status: ServiceStatus) -> ApiError {
    let verb = match kind {
        OperationKind::StartDeployment => {
            return ApiError::invalid_request(
                "Can't start a deployment on the specified service, because it isn't in RUNNING \
                 state.",
            );
        }
        OperationKind::CreateService | OperationKind::UpdateService => "updated",
        OperationKind::PauseService => "paused",
        OperationKind::ResumeService => "resumed",
        OperationKind::DeleteService => "deleted",
    };
    ApiError::invalid_state(format!(
        "Service cannot be {verb} in the current state: {status}."
    ))
}

fn unknown_service(arn: &str) -> ApiError {
    ApiError::resource_not_found(format!(
        "Service cannot be found for the provided ARN: {arn}"
    ))
}

fn name_taken(name: &ServiceName) -> ApiError {
    ApiError::invalid_request(format!(
        "Service with the provided name already exists: {name}"
    ))
}

/// What was made from a configuration is of use only as long as that is still the service's: rarely
/// another update comes in between.
pub(super) fn same_as_before(stored: &StoredService, before: &str) -> Result<(), ApiError> {
    match stored.service.configuration == before {
        true => Ok(()),
        false => Err(ApiError::throttling(
            "The service was changed at the same moment. Try again.",
        )),
    }
}

/// The host name that an answer shows: none of a private service.
fn shown_host(service: &Service) -> Option<String> {
    match service.settings_wanted().exposure {
        Exposure::Public => service.hosts.first().cloned(),
        Exposure::Private => None,
    }
}

fn nothing_given(request: &UpdateServiceRequest) -> bool {
    request.source_configuration.is_none()
        && request.instance_configuration.is_none()
        && request.auto_scaling_configuration_arn.is_none()
        && request.health_check_configuration.is_none()
        && request.network_configuration.is_none()
        && request.observability_configuration.is_none()
}

/// Ten letters and digits that make a host name its own.
pub(super) fn host_label() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    clock::random_id()[..HOST_LABEL_LEN]
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect()
}

fn seconds(at: Timestamp) -> EpochSeconds {
    EpochSeconds(at.as_secs())
}

fn wire_operation(arn: &str, operation: &Operation) -> OperationSummary {
    OperationSummary {
        id: Some(operation.id.to_string()),
        r#type: Some(operation.kind.to_string()),
        status: Some(operation.status.to_string()),
        target_arn: Some(arn.to_owned()),
        started_at: Some(seconds(operation.started_at)),
        ended_at: operation.ended_at.map(seconds),
        updated_at: Some(seconds(operation.ended_at.unwrap_or(operation.phase_since))),
    }
}

/// Answers always show the whole block (specification, section 3.4).
fn wire_health(given: Option<HealthCheckConfiguration>) -> HealthCheckConfiguration {
    let given = given.unwrap_or_default();
    HealthCheckConfiguration {
        protocol: given.protocol.or_else(|| Some("TCP".to_owned())),
        path: given.path.or_else(|| Some("/".to_owned())),
        interval: given.interval.or(Some(5)),
        timeout: given.timeout.or(Some(2)),
        healthy_threshold: given.healthy_threshold.or(Some(1)),
        unhealthy_threshold: given.unhealthy_threshold.or(Some(5)),
    }
}

fn wire_network(given: Option<NetworkConfiguration>) -> NetworkConfiguration {
    let given = given.unwrap_or_default();
    let egress = given.egress_configuration.unwrap_or_default();
    let ingress = given.ingress_configuration.unwrap_or_default();
    NetworkConfiguration {
        egress_configuration: Some(EgressConfiguration {
            egress_type: egress.egress_type.or_else(|| Some("DEFAULT".to_owned())),
            ..egress
        }),
        ingress_configuration: Some(IngressConfiguration {
            is_publicly_accessible: ingress.is_publicly_accessible.or(Some(true)),
        }),
        ip_address_type: given.ip_address_type.or_else(|| Some("IPV4".to_owned())),
    }
}

/// Whether a service is deployed when what it runs was pushed.
pub(crate) fn deploys_by_itself(stored: &StoredService) -> bool {
    let configuration = Configuration::parse(&stored.service.configuration);
    configuration.is_ok_and(|configuration| {
        configuration.source_configuration.auto_deployments_enabled == Some(true)
    })
}
