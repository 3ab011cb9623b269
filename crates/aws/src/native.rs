//! Ekiden's own operations: what App Runner's API has no words for.
//!
//! Same endpoint, protocol and signature; the target is `Ekiden.<Operation>`. Member names follow
//! AWS's habits, so that any awsJson client can call them.

use serde::{Deserialize, Serialize};

use crate::apprunner::shapes::Connection;

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
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
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

/// Input of `ListDomains`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListDomainsRequest {
    /// Only this service's domains; all services' of the region when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_arn: Option<String>,
}

/// Output of `ListDomains`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListDomainsResponse {
    /// By service, then oldest first.
    pub domains: Vec<Domain>,
}

/// Input of `DescribeDomain`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DescribeDomainRequest {
    /// The service.
    pub service_arn: String,
    /// Its custom domain.
    pub domain_name: String,
}

/// Output of `DescribeDomain`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DescribeDomainResponse {
    /// The domain.
    pub domain: Domain,
}

/// A custom domain with what App Runner keeps to itself: what it waits for and why it failed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Domain {
    /// Such as `example.com` or `*.example.com`.
    pub domain_name: String,
    /// Whether `www.` in front of it leads there too.
    #[serde(rename = "EnableWWWSubdomain")]
    pub enable_www_subdomain: bool,
    /// The service that it belongs to.
    pub service_arn: String,
    /// That service's name.
    pub service_name: String,
    /// The host name that the domain's own record is to point to.
    #[serde(rename = "DNSTarget")]
    pub dns_target: String,
    /// As in `DescribeCustomDomains`: lower case.
    pub status: String,
    /// What it waits for now, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// Why it failed and what to do, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What proves that it is its owner's: one CNAME record for each name of its certificate.
    pub records: Vec<DomainRecord>,
    /// Seconds since the Unix epoch.
    pub created_at: u64,
    /// Since when it is where it is; seconds since the Unix epoch.
    pub status_since: u64,
}

/// A CNAME record that proves a domain.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DomainRecord {
    /// Without a dot at its end.
    pub name: String,
    /// What it must point to.
    pub value: String,
    /// `PENDING_VALIDATION`, `SUCCESS` or `FAILED`.
    pub status: String,
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
