//! What a service was configured to be, in the API's words, and what that means.
//!
//! The words are kept as they were given, because answers echo exactly what was configured; only
//! CPU and memory are normalised to numbers (specification, section 3.4). The meaning is
//! [`Settings`], made from the words once, when they are accepted.

use std::{collections::BTreeMap, time::Duration};

use ekiden_aws::{
    apprunner::shapes::{
        CodeConfigurationValues, CodeRepository, CreateServiceRequest, EgressConfiguration,
        EncryptionConfiguration, HealthCheckConfiguration, ImageConfiguration,
        InstanceConfiguration, NetworkConfiguration, ServiceObservabilityConfiguration,
        SourceConfiguration, UpdateServiceRequest,
    },
    error::ApiError,
};
use ekiden_model::{
    health::{HealthCheck, HealthProtocol},
    image::{ImageReference, LOCAL_REGISTRY},
    instance::UserNamespace,
    revision::{ENV_RESERVED, Exposure, Scaling, Settings},
    service::{Change, ServiceStatus},
    source::{CodeSource, CodeValues},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::installation::Installation;

/// App Runner's default port.
const PORT_DEFAULT: &str = "8080";

/// App Runner's default CPU, in its units: 1024 are one CPU.
const CPU_DEFAULT: &str = "1024";

/// App Runner's default memory, in MiB.
const MEMORY_DEFAULT: &str = "2048";

/// App Runner's default directory within a repository.
const SOURCE_DIRECTORY_DEFAULT: &str = "/";

/// A code service's configuration is in its repository.
pub(super) const REPOSITORY: &str = "REPOSITORY";

/// A code service's configuration is given with its requests.
pub(super) const API: &str = "API";

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
    /// Not of the API's words, and never shown.
    #[serde(default, skip_serializing_if = "Follows::is_nothing")]
    pub(crate) follows: Follows,
}

/// Names without a revision that were given for configurations with revisions: the newest is looked
/// for again with every update (specification, section 5.1, UpdateService).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Follows {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auto_scaling: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observability: Option<String>,
}

impl Follows {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What of a source says how the application runs: the same for images and code.
#[derive(Default)]
pub(super) struct Application<'a> {
    port: Option<&'a str>,
    start_command: Option<&'a str>,
    pub(super) env: Option<&'a BTreeMap<String, String>>,
    pub(super) secrets: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Application<'a> {
    fn of_image(image: &'a ImageConfiguration) -> Self {
        Self {
            port: image.port.as_deref(),
            start_command: image.start_command.as_deref(),
            env: image.runtime_environment_variables.as_ref(),
            secrets: image.runtime_environment_secrets.as_ref(),
        }
    }

    fn of_code(values: &'a CodeConfigurationValues) -> Self {
        Self {
            port: values.port.as_deref(),
            start_command: values.start_command.as_deref(),
            env: values.runtime_environment_variables.as_ref(),
            secrets: values.runtime_environment_secrets.as_ref(),
        }
    }
}

impl Configuration {
    /// As a create request gives it.
    pub(crate) fn created(request: &CreateServiceRequest, account_id: &str) -> Self {
        let mut configuration = Self {
            source_configuration: request.source_configuration.clone().unwrap_or_default(),
            instance_configuration: request.instance_configuration.clone(),
            encryption_configuration: request.encryption_configuration.clone(),
            health_check_configuration: request.health_check_configuration.clone(),
            auto_scaling_configuration_arn: request.auto_scaling_configuration_arn.clone(),
            network_configuration: said_whole(request.network_configuration.as_ref()),
            observability_configuration: request.observability_configuration.clone(),
            follows: Follows::default(),
        };
        configuration.complete(account_id);
        configuration
    }

    /// As an update request changes it: a member that is given wins, member by member; maps of
    /// variables and secrets are replaced whole (specification, section 5.1, UpdateService). A
    /// choice that is given takes with it what belonged to the choice before: the connector of an
    /// egress that is `DEFAULT` now, the configuration of an observability that is switched off.
    ///
    /// # Errors
    /// When it would become code instead of image, or the registry of another kind.
    pub(crate) fn updated(
        &self,
        request: &UpdateServiceRequest,
        status: ServiceStatus,
        account_id: &str,
    ) -> Result<Self, ApiError> {
        self.check_kind(request, status)?;
        let mut whole = to_value(self)?;
        let mut given = to_value(&UpdateServiceRequest {
            network_configuration: said_whole(request.network_configuration.as_ref()),
            ..request.clone()
        })?;
        if let Some(given) = given.as_object_mut() {
            given.remove("ServiceArn");
        }
        merge(&mut whole, given);
        let mut configuration: Self = serde_json::from_value(whole).map_err(|error| {
            ApiError::internal_service_error(format!("a merged configuration: {error}"))
        })?;
        configuration.drop_what_lost_its_place(request);
        configuration.complete(account_id);
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
    pub(crate) fn change(
        &self,
        scaling: Scaling,
        installation: &Installation<'_>,
    ) -> Result<Change, ApiError> {
        let settings = self.settings(scaling, installation)?;
        let configuration = serde_json::to_string(self).map_err(|error| {
            ApiError::internal_service_error(format!("a configuration: {error}"))
        })?;
        Ok(Change {
            settings,
            configuration,
            returns_to: None,
        })
    }

    /// Normalises CPU and memory, and fills in what answers always have. A structure that was not
    /// given stays away: Terraform would want to remove it again, plan after plan.
    fn complete(&mut self, account_id: &str) {
        let instance = self.instance_configuration.get_or_insert_default();
        instance.cpu = Some(units(
            instance.cpu.as_deref().unwrap_or(CPU_DEFAULT),
            "vCPU",
        ));
        instance.memory = Some(units(
            instance.memory.as_deref().unwrap_or(MEMORY_DEFAULT),
            "GB",
        ));
        let port = || PORT_DEFAULT.to_owned();
        let source = &mut self.source_configuration;
        let image = source.image_repository.as_mut();
        if let Some(configuration) = image.and_then(|image| image.image_configuration.as_mut()) {
            configuration.port.get_or_insert_with(port);
        }
        if let Some(code) = &mut source.code_repository {
            code.source_directory
                .get_or_insert_with(|| SOURCE_DIRECTORY_DEFAULT.to_owned());
            let values = code
                .code_configuration
                .as_mut()
                .and_then(|code| code.code_configuration_values.as_mut());
            if let Some(values) = values {
                values.port.get_or_insert_with(port);
            }
        }
        let follows = self.repository_type() != Some("ECR_PUBLIC")
            && self.ecr_account().is_none_or(|other| other == account_id);
        self.source_configuration
            .auto_deployments_enabled
            .get_or_insert(follows);
    }

    fn drop_what_lost_its_place(&mut self, request: &UpdateServiceRequest) {
        let egress = request
            .network_configuration
            .as_ref()
            .and_then(|network| network.egress_configuration.as_ref());
        let goes_default = |egress: &EgressConfiguration| {
            egress.egress_type.as_deref() == Some("DEFAULT") && egress.vpc_connector_arn.is_none()
        };
        if egress.is_some_and(goes_default)
            && let Some(network) = &mut self.network_configuration
            && let Some(egress) = &mut network.egress_configuration
        {
            egress.vpc_connector_arn = None;
        }
        let observability = request.observability_configuration.as_ref();
        let goes_off = |observability: &ServiceObservabilityConfiguration| {
            observability.observability_enabled == Some(false)
                && observability.observability_configuration_arn.is_none()
        };
        if observability.is_some_and(goes_off)
            && let Some(observability) = &mut self.observability_configuration
        {
            observability.observability_configuration_arn = None;
            self.follows.observability = None;
        }
        let code = request
            .source_configuration
            .as_ref()
            .and_then(|source| source.code_repository.as_ref())
            .and_then(|code| code.code_configuration.as_ref());
        if code.is_some_and(|code| {
            code.configuration_source.as_deref() == Some(REPOSITORY)
                && code.code_configuration_values.is_none()
        }) && let Some(code) = &mut self.source_configuration.code_repository
            && let Some(code) = &mut code.code_configuration
        {
            code.code_configuration_values = None;
        }
    }

    pub(super) fn repository_type(&self) -> Option<&str> {
        self.source_configuration
            .image_repository
            .as_ref()?
            .image_repository_type
            .as_deref()
    }

    /// The account of an image that is in a private registry of AWS, by its name.
    pub(super) fn ecr_account(&self) -> Option<&str> {
        let image = self.source_configuration.image_repository.as_ref()?;
        if image.image_repository_type.as_deref() != Some("ECR") {
            return None;
        }
        let (account, rest) = image.image_identifier.as_deref()?.split_once('.')?;
        let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        (is_account && rest.starts_with("dkr.ecr.")).then_some(account)
    }

    /// Where its instances' own connections go.
    pub(super) fn egress(&self) -> Option<&EgressConfiguration> {
        let network = self.network_configuration.as_ref()?;
        network.egress_configuration.as_ref()
    }

    fn exposure(&self) -> Exposure {
        let network = self.network_configuration.as_ref();
        let ingress = network.and_then(|network| network.ingress_configuration.as_ref());
        match ingress.and_then(|ingress| ingress.is_publicly_accessible) {
            Some(false) => Exposure::Private,
            Some(true) | None => Exposure::Public,
        }
    }

    fn settings(
        &self,
        scaling: Scaling,
        installation: &Installation<'_>,
    ) -> Result<Settings, ApiError> {
        let application = self.application();
        let env = application.env.cloned().unwrap_or_default();
        check_env(&env)?;
        let (cpu_units, memory_mib) = self.size()?;
        let source = self.code_source(installation)?;
        Ok(Settings {
            image: match source {
                Some(_) => built_image()?,
                None => self.image(installation)?,
            },
            // A build makes it what its image runs, by a shell.
            start_command: match source {
                Some(_) => Vec::new(),
                None => words(application.start_command)?,
            },
            source,
            port: port(application.port)?,
            env,
            secrets: self.secret_references()?,
            cpu_millis: (cpu_units * 1000.0 / 1024.0).round() as u32,
            memory_bytes: (memory_mib * f64::from(1 << 20)) as u64,
            health: self.health()?,
            scaling,
            user_namespace: UserNamespace::Private,
            exposure: self.exposure(),
            observed: self
                .observability_configuration
                .as_ref()
                .is_some_and(|observability| observability.observability_enabled == Some(true)),
        })
    }

    /// CPU in units and memory in MiB.
    pub(super) fn size(&self) -> Result<(f64, f64), ApiError> {
        let instance = self.instance_configuration.as_ref();
        let cpu = instance.and_then(|instance| instance.cpu.as_deref());
        let memory = instance.and_then(|instance| instance.memory.as_deref());
        Ok((
            number(cpu, "Cpu", CPU_UNITS_MIN, "0.01 vCPU")?,
            number(memory, "Memory", MEMORY_MIB_MIN, "16 MiB")?,
        ))
    }

    /// The image that runs: of a service that runs code, the one that stands for its repository.
    fn image(&self, installation: &Installation<'_>) -> Result<ImageReference, ApiError> {
        let source = &self.source_configuration;
        if let Some(code) = &source.code_repository
            && let Some(image) = installation.prebuilt(url(code))
        {
            return Ok(image);
        }
        let image = source.image_repository.as_ref();
        let identifier = image.and_then(|image| image.image_identifier.as_deref());
        identifier
            .unwrap_or_default()
            .parse()
            .map_err(|error| ApiError::invalid_request(format!("ImageIdentifier: {error}.")))
    }

    /// The code that is built, if that is what runs.
    fn code_source(&self, installation: &Installation<'_>) -> Result<Option<CodeSource>, ApiError> {
        let source = &self.source_configuration;
        let Some(code) = &source.code_repository else {
            return Ok(None);
        };
        if installation.prebuilt(url(code)).is_some() {
            return Ok(None);
        }
        let version = code.source_code_version.as_ref();
        let authentication = source.authentication_configuration.as_ref();
        Ok(Some(CodeSource {
            url: url(code).to_owned(),
            version: version
                .and_then(|version| version.value.clone())
                .unwrap_or_default(),
            directory: source_directory(code.source_directory.as_deref())?,
            values: code_values(code).map(|values| CodeValues {
                runtime: values.runtime.clone().unwrap_or_default(),
                build_command: values.build_command.clone(),
                start_command: values.start_command.clone(),
            }),
            connection: authentication.and_then(|given| given.connection_arn.clone()),
        }))
    }

    /// How the application runs. A configuration that is in the repository is read when it is built:
    /// until then what is needed of it has its defaults.
    pub(super) fn application(&self) -> Application<'_> {
        let source = &self.source_configuration;
        let image = source
            .image_repository
            .as_ref()
            .and_then(|image| image.image_configuration.as_ref());
        match (&source.code_repository, image) {
            (Some(code), _) => code_values(code).map(Application::of_code),
            (None, image) => image.map(Application::of_image),
        }
        .unwrap_or_default()
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

/// A network configuration as its sender means it. `IsPubliclyAccessible` is a plain boolean in the
/// model: absent from a structure that is given it is false, and the SDKs for Go (so Terraform)
/// leave it out when it is.
fn said_whole(given: Option<&NetworkConfiguration>) -> Option<NetworkConfiguration> {
    let mut whole = given?.clone();
    if let Some(ingress) = &mut whole.ingress_configuration {
        ingress.is_publicly_accessible.get_or_insert(false);
    }
    Some(whole)
}

/// The values of a configuration that was given by the API.
fn code_values(code: &CodeRepository) -> Option<&CodeConfigurationValues> {
    let configuration = code.code_configuration.as_ref()?;
    let is_api = configuration.configuration_source.as_deref() == Some(API);
    configuration
        .code_configuration_values
        .as_ref()
        .filter(|_| is_api)
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

fn url(code: &CodeRepository) -> &str {
    code.repository_url.as_deref().unwrap_or_default()
}

/// What stands for the image of a service that runs code: it is asked for by digest only.
fn built_image() -> Result<ImageReference, ApiError> {
    format!("{LOCAL_REGISTRY}/built")
        .parse()
        .map_err(|error| ApiError::internal_service_error(format!("{error}")))
}

/// A directory of a repository, as it is given: `/` is the repository itself.
fn source_directory(given: Option<&str>) -> Result<String, ApiError> {
    let given = given.unwrap_or(SOURCE_DIRECTORY_DEFAULT);
    let names: Vec<&str> = given
        .split('/')
        .filter(|name| !matches!(*name, "" | "."))
        .collect();
    let is_bad = |name: &&str| *name == ".." || name.chars().any(char::is_control);
    match names.iter().any(is_bad) {
        true => Err(ApiError::invalid_request(format!(
            "SourceDirectory must be a directory of the repository, without `..`, not `{}`.",
            given.escape_default()
        ))),
        false => Ok(names.join("/")),
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
