//! Ekiden's own operations: what App Runner's API has no words for.
//!
//! Same endpoint, protocol and signature; the target is `Ekiden.<Operation>`. Member names follow
//! AWS's habits, so that any awsJson client can call them.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    apprunner::shapes::{
        Connection, EncryptionConfiguration, HealthCheckConfiguration, InstanceConfiguration,
        NetworkConfiguration, Service, ServiceObservabilityConfiguration, SourceConfiguration,
    },
    operations::operations,
};

/// The target prefix of native operations.
pub const TARGET_PREFIX: &str = "Ekiden";

operations! {
    /// What Ekiden can be asked to do beside App Runner's operations.
    pub enum NativeOperation {
        /// [`ListInstancesRequest`] in, [`ListInstancesResponse`] out.
        ListInstances,
        /// [`DescribeOperationRequest`] in, [`DescribeOperationResponse`] out.
        DescribeOperation,
        /// [`CancelOperationRequest`] in, [`CancelOperationResponse`] out.
        CancelOperation,
        /// [`ListRevisionsRequest`] in, [`ListRevisionsResponse`] out.
        ListRevisions,
        /// [`RollbackServiceRequest`] in, [`RollbackServiceResponse`] out.
        RollbackService,
        /// [`DescribeDomainRequest`] in, [`DescribeDomainResponse`] out.
        DescribeDomain,
        /// [`ListDomainsRequest`] in, [`ListDomainsResponse`] out.
        ListDomains,
        /// [`DescribeIngressRequest`] in, [`DescribeIngressResponse`] out.
        DescribeIngress,
        /// [`UpdateIngressRequest`] in, [`UpdateIngressResponse`] out.
        UpdateIngress,
        /// [`DescribeTrafficRequest`] in, [`DescribeTrafficResponse`] out.
        DescribeTraffic,
        /// [`DescribeScalingRequest`] in, [`ScalingResponse`] out.
        DescribeScaling,
        /// [`UpdateScalingRequest`] in, [`ScalingResponse`] out.
        UpdateScaling,
        /// [`CompleteConnectionRequest`] in, [`CompleteConnectionResponse`] out.
        CompleteConnection,
        /// [`PutConnectionCredentialRequest`] in, [`PutConnectionCredentialResponse`] out.
        PutConnectionCredential,
        /// [`CreateWebhookRequest`] in, [`CreateWebhookResponse`] out.
        CreateWebhook,
        /// [`DeleteWebhookRequest`] in, [`DeleteWebhookResponse`] out.
        DeleteWebhook,
        /// [`PutWebhookTargetRequest`] in, [`PutWebhookTargetResponse`] out.
        PutWebhookTarget,
        /// [`ListWebhookTargetsRequest`] in, [`ListWebhookTargetsResponse`] out.
        ListWebhookTargets,
        /// [`DeleteWebhookTargetRequest`] in, [`DeleteWebhookTargetResponse`] out.
        DeleteWebhookTarget,
        /// [`TestWebhookTargetRequest`] in, [`TestWebhookTargetResponse`] out.
        TestWebhookTarget,
        /// [`ListAlertsRequest`] in, [`ListAlertsResponse`] out.
        ListAlerts,
        /// [`GetBuildLogRequest`] in, [`GetBuildLogResponse`] out.
        GetBuildLog,
        /// [`GetLogsRequest`] in, [`GetLogsResponse`] out.
        GetLogs,
        /// [`GetStatusRequest`] in, [`GetStatusResponse`] out.
        GetStatus,
        /// [`GetUsageRequest`] in, [`GetUsageResponse`] out.
        GetUsage,
        /// [`CreateAccessKeyRequest`] in, [`CreateAccessKeyResponse`] out.
        CreateAccessKey,
        /// [`ListAccessKeysRequest`] in, [`ListAccessKeysResponse`] out.
        ListAccessKeys,
        /// [`UpdateAccessKeyRequest`] in, [`UpdateAccessKeyResponse`] out.
        UpdateAccessKey,
        /// [`DeleteAccessKeyRequest`] in, [`DeleteAccessKeyResponse`] out.
        DeleteAccessKey,
        /// [`ListAuditEventsRequest`] in, [`ListAuditEventsResponse`] out.
        ListAuditEvents,
        /// [`MoveCustomDomainRequest`] in, [`MoveCustomDomainResponse`] out.
        MoveCustomDomain,
        /// [`DescribeCertificateAuthorityRequest`] in, [`DescribeCertificateAuthorityResponse`] out.
        DescribeCertificateAuthority,
        /// [`ListCertificatesRequest`] in, [`ListCertificatesResponse`] out.
        ListCertificates,
        /// [`ImportCertificateRequest`] in, [`CertificateResponse`] out.
        ImportCertificate,
        /// [`CertificateRequest`] in, [`CertificateResponse`] out.
        RemoveCertificate,
        /// [`CertificateRequest`] in, [`CertificateResponse`] out.
        RenewCertificate,
        /// [`CertificateRequest`] in, [`CertificateResponse`] out.
        RevokeCertificate,
        /// [`PutDrainRequest`] in, [`PutDrainResponse`] out.
        PutDrain,
        /// [`DeleteDrainRequest`] in, [`DeleteDrainResponse`] out.
        DeleteDrain,
        /// [`ListDrainsRequest`] in, [`ListDrainsResponse`] out.
        ListDrains,
        /// [`TestDrainRequest`] in, [`TestDrainResponse`] out.
        TestDrain,
    }
}

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
    /// How much it may do: `boosted` until it is healthy, `active`, `throttled` or `frozen`. Absent
    /// unless it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity: Option<String>,
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

/// Input of `DescribeIngress`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DescribeIngressRequest {
    /// The service.
    pub service_arn: String,
}

/// Output of `DescribeIngress`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DescribeIngressResponse {
    /// The service.
    pub service_arn: String,
    /// Every setting of its front door, as a JSON document. Of users only the names.
    pub ingress: String,
}

/// Input of `DescribeTraffic`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DescribeTrafficRequest {
    /// The service.
    pub service_arn: String,
}

/// Output of `DescribeTraffic`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DescribeTrafficResponse {
    /// The service.
    pub service_arn: String,
    /// What became of its requests.
    pub traffic: Traffic,
}

/// Requests that are over, as the front door has told: about a second late.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Traffic {
    /// Since when they are counted: when the control plane was started. Seconds since the Unix
    /// epoch.
    pub since: u64,
    /// All of them.
    pub requests: u64,
    /// Those whose clients were sent a status of 1xx.
    pub status_1xx: u64,
    /// The same of 2xx.
    pub status_2xx: u64,
    /// The same of 3xx.
    pub status_3xx: u64,
    /// The same of 4xx.
    pub status_4xx: u64,
    /// The same of 5xx.
    pub status_5xx: u64,
    /// Those whose clients were sent none.
    pub unanswered: u64,
    /// Why the front door answered in the application's place or gave up: how many by cause. Only
    /// causes that there were.
    pub causes: BTreeMap<String, u64>,
}

/// Input of `UpdateIngress`. It may hold passwords, and has no `Debug` that shows them.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateIngressRequest {
    /// The service.
    pub service_arn: String,
    /// A JSON document of the settings to change; the others stay, and `null` is the default.
    pub ingress: String,
}

impl fmt::Debug for UpdateIngressRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpdateIngressRequest")
            .field("service_arn", &self.service_arn)
            .finish_non_exhaustive()
    }
}

/// Output of `UpdateIngress`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateIngressResponse {
    /// The service.
    pub service_arn: String,
    /// Every setting of its front door, as a JSON document. Of users only the names.
    pub ingress: String,
    /// Whether the front door serves by it already; if not, it will as soon as it can.
    pub served: bool,
}

/// Input of `DescribeScaling`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DescribeScalingRequest {
    /// The service.
    pub service_arn: String,
}

/// Input of `UpdateScaling`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateScalingRequest {
    /// The service.
    pub service_arn: String,
    /// A JSON document of the settings to change; the others stay, and `null` is the default.
    pub settings: String,
}

/// Output of `DescribeScaling` and `UpdateScaling`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ScalingResponse {
    /// The service.
    pub service_arn: String,
    /// The service's own settings, as a JSON document; what is not in it is not set.
    pub settings: String,
    /// What it scales by now. Absent until it is known, and while the service does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<ScalingDecision>,
    /// Instances that are kept.
    pub instances_min: u32,
    /// The most instances.
    pub instances_max: u32,
    /// Requests that one instance holds at once.
    pub concurrency_per_instance: u32,
    /// How much of that is used before there is another instance, in percent.
    pub utilisation: u32,
    /// How long less must have been asked for before instances are taken away.
    pub scale_in_seconds: u64,
    /// With a minimum of 0: how long nothing may have been asked for before the last one is stopped.
    pub idle_seconds: u64,
    /// How long nothing may have been asked for before instances are throttled; 0 is never.
    pub throttle_seconds: u64,
    /// How long nothing may have been asked for before instances are frozen; 0 is never.
    pub freeze_seconds: u64,
    /// Instances that are neither throttled nor frozen.
    pub active_min: u32,
    /// How much of an instance's CPU is used before there is another, in percent, if that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_target: Option<u32>,
    /// The same of its memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_target: Option<u32>,
    /// Whether a peak of its own settings is on.
    pub peak: bool,
    /// How much those that are ready may do now: `active`, `throttled` or `frozen`. Absent like `now`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity: Option<String>,
    /// Why the host starts no more instances, if it refused the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The last decisions that changed the number, newest first; forgotten when control restarts.
    pub decisions: Vec<ScalingDecision>,
    /// The last starts, newest first; forgotten when control restarts.
    pub starts: Vec<InstanceStart>,
}

/// How long each stage of a start took, in microseconds; absent until it is over.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct InstanceStart {
    /// 32 hexadecimal digits.
    pub instance_id: String,
    /// When it was ordered: seconds since the Unix epoch.
    pub at: u64,
    /// From the news that made it necessary to the order.
    pub decide_micros: u64,
    /// From the order until its process ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepare_micros: Option<u64>,
    /// Until it was healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_micros: Option<u64>,
    /// Until every front door sent it requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_micros: Option<u64>,
}

/// How many instances there should be, and what that was decided by.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ScalingDecision {
    /// Seconds since the Unix epoch.
    pub at: u64,
    /// Instances there should be.
    pub wanted: u32,
    /// Why, as a sentence.
    pub reason: String,
    /// Requests that instances held.
    pub in_flight: u32,
    /// Requests that waited for an instance.
    pub queued: u32,
    /// Instances that served.
    pub ready: u32,
    /// Instances on their way.
    pub starting: u32,
    /// CPU time that those that served used together, in percent of what one of them may.
    pub cpu_percent: u32,
    /// The same of memory.
    pub memory_percent: u32,
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
    /// The commit that its image was built from, or the version of an upload; absent for an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_version: Option<String>,
    /// The first line of that commit's message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_summary: Option<String>,
    /// What built it, with the version really used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
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

/// Input of `MoveCustomDomain`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MoveCustomDomainRequest {
    /// The service that has it.
    pub service_arn: String,
    /// Its custom domain; it has to be active.
    pub domain_name: String,
    /// The service that is to have it.
    pub target_service_arn: String,
}

/// Output of `MoveCustomDomain`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MoveCustomDomainResponse {
    /// The domain, of the target now.
    pub domain: Domain,
}

/// Input of `DescribeCertificateAuthority`: nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DescribeCertificateAuthorityRequest {}

/// Output of `DescribeCertificateAuthority`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DescribeCertificateAuthorityResponse {
    /// The local authority's own certificate, in PEM.
    pub certificate: String,
}

/// Input of `ListCertificates`: nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ListCertificatesRequest {}

/// Output of `ListCertificates`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListCertificatesResponse {
    /// The one that ends first is the first.
    pub certificates: Vec<Certificate>,
    /// What is wanted and not there.
    pub missing: Vec<MissingCertificate>,
    /// What to do about Ekiden's own authority, if it can issue nothing: a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority_warning: Option<String>,
}

/// A certificate; its key is never shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Certificate {
    /// 32 hexadecimal digits.
    pub certificate_id: String,
    /// The names in it.
    pub names: Vec<String>,
    /// The names it is presented for: for others there is a better one, or nobody wants it.
    pub presented_for: Vec<String>,
    /// `LOCAL`, `ACME` or `IMPORTED`.
    pub source: String,
    /// The URL of the directory of the ACME authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// In hexadecimal.
    pub serial: String,
    /// Seconds since the Unix epoch.
    pub not_before: u64,
    /// Seconds since the Unix epoch.
    pub not_after: u64,
    /// From when on a new one is wanted; not of imported ones. Seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<u64>,
    /// Seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<u64>,
    /// What somebody should look at, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Why the last attempt to renew it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A certificate that is wanted and not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MissingCertificate {
    /// The names that it is to have.
    pub names: Vec<String>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When the next is made; seconds since the Unix epoch.
    pub next_attempt_at: u64,
}

/// Input of `ImportCertificate`. Not shown by `Debug`: it has the key.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImportCertificateRequest {
    /// The certificate and those that vouch for it, in PEM, its own first.
    pub certificate_chain: String,
    /// Its key, in PEM and not encrypted. Sensitive: never shown.
    pub private_key: String,
}

impl fmt::Debug for ImportCertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ImportCertificateRequest")
    }
}

/// Input of what is done with one certificate.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CertificateRequest {
    /// Its id, the first 8 digits of it or more, or a name that no other certificate has.
    pub certificate: String,
}

/// Output of what is done with one certificate.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CertificateResponse {
    /// The certificate, as it is now or was before it went.
    pub certificate: Certificate,
}

/// Input of `GetLogs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetLogsRequest {
    /// The service.
    pub service_arn: String,
    /// `application`, what its instances wrote; `service`, what happened to it; or `access`, its
    /// requests. `application` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Only lines of this instance, or of those whose ids begin so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Only lines from this time on, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Only lines before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Only lines of this filter pattern of CloudWatch Logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_pattern: Option<String>,
    /// `Next` of the answer before. When absent, the newest lines, or with `Since` and without
    /// `MaxLines` all of them, oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// 1 to 1000; 100 newest ones when absent.
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
    /// Whether there is more to get at once.
    pub more: bool,
}

/// One line of a log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogLine {
    /// The instance that wrote it; empty in other logs.
    pub instance_id: String,
    /// Milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// Its log stream: `instance/ID`, `events`, `deployment/ID` and so on; `ekiden` for what is said
    /// about the lines.
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

/// Input of `PutConnectionCredential`: what the services that use a connection open its repositories with.
/// No `Debug`: it is secret.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PutConnectionCredentialRequest {
    /// The connection. It is available then.
    pub connection_arn: String,
    /// The host, with its port if that is not the usual one, that it is for: it is sent nowhere else. That of
    /// the connection's provider when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The user of a token or password; `git` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// A token or password, for repositories by HTTPS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// A private key in PEM, for repositories by SSH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
    /// Lines of `known_hosts` (sshd(8)); whoever answers first is believed when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<String>,
}

/// Output of `PutConnectionCredential`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PutConnectionCredentialResponse {
    /// As in `ListConnections`; it is `AVAILABLE`.
    pub connection: Connection,
}

/// Input of `CreateWebhook`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateWebhookRequest {
    /// A service that runs code of a repository.
    pub service_arn: String,
}

/// Output of `CreateWebhook`. The secret before it, if there was one, is of no use any more.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateWebhookResponse {
    /// The path, on the API's address, that the git host is to post pushes to.
    pub path: String,
    /// What it is to sign them with. It is shown this once.
    pub secret: String,
}

/// Input of `DeleteWebhook`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteWebhookRequest {
    /// The service.
    pub service_arn: String,
}

/// Output of `DeleteWebhook`: nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DeleteWebhookResponse {}

/// Input of `PutWebhookTarget`. A URL may be a secret: there is no `Debug` that shows it.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PutWebhookTargetRequest {
    /// 1 to 64 of `A-Z`, `a-z`, `0-9`, `.`, `-` and `_`, unique in the region.
    pub name: String,
    /// Where events are posted to.
    pub url: String,
    /// Whether one that is there already gets a new secret.
    pub new_secret: bool,
}

impl fmt::Debug for PutWebhookTargetRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutWebhookTargetRequest")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Output of `PutWebhookTarget`. No `Debug`: the secret is in it.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PutWebhookTargetResponse {
    /// By which rules name it as a target.
    pub arn: String,
    /// What requests are signed with, when it is new. It is shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Input of `ListWebhookTargets`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListWebhookTargetsRequest {}

/// Output of `ListWebhookTargets`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListWebhookTargetsResponse {
    /// By name.
    pub targets: Vec<WebhookTarget>,
}

/// An address that events are posted to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WebhookTarget {
    /// Unique in the region.
    pub name: String,
    /// By which rules name it.
    pub arn: String,
    /// Scheme, host and port of its URL.
    pub endpoint: String,
    /// Seconds since the Unix epoch.
    pub created_at: u64,
    /// Events on their way to it.
    pub waiting: u64,
    /// Events that arrived.
    pub delivered: u64,
    /// Events that will not arrive: too old, refused too often, or too many.
    pub lost: u64,
    /// What went wrong last; absent when the last arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Input of `DeleteWebhookTarget`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteWebhookTargetRequest {
    /// Which. No rule may have it as a target.
    pub name: String,
}

/// Output of `DeleteWebhookTarget`: nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DeleteWebhookTargetResponse {}

/// Input of `TestWebhookTarget`: an event of the type `Ekiden Test` is posted once, at once.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TestWebhookTargetRequest {
    /// Which.
    pub name: String,
}

/// Output of `TestWebhookTarget`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TestWebhookTargetResponse {
    /// Whether the receiver took it.
    pub delivered: bool,
    /// What went wrong, if it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Input of `ListAlerts`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListAlertsRequest {}

/// Output of `ListAlerts`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListAlertsResponse {
    /// Those that are raised, of the region's services and of the host.
    pub alerts: Vec<Alert>,
}

/// An alert that is raised.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Alert {
    /// `SERVICE_DOWN`, `DEPLOYMENT_FAILED`, `CRASH_LOOP`, `DISK_NEAR`, `CERTIFICATE_NEAR_EXPIRY` or
    /// `DRAIN_LAGGING`.
    pub kind: String,
    /// What it is about: a service's id, a certificate's names, a budget or a drain.
    pub subject: String,
    /// The service, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_arn: Option<String>,
    /// That service's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Seconds since the Unix epoch.
    pub raised_at: u64,
    /// What is wrong, why, and what to do, in sentences.
    pub message: String,
}

/// Input of `GetBuildLog`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetBuildLogRequest {
    /// The service.
    pub service_arn: String,
    /// The operation that built; the newest one that did when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    /// `Next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// How long the answer waits for a line, 0 to 20; 0 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u32>,
}

/// Output of `GetBuildLog`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetBuildLogResponse {
    /// Whose log it is.
    pub operation_id: String,
    /// Oldest first; at most 1000.
    pub lines: Vec<BuildLogLine>,
    /// Where the next page begins.
    pub next: u64,
    /// Whether there will be no more.
    pub over: bool,
}

/// A line of a build's log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildLogLine {
    /// Milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// Whether Ekiden says it, rather than a command of the build.
    pub by_ekiden: bool,
    /// Without its end.
    pub text: String,
}

/// What an upload is answered with: the path is `/ekiden/uploads/<region>/<service name>`, the body an
/// archive, the login an access key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UploadResponse {
    /// The `SourceCodeVersion` that stands for it.
    pub version: String,
    /// Files and links in it.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// What a manifest is answered with, at `/ekiden/uploads/<region>/<service name>/manifest`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MissingResponse {
    /// Digests, in hexadecimal, of the contents that are not here.
    pub missing: Vec<String>,
}

/// What a refused upload or webhook is answered with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PlainFailure {
    /// What, why, and what to do.
    pub message: String,
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
    /// What somebody should look at about certificates: how many of them.
    pub certificate_warnings: u32,
    /// What became of all requests at the front door.
    pub traffic: Traffic,
    /// Of these, the ones that led to no service.
    pub unrouted_traffic: Traffic,
    /// Requests refused for their signature since the control plane was started.
    pub authentication_failures: u64,
    /// Requests whose sender is known and may not, since then.
    pub access_denied: u64,
    /// Events of both kinds that are only counted, because too many came at once.
    pub audit_events_left_out: u64,
}

/// Input of `GetUsage`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetUsageRequest {
    /// Only this service; all of the region when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_arn: Option<String>,
    /// 1 to 50; 50 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<u32>,
    /// `NextToken` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Output of `GetUsage`.
///
/// Counters only grow while `since` is the same: the difference of two answers, by the difference of their
/// `counted_until`, is a rate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetUsageResponse {
    /// When counting began: milliseconds since the Unix epoch. Another one after control has started anew.
    pub since: u64,
    /// Until when requests are counted that are over: milliseconds since the Unix epoch, up to a second ago.
    pub counted_until: u64,
    /// In the order in which they were created.
    pub services: Vec<ServiceUsage>,
    /// The machine that it all runs on.
    pub host: HostUsage,
    /// Leads to the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// What is asked of one service, and what it uses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceUsage {
    /// The service.
    pub service_arn: String,
    /// Its id.
    pub service_id: String,
    /// Its name.
    pub service_name: String,
    /// As in `DescribeService`.
    pub status: String,
    /// Requests that are over, since `since`.
    pub requests: u64,
    /// By the class of the status that clients were sent.
    #[serde(rename = "Status1xx")]
    pub status_1xx: u64,
    /// As before.
    #[serde(rename = "Status2xx")]
    pub status_2xx: u64,
    /// As before.
    #[serde(rename = "Status3xx")]
    pub status_3xx: u64,
    /// As before.
    #[serde(rename = "Status4xx")]
    pub status_4xx: u64,
    /// As before.
    #[serde(rename = "Status5xx")]
    pub status_5xx: u64,
    /// Those whose clients were sent none.
    pub unanswered: u64,
    /// Why the front door answered in the application's place or gave up: how many by cause.
    pub causes: BTreeMap<String, u64>,
    /// How long requests took, in microseconds, since `since`.
    pub latency: Distribution,
    /// Requests that instances hold now. Absent until the front door has told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Requests that wait for an instance now. Absent until the front door has told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued: Option<u32>,
    /// Instances by their status; only statuses that there are.
    pub instances_by_status: BTreeMap<String, u32>,
    /// CPU time per second that all instances use, in thousandths of a CPU.
    pub cpu_millis: u64,
    /// Memory that all instances use, without what the kernel could drop at once.
    pub memory_bytes: u64,
    /// What one instance may use of CPUs.
    pub cpu_millis_max: u32,
    /// What one instance may use of memory.
    pub memory_bytes_max: u64,
    /// The 100 that use the most CPU, those first.
    pub instances: Vec<InstanceUsage>,
}

/// What one instance is and uses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct InstanceUsage {
    /// 32 hexadecimal digits.
    pub instance_id: String,
    /// As in `ListInstances`.
    pub status: String,
    /// As in `ListInstances`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity: Option<String>,
    /// CPU time per second, in thousandths of a CPU. Absent until it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// Memory, without what the kernel could drop at once. Absent until it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// Values, counted by bucket. Bucket `b` below 256 has the value `b`; above it has the `2^s` values from
/// `(b - 128 s) * 2^s` on, where `s` is `b / 128 - 1`, rounded down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Distribution {
    /// How many.
    pub count: u64,
    /// All together.
    pub sum: u64,
    /// The smallest; 0 when there is none.
    pub min: u64,
    /// The largest; 0 when there is none.
    pub max: u64,
    /// Buckets that have some, in order, each with how many.
    pub buckets: Vec<(u16, u64)>,
}

/// What the machine has, and what Ekiden's stores take of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostUsage {
    /// CPUs.
    pub cpus: u32,
    /// Memory in bytes. Absent when the kernel does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Disk that lines of logs take.
    pub logs_disk_bytes: u64,
    /// Disk that metrics take.
    pub metrics_disk_bytes: u64,
}

/// An access key without its secret.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AccessKey {
    /// The public half.
    pub access_key_id: String,
    /// `admin`, `deployer` or `viewer`.
    pub role: String,
    /// A deployer's: patterns of the names of the services it may change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// `Active` or `Inactive`.
    pub status: String,
    /// Seconds since the Unix epoch.
    pub created_at: u64,
    /// Seconds since the Unix epoch, if it was ever used; about a minute late after a crash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<u64>,
    /// The address it was used from then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_from: Option<String>,
}

/// Input of `CreateAccessKey`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateAccessKeyRequest {
    /// Required: `admin`, `deployer` or `viewer`.
    pub role: String,
    /// Required of a deployer, forbidden to others: patterns of service names, `*` for anything.
    pub services: Vec<String>,
    /// At most 256 characters.
    pub description: String,
}

/// Output of `CreateAccessKey`. The only answer that ever has the secret.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateAccessKeyResponse {
    /// The key.
    pub access_key: AccessKey,
    /// Its secret half.
    pub secret_access_key: String,
}

impl fmt::Debug for CreateAccessKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateAccessKeyResponse")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// Input of `ListAccessKeys`: nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ListAccessKeysRequest {}

/// Output of `ListAccessKeys`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListAccessKeysResponse {
    /// Oldest first.
    pub access_keys: Vec<AccessKey>,
}

/// Input of `UpdateAccessKey`. What is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateAccessKeyRequest {
    /// The key.
    pub access_key_id: String,
    /// `Active` or `Inactive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// As in [`CreateAccessKeyRequest`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// As in [`CreateAccessKeyRequest`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<String>>,
    /// As in [`CreateAccessKeyRequest`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Output of `UpdateAccessKey`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateAccessKeyResponse {
    /// The key as it is now.
    pub access_key: AccessKey,
}

/// Input of `DeleteAccessKey`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteAccessKeyRequest {
    /// The key.
    pub access_key_id: String,
}

/// Output of `DeleteAccessKey`: nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DeleteAccessKeyResponse {}

/// Input of `ListAuditEvents`. What is absent does not filter.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListAuditEventsRequest {
    /// Not before: seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<u64>,
    /// Before: seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<u64>,
    /// Only what was done to the service of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Only what was done with this key, sessions of it included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// `Success`, or an error's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// 1 to 1000; 100 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<u32>,
    /// `NextToken` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Output of `ListAuditEvents`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListAuditEventsResponse {
    /// Newest first. A page may have fewer than were asked for, none even, and others after it.
    pub events: Vec<AuditEvent>,
    /// There when there may be older ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Something that was done, or was not allowed to be. Also a line of the audit log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AuditEvent {
    /// Milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// As in the answer's header.
    pub request_id: String,
    /// Such as `apprunner:CreateService`; empty when no operation was found.
    pub action: String,
    /// The key that signed, or was said to have; a session's parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Who that is, if the signature is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller_arn: Option<String>,
    /// The address it came from.
    pub source: String,
    /// The region that the signature names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What it was done to: an ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The name of the service that this is or belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// `Success`, or the error's name.
    pub result: String,
    /// Events like this one that came before it and are only counted, because too many came at once.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

/// Input of `PutDrain`: makes a drain, or gives the one of its name other settings.
///
/// No `Debug`: secrets are in it.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PutDrainRequest {
    /// 1 to 64 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The only service whose lines are sent; all services' when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_arn: Option<String>,
    /// Of `application`, `service` and `access`; the first two when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<String>>,
    /// Where to: a JSON document with `type` (`otlp`, `syslog`, `fluent`, `http` or `s3`) and what belongs to it.
    pub target: String,
    /// What only the receiver and Ekiden may know, as a JSON document. Those of before stay when it is absent
    /// and the type of the target stays the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<String>,
    /// Whether it sends; it does when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether groups that are new to the drain are sent from their oldest line rather than from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_beginning: Option<bool>,
}

/// Output of `PutDrain`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PutDrainResponse {
    /// The drain.
    pub drain: Drain,
}

/// Input of `DeleteDrain`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteDrainRequest {
    /// The drain. What it has not sent stays in the logs.
    pub name: String,
}

/// Output of `DeleteDrain`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DeleteDrainResponse {}

/// Input of `ListDrains`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ListDrainsRequest {}

/// Output of `ListDrains`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListDrainsResponse {
    /// By name.
    pub drains: Vec<Drain>,
}

/// A drain: what sends lines of logs to another system.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Drain {
    /// Its name.
    pub name: String,
    /// The only service whose lines are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_arn: Option<String>,
    /// Of `application`, `service` and `access`.
    pub kinds: Vec<String>,
    /// Where to, as in `PutDrain`. Without secrets.
    pub target: String,
    /// Which secrets it has: their names, such as `headers.authorization`.
    pub secret_names: Vec<String>,
    /// Whether it sends.
    pub enabled: bool,
    /// When it was made, in seconds since the Unix epoch.
    pub created_at: u64,
    /// How it goes.
    pub status: DrainStatus,
}

/// How it goes with a drain. Counts are since the control plane was started or the drain was changed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DrainStatus {
    /// `RUNNING`; `RETRYING` when the receiver does not take what it may take later; `PAUSED` when it refuses
    /// for good one batch after another; `DISABLED`.
    pub state: String,
    /// Lines that the receiver took.
    pub lines_sent: u64,
    /// Bytes that went out for them.
    pub bytes_sent: u64,
    /// Lines that the receiver will not have; they are left out.
    pub lines_rejected: u64,
    /// Lines that were removed from the logs, by age or size, before they were sent.
    pub lines_lost: u64,
    /// Lines that are there and not sent yet.
    pub behind_lines: u64,
    /// How long the oldest of them has been there, more or less, in seconds.
    pub behind_seconds: u64,
    /// Why the last batch that failed did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When that was, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_at: Option<u64>,
    /// When a batch was last taken, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<u64>,
    /// When the batch on its way is tried again, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<u64>,
}

/// Input of `TestDrain`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TestDrainRequest {
    /// The drain; it may be disabled.
    pub name: String,
}

/// Output of `TestDrain`: what came of sending one line that says it is a test.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TestDrainResponse {
    /// Whether the receiver took it.
    pub taken: bool,
    /// What the receiver said, or why it did not take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How long that took.
    pub milliseconds: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
