//! Ekiden's own operations: what App Runner's API has no words for.
//!
//! Same endpoint, protocol and signature; the target is `Ekiden.<Operation>`. Member names follow
//! AWS's habits, so that any awsJson client can call them.

use serde::{Deserialize, Serialize};

use crate::apprunner::shapes::{
    Connection, EncryptionConfiguration, HealthCheckConfiguration, InstanceConfiguration,
    NetworkConfiguration, Service, ServiceObservabilityConfiguration, SourceConfiguration,
};

/// The target prefix of native operations.
pub const TARGET_PREFIX: &str = "Ekiden";

/// Input of `ListInstances`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListInstancesRequest {
    /// Only this service's instances; all services' of the region when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_arn: Option<String>,
}

/// Output of `ListInstances`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListInstancesResponse {
    /// By service, then oldest first.
    pub instances: Vec<Instance>,
}

/// One running copy of a revision.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Instance {
    /// 32 hexadecimal digits.
    pub instance_id: String,
    /// The service it is a copy of.
    pub service_arn: String,
    /// That service's name.
    pub service_name: String,
    /// The revision it runs, counted from 1.
    pub revision: u32,
    /// `STARTING`, `RUNNING`, `UNHEALTHY`, `DRAINING`, `STOPPING` or `EXITED`.
    pub status: String,
    /// Whether the front door sends it requests.
    pub routed: bool,
    /// Address and port inside the machine, when it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Seconds since the Unix epoch.
    pub created_at: u64,
    /// How it ended or why it is not healthy, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Input of `DescribeOperation`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DescribeOperationRequest {
    /// The service.
    pub service_arn: String,
    /// The operation; the service's newest when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
}

/// Output of `DescribeOperation`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DescribeOperationResponse {
    /// The operation.
    pub operation: Operation,
}

/// An operation with what App Runner keeps to itself: where it is and why it failed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Operation {
    /// 32 hexadecimal digits.
    pub id: String,
    /// As in `ListOperations`.
    pub r#type: String,
    /// As in `ListOperations`.
    pub status: String,
    /// What it does or did last, such as `prepare image`.
    pub step: String,
    /// What it waits for now, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// The revision it deploys, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// Seconds since the Unix epoch.
    pub started_at: u64,
    /// Seconds since the Unix epoch, when it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
    /// What it has done so far, oldest first. Empty for operations of releases that did not record
    /// it.
    pub steps: Vec<OperationStep>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// A step that an operation has begun.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct OperationStep {
    /// Such as `prepare image`.
    pub step: String,
    /// When it began, in milliseconds since the Unix epoch; it ended when the next one began.
    pub timestamp: u64,
}

/// Input of `CancelOperation`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CancelOperationRequest {
    /// The service.
    pub service_arn: String,
    /// The operation; whichever is on its way when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
}

/// Output of `CancelOperation`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CancelOperationResponse {
    /// The operation, which is being undone from now on.
    pub operation: Operation,
}

/// Input of `ListRevisions`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListRevisionsRequest {
    /// The service.
    pub service_arn: String,
    /// 1 to 100; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<u32>,
    /// `NextToken` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Output of `ListRevisions`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListRevisionsResponse {
    /// Newest first.
    pub revisions: Vec<Revision>,
    /// Leads to the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// One immutable image plus configuration of a service.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Revision {
    /// Counted from 1 within its service.
    pub revision: u32,
    /// Whether it serves, or would if the service were not paused.
    pub active: bool,
    /// Whether it serves or has served; otherwise its deployment failed or is on its way.
    pub served: bool,
    /// The image as it was named.
    pub image: String,
    /// What the name stood for.
    pub image_digest: String,
    /// Seconds since the Unix epoch.
    pub created_at: u64,
    /// The operation that made it; absent when that is not known any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    /// The revision that it repeats, when it was made by returning to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<u32>,
    /// What was configured; absent in revisions of releases that did not keep it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<RevisionConfiguration>,
}

/// What a service was configured to be, as `DescribeService` shows it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RevisionConfiguration {
    /// As in `CreateService`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_configuration: Option<SourceConfiguration>,
    /// As in `CreateService`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_configuration: Option<InstanceConfiguration>,
    /// As in `CreateService`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_configuration: Option<EncryptionConfiguration>,
    /// As in `CreateService`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_configuration: Option<HealthCheckConfiguration>,
    /// As in `CreateService`, whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_scaling_configuration_arn: Option<String>,
    /// As in `CreateService`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_configuration: Option<NetworkConfiguration>,
    /// As in `CreateService`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observability_configuration: Option<ServiceObservabilityConfiguration>,
}

/// Input of `RollbackService`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RollbackServiceRequest {
    /// The service.
    pub service_arn: String,
    /// The revision to return to; the one that served before the active one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
}

/// Output of `RollbackService`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RollbackServiceResponse {
    /// As `UpdateService` answers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// The operation, which is an `UPDATE_SERVICE`.
    pub operation_id: String,
    /// The revision that is returned to.
    pub revision: u32,
}

/// Why an operation failed: what, why, and what to do next.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Failure {
    /// The step that failed.
    pub step: String,
    /// The whole reason as one or two sentences.
    pub reason: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The last lines the failing instance wrote.
    pub log_lines: Vec<String>,
}

/// Input of `GetLogs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetLogsRequest {
    /// The service.
    pub service_arn: String,
    /// Only this instance's lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// `Next` of the page before; the newest lines when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// 1 to 1000; 100 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lines: Option<u32>,
}

/// Output of `GetLogs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetLogsResponse {
    /// Oldest first.
    pub lines: Vec<LogLine>,
    /// Give it back as `After` to get what came later.
    pub next: String,
}

/// One line that an instance wrote.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogLine {
    /// Whose.
    pub instance_id: String,
    /// Milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// `stdout`, `stderr`, or `ekiden` for its own remarks.
    pub stream: String,
    /// Without its newline.
    pub text: String,
}

/// Input of `CompleteConnection`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CompleteConnectionRequest {
    /// The connection.
    pub connection_arn: String,
}

/// Output of `CompleteConnection`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CompleteConnectionResponse {
    /// As in `ListConnections`; it is `AVAILABLE`.
    pub connection: Connection,
}

/// Input of `GetStatus`: nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct GetStatusRequest {}

/// Output of `GetStatus`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetStatusResponse {
    /// Ekiden's version.
    pub version: String,
    /// Whether the edge serves by the newest routes.
    pub edge_current: bool,
    /// Whether the engine can be reached.
    pub engine_current: bool,
    /// Services that are not deleted.
    pub services: u32,
    /// Instances that have not been removed.
    pub instances: u32,
}
