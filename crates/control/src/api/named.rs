//! What a service's configuration names of other resources: each name is looked up when it is
//! given, and kept as the whole ARN of what it stood for.

use ekiden_aws::{
    apprunner::shapes::{
        CreateServiceRequest, NetworkConfiguration, ServiceObservabilityConfiguration,
        SourceConfiguration, UpdateServiceRequest,
    },
    arn::{Arn, Resource, Revised},
    error::ApiError,
};
use ekiden_engine::Engine;
use ekiden_model::revision::Scaling;

use super::{Api, Caller, configuration::Configuration};

/// The names in a request.
#[derive(Debug, Default)]
pub(super) struct Named {
    auto_scaling: Option<String>,
    observability: Option<String>,
    vpc_connector: Option<String>,
    connection: Option<String>,
}

impl Named {
    pub(super) fn by_create(request: &CreateServiceRequest) -> Self {
        Self {
            auto_scaling: request.auto_scaling_configuration_arn.clone(),
            observability: observability(request.observability_configuration.as_ref()),
            vpc_connector: vpc_connector(request.network_configuration.as_ref()),
            connection: connection(request.source_configuration.as_ref()),
        }
    }

    pub(super) fn by_update(request: &UpdateServiceRequest) -> Self {
        Self {
            auto_scaling: request.auto_scaling_configuration_arn.clone(),
            observability: observability(request.observability_configuration.as_ref()),
            vpc_connector: vpc_connector(request.network_configuration.as_ref()),
            connection: connection(request.source_configuration.as_ref()),
        }
    }
}

fn observability(given: Option<&ServiceObservabilityConfiguration>) -> Option<String> {
    given?.observability_configuration_arn.clone()
}

fn vpc_connector(given: Option<&NetworkConfiguration>) -> Option<String> {
    let egress = given?.egress_configuration.as_ref()?;
    egress.vpc_connector_arn.clone()
}

fn connection(given: Option<&SourceConfiguration>) -> Option<String> {
    let authentication = given?.authentication_configuration.as_ref()?;
    authentication.connection_arn.clone()
}

/// Whether a name leaves the revision open.
fn is_open(arn: &str) -> bool {
    let resource = arn.parse::<Arn>().map(|arn| arn.resource);
    matches!(
        resource,
        Ok(Resource::AutoScalingConfiguration(Revised::Newest { .. })
            | Resource::ObservabilityConfiguration(Revised::Newest { .. }))
    )
}

/// What is followed may be gone; that it could not be looked for is another matter.
fn if_there<T>(resolved: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match resolved {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.status().is_server_error() => Err(error),
        Err(_) => Ok(None),
    }
}

impl<E: Engine> Api<E> {
    /// Looks up what a request names, and what the service follows, and puts it into the
    /// configuration; answers the numbers to scale by, if they are others now.
    ///
    /// # Errors
    /// `InvalidRequestException` when a name stands for nothing that can be used. What is only
    /// followed and gone stays as it was.
    pub(super) async fn look_up_named(
        &self,
        caller: &Caller,
        named: Named,
        configuration: &mut Configuration,
    ) -> Result<Option<Scaling>, ApiError> {
        let scaling = self
            .look_up_scaling(caller, named.auto_scaling, configuration)
            .await?;
        self.look_up_observability(caller, named.observability, configuration)
            .await?;
        if let Some(arn) = named.vpc_connector {
            let whole = self.resolve_vpc_connector(caller, &arn).await?;
            let network = configuration.network_configuration.get_or_insert_default();
            let egress = network.egress_configuration.get_or_insert_default();
            egress.vpc_connector_arn = Some(whole);
        }
        if let Some(arn) = named.connection {
            let whole = self.resolve_connection(caller, &arn).await?;
            let source = &mut configuration.source_configuration;
            let authentication = source.authentication_configuration.get_or_insert_default();
            authentication.connection_arn = Some(whole);
        }
        Ok(scaling)
    }

    async fn look_up_scaling(
        &self,
        caller: &Caller,
        given: Option<String>,
        configuration: &mut Configuration,
    ) -> Result<Option<Scaling>, ApiError> {
        let resolved = match (&given, &configuration.follows.auto_scaling) {
            (Some(arn), _) => Some(self.resolve_scaling(caller, Some(arn)).await?),
            (None, Some(followed)) => if_there(self.resolve_scaling(caller, Some(followed)).await)?,
            (None, None) if configuration.auto_scaling_configuration_arn.is_none() => {
                Some(self.resolve_scaling(caller, None).await?)
            }
            (None, None) => None,
        };
        let Some(resolved) = resolved else {
            return Ok(None);
        };
        if given.is_some() {
            configuration.follows.auto_scaling = given.filter(|arn| is_open(arn));
        }
        configuration.auto_scaling_configuration_arn = Some(resolved.arn);
        Ok(Some(resolved.scaling))
    }

    async fn look_up_observability(
        &self,
        caller: &Caller,
        given: Option<String>,
        configuration: &mut Configuration,
    ) -> Result<(), ApiError> {
        let whole = match (&given, &configuration.follows.observability) {
            (Some(arn), _) => Some(self.resolve_observability(caller, arn).await?),
            (None, Some(followed)) => if_there(self.resolve_observability(caller, followed).await)?,
            (None, None) => None,
        };
        let Some(whole) = whole else {
            return Ok(());
        };
        if given.is_some() {
            configuration.follows.observability = given.filter(|arn| is_open(arn));
        }
        let observability = configuration
            .observability_configuration
            .get_or_insert_default();
        observability.observability_configuration_arn = Some(whole);
        Ok(())
    }
}
