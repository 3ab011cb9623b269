//! The life of one service through the Rust SDK, as its users write it: the default credential
//! chain, the SDK's own paginators, errors told apart by their classes.
//!
//! ```text
//! ekiden-rust-sdk NAME IMAGE OTHER_IMAGE
//! ```
//!
//! The endpoint and the key come from the environment, as `ekiden env` prints it.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_apprunner::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::RequestId,
    types::{
        ImageConfiguration, ImageRepository, ImageRepositoryType, InstanceConfiguration,
        OperationStatus, OperationSummary, OperationType, Service, ServiceStatus, ServiceSummary,
        SourceConfiguration, Tag,
    },
};

const POLL: Duration = Duration::from_millis(100);

/// Far more than any operation here takes; only so that a hanging run ends.
const POLLS_MAX: u32 = 1800;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, image, other_image] = arguments.as_slice() else {
        return Err("usage: ekiden-rust-sdk NAME IMAGE OTHER_IMAGE".into());
    };
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .load()
        .await;
    let life = Life {
        client: Client::new(&config),
        name,
    };

    let scaling = life.creates_a_scaling_configuration().await?;
    let created = life.creates(image, &scaling).await?;
    let arn = created.service_arn();
    life.comes_to_run(&created, &scaling).await?;
    life.tells_errors_apart(arn, image).await?;
    life.updates(arn, other_image).await?;
    life.deploys(arn).await?;
    life.pauses_and_resumes(arn).await?;
    life.paginates(arn).await?;
    life.deletes(arn, &scaling).await
}

struct Life<'a> {
    client: Client,
    name: &'a str,
}

impl Life<'_> {
    async fn creates_a_scaling_configuration(&self) -> Result<String, Failure> {
        let answer = self
            .client
            .create_auto_scaling_configuration()
            .auto_scaling_configuration_name(self.name)
            .min_size(1)
            .max_size(2)
            .tags(made_by())
            .send()
            .await?;
        let made = answer
            .auto_scaling_configuration()
            .ok_or("no configuration")?;
        // The live service answers in lower case, which is none of the model's values.
        assert_eq!(made.status().ok_or("no status")?.as_str(), "active");
        assert_eq!(made.auto_scaling_configuration_revision(), Some(1));
        println!("ok: create an auto scaling configuration");
        Ok(made
            .auto_scaling_configuration_arn()
            .ok_or("no ARN")?
            .to_owned())
    }

    async fn creates(&self, image: &str, scaling: &str) -> Result<Service, Failure> {
        let instance = InstanceConfiguration::builder()
            .cpu("1 vCPU")
            .memory("2 GB")
            .build();
        let answer = self
            .client
            .create_service()
            .service_name(self.name)
            .source_configuration(source(image)?)
            .instance_configuration(instance)
            .auto_scaling_configuration_arn(scaling)
            .tags(made_by())
            .send()
            .await?;
        assert_eq!(answer.operation_id().len(), 32);
        let service = answer.service.ok_or("no service")?;
        assert_eq!(service.status(), &ServiceStatus::OperationInProgress);
        let instance = service.instance_configuration().ok_or("no instance")?;
        assert_eq!(instance.cpu(), Some("1024"));
        println!("ok: create");
        Ok(service)
    }

    async fn comes_to_run(&self, created: &Service, scaling: &str) -> Result<(), Failure> {
        let service = self.settled(created.service_arn()).await?;
        assert_eq!(service.status(), &ServiceStatus::Running);
        assert_eq!(service.service_url(), created.service_url());
        assert_eq!(service.created_at(), created.created_at());
        let summary = service
            .auto_scaling_configuration_summary()
            .ok_or("no scaling")?;
        assert_eq!(summary.auto_scaling_configuration_arn(), Some(scaling));
        println!("ok: poll until it runs");
        Ok(())
    }

    async fn tells_errors_apart(&self, arn: &str, image: &str) -> Result<(), Failure> {
        let again = self.client.create_service().service_name(self.name);
        let again = again.source_configuration(source(image)?).send().await;
        let error = refused(again)?;
        assert!(error.is_invalid_request_exception(), "{error:?}");

        let (kind, _) = arn.rsplit_once('/').ok_or("not an ARN")?;
        let absent = format!("{kind}/{}", "0".repeat(32));
        let described = self.client.describe_service().service_arn(absent);
        let error = refused(described.send().await)?;
        assert!(error.is_resource_not_found_exception(), "{error:?}");
        println!("ok: errors by class");
        Ok(())
    }

    async fn updates(&self, arn: &str, image: &str) -> Result<(), Failure> {
        let update = self.client.update_service().service_arn(arn);
        let answer = update.source_configuration(source(image)?).send().await?;
        let service = answer.service().ok_or("no service")?;
        assert_eq!(service.status(), &ServiceStatus::OperationInProgress);
        let service = self.settled(arn).await?;
        assert_eq!(service.status(), &ServiceStatus::Running);
        let repository = service
            .source_configuration()
            .and_then(SourceConfiguration::image_repository)
            .ok_or("no image repository")?;
        assert_eq!(repository.image_identifier(), image);
        println!("ok: update");
        Ok(())
    }

    async fn deploys(&self, arn: &str) -> Result<(), Failure> {
        let answer = self.client.start_deployment().service_arn(arn);
        let answer = answer.send().await?;
        self.settled(arn).await?;
        let operations = self.operations(arn).await?;
        let newest = operations.first().ok_or("no operation")?;
        assert_eq!(newest.id(), Some(answer.operation_id()));
        assert_eq!(newest.status(), Some(&OperationStatus::Succeeded));
        println!("ok: start a deployment");
        Ok(())
    }

    async fn pauses_and_resumes(&self, arn: &str) -> Result<(), Failure> {
        self.client.pause_service().service_arn(arn).send().await?;
        let service = self.settled(arn).await?;
        assert_eq!(service.status(), &ServiceStatus::Paused);
        let again = self.client.pause_service().service_arn(arn).send().await?;
        assert_eq!(again.operation_id(), None);

        let more = InstanceConfiguration::builder().memory("3 GB").build();
        let update = self.client.update_service().service_arn(arn);
        let error = refused(update.instance_configuration(more).send().await)?;
        assert!(error.is_invalid_state_exception(), "{error:?}");

        self.client.resume_service().service_arn(arn).send().await?;
        let service = self.settled(arn).await?;
        assert_eq!(service.status(), &ServiceStatus::Running);
        println!("ok: pause and resume");
        Ok(())
    }

    async fn paginates(&self, arn: &str) -> Result<(), Failure> {
        let operations = self.operations(arn).await?;
        let kinds: Vec<_> = operations
            .iter()
            .filter_map(OperationSummary::r#type)
            .collect();
        let expected = [
            OperationType::ResumeService,
            OperationType::PauseService,
            OperationType::StartDeployment,
            OperationType::UpdateService,
            OperationType::CreateService,
        ];
        assert_eq!(kinds, expected.iter().collect::<Vec<_>>());
        let services = self.services().await?;
        assert!(services.iter().any(|one| one.service_arn() == Some(arn)));

        let mut names = self.scaling_configurations().await?;
        names.sort_unstable();
        let mut expected = ["DefaultConfiguration", self.name];
        expected.sort_unstable();
        assert_eq!(names, expected);
        println!("ok: paginate");
        Ok(())
    }

    async fn deletes(&self, arn: &str, scaling: &str) -> Result<(), Failure> {
        self.client.delete_service().service_arn(arn).send().await?;
        let service = self.settled(arn).await?;
        assert_eq!(service.status(), &ServiceStatus::Deleted);
        assert!(service.deleted_at().is_some());
        let services = self.services().await?;
        assert!(services.iter().all(|one| one.service_arn() != Some(arn)));
        let delete = self.client.delete_auto_scaling_configuration();
        let answer = delete.auto_scaling_configuration_arn(scaling);
        let answer = answer.send().await?;
        let gone = answer
            .auto_scaling_configuration()
            .ok_or("no configuration")?;
        assert_eq!(gone.status().ok_or("no status")?.as_str(), "inactive");
        println!("ok: delete");
        Ok(())
    }

    /// The service once no operation goes on.
    async fn settled(&self, arn: &str) -> Result<Service, Failure> {
        for _ in 0..POLLS_MAX {
            let answer = self.client.describe_service().service_arn(arn);
            let service = answer.send().await?.service.ok_or("no service")?;
            if service.status() != &ServiceStatus::OperationInProgress {
                return Ok(service);
            }
            tokio::time::sleep(POLL).await;
        }
        Err(format!("{arn} is still in progress").into())
    }

    async fn operations(&self, arn: &str) -> Result<Vec<OperationSummary>, Failure> {
        let mut pages = self
            .client
            .list_operations()
            .service_arn(arn)
            .into_paginator()
            .page_size(1)
            .send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page?;
            assert!(page.operation_summary_list().len() <= 1);
            found.extend_from_slice(page.operation_summary_list());
        }
        Ok(found)
    }

    async fn services(&self) -> Result<Vec<ServiceSummary>, Failure> {
        let pages = self.client.list_services().into_paginator().page_size(1);
        let mut pages = pages.send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            found.extend_from_slice(page?.service_summary_list());
        }
        Ok(found)
    }

    async fn scaling_configurations(&self) -> Result<Vec<String>, Failure> {
        let pages = self.client.list_auto_scaling_configurations();
        let mut pages = pages.into_paginator().page_size(1).send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page?;
            let page = page.auto_scaling_configuration_summary_list();
            assert!(page.len() <= 1);
            let names = page
                .iter()
                .filter_map(|one| one.auto_scaling_configuration_name());
            found.extend(names.map(str::to_owned));
        }
        Ok(found)
    }
}

/// The error of a call that must be refused, with what every error of the service has.
fn refused<O, E, R>(result: Result<O, SdkError<E, R>>) -> Result<E, Failure>
where
    O: std::fmt::Debug,
    E: ProvideErrorMetadata + RequestId + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let error = match result {
        Ok(answer) => return Err(format!("was not refused: {answer:?}").into()),
        Err(SdkError::ServiceError(context)) => context.into_err(),
        Err(other) => return Err(Box::new(other)),
    };
    assert!(error.message().is_some_and(|message| !message.is_empty()));
    assert_eq!(error.request_id().map(str::len), Some(36));
    Ok(error)
}

fn source(image: &str) -> Result<SourceConfiguration, Failure> {
    let configuration = ImageConfiguration::builder()
        .port("8080")
        .runtime_environment_variables("GREETING", "from Rust")
        .build();
    let repository = ImageRepository::builder()
        .image_identifier(image)
        .image_repository_type(ImageRepositoryType::Ecr)
        .image_configuration(configuration)
        .build()?;
    Ok(SourceConfiguration::builder()
        .image_repository(repository)
        .auto_deployments_enabled(false)
        .build())
}

fn made_by() -> Tag {
    Tag::builder().key("made-by").value("rust").build()
}
