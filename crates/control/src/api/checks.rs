//! What of a service's configuration can be checked by itself, without looking anything up.

use ekiden_aws::{
    apprunner::shapes::{SourceConfiguration, UpdateServiceRequest},
    error::ApiError,
};
use ekiden_model::service::ServiceStatus;

use super::{
    configuration::{API, Configuration, REPOSITORY},
    installation::Installation,
};
use crate::References;

impl Configuration {
    /// Whether an update leaves the service what it is: code or image, of a registry of its kind.
    ///
    /// # Errors
    /// `InvalidRequestException`.
    pub(super) fn check_kind(
        &self,
        request: &UpdateServiceRequest,
        status: ServiceStatus,
    ) -> Result<(), ApiError> {
        let Some(source) = &request.source_configuration else {
            return Ok(());
        };
        if source.code_repository.is_some() && source.image_repository.is_some() {
            return Err(one_source());
        }
        let is_code = self.source_configuration.code_repository.is_some();
        if is_code && source.image_repository.is_some() {
            return Err(ApiError::invalid_request(
                "A service that runs code cannot be changed to run an image. Create another \
                 service.",
            ));
        }
        if !is_code && source.code_repository.is_some() {
            return Err(ApiError::invalid_request(
                "A service that runs an image cannot be changed to run code. Create another \
                 service.",
            ));
        }
        let image = source.image_repository.as_ref();
        let given = image.and_then(|image| image.image_repository_type.as_deref());
        if given.is_some_and(|given| Some(given) != self.repository_type()) {
            return Err(ApiError::invalid_request(
                "The image repository type cannot be changed in UpdateService request",
            ));
        }
        let to_api = configuration_source(source) == Some(API)
            && configuration_source(&self.source_configuration) == Some(REPOSITORY);
        match to_api && status == ServiceStatus::CreateFailed {
            true => Err(ApiError::invalid_request(
                "ConfigurationSource cannot be changed from REPOSITORY to API for CREATE_FAILED \
                 services.",
            )),
            false => Ok(()),
        }
    }

    /// That there is one source, and all of it: the first of the checks.
    ///
    /// # Errors
    /// `InvalidRequestException`.
    pub(super) fn check_one_source(&self) -> Result<(), ApiError> {
        let source = &self.source_configuration;
        let Some(code) = &source.code_repository else {
            return source
                .image_repository
                .as_ref()
                .map_or_else(|| Err(one_source()), |_| Ok(()));
        };
        if source.image_repository.is_some() {
            return Err(one_source());
        }
        let Some(configuration) = &code.code_configuration else {
            return Err(ApiError::invalid_request(
                "CodeRepository must have a CodeConfiguration when a service is created.",
            ));
        };
        let api = configuration.configuration_source.as_deref() == Some(API);
        match api && configuration.code_configuration_values.is_none() {
            true => Err(ApiError::invalid_request(
                "CodeConfiguration must have CodeConfigurationValues when its ConfigurationSource \
                 is API.",
            )),
            false => Ok(()),
        }
    }

    /// What can be said of the configuration by itself, in the order of App Runner's checks
    /// (specification, section 5.1, CreateService, 3 to 6 and 8).
    ///
    /// # Errors
    /// `InvalidRequestException`.
    pub(super) fn check(&self, installation: &Installation<'_>) -> Result<(), ApiError> {
        let (cpu_units, memory_mib) = self.size()?;
        installation.check_size(cpu_units, memory_mib)?;
        self.check_authentication(installation)?;
        self.check_auto_deployments(installation)?;
        self.check_references(installation)?;
        self.check_egress()?;
        self.check_observability()
    }

    fn check_authentication(&self, installation: &Installation<'_>) -> Result<(), ApiError> {
        let source = &self.source_configuration;
        let given = source.authentication_configuration.as_ref();
        let role = given.is_some_and(|given| given.access_role_arn.is_some());
        let connection = given.is_some_and(|given| given.connection_arn.is_some());
        let consistent = match source.code_repository {
            // What needs no credential needs no connection, though App Runner's has one always.
            Some(_) => !role && (connection || installation.references == References::Lenient),
            None => !connection && (role || self.ecr_account().is_none()),
        };
        match consistent {
            true => Ok(()),
            false => Err(ApiError::invalid_request(
                "Authentication configuration is invalid.",
            )),
        }
    }

    fn check_auto_deployments(&self, installation: &Installation<'_>) -> Result<(), ApiError> {
        if self.source_configuration.auto_deployments_enabled != Some(true) {
            return Ok(());
        }
        if self.repository_type() == Some("ECR_PUBLIC") {
            return Err(ApiError::invalid_request(
                "App Runner doesn't support automatic deployments for an image in an ECR Public \
                 repository.",
            ));
        }
        // Nothing stands between an Ekiden and another account's registry, as it does at AWS; but
        // who wants App Runner's word to the letter has it.
        let other = self
            .ecr_account()
            .filter(|account| *account != installation.account_id);
        installation.check_reference(other, |account| {
            format!(
                "App Runner doesn't support automatic deployments for an image in an ECR \
                 repository of another account ({account})."
            )
        })
    }

    fn check_references(&self, installation: &Installation<'_>) -> Result<(), ApiError> {
        let instance = self.instance_configuration.as_ref();
        let role = instance.and_then(|instance| instance.instance_role_arn.as_deref());
        installation
            .check_reference(role, |arn| format!("Error in assuming instance role {arn}"))?;
        let authentication = self
            .source_configuration
            .authentication_configuration
            .as_ref();
        let role = authentication.and_then(|given| given.access_role_arn.as_deref());
        installation.check_reference(role, |arn| format!("Error in assuming access role {arn}"))?;
        let encryption = self.encryption_configuration.as_ref();
        let key = encryption.and_then(|encryption| encryption.kms_key.as_deref());
        installation.check_reference(key, |arn| {
            format!("The KMS key you specified cannot be used: it is not known here. ARN: '{arn}'")
        })
    }

    fn check_egress(&self) -> Result<(), ApiError> {
        let (is_vpc, connector) = match self.egress() {
            Some(egress) => (
                egress.egress_type.as_deref() == Some("VPC"),
                egress.vpc_connector_arn.is_some(),
            ),
            None => (false, false),
        };
        match (is_vpc, connector) {
            (true, false) => Err(ApiError::invalid_request(
                "EgressConfiguration must have a VpcConnectorArn when its EgressType is VPC.",
            )),
            (false, true) => Err(ApiError::invalid_request(
                "EgressConfiguration must not have a VpcConnectorArn when its EgressType is \
                 DEFAULT.",
            )),
            (true, true) | (false, false) => Ok(()),
        }
    }

    fn check_observability(&self) -> Result<(), ApiError> {
        let given = self.observability_configuration.as_ref();
        let without_use = given.is_some_and(|given| {
            given.observability_enabled != Some(true)
                && given.observability_configuration_arn.is_some()
        });
        match without_use {
            true => Err(ApiError::invalid_request(
                "ObservabilityConfiguration must not have an ObservabilityConfigurationArn when \
                 its ObservabilityEnabled is false.",
            )),
            false => Ok(()),
        }
    }
}

fn one_source() -> ApiError {
    ApiError::invalid_request(
        "SourceConfiguration must have exactly one of CodeRepository and ImageRepository.",
    )
}

fn configuration_source(source: &SourceConfiguration) -> Option<&str> {
    let code = source.code_repository.as_ref()?;
    code.code_configuration
        .as_ref()?
        .configuration_source
        .as_deref()
}
