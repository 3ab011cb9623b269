//! Auto scaling configurations: named, numbered revisions of how a service scales, one of which is
//! the region's default.

use ekiden_aws::{
    apprunner::shapes::{
        AutoScalingConfiguration as WireConfiguration, AutoScalingConfigurationSummary,
        CreateAutoScalingConfigurationRequest, CreateAutoScalingConfigurationResponse,
        DeleteAutoScalingConfigurationRequest, DeleteAutoScalingConfigurationResponse,
        DescribeAutoScalingConfigurationRequest, DescribeAutoScalingConfigurationResponse,
        ListAutoScalingConfigurationsRequest, ListAutoScalingConfigurationsResponse,
        ListServicesForAutoScalingConfigurationRequest,
        ListServicesForAutoScalingConfigurationResponse,
        UpdateDefaultAutoScalingConfigurationRequest,
        UpdateDefaultAutoScalingConfigurationResponse,
    },
    arn::{self, Arn, DEFAULT_CONFIGURATION_ID, Revised, Revision},
    error::ApiError,
};
use ekiden_engine::Engine;
use ekiden_model::{id::ServiceId, revision::Scaling, time::Timestamp};
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
#[serde(transparent)]
pub(super) struct AutoScaling(pub(super) Scaling);

impl Kind for AutoScaling {
    const NAME: &'static str = "autoscalingconfiguration";
    const NUMBERING: Numbering = Numbering::Revisions;
}

impl ApiKind for AutoScaling {
    const NOUN: &'static str = "auto scaling configuration";

    fn to_arn(revision: Revision) -> arn::Resource {
        arn::Resource::AutoScalingConfiguration(Revised::Whole(revision))
    }

    fn named(resource: &arn::Resource) -> Option<Which<'_>> {
        match resource {
            arn::Resource::AutoScalingConfiguration(name) => revised(name),
            arn::Resource::Service(_)
            | arn::Resource::Connection(_)
            | arn::Resource::VpcIngressConnection(_)
            | arn::Resource::VpcConnector(_)
            | arn::Resource::ObservabilityConfiguration(_) => None,
        }
    }
}

/// A revision that a service can use.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    /// The whole ARN, id included.
    pub(super) arn: String,
    /// The numbers.
    pub(super) scaling: Scaling,
}

impl<E: Engine> Api<E> {
    pub(super) async fn create_auto_scaling_configuration(
        &self,
        caller: &Caller,
        request: CreateAutoScalingConfigurationRequest,
    ) -> Result<CreateAutoScalingConfigurationResponse, ApiError> {
        let quotas = &self.config.quotas;
        let new = New {
            record: AutoScaling(self.scaling(&request)?),
            name: request.auto_scaling_configuration_name.unwrap_or_default(),
            id: new_id(),
            tags: tags::new(request.tags)?,
            created_at: clock::now(),
            service: None,
        };
        let room = Room {
            names: quotas.auto_scaling_configurations,
            revisions: quotas.auto_scaling_revisions,
            per_service: 0,
        };
        let made = self
            .store
            .create_resource(&caller.region, &new, room)
            .await
            .map_err(|error| match error {
                CreateError::RevisionsFull => quota_reached(
                    &format!(
                        "active revisions of the auto scaling configuration {}",
                        new.name
                    ),
                    room.revisions,
                    "quota.auto_scaling_revisions",
                ),
                CreateError::NamesFull => quota_reached(
                    "auto scaling configurations",
                    room.names,
                    "quota.auto_scaling_configurations",
                ),
                other => unexpected(&other),
            })?;
        Ok(CreateAutoScalingConfigurationResponse {
            auto_scaling_configuration: Some(self.wire_scaling(caller, made)),
        })
    }

    pub(super) async fn describe_auto_scaling_configuration(
        &self,
        caller: &Caller,
        request: DescribeAutoScalingConfigurationRequest,
    ) -> Result<DescribeAutoScalingConfigurationResponse, ApiError> {
        let arn = request.auto_scaling_configuration_arn.as_deref();
        let found = self.look_up_shown(caller, arn).await?;
        Ok(DescribeAutoScalingConfigurationResponse {
            auto_scaling_configuration: Some(self.wire_scaling(caller, found)),
        })
    }

    pub(super) async fn list_auto_scaling_configurations(
        &self,
        caller: &Caller,
        request: ListAutoScalingConfigurationsRequest,
    ) -> Result<ListAutoScalingConfigurationsResponse, ApiError> {
        let page: Page<Place> = self.page("ListAutoScalingConfigurations", caller, &request)?;
        let filter = Filter {
            name: request.auto_scaling_configuration_name.as_deref(),
            latest_only: request.latest_only.unwrap_or(true),
            ..Filter::default()
        };
        let found = self
            .store
            .resources(&caller.region, filter, after(page.after()), page.look_for())
            .await
            .map_err(|error| store_error(&error))?;
        let (found, next_token) = page.cut(found, place);
        let summary = |found| summary(self.wire_scaling(caller, found));
        Ok(ListAutoScalingConfigurationsResponse {
            auto_scaling_configuration_summary_list: Some(found.into_iter().map(summary).collect()),
            next_token,
        })
    }

    pub(super) async fn list_services_for_auto_scaling_configuration(
        &self,
        caller: &Caller,
        request: ListServicesForAutoScalingConfigurationRequest,
    ) -> Result<ListServicesForAutoScalingConfigurationResponse, ApiError> {
        let operation = "ListServicesForAutoScalingConfiguration";
        let page: Page<(Timestamp, ServiceId)> = self.page(operation, caller, &request)?;
        let arn = request.auto_scaling_configuration_arn.as_deref();
        let found: Resource<AutoScaling> = self.look_up_shown(caller, arn).await?;
        let users = self
            .store
            .resource_users::<AutoScaling>(
                &caller.region,
                found.id,
                page.after().copied(),
                page.look_for(),
            )
            .await
            .map_err(|error| store_error(&error))?;
        let (users, next_token) = page.cut(users, |user| (user.created_at, user.id));
        let arns = users.iter().map(|user| {
            let (account, id) = (&self.config.account_id, user.id.to_string());
            Arn::of_service(&caller.region, account, &user.name, &id)
        });
        Ok(ListServicesForAutoScalingConfigurationResponse {
            service_arn_list: Some(arns.collect()),
            next_token,
        })
    }

    pub(super) async fn update_default_auto_scaling_configuration(
        &self,
        caller: &Caller,
        request: UpdateDefaultAutoScalingConfigurationRequest,
    ) -> Result<UpdateDefaultAutoScalingConfigurationResponse, ApiError> {
        let arn = request.auto_scaling_configuration_arn.unwrap_or_default();
        let found: Resource<AutoScaling> = self.look_up(caller, Some(&arn)).await?;
        let make_default = |found: &mut Resource<AutoScaling>| {
            check_active(found)?;
            found.is_default = true;
            Ok(())
        };
        let changed = self
            .store
            .change_resource(&caller.region, found.id, make_default)
            .await
            .map_err(|error| Self::change_error(AutoScaling::NOUN, &arn, error))?;
        Ok(UpdateDefaultAutoScalingConfigurationResponse {
            auto_scaling_configuration: Some(self.wire_scaling(caller, changed)),
        })
    }

    pub(super) async fn delete_auto_scaling_configuration(
        &self,
        caller: &Caller,
        request: DeleteAutoScalingConfigurationRequest,
    ) -> Result<DeleteAutoScalingConfigurationResponse, ApiError> {
        let arn = request.auto_scaling_configuration_arn.unwrap_or_default();
        let wire = match request.delete_all_revisions {
            Some(true) => self.delete_all_scalings(caller, &arn).await?,
            Some(false) | None => self.delete_scaling(caller, &arn).await?,
        };
        Ok(DeleteAutoScalingConfigurationResponse {
            auto_scaling_configuration: Some(wire),
        })
    }

    async fn delete_scaling(
        &self,
        caller: &Caller,
        arn: &str,
    ) -> Result<WireConfiguration, ApiError> {
        let found: Resource<AutoScaling> = self.look_up(caller, Some(arn)).await?;
        let deleted = self
            .store
            .change_resource(&caller.region, found.id, |found| {
                delete(found, clock::now())
            })
            .await
            .map_err(|error| Self::change_error(AutoScaling::NOUN, arn, error))?;
        Ok(self.wire_scaling(caller, deleted))
    }

    /// Deletes every active revision of a name, or none.
    async fn delete_all_scalings(
        &self,
        caller: &Caller,
        text: &str,
    ) -> Result<WireConfiguration, ApiError> {
        let newest: Resource<AutoScaling> = self.look_up(caller, Some(text)).await?;
        let by_name = text
            .parse::<Arn>()
            .is_ok_and(|arn| matches!(AutoScaling::named(&arn.resource), Some(Which::Newest(_))));
        if !by_name {
            return Err(ApiError::invalid_request(format!(
                "To delete all revisions, give an ARN that ends with the name of the auto scaling \
                 configuration, without a revision. ARN: '{text}'"
            )));
        }
        let now = clock::now();
        let delete_each = |found: &mut [Resource<AutoScaling>]| {
            found.iter_mut().try_for_each(|found| delete(found, now))
        };
        self.store
            .change_revisions(&caller.region, &newest.name, delete_each)
            .await
            .map_err(|error| Self::change_error(AutoScaling::NOUN, text, error))?;
        Ok(WireConfiguration {
            auto_scaling_configuration_arn: Some(text.to_owned()),
            auto_scaling_configuration_name: Some(newest.name),
            status: Some(status(Some(now)).to_owned()),
            ..WireConfiguration::default()
        })
    }

    /// The revision that a service names, in part or whole, or else the region's default one.
    ///
    /// # Errors
    /// `InvalidRequestException` when the ARN names no active revision here.
    pub(super) async fn resolve_scaling(
        &self,
        caller: &Caller,
        arn: Option<&str>,
    ) -> Result<Resolved, ApiError> {
        let found = match arn {
            Some(arn) => self.resolve(caller, arn).await?,
            None => self
                .store
                .resource(&caller.region, Which::Default)
                .await
                .map_err(|error| store_error(&error))?
                .ok_or_else(|| {
                    ApiError::internal_service_error("no default auto scaling configuration")
                })?,
        };
        let AutoScaling(scaling) = found.record;
        Ok(Resolved {
            arn: self.resource_arn(&caller.region, &found),
            scaling,
        })
    }

    /// How a service shows the revision that it uses: by what its ARN says, so that nothing must be
    /// looked up.
    pub(super) fn scaling_summary(arn: &str) -> AutoScalingConfigurationSummary {
        let revision = match arn.parse::<Arn>().map(|arn| arn.resource) {
            Ok(arn::Resource::AutoScalingConfiguration(Revised::Whole(revision))) => Some(revision),
            Ok(_) | Err(_) => None,
        };
        AutoScalingConfigurationSummary {
            auto_scaling_configuration_arn: Some(arn.to_owned()),
            auto_scaling_configuration_name: revision.as_ref().map(|r| r.name.clone()),
            auto_scaling_configuration_revision: revision.map(|r| r.revision.cast_signed()),
            ..AutoScalingConfigurationSummary::default()
        }
    }

    /// The numbers that a request means, within the installation's bounds.
    fn scaling(
        &self,
        request: &CreateAutoScalingConfigurationRequest,
    ) -> Result<Scaling, ApiError> {
        let quotas = &self.config.quotas;
        let instances_max = bound(quotas.instances_per_service);
        let concurrency_max = bound(quotas.requests_per_instance);
        let default = Scaling::default();
        let number = |given: Option<i32>, default: u32| given.map_or(default, i32::unsigned_abs);
        let scaling = Scaling {
            instances_min: number(request.min_size, default.instances_min),
            instances_max: number(request.max_size, default.instances_max.min(instances_max)),
            concurrency_per_instance: number(
                request.max_concurrency,
                default.concurrency_per_instance.min(concurrency_max),
            ),
        };
        for (member, value, max, setting) in [
            (
                "MaxSize",
                scaling.instances_max,
                instances_max,
                "quota.instances_per_service",
            ),
            (
                "MaxConcurrency",
                scaling.concurrency_per_instance,
                concurrency_max,
                "quota.requests_per_instance",
            ),
        ] {
            if value > max {
                return Err(ApiError::service_quota_exceeded(format!(
                    "{member} ({value}) is above the quota of {max}. Give a smaller number, or \
                     have the setting `{setting}` raised."
                )));
            }
        }
        match scaling.instances_min <= scaling.instances_max {
            true => Ok(scaling),
            false => Err(ApiError::invalid_request(format!(
                "MinSize ({}) must not be greater than MaxSize ({}).",
                scaling.instances_min, scaling.instances_max
            ))),
        }
    }

    fn wire_scaling(&self, caller: &Caller, found: Resource<AutoScaling>) -> WireConfiguration {
        let AutoScaling(scaling) = found.record;
        WireConfiguration {
            auto_scaling_configuration_arn: Some(self.resource_arn(&caller.region, &found)),
            auto_scaling_configuration_name: Some(found.name),
            auto_scaling_configuration_revision: Some(found.revision.cast_signed()),
            latest: Some(found.is_latest),
            status: Some(status(found.deleted_at).to_owned()),
            max_concurrency: Some(scaling.concurrency_per_instance.cast_signed()),
            min_size: Some(scaling.instances_min.cast_signed()),
            max_size: Some(scaling.instances_max.cast_signed()),
            created_at: Some(seconds(found.created_at)),
            deleted_at: found.deleted_at.map(seconds),
            has_associated_service: Some(found.in_use),
            is_default: Some(found.is_default),
        }
    }
}

fn summary(whole: WireConfiguration) -> AutoScalingConfigurationSummary {
    AutoScalingConfigurationSummary {
        auto_scaling_configuration_arn: whole.auto_scaling_configuration_arn,
        auto_scaling_configuration_name: whole.auto_scaling_configuration_name,
        auto_scaling_configuration_revision: whole.auto_scaling_configuration_revision,
        status: whole.status,
        created_at: whole.created_at,
        has_associated_service: whole.has_associated_service,
        is_default: whole.is_default,
    }
}

/// Deletes one revision, if that may be (specification, section 5.4).
fn delete(found: &mut Resource<AutoScaling>, now: Timestamp) -> Result<(), ApiError> {
    check_active(found)?;
    if found.id.to_string() == DEFAULT_CONFIGURATION_ID {
        return Err(ApiError::invalid_request(format!(
            "You can't delete a reserved auto scaling configuration: '{}'.",
            found.name
        )));
    }
    if found.is_default {
        return Err(ApiError::invalid_request(
            "You can't delete the default auto scaling configuration. Make another one the default \
             first.",
        ));
    }
    if found.in_use {
        return Err(ApiError::invalid_request(
            "You can't delete the auto scaling configuration. It's used by one or more services. \
             To delete it, update the services to use other auto scaling configurations.",
        ));
    }
    found.deleted_at = Some(now);
    Ok(())
}

fn check_active(found: &Resource<AutoScaling>) -> Result<(), ApiError> {
    match found.deleted_at {
        None => Ok(()),
        Some(_) => Err(ApiError::invalid_request(
            "The auto scaling configuration you specified has been deleted",
        )),
    }
}

/// Lower case, unlike every other status (specification, section 3.5).
fn status(deleted_at: Option<Timestamp>) -> &'static str {
    match deleted_at {
        None => "active",
        Some(_) => "inactive",
    }
}

fn bound(quota: u64) -> u32 {
    u32::try_from(quota).unwrap_or(u32::MAX)
}
