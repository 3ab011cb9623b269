//! `ekiden deploy`: an image or source code becomes a service, or the next revision of one.
//!
//! Code is a folder of this machine ([`folder`], [`upload`]) or a git remote. How it is built is said
//! by files in it; what flags say about that goes into the copy of a folder's `ekiden.yaml` that is
//! uploaded.

mod folder;
mod source;
mod upload;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ekiden_aws::apprunner::shapes::{
    AutoScalingConfiguration, CreateAutoScalingConfigurationRequest,
    CreateAutoScalingConfigurationResponse, CreateServiceRequest, CreateServiceResponse,
    DescribeAutoScalingConfigurationRequest, DescribeAutoScalingConfigurationResponse,
    HealthCheckConfiguration, InstanceConfiguration, Service, SourceConfiguration,
    StartDeploymentRequest, StartDeploymentResponse, UpdateServiceRequest, UpdateServiceResponse,
};
use ekiden_build::ekiden_yaml::ServiceOptions;
use ekiden_model::name::ServiceName;

use self::{folder::SourceFolder, source::Origin};
use crate::{
    api::Api,
    connection,
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
    /// The folder whose source is built and deployed [default: this folder]. With `--git` only the
    /// `service` of its ekiden.yaml is read
    #[arg(value_name = "FOLDER", conflicts_with = "image")]
    pub folder: Option<PathBuf>,

    /// An image instead: `docker.io/library/nginx:1`, or `localhost/name:tag` for one that was imported
    #[arg(long, value_name = "REF", conflicts_with = "git")]
    pub image: Option<String>,

    /// A git remote instead, by HTTPS or SSH
    #[arg(long, value_name = "URL", requires = "branch")]
    pub git: Option<String>,

    /// What of the git remote: a branch, a tag or a commit
    #[arg(
        long,
        value_name = "BRANCH",
        requires = "git",
        conflicts_with = "image"
    )]
    pub branch: Option<String>,

    /// The directory of the git remote that is built [default: its root]
    #[arg(long, value_name = "DIR", requires = "git", conflicts_with = "image")]
    pub source_directory: Option<String>,

    /// The connection that opens the git remote; public ones need none
    #[arg(
        long,
        value_name = "NAME|ARN",
        requires = "git",
        conflicts_with = "image"
    )]
    pub connection: Option<String>,

    /// What decides how a folder is built; `auto` takes its apprunner.yaml, else its Dockerfile, else
    /// what it is made of [default: auto]
    #[arg(long, value_name = "METHOD", conflicts_with = "image")]
    pub build_with: Option<BuildWith>,

    /// The Dockerfile of a folder [default: Dockerfile]
    #[arg(long, value_name = "PATH", conflicts_with = "image")]
    pub dockerfile: Option<String>,

    /// The stage of the Dockerfile [default: its last]
    #[arg(long, value_name = "STAGE", conflicts_with = "image")]
    pub target: Option<String>,

    /// A build argument of the Dockerfile; may be given several times
    #[arg(long = "build-arg", value_name = "KEY=VALUE", value_parser = key_and_value, conflicts_with = "image")]
    pub build_args: Vec<(String, String)>,

    /// The command that builds a folder, instead of the detected one
    #[arg(long, value_name = "COMMAND", conflicts_with = "image")]
    pub build_command: Option<String>,

    /// The service [default: as ekiden.yaml says, else after the folder, the git remote or the image]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// The port the application listens on [default: as its source says, else 8080]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
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

    /// The command to run, instead of the image's own or the detected one
    #[arg(long, value_name = "COMMAND")]
    pub start_command: Option<String>,

    /// The role to fetch the image with, for names of AWS's private registry: they need one
    #[arg(long, value_name = "ARN", requires = "image", conflicts_with_all = ["folder", "git"])]
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

    /// Deploy by itself whenever the image's tag or the git branch is pushed; `--auto-deploy=false` ends
    /// that [default: false]
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

/// What decides how a folder is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BuildWith {
    /// The first of the others that there is.
    Auto,
    /// App Runner's file.
    #[value(name = "apprunner.yaml")]
    AppRunnerYaml,
    /// A Dockerfile.
    Dockerfile,
    /// What the folder is made of.
    Detect,
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
        let origin = self.origin()?;
        let mut folder = match (&origin, &self.folder) {
            (Origin::Folder(path), _) | (Origin::Git { .. }, Some(path)) => {
                Some(SourceFolder::read(path)?)
            }
            (Origin::Image(_) | Origin::Git { .. }, _) => None,
        };
        let mut wanted = self.clone();
        if let Some(folder) = &folder {
            wanted.fill(&folder.file().service);
        }
        if let (Origin::Folder(_), Some(folder)) = (&origin, &folder) {
            wanted.ask(folder)?;
        }
        let name = wanted.service_name(&origin)?;
        let mut progress = Progress::new();
        let accepted = wanted
            .deploy(api, &name, &origin, folder.as_mut(), &mut progress)
            .await?;
        progress.done(&format!("{} {name} ({origin})", accepted.what));
        let (arn, operation) = (&accepted.arn, &accepted.operation);
        match (self.no_wait, &origin) {
            (true, _) => {}
            (false, Origin::Image(_)) => {
                operation::wait(api, arn, operation, &mut progress).await?;
            }
            (false, Origin::Folder(_) | Origin::Git { .. }) => {
                operation::wait_with_build(api, arn, operation, &mut progress).await?;
            }
        }
        if let (Origin::Folder(_), Some(folder)) = (&origin, &folder) {
            wanted.keep(folder, &name, &mut progress);
        }
        drop(progress);
        let service = api.service(arn).await?;
        match (format, self.no_wait) {
            (OutputFormat::Json, _) => Ok(print(format, &service, |_| String::new())?),
            (OutputFormat::Text, true) => Ok(print_line(operation)?),
            (OutputFormat::Text, false) => Ok(print_line(
                &service
                    .service_url
                    .map_or_else(|| format!("{name} serves"), |host| api.service_url(&host)),
            )?),
        }
    }

    /// What is deployed, once it is where the server finds it, and asked for.
    async fn deploy(
        &self,
        api: &Api,
        name: &str,
        origin: &Origin,
        folder: Option<&mut SourceFolder>,
        progress: &mut Progress,
    ) -> Result<Accepted, Failure> {
        let found = api.find(name).await?;
        let now = match found.and_then(|service| service.service_arn) {
            Some(arn) => Some(api.service(&arn).await?),
            None => None,
        };
        let before = now
            .as_ref()
            .and_then(|now| now.source_configuration.as_ref());
        source::check_kind(name, origin, before)?;
        let source = match (origin, folder) {
            (Origin::Folder(_), Some(folder)) => {
                let file = self.file_to_upload(folder, name)?;
                let version = upload::upload(api, name, folder, file, progress).await?;
                source::of_upload(name, &version, before)
            }
            (Origin::Git { url, branch }, _) => {
                let connection = match &self.connection {
                    Some(connection) => Some(connection::arn(api, connection).await?),
                    None => None,
                };
                self.source_of_git(url, branch, connection, before)
            }
            (Origin::Image(image), _) => self.source_of_image(image, before),
            (Origin::Folder(_), None) => return Err(Failure::new("there is no folder")),
        };
        match now {
            None => self.create(api, name, source).await,
            Some(now) => self.update(api, name, &now, source).await,
        }
    }

    async fn create(
        &self,
        api: &Api,
        name: &str,
        source: SourceConfiguration,
    ) -> Result<Accepted, Failure> {
        let request = CreateServiceRequest {
            service_name: Some(name.to_owned()),
            source_configuration: Some(source),
            instance_configuration: self.instance(None),
            health_check_configuration: self.health(None),
            auto_scaling_configuration_arn: self.scaling(api, name, None).await?,
            ..CreateServiceRequest::default()
        };
        let response: CreateServiceResponse = api.call("CreateService", &request).await?;
        let arn = response.service.and_then(|service| service.service_arn);
        accepted("creating", arn, response.operation_id)
    }

    async fn update(
        &self,
        api: &Api,
        name: &str,
        now: &Service,
        source: SourceConfiguration,
    ) -> Result<Accepted, Failure> {
        let arn = now.service_arn.clone().unwrap_or_default();
        let scaling = now
            .auto_scaling_configuration_summary
            .as_ref()
            .and_then(|summary| summary.auto_scaling_configuration_arn.clone());
        let request = UpdateServiceRequest {
            service_arn: Some(arn.clone()),
            source_configuration: Some(source),
            instance_configuration: self.instance(now.instance_configuration.as_ref()),
            health_check_configuration: self.health(now.health_check_configuration.as_ref()),
            auto_scaling_configuration_arn: self.scaling(api, name, scaling).await?,
            ..UpdateServiceRequest::default()
        };
        // A service that never ran takes an update, and no deployment.
        let has_run = now.status.as_deref() != Some("CREATE_FAILED");
        if has_run
            && request.source_configuration == now.source_configuration
            && request.instance_configuration.is_none()
            && request.health_check_configuration.is_none()
            && request.auto_scaling_configuration_arn.is_none()
        {
            return redeploy(api, &arn).await;
        }
        let response: UpdateServiceResponse = api.call("UpdateService", &request).await?;
        accepted("updating", Some(arn), response.operation_id)
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

    fn service_name(&self, origin: &Origin) -> Result<String, Failure> {
        let name = self.name.clone().unwrap_or_else(|| origin.service_name());
        match name.parse::<ServiceName>() {
            Ok(_) => Ok(name),
            Err(error) => Err(Failure::from(error).hint("give one with `--name`")),
        }
    }

    /// What a folder's file says of its service counts where no flag says otherwise. The port and the
    /// variables are the build's, which reads the file itself.
    fn fill(&mut self, file: &ServiceOptions) {
        let text = |given: &mut Option<String>, file: &Option<String>| {
            *given = given.take().or_else(|| file.clone());
        };
        text(&mut self.name, &file.name);
        text(&mut self.cpu, &file.cpu);
        text(&mut self.memory, &file.memory);
        text(&mut self.health_path, &file.health_path);
        self.min = self.min.or(file.min);
        self.max = self.max.or(file.max);
        self.concurrency = self.concurrency.or(file.concurrency);
        self.auto_deploy = self.auto_deploy.or(file.auto_deploy);
    }

    /// Nothing when it is so already.
    fn instance(&self, now: Option<&InstanceConfiguration>) -> Option<InstanceConfiguration> {
        let same = |wanted: &Option<String>, now: Option<&String>| {
            let Some(wanted) = wanted else { return true };
            now.is_some_and(|now| now == wanted || thousandths(now) == thousandths(wanted))
        };
        let cpu = now.and_then(|now| now.cpu.as_ref());
        let memory = now.and_then(|now| now.memory.as_ref());
        let given = !same(&self.cpu, cpu) || !same(&self.memory, memory);
        given.then(|| {
            let now = now.cloned().unwrap_or_default();
            InstanceConfiguration {
                cpu: self.cpu.clone().or(now.cpu),
                memory: self.memory.clone().or(now.memory),
                ..now
            }
        })
    }

    /// Nothing when it is so already.
    fn health(&self, now: Option<&HealthCheckConfiguration>) -> Option<HealthCheckConfiguration> {
        let wanted = HealthCheckConfiguration {
            protocol: Some("HTTP".to_owned()),
            path: Some(self.health_path.clone()?),
            ..now.cloned().unwrap_or_default()
        };
        (Some(&wanted) != now).then_some(wanted)
    }
}

/// `1 vCPU` as 1024 and `2 GB` as 2048: App Runner takes both and answers with the latter.
fn thousandths(text: &str) -> Option<u64> {
    let unit = |text: &str| {
        text.strip_suffix("vCPU")
            .or(text.strip_suffix("GB"))
            .map(str::len)
    };
    match unit(text) {
        Some(length) => {
            let number: f64 = text[..length].trim().parse().ok()?;
            Some((number * 1024.0).round() as u64)
        }
        None => text.trim().parse().ok(),
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

    pub(super) fn deploy() -> Deploy {
        Deploy {
            folder: None,
            image: None,
            git: None,
            branch: None,
            source_directory: None,
            connection: None,
            build_with: None,
            dockerfile: None,
            target: None,
            build_args: Vec::new(),
            build_command: None,
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
    fn a_name_is_one_that_a_service_can_have() {
        let name = |image: &str| deploy().service_name(&Origin::Image(image.to_owned()));
        assert_eq!(name("localhost/hello:2").unwrap(), "hello");
        assert!(name("web").is_err(), "three letters are too few");
    }

    #[test]
    fn flags_go_over_the_folders_file() {
        let mut deploy = deploy();
        deploy.memory = Some("4 GB".into());
        deploy.fill(&ServiceOptions {
            name: Some("shop".into()),
            memory: Some("2 GB".into()),
            max: Some(3),
            ..ServiceOptions::default()
        });
        assert_eq!(deploy.name.as_deref(), Some("shop"));
        assert_eq!(deploy.memory.as_deref(), Some("4 GB"));
        assert_eq!(deploy.max, Some(3));
    }

    #[test]
    fn what_is_so_already_is_not_asked_for() {
        let mut deploy = deploy();
        deploy.cpu = Some("0.5 vCPU".into());
        deploy.memory = Some("2 GB".into());
        deploy.health_path = Some("/health".into());
        let now = InstanceConfiguration {
            cpu: Some("512".into()),
            memory: Some("2048".into()),
            ..InstanceConfiguration::default()
        };
        assert!(deploy.instance(Some(&now)).is_none());
        let health = deploy.health(None);
        assert!(health.is_some() && deploy.health(health.as_ref()).is_none());
        deploy.memory = Some("4 GB".into());
        let wanted = deploy.instance(Some(&now)).unwrap();
        assert_eq!(wanted.memory.as_deref(), Some("4 GB"));
    }

    #[test]
    fn what_builds_a_git_remote_is_in_its_files() {
        let mut deploy = deploy();
        deploy.git = Some("https://git.example/shop.git".into());
        deploy.branch = Some("main".into());
        let origin = deploy.origin().unwrap();
        let Origin::Git { url, branch } = &origin else {
            panic!("{origin} is no remote");
        };
        let source = deploy.source_of_git(url, branch, None, None);
        let code = source.code_repository.as_ref().unwrap();
        assert_eq!(code.source_directory.as_deref(), Some("/"));
        assert_eq!(source.auto_deployments_enabled, Some(false));
        deploy.source_directory = Some("web".into());
        let changed = deploy.source_of_git(url, branch, Some("arn".into()), Some(&source));
        let directory = changed.code_repository.unwrap().source_directory;
        assert_eq!(directory.as_deref(), Some("web"));
        deploy.build_command = Some("make".into());
        let failure = deploy.origin().unwrap_err();
        assert!(failure.hint.unwrap().contains("`build.command`"));
    }

    #[test]
    fn what_is_not_given_stays_as_it_is() {
        let mut first = deploy();
        first.port = Some(9000);
        first.environment = vec![("A".into(), "1".into()), ("B".into(), "2".into())];
        let created = first.source_of_image("localhost/hello:1", None);
        let mut second = deploy();
        second.environment = vec![("B".into(), "3".into())];
        let updated = second.source_of_image("localhost/hello:2", Some(&created));
        let updated = updated.image_repository.unwrap();
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
        let mut third = deploy();
        third.secrets = vec![("B".into(), "/hello/b".into())];
        let updated = third.source_of_image("localhost/hello:3", Some(&created));
        let updated = updated.image_repository.unwrap();
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
        let mut deploy = deploy();
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
