//! Every operation there is, what permission each asks for, and what it is done to.

use ekiden_aws::{
    apprunner::shapes::Operation as AppRunner,
    arn::{Arn, Resource},
    decode::Tree,
    native::NativeOperation as Native,
    protocol::{Route, Service},
    secretsmanager::shapes::Operation as Secrets,
    ssm::shapes::Operation as Parameters,
    sts::Operation as Sts,
};
use ekiden_model::access::Access;

/// The members of inputs that name what an operation is done to, the first that is there counting.
const RESOURCE_MEMBERS: [&str; 12] = [
    "ServiceArn",
    "ResourceArn",
    "ConnectionArn",
    "AutoScalingConfigurationArn",
    "ObservabilityConfigurationArn",
    "VpcConnectorArn",
    "VpcIngressConnectionArn",
    "RoleArn",
    "AccessKeyId",
    "SecretId",
    "ResourceId",
    "Name",
];

/// An operation of any service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    AppRunner(AppRunner),
    Native(Native),
    Sts(Sts),
    Secrets(Secrets),
    Parameters(Parameters),
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
        }
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
        | O::ListDomains
        | O::ListRevisions
        | O::GetLogs
        | O::GetStatus => Access::Read,
        O::ListAccessKeys | O::ListAuditEvents => Access::ReadRestricted,
        O::CancelOperation | O::RollbackService => Access::Deploy,
        O::CreateAccessKey | O::UpdateAccessKey | O::DeleteAccessKey | O::CompleteConnection => {
            Access::Administer
        }
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

impl Subject {
    /// What an input names. `CreateService` names what there is not yet: a service of that name
    /// with whatever id.
    pub(super) fn of(input: &Tree, region: &str, account: &str) -> Self {
        let given = RESOURCE_MEMBERS
            .iter()
            .find_map(|member| input.text(member));
        if let Some(resource) = given {
            let arn = resource.parse::<Arn>().ok();
            return Self {
                service: arn.and_then(|arn| match arn.resource {
                    Resource::Service(service) => Some(service.name),
                    _ => None,
                }),
                resource: Some(resource.to_owned()),
            };
        }
        let service = input.text("ServiceName").map(str::to_owned);
        let resource = service
            .as_ref()
            .map(|name| format!("arn:aws:apprunner:{region}:{account}:service/{name}/*"));
        Self { service, resource }
    }
}

#[cfg(test)]
mod tests {
    use ekiden_aws::{decode, protocol::Protocol};
    use ekiden_model::access::{Decision, Role, decide};

    use super::*;

    const ACCOUNT: &str = "123456789012";

    fn subject(input: &str) -> Subject {
        let tree = decode::parse(Protocol::AwsJson10, input.as_bytes())
            .ok()
            .unwrap();
        Subject::of(&tree, "us-east-1", ACCOUNT)
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
        app_runner
            .chain(native)
            .chain(sts)
            .chain(secrets)
            .chain(parameters)
    }

    #[test]
    fn what_an_input_names_is_found() {
        let web = arn("service/web");
        let of_web = Subject {
            service: Some("web".to_owned()),
            resource: Some(web.clone()),
        };
        assert_eq!(subject(&format!(r#"{{"ServiceArn":"{web}"}}"#)), of_web);
        assert_eq!(subject(&format!(r#"{{"ResourceArn":"{web}"}}"#)), of_web);
        // The name in an input never counts beside an ARN.
        let both = format!(r#"{{"ServiceArn":"{web}","ServiceName":"other"}}"#);
        assert_eq!(subject(&both), of_web);
        let connection = arn("connection/web");
        let found = subject(&format!(r#"{{"ResourceArn":"{connection}"}}"#));
        assert_eq!((found.service, found.resource), (None, Some(connection)));
        let found = subject(r#"{"ServiceName":"web"}"#);
        assert_eq!(found.service.as_deref(), Some("web"));
        assert_eq!(
            found.resource.as_deref(),
            Some("arn:aws:apprunner:us-east-1:123456789012:service/web/*")
        );
        let garbage = subject(r#"{"ServiceArn":"web","ServiceName":"web"}"#);
        assert_eq!(garbage.service, None);
        assert_eq!(subject(r#"{"ServiceArn":7}"#), Subject::default());
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
                    Operation::Native(Native::ListAccessKeys | Native::ListAuditEvents)
                        | Operation::Secrets(Secrets::GetSecretValue)
                        | Operation::Parameters(
                            Parameters::GetParameter
                                | Parameters::GetParameterHistory
                                | Parameters::GetParameters
                                | Parameters::GetParametersByPath
                        )
                );
                let looks = ["Describe", "List", "Get"]
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
        ];
        assert_eq!(deploys, wanted);
    }
}
