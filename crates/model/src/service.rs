//! A service and the operation it is in: the durable facts, and the only functions that move them.
//!
//! A service has at most one operation that is not over. An operation is accepted by
//! [`Service::accept`], moved by [`Service::apply`], and nothing else: whoever stores a service
//! stores the result whole. Deployments go
//!
//! ```text
//! Accepted -> Prepare -> Start -> Switch -> (over: succeeded)
//!                 \         \
//!                  +---------+--> Undo --> (over: failed, or rolled back)
//! ```
//!
//! `Switch` is the point of no return: entering it makes the candidate the active revision. Before
//! it, every failure leaves what served before untouched; after it, the operation can only
//! succeed. `ResumeService` is a deployment of the active revision without `Prepare`; pausing and
//! deleting go `Accepted -> Drain -> (over)`.
//!
//! A deployment that is before the point of no return can be cancelled by [`Service::cancel`]: that
//! is a failure like any other, and undone like one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    health::ANSWERED,
    id::{InstanceId, OperationId, ServiceId},
    image::{Digest, ImageReference},
    ingress::Ingress,
    instance::{ExitCause, RevisionNumber},
    name::ServiceName,
    revision::{Revision, Settings},
    scaling::ScalingOptions,
    source::Prepared,
    time::Timestamp,
};

/// A service's status, in App Runner's words (specification, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceStatus {
    /// Its first deployment failed; it keeps its name and its URL.
    CreateFailed,
    /// It serves.
    Running,
    /// It is gone; the record stays for a while so that clients see it.
    Deleted,
    /// Deleting it failed; it can be deleted again.
    DeleteFailed,
    /// It has no instances and keeps everything else.
    Paused,
    /// An operation is on its way.
    OperationInProgress,
}

impl fmt::Display for ServiceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreateFailed => "CREATE_FAILED",
            Self::Running => "RUNNING",
            Self::Deleted => "DELETED",
            Self::DeleteFailed => "DELETE_FAILED",
            Self::Paused => "PAUSED",
            Self::OperationInProgress => "OPERATION_IN_PROGRESS",
        })
    }
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OperationKind {
    /// First deployment.
    CreateService,
    /// Deployment of a changed configuration.
    UpdateService,
    /// Deployment of what the source is now.
    StartDeployment,
    /// To no instances.
    PauseService,
    /// Back to instances, of the same revision.
    ResumeService,
    /// To nothing.
    DeleteService,
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreateService => "CREATE_SERVICE",
            Self::UpdateService => "UPDATE_SERVICE",
            Self::StartDeployment => "START_DEPLOYMENT",
            Self::PauseService => "PAUSE_SERVICE",
            Self::ResumeService => "RESUME_SERVICE",
            Self::DeleteService => "DELETE_SERVICE",
        })
    }
}

/// An operation's status, in App Runner's words (specification, section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OperationStatus {
    /// Accepted, not begun.
    Pending,
    /// Begun.
    InProgress,
    /// Over: it failed.
    Failed,
    /// Over: it did what it was to do.
    Succeeded,
    /// It failed and is being undone; what served before serves throughout.
    RollbackInProgress,
    /// Over: undoing failed.
    RollbackFailed,
    /// Over: it failed and was undone.
    RollbackSucceeded,
}

impl OperationStatus {
    /// Whether nothing more will happen.
    pub const fn is_over(self) -> bool {
        match self {
            Self::Pending | Self::InProgress | Self::RollbackInProgress => false,
            Self::Failed | Self::Succeeded | Self::RollbackFailed | Self::RollbackSucceeded => true,
        }
    }
}

impl fmt::Display for OperationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "PENDING",
            Self::InProgress => "IN_PROGRESS",
            Self::Failed => "FAILED",
            Self::Succeeded => "SUCCEEDED",
            Self::RollbackInProgress => "ROLLBACK_IN_PROGRESS",
            Self::RollbackFailed => "ROLLBACK_FAILED",
            Self::RollbackSucceeded => "ROLLBACK_SUCCEEDED",
        })
    }
}

/// Where an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Recorded; no worker has looked at it.
    Accepted,
    /// The image is resolved, fetched and unpacked.
    Prepare,
    /// The candidate's instances start beside the old ones and must become healthy.
    Start,
    /// The candidate is active; the edge is told and acknowledges.
    Switch,
    /// Nothing serves any more; instances finish their requests and stop.
    Drain,
    /// It failed; what it started is removed.
    Undo,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Prepare => "prepare image",
            Self::Start => "start instances",
            Self::Switch => "switch traffic",
            Self::Drain => "drain and stop",
            Self::Undo => "undo",
        })
    }
}

/// A service: everything durable that decisions are made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Identity.
    pub id: ServiceId,
    /// Unique among services of a region that are not deleted.
    pub name: ServiceName,
    /// Host names that lead to it.
    pub hosts: Vec<String>,
    /// Its status when no operation is on its way; see [`Service::status`].
    pub settled: ServiceStatus,
    /// What it was last configured to be, effective or (after a failed create) not.
    pub settings: Settings,
    /// The same in the API's own words, kept to answer with exactly what was asked.
    pub configuration: String,
    /// How its front door is set: no revision's, and effective at once.
    #[serde(default)]
    pub ingress: Ingress,
    /// How it scales, beside its configuration: no revision's, and effective at once.
    #[serde(default, skip_serializing_if = "ScalingOptions::is_default")]
    pub scaling: ScalingOptions,
    /// The revision that serves, or would if the service were not paused.
    pub active: Option<RevisionNumber>,
    /// Revisions that were active, in the order in which they became so, the active one last; at
    /// most [`SERVED_KEPT_MAX`]. Records from before it was kept have none.
    #[serde(default)]
    pub served: Vec<RevisionNumber>,
    /// The number of the newest revision; 0 when there is none.
    pub revision_newest: RevisionNumber,
    /// The commit that its branch was at when it was last looked at whether that is to be deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_commit: Option<CommitDelivery>,
    /// What its tag stood for when it was last looked at whether that is to be deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Delivery>,
    /// The operation that is not over, if any.
    pub operation: Option<Operation>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When a request of its owner last changed it.
    pub updated_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
}

/// How many revisions a service remembers as having served: how far back one can return.
pub const SERVED_KEPT_MAX: usize = 10;

/// What is known of an image that was pushed: it is not deployed again by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The reference that the service follows.
    pub image: ImageReference,
    /// What it led to; whatever it leads to at the next look, when absent: the service was returned to an
    /// earlier revision, and stays so until the next push.
    pub named: Option<Digest>,
}

/// What is known of a branch: the commit is not deployed again by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitDelivery {
    /// The remote.
    pub url: String,
    /// The branch.
    pub branch: String,
    /// Its newest commit; whichever it is at the next look, when absent: the service was returned to an
    /// earlier revision, and stays so until the next push.
    pub commit: Option<String>,
}

/// A recorded, asynchronous request on a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Identity.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// Where it is, in App Runner's words.
    pub status: OperationStatus,
    /// Where it is, exactly.
    pub phase: Phase,
    /// What the service was before it.
    pub from: ServiceStatus,
    /// The configuration to deploy, for operations that bring one.
    pub change: Option<Change>,
    /// The revision it deploys, once there is one.
    pub candidate: Option<RevisionNumber>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// When it was accepted.
    pub started_at: Timestamp,
    /// When it entered its phase.
    pub phase_since: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// The phases it has been in and when it entered each, oldest first; at most
    /// [`OPERATION_STEPS_MAX`]. Records from before steps were kept have none.
    #[serde(default)]
    pub steps: Vec<OperationStep>,
}

/// A phase that an operation has been in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationStep {
    /// Which.
    pub phase: Phase,
    /// When it was entered.
    pub at: Timestamp,
}

/// How many steps an operation keeps: no phase is entered twice, so that no operation has more.
pub const OPERATION_STEPS_MAX: usize = 6;

/// A new configuration, effective once its deployment has switched traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Typed.
    pub settings: Settings,
    /// In the API's words.
    pub configuration: String,
    /// The revision whose image is deployed once more, when this is a return to one: then the image
    /// is that one, whatever its name stands for by now.
    #[serde(default)]
    pub returns_to: Option<PinnedRevision>,
}

/// A revision and the image it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedRevision {
    /// Which.
    pub number: RevisionNumber,
    /// What its image's name stood for.
    pub digest: Digest,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// In which phase.
    pub phase: Phase,
    /// What happened.
    pub cause: FailureCause,
    /// The instance it happened to, when it was one.
    pub instance: Option<InstanceId>,
    /// The last lines that instance wrote, oldest first; at most [`FAILURE_LOG_LINES_MAX`].
    pub log_lines: Vec<String>,
}

/// How many log lines a failure keeps.
pub const FAILURE_LOG_LINES_MAX: usize = 20;

/// What made an operation fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum FailureCause {
    /// The image could not be had.
    Image {
        /// What, why, and what to do.
        message: String,
    },
    /// The code could not be had or built.
    Build {
        /// What, why, and what to do.
        message: String,
    },
    /// The value of a secret variable could not be had.
    Secrets {
        /// Which variable, its reference, and why. Never a value.
        message: String,
    },
    /// Instances ended before they were healthy.
    Crashed {
        /// How the last one ended.
        exit: ExitCause,
        /// How many ended.
        times: u32,
    },
    /// An instance ran but did not become healthy in time.
    NotHealthy {
        /// What was probed, such as `TCP port 8080`.
        probe: String,
        /// What the last probe saw.
        last: String,
        /// How long it was given.
        seconds: u64,
    },
    /// The engine could not be reached for so long that the operation gave up.
    Engine {
        /// What was seen.
        message: String,
    },
    /// Its owner cancelled it.
    Cancelled,
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image { message } | Self::Engine { message } => f.write_str(message),
            Self::Build { message } => {
                write!(
                    f,
                    "Failed to build your application source code. Reason: {message}"
                )
            }
            Self::Secrets { message } => write!(f, "Failed to retrieve secrets: {message}"),
            Self::Cancelled => f.write_str("it was cancelled"),
            Self::Crashed {
                exit: exit @ ExitCause::StartFailed { .. },
                ..
            } => {
                write!(f, "the application {exit}")
            }
            Self::Crashed { exit, times: 1 } => {
                write!(f, "the application {exit} before it was healthy")
            }
            Self::Crashed { exit, times } => {
                write!(
                    f,
                    "the application {exit} before it was healthy, {times} times in a row"
                )
            }
            Self::NotHealthy {
                probe,
                last,
                seconds,
            } => {
                write!(
                    f,
                    "health check on {probe} did not pass within {seconds} s: {last}"
                )
            }
        }
    }
}

impl Failure {
    /// What its owner can do next, when there is something to say beyond the cause.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.cause {
            FailureCause::Image { .. } | FailureCause::Build { .. } | FailureCause::Cancelled => {
                None
            }
            FailureCause::Engine { .. } => {
                Some("look at the host with `ekiden status` and `ekiden doctor`, and deploy again")
            }
            FailureCause::Secrets { .. } => {
                Some("make the secret, or correct the reference to it, and deploy again")
            }
            FailureCause::Crashed { exit, .. } => Some(exit.hint()),
            FailureCause::NotHealthy { last, .. } if last.starts_with(ANSWERED) => Some(
                "have the application answer this path with a status from 200 to 399, or change the path of the health check",
            ),
            FailureCause::NotHealthy { .. } => Some(
                "check that the application listens on 0.0.0.0 (not only on localhost) and on the configured port",
            ),
        }
    }
}

/// A request that a service cannot accept now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its status forbids it.
    #[error("not possible while the service is {0}")]
    WrongStatus(ServiceStatus),
    /// It is already as asked; no operation is needed.
    #[error("the service is already {0}")]
    AlreadySo(ServiceStatus),
}

/// Why an operation cannot be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CancelRefusal {
    /// None is on its way.
    #[error("no operation is on its way")]
    NoOperation,
    /// Another one is on its way than the one that was named.
    #[error("that operation is over")]
    Over,
    /// Pausing and deleting only go forwards.
    #[error("{0} cannot be cancelled: what it stops is not started again")]
    NotDeployment(OperationKind),
    /// Traffic has been switched already.
    #[error("it has switched traffic to the new revision already")]
    Switched,
    /// It has failed, or was cancelled before.
    #[error("it is being undone already")]
    Undoing,
}

/// A step that is not possible from where the operation is: a fault in the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{transition} is not possible in phase `{phase}` of {kind}")]
pub struct IllegalTransition {
    transition: &'static str,
    phase: Phase,
    kind: OperationKind,
}

/// A durable step of an operation. Recorded before anything that follows from it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transition {
    /// A worker took it up.
    Begin,
    /// The image is ready: the candidate revision is made of it.
    Deploy(Box<Prepared>),
    /// The candidate is healthy: it becomes the active revision.
    Switch,
    /// It did what it was to do.
    Succeed,
    /// It cannot succeed.
    Fail(Failure),
    /// What it had begun is gone.
    Undone,
}

impl Service {
    /// Its status as App Runner's API shows it.
    pub fn status(&self) -> ServiceStatus {
        match self.operation {
            Some(_) => ServiceStatus::OperationInProgress,
            None => self.settled,
        }
    }

    /// Accepts a request as a new operation, or says why not (specification, section 4.1.1).
    ///
    /// `CreateService` is not accepted here: a service is born with it, see [`Service::create`].
    ///
    /// # Errors
    /// [`Refusal`] by status; `AlreadySo` for pausing the paused and resuming the running.
    pub fn accept(
        &mut self,
        kind: OperationKind,
        change: Option<Change>,
        id: OperationId,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        use OperationKind as K;
        use ServiceStatus as S;
        let status = self.status();
        match (kind, status) {
            (K::PauseService, S::Paused) | (K::ResumeService, S::Running) => {
                return Err(Refusal::AlreadySo(status));
            }
            (K::UpdateService, S::Running | S::CreateFailed)
            | (K::StartDeployment | K::PauseService, S::Running)
            | (K::ResumeService, S::Paused)
            | (K::DeleteService, S::Running | S::Paused | S::CreateFailed | S::DeleteFailed) => {}
            (
                K::CreateService
                | K::UpdateService
                | K::StartDeployment
                | K::PauseService
                | K::ResumeService
                | K::DeleteService,
                _,
            ) => return Err(Refusal::WrongStatus(status)),
        }
        if let (S::CreateFailed, Some(change)) = (status, &change) {
            // Nothing serves that could be rolled back to: the newest wish is what it is.
            self.settings = change.settings.clone();
            self.configuration = change.configuration.clone();
        }
        self.updated_at = now;
        self.operation = Some(Operation::accepted(id, kind, status, change, now));
        Ok(())
    }

    /// A new service, with its first deployment accepted.
    pub fn create(
        id: ServiceId,
        name: ServiceName,
        hosts: Vec<String>,
        change: Change,
        operation: OperationId,
        now: Timestamp,
    ) -> Self {
        let kind = OperationKind::CreateService;
        let from = ServiceStatus::CreateFailed;
        Self {
            id,
            name,
            hosts,
            settled: from,
            settings: change.settings.clone(),
            configuration: change.configuration.clone(),
            ingress: Ingress::default(),
            scaling: ScalingOptions::default(),
            active: None,
            served: Vec::new(),
            revision_newest: RevisionNumber(0),
            delivered: None,
            delivered_commit: None,
            operation: Some(Operation::accepted(
                operation,
                kind,
                from,
                Some(change),
                now,
            )),
            created_at: now,
            updated_at: now,
            deleted_at: None,
        }
    }

    /// Cancels the operation on its way, or the one of that id if it is; what it began is undone
    /// from now on.
    ///
    /// # Errors
    /// [`CancelRefusal`]; the operation then goes on.
    pub fn cancel(&mut self, id: Option<OperationId>, now: Timestamp) -> Result<(), CancelRefusal> {
        let operation = self.operation.as_ref();
        let mut operation = operation.ok_or(CancelRefusal::NoOperation)?.clone();
        if id.is_some_and(|id| id != operation.id) {
            return Err(CancelRefusal::Over);
        }
        if operation.kind.first_phase() == Phase::Drain {
            return Err(CancelRefusal::NotDeployment(operation.kind));
        }
        match operation.phase {
            Phase::Accepted | Phase::Prepare | Phase::Start => {}
            Phase::Switch | Phase::Drain => return Err(CancelRefusal::Switched),
            Phase::Undo => return Err(CancelRefusal::Undoing),
        }
        let failure = Failure {
            phase: operation.phase,
            cause: FailureCause::Cancelled,
            instance: None,
            log_lines: Vec::new(),
        };
        self.enter(&mut operation, Next::Undo(failure), now);
        self.operation = Some(operation);
        Ok(())
    }

    /// The image that the operation on its way asks for: what its settings name, or exactly the
    /// image of the revision that it returns to.
    pub fn image_wanted(&self) -> ImageReference {
        let change = self
            .operation
            .as_ref()
            .and_then(|operation| operation.change.as_ref());
        let pinned = change.and_then(|change| change.returns_to);
        let image = &self.settings_wanted().image;
        ImageReference {
            digest: pinned.map(|pinned| pinned.digest).or(image.digest),
            ..image.clone()
        }
    }

    /// The settings that the operation on its way deploys, or else the service's own.
    pub fn settings_wanted(&self) -> &Settings {
        let change = self
            .operation
            .as_ref()
            .and_then(|operation| operation.change.as_ref());
        change.map_or(&self.settings, |change| &change.settings)
    }

    /// The configuration that the operation on its way deploys, or else the service's own: App
    /// Runner shows the requested values as if applied.
    pub fn configuration_wanted(&self) -> &str {
        let change = self
            .operation
            .as_ref()
            .and_then(|operation| operation.change.as_ref());
        change.map_or(&self.configuration, |change| &change.configuration)
    }

    /// Moves the operation one step; answers the revision that the step made, if it made one, and
    /// the operation if the step ended it.
    ///
    /// # Errors
    /// [`IllegalTransition`] when the operation is not where the step starts.
    pub fn apply(
        &mut self,
        transition: Transition,
        now: Timestamp,
    ) -> Result<Applied, IllegalTransition> {
        let Some(mut operation) = self.operation.take() else {
            return Err(IllegalTransition {
                transition: transition.name(),
                phase: Phase::Accepted,
                kind: OperationKind::CreateService,
            });
        };
        match operation.next(transition) {
            Ok(next) => {
                let revision = self.enter(&mut operation, next, now);
                let over = operation.status.is_over();
                let ended = over.then(|| operation.clone());
                self.operation = (!over).then_some(operation);
                Ok(Applied { revision, ended })
            }
            Err(illegal) => {
                self.operation = Some(operation);
                Err(illegal)
            }
        }
    }

    fn enter(&mut self, operation: &mut Operation, next: Next, now: Timestamp) -> Option<Revision> {
        operation.phase_since = now;
        match next {
            Next::Phase(phase) => {
                operation.step_into(phase, now);
                operation.status = OperationStatus::InProgress;
                if operation.kind == OperationKind::ResumeService {
                    operation.candidate = self.active;
                }
                None
            }
            Next::Start(prepared) => {
                operation.step_into(Phase::Start, now);
                let number = RevisionNumber(self.revision_newest.0 + 1);
                self.revision_newest = number;
                operation.candidate = Some(number);
                let (settings, configuration) = match &operation.change {
                    Some(change) => (&change.settings, &change.configuration),
                    None => (&self.settings, &self.configuration),
                };
                let returns_to = operation
                    .change
                    .as_ref()
                    .and_then(|change| change.returns_to);
                let Prepared { image, built } = *prepared;
                let mut settings = settings.clone();
                let mut from = None;
                if let Some(built) = built {
                    settings.port = built.port.unwrap_or(settings.port);
                    if let Some(secrets) = built.secrets {
                        settings.secrets = secrets;
                    }
                    from = Some(built.from);
                }
                Some(Revision {
                    number,
                    settings,
                    image,
                    built: from,
                    secrets: None,
                    created_at: now,
                    configuration: configuration.clone(),
                    operation: Some(operation.id),
                    copy_of: returns_to.map(|pinned| pinned.number),
                })
            }
            Next::Switch => {
                operation.step_into(Phase::Switch, now);
                for number in self.active.into_iter().chain(operation.candidate) {
                    self.remember_served(number);
                }
                self.active = operation.candidate;
                if let Some(change) = operation.change.take() {
                    self.settings = change.settings;
                    self.configuration = change.configuration;
                    if change.returns_to.is_some() {
                        self.delivered = Some(Delivery {
                            image: self.settings.image.clone(),
                            named: None,
                        });
                        let source = self.settings.source.as_ref();
                        self.delivered_commit = source.map(|source| CommitDelivery {
                            url: source.url.clone(),
                            branch: source.version.clone(),
                            commit: None,
                        });
                    }
                }
                None
            }
            Next::Undo(failure) => {
                operation.step_into(Phase::Undo, now);
                operation.failure = Some(failure);
                operation.status = match operation.rolls_back() {
                    true => OperationStatus::RollbackInProgress,
                    false => OperationStatus::InProgress,
                };
                None
            }
            Next::Succeeded => {
                self.end(operation, OperationStatus::Succeeded, now);
                self.settled = operation.kind.success_status();
                if self.settled == ServiceStatus::Deleted {
                    self.deleted_at = Some(now);
                }
                None
            }
            Next::Failed => {
                let status = match operation.rolls_back() {
                    true => OperationStatus::RollbackSucceeded,
                    false => OperationStatus::Failed,
                };
                self.end(operation, status, now);
                self.settled = operation.from;
                None
            }
        }
    }

    fn remember_served(&mut self, number: RevisionNumber) {
        if self.served.contains(&number) {
            return;
        }
        self.served.push(number);
        let surplus = self.served.len().saturating_sub(SERVED_KEPT_MAX);
        self.served.drain(..surplus);
    }

    /// The revision that served before the active one, if there is one.
    pub fn served_before(&self) -> Option<RevisionNumber> {
        let mut served = self.served.iter().rev().copied();
        served.find(|number| Some(*number) != self.active)
    }

    fn end(&mut self, operation: &mut Operation, status: OperationStatus, now: Timestamp) {
        operation.status = status;
        operation.ended_at = Some(now);
    }
}

/// What a step brought about besides moving the operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// A revision to be stored with it.
    pub revision: Option<Revision>,
    /// The operation, if it is over now.
    pub ended: Option<Operation>,
}

impl OperationKind {
    /// The service's status after success.
    const fn success_status(self) -> ServiceStatus {
        match self {
            Self::CreateService
            | Self::UpdateService
            | Self::StartDeployment
            | Self::ResumeService => ServiceStatus::Running,
            Self::PauseService => ServiceStatus::Paused,
            Self::DeleteService => ServiceStatus::Deleted,
        }
    }

    const fn first_phase(self) -> Phase {
        match self {
            Self::CreateService | Self::UpdateService | Self::StartDeployment => Phase::Prepare,
            Self::ResumeService => Phase::Start,
            Self::PauseService | Self::DeleteService => Phase::Drain,
        }
    }
}

/// Where a legal transition leads.
enum Next {
    Phase(Phase),
    Start(Box<Prepared>),
    Switch,
    Undo(Failure),
    Succeeded,
    Failed,
}

impl Operation {
    fn accepted(
        id: OperationId,
        kind: OperationKind,
        from: ServiceStatus,
        change: Option<Change>,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            kind,
            status: OperationStatus::Pending,
            phase: Phase::Accepted,
            from,
            change,
            candidate: None,
            failure: None,
            started_at: now,
            phase_since: now,
            ended_at: None,
            steps: vec![OperationStep {
                phase: Phase::Accepted,
                at: now,
            }],
        }
    }

    fn step_into(&mut self, phase: Phase, now: Timestamp) {
        self.phase = phase;
        if self.steps.len() < OPERATION_STEPS_MAX {
            self.steps.push(OperationStep { phase, at: now });
        }
    }

    /// Whether its failure is told as a rollback: only where something served before. Copilot's
    /// poller knows no rollback of pausing and resuming (specification, section 4.2).
    const fn rolls_back(&self) -> bool {
        matches!(
            self.kind,
            OperationKind::UpdateService | OperationKind::StartDeployment
        ) && matches!(self.from, ServiceStatus::Running)
    }

    fn next(&self, transition: Transition) -> Result<Next, IllegalTransition> {
        use {Phase as P, Transition as T};
        let illegal = IllegalTransition {
            transition: transition.name(),
            phase: self.phase,
            kind: self.kind,
        };
        Ok(match (self.phase, transition) {
            (P::Accepted, T::Begin) => Next::Phase(self.kind.first_phase()),
            (P::Prepare, T::Deploy(prepared)) => Next::Start(prepared),
            (P::Start, T::Switch) => Next::Switch,
            (P::Switch | P::Drain, T::Succeed) => Next::Succeeded,
            (P::Prepare | P::Start, T::Fail(failure)) => Next::Undo(failure),
            (P::Undo, T::Undone) => Next::Failed,
            (
                P::Accepted | P::Prepare | P::Start | P::Switch | P::Drain | P::Undo,
                T::Begin | T::Deploy(_) | T::Switch | T::Succeed | T::Fail(_) | T::Undone,
            ) => return Err(illegal),
        })
    }
}

impl Transition {
    /// Its name, for logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Deploy(_) => "deploy",
            Self::Switch => "switch",
            Self::Succeed => "succeed",
            Self::Fail(_) => "fail",
            Self::Undone => "undone",
        }
    }
}
