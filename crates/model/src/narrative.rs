//! What is said of a service as it moves: lines of its log, in App Runner's words, and events.
//!
//! One pure function compares a service with what it was. What it says is stored with the move itself, so that
//! nothing that happened stays unsaid, and is passed on afterwards: to the service's log, to webhooks and to
//! whoever else wants to know.
//!
//! The wordings are App Runner's where they are known (specification, sections 17.1 and 17.3), as are the names
//! of streams: `events`, `deployment/<operation>` for operations that deploy, and `<operation type>/<operation>`
//! for others.

use serde::{Deserialize, Serialize};

use crate::{
    domain::{CustomDomain, DomainStatus},
    domain_name::DomainName,
    health::HealthProtocol,
    id::{InstanceId, OperationId, ServiceId},
    instance::{Exit, ExitCause},
    name::ServiceName,
    revision::{Exposure, Settings},
    service::{
        Failure, FailureCause, Operation, OperationKind, OperationStatus, Phase, Service,
        ServiceStatus,
    },
    time::Timestamp,
};

/// What App Runner's lines begin with.
pub const LINE_PREFIX: &str = "[AppRunner] ";

/// What is said of one move of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// Of which.
    pub service: ServiceId,
    /// What it is called.
    pub name: ServiceName,
    /// When it moved.
    pub at: Timestamp,
    /// Lines of its log, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<NewsLine>,
    /// What happened, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<ServiceEvent>,
}

/// A line of a service's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewsLine {
    /// Of the group `/aws/apprunner/<name>/<id>/service`.
    pub stream: String,
    /// Without [`LINE_PREFIX`].
    pub text: String,
}

/// Something that happened to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum ServiceEvent {
    /// Its status is another one.
    Status {
        /// What it was.
        previous: ServiceStatus,
        /// What it is.
        current: ServiceStatus,
    },
    /// An operation began or is over.
    Operation {
        /// Which.
        id: OperationId,
        /// What it does.
        kind: OperationKind,
        /// What became of it.
        outcome: Outcome,
        /// In App Runner's words; empty where those are.
        message: String,
        /// Why it failed, if it did, and what to do about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A custom domain of it was settled.
    Domain {
        /// Its name.
        domain: DomainName,
        /// `ACTIVE` and the like.
        status: String,
        /// What that means, and why it failed, if it did.
        message: String,
    },
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was accepted.
    Started,
    /// It did what it was to do.
    CompletedSuccessfully,
    /// It did not.
    Failed,
}

impl Outcome {
    /// As App Runner's `operationStatus` ends.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::CompletedSuccessfully => "CompletedSuccessfully",
            Self::Failed => "Failed",
        }
    }
}

impl OperationKind {
    /// As App Runner's `operationStatus` begins.
    pub const fn event_name(self) -> &'static str {
        match self {
            Self::CreateService => "CreateService",
            Self::UpdateService => "UpdateService",
            Self::StartDeployment => "Deployment",
            Self::PauseService => "PauseService",
            Self::ResumeService => "ResumeService",
            Self::DeleteService => "DeleteService",
        }
    }

    /// As sentences begin.
    const fn noun(self) -> &'static str {
        match self {
            Self::CreateService => "Service creation",
            Self::UpdateService => "Service update",
            Self::StartDeployment => "Deployment",
            Self::PauseService => "Service pause",
            Self::ResumeService => "Service resume",
            Self::DeleteService => "Service deletion",
        }
    }

    /// What began a deployment, for operations that are one.
    const fn trigger(self) -> Option<&'static str> {
        match self {
            Self::CreateService => Some("SERVICE_CREATE"),
            Self::UpdateService => Some("SERVICE_UPDATE"),
            Self::StartDeployment => Some("SERVICE_DEPLOY"),
            Self::PauseService | Self::ResumeService | Self::DeleteService => None,
        }
    }
}

/// The stream of an operation's own lines.
#[must_use]
pub fn operation_stream(kind: OperationKind, id: OperationId) -> String {
    let kind = match kind {
        OperationKind::CreateService
        | OperationKind::UpdateService
        | OperationKind::StartDeployment => "deployment",
        OperationKind::PauseService => "pause",
        OperationKind::ResumeService => "resume",
        OperationKind::DeleteService => "delete",
    };
    format!("{kind}/{id}")
}

/// The stream of what happens to a service.
pub const EVENTS_STREAM: &str = "events";

/// What is said when a service has become `after`; `before` is what it was, absent when it was just created,
/// and `ended` the operation that the move ended. `None` when there is nothing to say.
#[must_use]
pub fn narrate(
    before: Option<&Service>,
    after: &Service,
    ended: Option<&Operation>,
    now: Timestamp,
) -> Option<News> {
    let mut news = News {
        service: after.id,
        name: after.name.clone(),
        at: now,
        lines: Vec::new(),
        events: Vec::new(),
    };
    let was = before.and_then(|before| before.operation.as_ref());
    let is = after.operation.as_ref();
    match (was, is) {
        (was, Some(is)) if was.is_none_or(|was| was.id != is.id) => news.begin(after, is),
        (Some(was), Some(is)) if was.phase != is.phase => news.enter(after, was.phase, is),
        _ => {}
    }
    if let Some(ended) = ended {
        news.end(was.map(|was| was.phase), ended);
    }
    let previous = before.map(Service::status);
    if previous != Some(after.status()) {
        let current = after.status();
        news.say(format!("Service status is set to {current}."));
        if let Some(previous) = previous {
            news.events.push(ServiceEvent::Status { previous, current });
        }
    }
    (!news.lines.is_empty() || !news.events.is_empty()).then_some(news)
}

/// What is said when a custom domain of a service is settled; `None` while it is not.
#[must_use]
pub fn narrate_domain(name: &ServiceName, domain: &CustomDomain, now: Timestamp) -> Option<News> {
    let of = &domain.name;
    let message = match domain.status {
        DomainStatus::Active => format!("Custom domain {of} is validated and active."),
        DomainStatus::BindingCertificate => {
            format!("Custom domain {of} is validated. Binding its certificate.")
        }
        DomainStatus::CreateFailed | DomainStatus::DeleteFailed => format!(
            "Custom domain {of} failed. Reason: {}.",
            domain.failure.as_deref().unwrap_or("it is not known")
        ),
        DomainStatus::Creating
        | DomainStatus::PendingCertificateDnsValidation
        | DomainStatus::Deleting => return None,
    };
    let mut news = News {
        service: domain.service,
        name: name.clone(),
        at: now,
        lines: Vec::new(),
        events: Vec::new(),
    };
    news.say(message.clone());
    news.events.push(ServiceEvent::Domain {
        domain: of.clone(),
        status: domain.status.as_str().to_uppercase(),
        message,
    });
    Some(news)
}

/// A line in the log of what happens to a service, and nothing else.
#[must_use]
pub fn remark(service: ServiceId, name: &ServiceName, text: String, now: Timestamp) -> News {
    let mut news = News {
        service,
        name: name.clone(),
        at: now,
        lines: Vec::new(),
        events: Vec::new(),
    };
    news.say(text);
    news
}

/// What is said of an instance that ended by itself, or was stopped because it failed; `None` when it was not needed
/// any more.
#[must_use]
pub fn instance_ended(instance: InstanceId, exit: &Exit) -> Option<String> {
    let (cause, hint) = exit.failure()?;
    Some(format!("Instance {instance} {cause}. {}", sentence(hint)))
}

impl News {
    fn say(&mut self, text: impl Into<String>) {
        self.lines.push(NewsLine {
            stream: EVENTS_STREAM.to_owned(),
            text: text.into(),
        });
    }

    fn say_of(&mut self, operation: &Operation, text: impl Into<String>) {
        self.lines.push(NewsLine {
            stream: operation_stream(operation.kind, operation.id),
            text: text.into(),
        });
    }

    fn begin(&mut self, service: &Service, operation: &Operation) {
        let kind = operation.kind;
        self.say(format!("{} started.", kind.noun()));
        if let Some(trigger) = kind.trigger() {
            self.say(artifact(service.settings_wanted()));
            self.say(format!(
                "Deployment with ID : {} started. Triggering event : {trigger}",
                operation.id
            ));
        }
        let message = match kind {
            // As App Runner has it.
            OperationKind::UpdateService => String::new(),
            kind => format!("{} started.", kind.noun()),
        };
        self.events.push(ServiceEvent::Operation {
            id: operation.id,
            kind,
            outcome: Outcome::Started,
            message,
            reason: None,
        });
    }

    fn enter(&mut self, service: &Service, from: Phase, operation: &Operation) {
        let settings = service.settings_wanted();
        match operation.phase {
            Phase::Accepted => {}
            Phase::Prepare => match &settings.source {
                None => {
                    let image = service.image_wanted();
                    self.say(match is_ecr(&image.registry) {
                        true => format!("Pulling image {image} from ECR repository."),
                        false => format!("Pulling image {image}."),
                    });
                    self.say_of(operation, "Starting to pull your application image.");
                }
                Some(source) => {
                    self.say(format!(
                        "Pulling source code from {} Repository ( {} ).",
                        provider(&source.url),
                        source.url
                    ));
                    self.say("Starting source code build.");
                    self.say_of(operation, "Starting to build your application source code.");
                }
            },
            Phase::Start => {
                if from == Phase::Prepare {
                    let image = service.image_wanted();
                    let is_ecr = is_ecr(&image.registry);
                    let (done, of_operation, next) = match (&settings.source, is_ecr) {
                        (Some(_), _) => (
                            "Successfully built your application source code.",
                            "Successfully built your application source code.",
                            "Starting to deploy your application source code.",
                        ),
                        (None, true) => (
                            "Successfully pulled image from ECR.",
                            "Successfully pulled your application image from ECR.",
                            "Starting to deploy your application image.",
                        ),
                        (None, false) => (
                            "Successfully pulled image.",
                            "Successfully pulled your application image.",
                            "Starting to deploy your application image.",
                        ),
                    };
                    self.say(done);
                    self.say_of(operation, of_operation);
                    self.say_of(operation, next);
                }
                self.say(match settings.exposure {
                    Exposure::Public => {
                        "Provisioning instances and deploying image for publicly accessible service."
                    }
                    Exposure::Private => {
                        "Provisioning instances and deploying image for privately accessible service."
                    }
                });
                self.say(format!("Performing health check on {}.", probe(settings)));
            }
            Phase::Switch => {
                if from == Phase::Start {
                    self.say("Health check is successful. Routing traffic to application.");
                    let what = artifact_noun(settings);
                    self.say_of(
                        operation,
                        format!("Successfully deployed your application {what}."),
                    );
                }
            }
            Phase::Drain => self.say_of(operation, "Waiting for requests to finish."),
            Phase::Undo => {
                if let Some(failure) = &operation.failure {
                    self.fail(settings, operation, failure);
                }
            }
        }
    }

    fn fail(&mut self, settings: &Settings, operation: &Operation, failure: &Failure) {
        let what = artifact_noun(settings);
        let short = match &failure.cause {
            FailureCause::NotHealthy { .. } => {
                self.say(format!(
                    "Health check failed on {}. Check your configured port number. \
                     For more information, see the application logs.",
                    probe(settings)
                ));
                "Health check failed."
            }
            FailureCause::Crashed { exit, .. } => {
                let code = match exit {
                    ExitCause::Code { code } => format!("  Container exit code: {code}"),
                    // As shells and App Runner count them.
                    ExitCause::Signal { signal } => {
                        format!("  Container exit code: {}", 128 + signal)
                    }
                    ExitCause::OutOfMemory => "  Container exit code: 137".to_owned(),
                    ExitCause::OutOfDisk | ExitCause::StartFailed { .. } | ExitCause::Lost => {
                        String::new()
                    }
                };
                self.say(format!(
                    "Your application stopped or failed to start. See logs for more information.{code}"
                ));
                "Your application stopped or failed to start."
            }
            FailureCause::Image { message } => {
                self.say_of(
                    operation,
                    format!("Failed to pull your application image. Reason: {message}"),
                );
                "Failed to pull the image."
            }
            FailureCause::Build { .. } => {
                self.say_of(operation, failure.cause.to_string());
                "Failed to build your application source code."
            }
            FailureCause::Secrets { .. } => "Failed to retrieve secrets.",
            FailureCause::Engine { .. } => "The host could not be reached.",
            FailureCause::Cancelled => "It was cancelled.",
        };
        self.say(format!(
            "Deployment with ID : {} failed. Failure reason : {short}",
            operation.id
        ));
        self.say_of(
            operation,
            format!("Failed to deploy your application {what}."),
        );
        let reason = reason(failure);
        self.say(format!("Reason: {reason}"));
        self.say_of(operation, format!("Reason: {reason}"));
        for line in &failure.log_lines {
            self.say_of(operation, format!("Last output: {line}"));
        }
    }

    fn end(&mut self, from: Option<Phase>, operation: &Operation) {
        let kind = operation.kind;
        let noun = kind.noun();
        let succeeded = operation.status == OperationStatus::Succeeded;
        if succeeded && from == Some(Phase::Switch) {
            self.say("Successfully routed incoming traffic to application.");
        }
        let message = match (succeeded, kind) {
            (true, OperationKind::UpdateService) => {
                "Service update completed successfully. New configuration is deployed.".to_owned()
            }
            (true, _) => format!("{noun} completed successfully."),
            (false, OperationKind::DeleteService) => format!("{noun} failed."),
            (false, _) => format!("{noun} failed. For details, see service logs."),
        };
        self.say(message.clone());
        self.events.push(ServiceEvent::Operation {
            id: operation.id,
            kind,
            outcome: match succeeded {
                true => Outcome::CompletedSuccessfully,
                false => Outcome::Failed,
            },
            message,
            reason: operation.failure.as_ref().map(reason),
        });
    }
}

/// A failure as its owner reads it everywhere: the cause, and what to do next.
#[must_use]
pub fn reason(failure: &Failure) -> String {
    let cause = sentence(&failure.cause.to_string());
    match failure.hint() {
        Some(hint) => format!("{cause} {}", sentence(hint)),
        None => cause,
    }
}

/// With a capital, and a full stop unless it has an end.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    let mut sentence = first.unwrap_or_default() + letters.as_str();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

fn artifact(settings: &Settings) -> String {
    match &settings.source {
        Some(source) => format!(
            "Deployment Artifact: [Repo Type: Source], [Repository: {}], [Branch: {}], [SourceDirectory: {}]",
            source.url, source.version, source.directory
        ),
        None => format!(
            "Deployment Artifact: [Repo Type: Image], [Image: {}]",
            settings.image
        ),
    }
}

fn artifact_noun(settings: &Settings) -> &'static str {
    match settings.source {
        Some(_) => "source code",
        None => "image",
    }
}

fn probe(settings: &Settings) -> String {
    let port = settings.port;
    match &settings.health.protocol {
        HealthProtocol::Tcp => format!("protocol `TCP` [Port: '{port}']"),
        HealthProtocol::Http { path } => {
            format!("protocol `HTTP` [Path: '{path}'], [Port: '{port}']")
        }
    }
}

fn is_ecr(registry: &str) -> bool {
    registry.contains(".dkr.ecr.") || registry.contains(".dkr-ecr.")
}

/// Who has a repository, in capitals.
fn provider(url: &str) -> &'static str {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    match host {
        "github.com" => "GITHUB",
        "gitlab.com" => "GITLAB",
        "bitbucket.org" => "BITBUCKET",
        _ => "GIT",
    }
}
