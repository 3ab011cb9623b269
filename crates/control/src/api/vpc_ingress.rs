//! VPC ingress connections: make, look up, list, change, delete. What becomes of them afterwards is
//! in [`crate::ingress`].

use ekiden_aws::{
    apprunner::shapes::{
        CreateVpcIngressConnectionRequest, CreateVpcIngressConnectionResponse,
        DeleteVpcIngressConnectionRequest, DeleteVpcIngressConnectionResponse,
        DescribeVpcIngressConnectionRequest, DescribeVpcIngressConnectionResponse,
        IngressVpcConfiguration, ListVpcIngressConnectionsRequest,
        ListVpcIngressConnectionsResponse, UpdateVpcIngressConnectionRequest,
        UpdateVpcIngressConnectionResponse, VpcDNSTarget, VpcIngressConnection as WireConnection,
        VpcIngressConnectionSummary,
    },
    arn::{self, Arn, Revision},
    error::ApiError,
};
use ekiden_engine::Engine;
use ekiden_model::{id::ServiceId, service::ServiceStatus};
use ekiden_store::{
    StoredService,
    resources::{CreateError, Filter, New, Resource, Room, Which},
};

use super::{
    Api, Caller,
    configuration::Configuration,
    page::Page,
    resources::{
        ApiKind, Place, after, invalid_arn, new_id, not_found, place, seconds, single, to_single,
        unexpected,
    },
    store_error, tags,
};
use crate::{
    clock,
    ingress::{State, VpcIngress},
};

/// Connections of one service: App Runner's bound, which is no quota of an installation.
const PER_SERVICE: u64 = 1;

impl ApiKind for VpcIngress {
    const NOUN: &'static str = "VPC ingress connection";

    fn to_arn(revision: Revision) -> arn::Resource {
        arn::Resource::VpcIngressConnection(to_single(revision))
    }

    fn named(resource: &arn::Resource) -> Option<Which<'_>> {
        match resource {
            arn::Resource::VpcIngressConnection(name) => single(name),
            arn::Resource::Service(_)
            | arn::Resource::Connection(_)
            | arn::Resource::VpcConnector(_)
            | arn::Resource::AutoScalingConfiguration(_)
            | arn::Resource::ObservabilityConfiguration(_) => None,
        }
    }
}

impl<E: Engine> Api<E> {
    pub(super) async fn create_vpc_ingress_connection(
        &self,
        caller: &Caller,
        request: CreateVpcIngressConnectionRequest,
    ) -> Result<CreateVpcIngressConnectionResponse, ApiError> {
        let service_arn = request.service_arn.unwrap_or_default();
        let stored = self.private_service(caller, &service_arn)?;
        let given = request.ingress_vpc_configuration.unwrap_or_default();
        let (Some(vpc_id), Some(vpc_endpoint_id)) = (given.vpc_id, given.vpc_endpoint_id) else {
            return Err(ApiError::invalid_request(
                "IngressVpcConfiguration must have VpcId and VpcEndpointId.",
            ));
        };
        let new = New {
            record: VpcIngress {
                service: stored.service.id,
                service_name: stored.service.name.clone(),
                vpc_id,
                vpc_endpoint_id,
                host_label: super::services::host_label(),
                state: State::PendingCreation,
                deletion_asked_at: None,
            },
            name: request.vpc_ingress_connection_name.unwrap_or_default(),
            id: new_id(),
            tags: tags::new(request.tags)?,
            created_at: clock::now(),
            service: Some(stored.service.id),
        };
        self.check_vpc(&new.record)?;
        let room = Room {
            names: u64::MAX,
            revisions: 1,
            per_service: PER_SERVICE,
        };
        let made = self
            .store
            .create_resource(&caller.region, &new, room)
            .await
            .map_err(|error| match error {
                CreateError::NameTaken => ApiError::invalid_request(format!(
                    "VPC ingress connection with the provided name already exists: {}",
                    new.name
                )),
                CreateError::ServiceFull => ApiError::service_quota_exceeded(format!(
                    "A service can have only {PER_SERVICE} VPC ingress connection. Delete the one \
                     of {service_arn} first."
                )),
                CreateError::ServiceUnknown => unknown_service(&service_arn),
                CreateError::ServiceBusy => wrong_status(ServiceStatus::OperationInProgress),
                other => unexpected(&other),
            })?;
        self.ingress.changed();
        Ok(CreateVpcIngressConnectionResponse {
            vpc_ingress_connection: Some(self.wire_ingress(caller, made)),
        })
    }

    pub(super) async fn describe_vpc_ingress_connection(
        &self,
        caller: &Caller,
        request: DescribeVpcIngressConnectionRequest,
    ) -> Result<DescribeVpcIngressConnectionResponse, ApiError> {
        let arn = request.vpc_ingress_connection_arn.as_deref();
        let found = self.look_up(caller, arn).await?;
        Ok(DescribeVpcIngressConnectionResponse {
            vpc_ingress_connection: Some(self.wire_ingress(caller, found)),
        })
    }

    pub(super) async fn list_vpc_ingress_connections(
        &self,
        caller: &Caller,
        request: ListVpcIngressConnectionsRequest,
    ) -> Result<ListVpcIngressConnectionsResponse, ApiError> {
        let page: Page<Place> = self.page("ListVpcIngressConnections", caller, &request)?;
        let given = request.filter.unwrap_or_default();
        let service = match given
            .service_arn
            .as_deref()
            .map(|arn| self.listed(caller, arn))
        {
            None => None,
            Some(Ok(Some(service))) => Some(service),
            // A service that is not here has no connections.
            Some(Ok(None)) => {
                return Ok(ListVpcIngressConnectionsResponse {
                    vpc_ingress_connection_summary_list: Some(Vec::new()),
                    next_token: None,
                });
            }
            Some(Err(error)) => return Err(error),
        };
        let filter = Filter {
            service,
            member: given
                .vpc_endpoint_id
                .as_deref()
                .map(|id| ("$.vpc_endpoint_id", id)),
            ..Filter::default()
        };
        let found: Vec<Resource<VpcIngress>> = self
            .store
            .resources(&caller.region, filter, after(page.after()), page.look_for())
            .await
            .map_err(|error| store_error(&error))?;
        let (found, next_token) = page.cut(found, place);
        let summary = |found: &Resource<VpcIngress>| VpcIngressConnectionSummary {
            vpc_ingress_connection_arn: Some(self.resource_arn(&caller.region, found)),
            service_arn: Some(self.ingress_service_arn(caller, &found.record)),
        };
        Ok(ListVpcIngressConnectionsResponse {
            vpc_ingress_connection_summary_list: Some(found.iter().map(summary).collect()),
            next_token,
        })
    }

    pub(super) async fn update_vpc_ingress_connection(
        &self,
        caller: &Caller,
        request: UpdateVpcIngressConnectionRequest,
    ) -> Result<UpdateVpcIngressConnectionResponse, ApiError> {
        let arn = request.vpc_ingress_connection_arn.unwrap_or_default();
        let given = request.ingress_vpc_configuration.unwrap_or_default();
        if given.vpc_id.is_none() && given.vpc_endpoint_id.is_none() {
            return Err(ApiError::invalid_request(
                "IngressVpcConfiguration must have VpcId, VpcEndpointId, or both.",
            ));
        }
        let update = |found: &mut Resource<VpcIngress>| {
            check_settled(found, "updated", &arn)?;
            let record = &mut found.record;
            record.vpc_id = given.vpc_id.unwrap_or_else(|| record.vpc_id.clone());
            record.vpc_endpoint_id = given
                .vpc_endpoint_id
                .unwrap_or_else(|| record.vpc_endpoint_id.clone());
            self.check_vpc(record)?;
            record.state = State::PendingUpdate;
            Ok(())
        };
        let updated = self.change_ingress(caller, &arn, update).await?;
        Ok(UpdateVpcIngressConnectionResponse {
            vpc_ingress_connection: Some(updated),
        })
    }

    pub(super) async fn delete_vpc_ingress_connection(
        &self,
        caller: &Caller,
        request: DeleteVpcIngressConnectionRequest,
    ) -> Result<DeleteVpcIngressConnectionResponse, ApiError> {
        let arn = request.vpc_ingress_connection_arn.unwrap_or_default();
        let delete = |found: &mut Resource<VpcIngress>| {
            check_settled(found, "deleted", &arn)?;
            found.record.state = State::PendingDeletion;
            found.record.deletion_asked_at = Some(clock::now());
            Ok(())
        };
        let deleted = self.change_ingress(caller, &arn, delete).await?;
        Ok(DeleteVpcIngressConnectionResponse {
            vpc_ingress_connection: Some(deleted),
        })
    }

    /// The targets of a service's VPC ingress connections, as custom domains show them.
    pub(super) async fn vpc_dns_targets(
        &self,
        caller: &Caller,
        service: ServiceId,
    ) -> Result<Vec<VpcDNSTarget>, ApiError> {
        let found = self
            .ingress
            .of_service(&caller.region, service)
            .await
            .map_err(|error| store_error(&error))?;
        let target = |found: &Resource<VpcIngress>| VpcDNSTarget {
            vpc_ingress_connection_arn: Some(self.resource_arn(&caller.region, found)),
            vpc_id: Some(found.record.vpc_id.clone()),
            domain_name: Some(self.ingress_host(caller, &found.record)),
        };
        Ok(found.iter().map(target).collect())
    }

    async fn change_ingress(
        &self,
        caller: &Caller,
        arn: &str,
        change: impl FnOnce(&mut Resource<VpcIngress>) -> Result<(), ApiError> + Send,
    ) -> Result<WireConnection, ApiError> {
        let found: Resource<VpcIngress> = self.look_up(caller, Some(arn)).await?;
        let changed = self
            .store
            .change_resource(&caller.region, found.id, change)
            .await
            .map_err(|error| Self::change_error(VpcIngress::NOUN, arn, error))?;
        self.ingress.changed();
        Ok(self.wire_ingress(caller, changed))
    }

    /// The service that a new connection is to lead to. `ResourceNotFoundException` is not among
    /// what the operation may answer (specification, section 2.4).
    fn private_service(
        &self,
        caller: &Caller,
        arn: &str,
    ) -> Result<std::sync::Arc<StoredService>, ApiError> {
        let snapshot = self
            .find(caller, Some(arn))
            .map_err(|_| unknown_service(arn))?;
        let service = &snapshot.stored.service;
        match service.status() {
            ServiceStatus::Deleted => return Err(unknown_service(arn)),
            ServiceStatus::Running | ServiceStatus::Paused => {}
            status @ (ServiceStatus::CreateFailed
            | ServiceStatus::DeleteFailed
            | ServiceStatus::OperationInProgress) => return Err(wrong_status(status)),
        }
        let network = Configuration::parse(&service.configuration)?.network_configuration;
        let ingress = network.and_then(|network| network.ingress_configuration);
        let public = ingress.and_then(|ingress| ingress.is_publicly_accessible);
        match public {
            Some(false) => Ok(std::sync::Arc::clone(&snapshot.stored)),
            Some(true) | None => Err(ApiError::invalid_request(format!(
                "The service is publicly accessible: a VPC ingress connection leads to a private \
                 service only. ARN: '{arn}'"
            ))),
        }
    }

    /// The service that a list is narrowed to, if it can be of this account and region.
    fn listed(&self, caller: &Caller, text: &str) -> Result<Option<ServiceId>, ApiError> {
        let arn: Arn = text.parse().map_err(|_| invalid_arn("service", text))?;
        let id = arn
            .service_id()
            .ok_or_else(|| invalid_arn("service", text))?;
        Ok(id.parse().ok().filter(|_| self.is_here(caller, &arn)))
    }

    fn check_vpc(&self, record: &VpcIngress) -> Result<(), ApiError> {
        self.check_ids("VPC", "vpc-", std::slice::from_ref(&record.vpc_id))?;
        let endpoint = std::slice::from_ref(&record.vpc_endpoint_id);
        self.check_ids("VPC endpoint", "vpce-", endpoint)
    }

    fn ingress_host(&self, caller: &Caller, record: &VpcIngress) -> String {
        format!(
            "{}.{}.{}.{}",
            record.host_label, record.vpc_id, caller.region, self.config.domain
        )
    }

    fn ingress_service_arn(&self, caller: &Caller, record: &VpcIngress) -> String {
        Arn::of_service(
            &caller.region,
            &self.config.account_id,
            record.service_name.as_str(),
            &record.service.to_string(),
        )
    }

    fn wire_ingress(&self, caller: &Caller, found: Resource<VpcIngress>) -> WireConnection {
        WireConnection {
            vpc_ingress_connection_arn: Some(self.resource_arn(&caller.region, &found)),
            vpc_ingress_connection_name: Some(found.name),
            service_arn: Some(self.ingress_service_arn(caller, &found.record)),
            status: Some(found.record.state.wire().to_owned()),
            account_id: Some(self.config.account_id.clone()),
            domain_name: Some(self.ingress_host(caller, &found.record)),
            created_at: Some(seconds(found.created_at)),
            deleted_at: found.record.deletion_asked_at.map(seconds),
            ingress_vpc_configuration: Some(IngressVpcConfiguration {
                vpc_id: Some(found.record.vpc_id),
                vpc_endpoint_id: Some(found.record.vpc_endpoint_id),
            }),
        }
    }
}

/// Whether a connection can be changed (specification, section 4.5).
fn check_settled(found: &Resource<VpcIngress>, verb: &str, arn: &str) -> Result<(), ApiError> {
    match found.record.state {
        State::Available => Ok(()),
        state @ (State::PendingCreation | State::PendingUpdate | State::PendingDeletion) => {
            Err(ApiError::invalid_state(format!(
                "VPC ingress connection cannot be {verb} in the current state: {}.",
                state.wire()
            )))
        }
        State::Deleted => Err(not_found(VpcIngress::NOUN, arn)),
    }
}

fn unknown_service(arn: &str) -> ApiError {
    invalid_arn("service", arn)
}

fn wrong_status(status: ServiceStatus) -> ApiError {
    ApiError::invalid_state(format!(
        "VPC ingress connection cannot be created in the current state of the service: {status}."
    ))
}
