//! What a service was configured to be, in the API's words, and what that means.
//!
//! The words are kept as they were given, because answers echo exactly what was configured; only
//! CPU and memory are normalised to numbers (specification, section 3.4). The meaning is
//! [`Settings`], made from the words once, when they are accepted.

use std::{collections::BTreeMap, time::Duration};

use ekiden_aws::{
    apprunner::shapes::{
        CreateServiceRequest, EncryptionConfiguration, HealthCheckConfiguration,
        InstanceConfiguration, NetworkConfiguration, ServiceObservabilityConfiguration,
        SourceConfiguration, UpdateServiceRequest,
    },
    error::ApiError,
};
use ekiden_model::{
    health::{HealthCheck, HealthProtocol},
    image::ImageReference,
    instance::UserNamespace,
    revision::{ENV_RESERVED, Scaling, Settings},
    service::Change,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// App Runner's default port.
const PORT_DEFAULT: &str = "8080";

/// App Runner's default CPU, in its units: 1024 are one CPU.
const CPU_DEFAULT: &str = "1024";

/// App Runner's default memory, in MiB.
const MEMORY_DEFAULT: &str = "2048";

/// Prefix of variables that App Runner keeps for itself.
const ENV_RESERVED_PREFIX: &str = "AWSAPPRUNNER";

/// The least CPU an instance can have, in units: a hundredth of one.
const CPU_UNITS_MIN: f64 = 10.24;

/// The least memory an instance can have, in MiB.
const MEMORY_MIB_MIN: f64 = 16.0;

/// The configurable part of a service, as given.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Configuration {
    pub(crate) source_configuration: SourceConfiguration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance_configuration: Option<InstanceConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encryption_configuration: Option<EncryptionConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) health_check_configuration: Option<HealthCheckConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auto_scaling_configuration_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network_configuration: Option<NetworkConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observability_configuration: Option<ServiceObservabilityConfiguration>,
}

impl Configuration {
    /// As a create request gives it.
    pub(crate) fn created(request: &CreateServiceRequest) -> Self {
        let mut configuration = Self {
            source_configuration: request.source_configuration.clone().unwrap_or_default(),
            instance_configuration: request.instance_configuration.clone(),
            encryption_configuration: request.encryption_configuration.clone(),
            health_check_configuration: request.health_check_configuration.clone(),
            auto_scaling_configuration_arn: request.auto_scaling_configuration_arn.clone(),
            network_configuration: request.network_configuration.clone(),
            observability_configuration: request.observability_configuration.clone(),
        };
        configuration.complete();
        configuration
    }

    /// As an update request changes it: a member that is given wins, member by member; maps of
    /// variables and secrets are replaced whole (specification, section 5.1, UpdateService).
    ///
    /// # Errors
    /// When it would become code instead of image, or the registry of another kind.
    pub(crate) fn updated(&self, request: &UpdateServiceRequest) -> Result<Self, ApiError> {
        self.check_kind(request)?;
        let mut whole = to_value(self)?;
        let mut given = to_value(request)?;
        if let Some(given) = given.as_object_mut() {
            given.remove("ServiceArn");
        }
        merge(&mut whole, given);
        let mut configuration: Self = serde_json::from_value(whole).map_err(|error| {
            ApiError::internal_service_error(format!("a merged configuration: {error}"))
        })?;
        configuration.complete();
        Ok(configuration)
    }

    /// Reads it back from the store.
    ///
    /// # Errors
    /// When the record is damaged.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        serde_json::from_str(text).map_err(|error| {
            ApiError::internal_service_error(format!("a stored configuration: {error}"))
        })
    }

    /// Words and meaning together, ready to be accepted.
    ///
    /// # Errors
    /// `InvalidRequestException`, saying which member is wrong and what would be right.
    pub(crate) fn change(&self, scaling: Scaling) -> Result<Change, ApiError> {
        let settings = self.settings(scaling)?;
        let configuration = serde_json::to_string(self).map_err(|error| {
            ApiError::internal_service_error(format!("a configuration: {error}"))
        })?;
        Ok(Change {
            settings,
            configuration,
        })
    }

    /// Normalises CPU and memory, and fills in what answers always have.
    fn complete(&mut self) {
        let instance = self.instance_configuration.get_or_insert_default();
        instance.cpu = Some(units(
            instance.cpu.as_deref().unwrap_or(CPU_DEFAULT),
            "vCPU",
        ));
        instance.memory = Some(units(
            instance.memory.as_deref().unwrap_or(MEMORY_DEFAULT),
            "GB",
        ));
        if let Some(image) = &mut self.source_configuration.image_repository {
            let configuration = image.image_configuration.get_or_insert_default();
            configuration
                .port
                .get_or_insert_with(|| PORT_DEFAULT.to_owned());
        }
        let public_registry = self.repository_type() == Some("ECR_PUBLIC");
        self.source_configuration
            .auto_deployments_enabled
            .get_or_insert(!public_registry);
    }

    fn repository_type(&self) -> Option<&str> {
        self.source_configuration
            .image_repository
            .as_ref()?
            .image_repository_type
            .as_deref()
    }

    fn check_kind(&self, request: &UpdateServiceRequest) -> Result<(), ApiError> {
        let Some(source) = &request.source_configuration else {
            return Ok(());
        };
        if source.code_repository.is_some() {
            return Err(ApiError::invalid_request(
                "A service that runs an image cannot be changed to run code. Create another \
                 service.",
            ));
        }
        let given = source
            .image_repository
            .as_ref()
            .and_then(|i| i.image_repository_type.as_deref());
        match given.is_some_and(|given| Some(given) != self.repository_type()) {
            true => Err(ApiError::invalid_request(
                "The image repository type cannot be changed in UpdateService request",
            )),
            false => Ok(()),
        }
    }

    fn settings(&self, scaling: Scaling) -> Result<Settings, ApiError> {
        let source = &self.source_configuration;
        let image = match (&source.image_repository, &source.code_repository) {
            (Some(image), None) => image,
            (None, Some(_)) => {
                return Err(ApiError::invalid_request(
                    "This release deploys images only: give ImageRepository, not CodeRepository.",
                ));
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(ApiError::invalid_request(
                    "SourceConfiguration must have exactly one of CodeRepository and \
                     ImageRepository.",
                ));
            }
        };
        self.check_source()?;
        let identifier = image.image_identifier.as_deref().unwrap_or_default();
        let reference: ImageReference = identifier
            .parse()
            .map_err(|error| ApiError::invalid_request(format!("ImageIdentifier: {error}.")))?;
        let configuration = image.image_configuration.clone().unwrap_or_default();
        let env = configuration
            .runtime_environment_variables
            .unwrap_or_default();
        check_env(&env)?;
        let instance = self.instance_configuration.clone().unwrap_or_default();
        let cpu_units = number(instance.cpu.as_deref(), "Cpu", CPU_UNITS_MIN, "0.01 vCPU")?;
        let memory_mib = number(
            instance.memory.as_deref(),
            "Memory",
            MEMORY_MIB_MIN,
            "16 MiB",
        )?;
        Ok(Settings {
            image: reference,
            start_command: words(configuration.start_command.as_deref())?,
            port: port(configuration.port.as_deref())?,
            env,
            secrets: self.secret_references()?,
            cpu_millis: (cpu_units * 1000.0 / 1024.0).round() as u32,
            memory_bytes: (memory_mib * f64::from(1 << 20)) as u64,
            health: self.health()?,
            scaling,
            user_namespace: UserNamespace::Private,
        })
    }

    fn check_source(&self) -> Result<(), ApiError> {
        let source = &self.source_configuration;
        let public_registry = self.repository_type() == Some("ECR_PUBLIC");
        if public_registry && source.auto_deployments_enabled == Some(true) {
            return Err(ApiError::invalid_request(
                "App Runner doesn't support automatic deployments for an image in an ECR Public \
                 repository.",
            ));
        }
        Ok(())
    }

    fn health(&self) -> Result<HealthCheck, ApiError> {
        let given = self.health_check_configuration.clone().unwrap_or_default();
        let default = HealthCheck::default();
        let seconds = |value: Option<i32>, default: Duration| {
            value.map_or(default, |seconds| {
                Duration::from_secs(seconds.max(1).unsigned_abs().into())
            })
        };
        let count =
            |value: Option<i32>, default: u32| value.map_or(default, |n| n.max(1).unsigned_abs());
        let protocol = match given.protocol.as_deref() {
            Some("HTTP") => HealthProtocol::Http {
                path: path(given.path.as_deref())?,
            },
            Some(_) | None => HealthProtocol::Tcp,
        };
        Ok(HealthCheck {
            protocol,
            interval: seconds(given.interval, default.interval),
            timeout: seconds(given.timeout, default.timeout),
            healthy_threshold: count(given.healthy_threshold, default.healthy_threshold),
            unhealthy_threshold: count(given.unhealthy_threshold, default.unhealthy_threshold),
        })
    }
}

fn to_value(value: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(value)
        .map_err(|error| ApiError::internal_service_error(format!("a configuration: {error}")))
}

/// Puts `given` over `whole`, member by member.
fn merge(whole: &mut Value, given: Value) {
    const REPLACED_WHOLE: [&str; 2] = ["RuntimeEnvironmentVariables", "RuntimeEnvironmentSecrets"];
    match (whole, given) {
        (Value::Object(whole), Value::Object(given)) => {
            for (name, value) in given {
                match whole.get_mut(&name) {
                    Some(old) if !REPLACED_WHOLE.contains(&name.as_str()) => merge(old, value),
                    _ => {
                        whole.insert(name, value);
                    }
                }
            }
        }
        (whole, given) => *whole = given,
    }
}

/// `1 vCPU` and `2 GB` as the numbers that App Runner answers with: 1024 to the unit.
fn units(text: &str, unit: &str) -> String {
    let Some(amount) = text.strip_suffix(unit) else {
        return text.trim().to_owned();
    };
    match amount.trim().parse::<f64>() {
        Ok(amount) => format!("{}", (amount * 1024.0).round()),
        Err(_) => text.to_owned(),
    }
}

fn number(text: Option<&str>, member: &str, min: f64, min_text: &str) -> Result<f64, ApiError> {
    let text = text.unwrap_or_default();
    match text.parse::<f64>() {
        Ok(number) if number >= min && number.is_finite() => Ok(number),
        Ok(_) | Err(_) => Err(ApiError::invalid_request(format!(
            "{member} must be a number of at least {min_text}, not `{text}`."
        ))),
    }
}

fn port(text: Option<&str>) -> Result<u16, ApiError> {
    let text = text.unwrap_or(PORT_DEFAULT);
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) | Err(_) => Err(ApiError::invalid_request(format!(
            "Port must be a number from 1 to 65535, not `{text}`."
        ))),
    }
}

fn words(command: Option<&str>) -> Result<Vec<String>, ApiError> {
    let Some(command) = command else {
        return Ok(Vec::new());
    };
    shell_words::split(command).map_err(|_| {
        ApiError::invalid_request("StartCommand has a quote that is not closed.".to_owned())
    })
}

fn path(path: Option<&str>) -> Result<String, ApiError> {
    let path = path.unwrap_or("/");
    let fits = |byte: u8| byte.is_ascii_graphic();
    match path.starts_with('/') && path.bytes().all(fits) {
        true => Ok(path.to_owned()),
        false => Err(ApiError::invalid_request(format!(
            "Path of the health check must begin with `/` and have no spaces, not `{path}`."
        ))),
    }
}

pub(super) fn check_env(env: &BTreeMap<String, String>) -> Result<(), ApiError> {
    for (name, value) in env {
        if ENV_RESERVED.contains(&name.as_str()) || name.starts_with(ENV_RESERVED_PREFIX) {
            return Err(ApiError::invalid_request(format!(
                "Environment variable {name} is reserved; choose another name."
            )));
        }
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(ApiError::invalid_request(format!(
                "Environment variable `{}` cannot be set: a name must not be empty or have `=`, \
                 and neither name nor value can have a NUL.",
                name.escape_default()
            )));
        }
    }
    Ok(())
}
