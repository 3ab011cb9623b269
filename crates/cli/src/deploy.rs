//! `ekiden deploy`: an image becomes a service, or the next revision of one.

use std::collections::BTreeMap;

use clap::Args;
use ekiden_aws::apprunner::shapes::{
    AutoScalingConfiguration, CreateAutoScalingConfigurationRequest,
    CreateAutoScalingConfigurationResponse, CreateServiceRequest, CreateServiceResponse,
    DescribeAutoScalingConfigurationRequest, DescribeAutoScalingConfigurationResponse,
    HealthCheckConfiguration, ImageConfiguration, ImageRepository, InstanceConfiguration,
    SourceConfiguration, StartDeploymentRequest, StartDeploymentResponse, UpdateServiceRequest,
    UpdateServiceResponse,
};

use crate::{
    api::Api,
    failure::{Failure, Outcome},
    operation,
    output::{OutputFormat, print, print_line},
    progress::Progress,
};

/// Characters of an auto scaling configuration's name; a service's may have more.
const SCALING_NAME_MAX: usize = 32;

/// What to deploy. Of a service that exists, what is not given stays as it is.
#[derive(Debug, Clone, Args)]
pub struct Deploy {
    /// The image: `docker.io/library/nginx:1`, or `localhost/name:tag` for one that was imported
    #[arg(long, value_name = "REF")]
    pub image: String,

    /// The service [default: the last part of the image's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// The port the application listens on [default: 8080]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,

    /// An environment variable; may be given several times
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub environment: Vec<(String, String)>,

    /// A variable whose value is a secret: the secret's ARN, or a parameter's ARN or name; may be given
    /// several times
    #[arg(long = "secret", value_name = "KEY=REFERENCE", value_parser = key_and_value)]
    pub secrets: Vec<(String, String)>,

    /// CPU of one instance: `256`, `1 vCPU` [default: 1 vCPU]
    #[arg(long, value_name = "CPU")]
    pub cpu: Option<String>,

    /// Memory of one instance: `512`, `2 GB` [default: 2 GB]
    #[arg(long, value_name = "MEMORY")]
    pub memory: Option<String>,

    /// Check health with a GET of this path; without, a connection is enough
    #[arg(long, value_name = "PATH")]
    pub health_path: Option<String>,

    /// The command to run, instead of the image's own
    #[arg(long, value_name = "COMMAND")]
    pub start_command: Option<String>,

    /// The role to fetch the image with, for names of AWS's private registry: they need one
    #[arg(long, value_name = "ARN")]
    pub access_role: Option<String>,

    /// Instances that always run [default: 1]
    #[arg(long, value_name = "COUNT")]
    pub min: Option<u32>,

    /// Instances at most [default: 25]
    #[arg(long, value_name = "COUNT")]
    pub max: Option<u32>,

    /// Requests that one instance holds at once [default: 100]
    #[arg(long, value_name = "COUNT")]
    pub concurrency: Option<u32>,

    /// Deploy by itself whenever the image's tag is pushed; `--auto-deploy=false` ends that [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub auto_deploy: Option<bool>,

    /// Do not wait until it serves
    #[arg(long)]
    pub no_wait: bool,
}

/// An operation that was accepted.
struct Accepted {
    arn: String,
    operation: String,
    what: &'static str,
}

impl Deploy {
    /// Creates or updates the service, and waits until it serves.
    ///
    /// # Errors
    /// The request was refused, or the deployment failed; then nothing that served was touched.
    pub async fn run(&self, api: &Api, format: OutputFormat) -> Outcome {
        let name = self.service_name()?;
        let mut progress = Progress::new();
        let accepted = match api
            .find(&name)
            .await?
            .and_then(|service| service.service_arn)
        {
            None => self.create(api, &name).await?,
            Some(arn) => self.update(api, &name, &arn).await?,
        };
        progress.done(&format!("{} {name} ({})", accepted.what, self.image));
        if !self.no_wait {
            operation::wait(api, &accepted.arn, &accepted.operation, &mut progress).await?;
        }
        drop(progress);
        let service = api.service(&accepted.arn).await?;
        match (format, self.no_wait) {
            (OutputFormat::Json, _) => Ok(print(format, &service, |_| String::new())?),
            (OutputFormat::Text, true) => Ok(print_line(&accepted.operation)?),
            (OutputFormat::Text, false) => Ok(print_line(
                &service
                    .service_url
                    .map_or_else(|| format!("{name} serves"), |host| api.service_url(&host)),
            )?),
        }
    }

    async fn create(&self, api: &Api, name: &str) -> Result<Accepted, Failure> {
        let request = CreateServiceRequest {
            service_name: Some(name.to_owned()),
            source_configuration: Some(self.source(None)),
            instance_configuration: self.instance(None),
            health_check_configuration: self.health(None),
            auto_scaling_configuration_arn: self.scaling(api, name, None).await?,
            ..CreateServiceRequest::default()
        };
        let response: CreateServiceResponse = api.call("CreateService", &request).await?;
        let arn = response.service.and_then(|service| service.service_arn);
        accepted("creating", arn, response.operation_id)
    }

    async fn update(&self, api: &Api, name: &str, arn: &str) -> Result<Accepted, Failure> {
        let now = api.service(arn).await?;
        let scaling = now
            .auto_scaling_configuration_summary
            .as_ref()
            .and_then(|summary| summary.auto_scaling_configuration_arn.clone());
        let request = UpdateServiceRequest {
            service_arn: Some(arn.to_owned()),
            source_configuration: Some(self.source(now.source_configuration.as_ref())),
            instance_configuration: self.instance(now.instance_configuration.as_ref()),
            health_check_configuration: self.health(now.health_check_configuration.as_ref()),
            auto_scaling_configuration_arn: self.scaling(api, name, scaling).await?,
            ..UpdateServiceRequest::default()
        };
        if request.source_configuration == now.source_configuration
            && request.instance_configuration.is_none()
            && request.health_check_configuration.is_none()
            && request.auto_scaling_configuration_arn.is_none()
        {
            return redeploy(api, arn).await;
        }
        let response: UpdateServiceResponse = api.call("UpdateService", &request).await?;
        accepted("updating", Some(arn.to_owned()), response.operation_id)
    }

    /// A configuration with the numbers that were given, over those of the one in use; made under
    /// the service's name, unless the one in use has them already.
    async fn scaling(
        &self,
        api: &Api,
        name: &str,
        now: Option<String>,
    ) -> Result<Option<String>, Failure> {
        if self.min.is_none() && self.max.is_none() && self.concurrency.is_none() {
            return Ok(None);
        }
        let now = match now {
            Some(arn) => {
                let request = DescribeAutoScalingConfigurationRequest {
                    auto_scaling_configuration_arn: Some(arn),
                };
                let response: DescribeAutoScalingConfigurationResponse = api
                    .call("DescribeAutoScalingConfiguration", &request)
                    .await?;
                response.auto_scaling_configuration.unwrap_or_default()
            }
            None => AutoScalingConfiguration::default(),
        };
        let wanted = self.scaling_wanted(name, &now);
        if (wanted.min_size, wanted.max_size, wanted.max_concurrency)
            == (now.min_size, now.max_size, now.max_concurrency)
        {
            return Ok(None);
        }
        let made: CreateAutoScalingConfigurationResponse =
            api.call("CreateAutoScalingConfiguration", &wanted).await?;
        let made = made.auto_scaling_configuration.unwrap_or_default();
        Ok(made.auto_scaling_configuration_arn)
    }

    fn scaling_wanted(
        &self,
        name: &str,
        now: &AutoScalingConfiguration,
    ) -> CreateAutoScalingConfigurationRequest {
        let number = |given: Option<u32>| given.map(u32::cast_signed);
        CreateAutoScalingConfigurationRequest {
            auto_scaling_configuration_name: Some(name.chars().take(SCALING_NAME_MAX).collect()),
            min_size: number(self.min).or(now.min_size),
            max_size: number(self.max).or(now.max_size),
            max_concurrency: number(self.concurrency).or(now.max_concurrency),
            ..CreateAutoScalingConfigurationRequest::default()
        }
    }

    fn service_name(&self) -> Result<String, Failure> {
        let name = self
            .name
            .clone()
            .unwrap_or_else(|| last_part(&self.image).to_owned());
        match name.len() {
            4..=40 => Ok(name),
            _ => Err(Failure::new(format!(
                "`{name}` cannot name a service: 4 to 40 characters"
            ))
            .hint("give one with `--name`")),
        }
    }

    fn source(&self, now: Option<&SourceConfiguration>) -> SourceConfiguration {
        let mut source = now.cloned().unwrap_or_default();
        let image = source
            .image_repository
            .get_or_insert_with(ImageRepository::default);
        image.image_identifier = Some(self.image.clone());
        image
            .image_repository_type
            .get_or_insert_with(|| "ECR".to_owned());
        let how = image
            .image_configuration
            .get_or_insert_with(ImageConfiguration::default);
        if let Some(port) = self.port {
            how.port = Some(port.to_string());
        }
        if let Some(command) = &self.start_command {
            how.start_command = Some(command.clone());
        }
        if !self.environment.is_empty() {
            let variables = how
                .runtime_environment_variables
                .get_or_insert_with(BTreeMap::new);
            variables.extend(self.environment.iter().cloned());
        }
        if !self.secrets.is_empty() {
            let secrets = how
                .runtime_environment_secrets
                .get_or_insert_with(BTreeMap::new);
            secrets.extend(self.secrets.iter().cloned());
        }
        // A variable is one or the other: what is given now takes the place of what there was.
        forget(&mut how.runtime_environment_variables, &self.secrets);
        forget(&mut how.runtime_environment_secrets, &self.environment);
        let before = source.auto_deployments_enabled;
        source.auto_deployments_enabled = Some(self.auto_deploy.or(before).unwrap_or(false));
        if let Some(role) = &self.access_role {
            let authentication = source.authentication_configuration.get_or_insert_default();
            authentication.access_role_arn = Some(role.clone());
        }
        source
    }

    fn instance(&self, now: Option<&InstanceConfiguration>) -> Option<InstanceConfiguration> {
        let given = self.cpu.is_some() || self.memory.is_some();
        given.then(|| {
            let now = now.cloned().unwrap_or_default();
            InstanceConfiguration {
                cpu: self.cpu.clone().or(now.cpu),
                memory: self.memory.clone().or(now.memory),
                ..now
            }
        })
    }

    fn health(&self, now: Option<&HealthCheckConfiguration>) -> Option<HealthCheckConfiguration> {
        self.health_path
            .as_ref()
            .map(|path| HealthCheckConfiguration {
                protocol: Some("HTTP".to_owned()),
                path: Some(path.clone()),
                ..now.cloned().unwrap_or_default()
            })
    }
}

fn forget(names: &mut Option<BTreeMap<String, String>>, given: &[(String, String)]) {
    if let Some(names) = names {
        names.retain(|name, _| !given.iter().any(|(other, _)| other == name));
    }
}

async fn redeploy(api: &Api, arn: &str) -> Result<Accepted, Failure> {
    let request = StartDeploymentRequest {
        service_arn: Some(arn.to_owned()),
    };
    let response: StartDeploymentResponse = api.call("StartDeployment", &request).await?;
    accepted(
        "deploying anew",
        Some(arn.to_owned()),
        response.operation_id,
    )
}

fn accepted(
    what: &'static str,
    arn: Option<String>,
    operation: Option<String>,
) -> Result<Accepted, Failure> {
    match (arn, operation) {
        (Some(arn), Some(operation)) => Ok(Accepted {
            arn,
            operation,
            what,
        }),
        _ => Err(Failure::new("the endpoint answered without an operation")),
    }
}

/// `web` of `registry.example:5000/team/web:1@sha256:…`.
fn last_part(image: &str) -> &str {
    let path = image.split('@').next().unwrap_or(image);
    let last = path.rsplit('/').next().unwrap_or(path);
    last.split(':').next().unwrap_or(last)
}

/// `KEY=VALUE`; the value may be empty and may hold more of `=`.
fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected `KEY=VALUE`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deploy(image: &str) -> Deploy {
        Deploy {
            image: image.to_owned(),
            name: None,
            port: None,
            environment: Vec::new(),
            secrets: Vec::new(),
            cpu: None,
            memory: None,
            health_path: None,
            start_command: None,
            access_role: None,
            min: None,
            max: None,
            concurrency: None,
            auto_deploy: None,
            no_wait: false,
        }
    }

    #[test]
    fn a_service_is_called_like_its_image() {
        for image in [
            "hello",
            "localhost/hello:2",
            "r.example:5000/a/hello@sha256:00",
            "r:1/hello:2@sha256:0",
        ] {
            assert_eq!(deploy(image).service_name().unwrap(), "hello", "{image}");
        }
        assert!(
            deploy("web").service_name().is_err(),
            "three letters are too few"
        );
    }

    #[test]
    fn what_is_not_given_stays_as_it_is() {
        let mut first = deploy("localhost/hello:1");
        first.port = Some(9000);
        first.environment = vec![("A".into(), "1".into()), ("B".into(), "2".into())];
        let created = first.source(None);
        let mut second = deploy("localhost/hello:2");
        second.environment = vec![("B".into(), "3".into())];
        let updated = second.source(Some(&created)).image_repository.unwrap();
        let how = updated.image_configuration.unwrap();
        assert_eq!(
            updated.image_identifier.as_deref(),
            Some("localhost/hello:2")
        );
        assert_eq!(how.port.as_deref(), Some("9000"));
        let variables = how.runtime_environment_variables.unwrap();
        assert_eq!(
            (variables["A"].as_str(), variables["B"].as_str()),
            ("1", "3")
        );
        let mut third = deploy("localhost/hello:3");
        third.secrets = vec![("B".into(), "/hello/b".into())];
        let updated = third.source(Some(&created)).image_repository.unwrap();
        let how = updated.image_configuration.unwrap();
        let secrets = how.runtime_environment_secrets.unwrap();
        assert_eq!(secrets["B"], "/hello/b");
        let variables = how.runtime_environment_variables.unwrap();
        assert_eq!(
            variables.keys().collect::<Vec<_>>(),
            ["A"],
            "B is a secret now"
        );
        assert!(second.instance(None).is_none());
    }

    #[test]
    fn numbers_to_scale_by_go_over_those_in_use() {
        let mut deploy = deploy("localhost/hello:1");
        deploy.max = Some(7);
        let now = AutoScalingConfiguration {
            min_size: Some(2),
            max_size: Some(5),
            max_concurrency: Some(80),
            ..AutoScalingConfiguration::default()
        };
        let wanted = deploy.scaling_wanted(&"a".repeat(40), &now);
        assert_eq!(
            (wanted.min_size, wanted.max_size, wanted.max_concurrency),
            (Some(2), Some(7), Some(80))
        );
        let name = wanted.auto_scaling_configuration_name.unwrap();
        assert_eq!(name.len(), SCALING_NAME_MAX);
    }
}
