//! Observability configurations: named, numbered revisions of how a service is traced.
//!
//! They are kept and echoed; no traces are collected.

use ekiden_aws::{
    apprunner::shapes::{
        CreateObservabilityConfigurationRequest, CreateObservabilityConfigurationResponse,
        DeleteObservabilityConfigurationRequest, DeleteObservabilityConfigurationResponse,
        DescribeObservabilityConfigurationRequest, DescribeObservabilityConfigurationResponse,
        ListObservabilityConfigurationsRequest, ListObservabilityConfigurationsResponse,
        ObservabilityConfiguration as WireConfiguration, ObservabilityConfigurationSummary,
        TraceConfiguration,
    },
    arn::{self, DEFAULT_CONFIGURATION_NAME, Revised, Revision},
    error::ApiError,
};
use ekiden_engine::Engine;
use ekiden_store::resources::{CreateError, Filter, Kind, New, Numbering, Resource, Room, Which};
use serde::{Deserialize, Serialize};

use super::{
    Api, Caller,
    page::Page,
    resources::{
        ApiKind, Place, after, new_id, place, quota_reached, revised, seconds, unexpected,
    },
    store_error, tags,
};
use crate::clock;

/// What one revision says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Observability {
    /// Who gets traces; nobody when absent.
    vendor: Option<String>,
}

impl Kind for Observability {
    const NAME: &'static str = "observabilityconfiguration";
    const NUMBERING: Numbering = Numbering::Revisions;
}

impl ApiKind for Observability {
    const NOUN: &'static str = "observability configuration";

    fn to_arn(revision: Revision) -> arn::Resource {
        arn::Resource::ObservabilityConfiguration(Revised::Whole(revision))
    }

    fn named(resource: &arn::Resource) -> Option<Which<'_>> {
        match resource {
            arn::Resource::ObservabilityConfiguration(name) => revised(name),
            arn::Resource::Service(_)
            | arn::Resource::Connection(_)
            | arn::Resource::VpcIngressConnection(_)
            | arn::Resource::VpcConnector(_)
            | arn::Resource::AutoScalingConfiguration(_) => None,
        }
    }
}

impl<E: Engine> Api<E> {
    pub(super) async fn create_observability_configuration(
        &self,
        caller: &Caller,
        request: CreateObservabilityConfigurationRequest,
    ) -> Result<CreateObservabilityConfigurationResponse, ApiError> {
        let name = request.observability_configuration_name.unwrap_or_default();
        if name == DEFAULT_CONFIGURATION_NAME {
            return Err(ApiError::invalid_request(format!(
                "The name {DEFAULT_CONFIGURATION_NAME} is reserved. Choose another one."
            )));
        }
        let new = New {
            record: Observability {
                vendor: request.trace_configuration.and_then(|trace| trace.vendor),
            },
            name,
            id: new_id(),
            tags: tags::new(request.tags)?,
            created_at: clock::now(),
            service: None,
        };
        let quotas = &self.config.quotas;
        let room = Room {
            names: quotas.observability_configurations,
            revisions: quotas.observability_revisions,
            per_service: 0,
        };
        let made = self
            .store
            .create_resource(&caller.region, &new, room)
            .await
            .map_err(|error| match error {
                CreateError::RevisionsFull => quota_reached(
                    &format!(
                        "active revisions of the observability configuration {}",
                        new.name
                    ),
                    room.revisions,
                    "quota.observability_revisions",
                ),
                CreateError::NamesFull => quota_reached(
                    "observability configurations",
                    room.names,
                    "quota.observability_configurations",
                ),
                other => unexpected(&other),
            })?;
        Ok(CreateObservabilityConfigurationResponse {
            observability_configuration: Some(self.wire_observability(caller, made)),
        })
    }

    pub(super) async fn describe_observability_configuration(
        &self,
        caller: &Caller,
        request: DescribeObservabilityConfigurationRequest,
    ) -> Result<DescribeObservabilityConfigurationResponse, ApiError> {
        let arn = request.observability_configuration_arn.as_deref();
        let found = self.look_up_shown(caller, arn).await?;
        Ok(DescribeObservabilityConfigurationResponse {
            observability_configuration: Some(self.wire_observability(caller, found)),
        })
    }

    pub(super) async fn list_observability_configurations(
        &self,
        caller: &Caller,
        request: ListObservabilityConfigurationsRequest,
    ) -> Result<ListObservabilityConfigurationsResponse, ApiError> {
        let page: Page<Place> = self.page("ListObservabilityConfigurations", caller, &request)?;
        let filter = Filter {
            name: request.observability_configuration_name.as_deref(),
            latest_only: request.latest_only.unwrap_or(true),
            ..Filter::default()
        };
        let found: Vec<Resource<Observability>> = self
            .store
            .resources(&caller.region, filter, after(page.after()), page.look_for())
            .await
            .map_err(|error| store_error(&error))?;
        let (found, next_token) = page.cut(found, place);
        let summary = |found: Resource<Observability>| ObservabilityConfigurationSummary {
            observability_configuration_arn: Some(self.resource_arn(&caller.region, &found)),
            observability_configuration_name: Some(found.name),
            observability_configuration_revision: Some(found.revision.cast_signed()),
        };
        Ok(ListObservabilityConfigurationsResponse {
            observability_configuration_summary_list: Some(
                found.into_iter().map(summary).collect(),
            ),
            next_token,
        })
    }

    pub(super) async fn delete_observability_configuration(
        &self,
        caller: &Caller,
        request: DeleteObservabilityConfigurationRequest,
    ) -> Result<DeleteObservabilityConfigurationResponse, ApiError> {
        let arn = request.observability_configuration_arn.unwrap_or_default();
        let found: Resource<Observability> = self.look_up(caller, Some(&arn)).await?;
        let deleted = self
            .store
            .change_resource(&caller.region, found.id, delete)
            .await
            .map_err(|error| Self::change_error(Observability::NOUN, &arn, error))?;
        Ok(DeleteObservabilityConfigurationResponse {
            observability_configuration: Some(self.wire_observability(caller, deleted)),
        })
    }

    /// The whole ARN of the revision that a service names, in part or whole.
    ///
    /// # Errors
    /// `InvalidRequestException` when the ARN names no active revision here.
    pub(super) async fn resolve_observability(
        &self,
        caller: &Caller,
        arn: &str,
    ) -> Result<String, ApiError> {
        let found: Resource<Observability> = self.resolve(caller, arn).await?;
        Ok(self.resource_arn(&caller.region, &found))
    }

    fn wire_observability(
        &self,
        caller: &Caller,
        found: Resource<Observability>,
    ) -> WireConfiguration {
        let status = match found.deleted_at {
            None => "ACTIVE",
            Some(_) => "INACTIVE",
        };
        WireConfiguration {
            observability_configuration_arn: Some(self.resource_arn(&caller.region, &found)),
            observability_configuration_name: Some(found.name),
            trace_configuration: found.record.vendor.map(|vendor| TraceConfiguration {
                vendor: Some(vendor),
            }),
            observability_configuration_revision: Some(found.revision.cast_signed()),
            latest: Some(found.is_latest),
            status: Some(status.to_owned()),
            created_at: Some(seconds(found.created_at)),
            deleted_at: found.deleted_at.map(seconds),
        }
    }
}

fn delete(found: &mut Resource<Observability>) -> Result<(), ApiError> {
    if found.deleted_at.is_some() {
        return Err(ApiError::invalid_request(
            "The observability configuration you specified has been deleted",
        ));
    }
    if found.in_use {
        return Err(ApiError::invalid_request(
            "You can't delete the observability configuration. It's used by one or more services. \
             To delete it, update the services to use other observability configurations.",
        ));
    }
    found.deleted_at = Some(clock::now());
    Ok(())
}
