//! Every operation there is, what permission each asks for, and what it is done to.

use ekiden_aws::{
    apprunner::shapes::Operation as AppRunner,
    arn::{Arn, Resource},
    cloudwatch::shapes::Operation as CloudWatch,
    decode::Tree,
    ecr::shapes::Operation as Ecr,
    events::shapes::Operation as Events,
    logs::shapes::Operation as Logs,
    native::NativeOperation as Native,
    protocol::{Route, Service},
    secretsmanager::shapes::Operation as Secrets,
    ssm::shapes::Operation as Parameters,
    sts::Operation as Sts,
};
use ekiden_model::access::Access;

/// Where an operation's input says what it is done to: the one member that its handler goes by.
/// Another one must not count, known or unknown: whoever may deploy one service could name it there
/// and have the operation done to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// A service that is there, or anything else that has an ARN, an id or a name.
    By(&'static str),
    /// A service that is not there yet, by its name.
    NewService,
    /// A repository, by its name or its ARN.
    Repository(&'static str),
    /// A log group, by its name or its ARN.
    LogGroup(&'static str),
    /// A name space of metrics.
    Namespace(&'static str),
    /// Nothing in particular.
    Nothing,
}

/// An operation of any service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    AppRunner(AppRunner),
    Native(Native),
    Sts(Sts),
    Secrets(Secrets),
    Parameters(Parameters),
    Ecr(Ecr),
    Logs(Logs),
    CloudWatch(CloudWatch),
    Events(Events),
}

/// What an operation is done to, as far as its input says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subject {
    /// The name of the service that it is, or belongs to.
    pub(super) service: Option<String>,
    /// Its ARN; an access key's id, a secret's or parameter's name.
    pub(super) resource: Option<String>,
}

impl Operation {
    /// The operation that a request asks for, if the service has it.
    pub(super) fn of(route: &Route) -> Option<Self> {
        let name = route.operation.as_str();
        match route.api.service {
            Service::AppRunner => AppRunner::from_name(name).map(Self::AppRunner),
            Service::Ekiden => Native::from_name(name).map(Self::Native),
            Service::Sts => Sts::from_name(name).map(Self::Sts),
            Service::SecretsManager => Secrets::from_name(name).map(Self::Secrets),
            Service::SystemsManager => Parameters::from_name(name).map(Self::Parameters),
            Service::ContainerRegistry => Ecr::from_name(name).map(Self::Ecr),
            Service::Logs => Logs::from_name(name).map(Self::Logs),
            Service::CloudWatch => CloudWatch::from_name(name).map(Self::CloudWatch),
            Service::Events => Events::from_name(name).map(Self::Events),
        }
    }

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AppRunner(operation) => operation.name(),
            Self::Native(operation) => operation.name(),
            Self::Sts(operation) => operation.name(),
            Self::Secrets(operation) => operation.name(),
            Self::Parameters(operation) => operation.name(),
            Self::Ecr(operation) => operation.name(),
            Self::Logs(operation) => operation.name(),
            Self::CloudWatch(operation) => operation.name(),
            Self::Events(operation) => operation.name(),
        }
    }

    const fn named(self) -> Named {
        match self {
            Self::AppRunner(operation) => named_by_app_runner(operation),
            Self::Native(operation) => named_by_native(operation),
            Self::Sts(operation) => named_by_sts(operation),
            Self::Secrets(operation) => named_by_secrets(operation),
            Self::Parameters(operation) => named_by_parameters(operation),
            Self::Ecr(operation) => named_by_ecr(operation),
            Self::Logs(operation) => named_by_logs(operation),
            Self::CloudWatch(operation) => named_by_cloudwatch(operation),
            Self::Events(operation) => named_by_events(operation),
        }
    }

    /// What it does, as far as permission goes.
    pub(super) const fn access(self) -> Access {
        match self {
            Self::AppRunner(operation) => of_app_runner(operation),
            Self::Native(operation) => of_native(operation),
            Self::Sts(operation) => of_sts(operation),
            Self::Secrets(operation) => of_secrets(operation),
            Self::Parameters(operation) => of_parameters(operation),
            Self::Ecr(operation) => of_ecr(operation),
            Self::Logs(operation) => of_logs(operation),
            Self::CloudWatch(operation) => of_cloudwatch(operation),
            Self::Events(operation) => of_events(operation),
        }
    }

    /// Whether it adds to a stream of data, which the audit log does not follow (CloudTrail's "data
    /// events"): a log shipper's requests, one every few seconds, would drive out all others.
    pub(super) const fn is_data(self) -> bool {
        matches!(
            self,
            Self::Logs(Logs::PutLogEvents)
                | Self::CloudWatch(CloudWatch::PutMetricData)
                | Self::Events(Events::PutEvents)
        )
    }
}

const fn of_app_runner(operation: AppRunner) -> Access {
    use AppRunner as O;
    match operation {
        O::DescribeAutoScalingConfiguration
        | O::DescribeCustomDomains
        | O::DescribeObservabilityConfiguration
        | O::DescribeService
        | O::DescribeVpcConnector
        | O::DescribeVpcIngressConnection
        | O::ListAutoScalingConfigurations
        | O::ListConnections
        | O::ListObservabilityConfigurations
        | O::ListOperations
        | O::ListServices
        | O::ListServicesForAutoScalingConfiguration
        | O::ListTagsForResource
        | O::ListVpcConnectors
        | O::ListVpcIngressConnections => Access::Read,
        O::AssociateCustomDomain
        | O::CreateService
        | O::DeleteService
        | O::DisassociateCustomDomain
        | O::PauseService
        | O::ResumeService
        | O::StartDeployment
        // Tags of a service: those of anything else name no service, which is the admin's.
        | O::TagResource
        | O::UntagResource
        | O::UpdateService => Access::Deploy,
        O::CreateAutoScalingConfiguration
        | O::CreateConnection
        | O::CreateObservabilityConfiguration
        | O::CreateVpcConnector
        | O::CreateVpcIngressConnection
        | O::DeleteAutoScalingConfiguration
        | O::DeleteConnection
        | O::DeleteObservabilityConfiguration
        | O::DeleteVpcConnector
        | O::DeleteVpcIngressConnection
        | O::UpdateDefaultAutoScalingConfiguration
        | O::UpdateVpcIngressConnection => Access::Administer,
    }
}

const fn of_native(operation: Native) -> Access {
    use Native as O;
    match operation {
        O::ListInstances
        | O::DescribeOperation
        | O::DescribeDomain
        | O::DescribeIngress
        | O::DescribeTraffic
        | O::DescribeScaling
        | O::ListDomains
        | O::ListRevisions
        | O::DescribeCertificateAuthority
        | O::ListCertificates
        | O::ListAlerts
        | O::ListWebhookTargets
        | O::GetBuildLog
        | O::GetLogs
        | O::GetStatus
        | O::GetUsage => Access::Read,
        O::ListAccessKeys | O::ListAuditEvents | O::ListDrains => Access::ReadRestricted,
        O::CancelOperation | O::RollbackService | O::UpdateIngress | O::UpdateScaling => {
            Access::Deploy
        }
        // A move needs both services, and a deployer may have one of them only.
        O::MoveCustomDomain
        | O::ImportCertificate
        | O::RemoveCertificate
        | O::RenewCertificate
        | O::RevokeCertificate
        | O::CreateAccessKey
        | O::UpdateAccessKey
        | O::DeleteAccessKey
        | O::CompleteConnection
        | O::PutConnectionCredential
        | O::CreateWebhook
        | O::DeleteWebhook
        | O::PutDrain
        | O::DeleteDrain
        | O::TestDrain => Access::Administer,
        O::PutWebhookTarget | O::DeleteWebhookTarget | O::TestWebhookTarget => Access::Administer,
    }
}

const fn of_sts(operation: Sts) -> Access {
    use Sts as O;
    match operation {
        O::GetCallerIdentity | O::AssumeRole | O::GetSessionToken => Access::OwnIdentity,
    }
}

const fn of_secrets(operation: Secrets) -> Access {
    use Secrets as O;
    match operation {
        O::DescribeSecret
        | O::GetRandomPassword
        | O::GetResourcePolicy
        | O::ListSecretVersionIds
        | O::ListSecrets => Access::Read,
        O::GetSecretValue => Access::ReadRestricted,
        O::CreateSecret
        | O::DeleteSecret
        | O::PutSecretValue
        | O::RestoreSecret
        | O::TagResource
        | O::UntagResource
        | O::UpdateSecret
        | O::UpdateSecretVersionStage => Access::Administer,
    }
}

/// Whoever may deploy a service may push to a repository of such a name.
const fn of_ecr(operation: Ecr) -> Access {
    use Ecr as O;
    match operation {
        O::GetAuthorizationToken => Access::OwnIdentity,
        O::BatchCheckLayerAvailability
        | O::BatchGetImage
        | O::DescribeImages
        | O::DescribeRepositories
        | O::GetDownloadUrlForLayer
        | O::GetLifecyclePolicy
        | O::GetRepositoryPolicy
        | O::ListImages
        | O::ListTagsForResource => Access::Read,
        O::BatchDeleteImage
        | O::CompleteLayerUpload
        | O::CreateRepository
        | O::DeleteLifecyclePolicy
        | O::DeleteRepository
        | O::DeleteRepositoryPolicy
        | O::InitiateLayerUpload
        | O::PutImage
        | O::PutImageScanningConfiguration
        | O::PutImageTagMutability
        | O::PutLifecyclePolicy
        | O::SetRepositoryPolicy
        | O::TagResource
        | O::UntagResource
        | O::UploadLayerPart => Access::Deploy,
    }
}

const fn named_by_ecr(operation: Ecr) -> Named {
    use Ecr as O;
    match operation {
        O::DescribeRepositories | O::GetAuthorizationToken => Named::Nothing,
        O::ListTagsForResource | O::TagResource | O::UntagResource => {
            Named::Repository("resourceArn")
        }
        O::BatchCheckLayerAvailability
        | O::BatchDeleteImage
        | O::BatchGetImage
        | O::CompleteLayerUpload
        | O::CreateRepository
        | O::DeleteLifecyclePolicy
        | O::DeleteRepository
        | O::DeleteRepositoryPolicy
        | O::DescribeImages
        | O::GetDownloadUrlForLayer
        | O::GetLifecyclePolicy
        | O::GetRepositoryPolicy
        | O::InitiateLayerUpload
        | O::ListImages
        | O::PutImage
        | O::PutImageScanningConfiguration
        | O::PutImageTagMutability
        | O::PutLifecyclePolicy
        | O::SetRepositoryPolicy
        | O::UploadLayerPart => Named::Repository("repositoryName"),
    }
}

/// The name of the repository that an ARN is of, `arn:aws:ecr:REGION:ACCOUNT:repository/NAME`, or the
/// text itself.
pub(super) fn repository_named(text: &str) -> &str {
    match text.strip_prefix("arn:") {
        Some(arn) => arn.split_once(":repository/").map_or("", |(_, name)| name),
        None => text,
    }
}

/// Whoever may deploy a service may keep its log groups, and groups of such a name.
const fn of_logs(operation: Logs) -> Access {
    use Logs as O;
    match operation {
        O::DescribeLogGroups
        | O::DescribeLogStreams
        | O::DescribeQueries
        | O::DescribeSubscriptionFilters
        | O::FilterLogEvents
        | O::GetLogEvents
        | O::GetQueryResults
        | O::ListLogGroups
        | O::ListTagsForResource
        | O::ListTagsLogGroup
        | O::StartLiveTail
        // A query is a look that takes a while.
        | O::StartQuery
        | O::StopQuery
        | O::TestMetricFilter => Access::Read,
        O::CreateLogGroup
        | O::CreateLogStream
        | O::DeleteLogGroup
        | O::DeleteLogStream
        | O::DeleteRetentionPolicy
        | O::PutLogEvents
        | O::PutRetentionPolicy
        | O::TagLogGroup
        | O::TagResource
        | O::UntagLogGroup
        | O::UntagResource => Access::Deploy,
        // Their inputs name a group by one of two members.
        O::AssociateKmsKey | O::DisassociateKmsKey => Access::Administer,
    }
}

const fn named_by_logs(operation: Logs) -> Named {
    use Logs as O;
    match operation {
        O::AssociateKmsKey
        | O::CreateLogGroup
        | O::CreateLogStream
        | O::DeleteLogGroup
        | O::DeleteLogStream
        | O::DeleteRetentionPolicy
        | O::DescribeLogStreams
        | O::DescribeQueries
        | O::DescribeSubscriptionFilters
        | O::DisassociateKmsKey
        | O::FilterLogEvents
        | O::GetLogEvents
        | O::ListTagsLogGroup
        | O::PutLogEvents
        | O::PutRetentionPolicy
        | O::StartQuery
        | O::TagLogGroup
        | O::UntagLogGroup => Named::LogGroup("logGroupName"),
        O::ListTagsForResource | O::TagResource | O::UntagResource => {
            Named::LogGroup("resourceArn")
        }
        O::DescribeLogGroups
        | O::GetQueryResults
        | O::ListLogGroups
        | O::StartLiveTail
        | O::StopQuery
        | O::TestMetricFilter => Named::Nothing,
    }
}

/// The name of the log group that an ARN is of, `arn:aws:logs:REGION:ACCOUNT:log-group:NAME` with or
/// without `:*` behind it, or the text itself.
pub(super) fn log_group_named(text: &str) -> &str {
    match text.strip_prefix("arn:") {
        Some(arn) => arn
            .split_once(":log-group:")
            .map_or("", |(_, name)| name.strip_suffix(":*").unwrap_or(name)),
        None => text,
    }
}

/// The service that a log group is of: of `/aws/apprunner/NAME/ID/application` it is `NAME`, of any
/// other group one that is called like the group.
fn service_of_log_group(name: &str) -> &str {
    name.strip_prefix("/aws/apprunner/")
        .and_then(|rest| rest.split_once('/'))
        .map_or(name, |(service, _)| service)
}

/// Whoever may deploy a service may put metrics in a name space of such a name.
const fn of_cloudwatch(operation: CloudWatch) -> Access {
    use CloudWatch as O;
    match operation {
        O::DescribeAlarms
        | O::DescribeAlarmsForMetric
        | O::GetMetricData
        | O::GetMetricStatistics
        | O::ListMetrics
        | O::ListTagsForResource => Access::Read,
        O::PutMetricData => Access::Deploy,
        O::DeleteAlarms
        | O::DisableAlarmActions
        | O::EnableAlarmActions
        | O::PutMetricAlarm
        | O::SetAlarmState
        | O::TagResource
        | O::UntagResource => Access::Administer,
    }
}

const fn named_by_cloudwatch(operation: CloudWatch) -> Named {
    use CloudWatch as O;
    match operation {
        O::PutMetricData => Named::Namespace("Namespace"),
        O::PutMetricAlarm | O::SetAlarmState => Named::By("AlarmName"),
        O::ListTagsForResource | O::TagResource | O::UntagResource => Named::By("ResourceARN"),
        O::DeleteAlarms
        | O::DescribeAlarms
        | O::DescribeAlarmsForMetric
        | O::DisableAlarmActions
        | O::EnableAlarmActions
        | O::GetMetricData
        | O::GetMetricStatistics
        | O::ListMetrics => Named::Nothing,
    }
}

/// A rule hears of every service, and an event may set off any rule.
const fn of_events(operation: Events) -> Access {
    use Events as O;
    match operation {
        O::DescribeEventBus
        | O::DescribeRule
        | O::ListEventBuses
        | O::ListRuleNamesByTarget
        | O::ListRules
        | O::ListTagsForResource
        | O::ListTargetsByRule
        | O::TestEventPattern => Access::Read,
        O::DeleteRule
        | O::DisableRule
        | O::EnableRule
        | O::PutEvents
        | O::PutRule
        | O::PutTargets
        | O::RemoveTargets
        | O::TagResource
        | O::UntagResource => Access::Administer,
    }
}

const fn named_by_events(operation: Events) -> Named {
    use Events as O;
    match operation {
        O::DeleteRule
        | O::DescribeEventBus
        | O::DescribeRule
        | O::DisableRule
        | O::EnableRule
        | O::PutRule => Named::By("Name"),
        O::ListTargetsByRule | O::PutTargets | O::RemoveTargets => Named::By("Rule"),
        O::ListRuleNamesByTarget => Named::By("TargetArn"),
        O::ListTagsForResource | O::TagResource | O::UntagResource => Named::By("ResourceARN"),
        O::ListEventBuses | O::ListRules | O::PutEvents | O::TestEventPattern => Named::Nothing,
    }
}

/// A parameter's value may be a secret, whatever its type says.
const fn of_parameters(operation: Parameters) -> Access {
    use Parameters as O;
    match operation {
        O::DescribeParameters | O::ListTagsForResource => Access::Read,
        O::GetParameter | O::GetParameterHistory | O::GetParameters | O::GetParametersByPath => {
            Access::ReadRestricted
        }
        O::AddTagsToResource
        | O::DeleteParameter
        | O::DeleteParameters
        | O::LabelParameterVersion
        | O::PutParameter
        | O::RemoveTagsFromResource => Access::Administer,
    }
}

const fn named_by_app_runner(operation: AppRunner) -> Named {
    use AppRunner as O;
    match operation {
        O::CreateService => Named::NewService,
        O::AssociateCustomDomain
        | O::CreateVpcIngressConnection
        | O::DeleteService
        | O::DescribeCustomDomains
        | O::DescribeService
        | O::DisassociateCustomDomain
        | O::ListOperations
        | O::PauseService
        | O::ResumeService
        | O::StartDeployment
        | O::UpdateService => Named::By("ServiceArn"),
        O::ListTagsForResource | O::TagResource | O::UntagResource => Named::By("ResourceArn"),
        O::CreateAutoScalingConfiguration => Named::By("AutoScalingConfigurationName"),
        O::DeleteAutoScalingConfiguration
        | O::DescribeAutoScalingConfiguration
        | O::ListServicesForAutoScalingConfiguration
        | O::UpdateDefaultAutoScalingConfiguration => Named::By("AutoScalingConfigurationArn"),
        O::CreateConnection => Named::By("ConnectionName"),
        O::DeleteConnection => Named::By("ConnectionArn"),
        O::CreateObservabilityConfiguration => Named::By("ObservabilityConfigurationName"),
        O::DeleteObservabilityConfiguration | O::DescribeObservabilityConfiguration => {
            Named::By("ObservabilityConfigurationArn")
        }
        O::CreateVpcConnector => Named::By("VpcConnectorName"),
        O::DeleteVpcConnector | O::DescribeVpcConnector => Named::By("VpcConnectorArn"),
        O::DeleteVpcIngressConnection
        | O::DescribeVpcIngressConnection
        | O::UpdateVpcIngressConnection => Named::By("VpcIngressConnectionArn"),
        O::ListAutoScalingConfigurations
        | O::ListConnections
        | O::ListObservabilityConfigurations
        | O::ListServices
        | O::ListVpcConnectors
        | O::ListVpcIngressConnections => Named::Nothing,
    }
}

const fn named_by_native(operation: Native) -> Named {
    use Native as O;
    match operation {
        O::CancelOperation
        | O::DescribeDomain
        | O::DescribeIngress
        | O::DescribeOperation
        | O::DescribeTraffic
        | O::DescribeScaling
        | O::CreateWebhook
        | O::DeleteWebhook
        | O::GetBuildLog
        | O::GetLogs
        | O::GetUsage
        | O::ListDomains
        | O::ListInstances
        | O::ListRevisions
        | O::MoveCustomDomain
        | O::RollbackService
        | O::UpdateIngress
        | O::UpdateScaling => Named::By("ServiceArn"),
        O::PutWebhookTarget | O::DeleteWebhookTarget | O::TestWebhookTarget => Named::By("Name"),
        O::CompleteConnection | O::PutConnectionCredential => Named::By("ConnectionArn"),
        O::DeleteAccessKey | O::UpdateAccessKey => Named::By("AccessKeyId"),
        O::RemoveCertificate | O::RenewCertificate | O::RevokeCertificate => {
            Named::By("Certificate")
        }
        O::PutDrain | O::DeleteDrain | O::TestDrain => Named::By("Name"),
        O::CreateAccessKey
        | O::DescribeCertificateAuthority
        | O::GetStatus
        | O::ImportCertificate
        | O::ListAccessKeys
        | O::ListAlerts
        | O::ListAuditEvents
        | O::ListCertificates
        | O::ListDrains
        | O::ListWebhookTargets => Named::Nothing,
    }
}

const fn named_by_sts(operation: Sts) -> Named {
    use Sts as O;
    match operation {
        O::AssumeRole => Named::By("RoleArn"),
        O::GetCallerIdentity | O::GetSessionToken => Named::Nothing,
    }
}

const fn named_by_secrets(operation: Secrets) -> Named {
    use Secrets as O;
    match operation {
        O::CreateSecret => Named::By("Name"),
        O::DeleteSecret
        | O::DescribeSecret
        | O::GetResourcePolicy
        | O::GetSecretValue
        | O::ListSecretVersionIds
        | O::PutSecretValue
        | O::RestoreSecret
        | O::TagResource
        | O::UntagResource
        | O::UpdateSecret
        | O::UpdateSecretVersionStage => Named::By("SecretId"),
        O::GetRandomPassword | O::ListSecrets => Named::Nothing,
    }
}

const fn named_by_parameters(operation: Parameters) -> Named {
    use Parameters as O;
    match operation {
        O::DeleteParameter
        | O::GetParameter
        | O::GetParameterHistory
        | O::LabelParameterVersion
        | O::PutParameter => Named::By("Name"),
        O::GetParametersByPath => Named::By("Path"),
        O::AddTagsToResource | O::ListTagsForResource | O::RemoveTagsFromResource => {
            Named::By("ResourceId")
        }
        O::DeleteParameters | O::DescribeParameters | O::GetParameters => Named::Nothing,
    }
}

impl Subject {
    /// What the input of an operation names.
    pub(super) fn of(operation: Operation, input: &Tree, region: &str, account: &str) -> Self {
        match operation.named() {
            Named::Nothing => Self::default(),
            Named::By(member) => {
                let given = input.text(member);
                let arn = given.and_then(|text| text.parse::<Arn>().ok());
                Self {
                    service: arn.and_then(|arn| match arn.resource {
                        Resource::Service(service) => Some(service.name),
                        _ => None,
                    }),
                    resource: given.map(str::to_owned),
                }
            }
            Named::Repository(member) => {
                let name = input.text(member).map(repository_named);
                let resource =
                    name.map(|name| format!("arn:aws:ecr:{region}:{account}:repository/{name}"));
                Self {
                    service: name.map(str::to_owned),
                    resource,
                }
            }
            Named::LogGroup(member) => {
                let name = input.text(member).map(log_group_named);
                let resource =
                    name.map(|name| format!("arn:aws:logs:{region}:{account}:log-group:{name}"));
                Self {
                    service: name.map(|name| service_of_log_group(name).to_owned()),
                    resource,
                }
            }
            Named::Namespace(member) => {
                let name = input.text(member).map(str::to_owned);
                Self {
                    service: name.clone(),
                    resource: name,
                }
            }
            // Of whatever id it will have.
            Named::NewService => {
                let service = input.text("ServiceName").map(str::to_owned);
                let resource = service
                    .as_ref()
                    .map(|name| format!("arn:aws:apprunner:{region}:{account}:service/{name}/*"));
                Self { service, resource }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ekiden_aws::{decode, protocol::Protocol};
    use ekiden_model::access::{Decision, Role, decide};

    use super::*;

    const ACCOUNT: &str = "123456789012";

    fn subject(operation: AppRunner, input: &str) -> Subject {
        subject_of(Operation::AppRunner(operation), input)
    }

    fn subject_of(operation: Operation, input: &str) -> Subject {
        let tree = decode::parse(Protocol::AwsJson10, input.as_bytes())
            .ok()
            .unwrap();
        Subject::of(operation, &tree, "us-east-1", ACCOUNT)
    }

    fn arn(kind: &str) -> String {
        format!(
            "arn:aws:apprunner:us-east-1:{ACCOUNT}:{kind}/{}",
            "0".repeat(32)
        )
    }

    fn every() -> impl Iterator<Item = Operation> {
        let app_runner = AppRunner::ALL.iter().copied().map(Operation::AppRunner);
        let native = Native::ALL.iter().copied().map(Operation::Native);
        let sts = Sts::ALL.iter().copied().map(Operation::Sts);
        let secrets = Secrets::ALL.iter().copied().map(Operation::Secrets);
        let parameters = Parameters::ALL.iter().copied().map(Operation::Parameters);
        let ecr = Ecr::ALL.iter().copied().map(Operation::Ecr);
        let logs = Logs::ALL.iter().copied().map(Operation::Logs);
        let cloudwatch = CloudWatch::ALL.iter().copied().map(Operation::CloudWatch);
        let events = Events::ALL.iter().copied().map(Operation::Events);
        app_runner
            .chain(native)
            .chain(sts)
            .chain(secrets)
            .chain(parameters)
            .chain(ecr)
            .chain(logs)
            .chain(cloudwatch)
            .chain(events)
    }

    #[test]
    fn what_an_input_names_is_found() {
        let web = arn("service/web");
        let of_web = Subject {
            service: Some("web".to_owned()),
            resource: Some(web.clone()),
        };
        let found = subject(
            AppRunner::UpdateService,
            &format!(r#"{{"ServiceArn":"{web}"}}"#),
        );
        assert_eq!(found, of_web);
        let found = subject(
            AppRunner::TagResource,
            &format!(r#"{{"ResourceArn":"{web}"}}"#),
        );
        assert_eq!(found, of_web);
        let connection = arn("connection/web");
        let found = subject(
            AppRunner::TagResource,
            &format!(r#"{{"ResourceArn":"{connection}"}}"#),
        );
        assert_eq!((found.service, found.resource), (None, Some(connection)));
        let found = subject(AppRunner::CreateService, r#"{"ServiceName":"web"}"#);
        assert_eq!(found.service.as_deref(), Some("web"));
        assert_eq!(
            found.resource.as_deref(),
            Some("arn:aws:apprunner:us-east-1:123456789012:service/web/*")
        );
        let garbage = subject(AppRunner::UpdateService, r#"{"ServiceArn":"web"}"#);
        assert_eq!(garbage.service, None);
        assert_eq!(
            subject(AppRunner::UpdateService, r#"{"ServiceArn":7}"#),
            Subject::default()
        );
    }

    /// A deployer of `web` names it wherever the operation does not look.
    #[test]
    fn only_the_member_that_the_handler_goes_by_counts() {
        let web = arn("service/web");
        let members = [
            ("ServiceArn", web.as_str()),
            ("ResourceArn", web.as_str()),
            ("ServiceName", "web"),
            ("repositoryName", "web"),
            (
                "resourceArn",
                "arn:aws:ecr:us-east-1:123456789012:repository/web",
            ),
            ("logGroupName", "/aws/apprunner/web/0/application"),
            ("Namespace", "web"),
        ];
        for operation in every().filter(|operation| operation.access() == Access::Deploy) {
            let own = match operation.named() {
                Named::By(member)
                | Named::Repository(member)
                | Named::LogGroup(member)
                | Named::Namespace(member) => member,
                Named::NewService => "ServiceName",
                Named::Nothing => panic!("{}", operation.name()),
            };
            let others: Vec<String> = members
                .iter()
                .filter(|(member, _)| *member != own)
                .map(|(member, value)| format!(r#""{member}":"{value}""#))
                .collect();
            let other_service = match own {
                "ServiceName" | "repositoryName" | "Namespace" => "other".to_owned(),
                "logGroupName" => "/aws/apprunner/other/0/application".to_owned(),
                "resourceArn" if matches!(operation, Operation::Logs(_)) => {
                    format!("arn:aws:logs:us-east-1:{ACCOUNT}:log-group:other:*")
                }
                "resourceArn" => {
                    format!("arn:aws:ecr:us-east-1:{ACCOUNT}:repository/other")
                }
                _ => arn("service/other"),
            };
            let input = format!(r#"{{"{own}":"{other_service}",{}}}"#, others.join(","));
            let found = subject_of(operation, &input);
            assert_eq!(
                found.service.as_deref(),
                Some("other"),
                "{}",
                operation.name()
            );
        }
    }

    /// Every role, every operation: what a viewer may, a deployer may; what is not a look at
    /// something open is not a viewer's; only on its services does a deployer change anything.
    #[test]
    fn roles_may_do_what_is_theirs() {
        let deployer = Role::Deployer {
            services: vec!["web-*".parse().unwrap()],
        };
        for operation in every() {
            let name = operation.name();
            let may = |role: &Role, service: Option<&str>| {
                decide(role, operation.access(), service) == Decision::Allow
            };
            for service in [None, Some("web-a"), Some("other")] {
                assert!(may(&Role::Admin, service), "{name}");
                let restricted = matches!(
                    operation,
                    Operation::Native(
                        Native::ListAccessKeys
                            | Native::ListAuditEvents
                            | Native::ListDrains
                            | Native::TestDrain
                            | Native::TestWebhookTarget
                    ) | Operation::Secrets(Secrets::GetSecretValue)
                        | Operation::Parameters(
                            Parameters::GetParameter
                                | Parameters::GetParameterHistory
                                | Parameters::GetParameters
                                | Parameters::GetParametersByPath
                        )
                );
                let looks = [
                    "Describe",
                    "List",
                    "Get",
                    "BatchGet",
                    "BatchCheck",
                    "Filter",
                    "Test",
                    "StartLiveTail",
                    "StartQuery",
                    "StopQuery",
                ]
                .iter()
                .any(|verb| name.starts_with(verb));
                let own = matches!(operation, Operation::Sts(_));
                assert_eq!(
                    may(&Role::Viewer, service),
                    own || looks && !restricted,
                    "{name}"
                );
            }
            let deploys = may(&deployer, Some("web-a")) && !may(&Role::Viewer, None);
            assert_eq!(deploys, operation.access() == Access::Deploy, "{name}");
            for service in [None, Some("other")] {
                assert_eq!(
                    may(&deployer, service),
                    may(&Role::Viewer, service),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn operations_that_a_deployer_has_are_these() {
        let deploys: Vec<&str> = every()
            .filter(|operation| operation.access() == Access::Deploy)
            .map(Operation::name)
            .collect();
        let wanted = [
            "AssociateCustomDomain",
            "CreateService",
            "DeleteService",
            "DisassociateCustomDomain",
            "PauseService",
            "ResumeService",
            "StartDeployment",
            "TagResource",
            "UntagResource",
            "UpdateService",
            "CancelOperation",
            "RollbackService",
            "UpdateIngress",
            "UpdateScaling",
            "BatchDeleteImage",
            "CompleteLayerUpload",
            "CreateRepository",
            "DeleteLifecyclePolicy",
            "DeleteRepository",
            "DeleteRepositoryPolicy",
            "InitiateLayerUpload",
            "PutImage",
            "PutImageScanningConfiguration",
            "PutImageTagMutability",
            "PutLifecyclePolicy",
            "SetRepositoryPolicy",
            "TagResource",
            "UntagResource",
            "UploadLayerPart",
            "CreateLogGroup",
            "CreateLogStream",
            "DeleteLogGroup",
            "DeleteLogStream",
            "DeleteRetentionPolicy",
            "PutLogEvents",
            "PutRetentionPolicy",
            "TagLogGroup",
            "TagResource",
            "UntagLogGroup",
            "UntagResource",
            "PutMetricData",
        ];
        assert_eq!(deploys, wanted);
    }

    #[test]
    fn a_log_group_is_of_the_service_that_it_names() {
        for (given, group, service) in [
            (
                "/aws/apprunner/web/0/service",
                "/aws/apprunner/web/0/service",
                "web",
            ),
            ("web-a", "web-a", "web-a"),
            (
                "/aws/apprunner/web",
                "/aws/apprunner/web",
                "/aws/apprunner/web",
            ),
            ("/ecs/web/0", "/ecs/web/0", "/ecs/web/0"),
            ("arn:aws:logs:r:1:log-group:web-a", "web-a", "web-a"),
            (
                "arn:aws:logs:r:1:log-group:/aws/apprunner/web/0/s:*",
                "/aws/apprunner/web/0/s",
                "web",
            ),
            ("arn:aws:ecr:r:1:repository/web", "", ""),
        ] {
            assert_eq!(log_group_named(given), group);
            assert_eq!(service_of_log_group(group), service);
            let input = format!(r#"{{"resourceArn":"{given}"}}"#);
            let found = subject_of(Operation::Logs(Logs::TagResource), &input);
            assert_eq!(found.service.as_deref(), Some(service));
            let resource = format!("arn:aws:logs:us-east-1:{ACCOUNT}:log-group:{group}");
            assert_eq!(found.resource, Some(resource));
        }
    }
}
