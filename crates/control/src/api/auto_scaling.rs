//! Auto scaling configurations: make, look up, list, delete.

use ekiden_aws::{
    apprunner::shapes::{
        AutoScalingConfiguration as WireConfiguration, AutoScalingConfigurationSummary,
        CreateAutoScalingConfigurationRequest, CreateAutoScalingConfigurationResponse,
        DeleteAutoScalingConfigurationRequest, DeleteAutoScalingConfigurationResponse,
        DescribeAutoScalingConfigurationRequest, DescribeAutoScalingConfigurationResponse,
        ListAutoScalingConfigurationsRequest, ListAutoScalingConfigurationsResponse,
    },
    arn::{Arn, DEFAULT_CONFIGURATION_ID, DEFAULT_CONFIGURATION_NAME, Resource, Revised, Revision},
    epoch_seconds::EpochSeconds,
    error::ApiError,
};
use ekiden_engine::Engine;
use ekiden_model::{revision::Scaling, time::Timestamp};
use ekiden_store::auto_scaling::AutoScalingConfiguration;

use super::{Api, Caller, configuration::Configuration, services::tag_pair, store_error};
use crate::clock;

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
        let mut tags: Vec<_> = request
            .tags
            .unwrap_or_default()
            .into_iter()
            .filter_map(tag_pair)
            .collect();
        tags.sort();
        let configuration = AutoScalingConfiguration {
            name: request.auto_scaling_configuration_name.unwrap_or_default(),
            revision: 0,
            id: hex(clock::random_id()),
            scaling: scaling(request.max_concurrency, request.min_size, request.max_size)?,
            tags,
            created_at: clock::now(),
            deleted_at: None,
        };
        let made = self
            .store
            .create_auto_scaling(&caller.region, configuration)
            .await
            .map_err(|error| store_error(&error))?;
        Ok(CreateAutoScalingConfigurationResponse {
            auto_scaling_configuration: Some(self.wire(caller, &made, true)),
        })
    }

    pub(super) async fn describe_auto_scaling_configuration(
        &self,
        caller: &Caller,
        request: DescribeAutoScalingConfigurationRequest,
    ) -> Result<DescribeAutoScalingConfigurationResponse, ApiError> {
        let all = self.all(caller).await?;
        let arn = request.auto_scaling_configuration_arn.unwrap_or_default();
        let found = self.look_up(caller, &all, &arn)?;
        let latest = is_latest(&all, found);
        Ok(DescribeAutoScalingConfigurationResponse {
            auto_scaling_configuration: Some(self.wire(caller, found, latest)),
        })
    }

    pub(super) async fn list_auto_scaling_configurations(
        &self,
        caller: &Caller,
        request: ListAutoScalingConfigurationsRequest,
    ) -> Result<ListAutoScalingConfigurationsResponse, ApiError> {
        let all = self.all(caller).await?;
        let latest_only = request.latest_only.unwrap_or(true);
        let name = request.auto_scaling_configuration_name;
        let wanted = all.iter().filter(|configuration| {
            name.as_ref().is_none_or(|name| *name == configuration.name)
                && (!latest_only || is_latest(&all, configuration) || is_default(configuration))
        });
        let summaries = wanted
            .map(|configuration| self.summary(caller, configuration))
            .collect();
        Ok(ListAutoScalingConfigurationsResponse {
            auto_scaling_configuration_summary_list: Some(summaries),
            next_token: None,
        })
    }

    pub(super) async fn delete_auto_scaling_configuration(
        &self,
        caller: &Caller,
        request: DeleteAutoScalingConfigurationRequest,
    ) -> Result<DeleteAutoScalingConfigurationResponse, ApiError> {
        let all = self.all(caller).await?;
        let arn = request.auto_scaling_configuration_arn.unwrap_or_default();
        let found = self.look_up(caller, &all, &arn)?;
        if is_default(found) {
            return Err(ApiError::invalid_request(
                "You can't delete the default auto scaling configuration.",
            ));
        }
        if self.has_services(caller, &self.scaling_arn(caller, found)) {
            return Err(ApiError::invalid_request(
                "You can't delete the auto scaling configuration. It's used by one or more \
                 services. To delete it, update the services to use other auto scaling \
                 configurations.",
            ));
        }
        let deleted = AutoScalingConfiguration {
            deleted_at: Some(clock::now()),
            ..found.clone()
        };
        self.store
            .delete_auto_scaling(&caller.region, &deleted)
            .await
            .map_err(|error| store_error(&error))?;
        Ok(DeleteAutoScalingConfigurationResponse {
            auto_scaling_configuration: Some(self.wire(caller, &deleted, false)),
        })
    }

    /// The revision that a service names, or the default one.
    pub(super) async fn resolve_scaling(
        &self,
        caller: &Caller,
        arn: Option<&str>,
    ) -> Result<Resolved, ApiError> {
        let Some(arn) = arn else {
            let default = default_configuration();
            return Ok(Resolved {
                arn: self.scaling_arn(caller, &default),
                scaling: default.scaling,
            });
        };
        let all = self.all(caller).await?;
        let invalid = |_| {
            ApiError::invalid_request(format!(
                "The auto scaling configuration ARN you specified isn't valid. ARN: '{arn}'"
            ))
        };
        let found = self.look_up(caller, &all, arn).map_err(invalid)?;
        Ok(Resolved {
            arn: self.scaling_arn(caller, found),
            scaling: found.scaling,
        })
    }

    /// How a service shows the revision that it uses.
    pub(super) fn scaling_summary(arn: &str) -> AutoScalingConfigurationSummary {
        let revision = match arn.parse::<Arn>().map(|arn| arn.resource) {
            Ok(Resource::AutoScalingConfiguration(Revised::Whole(revision))) => Some(revision),
            Ok(_) | Err(_) => None,
        };
        AutoScalingConfigurationSummary {
            auto_scaling_configuration_arn: Some(arn.to_owned()),
            auto_scaling_configuration_name: revision.as_ref().map(|r| r.name.clone()),
            auto_scaling_configuration_revision: revision.map(|r| r.revision.cast_signed()),
            ..AutoScalingConfigurationSummary::default()
        }
    }

    async fn all(&self, caller: &Caller) -> Result<Vec<AutoScalingConfiguration>, ApiError> {
        let mut all = self
            .store
            .auto_scalings(&caller.region)
            .await
            .map_err(|error| store_error(&error))?;
        all.insert(0, default_configuration());
        Ok(all)
    }

    fn look_up<'a>(
        &self,
        caller: &Caller,
        all: &'a [AutoScalingConfiguration],
        text: &str,
    ) -> Result<&'a AutoScalingConfiguration, ApiError> {
        let arn = text.parse::<Arn>().ok();
        let revised = match arn.as_ref().map(|arn| &arn.resource) {
            Some(Resource::AutoScalingConfiguration(revised)) => revised,
            Some(_) | None => {
                return Err(ApiError::invalid_request(format!(
                    "The auto scaling configuration ARN you specified isn't valid. ARN: '{text}'"
                )));
            }
        };
        let here = arn.as_ref().is_some_and(|arn| {
            arn.account == self.config.account_id && arn.region == caller.region
        });
        let fits = |configuration: &&AutoScalingConfiguration| match revised {
            Revised::Newest { name } => configuration.name == *name,
            Revised::Numbered { name, revision } => {
                configuration.name == *name && configuration.revision == *revision
            }
            Revised::Whole(revision) => configuration.id == revision.id,
        };
        let found = all
            .iter()
            .filter(fits)
            .max_by_key(|configuration| configuration.revision);
        found.filter(|_| here).ok_or_else(|| {
            ApiError::resource_not_found(format!(
                "Auto scaling configuration cannot be found for the provided ARN: {text}"
            ))
        })
    }

    fn scaling_arn(&self, caller: &Caller, configuration: &AutoScalingConfiguration) -> String {
        let revision = Revision {
            name: configuration.name.clone(),
            revision: configuration.revision,
            id: configuration.id.clone(),
        };
        Arn {
            region: caller.region.clone(),
            account: self.config.account_id.clone(),
            resource: Resource::AutoScalingConfiguration(Revised::Whole(revision)),
        }
        .to_string()
    }

    fn has_services(&self, caller: &Caller, arn: &str) -> bool {
        let services = self.services.list(&caller.region, None, usize::MAX);
        services.iter().any(|snapshot| {
            let wanted = snapshot.stored.service.configuration_wanted();
            Configuration::parse(wanted)
                .is_ok_and(|c| c.auto_scaling_configuration_arn.as_deref() == Some(arn))
        })
    }

    fn wire(
        &self,
        caller: &Caller,
        configuration: &AutoScalingConfiguration,
        latest: bool,
    ) -> WireConfiguration {
        let arn = self.scaling_arn(caller, configuration);
        WireConfiguration {
            has_associated_service: Some(self.has_services(caller, &arn)),
            auto_scaling_configuration_arn: Some(arn),
            auto_scaling_configuration_name: Some(configuration.name.clone()),
            auto_scaling_configuration_revision: Some(configuration.revision.cast_signed()),
            latest: Some(latest),
            status: Some(status(configuration).to_owned()),
            max_concurrency: Some(configuration.scaling.concurrency_per_instance.cast_signed()),
            min_size: Some(configuration.scaling.instances_min.cast_signed()),
            max_size: Some(configuration.scaling.instances_max.cast_signed()),
            created_at: Some(seconds(configuration.created_at)),
            deleted_at: configuration.deleted_at.map(seconds),
            is_default: Some(is_default(configuration)),
        }
    }

    fn summary(
        &self,
        caller: &Caller,
        configuration: &AutoScalingConfiguration,
    ) -> AutoScalingConfigurationSummary {
        let whole = self.wire(caller, configuration, true);
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
}

/// App Runner's built-in configuration, which every region starts with.
fn default_configuration() -> AutoScalingConfiguration {
    AutoScalingConfiguration {
        name: DEFAULT_CONFIGURATION_NAME.to_owned(),
        revision: 1,
        id: DEFAULT_CONFIGURATION_ID.to_owned(),
        scaling: Scaling::default(),
        tags: Vec::new(),
        created_at: Timestamp::default(),
        deleted_at: None,
    }
}

fn is_default(configuration: &AutoScalingConfiguration) -> bool {
    configuration.id == DEFAULT_CONFIGURATION_ID
}

fn is_latest(all: &[AutoScalingConfiguration], one: &AutoScalingConfiguration) -> bool {
    !all.iter()
        .any(|other| other.name == one.name && other.revision > one.revision)
}

/// Lower case, unlike every other status (specification, section 3.5).
fn status(configuration: &AutoScalingConfiguration) -> &'static str {
    match configuration.deleted_at {
        None => "active",
        Some(_) => "inactive",
    }
}

fn scaling(
    concurrency: Option<i32>,
    min: Option<i32>,
    max: Option<i32>,
) -> Result<Scaling, ApiError> {
    let default = Scaling::default();
    let number = |given: Option<i32>, default: u32| given.map_or(default, i32::unsigned_abs);
    let scaling = Scaling {
        instances_min: number(min, default.instances_min),
        instances_max: number(max, default.instances_max),
        concurrency_per_instance: number(concurrency, default.concurrency_per_instance),
    };
    match scaling.instances_min <= scaling.instances_max {
        true => Ok(scaling),
        false => Err(ApiError::invalid_request(format!(
            "MinSize ({}) must not be greater than MaxSize ({}).",
            scaling.instances_min, scaling.instances_max
        ))),
    }
}

fn seconds(at: Timestamp) -> EpochSeconds {
    EpochSeconds(at.as_secs())
}

fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}
